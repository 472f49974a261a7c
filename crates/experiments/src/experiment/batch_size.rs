//! Tables, figure and noise of the batch-size experiment.

use flatmin_optim::{Method, Sampling};
use flatmin_theory::{Batch, trace_bound};

use super::relu::RUNS_NOTE;
use super::runs::run_table;
use super::select::{Trained, dots_and_medians, group_by, trained};
use super::{MissingCell, Presentation};
use crate::cell::{Problem, Results};
use crate::claim::{median, short_number};
use crate::figure::{Axis, Figure, Panel, Reference, ReferenceKind, Series, Style};
use crate::table::{Column, Table, Value};
use crate::{Experiment, Settings};

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
    let sampling = match sampling {
        Sampling::WithReplacement => flatmin_theory::Sampling::WithReplacement,
        Sampling::WithoutReplacement => flatmin_theory::Sampling::WithoutReplacement,
        Sampling::Reshuffling => return None,
    };
    Batch::new(size, sampling).and_then(|batch| batch.noise_coefficient(sample_count(run))).ok()
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
    ];
    Ok(Presentation {
        table: table(&runs),
        figure: Figure {
            title: format!(
                "Larger batches find sharper minima of larger norm at the same learning rate η = {}",
                short_number(rate)
            ),
            subtitle: format!("{RUNS_NOTE} The largest batch without replacement is GD."),
            columns: 2,
            panels,
        },
        summary: summary(&runs),
    })
}

fn column(name: &'static str, unit: &'static str, description: &'static str) -> Column {
    Column { name, unit, description }
}

/// The table of runs, with how their batches were drawn.
fn table(runs: &[Trained<'_>]) -> Table {
    let mut table = run_table(runs);
    let added = [
        column("batch_size", "samples", "samples per step; all of them for GD"),
        column("sampling", "word", "how a batch is drawn; any for a single sample"),
        column("noise_coefficient", "1", "p of the batch"),
        column("noise_scaled_trace", "1", "tr G · pη/2"),
    ];
    table.columns.splice(1..1, added);
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
    }
    table
}

/// Medians a sampling and batch size.
fn summary(runs: &[Trained<'_>]) -> Table {
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
    ];
    let mut rows = Vec::new();
    for (name, runs) in by_sampling(runs) {
        for (size, group) in group_by(&runs, batch_size) {
            let of = |value: &dyn Fn(&Trained<'_>) -> Option<f64>| {
                let values: Vec<f64> = group.iter().filter_map(value).collect();
                if values.is_empty() { Value::Missing } else { Value::Number(median(&values)) }
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
            ]);
        }
    }
    Table { columns, rows }
}
