//! Sharpness of the minima of ReLU networks against the batch size, and the bounds at one minimum.

use flatmin_optim::Sampling;
use flatmin_theory::trace_bound;

use crate::prelude::*;
use crate::protocol::relu;

pub(super) static EXPERIMENT: Experiment = Experiment {
    id: "batch_size",
    title: "ReLU networks: sharpness of the minima found against batch size",
    shows: "At a fixed learning rate the noise, and with it the bound tr G ≤ 2/(pη) (S2), weakens \
            as the batch grows: p = 1/B with replacement, (n − B)/(B(n − 1)) without. The minima \
            found become sharper, of larger norm, and generalise worse, up to gradient descent at \
            B = n, whose trace nothing bounds. For one minimum the exact threshold η*(B) is set \
            beside every bound: the trace (S2) is close for the smallest batches and the largest \
            eigenvalue (S5) for the largest ones; the spectral bound (S6) joins the two.",
    how: |settings| {
        let [sgd, epochs] = relu::largest_steps(settings.profile);
        format!(
            "{}\n\nHere the learning rate is η = {}, and batches of B samples are drawn \
             independently from step to step, with or without replacement inside a batch. All \
             samples without replacement are gradient descent. A run ends after {sgd} steps or \
             {epochs} epochs, whichever comes first.",
            relu::words(settings),
            short_number(relu::batch_learning_rate(settings)),
        )
    },
    cells: relu::batch_sizes,
    present,
    claims: &[ClaimRule::new(
        10,
        "The noise of larger batches bounds the trace less: at a fixed learning rate SGD finds \
         sharper minima the larger its batches are, within the bound of each.",
        "S2",
        judge,
    )],
};

/// The two samplings that the closed forms cover, with their names and styles.
const SAMPLINGS: [(Sampling, &str, Style); 2] = [
    (Sampling::WithReplacement, "with replacement", Style(0)),
    (Sampling::WithoutReplacement, "without replacement", Style(1)),
];

/// Batch size and sampling of a run; gradient descent takes all samples without replacement.
fn drawing(run: &ShallowRun<'_>) -> (usize, Sampling) {
    match run.spec.method {
        Method::GradientDescent => (run.spec.problem.sample_count(), Sampling::WithoutReplacement),
        Method::Sgd { batch_size, sampling } => (batch_size, sampling),
    }
}

fn batch_size(run: &ShallowRun<'_>) -> f64 {
    drawing(run).0 as f64
}

/// The noise coefficient p; `None` where the closed forms do not cover the sampling.
fn noise_coefficient(run: &ShallowRun<'_>) -> Option<f64> {
    let (size, sampling) = drawing(run);
    theory_batch(size, sampling).ok()??.noise_coefficient(run.spec.problem.sample_count()).ok()
}

/// `tr G · pη/2` at the end: above 1 the minimum is unstable.
fn noise_scaled_trace(run: &ShallowRun<'_>) -> Option<f64> {
    Some(run.trace()? * noise_coefficient(run)? * run.spec.learning_rate / 2.0)
}

/// The runs of each sampling. A single sample is drawn in the same way by both.
fn by_sampling<'r>(
    runs: &[ShallowRun<'r>],
) -> [(Sampling, &'static str, Style, Vec<ShallowRun<'r>>); 2] {
    SAMPLINGS.map(|(sampling, name, style)| {
        let of_sampling = |run: &ShallowRun<'_>| {
            let (size, drawn) = drawing(run);
            size == 1 || drawn == sampling
        };
        (sampling, name, style, only(runs, of_sampling))
    })
}

/// The learning rate against B at which the bound S2 turns, for the runs of one sampling.
fn bound_curve(runs: &[ShallowRun<'_>], label: &str) -> Reference {
    let points = group_by(runs, batch_size).into_iter().filter_map(|(size, group)| {
        let run = group.first()?;
        // 2/(pη): S2 with the roles of learning rate and trace exchanged.
        let bound = trace_bound(run.spec.learning_rate, noise_coefficient(run)?);
        bound.is_finite().then_some((size, bound))
    });
    Reference::curve(label, points)
}

/// The bounds on the learning rate that are set beside the exact threshold.
const BOUNDS_BESIDE: [(&str, Style, BatchBound); 6] = [
    ("S2: trace", Style(2), |b| b.s2),
    ("S3: Frobenius, sharp", Style(3), |b| b.s3_sharp),
    ("S4: aligned noise", Style(4), |b| b.s4),
    ("S5: λ_{max}", Style(5), |b| b.s5),
    ("S6: spectrum", Style(6), |b| b.s6),
    ("S7: sufficient", Style(7), |b| b.s7),
];

/// The runs with a single sample a step whose minimum was studied for batches of every size.
fn fixed_minima<'r>(runs: &[ShallowRun<'r>]) -> Vec<(u64, &'r StabilityResult)> {
    let single = runs.iter().filter(|run| drawing(run).0 == 1);
    let studied = single.filter_map(|run| Some((run.spec.seed, run.result.study.as_deref()?)));
    let sizes = |study: &StabilityResult| study.batches.iter().map(|batch| batch.batch_size).max();
    let largest = runs.iter().map(|run| drawing(run).0).max();
    studied.filter(|(_, study)| sizes(study) == largest).collect()
}

