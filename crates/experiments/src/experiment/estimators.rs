//! Error and coverage of trace estimators against their products.

use flatmin_linalg::TraceMethod;

use crate::prelude::*;

pub(super) static EXPERIMENT: Experiment = Experiment {
    id: "estimators",
    title: "Trace estimators: errors, and errors of the errors",
    shows: "Networks too large for exact measures are measured by products with random vectors. \
            Where eigenvalues decay, XTrace and XNysTrace gain much over Hutchinson's mean of \
            quadratic forms; on a flat spectrum nothing does. An estimate is worth what its standard \
            error is worth: the 95 % intervals hold the trace about 95 times in a hundred.",
    how: |settings| {
        format!(
            "Operators of dimension about {}, formed once so that their trace is known: eigenvalues \
             from 1 to 2 (flat), 1/k (power law), and flat with one a thousand times as large \
             (outlier), each in a random basis; the Gauss–Newton matrix of a two-layer ReLU network \
             and the Hessian of a tanh perceptron of depth 3 at random parameters. {} independent \
             estimates for each operator, estimator and budget of products.",
            dim(settings.profile),
            replicas(settings.profile),
        )
    },
    cells,
    present,
    claims: &[
        ClaimRule::new(
            16,
            "The standard errors of the trace estimators can be believed: their 95 % intervals \
             cover the trace about 95 % of the time.",
            "Girard 1989; Meyer et al. 2021; Epperly, Tropp and Webber 2024",
            coverage,
        ),
        ClaimRule::new(
            17,
            "Where the spectrum decays, estimators that deflate it need far fewer products.",
            "Epperly, Tropp and Webber 2024",
            accuracy,
        ),
    ],
};

/// Products of an estimate.
const BUDGETS: [usize; 4] = [10, 20, 40, 80];
/// Fewest products for which coverage is judged.
const FEWEST_PRODUCTS: usize = 20;
/// Fewest estimates that tell 95 % from 93 % and 97 %: the standard error of the share is 0.6 %.
const FEWEST_ESTIMATES: usize = 1500;
/// The range for the coverage of 95 % intervals over all operators.
const COVERAGE: [f64; 2] = [0.93, 0.97];
/// The range for a single operator. The standard error is 1.1 % with 400 estimates; if every
/// interval covers exactly 95 %, one of the 57 shares lies outside once in 1100 reproductions. It
/// would be once in 60 with a lower end of .91, which a share of .9125 came near (from seed 4000).
const SINGLE_COVERAGE: [f64; 2] = [0.90, 0.99];
/// The numbers of products between which the error must fall by [`FACTOR`]. That of independent
/// vectors falls by 2.
const PRODUCTS: [usize; 2] = [20, 80];
const FACTOR: f64 = 3.0;

fn dim(profile: Profile) -> usize {
    if profile == Profile::Smoke { 100 } else { 300 }
}

fn replicas(profile: Profile) -> usize {
    match profile {
        Profile::Smoke => 20,
        Profile::Quick => 100,
        Profile::Paper => 400,
        Profile::Full => 2000,
    }
}

