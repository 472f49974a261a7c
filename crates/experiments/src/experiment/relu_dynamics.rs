//! Table and figure of the ReLU networks followed along training.

use super::grid::{GD, RELU_CLIP, SGD};
use super::select::{Trained, group_by, method_name, of_method, trained};
use super::{MissingCell, Presentation};
use crate::cell::{Measurement, Results};
use crate::claim::short_number;
use crate::table::{Table, Value, column};
use crate::{Experiment, Settings};
use flatmin_figures::{Axis, Figure, Mark, Panel, Reference, ReferenceKind, Series, Style};

/// A quantity followed along training.
struct Followed {
    label: &'static str,
    style: Style,
    value: fn(&Measurement) -> Option<f64>,
}

pub(super) fn present(settings: &Settings, results: &Results) -> Result<Presentation, MissingCell> {
    let runs = trained(&Experiment::ReluDynamics.cells(settings), results)?;
    let losses = [
        Followed { label: "training loss", style: Style(0), value: |m| Some(m.train_loss) },
        Followed { label: "test loss", style: Style(1), value: |m| Some(m.test_loss) },
    ];
    let sharpness = [
        Followed { label: "tr G", style: Style(2), value: |m| Some(m.empirical.trace) },
        Followed {
            label: "‖G‖_{F}", style: Style(3), value: |m| Some(m.empirical.frobenius_norm)
        },
        Followed { label: "λ_{max}(G)", style: Style(4), value: |m| Some(m.empirical.lambda_max) },
        Followed { label: "batch sharpness", style: Style(5), value: |m| m.batch_sharpness },
        // Solid, unlike the others of its panel.
        Followed { label: "2/η*", style: Style(15), value: |m| Some(2.0 / m.threshold?) },
    ];
    let norms = [
        Followed { label: "path norm ‖θ‖_{P}", style: Style(6), value: |m| Some(m.norm) },
        Followed {
            label: "largest gradient norm since last point",
            style: Style(7),
            value: |m| (m.step > 0).then_some(m.max_gradient_norm),
        },
    ];
    let mut panels = Vec::new();
    for method in [SGD, GD] {
        for (rate, group) in group_by(&of_method(&runs, method), |run| run.spec.learning_rate) {
            let name = format!("{}, η = {}", method_name(method), short_number(rate));
            let panel = |what: &str, y: &str, followed: &[Followed], reference| Panel {
                title: format!("{name}: {what}"),
                x: Axis::log("step t"),
                y: Axis::log(y),
                series: followed.iter().flat_map(|f| trajectories(&group, f)).collect(),
                references: reference,
            };
            let bound =
                Reference { label: "2/η".to_owned(), kind: ReferenceKind::Horizontal(2.0 / rate) };
            let clip = Reference {
                label: "clipping".to_owned(),
                kind: ReferenceKind::Horizontal(RELU_CLIP),
            };
            panels.push(panel("loss", "loss ½ mean (f − y)²", &losses, Vec::new()));
            panels.push(panel("sharpness", "sharpness", &sharpness, vec![bound]));
            panels.push(panel("norms", "norm", &norms, vec![clip]));
        }
    }
    Ok(Presentation {
        table: dynamics_table(&runs),
        figure: Figure {
            title: "Along training: the loss collapses as the sharpness comes down to 2/η"
                .to_owned(),
            subtitle: "One line a run; log-spaced checkpoints. η*: the largest learning rate at \
                       which SGD (B = 1) would be mean-square stable were the point a minimum."
                .to_owned(),
            columns: 3,
            panels,
        },
        summary: summary(&runs),
    })
}

fn points<'r>(run: &Trained<'r>) -> impl Iterator<Item = &'r Measurement> + use<'r> {
    run.result.path.iter().chain(run.result.last.as_ref())
}

/// One thin line a seed.
fn trajectories(group: &[Trained<'_>], followed: &Followed) -> Vec<Series> {
    let line = |run: &Trained<'_>| Series {
        label: followed.label.to_owned(),
        style: followed.style,
        mark: Mark::ThinLine,
        points: points(run).filter_map(|m| Some((m.step as f64, (followed.value)(m)?))).collect(),
    };
    group.iter().map(line).collect()
}

