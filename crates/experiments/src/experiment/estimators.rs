//! Trace estimators: error and coverage against products.

use flatmin_figures::{Axis, Figure, Mark, Panel, Reference, ReferenceKind, Series, Style};

use super::select::missing;
use super::{MissingCell, Presentation};
use crate::cell::{
    CellResult, CellSpec, Estimator, EstimatorResult, EstimatorSpec, Results, Spectrum,
};
use crate::table::{Table, Value, column};
use crate::{Profile, Settings};

/// What the figure shows, for a reader of the report.
pub(super) const SHOWS: &str = "Networks too large for exact measures are measured by products with random vectors. Where \
     eigenvalues decay, XTrace and XNysTrace gain much over Hutchinson's mean of quadratic forms; on \
     a flat spectrum nothing does. An estimate is worth what its standard error is worth: the 95 % \
     intervals hold the trace about 95 times in a hundred.";

/// Products of an estimate.
const BUDGETS: [usize; 4] = [10, 20, 40, 80];

fn dim(profile: Profile) -> usize {
    if profile == Profile::Smoke { 100 } else { 300 }
}

pub(super) fn cells(settings: &Settings) -> Vec<CellSpec> {
    let replicas = match settings.profile {
        Profile::Smoke => 20,
        Profile::Quick => 100,
        Profile::Paper => 400,
        Profile::Full => 2000,
    };
    let (dim, seed) = (dim(settings.profile), settings.seed);
    let mut cells = Vec::new();
    for spectrum in Spectrum::ALL {
        for estimator in Estimator::ALL {
            if estimator == Estimator::XNysTrace && !spectrum.is_positive() {
                continue;
            }
            cells.extend(BUDGETS.map(|products| {
                let spec = EstimatorSpec { spectrum, dim, estimator, products, replicas, seed };
                CellSpec::Estimator(spec)
            }));
        }
    }
    cells
}

pub(super) fn how(settings: &Settings) -> String {
    let replicas = cells(settings).iter().find_map(|cell| match cell {
        CellSpec::Estimator(spec) => Some(spec.replicas),
        _ => None,
    });
    format!(
        "Operators of dimension about {}, formed once so that their trace is known: eigenvalues from 1 to 2 \
         (flat), 1/k (power law), and flat with one a thousand times as large (outlier), each in a random \
         basis; the Gauss–Newton matrix of a two-layer ReLU network and the Hessian of a tanh perceptron of \
         depth 3 at random parameters. {} independent estimates for each operator, estimator and budget of \
         products.",
        dim(settings.profile),
        replicas.unwrap_or_default(),
    )
}

/// The results of many estimates with their specification.
pub(super) type Tried<'r> = (EstimatorSpec, &'r EstimatorResult);

/// All results in the order of the cells.
pub(super) fn tried<'r>(
    settings: &Settings,
    results: &'r Results,
) -> Result<Vec<Tried<'r>>, MissingCell> {
    let mut found = Vec::new();
    for cell in cells(settings) {
        match (&cell, results.get(&cell.key())) {
            (CellSpec::Estimator(spec), Some(CellResult::Estimator(result))) => {
                found.push((*spec, result));
            }
            _ => return Err(missing(&cell)),
        }
    }
    Ok(found)
}

/// The share of intervals that hold the trace.
pub(super) fn share(result: &EstimatorResult) -> f64 {
    result.covered as f64 / result.replicas as f64
}

pub(super) fn present(settings: &Settings, results: &Results) -> Result<Presentation, MissingCell> {
    let tried = tried(settings, results)?;
    let series = |spectrum: Spectrum, value: fn(&EstimatorResult) -> f64| -> Vec<Series> {
        let of = |(position, estimator): (usize, Estimator)| Series {
            label: estimator.name().to_owned(),
            style: Style(position),
            mark: Mark::LineAndPoints,
            points: tried
                .iter()
                .filter(|(spec, _)| spec.spectrum == spectrum && spec.estimator == estimator)
                .map(|(spec, result)| (spec.products as f64, value(result)))
                .collect(),
        };
        let all = Estimator::ALL.into_iter().enumerate().map(of);
        all.filter(|series| !series.points.is_empty()).collect()
    };
    let mut panels = Vec::new();
    for spectrum in Spectrum::ALL {
        let panel = |what: &str, y, series, references| Panel {
            title: format!("{}: {what}", spectrum.name()),
            x: Axis::log("products"),
            y,
            series,
            references,
        };
        let nominal =
            Reference { label: "nominal".to_owned(), kind: ReferenceKind::Horizontal(95.0) };
        panels.push(panel(
            "error",
            Axis::log("median relative error"),
            series(spectrum, |result| result.median_error),
            Vec::new(),
        ));
        panels.push(panel(
            "coverage",
            Axis::linear("coverage of 95 % intervals (%)").with_range(85.0, 100.0),
            series(spectrum, |result| 100.0 * share(result)),
            vec![nominal],
        ));
    }
    Ok(Presentation {
        table: table(&tried),
        figure: Figure {
            title: "Trace estimators: error, and how often the 95 % interval holds the trace"
                .to_owned(),
            subtitle: "Each point: many independent estimates.".to_owned(),
            columns: 2,
            panels,
        },
        summary: summary(&tried),
    })
}

