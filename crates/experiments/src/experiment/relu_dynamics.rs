//! ReLU networks followed along training.

use crate::prelude::*;
use crate::protocol::relu;

pub(super) static EXPERIMENT: Experiment = Experiment {
    id: "relu_dynamics",
    title: "ReLU networks: where the loss collapses",
    shows: "SGD cannot settle while the minimum it is near is unstable. The training loss stays \
            high while tr G, the batch sharpness and 2/η* (η* is the exact mean-square threshold) \
            fall from far above 2/η; none of them rests there on the way. At the smaller rate all \
            three pass 2/η together and the loss collapses right after, with 2/η* a little below \
            2/η. At the larger rate tr G passes first, by a factor of two, and the loss still \
            hovers: it collapses when 2/η* has come near 2/η, where it ends, on either side. \
            Mean-square stability is not needed to converge, and the batch sharpness goes on \
            fluctuating, mostly above 2/η, while the loss falls. λ_{max} is below 2/η almost from \
            the start.\n\nGradient descent does the same with the largest eigenvalue alone: the \
            loss collapses where λ_{max} passes 2/η, at a trace many times larger.",
    how: |settings| {
        format!(
            "{}\n\nEvery run is measured at {} log-spaced checkpoints a decade. Away from a minimum \
             η* is that of SGD linearised with the gradients found there, to six digits.",
            relu::words(settings),
            relu::CHECKPOINTS_PER_DECADE,
        )
    },
    cells: relu::followed,
    present,
    claims: &[],
};

/// A quantity followed along training, with its label and style.
type Followed = (&'static str, usize, fn(&Measurement) -> Option<f64>);

const LOSSES: [Followed; 2] =
    [("training loss", 0, |m| Some(m.train_loss)), ("test loss", 1, |m| Some(m.test_loss))];
const SHARPNESS: [Followed; 5] = [
    ("tr G", 2, |m| Some(m.empirical.trace)),
    ("‖G‖_{F}", 3, |m| Some(m.empirical.frobenius_norm)),
    ("λ_{max}(G)", 4, |m| Some(m.empirical.lambda_max)),
    ("batch sharpness", 5, |m| m.batch_sharpness),
    // Solid, unlike the others of its panel.
    ("2/η*", 15, |m| Some(2.0 / m.threshold?)),
];
const NORMS: [Followed; 2] = [
    ("path norm ‖θ‖_{P}", 6, |m| Some(m.norm)),
    ("largest gradient norm since last point", 7, |m| (m.step > 0).then_some(m.max_gradient_norm)),
];

fn groups<'r>(runs: &[ShallowRun<'r>]) -> Vec<RunGroup<ShallowRun<'r>>> {
    RunGroup::all(runs, [SGD, GD], TrainingRun::learning_rate)
}

fn present(cells: &FinishedCells<'_>) -> Presentation {
    let runs = &cells.shallow;
    let panels = groups(runs).into_iter().flat_map(|group| {
        let name = format!("{}, η = {}", method_name(group.method), short_number(group.key));
        let panel = |what: &str, y: &str, followed: &[Followed], references| {
            let series = followed.iter().flat_map(|f| trajectories(&group.runs, *f)).collect();
            let title = format!("{name}: {what}");
            Panel::new(title, Axis::log("step t"), Axis::log(y), series, references)
        };
        let bound = Reference::horizontal("2/η", 2.0 / group.key);
        let clip = Reference::horizontal("clipping", relu::CLIP);
        [
            panel("loss", "loss ½ mean (f − y)²", &LOSSES, Vec::new()),
            panel("sharpness", "sharpness", &SHARPNESS, vec![bound]),
            panel("norms", "norm", &NORMS, vec![clip]),
        ]
    });
    let title = "Along training: the loss collapses as the sharpness comes down to 2/η";
    let subtitle = "One line a run; log-spaced checkpoints. η*: the largest learning rate at \
                    which SGD (B = 1) would be mean-square stable were the point a minimum.";
    Presentation {
        table: table(runs),
        figure: Figure::new(title, subtitle, 3, panels.collect()),
        summary: summary(runs),
    }
}

fn points<'r>(run: &ShallowRun<'r>) -> impl Iterator<Item = &'r Measurement> + use<'r> {
    run.result.path.iter().chain(run.result.last.as_ref())
}

/// One thin line a seed.
fn trajectories(runs: &[ShallowRun<'_>], (label, style, value): Followed) -> Vec<Series> {
    let line = |run: &ShallowRun<'_>| {
        let points = points(run).filter_map(|m| Some((m.step as f64, value(m)?)));
        Series::new(label, Style(style), Mark::ThinLine, points)
    };
    runs.iter().map(line).collect()
}

