//! Sharpness along the training of a deep network.

use flatmin_figures::{Axis, Figure, Mark, Panel, Reference, ReferenceKind, Series, Style};

use super::super::grid::{GD, SGD};
use super::super::select::{group_by, method_name};
use super::super::{Experiment, MissingCell, Presentation};
use super::{DeepRun, Quantity, deep_runs, relative_test_error};
use crate::Settings;
use crate::cell::{DeepMeasurement, Results};
use crate::claim::short_number;
use crate::statistics::median;
use crate::table::{Table, Value, column};

/// The course of a quantity along a run, in units of 2/η.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) struct Course {
    /// At the start.
    pub(in super::super) first: f64,
    /// Its largest value.
    pub(in super::super) largest: f64,
    /// Its median over the last decade of steps.
    pub(in super::super) settled: f64,
}

impl Course {
    /// `None` for a run without measurements of it.
    pub(in super::super) fn of(run: &DeepRun<'_>, quantity: Quantity) -> Option<Self> {
        let value = |m: &DeepMeasurement| Some((m.step, quantity(m)? / run.edge()));
        let values: Vec<(u64, f64)> = run.result.points().filter_map(value).collect();
        let late = values.iter().filter(|(step, _)| step.saturating_mul(10) >= run.result.steps);
        let late: Vec<f64> = late.map(|(_, value)| *value).collect();
        let (_, first) = *values.first()?;
        let largest = values.iter().fold(f64::NEG_INFINITY, |m, (_, value)| m.max(*value));
        Some(Self { first, largest, settled: median(&late) })
    }
}

pub(in super::super) fn present(
    settings: &Settings,
    results: &Results,
) -> Result<Presentation, MissingCell> {
    let runs = deep_runs(&Experiment::ProgressiveSharpening.cells(settings), results)?;
    let losses: [(&str, usize, Quantity); 2] =
        [("training loss", 6, |m| Some(m.train_loss)), ("test loss", 1, |m| Some(m.test_loss))];
    let sharpness: [(&str, usize, Quantity); 5] = [
        ("λ_{max}(H)", 0, |m| m.hessian_lambda_max),
        ("tr G", 2, |m| Some(m.empirical.trace)),
        ("‖G‖_{F}", 3, |m| Some(m.empirical.frobenius_norm)),
        ("batch sharpness", 5, |m| m.batch_sharpness),
        ("2/η*", 15, |m| Some(2.0 / m.threshold?)),
    ];
    let mut panels = Vec::new();
    for method in [GD, SGD] {
        let mut chosen = runs.clone();
        chosen.retain(|run| run.spec.method == method);
        for (rate, group) in group_by(&chosen, |run| run.spec.learning_rate) {
            let name = format!("{}, η = {}", method_name(method), short_number(rate));
            let lines = |followed: &[(&str, usize, Quantity)]| -> Vec<Series> {
                let series = followed.iter().flat_map(|(label, style, quantity)| {
                    group.iter().map(|run| {
                        let point = |m: &DeepMeasurement| Some((m.step as f64, quantity(m)?));
                        Series {
                            label: (*label).to_owned(),
                            style: Style(*style),
                            mark: Mark::ThinLine,
                            points: run.result.points().filter_map(point).collect(),
                        }
                    })
                });
                series.filter(|series| !series.points.is_empty()).collect()
            };
            let bound =
                Reference { label: "2/η".to_owned(), kind: ReferenceKind::Horizontal(2.0 / rate) };
            let panel = |what: &str, y: &str, series, references| Panel {
                title: format!("{name}: {what}"),
                x: Axis::log("step t"),
                y: Axis::log(y),
                series,
                references,
            };
            panels.push(panel("sharpness", "sharpness", lines(&sharpness), vec![bound]));
            panels.push(panel("loss", "loss ½ mean (f − y)²", lines(&losses), Vec::new()));
        }
    }
    Ok(Presentation {
        table: table(&runs),
        figure: Figure {
            title: "Sharpening along training: GD rises to 2/η and stays there, SGD stops below"
                .to_owned(),
            subtitle: "One line a run; log-spaced checkpoints. tanh network of depth 3, parity of \
                       digits. H: Hessian of the training loss."
                .to_owned(),
            columns: 2,
            panels,
        },
        summary: summary(&runs),
    })
}