/// The batches of a fixed minimum that are drawn in one way. A single sample is drawn in the same
/// way by both samplings.
fn drawn(study: &StabilityResult, sampling: Sampling) -> impl Iterator<Item = &BatchThresholds> {
    let batches = study.batches.iter();
    batches.filter(move |batch| batch.batch_size == 1 || batch.sampling == sampling)
}

/// A value against B at a fixed minimum.
fn over_sizes(
    study: Option<&StabilityResult>,
    sampling: Sampling,
    value: impl Fn(&BatchThresholds) -> Option<f64>,
) -> Vec<(f64, f64)> {
    let batches = study.into_iter().flat_map(|study| drawn(study, sampling));
    batches.filter_map(|batch| Some((batch.batch_size as f64, value(batch)?))).collect()
}

fn size_axis() -> Axis {
    Axis::log("batch size B")
}

/// The exact threshold of one minimum against B.
fn threshold_panel(study: Option<&StabilityResult>) -> Panel {
    let thresholds = |sampling| over_sizes(study, sampling, |batch| Some(batch.threshold()));
    let series = SAMPLINGS.map(|(sampling, name, style)| {
        Series::new(name, style, Mark::LineAndPoints, thresholds(sampling))
    });
    let mut references = Vec::new();
    if let Some(single) = study.and_then(StabilityResult::single) {
        let at_one = single.threshold();
        let sizes = thresholds(SAMPLINGS[0].0).into_iter();
        references.push(Reference::curve("B η*(1)", sizes.map(|(size, _)| (size, size * at_one))));
        let gd = |bound| Reference::horizontal("2/λ_{max}: gradient descent", bound);
        references.extend(single.s5.map(gd));
    }
    let title = "The exact threshold of one minimum";
    Panel::new(title, size_axis(), Axis::log("η*(B)"), series.to_vec(), references)
}

/// Every bound over the exact threshold of one minimum, against B.
fn bounds_panel(study: Option<&StabilityResult>) -> Panel {
    let mut series = Vec::new();
    for (label, style, bound) in BOUNDS_BESIDE {
        let scaled = |batch: &BatchThresholds| Some(bound(batch)? / batch.threshold());
        let [(with, ..), (without, ..)] = SAMPLINGS;
        for (mark, sampling) in [(Mark::Line, with), (Mark::OpenPoints, without)] {
            series.push(Series::new(label, style, mark, over_sizes(study, sampling, scaled)));
        }
    }
    let title = "Its bounds (hollow: without replacement)";
    let exact = vec![Reference::horizontal("exact", 1.0)];
    Panel::new(title, size_axis(), Axis::log("bound / η*(B)"), series, exact)
}

fn present(cells: &FinishedCells<'_>) -> Presentation {
    let runs = &cells.shallow;
    let rate = runs.first().map_or(f64::NAN, |run| run.spec.learning_rate);
    let by_sampling = by_sampling(runs);
    let panel = |title: &str, y, value: fn(&ShallowRun<'_>) -> Option<f64>, references| {
        let series = by_sampling.iter().flat_map(|(_, name, style, runs)| {
            dots_and_medians(runs, name, *style, batch_size, value)
        });
        Panel::new(title, size_axis(), y, series.collect(), references)
    };
    let [(.., with), (.., without)] = &by_sampling;
    let fixed = fixed_minima(runs);
    let study = fixed.first().map(|(_, study)| *study);
    let panels = vec![
        panel(
            "Trace of the minima found",
            Axis::log("tr G"),
            |run| Some(run.result.last?.empirical.trace),
            vec![
                bound_curve(with, "2B/η (S2)"),
                bound_curve(without, "2/(pη) without replacement (S2)"),
            ],
        ),
        panel(
            "The same in units of its bound",
            Axis::linear("tr G · pη/2"),
            noise_scaled_trace,
            vec![Reference::horizontal("stable below 1 (S2)", 1.0)],
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
            vec![Reference::horizontal("zero function", 1.0)],
        ),
        threshold_panel(study),
        bounds_panel(study),
    ];
    let title = format!(
        "Larger batches find sharper minima of larger norm at the same learning rate η = {}",
        short_number(rate)
    );
    let subtitle = format!(
        "{RUNS_NOTE} The largest batch without replacement is GD. The last two panels are \
         of one minimum, which the first run with B = 1 found."
    );
    Presentation {
        table: table(runs, &fixed),
        figure: Figure::new(title, subtitle, 3, panels),
        summary: summary(runs, study),
    }
}

