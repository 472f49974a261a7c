//! The functions that stable networks on one input have.

use std::f64::consts::PI;

use crate::prelude::*;
use crate::protocol::univariate::{
    self, UNSTABLE_RATE, default_start_rates, drawn, noisy_rate, rate,
};

pub(super) static EXPERIMENT: Experiment = Experiment {
    id: "function_space",
    title: "One input: what a stable minimum looks like",
    shows: "Stability bounds the second derivative of the function: gradient descent ∫|f''|g (U1), \
            SGD ∫|f''|h with a larger weight h (U2), most where data are few. At the same learning \
            rate SGD's functions bend less than gradient descent's, and both bend less as the \
            learning rate grows. No interpolating function is stable for SGD beyond η_{max} (U3).\n\n\
            Stability smooths what was not smooth before, and no more: SGD fits noisy targets, and \
            the default start of PyTorch is so flat that its functions are smooth, far inside the \
            bound, at every learning rate tried. Bends outside of all inputs are free (h = 0), so \
            that nothing is said about x beyond them.",
    how: univariate::words,
    cells: univariate::cells,
    present,
    claims: &[
        ClaimRule::new(
            23,
            "On one input the functions that SGD converges to have 1 + 2∫|f''|h ≤ 2/η, and those of \
             gradient descent have 1 + 2∫|f''|g ≤ 2/η.",
            "U1, U2",
            judge_bounds,
        ),
        ClaimRule::new(
            24,
            "SGD's functions bend less as the learning rate grows, and less than those of gradient \
             descent at the same learning rate.",
            "U1, U2",
            judge_bends,
        )
        .needs(SEVERAL),
        ClaimRule::new(
            25,
            "With few data a large learning rate of SGD finds a better function than a small one.",
            "U2",
            judge_error,
        ),
        ClaimRule::new(
            26,
            "SGD does not converge beyond the learning rate at which the least trace of an \
             interpolating function turns; most minima of gradient descent break SGD's bound there \
             already where SGD converges.",
            "U2, U3",
            judge_least_trace,
        )
        .needs(SEVERAL),
    ],
};

/// Shares and medians over several seeds.
const SEVERAL: Requirement = Requirement { profile: Profile::Quick, seeds: 3 };

type Run<'r> = UnivariateRun<'r>;

impl UnivariateRun<'_> {
    fn last(&self, value: fn(&UnivariateMeasurement) -> f64) -> Option<f64> {
        self.result.last.as_ref().map(value)
    }

    fn trace_norm(&self) -> Option<f64> {
        self.last(|m| m.trace_norm)
    }

    /// `(1 + 2∫|f''|h) η/2`.
    fn scaled_trace_norm(&self) -> Option<f64> {
        Some((1.0 + 2.0 * self.trace_norm()?) * self.spec.learning_rate / 2.0)
    }

    /// `(1 + 2∫|f''|g) η/2`.
    fn scaled_lambda_max_norm(&self) -> Option<f64> {
        Some((1.0 + 2.0 * self.last(|m| m.lambda_max_norm)?) * self.spec.learning_rate / 2.0)
    }

    fn error(&self) -> Option<f64> {
        self.last(|m| m.error)
    }

    fn is_at(&self, rate: f64) -> bool {
        (self.spec.learning_rate / rate - 1.0).abs() < 1e-9
    }

    fn is_noisy(&self) -> bool {
        self.spec.problem.noise > 0.0
    }

    fn has_default_start(&self) -> bool {
        self.spec.problem.initial == UnivariateInitial::Framework
    }

    /// `η_max = 2/(1 + 2 LP)` (U3).
    fn largest_rate(&self) -> f64 {
        2.0 / (1.0 + 2.0 * self.result.least_trace_norm)
    }
}

/// The runs without noise from the spread start, on the grid and beyond.
fn main_runs<'r>(cells: &FinishedCells<'r>) -> Vec<Run<'r>> {
    only(&cells.univariate, |run| !run.is_noisy() && !run.has_default_start())
}

