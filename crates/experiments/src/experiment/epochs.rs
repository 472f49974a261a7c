//! Reshuffled epochs against independent draws, and short last batches.

use flatmin_optim::Sampling;

use crate::prelude::*;
use crate::protocol::epochs;

pub(super) static EXPERIMENT: Experiment = Experiment {
    id: "epochs",
    title: "Reshuffled epochs: what a data loader really draws",
    shows: "Data loaders do not draw independent batches: they cut a new random order of the \
            samples into batches. The edge of such epochs (S21) lies a few per cent above that of \
            independent draws, and SGD with either finds minima of nearly the same trace. At the \
            largest learning rate the difference shows: reshuffled SGD rests at its own edge, well \
            past that of independent draws.\n\nOne short batch at the end of an epoch changes more \
            than all of that. Its gradient is the mean over the few samples that are left. With a \
            last batch of one, SGD leaves a minimum at which it stays when that batch is dropped.",
    how: epochs::words,
    cells: epochs::cells,
    present,
    claims: &[
        ClaimRule::new(
            29,
            "The edge of reshuffled epochs is that of independent draws to a few per cent, except \
             where B = 1 and the learning rate is large: there reshuffled SGD rests at its own edge.",
            "S21",
            judge_edges,
        )
        .needs(Requirement { profile: Profile::Paper, seeds: 5 }),
        ClaimRule::new(
            30,
            "A short last batch of one lowers the edge of a minimum: SGD leaves it with the short \
             batch, and stays without.",
            "S21",
            judge_short,
        ),
    ],
};

type Run<'r> = EpochRun<'r>;

impl AtRest for EpochRun<'_> {
    fn at_rest(&self) -> bool {
        self.result.outcome == flatmin_optim::Outcome::Converged
    }

    fn origin(&self) -> String {
        origin(self.spec.learning_rate, self.spec.seed)
    }
}

impl EpochRun<'_> {
    fn rate(&self) -> f64 {
        self.spec.learning_rate
    }

    fn is_reshuffled(&self) -> bool {
        self.spec.sampling == Sampling::Reshuffling
    }

    fn trace(&self) -> Option<f64> {
        Some(self.result.last?.trace)
    }

    fn scaled_trace(&self) -> Option<f64> {
        Some(self.trace()? * self.rate() / 2.0)
    }

    /// `η*/η` of independent draws.
    fn independent(&self) -> Option<f64> {
        Some(self.result.last?.threshold / self.rate())
    }

    /// `η_RR/η`.
    fn reshuffled(&self) -> Option<f64> {
        Some(self.result.edge?.estimate / self.rate())
    }

    /// `η_RR/η*`.
    fn ratio(&self) -> Option<f64> {
        Some(self.result.edge?.estimate / self.result.last?.threshold)
    }

    /// The training runs, without those whose minimum is for the trials with a short batch.
    fn is_main(&self) -> bool {
        self.spec.short_batch.is_none()
    }
}

fn main_runs<'r>(cells: &FinishedCells<'r>) -> Vec<Run<'r>> {
    only(&cells.epochs, Run::is_main)
}

/// The runs with single samples.
fn singles<'r>(runs: &[Run<'r>]) -> Vec<Run<'r>> {
    only(runs, |run| run.spec.batch_size == 1)
}

