//! Sharpness along the training of a deep network.

use crate::prelude::*;
use crate::protocol::deep;

pub(super) static EXPERIMENT: Experiment = Experiment {
    id: "progressive_sharpening",
    title: "Deep networks: sharpness along training",
    shows: "Gradient descent sharpens as long as it can: λ_{max} of the Hessian rises from its \
            start, overshoots 2/η, and then stays there to a few parts in a thousand while the loss \
            goes on falling, not always monotonically: the edge of stability (Cohen et al. 2021). At \
            the smallest rate it never meets 2/η. SGD sharpens much less: the larger its η, the \
            lower its trace ends, at a λ_{max} far below 2/η and with a smaller test loss. The table \
            shows how far its own exact edge η* is from η then.",
    how: deep::followed_words,
    cells: deep::followed,
    present,
    claims: &[
        ClaimRule::new(
            14,
            "Gradient descent sharpens until it exceeds its edge, λ_max(H) = 2/η, and settles \
             there, or a few per cent below where it can hardly reach it; at a learning rate whose \
             edge is beyond what it would reach it stays below.",
            "S1; Cohen et al. 2021",
            sharpening,
        ),
        ClaimRule::new(
            15,
            "The noise of SGD stops the sharpening earlier, the more the larger the learning rate, \
             long before λ_max comes near 2/η.",
            "S2",
            noise,
        ),
    ],
};

/// The range in which the median of `λ_max(H) · η/2` over the runs of gradient descent must settle.
const SETTLED: [f64; 2] = [0.95, 1.05];
/// The range in which every run must settle. Among 20 seeds, one network that exceeds its edge by
/// little settles at 0.942.
const EACH_SETTLED: [f64; 2] = [0.9, 1.05];
/// The factor by which SGD must end below gradient descent at its smallest learning rate, which
/// never meets its edge.
const BELOW_GD: f64 = 1.5;

/// A quantity at one point of a run.
type PointValue = fn(&DeepMeasurement) -> Option<f64>;

/// The largest eigenvalue of the Hessian, and the trace of the Gauss–Newton matrix.
const HESSIAN: PointValue = |m| m.hessian_lambda_max;
const TRACE: PointValue = |m| Some(m.empirical.trace);

/// Quantities that are drawn along training, with their labels and styles.
const LOSSES: [(&str, usize, PointValue); 2] =
    [("training loss", 6, |m| Some(m.train_loss)), ("test loss", 1, |m| Some(m.test_loss))];
const SHARPNESS: [(&str, usize, PointValue); 5] = [
    ("λ_{max}(H)", 0, HESSIAN),
    ("tr G", 2, TRACE),
    ("‖G‖_{F}", 3, |m| Some(m.empirical.frobenius_norm)),
    ("batch sharpness", 5, |m| m.batch_sharpness),
    ("2/η*", 15, |m| Some(2.0 / m.threshold?)),
];

/// The course of a quantity along a run, in units of 2/η.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Course {
    /// At the start.
    first: f64,
    /// Its largest value.
    largest: f64,
    /// Its median over the last decade of steps.
    settled: f64,
}

impl Course {
    /// `None` for a run without measurements of it.
    fn of(run: &DeepRun<'_>, quantity: PointValue) -> Option<Self> {
        let value = |m: &DeepMeasurement| Some((m.step, quantity(m)? / run.edge()));
        let values: Vec<(u64, f64)> = run.result.points().filter_map(value).collect();
        let late = values.iter().filter(|(step, _)| step.saturating_mul(10) >= run.result.steps);
        let late: Vec<f64> = late.map(|(_, value)| *value).collect();
        let (_, first) = *values.first()?;
        let largest = values.iter().fold(f64::NEG_INFINITY, |m, (_, value)| m.max(*value));
        Some(Self { first, largest, settled: median(&late) })
    }
}

fn groups<'r>(runs: &[DeepRun<'r>]) -> Vec<RunGroup<DeepRun<'r>>> {
    RunGroup::all(runs, [GD, SGD], TrainingRun::learning_rate)
}