fn cells(settings: &Settings) -> Vec<CellSpec> {
    let (dim, replicas) = (dim(settings.profile), replicas(settings.profile));
    let seed = settings.seed;
    let mut cells = Vec::new();
    for spectrum in Spectrum::ALL {
        for estimator in ESTIMATORS {
            if estimator == TraceMethod::XNysTrace && !spectrum.is_positive() {
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

impl TraceTrial<'_> {
    /// The share of intervals that hold the trace.
    fn coverage(&self) -> f64 {
        self.result.covered as f64 / self.result.replicas as f64
    }
}

fn present(cells: &FinishedCells<'_>) -> Presentation {
    let trials = &cells.traces;
    let series = |spectrum: Spectrum, value: fn(&TraceTrial<'_>) -> f64| -> Vec<Series> {
        let of = |(position, estimator): (usize, TraceMethod)| {
            let chosen = trials.iter().filter(|trial| {
                (trial.spec.spectrum, trial.spec.estimator) == (spectrum, estimator)
            });
            let points = chosen.map(|trial| (trial.spec.products as f64, value(trial)));
            Series::new(estimator_name(estimator), Style(position), Mark::LineAndPoints, points)
        };
        let all = ESTIMATORS.into_iter().enumerate().map(of);
        all.filter(|series| !series.points.is_empty()).collect()
    };
    let panels = Spectrum::ALL.into_iter().flat_map(|spectrum| {
        let panel = |what: &str, y, value, references| {
            let title = format!("{}: {what}", spectrum.name());
            Panel::new(title, Axis::log("products"), y, series(spectrum, value), references)
        };
        let coverage_axis = Axis::linear("coverage of 95 % intervals (%)").with_range(85.0, 100.0);
        let nominal = vec![Reference::horizontal("nominal", 95.0)];
        [
            panel(
                "error",
                Axis::log("median relative error"),
                |trial| trial.result.median_error,
                Vec::new(),
            ),
            panel("coverage", coverage_axis, |trial| 100.0 * trial.coverage(), nominal),
        ]
    });
    let title = "Trace estimators: error, and how often the 95 % interval holds the trace";
    let subtitle = "Each point: many independent estimates.";
    Presentation {
        table: table(trials),
        figure: Figure::new(title, subtitle, 2, panels.collect()),
        summary: summary(trials),
    }
}

fn table(trials: &[TraceTrial<'_>]) -> Table {
    table!(trials, |trial| {
        "spectrum", "word", "the operator" => trial.spec.spectrum.name();
        "dim", "1", "its dimension" => trial.result.dim;
        "estimator", "word", "the estimator" => estimator_name(trial.spec.estimator);
        "products", "products", "operator products of an estimate" => trial.spec.products;
        "replicas", "estimates", "independent estimates" => trial.result.replicas;
        "median_error", "1", "median |estimate − tr|/|tr|" => trial.result.median_error;
        "median_standard_error", "1", "median standard error over |tr|"
            => trial.result.median_standard_error;
        "coverage", "1", "share of 95 % intervals that hold the trace" => trial.coverage();
    })
}

/// The share of intervals that hold the trace, over several trials.
fn pooled_coverage(trials: &[TraceTrial<'_>]) -> f64 {
    let covered: usize = trials.iter().map(|trial| trial.result.covered).sum();
    covered as f64 / replica_count(trials) as f64
}

/// The number of estimates of several trials.
fn replica_count(trials: &[TraceTrial<'_>]) -> usize {
    trials.iter().map(|trial| trial.result.replicas).sum()
}

/// The trials of each estimator and budget, over all operators.
fn pooled<'r>(trials: &[TraceTrial<'r>]) -> Vec<(TraceMethod, usize, Vec<TraceTrial<'r>>)> {
    let all = ESTIMATORS.into_iter().flat_map(|e| BUDGETS.map(|products| (e, products)));
    let of = |(e, p)| (e, p, only(trials, |t| (t.spec.estimator, t.spec.products) == (e, p)));
    all.map(of).collect()
}

fn summary(trials: &[TraceTrial<'_>]) -> Table {
    table!(&pooled(trials), |(estimator, products, trials)| {
        "estimator", "word", "the estimator" => estimator_name(*estimator);
        "products", "products", "operator products of an estimate" => *products;
        "estimates", "estimates", "over all operators" => replica_count(trials);
        "coverage", "1", "share of 95 % intervals that hold the trace" => pooled_coverage(trials);
    })
}

fn coverage(cells: &FinishedCells<'_>) -> Judgement {
    let pooled = pooled(&cells.traces);
    let mut judgement = Judgement::new(
        format!(
            "for each estimator and budget of at least {FEWEST_PRODUCTS} products, over all \
             operators together, between {} and {} % of the 95 % intervals hold the trace, and on \
             every single operator between {} and {} %",
            100.0 * COVERAGE[0],
            100.0 * COVERAGE[1],
            100.0 * SINGLE_COVERAGE[0],
            100.0 * SINGLE_COVERAGE[1],
        ),
        pooled.iter().map(|(.., trials)| replica_count(trials)).sum(),
    );
    for estimator in ESTIMATORS {
        let is_judged = |of: TraceMethod, products| of == estimator && products >= FEWEST_PRODUCTS;
        let chosen: Vec<_> =
            pooled.iter().filter(|(of, products, _)| is_judged(*of, *products)).collect();
        let enough = chosen.iter().all(|(.., trials)| replica_count(trials) >= FEWEST_ESTIMATES);
        judgement.need(enough, "Too few estimates to judge it.");
        let shares: Vec<f64> = chosen.iter().map(|(.., trials)| pooled_coverage(trials)).collect();
        judgement.all_near("coverage, all operators", &shares, 0.95, COVERAGE);
        judgement.measure(format!("{}: coverage, by budget", estimator_name(estimator)), &shares);
        let single: Vec<f64> = cells
            .traces
            .iter()
            .filter(|trial| is_judged(trial.spec.estimator, trial.spec.products))
            .map(TraceTrial::coverage)
            .collect();
        judgement.all_near("coverage, one operator", &single, 0.95, SINGLE_COVERAGE);
        let label = format!("{}: coverage, by budget and operator", estimator_name(estimator));
        judgement.measure(label, &single);
    }
    judgement
}

/// The median relative error of an estimator on a spectrum with a budget.
fn median_error(trials: &[TraceTrial<'_>], wanted: (Spectrum, TraceMethod, usize)) -> f64 {
    let found = trials.iter().find(|trial| {
        let EstimatorSpec { spectrum, estimator, products, .. } = trial.spec;
        (spectrum, estimator, products) == wanted
    });
    found.map_or(f64::NAN, |trial| trial.result.median_error)
}

fn accuracy(cells: &FinishedCells<'_>) -> Judgement {
    let [few, many] = PRODUCTS;
    let mut judgement = Judgement::new(
        format!(
            "eigenvalues 1/k, and the Gauss–Newton matrix of a ReLU network: the median errors of \
             XTrace and XNysTrace fall by a factor of at least {FACTOR} from {few} to {many} \
             products, where a mean of independent forms falls by 2"
        ),
        cells.traces.iter().map(|trial| trial.spec.replicas).sum(),
    );
    for spectrum in [Spectrum::PowerLaw, Spectrum::ReluNetwork] {
        let error = |of, products| median_error(&cells.traces, (spectrum, of, products));
        for estimator in ESTIMATORS {
            let gain = error(estimator, few) / error(estimator, many);
            if matches!(estimator, TraceMethod::XTrace | TraceMethod::XNysTrace) {
                // Written so that a NaN fails.
                judgement.at_least("fall of the error", gain, FACTOR);
            }
            let name = format!("{}, {}", spectrum.name(), estimator_name(estimator));
            let label = format!("{name}: error with {few} over that with {many} products");
            judgement.measure(label, &[gain]);
            let ratio = error(TraceMethod::Hutchinson, many) / error(estimator, many);
            let label = format!("{name}: times more accurate than Hutchinson, {many} products");
            judgement.measure(label, &[ratio]);
        }
    }
    judgement
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