fn present(cells: &FinishedCells<'_>) -> Presentation {
    let all = &cells.univariate;
    let runs = main_runs(cells);
    let mut panels = Vec::new();
    for method in [SGD, GD] {
        for eta in drawn() {
            let chosen = only(&of_method(&runs, method), |run| run.is_at(eta));
            let title = format!("{}, η = {}", method_name(method), short_number(eta));
            panels.push(functions(&title, &chosen));
        }
    }
    let on_grid = only(&runs, |run| !run.is_at(UNSTABLE_RATE));
    let largest = median(&values(&on_grid, |run| Some(run.largest_rate())));
    let converged = at_rest(&on_grid);
    let lines = vec![bound(&on_grid), Reference::vertical("η_{max} (U3)", largest)];
    panels.push(rates_panel(&converged, "Second derivative", "∫|f''|h", Run::trace_norm, lines));
    let (title, label) = ("Error between the inputs", "mean of (f(x) − sin πx)²");
    panels.push(rates_panel(&converged, title, label, Run::error, Vec::new()));
    let lines = vec![Reference::horizontal("bound of SGD (U2)", 1.0)];
    let label = "(1 + 2∫|f''|h) · η/2";
    let title = "Share of SGD's bound";
    panels.push(rates_panel(&converged, title, label, Run::scaled_trace_norm, lines));
    for method in [SGD, GD] {
        let noisy = only(&of_method(all, method), Run::is_noisy);
        let eta = short_number(noisy_rate());
        let title = format!("{}, η = {eta}, noisy targets", method_name(method));
        panels.push(functions(&title, &noisy));
    }
    let [_, eta] = default_start_rates();
    let default = only(all, |run| run.has_default_start() && run.is_at(eta));
    panels.push(functions(&format!("SGD, η = {}, default start", short_number(eta)), &default));
    let title = "Functions at stable minima: SGD's bend less than GD's, and less as η grows";
    let note = "Functions: one line a seed, each on data of its own. Dots: converged runs. Lines: \
         their medians, with 95 % bootstrap intervals.";
    Presentation {
        table: table(all),
        figure: Figure::new(title, note, 3, panels),
        summary: summary(&on_grid),
    }
}

