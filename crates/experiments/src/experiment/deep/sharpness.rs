//! Sharpness of the minima of deep networks against the learning rate.

use flatmin_figures::{Axis, Figure, Mark, Panel, Reference, ReferenceKind, Series, Style};
use flatmin_optim::Method;

use super::super::grid::{GD, SGD};
use super::super::relu::RUNS_NOTE;
use super::super::select::{group_by, method_name};
use super::super::{Experiment, MissingCell, Presentation};
use super::{
    DeepRun, deep_runs, margin, of_depth, relative_test_error, scaled_lambda_max, scaled_trace,
    trace_bound_ratio,
};
use crate::Settings;
use crate::cell::{DeepTask, Results};
use crate::statistics::median;
use crate::table::{Table, Value, column};

/// A quantity of a run that has one.
type Measure = fn(&DeepRun<'_>) -> Option<f64>;

pub(in super::super) fn present(
    settings: &Settings,
    results: &Results,
) -> Result<Presentation, MissingCell> {
    let runs = deep_runs(&Experiment::DeepSharpness.cells(settings), results)?;
    let mut tasks: Vec<DeepTask> = runs.iter().map(|run| run.spec.task).collect();
    tasks.sort_unstable();
    tasks.dedup();
    let rows: [(&str, Method, &str, Measure, Option<&str>); 5] = [
        (
            "trace of SGD's minima",
            SGD,
            "tr G · η/2",
            scaled_trace,
            Some("SGD must stay below (S2)"),
        ),
        ("how far from its edge SGD stops", SGD, "η*/η", margin, Some("η* = η: the exact edge")),
        (
            "how tight the trace bound is",
            SGD,
            "(2/tr G)/η*",
            trace_bound_ratio,
            Some("as tight as can be"),
        ),
        (
            "largest eigenvalue of GD's minima",
            GD,
            "λ_{max}(G) · η/2",
            scaled_lambda_max,
            Some("GD must stay below (S1)"),
        ),
        ("test error of SGD's minima", SGD, "relative test error", relative_test_error, None),
    ];
    let mut panels = Vec::new();
    for (title, method, label, measure, bound) in rows {
        for task in &tasks {
            let reference = |label: &str| Reference {
                label: label.to_owned(),
                kind: ReferenceKind::Horizontal(1.0),
            };
            panels.push(Panel {
                title: format!("{}: {title}", title_case(task.name())),
                x: Axis::log("learning rate η"),
                y: Axis::log(label),
                series: by_depth(&runs, *task, method, measure),
                references: bound.map(reference).into_iter().collect(),
            });
        }
    }
    Ok(Presentation {
        table: table(&runs),
        figure: Figure {
            title: "Minima that SGD (B = 1) and GD find, ReLU networks of depth 2 to 4".to_owned(),
            subtitle: RUNS_NOTE.to_owned(),
            columns: 2,
            panels,
        },
        summary: summary(&runs, &tasks),
    })
}

fn title_case(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Every run that came to rest as a dot, the others hollow, and the medians as a line: one style a depth.
fn by_depth(runs: &[DeepRun<'_>], task: DeepTask, method: Method, measure: Measure) -> Vec<Series> {
    let mut series = Vec::new();
    for (position, depth) in depths(runs).into_iter().enumerate() {
        let mut runs = of_depth(runs, task, depth);
        runs.retain(|run| run.spec.method == method);
        let points = |converged: bool| {
            let chosen = runs.iter().filter(|run| run.result.converged() == converged);
            chosen.filter_map(|run| Some((run.spec.learning_rate, measure(run)?))).collect()
        };
        let line = group_by(&runs, |run| run.spec.learning_rate).into_iter();
        let line = line.filter_map(|(rate, group)| {
            let values: Vec<f64> = group.iter().filter_map(measure).collect();
            (!values.is_empty()).then(|| (rate, median(&values)))
        });
        for (mark, points) in [
            (Mark::Points, points(true)),
            (Mark::OpenPoints, points(false)),
            (Mark::LineAndPoints, line.collect::<Vec<_>>()),
        ] {
            let label = format!("depth {depth}");
            series.push(Series { label, style: Style(position), mark, points });
        }
    }
    series.retain(|series| !series.points.is_empty());
    series
}

fn depths(runs: &[DeepRun<'_>]) -> Vec<usize> {
    let mut depths: Vec<usize> = runs.iter().map(|run| run.spec.depth).collect();
    depths.sort_unstable();
    depths.dedup();
    depths
}

fn table(runs: &[DeepRun<'_>]) -> Table {
    let columns = vec![
        column("task", "word", "teacher, or digit parity"),
        column("depth", "layers", "number of affine layers"),
        column("method", "word", "SGD (batch size 1) or GD"),
        column("learning_rate", "1", "learning rate η"),
        column("seed", "seed", "seed of data, start and batches"),
        column("converged", "word", "whether the stopping rule was met"),
        column("steps", "steps", "steps done"),
        column("train_loss", "loss", "(1/2n) Σ r_i² on the training data"),
        column("relative_test_error", "1", "test loss over that of the zero function"),
        column("trace", "sharpness", "tr G, empirical"),
        column("frobenius_norm", "sharpness", "Frobenius norm of G, empirical"),
        column("lambda_max", "sharpness", "largest eigenvalue of G, empirical"),
        column("threshold", "1", "exact η* of SGD, batch size 1, to 1e-6"),
        column("parameter_norm", "norm", "ℓ2 norm of all parameters"),
    ];
    let rows = runs.iter().map(|run| {
        let last = run.result.last.as_ref();
        vec![
            run.spec.task.name().into(),
            Value::Integer(run.spec.depth as u64),
            method_name(run.spec.method).into(),
            Value::Number(run.spec.learning_rate),
            Value::Integer(run.spec.seed),
            if run.result.converged() { "yes" } else { "no" }.into(),
            Value::Integer(run.result.steps),
            last.map(|m| m.train_loss).into(),
            relative_test_error(run).into(),
            last.map(|m| m.empirical.trace).into(),
            last.map(|m| m.empirical.frobenius_norm).into(),
            last.map(|m| m.empirical.lambda_max).into(),
            last.and_then(|m| m.threshold).into(),
            last.map(|m| m.norm).into(),
        ]
    });
    Table { columns, rows: rows.collect() }
}

fn summary(runs: &[DeepRun<'_>], tasks: &[DeepTask]) -> Table {
    let columns = vec![
        column("task", "word", "teacher, or digit parity"),
        column("depth", "layers", "number of affine layers"),
        column("method", "word", "SGD (batch size 1) or GD"),
        column("learning_rate", "1", "learning rate η"),
        column("converged", "runs", "runs that met the stopping rule"),
        column("runs", "runs", "runs"),
        column("scaled_trace", "1", "median of tr G · η/2"),
        column("scaled_lambda_max", "1", "median of λ_max · η/2"),
        column("margin", "1", "median of η*/η"),
        column("trace_bound_ratio", "1", "median of (2/tr G)/η*"),
        column("relative_test_error", "1", "median"),
    ];
    let mut rows = Vec::new();
    for task in tasks {
        for depth in depths(runs) {
            for method in [SGD, GD] {
                let mut chosen = of_depth(runs, *task, depth);
                chosen.retain(|run| run.spec.method == method);
                for (rate, group) in group_by(&chosen, |run| run.spec.learning_rate) {
                    let of = |measure: Measure| Value::median(group.iter().filter_map(measure));
                    let converged = group.iter().filter(|run| run.result.converged()).count();
                    rows.push(vec![
                        task.name().into(),
                        Value::Integer(depth as u64),
                        method_name(method).into(),
                        Value::Number(rate),
                        Value::Integer(converged as u64),
                        Value::Integer(group.len() as u64),
                        of(scaled_trace),
                        of(scaled_lambda_max),
                        of(margin),
                        of(trace_bound_ratio),
                        of(relative_test_error),
                    ]);
                }
            }
        }
    }
    Table { columns, rows }
}