fn table(runs: &[ShallowRun<'_>]) -> Table {
    let rows: Vec<(ShallowRun<'_>, &Measurement)> =
        runs.iter().flat_map(|run| points(run).map(|m| (*run, m))).collect();
    table!(&rows, |(run, m)| {
        "method", "word", "SGD (batch size 1) or GD" => run.method_name();
        "learning_rate", "1", "learning rate η" => run.spec.learning_rate;
        "seed", "seed", "seed of teacher, data, start and batches" => run.spec.seed;
        "step", "steps", "steps done" => m.step;
        "train_loss", "loss", "(1/2n) Σ r_i² on the training data" => m.train_loss;
        "test_loss", "loss", "the same mean on the test data" => m.test_loss;
        "trace", "sharpness", "tr G, empirical" => m.empirical.trace;
        "frobenius_norm", "sharpness", "Frobenius norm of G, empirical"
            => m.empirical.frobenius_norm;
        "lambda_max", "sharpness", "largest eigenvalue of G, empirical" => m.empirical.lambda_max;
        "batch_sharpness", "sharpness", "Σ r_i²‖g_i‖⁴ / Σ r_i²‖g_i‖²" => m.batch_sharpness;
        "threshold", "1", "exact η* of SGD, batch size 1, to 1e-6" => m.threshold;
        "path_norm", "norm", "Σ |a_j| ‖w_j‖" => m.norm;
        "max_gradient_norm", "norm", "largest gradient norm since the last row"
            => m.max_gradient_norm;
        "clipped_fraction", "1", "fraction of clipped steps since the last row"
            => m.clipped_fraction;
    })
}

/// The point at which the training loss collapses: the last checkpoint with more than a tenth of
/// the loss of the zero function. `None` for a run that ends there.
fn collapse<'r>(run: &ShallowRun<'r>) -> Option<&'r Measurement> {
    let losses = points(run).map(|point| point.train_loss);
    let index = last_above(losses, 0.1 * run.result.zero_test_loss)?;
    points(run).nth(index)
}

/// Index of the last value above `level`; `None` unless a smaller one follows.
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

/// The points of a group of runs at one stage of training.
struct Stage<'r> {
    method: &'static str,
    rate: f64,
    when: &'static str,
    points: Vec<&'r Measurement>,
}

/// Medians of the sharpness in units of 2/η for each method and learning rate, where the loss
/// collapses and at the end.
fn summary(runs: &[ShallowRun<'_>]) -> Table {
    let stages: Vec<Stage<'_>> = groups(runs)
        .into_iter()
        .flat_map(|group| {
            let collapses = group.runs.iter().filter_map(collapse).collect();
            let ends = group.runs.iter().filter_map(|run| run.result.last.as_ref()).collect();
            let (method, rate) = (method_name(group.method), group.key);
            [("collapse", collapses), ("end", ends)].map(|(when, points)| Stage {
                method,
                rate,
                when,
                points,
            })
        })
        .collect();
    table!(&stages, |s| {
        "method", "word", "SGD (batch size 1) or GD" => s.method;
        "learning_rate", "1", "learning rate η" => s.rate;
        "when", "word", "collapse: last checkpoint with a training loss above a tenth of that of \
            zero; end" => s.when;
        "runs", "runs", "runs that came there" => s.points.len();
        "step", "steps", "median of the steps done" => median_value(&s.points, |m| Some(m.step as f64));
        "train_loss", "loss", "median (1/2n) Σ r_i² on the training data"
            => median_value(&s.points, |m| Some(m.train_loss));
        "scaled_trace", "1", "median of tr G · η/2"
            => median_value(&s.points, |m| Some(m.empirical.trace * s.rate / 2.0));
        "scaled_lambda_max", "1", "median of λ_max · η/2"
            => median_value(&s.points, |m| Some(m.empirical.lambda_max * s.rate / 2.0));
        "scaled_batch_sharpness", "1", "median of the batch sharpness · η/2"
            => median_value(&s.points, |m| Some(m.batch_sharpness? * s.rate / 2.0));
        "inverse_threshold", "1", "median of η/η*: 2/η* in units of 2/η"
            => median_value(&s.points, |m| Some(s.rate / m.threshold?));
        "path_norm", "norm", "median path norm" => median_value(&s.points, |m| Some(m.norm));
    })
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
