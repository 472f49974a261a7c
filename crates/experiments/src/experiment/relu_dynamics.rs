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

/// A quantity over the value that it has where the loss collapses, with its label and style.
type Followed = (&'static str, Style, fn(&Measurement) -> Option<f64>);

const TRACE: Followed = ("tr G", Style(0), |m| Some(m.empirical.trace));
const LAMBDA_MAX: Followed = ("λ_{max}(G)", Style(1), |m| Some(m.empirical.lambda_max));
const EDGE: Followed = ("2/η*, exact (SGD)", Style(29), |m| Some(2.0 / m.threshold?));

/// Steps shown, in units of the step at which the loss collapses.
const SHOWN: [f64; 2] = [0.03, 10.0];

fn groups<'r>(runs: &[ShallowRun<'r>]) -> Vec<RunGroup<ShallowRun<'r>>> {
    RunGroup::all(runs, [SGD, GD], TrainingRun::learning_rate)
}

fn present(cells: &FinishedCells<'_>) -> Presentation {
    let runs = &cells.shallow;
    let groups = groups(runs);
    let time = || Axis::log("step / step of the collapse").with_range(SHOWN[0], SHOWN[1]);
    let name = |group: &RunGroup<ShallowRun<'_>>| {
        format!("{}, η = {}", method_name(group.method), short_number(group.key))
    };
    let losses = groups.iter().map(|group| {
        let loss: Followed = ("training loss", Style(22), |m| Some(m.train_loss));
        let series = aligned(&group.runs, loss, |run| run.result.zero_test_loss);
        let title = format!("{}: the loss", name(group));
        let y = Axis::log("loss / loss of zero").with_range(1e-8, 1e2);
        Panel::new(title, time(), y, series, vec![Reference::vertical("collapse", 1.0)])
    });
    let sharpness = groups.iter().map(|group| {
        let (edge, others) = if group.method == GD {
            (LAMBDA_MAX, [TRACE].to_vec())
        } else {
            (EDGE, [TRACE, LAMBDA_MAX].to_vec())
        };
        let unit = |run: &ShallowRun<'_>| 2.0 / run.spec.learning_rate;
        let series = others.into_iter().chain([edge]);
        let series = series.flat_map(|followed| aligned(&group.runs, followed, unit)).collect();
        let y = Axis::log("sharpness · η/2").with_range(1e-2, 1e2);
        let references =
            vec![Reference::horizontal("2/η", 1.0), Reference::vertical("collapse", 1.0)];
        Panel::new(format!("{}: what meets 2/η", name(group)), time(), y, series, references)
    });
    let title = "The loss collapses when 2/η* has come down to 2/η (SGD), or λ_{max} (GD)";
    let subtitle = "Thin: one run each. Thick: medians over the runs, at the same share of the steps \
                    to the collapse, the last checkpoint with a tenth of the loss of zero. η*: the \
                    largest learning rate at which SGD (B = 1) would be mean-square stable there.";
    let panels = losses.chain(sharpness).collect();
    Presentation {
        table: table(runs),
        figure: Figure::new(title, subtitle, groups.len().max(1), panels),
        summary: summary(runs),
    }
}

fn points<'r>(run: &ShallowRun<'r>) -> impl Iterator<Item = &'r Measurement> + use<'r> {
    run.result.path.iter().chain(run.result.last.as_ref())
}

/// A thin line for each run that collapses, and a thick one of the medians, against the step in
/// units of that of the collapse.
fn aligned(
    runs: &[ShallowRun<'_>],
    (label, style, value): Followed,
    unit: impl Fn(&ShallowRun<'_>) -> f64,
) -> Vec<Series> {
    let mut all = Vec::new();
    let mut series = Vec::new();
    for run in runs {
        let Some(collapse) = collapse(run).filter(|point| point.step > 0) else { continue };
        let followed = points(run)
            .filter(|m| m.step > 0)
            .filter_map(|m| Some((m.step as f64 / collapse.step as f64, value(m)? / unit(run))));
        let line: Vec<(f64, f64)> = followed.collect();
        all.extend_from_slice(&line);
        let notes = [run.origin()];
        series.push(Series::new(label, style, Mark::ThinLine, line).with_notes(notes));
    }
    // Checkpoints are evenly spaced in the logarithm, and so are their ratios.
    let spacing = f64::from(relu::CHECKPOINTS_PER_DECADE);
    let place = |(x, _): &(f64, f64)| (spacing * libm::log10(*x)).round();
    let medians = group_by(&all, place).into_iter().filter_map(|(place, points)| {
        // Fewer runs than half have come that far, or begun so early.
        let is_shared = 2 * points.len() >= series.len();
        let middle = median_of(points.iter().map(|(_, y)| *y))?;
        is_shared.then(|| (libm::exp10(place / spacing), middle))
    });
    let medians: Vec<(f64, f64)> = medians.collect();
    let notes = ["median".to_owned()];
    series.push(Series::new(label, style, Mark::Line, medians).with_notes(notes));
    series
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
