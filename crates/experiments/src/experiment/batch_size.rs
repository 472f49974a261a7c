//! Tables, figure and noise of the batch-size experiment, and the bounds at a fixed minimum.

use flatmin_optim::{Method, Sampling};
use flatmin_theory::trace_bound;

use super::relu::RUNS_NOTE;
use super::runs::run_table;
use super::select::{Trained, dots_and_medians, group_by, trained};
use super::{MissingCell, Presentation};
use crate::cell::{BatchThresholds, Problem, Results, StabilityResult, theory_batch};
use crate::claim::short_number;
use crate::table::{Table, Value, column};
use crate::{Experiment, Settings};
use flatmin_figures::{Axis, Figure, Mark, Panel, Reference, ReferenceKind, Series, Style};

/// The two samplings that the closed forms cover, with their names and styles.
const SAMPLINGS: [(Sampling, &str, Style); 2] = [
    (Sampling::WithReplacement, "with replacement", Style(0)),
    (Sampling::WithoutReplacement, "without replacement", Style(1)),
];

fn sample_count(run: &Trained<'_>) -> usize {
    match run.spec.problem {
        Problem::Relu(problem) => problem.sample_count,
        Problem::Diagonal(problem) => problem.sample_count,
    }
}

/// Batch size and sampling of a run; gradient descent takes all samples without replacement.
fn drawing(run: &Trained<'_>) -> (usize, Sampling) {
    match run.spec.method {
        Method::GradientDescent => (sample_count(run), Sampling::WithoutReplacement),
        Method::Sgd { batch_size, sampling } => (batch_size, sampling),
    }
}

pub(super) fn batch_size(run: &Trained<'_>) -> f64 {
    drawing(run).0 as f64
}

/// The noise coefficient p; `None` where the closed forms do not cover the sampling.
fn noise_coefficient(run: &Trained<'_>) -> Option<f64> {
    let (size, sampling) = drawing(run);
    theory_batch(size, sampling).ok()??.noise_coefficient(sample_count(run)).ok()
}

/// `tr G · pη/2` at the end: above 1 the minimum is unstable.
pub(super) fn scaled_trace(run: &Trained<'_>) -> Option<f64> {
    let trace = run.result.last?.empirical.trace;
    Some(trace * noise_coefficient(run)? * run.spec.learning_rate / 2.0)
}

/// The runs of each sampling. A single sample is drawn in the same way by both.
pub(super) fn by_sampling<'r>(runs: &[Trained<'r>]) -> [(&'static str, Vec<Trained<'r>>); 2] {
    SAMPLINGS.map(|(sampling, name, _)| {
        let matching = |run: &&Trained<'_>| {
            let (size, drawn) = drawing(run);
            size == 1 || drawn == sampling
        };
        (name, runs.iter().filter(matching).copied().collect())
    })
}

fn series(runs: &[Trained<'_>], value: fn(&Trained<'_>) -> Option<f64>) -> Vec<Series> {
    by_sampling(runs)
        .into_iter()
        .zip(SAMPLINGS)
        .flat_map(|((name, runs), (_, _, style))| {
            dots_and_medians(&runs, name, style, batch_size, value)
        })
        .collect()
}

/// The learning rate against B at which `bound` turns, for the runs of one sampling.
fn bound_curve(runs: &[Trained<'_>], label: &str) -> Reference {
    let points = group_by(runs, batch_size).into_iter().filter_map(|(size, group)| {
        let run = group.first()?;
        // 2/(pη): S2 with the roles of learning rate and trace exchanged.
        let bound = trace_bound(run.spec.learning_rate, noise_coefficient(run)?);
        bound.is_finite().then_some((size, bound))
    });
    Reference { label: label.to_owned(), kind: ReferenceKind::Curve(points.collect()) }
}

/// A bound of one minimum; absent where infinite.
type Bound = fn(&BatchThresholds) -> Option<f64>;

/// The bounds on the learning rate that are set beside the exact threshold.
const BOUNDS: [(&str, Style, Bound); 6] = [
    ("S2: trace", Style(2), |study| study.s2),
    ("S3: Frobenius, sharp", Style(3), |study| study.s3_sharp),
    ("S4: aligned noise", Style(4), |study| study.s4),
    ("S5: λ_{max}", Style(5), |study| study.s5),
    ("S6: spectrum", Style(6), |study| study.s6),
    ("S7: sufficient", Style(7), |study| study.s7),
];

/// The runs with a single sample a step whose minimum was studied for batches of every size.
fn fixed_minima<'r>(runs: &[Trained<'r>]) -> Vec<(u64, &'r StabilityResult)> {
    let single = runs.iter().filter(|run| drawing(run).0 == 1);
    let studied = single.filter_map(|run| Some((run.spec.seed, run.result.study.as_deref()?)));
    let sizes = |study: &StabilityResult| study.batches.iter().map(|batch| batch.batch_size).max();
    let largest = runs.iter().map(|run| drawing(run).0).max();
    studied.filter(|(_, study)| sizes(study) == largest).collect()
}