fn present(cells: &FinishedCells<'_>) -> Presentation {
    let runs = &cells.deep;
    let panels = groups(runs).into_iter().flat_map(|group| {
        let name = format!("{}, η = {}", method_name(group.method), short_number(group.key));
        let panel = |what: &str, y: &str, followed: &[(&str, usize, PointValue)], references| {
            let series = followed.iter().flat_map(|(label, style, quantity)| {
                group.runs.iter().map(|run| {
                    let point = |m: &DeepMeasurement| Some((m.step as f64, quantity(m)?));
                    let points = run.result.points().filter_map(point);
                    Series::new(*label, Style(*style), Mark::ThinLine, points)
                        .with_notes([run.origin()])
                })
            });
            let series = series.filter(|series| !series.points.is_empty()).collect();
            let title = format!("{name}: {what}");
            Panel::new(title, Axis::log("step t"), Axis::log(y), series, references)
        };
        let bound = Reference::horizontal("2/η", 2.0 / group.key);
        [
            panel("sharpness", "sharpness", &SHARPNESS, vec![bound]),
            panel("loss", "loss ½ mean (f − y)²", &LOSSES, Vec::new()),
        ]
    });
    let title = "Sharpening along training: GD rises towards 2/η, SGD stops below";
    let subtitle = "One line a run; log-spaced checkpoints. tanh network of depth 3, parity of \
                    digits. H: Hessian of the training loss.";
    Presentation {
        table: table(runs),
        figure: Figure::new(title, subtitle, 2, panels.collect()),
        summary: summary(runs),
    }
}