fn table(runs: &[DeepRun<'_>]) -> Table {
    let columns = vec![
        column("method", "word", "SGD (batch size 1) or GD"),
        column("learning_rate", "1", "learning rate η"),
        column("seed", "seed", "seed of data, start and batches"),
        column("step", "steps", "steps done"),
        column("train_loss", "loss", "(1/2n) Σ r_i² on the training data"),
        column("test_loss", "loss", "the same mean on the test data"),
        column("trace", "sharpness", "tr G, empirical"),
        column("frobenius_norm", "sharpness", "Frobenius norm of G, empirical"),
        column("lambda_max", "sharpness", "largest eigenvalue of G, empirical"),
        column("hessian_lambda_max", "sharpness", "largest eigenvalue of the Hessian"),
        column("batch_sharpness", "sharpness", "Σ r_i²‖g_i‖⁴ / Σ r_i²‖g_i‖²"),
        column("threshold", "1", "exact η* of SGD, batch size 1, to 1e-6"),
        column("parameter_norm", "norm", "ℓ2 norm of all parameters"),
        column("clipped_fraction", "1", "fraction of clipped steps since the last row"),
    ];
    let mut rows = Vec::new();
    for run in runs {
        for m in run.result.points() {
            rows.push(vec![
                method_name(run.spec.method).into(),
                Value::Number(run.spec.learning_rate),
                Value::Integer(run.spec.seed),
                Value::Integer(m.step),
                Value::Number(m.train_loss),
                Value::Number(m.test_loss),
                Value::Number(m.empirical.trace),
                Value::Number(m.empirical.frobenius_norm),
                Value::Number(m.empirical.lambda_max),
                m.hessian_lambda_max.into(),
                m.batch_sharpness.into(),
                m.threshold.into(),
                Value::Number(m.norm),
                Value::Number(m.clipped_fraction),
            ]);
        }
    }
    Table { columns, rows }
}

fn summary(runs: &[DeepRun<'_>]) -> Table {
    let columns = vec![
        column("method", "word", "SGD (batch size 1) or GD"),
        column("learning_rate", "1", "learning rate η"),
        column("runs", "runs", "runs"),
        column("hessian_first", "1", "median of λ_max(H) · η/2 at the start"),
        column("hessian_largest", "1", "median of its largest value along a run"),
        column("hessian_settled", "1", "median of its median over the last decade of steps"),
        column("trace_first", "1", "median of tr G · η/2 at the start"),
        column("trace_settled", "1", "median of its median over the last decade of steps"),
        column("exact_edge", "1", "median of η*/η at the end, for the batches trained with"),
        column("train_loss", "loss", "median at the end"),
        column("relative_test_error", "1", "median at the end"),
    ];
    let mut rows = Vec::new();
    for method in [GD, SGD] {
        let mut chosen = runs.to_vec();
        chosen.retain(|run| run.spec.method == method);
        for (rate, group) in group_by(&chosen, |run| run.spec.learning_rate) {
            let of = |value: &dyn Fn(&DeepRun<'_>) -> Option<f64>| {
                Value::median(group.iter().filter_map(value))
            };
            let hessian = |run: &DeepRun<'_>| Course::of(run, |m| m.hessian_lambda_max);
            let trace = |run: &DeepRun<'_>| Course::of(run, |m| Some(m.empirical.trace));
            rows.push(vec![
                method_name(method).into(),
                Value::Number(rate),
                Value::Integer(group.len() as u64),
                of(&|run| Some(hessian(run)?.first)),
                of(&|run| Some(hessian(run)?.largest)),
                of(&|run| Some(hessian(run)?.settled)),
                of(&|run| Some(trace(run)?.first)),
                of(&|run| Some(trace(run)?.settled)),
                of(&|run| Some(run.result.last?.threshold? / run.spec.learning_rate)),
                of(&|run| Some(run.result.last?.train_loss)),
                of(&relative_test_error),
            ]);
        }
    }
    Table { columns, rows }
}