/// The study for batches of one size and sampling. A single sample is drawn in the same way by both.
fn batch_study(
    study: &StabilityResult,
    size: usize,
    sampling: Sampling,
) -> Option<&BatchThresholds> {
    let mut batches = study.batches.iter();
    batches.find(|batch| batch.batch_size == size && (size == 1 || batch.sampling == sampling))
}

/// A value against B at a fixed minimum.
fn over_sizes(
    study: Option<&StabilityResult>,
    sampling: Sampling,
    value: impl Fn(&BatchThresholds) -> Option<f64>,
) -> Vec<(f64, f64)> {
    let batches = study.into_iter().flat_map(|study| &study.batches);
    batches
        .filter(|batch| batch.batch_size == 1 || batch.sampling == sampling)
        .filter_map(|batch| Some((batch.batch_size as f64, value(batch)?)))
        .collect()
}

/// The exact threshold of one minimum against B.
fn threshold_panel(study: Option<&StabilityResult>) -> Panel {
    let threshold = |batch: &BatchThresholds| Some(batch.threshold());
    let series = SAMPLINGS.map(|(sampling, name, style)| Series {
        label: name.to_owned(),
        style,
        mark: Mark::LineAndPoints,
        points: over_sizes(study, sampling, threshold),
    });
    let single = study.and_then(StabilityResult::single);
    let mut references = Vec::new();
    if let Some(single) = single {
        let (at_one, sizes) = (single.threshold(), over_sizes(study, SAMPLINGS[0].0, threshold));
        references.push(Reference {
            label: "B η*(1)".to_owned(),
            kind: ReferenceKind::Curve(
                sizes.into_iter().map(|(size, _)| (size, size * at_one)).collect(),
            ),
        });
        references.extend(single.s5.map(|bound| Reference {
            label: "2/λ_{max}: gradient descent".to_owned(),
            kind: ReferenceKind::Horizontal(bound),
        }));
    }
    Panel {
        title: "The exact threshold of one minimum".to_owned(),
        x: Axis::log("batch size B"),
        y: Axis::log("η*(B)"),
        series: series.to_vec(),
        references,
    }
}

/// Every bound over the exact threshold of one minimum, against B.
fn bounds_panel(study: Option<&StabilityResult>) -> Panel {
    let mut series = Vec::new();
    for (label, style, bound) in BOUNDS {
        let scaled = |batch: &BatchThresholds| Some(bound(batch)? / batch.threshold());
        let [(with, ..), (without, ..)] = SAMPLINGS;
        for (mark, sampling) in [(Mark::Line, with), (Mark::OpenPoints, without)] {
            let (label, points) = (label.to_owned(), over_sizes(study, sampling, scaled));
            series.push(Series { label, style, mark, points });
        }
    }
    Panel {
        title: "Its bounds (hollow: without replacement)".to_owned(),
        x: Axis::log("batch size B"),
        y: Axis::log("bound / η*(B)"),
        series,
        references: vec![Reference {
            label: "exact".to_owned(),
            kind: ReferenceKind::Horizontal(1.0),
        }],
    }
}

pub(super) fn present(settings: &Settings, results: &Results) -> Result<Presentation, MissingCell> {
    let runs = trained(&Experiment::BatchSize.cells(settings), results)?;
    let rate = runs.first().map_or(f64::NAN, |run| run.spec.learning_rate);
    let size_axis = || Axis::log("batch size B");
    let horizontal = |label: &str, value| Reference {
        label: label.to_owned(),
        kind: ReferenceKind::Horizontal(value),
    };
    let panel = |title: &str, y, value, references| Panel {
        title: title.to_owned(),
        x: size_axis(),
        y,
        series: series(&runs, value),
        references,
    };
    let [with, without] = by_sampling(&runs);
    let fixed = fixed_minima(&runs);
    let study = fixed.first().map(|(_, study)| *study);
    let panels = vec![
        panel(
            "Trace of the minima found",
            Axis::log("tr G"),
            |run| Some(run.result.last?.empirical.trace),
            vec![
                bound_curve(&with.1, "2B/η (S2)"),
                bound_curve(&without.1, "2/(pη) without replacement (S2)"),
            ],
        ),
        panel(
            "The same in units of its bound",
            Axis::linear("tr G · pη/2"),
            scaled_trace,
            vec![horizontal("stable below 1 (S2)", 1.0)],
        ),
        panel(
            "Path norm",
            Axis::log("path norm ‖θ‖_{P}"),
            |run| Some(run.result.last?.norm),
            vec![],
        ),
        panel(
            "Test error",
            Axis::log("test loss / loss of zero"),
            |run| run.result.relative_test_error(),
            vec![horizontal("zero function", 1.0)],
        ),
        threshold_panel(study),
        bounds_panel(study),
    ];
    Ok(Presentation {
        table: table(&runs, &fixed),
        figure: Figure {
            title: format!(
                "Larger batches find sharper minima of larger norm at the same learning rate η = {}",
                short_number(rate)
            ),
            subtitle: format!(
                "{RUNS_NOTE} The largest batch without replacement is GD. The last two panels are \
                 of one minimum, which the first run with B = 1 found."
            ),
            columns: 3,
            panels,
        },
        summary: summary(&runs, study),
    })
}