fn table(runs: &[DeepRun<'_>]) -> Table {
    let rows: Vec<(DeepRun<'_>, &DeepMeasurement)> =
        runs.iter().flat_map(|run| run.result.points().map(|m| (*run, m))).collect();
    table!(&rows, |(run, m)| {
        "method", "word", "SGD (batch size 1) or GD" => run.method_name();
        "learning_rate", "1", "learning rate η" => run.spec.learning_rate;
        "seed", "seed", "seed of data, start and batches" => run.spec.seed;
        "step", "steps", "steps done" => m.step;
        "train_loss", "loss", "(1/2n) Σ r_i² on the training data" => m.train_loss;
        "test_loss", "loss", "the same mean on the test data" => m.test_loss;
        "trace", "sharpness", "tr G, empirical" => m.empirical.trace;
        "frobenius_norm", "sharpness", "Frobenius norm of G, empirical"
            => m.empirical.frobenius_norm;
        "lambda_max", "sharpness", "largest eigenvalue of G, empirical" => m.empirical.lambda_max;
        "hessian_lambda_max", "sharpness", "largest eigenvalue of the Hessian"
            => m.hessian_lambda_max;
        "batch_sharpness", "sharpness", "Σ r_i²‖g_i‖⁴ / Σ r_i²‖g_i‖²" => m.batch_sharpness;
        "threshold", "1", "exact η* of SGD, batch size 1, to 1e-6" => m.threshold;
        "parameter_norm", "norm", "ℓ2 norm of all parameters" => m.norm;
        "clipped_fraction", "1", "fraction of clipped steps since the last row"
            => m.clipped_fraction;
    })
}

fn summary(runs: &[DeepRun<'_>]) -> Table {
    table!(&groups(runs), |g| {
        "method", "word", "SGD (batch size 1) or GD" => method_name(g.method);
        "learning_rate", "1", "learning rate η" => g.key;
        "runs", "runs", "runs" => g.runs.len();
        "hessian_first", "1", "median of λ_max(H) · η/2 at the start"
            => g.median(|run| Some(Course::of(run, HESSIAN)?.first));
        "hessian_largest", "1", "median of its largest value along a run"
            => g.median(|run| Some(Course::of(run, HESSIAN)?.largest));
        "hessian_settled", "1", "median of its median over the last decade of steps"
            => g.median(|run| Some(Course::of(run, HESSIAN)?.settled));
        "trace_first", "1", "median of tr G · η/2 at the start"
            => g.median(|run| Some(Course::of(run, TRACE)?.first));
        "trace_settled", "1", "median of its median over the last decade of steps"
            => g.median(|run| Some(Course::of(run, TRACE)?.settled));
        "exact_edge", "1", "median of η*/η at the end, for the batches trained with"
            => g.median(|run| Some(run.result.last?.threshold? / run.spec.learning_rate));
        "train_loss", "loss", "median at the end"
            => g.median(|run| Some(run.result.last?.train_loss));
        "relative_test_error", "1", "median at the end" => g.median(DeepRun::relative_test_error);
    })
}

fn sharpening(cells: &FinishedCells<'_>) -> Judgement {
    let runs = of_method(&cells.deep, GD);
    let mut judgement = Judgement::new(
        format!(
            "λ_max(H) · η/2 in every GD run: at the smallest η it rises and stays ≤ 1; at the others \
             it starts below 1, exceeds 1, and its median over the last decade of steps lies in \
             [{}, {}], the median of these in [{}, {}]",
            EACH_SETTLED[0], EACH_SETTLED[1], SETTLED[0], SETTLED[1],
        ),
        runs.len(),
    );
    let rates = group_by(&runs, TrainingRun::learning_rate);
    judgement.need_runs(rates.len() >= 2);
    judgement.require(!runs.is_empty());
    let smallest = rates.first().map(|(_, group)| &group[..]).unwrap_or_default();
    let mut out_of_reach = 0;
    for (position, (rate, group)) in rates.iter().enumerate() {
        let course = |run: &DeepRun<'_>| Course::of(run, HESSIAN);
        let courses: Vec<Course> = group.iter().filter_map(course).collect();
        judgement.require(courses.len() == group.len());
        let reaching = only(group, |run| position == 0 || reaches_edge(run, smallest));
        out_of_reach += group.len() - reaching.len();
        judgement.need(!reaching.is_empty(), "Gradient descent cannot reach the edge of every η.");
        for Course { first, largest, settled } in reaching.iter().filter_map(course) {
            judgement.require(if position == 0 {
                first < largest && largest <= 1.0
            } else {
                first < 1.0
                    && largest > 1.0
                    && (EACH_SETTLED[0]..=EACH_SETTLED[1]).contains(&settled)
            });
        }
        if position > 0 && !reaching.is_empty() {
            let settled: Vec<f64> =
                reaching.iter().filter_map(course).map(|course| course.settled).collect();
            judgement.require((SETTLED[0]..=SETTLED[1]).contains(&median(&settled)));
        }
        let mut measure = |when: &str, value: fn(&Course) -> f64| {
            let values: Vec<f64> = courses.iter().map(value).collect();
            let label = format!("GD, η = {}: λ_max(H) · η/2, {when}", short_number(*rate));
            judgement.measure(label, &values);
        };
        measure("at the start", |course| course.first);
        measure("largest", |course| course.largest);
        measure("median of the last decade", |course| course.settled);
    }
    if out_of_reach > 0 {
        judgement.note(format!(
            "Not judged: {out_of_reach} of {} runs, whose edge is beyond the sharpness that gradient \
             descent reaches at the smallest η with the same seed.",
            runs.len(),
        ));
    }
    judgement
}

/// Says that the edge of `run` is below the largest `λ_max(H)` along the run at the smallest
/// learning rate with the same seed, whose own edge holds nothing back. How sharp a network becomes
/// differs from seed to seed by a factor of two.
fn reaches_edge(run: &DeepRun<'_>, smallest: &[DeepRun<'_>]) -> bool {
    let free = smallest.iter().find(|other| other.spec.seed == run.spec.seed);
    let course = free.and_then(|free| Some((free.edge(), Course::of(free, HESSIAN)?.largest)));
    // A run that was not measured is judged, and fails.
    course.is_none_or(|(edge, largest)| largest * edge > run.edge())
}

fn noise(cells: &FinishedCells<'_>) -> Judgement {
    let mut judgement = Judgement::new(
        "tr G ≤ 2/η at the end of every SGD run (B = 1); the median of tr G at the end falls with η, \
         and is at every η at most 1/1.5 of that of GD at its smallest η",
        cells.deep.len(),
    );
    let mut medians = Vec::new();
    for RunGroup { method, key: rate, runs } in groups(&cells.deep) {
        let traces = values(&runs, |run| Some(run.result.last?.empirical.trace));
        let name = |method: &str| format!("{method}, η = {}", short_number(rate));
        if method == SGD {
            let scaled = values(&runs, DeepRun::scaled_trace);
            judgement.require(scaled.len() == runs.len());
            judgement.at_most("tr G · η/2 at the end", largest(&scaled), 1.0);
            judgement.measure(format!("{}: tr G · η/2 at the end", name("SGD")), &scaled);
            medians.push(median(&traces));
        } else if medians.is_empty() {
            medians.push(median(&traces) / BELOW_GD);
        }
        let name = name(crate::runs::method_name(method));
        judgement.measure(format!("{name}: tr G at the end"), &traces);
    }
    judgement.require(medians.windows(2).all(|pair| pair[1] < pair[0]));
    judgement.need_runs(medians.len() >= 3);
    judgement
}