/// The learning rates of the runs in ascending order.
fn rates(runs: &[Run<'_>]) -> Vec<f64> {
    group_by(runs, Run::rate).into_iter().map(|(rate, _)| rate).collect()
}

/// The largest learning rate.
fn top_rate(runs: &[Run<'_>]) -> f64 {
    rates(runs).last().copied().unwrap_or(f64::NAN)
}

fn is_same(a: f64, b: f64) -> bool {
    (a / b - 1.0).abs() < 1e-9
}

fn short_results<'r>(cells: &FinishedCells<'r>) -> Vec<(f64, &'r ShortBatchResult)> {
    let found = cells.epochs.iter();
    found
        .filter_map(|run| Some((run.spec.short_batch?.factor, run.result.short_batch.as_ref()?)))
        .collect()
}

const SAMPLINGS: [(bool, &str, Style); 2] =
    [(false, "independent", Style(0)), (true, "reshuffled", Style(1))];

fn present(cells: &FinishedCells<'_>) -> Presentation {
    let runs = main_runs(cells);
    let single = singles(&runs);
    let reshuffled = only(&single, Run::is_reshuffled);
    // The same runs for both edges.
    let studied = only(&reshuffled, |run| run.result.edge.is_some());
    let own = "its own edge η_{RR}/η";
    let mut at_edges = dots_and_medians(&studied, own, Style(2), Run::rate, Run::reshuffled);
    let draws = "edge of independent draws η*/η";
    at_edges.extend(dots_and_medians(&studied, draws, Style(3), Run::rate, Run::independent));
    let traces = SAMPLINGS.into_iter().flat_map(|(is_reshuffled, name, style)| {
        let of = only(&single, |run| run.is_reshuffled() == is_reshuffled);
        dots_and_medians(&of, name, style, Run::rate, Run::scaled_trace)
    });
    let eta = || Axis::log("learning rate η");
    let edge = || vec![Reference::horizontal("η", 1.0)];
    let panels = vec![
        Panel::new(
            "Reshuffled SGD, B = 1: where it rests",
            eta(),
            Axis::linear("edge / η"),
            at_edges,
            edge(),
        ),
        Panel::new(
            "Trace of the minima found, B = 1",
            eta(),
            Axis::linear("tr G · η/2"),
            traces.collect(),
            vec![Reference::horizontal("edge of independent draws (S2)", 1.0)],
        ),
        ratio_panel(&runs),
        departures_panel(cells),
    ];
    let title = "Reshuffling moves the edge by a few per cent; a short last batch lowers it much";
    Presentation {
        table: table(cells),
        figure: Figure::new(title, RUNS_NOTE, 2, panels),
        summary: summary(&runs),
    }
}

/// `η_RR/η*` against the batch size, with the intervals of the estimates.
fn ratio_panel(runs: &[Run<'_>]) -> Panel {
    let mut series = Vec::new();
    for (style, eta) in rates(runs).into_iter().enumerate() {
        let chosen = only(runs, |run| is_same(run.rate(), eta) && run.result.edge.is_some());
        let label = format!("η = {}", short_number(eta));
        let ends = chosen.iter().filter_map(|run| {
            let (edge, unit) = (run.result.edge?, run.result.last?.threshold);
            let x = run.spec.batch_size as f64;
            Some([(x, edge.lower / unit), (x, edge.upper / unit)])
        });
        let ends: Vec<(f64, f64)> = ends.flatten().collect();
        series.push(Series::new(label.clone(), Style(style + 4), Mark::Intervals, ends));
        let size = |run: &Run<'_>| run.spec.batch_size as f64;
        series.extend(dots(&chosen, &label, Style(style + 4), size, Run::ratio));
    }
    Panel::new(
        "Its edge over that of independent draws",
        Axis::log("batch size B"),
        Axis::linear("η_{RR}/η*"),
        series,
        vec![Reference::horizontal("the same", 1.0)],
    )
}

/// Distances from the minimum after the trials.
fn departures_panel(cells: &FinishedCells<'_>) -> Panel {
    /// Beyond it every run has left.
    const FURTHEST: f64 = 1e9;
    let found = short_results(cells);
    let points = |x: f64, value: fn(&ShortBatchResult) -> &[f64]| -> Vec<(f64, f64)> {
        let all = found.iter().flat_map(|(_, result)| value(result));
        all.map(|ratio| (x, ratio.min(FURTHEST))).collect()
    };
    let series = vec![
        Series::new("", Style(3), Mark::Points, points(0.0, |r| &r.departures)),
        Series::new("", Style(2), Mark::Points, points(1.0, |r| &r.departures_without)),
    ];
    let factor = found.first().map_or(f64::NAN, |(factor, _)| *factor);
    Panel::new(
        format!("200 epochs at {factor} η*(B)"),
        Axis::categories("last batch of one", &["kept", "dropped"]),
        Axis::log("distance from the minimum / at the start"),
        series,
        vec![Reference::horizontal("start", 1.0)],
    )
}

fn table(cells: &FinishedCells<'_>) -> Table {
    table!(&cells.epochs, |run| {
        "samples", "samples", "number n of training samples" => run.spec.problem.sample_count;
        "batch_size", "samples", "samples per step" => run.spec.batch_size;
        "sampling", "word", "how batches are drawn" => sampling_name(run.spec.sampling);
        "learning_rate", "1", "learning rate η" => run.spec.learning_rate;
        "seed", "seed", "seed of teacher, data, start and batches" => run.spec.seed;
        "outcome", "word", "converged, out_of_steps or diverged" => outcome_name(run.result.outcome);
        "steps", "steps", "steps done" => run.result.steps;
        "train_loss", "loss", "(1/2n) Σ r_i² on the training data"
            => run.result.last.map(|m| m.train_loss);
        "trace", "sharpness", "tr G" => run.trace();
        "lambda_max", "sharpness", "largest eigenvalue of G" => run.result.last.map(|m| m.lambda_max);
        "threshold", "1", "exact η*(B) of independent draws" => run.result.last.map(|m| m.threshold);
        "epoch_edge", "1", "estimated edge of reshuffled epochs, where it was computed"
            => run.result.edge.map(|e| e.estimate);
        "epoch_edge_lower", "1", "lower end of its 95 % interval" => run.result.edge.map(|e| e.lower);
        "epoch_edge_upper", "1", "its upper end" => run.result.edge.map(|e| e.upper);
        "short_threshold", "1", "η*(B) with the batch size of the trials"
            => run.result.short_batch.as_ref().map(|s| s.threshold);
        "short_edge", "1", "estimated edge of epochs with a last batch of one"
            => run.result.short_batch.as_ref().map(|s| s.edge.estimate);
        "short_edge_upper", "1", "upper end of its 95 % interval"
            => run.result.short_batch.as_ref().map(|s| s.edge.upper);
        "short_median_departure", "1", "median distance after the trials over that before them"
            => run.result.short_batch.as_ref().map(|s| median(&s.departures));
        "dropped_median_departure", "1", "the same where the last batch is dropped"
            => run.result.short_batch.as_ref().map(|s| median(&s.departures_without));
    })
}

fn summary(runs: &[Run<'_>]) -> Table {
    type Row<'r> = (f64, &'static str, f64, Vec<Run<'r>>);
    let mut rows: Vec<Row<'_>> = Vec::new();
    for (size, of_size) in group_by(runs, |run| run.spec.batch_size as f64) {
        for (is_reshuffled, name, _) in SAMPLINGS {
            let of = only(&of_size, |run| run.is_reshuffled() == is_reshuffled);
            rows.extend(group_by(&of, Run::rate).into_iter().map(|(eta, g)| (size, name, eta, g)));
        }
    }
    table!(&rows, |(size, name, eta, runs)| {
        "batch_size", "samples", "samples per step" => *size;
        "sampling", "word", "how batches are drawn" => *name;
        "learning_rate", "1", "learning rate η" => *eta;
        "converged", "runs", "runs that met the stopping rule" => at_rest(runs).len();
        "runs", "runs", "runs" => runs.len();
        "steps", "steps", "median of the steps done"
            => median_value(runs, |run| Some(run.result.steps as f64));
        "scaled_trace", "1", "median of tr G · η/2" => median_value(runs, Run::scaled_trace);
        "independent_edge", "1", "median of η*/η" => median_value(runs, Run::independent);
        "reshuffled_edge", "1", "median of η_RR/η, where it was computed"
            => median_value(runs, Run::reshuffled);
        "edge_ratio", "1", "median of η_RR/η*, where it was computed"
            => median_value(runs, Run::ratio);
    })
}

fn judge_edges(cells: &FinishedCells<'_>) -> Judgement {
    let runs = main_runs(cells);
    let mut judgement = Judgement::new(
        "single samples, the two smaller η: the medians of η_{RR}/η* lie in [.85, 1.2], and the \
         median traces of converged runs with reshuffled and independent draws differ by ≤ 8 %; \
         larger batches: the medians of η_{RR}/η* lie in [.85, 1.25]; single samples at the largest η, \
         reshuffled and converged: the median of η_{RR}/η lies in [.83, 1.15], that of η*/η is lower \
         by ≥ .08",
        runs.len(),
    );
    let single = singles(&runs);
    let top = top_rate(&single);
    let low = only(&single, |run| !is_same(run.rate(), top));
    for eta in rates(&low) {
        let ratios = values(&only(&low, |run| is_same(run.rate(), eta)), Run::ratio);
        judgement.need_runs(!ratios.is_empty());
        judgement.all_near("B = 1: median of η_{RR}/η*", &[median(&ratios)], 1.0, [0.85, 1.2]);
        judgement.measure(format!("B = 1, η = {}: η_{{RR}}/η*", short_number(eta)), &ratios);
    }
    let mut traces = Vec::new();
    for eta in rates(&low) {
        let medians = SAMPLINGS.map(|(is_reshuffled, ..)| {
            let of = |run: &Run<'_>| {
                run.is_reshuffled() == is_reshuffled && is_same(run.rate(), eta) && run.at_rest()
            };
            median(&values(&only(&low, of), Run::trace))
        });
        traces.push(medians[1] / medians[0]);
    }
    judgement.all_near("B = 1: ratio of traces", &traces, 1.0, [0.92, 1.08]);
    judgement.measure("B = 1, smaller η: trace, reshuffled over independent", &traces);
    let large = only(&runs, |run| run.spec.batch_size > 1);
    for (size, runs) in group_by(&large, |run| run.spec.batch_size as f64) {
        let ratios = values(&runs, Run::ratio);
        judgement.need_runs(!ratios.is_empty());
        judgement.all_near("B > 1: median of η_{RR}/η*", &[median(&ratios)], 1.0, [0.85, 1.25]);
        judgement.measure(format!("B = {size}, largest η: η_{{RR}}/η*"), &ratios);
    }
    let top = only(&single, |run| is_same(run.rate(), top) && run.is_reshuffled() && run.at_rest());
    judgement.need_runs(top.len() >= 2);
    let (own, independent) = (values(&top, Run::reshuffled), values(&top, Run::independent));
    judgement.all_near("median of η_{RR}/η", &[median(&own)], 1.0, [0.83, 1.15]);
    let lower = median(&own) - median(&independent);
    judgement.at_least("η_{RR}/η less η*/η", lower, 0.08);
    judgement.measure("B = 1, largest η, reshuffled: η_{RR}/η", &own);
    judgement.measure("B = 1, largest η, reshuffled: η*/η", &independent);
    judgement
}

fn judge_short(cells: &FinishedCells<'_>) -> Judgement {
    let found = short_results(cells);
    let mut judgement = Judgement::new(
        "at every minimum tried, at .9 η*(B): the 95 % interval of the edge of epochs with a last \
         batch of one ends below .9 η*(B); at the end of every trial SGD is more than 10 times as \
         far from the minimum as at its start with the short batch, and at most 1.5 times without",
        found.len(),
    );
    judgement.need_runs(!found.is_empty());
    let edges: Vec<f64> = found.iter().map(|(_, r)| r.edge.estimate / r.threshold).collect();
    let upper: Vec<f64> = found.iter().map(|(_, r)| r.edge.upper / r.threshold).collect();
    let with: Vec<f64> = found.iter().flat_map(|(_, r)| r.departures.iter().copied()).collect();
    let without: Vec<f64> =
        found.iter().flat_map(|(_, r)| r.departures_without.iter().copied()).collect();
    for (factor, r) in &found {
        judgement.at_most("upper end of the edge / η*(B)", r.edge.upper / r.threshold, *factor);
    }
    judgement.at_least("distance with the short batch", smallest(&with), 10.0);
    judgement.at_most("distance without it", largest(&without), 1.5);
    judgement.measure("edge with the short batch / η*(B)", &edges);
    judgement.measure("upper end of its interval / η*(B)", &upper);
    judgement.measure("distance / start, with the short batch", &with);
    judgement.measure("distance / start, without it", &without);
    judgement
}