fn dynamics_table(runs: &[Trained<'_>]) -> Table {
    let columns = vec![
        column("method", "word", "SGD (batch size 1) or GD"),
        column("learning_rate", "1", "learning rate η"),
        column("seed", "seed", "seed of teacher, data, start and batches"),
        column("step", "steps", "steps done"),
        column("train_loss", "loss", "(1/2n) Σ r_i² on the training data"),
        column("test_loss", "loss", "the same mean on the test data"),
        column("trace", "sharpness", "tr G, empirical"),
        column("frobenius_norm", "sharpness", "Frobenius norm of G, empirical"),
        column("lambda_max", "sharpness", "largest eigenvalue of G, empirical"),
        column("batch_sharpness", "sharpness", "Σ r_i²‖g_i‖⁴ / Σ r_i²‖g_i‖²"),
        column("threshold", "1", "exact η* of SGD, batch size 1, to 1e-6"),
        column("path_norm", "norm", "Σ |a_j| ‖w_j‖"),
        column("max_gradient_norm", "norm", "largest gradient norm since the last row"),
        column("clipped_fraction", "1", "fraction of clipped steps since the last row"),
    ];
    let mut rows = Vec::new();
    for run in runs {
        for m in points(run) {
            rows.push(vec![
                run.method().into(),
                Value::Number(run.spec.learning_rate),
                Value::Integer(run.spec.seed),
                Value::Integer(m.step),
                Value::Number(m.train_loss),
                Value::Number(m.test_loss),
                Value::Number(m.empirical.trace),
                Value::Number(m.empirical.frobenius_norm),
                Value::Number(m.empirical.lambda_max),
                m.batch_sharpness.into(),
                m.threshold.into(),
                Value::Number(m.norm),
                Value::Number(m.max_gradient_norm),
                Value::Number(m.clipped_fraction),
            ]);
        }
    }
    Table { columns, rows }
}

/// Where the training loss collapses: the last checkpoint at which it is above a tenth of the loss of
/// the zero function. `None` for a run that ends there.
fn collapse<'r>(run: &Trained<'r>) -> Option<&'r Measurement> {
    let losses = points(run).map(|point| point.train_loss);
    let index = last_above(losses, 0.1 * run.result.zero_test_loss)?;
    points(run).nth(index)
}

/// Index of the last value above `level`, where smaller ones follow.
fn last_above(values: impl Iterator<Item = f64>, level: f64) -> Option<usize> {
    let (mut count, mut last) = (0, None);
    for value in values {
        if value > level {
            last = Some(count);
        }
        count += 1;
    }
    last.filter(|index| index + 1 < count)
}

/// Medians of the sharpness in units of 2/η, a method and learning rate, where the loss collapses and
/// at the end.
fn summary(runs: &[Trained<'_>]) -> Table {
    let columns = vec![
        column("method", "word", "SGD (batch size 1) or GD"),
        column("learning_rate", "1", "learning rate η"),
        column(
            "when",
            "word",
            "collapse: last checkpoint with a training loss above a tenth of that of zero; end",
        ),
        column("runs", "runs", "runs that came there"),
        column("step", "steps", "median of the steps done"),
        column("train_loss", "loss", "median (1/2n) Σ r_i² on the training data"),
        column("scaled_trace", "1", "median of tr G · η/2"),
        column("scaled_lambda_max", "1", "median of λ_max · η/2"),
        column("scaled_batch_sharpness", "1", "median of the batch sharpness · η/2"),
        column("inverse_threshold", "1", "median of η/η*: 2/η* in units of 2/η"),
        column("path_norm", "norm", "median path norm"),
    ];
    let mut rows = Vec::new();
    for method in [SGD, GD] {
        for (rate, group) in group_by(&of_method(runs, method), |run| run.spec.learning_rate) {
            let collapses: Vec<&Measurement> = group.iter().filter_map(collapse).collect();
            let ends: Vec<&Measurement> =
                group.iter().filter_map(|run| run.result.last.as_ref()).collect();
            for (when, points) in [("collapse", collapses), ("end", ends)] {
                let of = |value: &dyn Fn(&Measurement) -> Option<f64>| {
                    Value::median(points.iter().filter_map(|m| value(m)))
                };
                rows.push(vec![
                    method_name(method).into(),
                    Value::Number(rate),
                    when.into(),
                    Value::Integer(points.len() as u64),
                    of(&|m| Some(m.step as f64)),
                    of(&|m| Some(m.train_loss)),
                    of(&|m| Some(m.empirical.trace * rate / 2.0)),
                    of(&|m| Some(m.empirical.lambda_max * rate / 2.0)),
                    of(&|m| Some(m.batch_sharpness? * rate / 2.0)),
                    of(&|m| Some(rate / m.threshold?)),
                    of(&|m| Some(m.norm)),
                ]);
            }
        }
    }
    Table { columns, rows }
}

#[cfg(test)]
mod tests {
    use super::last_above;

    #[test]
    fn a_loss_collapses_where_it_is_high_for_the_last_time() {
        let check = |losses: &[f64], expected: Option<usize>| {
            assert_eq!(last_above(losses.iter().copied(), 1.0), expected, "{losses:?}");
        };
        check(&[9.0, 0.5, 2.0, 0.1, 0.0], Some(2));
        check(&[9.0, 0.5, 2.0], None);
        check(&[0.5, 0.1], None);
        check(&[], None);
    }
}
