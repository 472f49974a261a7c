//! Tables and figure of the experiment on interpolators that gradient descent cannot exclude.

use flatmin_linalg::Sharpness;
use flatmin_optim::Method;
use flatmin_theory::{lambda_max_bound, trace_bound};

use super::grid;
use super::relu::{GD_STYLE, SGD_STYLE};
use super::select::{group_by, interpolators, trained};
use super::{MissingCell, Presentation};
use crate::cell::{Evidence, InterpolatorResult, MinimizedNorm, Problem, Results};
use crate::statistics::{mean_and_standard_error, median};
use crate::table::{Column, Table, Value};
use crate::{Experiment, Settings};
use flatmin_figures::{Axis, Figure, Mark, Panel, Reference, ReferenceKind, Series, Style};

/// Smaller errors are drawn at this one: basis pursuit's are rounding, at 1e-50 or at 0.
const SMALLEST_DRAWN: f64 = 1e-10;

/// Where an interpolating β comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    MinimumL2,
    BasisPursuit,
    Sgd,
    GradientDescent,
}

impl Origin {
    const ALL: [Self; 4] = [Self::MinimumL2, Self::BasisPursuit, Self::Sgd, Self::GradientDescent];

    fn label(self) -> &'static str {
        match self {
            Self::MinimumL2 => "minimum ℓ2 norm",
            Self::BasisPursuit => "basis pursuit (minimum ℓ1 norm)",
            Self::Sgd => "SGD as trained",
            Self::GradientDescent => "GD as trained",
        }
    }

    fn id(self) -> &'static str {
        match self {
            Self::MinimumL2 => "minimum_l2",
            Self::BasisPursuit => "basis_pursuit",
            Self::Sgd => "SGD",
            Self::GradientDescent => "GD",
        }
    }

    fn style(self) -> Style {
        match self {
            Self::MinimumL2 => Style(2),
            Self::BasisPursuit => Style(3),
            Self::Sgd => SGD_STYLE,
            Self::GradientDescent => GD_STYLE,
        }
    }
}

/// One interpolating β, of one origin and design.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) origin: Origin,
    pub(super) sample_count: usize,
    pub(super) input_dim: usize,
    seed: u64,
    /// Whether training met the stopping rule; true of what was computed directly.
    at_rest: bool,
    /// `‖β − β*‖² / ‖β*‖²`.
    pub(super) error: f64,
    l1_norm: f64,
    /// Largest η at which gradient descent is stable, population matrix, in units of η₀.
    pub(super) gd_edge: f64,
    /// The same for the trace condition of SGD, B = 1.
    pub(super) sgd_edge: f64,
    /// The exact threshold η* of SGD, B = 1, empirical matrix, in the same units; where computed.
    pub(super) threshold: Option<f64>,
    /// The same at the balanced β*.
    pub(super) target_threshold: Option<f64>,
    /// What was computed directly.
    pub(super) interpolator: Option<InterpolatorResult>,
}

/// Everything found, and the target it is compared with.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) found: Vec<Found>,
    /// `‖β*‖²`.
    pub(super) target_norm_squared: f64,
    /// `‖β*‖_1 / ‖β*‖_∞`: the largest η at which gradient descent is stable at the balanced β*, in
    /// units of η₀ = 1/(s²‖β*‖_1), at which the trace condition of SGD turns.
    target_gd_edge: f64,
    /// Number of samples of the main setting, where exact thresholds are computed.
    pub(super) main_sample_count: usize,
}