fn table(tried: &[Tried<'_>]) -> Table {
    let columns = vec![
        column("spectrum", "word", "the operator"),
        column("dim", "1", "its dimension"),
        column("estimator", "word", "the estimator"),
        column("products", "products", "operator products of an estimate"),
        column("replicas", "estimates", "independent estimates"),
        column("median_error", "1", "median |estimate − tr|/|tr|"),
        column("median_standard_error", "1", "median standard error over |tr|"),
        column("coverage", "1", "share of 95 % intervals that hold the trace"),
    ];
    let row = |(spec, result): &Tried<'_>| {
        vec![
            spec.spectrum.name().into(),
            Value::Integer(result.dim as u64),
            spec.estimator.name().into(),
            Value::Integer(spec.products as u64),
            Value::Integer(result.replicas as u64),
            Value::Number(result.median_error),
            Value::Number(result.median_standard_error),
            Value::Number(share(result)),
        ]
    };
    Table { columns, rows: tried.iter().map(row).collect() }
}

/// All spectra together.
pub(super) struct Pooled {
    pub(super) estimator: Estimator,
    pub(super) products: usize,
    pub(super) replicas: usize,
    pub(super) coverage: f64,
}

/// The coverage of each estimator and budget over all spectra.
pub(super) fn pooled(tried: &[Tried<'_>]) -> Vec<Pooled> {
    let mut pooled = Vec::new();
    for estimator in Estimator::ALL {
        for products in BUDGETS {
            let chosen =
                tried.iter().filter(|(s, _)| s.estimator == estimator && s.products == products);
            let (mut covered, mut replicas) = (0, 0);
            for (_, result) in chosen {
                covered += result.covered;
                replicas += result.replicas;
            }
            let coverage = covered as f64 / replicas as f64;
            pooled.push(Pooled { estimator, products, replicas, coverage });
        }
    }
    pooled
}

fn summary(tried: &[Tried<'_>]) -> Table {
    let columns = vec![
        column("estimator", "word", "the estimator"),
        column("products", "products", "operator products of an estimate"),
        column("estimates", "estimates", "over all operators"),
        column("coverage", "1", "share of 95 % intervals that hold the trace"),
    ];
    let row = |pooled: Pooled| {
        vec![
            pooled.estimator.name().into(),
            Value::Integer(pooled.products as u64),
            Value::Integer(pooled.replicas as u64),
            Value::Number(pooled.coverage),
        ]
    };
    Table { columns, rows: pooled(tried).into_iter().map(row).collect() }
}

/// The median relative error of an estimator on a spectrum with a budget.
pub(super) fn median_error(
    tried: &[Tried<'_>],
    spectrum: Spectrum,
    estimator: Estimator,
    products: usize,
) -> f64 {
    let found = tried.iter().find(|(spec, _)| {
        (spec.spectrum, spec.estimator, spec.products) == (spectrum, estimator, products)
    });
    found.map_or(f64::NAN, |(_, result)| result.median_error)
}

#[cfg(test)]
mod tests {
    use super::{BUDGETS, cells};
    use crate::{Profile, Settings};

    #[test]
    fn every_estimator_meets_every_operator_it_is_for() {
        let count = cells(&Settings::new(Profile::Paper)).len();
        assert_eq!(count, BUDGETS.len() * (5 * 4 - 1));
    }

    #[test]
    fn budgets_are_below_every_dimension() {
        assert!(BUDGETS.iter().all(|products| *products < super::dim(Profile::Smoke)));
    }
}