/// The table of runs, with how their batches were drawn, and what such batches do at the minimum
/// that the run with a single sample a step and the same seed found.
fn table(runs: &[ShallowRun<'_>], fixed: &[(u64, &StabilityResult)]) -> Table {
    let fixed = |run: &ShallowRun<'_>, value: BatchBound| {
        let (_, study) = fixed.iter().find(|(seed, _)| *seed == run.spec.seed)?;
        let (size, sampling) = drawing(run);
        value(drawn(study, sampling).find(|batch| batch.batch_size == size)?)
    };
    let mut table = run_table(runs);
    let drawings = table!(runs, |run| {
        "batch_size", "samples", "samples per step; all of them for GD" => drawing(run).0;
        "sampling", "word", "how a batch is drawn; any for a single sample" => match drawing(run) {
            (1, _) => "any".to_owned(),
            (_, sampling) => sampling_name(sampling),
        };
        "noise_coefficient", "1", "p of the batch" => noise_coefficient(run);
        "noise_scaled_trace", "1", "tr G · pη/2" => noise_scaled_trace(run);
    });
    table.insert_columns(1, drawings);
    let bounds = table!(runs, |run| {
        "fixed_threshold_lower", "1", "lower end of η* for such batches at the minimum that B = 1 \
            with the same seed found" => fixed(run, |b| b.threshold_lower);
        "fixed_threshold_upper", "1", "its upper end" => fixed(run, |b| b.threshold_upper);
        "fixed_s2", "1", "learning rate at which the bound S2 turns there" => fixed(run, |b| b.s2);
        "fixed_s3", "1", "the same for S3" => fixed(run, |b| b.s3);
        "fixed_s3_sharp", "1", "for S3, sharp form" => fixed(run, |b| b.s3_sharp);
        "fixed_s4", "1", "for S4" => fixed(run, |b| b.s4);
        "fixed_s5", "1", "for S5" => fixed(run, |b| b.s5);
        "fixed_s6", "1", "for S6" => fixed(run, |b| b.s6);
        "fixed_s7", "1", "for S7" => fixed(run, |b| b.s7);
    });
    table.insert_columns(table.columns.len(), bounds);
    table
}

/// Medians for each sampling and batch size, beside the exact threshold of one minimum.
fn summary(runs: &[ShallowRun<'_>], study: Option<&StabilityResult>) -> Table {
    type Row<'r> = (Sampling, &'static str, f64, Vec<ShallowRun<'r>>);
    let rows: Vec<Row<'_>> = by_sampling(runs)
        .into_iter()
        .flat_map(|(sampling, name, _, runs)| {
            let groups = group_by(&runs, batch_size).into_iter();
            groups.map(move |(size, runs)| (sampling, name, size, runs))
        })
        .collect();
    let fixed = |sampling, size: f64| -> Option<f64> {
        let mut batches = drawn(study?, sampling);
        let batch = batches.find(|batch| (batch.batch_size as f64).total_cmp(&size).is_eq());
        batch.map(BatchThresholds::threshold)
    };
    table!(&rows, |(sampling, name, size, runs)| {
        "sampling", "word", "how a batch is drawn" => *name;
        "batch_size", "samples", "samples per step; all without replacement are GD" => *size;
        "noise_coefficient", "1", "p of the batch" => median_value(runs, noise_coefficient);
        "converged", "runs", "runs that met the stopping rule" => at_rest(runs).len();
        "runs", "runs", "runs" => runs.len();
        "steps", "steps", "median of the steps done"
            => median_value(runs, |run| Some(run.result.steps as f64));
        "trace", "sharpness", "median tr G" => median_value(runs, ShallowRun::trace);
        "noise_scaled_trace", "1", "median of tr G · pη/2"
            => median_value(runs, noise_scaled_trace);
        "path_norm", "norm", "median path norm" => median_value(runs, ShallowRun::norm);
        "relative_test_error", "1", "median test loss over that of the zero function"
            => median_value(runs, |run| run.result.relative_test_error());
        "fixed_threshold", "1", "exact η*(B) of the minimum of the first run with B = 1"
            => fixed(*sampling, *size);
    })
}

fn judge(cells: &FinishedCells<'_>) -> Judgement {
    let mut judgement = Judgement::new(
        "tr G · pη/2 ≤ 1 for every converged run; for both samplings the median of tr G over the \
         runs grows with every increase of B",
        cells.shallow.len(),
    );
    for (_, name, _, runs) in by_sampling(&cells.shallow) {
        let mut medians = Vec::new();
        for (size, group) in group_by(&runs, batch_size) {
            medians.push(median(&values(&group, ShallowRun::trace)));
            let converged = at_rest(&group);
            let scaled = values(&converged, noise_scaled_trace);
            // Every run that came to rest must have a number, and that number obey the bound.
            judgement.require(scaled.len() == converged.len());
            for value in &scaled {
                judgement.at_most(format!("B = {size}, {name}: tr G · pη/2"), *value, 1.0);
            }
            // A single sample a step is the business of claim 1, at every learning rate.
            judgement.need_runs(size <= 1.0 || !scaled.is_empty());
            judgement.measure(format!("B = {size}, {name}: tr G · pη/2"), &scaled);
        }
        judgement.require(medians.windows(2).all(|pair| pair[0] < pair[1]));
        judgement.measure(format!("{name}: median tr G over the batch sizes"), &medians);
    }
    judgement
}