/// Dots and medians of a value against the learning rate.
fn rates_panel<'r>(
    runs: &[Run<'r>],
    title: &str,
    label: &str,
    value: impl Fn(&Run<'r>) -> Option<f64>,
    references: Vec<Reference>,
) -> Panel {
    let series = by_method(runs, TrainingRun::learning_rate, value);
    Panel::new(title, Axis::log("learning rate η"), Axis::log(label), series, references)
}

/// `1/η − ½`, the largest `∫|f''|h` at which SGD can be stable.
fn bound(runs: &[Run<'_>]) -> Reference {
    let rates = values(runs, |run| Some(run.spec.learning_rate));
    let (low, high) = (smallest(&rates), largest(&rates));
    let points = (0..=24).map(|k| low * libm::pow(high / low, f64::from(k) / 24.0));
    Reference::curve("1/η − ½ (SGD)", points.map(|eta| (eta, 1.0 / eta - 0.5)))
}

/// The data and the function of each run, with the function that made the data.
fn functions(title: &str, runs: &[Run<'_>]) -> Panel {
    let mut series = Vec::new();
    for run in runs {
        let style = if run.spec.method == GD { GD_STYLE } else { SGD_STYLE };
        let curve = curve_points().zip(run.result.curve.iter().copied());
        let curve: Vec<(f64, f64)> = curve.collect();
        if !curve.is_empty() {
            let line = Series::new(run.method_name(), style, Mark::ThinLine, curve);
            series.push(line.with_notes([run.origin()]));
        }
        let samples = run.result.samples.iter().copied();
        series.push(Series::new("data", Style(6), Mark::Points, samples));
    }
    let truth = curve_points().map(|x| (x, libm::sin(PI * x)));
    let truth = Reference::curve("sin πx", truth);
    let y = Axis::linear("f(x)").with_range(-2.0, 2.0);
    Panel::new(title, Axis::linear("x").with_range(-1.0, 1.0), y, series, vec![truth])
}

fn table(runs: &[Run<'_>]) -> Table {
    table!(runs, |run| {
        "method", "word", "SGD (batch size 1) or GD" => run.method_name();
        "learning_rate", "1", "learning rate η" => run.spec.learning_rate;
        "noise", "1", "standard deviation of the noise of the targets" => run.spec.problem.noise;
        "default_start", "yes or no", "from the default start of a framework"
            => run.has_default_start();
        "seed", "seed", "seed of data, start and batches" => run.spec.seed;
        "outcome", "word", "converged, out_of_steps or diverged" => outcome_name(run.result.outcome);
        "steps", "steps", "steps done" => run.result.steps;
        "clipped_steps", "steps", "steps whose gradient was clipped" => run.result.clipped_steps;
        "train_loss", "loss", "(1/2n) Σ r_i² on the training data" => run.last(|m| m.train_loss);
        "trace", "sharpness", "tr G, empirical Gauss–Newton matrix"
            => run.last(|m| m.empirical.trace);
        "lambda_max", "sharpness", "largest eigenvalue of G"
            => run.last(|m| m.empirical.lambda_max);
        "trace_norm", "1", "∫|f''|h (U2)" => run.trace_norm();
        "lambda_max_norm", "1", "∫|f''|g (U1)" => run.last(|m| m.lambda_max_norm);
        "error", "1", "mean of (f(x) − sin πx)² between the outermost inputs" => run.error();
        "error_with_outside", "1", "the same mean over [−1, 1]" => run.last(|m| m.error_with_outside);
        "largest_rate", "1", "η_max of U3 for these data" => run.largest_rate();
    })
}

fn summary(runs: &[Run<'_>]) -> Table {
    table!(&RunGroup::all(runs, [SGD, GD], TrainingRun::learning_rate), |g| {
        "method", "word", "SGD (batch size 1) or GD" => method_name(g.method);
        "learning_rate", "1", "learning rate η" => g.key;
        "converged", "runs", "runs that met the stopping rule" => at_rest(&g.runs).len();
        "runs", "runs", "runs" => g.runs.len();
        "steps", "steps", "median of the steps done" => g.median(|run| Some(run.result.steps as f64));
        "trace_norm", "1", "median of ∫|f''|h, converged runs"
            => median_value(&at_rest(&g.runs), Run::trace_norm);
        "scaled_trace_norm", "1", "median of (1 + 2∫|f''|h)η/2, converged runs"
            => median_value(&at_rest(&g.runs), Run::scaled_trace_norm);
        "scaled_lambda_max_norm", "1", "median of (1 + 2∫|f''|g)η/2, converged runs"
            => median_value(&at_rest(&g.runs), Run::scaled_lambda_max_norm);
        "error", "1", "median error, converged runs" => median_value(&at_rest(&g.runs), Run::error);
    })
}

fn judge_bounds(cells: &FinishedCells<'_>) -> Judgement {
    let runs = &cells.univariate;
    let mut judgement = Judgement::new(
        "every converged run, with and without noise: (1 + 2∫|f''|h) · η/2 ≤ 1 for SGD, (1 + \
         2∫|f''|g) · η/2 ≤ 1 for gradient descent",
        runs.len(),
    );
    let [sgd, gd] = [SGD, GD].map(|method| at_rest(&of_method(runs, method)));
    judgement.need_runs(!sgd.is_empty() && !gd.is_empty());
    let scaled = values(&sgd, Run::scaled_trace_norm);
    judgement.require(scaled.len() == sgd.len());
    judgement.at_most("SGD: (1 + 2∫|f''|h) · η/2", largest(&scaled), 1.0);
    judgement.measure("SGD: (1 + 2∫|f''|h) · η/2", &scaled);
    let scaled = values(&gd, Run::scaled_lambda_max_norm);
    judgement.require(scaled.len() == gd.len());
    judgement.at_most("GD: (1 + 2∫|f''|g) · η/2", largest(&scaled), 1.0);
    judgement.measure("GD: (1 + 2∫|f''|g) · η/2", &scaled);
    judgement
}

/// The ratios of `∫|f''|h` of gradient descent and of SGD, for the seeds where both converged.
fn bend_ratios(runs: &[Run<'_>], eta: f64) -> Vec<f64> {
    let [sgd, gd] =
        [SGD, GD].map(|method| only(&at_rest(&of_method(runs, method)), |run| run.is_at(eta)));
    let ratio = |run: &Run<'_>| {
        let other = gd.iter().find(|other| other.spec.seed == run.spec.seed)?;
        Some(other.trace_norm()? / run.trace_norm()?)
    };
    values(&sgd, ratio)
}

fn judge_bends(cells: &FinishedCells<'_>) -> Judgement {
    let runs = main_runs(cells);
    let mut judgement = Judgement::new(
        "converged runs: SGD's medians of ∫|f''|h fall with η from .0052 up; at .0118, .0268 and \
         .0611 gradient descent's is the larger one on every seed where both converged, with median \
         ratios ≥ 1.25, 1.7, 2.5",
        runs.len(),
    );
    let sgd = only(&at_rest(&of_method(&runs, SGD)), |run| run.spec.learning_rate > 0.9 * rate(2));
    let medians: Vec<f64> =
        medians(&sgd, Run::trace_norm).into_iter().map(|(_, median)| median).collect();
    judgement.need_runs(medians.len() >= 3);
    judgement.require(medians.windows(2).all(|pair| pair[1] < pair[0]));
    judgement.measure("SGD: medians of ∫|f''|h from η = .0052 up", &medians);
    for (index, least) in [(3, 1.25), (4, 1.7), (5, 2.5)] {
        let ratios = bend_ratios(&runs, rate(index));
        judgement.need_runs(!ratios.is_empty());
        judgement.at_least("∫|f''|h of GD over SGD's", smallest(&ratios), 1.0);
        judgement.at_least("median of ∫|f''|h of GD over SGD's", median(&ratios), least);
        let eta = short_number(rate(index));
        judgement.measure(format!("∫|f''|h of GD over SGD's, η = {eta}"), &ratios);
    }
    judgement
}

fn judge_error(cells: &FinishedCells<'_>) -> Judgement {
    let runs = at_rest(&of_method(&main_runs(cells), SGD));
    let mut judgement = Judgement::new(
        "SGD, converged runs: the median error at η = .001 is at least 10 times that at .139",
        runs.len(),
    );
    let [small, large] =
        [rate(0), rate(6)].map(|eta| values(&only(&runs, |run| run.is_at(eta)), Run::error));
    judgement.need_runs(!small.is_empty() && !large.is_empty());
    judgement.at_least("ratio of median errors", median(&small) / median(&large), 10.0);
    judgement.measure("error at η = .001", &small);
    judgement.measure("error at η = .139", &large);
    judgement
}

fn judge_least_trace(cells: &FinishedCells<'_>) -> Judgement {
    let runs = main_runs(cells);
    let mut judgement = Judgement::new(
        "no run of SGD converges at η ≥ η_{max} of its data; at η = .139 at least 60 % of gradient \
         descent's minima have (1 + 2∫|f''|h) · η/2 > 1",
        runs.len(),
    );
    let sgd = of_method(&runs, SGD);
    let beyond = only(&sgd, |run| run.spec.learning_rate >= run.largest_rate());
    let reached = values(&at_rest(&sgd), |run| Some(run.spec.learning_rate / run.largest_rate()));
    let gd = only(&at_rest(&of_method(&runs, GD)), |run| run.is_at(rate(6)));
    let scaled = values(&gd, Run::scaled_trace_norm);
    let broken = scaled.iter().filter(|value| **value > 1.0).count() as f64 / scaled.len() as f64;
    judgement.need_runs(!beyond.is_empty() && !reached.is_empty() && !gd.is_empty());
    judgement.require(at_rest(&beyond).is_empty());
    judgement.at_least("share beyond SGD's bound", broken, 0.6);
    judgement.measure("SGD, converged: η/η_{max}", &reached);
    judgement.measure("GD at η = .139: (1 + 2∫|f''|h) · η/2", &scaled);
    judgement.measure("GD at η = .139: share beyond SGD's bound", &[broken]);
    judgement
}