pub(super) fn search(settings: &Settings, results: &Results) -> Result<Search, MissingCell> {
    let cells = Experiment::TooWeak.cells(settings);
    let interpolators = interpolators(&cells, results)?;
    let runs = trained(&cells, results)?;
    let target = |value: fn(&InterpolatorResult) -> f64| {
        interpolators.first().map_or(f64::NAN, |(_, result)| value(result))
    };
    let target_norm_squared = target(|i| i.target_norm_squared);
    let unit = target(|i| 1.0 / (i.input_variance * i.target_l1_norm));
    let edges = |population: Sharpness| {
        let gd = lambda_max_bound(population.lambda_max);
        (gd / unit, trace_bound(population.trace, 1.0) / unit)
    };
    let mut found = Vec::new();
    for (spec, result) in &interpolators {
        let (gd_edge, sgd_edge) = edges(result.population);
        found.push(Found {
            origin: match spec.minimizes {
                MinimizedNorm::L1 => Origin::BasisPursuit,
                MinimizedNorm::L2 => Origin::MinimumL2,
            },
            sample_count: spec.problem.sample_count,
            input_dim: spec.problem.input_dim,
            seed: spec.seed,
            at_rest: true,
            error: result.coefficient_error / target_norm_squared,
            l1_norm: result.l1_norm,
            gd_edge,
            sgd_edge,
            threshold: result.thresholds.and_then(|t| t.interpolator).map(|eta| eta / unit),
            target_threshold: result.thresholds.and_then(|t| t.target).map(|eta| eta / unit),
            interpolator: Some(*result),
        });
    }
    for run in &runs {
        let (Problem::Diagonal(problem), Some(last), Some(population)) =
            (run.spec.problem, run.result.last, run.result.population)
        else {
            continue;
        };
        let (gd_edge, sgd_edge) = edges(population);
        found.push(Found {
            origin: match run.spec.method {
                Method::Sgd { .. } => Origin::Sgd,
                Method::GradientDescent => Origin::GradientDescent,
            },
            sample_count: problem.sample_count,
            input_dim: problem.input_dim,
            seed: run.spec.seed,
            at_rest: run.result.converged(),
            error: last.coefficient_error.unwrap_or(f64::NAN) / target_norm_squared,
            l1_norm: last.norm,
            gd_edge,
            sgd_edge,
            threshold: run
                .result
                .study
                .as_deref()
                .and_then(|study| study.single())
                .map(|single| single.threshold() / unit)
                .filter(|threshold| threshold.is_finite()),
            target_threshold: None,
            interpolator: None,
        });
    }
    let target_gd_edge = target(|i| i.target_l1_norm / i.target_max_norm);
    let main_sample_count = grid::diagonal_sample_count(settings.profile);
    Ok(Search { found, target_norm_squared, target_gd_edge, main_sample_count })
}

impl Search {
    /// What is of one origin, by number of samples.
    pub(super) fn of(&self, origin: Origin) -> Vec<(f64, Vec<Found>)> {
        let found: Vec<Found> =
            self.found.iter().filter(|found| found.origin == origin).copied().collect();
        group_by(&found, |found| found.sample_count as f64)
    }

    /// Dots for the designs, and a line of medians, against n/d.
    fn series(&self, value: impl Fn(&Found) -> f64) -> Vec<Series> {
        let mut series = Vec::new();
        for origin in Origin::ALL {
            let mut push = |mark, points: Vec<(f64, f64)>| {
                if !points.is_empty() {
                    let (label, style) = (origin.label().to_owned(), origin.style());
                    series.push(Series { label, style, mark, points });
                }
            };
            let groups = self.of(origin);
            let dots = |at_rest: bool| {
                let all = groups.iter().flat_map(|(_, group)| group);
                let chosen = all.filter(|found| found.at_rest == at_rest);
                chosen.map(|found| (found.ratio(), value(found))).collect::<Vec<_>>()
            };
            push(Mark::Points, dots(true));
            push(Mark::OpenPoints, dots(false));
            let medians = groups.iter().filter_map(|(_, group)| {
                let values: Vec<f64> = group.iter().map(&value).collect();
                Some((group.first()?.ratio(), median(&values)))
            });
            push(Mark::LineAndPoints, medians.collect());
        }
        series
    }
}

impl Found {
    fn ratio(&self) -> f64 {
        self.sample_count as f64 / self.input_dim as f64
    }
}