/// The table of runs, with how their batches were drawn, and what such batches do at the minimum that
/// the run with a single sample a step and the same seed found.
fn table(runs: &[Trained<'_>], fixed: &[(u64, &StabilityResult)]) -> Table {
    let mut table = run_table(runs);
    let added = [
        column("batch_size", "samples", "samples per step; all of them for GD"),
        column("sampling", "word", "how a batch is drawn; any for a single sample"),
        column("noise_coefficient", "1", "p of the batch"),
        column("noise_scaled_trace", "1", "tr G · pη/2"),
    ];
    table.columns.splice(1..1, added);
    table.columns.extend([
        column(
            "fixed_threshold_lower",
            "1",
            "lower end of η* for such batches at the minimum that B = 1 with the same seed found",
        ),
        column("fixed_threshold_upper", "1", "its upper end"),
        column("fixed_s2", "1", "learning rate at which the bound S2 turns there"),
        column("fixed_s3", "1", "the same for S3"),
        column("fixed_s3_sharp", "1", "for S3, sharp form"),
        column("fixed_s4", "1", "for S4"),
        column("fixed_s5", "1", "for S5"),
        column("fixed_s6", "1", "for S6"),
        column("fixed_s7", "1", "for S7"),
    ]);
    for (row, run) in table.rows.iter_mut().zip(runs) {
        let (size, sampling) = drawing(run);
        let name = match (size, sampling) {
            (1, _) => "any",
            (_, Sampling::WithReplacement) => "with_replacement",
            (_, Sampling::WithoutReplacement) => "without_replacement",
            (_, Sampling::Reshuffling) => "reshuffling",
        };
        let added = [
            Value::Integer(size as u64),
            name.into(),
            noise_coefficient(run).into(),
            scaled_trace(run).into(),
        ];
        row.splice(1..1, added);
        let study = fixed.iter().find(|(seed, _)| *seed == run.spec.seed).map(|(_, study)| study);
        let batch = study.and_then(|study| batch_study(study, size, sampling));
        let values: [Bound; 9] = [
            |b| b.threshold_lower,
            |b| b.threshold_upper,
            |b| b.s2,
            |b| b.s3,
            |b| b.s3_sharp,
            |b| b.s4,
            |b| b.s5,
            |b| b.s6,
            |b| b.s7,
        ];
        row.extend(values.map(|value| Value::from(batch.and_then(value))));
    }
    table
}

/// Medians a sampling and batch size, beside the exact threshold of one minimum.
fn summary(runs: &[Trained<'_>], study: Option<&StabilityResult>) -> Table {
    let columns = vec![
        column("sampling", "word", "how a batch is drawn"),
        column("batch_size", "samples", "samples per step; all without replacement are GD"),
        column("noise_coefficient", "1", "p of the batch"),
        column("converged", "runs", "runs that met the stopping rule"),
        column("runs", "runs", "runs"),
        column("steps", "steps", "median of the steps done"),
        column("trace", "sharpness", "median tr G"),
        column("noise_scaled_trace", "1", "median of tr G · pη/2"),
        column("path_norm", "norm", "median path norm"),
        column("relative_test_error", "1", "median test loss over that of the zero function"),
        column("fixed_threshold", "1", "exact η*(B) of the minimum of the first run with B = 1"),
    ];
    let mut rows = Vec::new();
    for ((name, runs), (sampling, ..)) in by_sampling(runs).into_iter().zip(SAMPLINGS) {
        for (size, group) in group_by(&runs, batch_size) {
            let of = |value: &dyn Fn(&Trained<'_>) -> Option<f64>| {
                Value::median(group.iter().filter_map(value))
            };
            rows.push(vec![
                name.into(),
                Value::Number(size),
                of(&noise_coefficient),
                Value::Integer(group.iter().filter(|run| run.result.converged()).count() as u64),
                Value::Integer(group.len() as u64),
                of(&|run| Some(run.result.steps as f64)),
                of(&|run| Some(run.result.last?.empirical.trace)),
                of(&scaled_trace),
                of(&|run| Some(run.result.last?.norm)),
                of(&|run| run.result.relative_test_error()),
                study
                    .and_then(|study| batch_study(study, drawing(group.first()?).0, sampling))
                    .map(BatchThresholds::threshold)
                    .into(),
            ]);
        }
    }
    Table { columns, rows }
}