pub(super) fn present(settings: &Settings, results: &Results) -> Result<Presentation, MissingCell> {
    let search = search(settings, results)?;
    let ratio_axis = || Axis::log("samples over dimension n/d");
    let horizontal = |label: &str, value: f64| Reference {
        label: label.to_owned(),
        kind: ReferenceKind::Horizontal(value),
    };
    let panel = |title: &str, label: &str, series, references| Panel {
        title: title.to_owned(),
        x: ratio_axis(),
        y: Axis::log(label),
        series,
        references,
    };
    let panels = vec![
        panel(
            "Error (below 10⁻¹⁰ drawn there)",
            "‖β − β*‖² / ‖β*‖²",
            search.series(|found| found.error.max(SMALLEST_DRAWN)),
            vec![horizontal("zero function", 1.0)],
        ),
        mean_error_panel(&search),
        panel(
            "GD is stable up to",
            "2/λ_{max}(Ḡ) in units of η₀",
            search.series(|found| found.gd_edge),
            vec![horizontal("η₀", 1.0), horizontal("at β*", search.target_gd_edge)],
        ),
        panel(
            "SGD (B = 1) can be stable up to",
            "2/tr Ḡ in units of η₀",
            search.series(|found| found.sgd_edge),
            vec![horizontal("η₀", 1.0)],
        ),
        exact_panel(&search),
    ];
    Ok(Presentation {
        table: table(&search),
        figure: Figure {
            title:
                "Stability of GD admits the interpolator of minimum ℓ2 norm, that of SGD does not"
                    .to_owned(),
            subtitle: "Dots: one design each (hollow: stopping rule not met). Lines: medians over \
                       the designs. η₀ = 1/(s²‖β*‖_{1}): up to it SGD can be stable at the target β*."
                .to_owned(),
            columns: 3,
            panels,
        },
        summary: summary(&search),
    })
}

/// The mean error of the minimum-ℓ2 interpolator beside D4.
fn mean_error_panel(search: &Search) -> Panel {
    let groups = search.of(Origin::MinimumL2);
    let (label, style) = (Origin::MinimumL2.label().to_owned(), Origin::MinimumL2.style());
    let dots = groups.iter().flat_map(|(_, group)| group);
    let means = groups.iter().filter_map(|(_, group)| {
        let errors: Vec<f64> = group.iter().map(|found| found.error).collect();
        Some((group.first()?.ratio(), mean_and_standard_error(&errors).0))
    });
    Panel {
        title: "Minimum ℓ2 norm: mean error over designs".to_owned(),
        x: Axis::linear("samples over dimension n/d"),
        y: Axis::linear("‖β − β*‖² / ‖β*‖²"),
        series: vec![
            Series {
                label,
                style,
                mark: Mark::Points,
                points: dots.map(|found| (found.ratio(), found.error)).collect(),
            },
            Series {
                label: "its mean error".to_owned(),
                style: Style(6),
                mark: Mark::OpenPoints,
                points: means.collect(),
            },
        ],
        references: vec![Reference {
            label: "1 − n/d (D4)".to_owned(),
            kind: ReferenceKind::Curve(vec![(0.0, 1.0), (1.0, 0.0)]),
        }],
    }
}

/// The exact threshold of SGD beside the trace condition, by origin.
fn exact_panel(search: &Search) -> Panel {
    let (mut exact, mut condition) = (Vec::new(), Vec::new());
    for found in &search.found {
        if let Some(threshold) = found.threshold {
            let place = match found.origin {
                Origin::MinimumL2 => 1.0,
                Origin::Sgd => 2.0,
                // Basis pursuit finds β*; gradient descent's is a hundred times smaller and would
                // hide the other differences.
                Origin::BasisPursuit | Origin::GradientDescent => continue,
            };
            exact.push((place - 0.12, threshold));
            condition.push((place + 0.12, found.sgd_edge));
        }
        if let Some(threshold) = found.target_threshold {
            exact.push((-0.12, threshold));
            // η₀ is defined by it.
            condition.push((0.12, 1.0));
        }
    }
    let series = |label: &str, style, points| Series {
        label: label.to_owned(),
        style,
        mark: Mark::OpenPoints,
        points,
    };
    Panel {
        title: format!("SGD (B = 1) is stable up to η* (n = {})", search.main_sample_count),
        x: Axis::categories("minimum", &["β*", "minimum ℓ2", "SGD as trained"]),
        y: Axis::log("learning rate in units of η₀"),
        series: vec![
            series("exact η* of the design", Style(4), exact),
            series("2/tr Ḡ", Style(5), condition),
        ],
        references: vec![Reference {
            label: "η₀".to_owned(),
            kind: ReferenceKind::Horizontal(1.0),
        }],
    }
}

fn table(search: &Search) -> Table {
    let columns = [
        ("origin", "word", "minimum_l2, basis_pursuit, SGD or GD"),
        ("sample_count", "samples", "number n of training samples"),
        ("input_dim", "coordinates", "input dimension d"),
        ("seed", "seed", "seed of the data, the start and the batches"),
        ("at_rest", "word", "whether training met the stopping rule; yes for the interpolators"),
        ("relative_error", "1", "‖β − β*‖² / ‖β*‖²"),
        ("l1_norm", "norm", "‖β‖_1"),
        ("max_norm", "norm", "‖β‖_∞ (interpolators)"),
        ("gd_edge", "1", "2/λ_max of the population matrix, in units of 1/(s²‖β*‖_1)"),
        ("sgd_edge", "1", "2/trace of the population matrix, in the same units"),
        ("threshold", "1", "exact η* (B = 1, empirical matrix) in the same units, where computed"),
        ("target_threshold", "1", "the same at the balanced β* (minimum_l2)"),
        ("largest_residual", "1", "largest |residual| (interpolators)"),
        ("rank", "1", "rank of the inputs (minimum_l2)"),
        ("dual_norm", "1", "‖Xᵀν‖_∞ of the dual certificate (basis_pursuit)"),
        ("duality_gap", "norm", "‖β‖_1 − yᵀν (basis_pursuit)"),
    ]
    .map(|(name, unit, description)| Column { name, unit, description })
    .to_vec();
    let row = |found: &Found| {
        let computed = found.interpolator.as_ref();
        let (rank, dual_norm, gap) = match computed.map(|result| result.evidence) {
            Some(Evidence::RowSpace { rank }) => (Some(rank), None, None),
            Some(Evidence::Dual { dual_norm, gap }) => (None, Some(dual_norm), Some(gap)),
            None => (None, None, None),
        };
        vec![
            found.origin.id().into(),
            Value::Integer(found.sample_count as u64),
            Value::Integer(found.input_dim as u64),
            Value::Integer(found.seed),
            if found.at_rest { "yes" } else { "no" }.into(),
            Value::Number(found.error),
            Value::Number(found.l1_norm),
            computed.map(|result| result.max_norm).into(),
            Value::Number(found.gd_edge),
            Value::Number(found.sgd_edge),
            found.threshold.into(),
            found.target_threshold.into(),
            computed.map(|result| result.largest_residual).into(),
            rank.map_or(Value::Missing, |rank| Value::Integer(rank as u64)),
            dual_norm.into(),
            gap.into(),
        ]
    };
    Table { columns, rows: search.found.iter().map(row).collect() }
}

fn summary(search: &Search) -> Table {
    let columns = [
        ("origin", "word", "minimum_l2, basis_pursuit, SGD or GD"),
        ("sample_count", "samples", "number n of training samples"),
        ("designs", "designs", "designs tried"),
        ("mean_error", "1", "mean of ‖β − β*‖² / ‖β*‖²"),
        ("standard_error", "1", "standard error of the mean"),
        ("median_error", "1", "median of the same"),
        ("largest_error", "1", "largest of the same"),
        ("gd_edge", "1", "median of 2/λ_max of the population matrix, in units of 1/(s²‖β*‖_1)"),
        ("sgd_edge", "1", "median of 2/trace of the population matrix, in the same units"),
        ("threshold", "1", "median of the exact η* (B = 1) in the same units, where computed"),
        ("target_threshold", "1", "the same at the balanced β*"),
    ]
    .map(|(name, unit, description)| Column { name, unit, description })
    .to_vec();
    let mut rows = Vec::new();
    for origin in Origin::ALL {
        for (sample_count, group) in search.of(origin) {
            let of = |value: fn(&Found) -> f64| group.iter().map(value).collect::<Vec<f64>>();
            let some =
                |value: fn(&Found) -> Option<f64>| Value::median(group.iter().filter_map(value));
            let errors = of(|found| found.error);
            let (mean, standard_error) = mean_and_standard_error(&errors);
            rows.push(vec![
                origin.id().into(),
                Value::Number(sample_count),
                Value::Integer(group.len() as u64),
                Value::Number(mean),
                Value::Number(standard_error),
                Value::Number(median(&errors)),
                Value::Number(errors.iter().copied().fold(0.0, f64::max)),
                Value::Number(median(&of(|found| found.gd_edge))),
                Value::Number(median(&of(|found| found.sgd_edge))),
                some(|found| found.threshold),
                some(|found| found.target_threshold),
            ]);
        }
    }
    Table { columns, rows }
}
