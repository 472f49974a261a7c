//! Training runs in tables and figures: groups, medians, dots, and the tables of shallow networks.

use flatmin_figures::{Axis, Figure, Mark, Panel, Reference, Series, Style};
use flatmin_optim::{Method, Outcome, Sampling};

use crate::bootstrap::interval;
use crate::cell::{BatchThresholds, Measurement, Problem};
use crate::finished::{DeepRun, SensingRun, ShallowRun, UnivariateRun};
use crate::framework::Presentation;
use crate::protocol::{GD, SGD};
use crate::statistics::{group_by, median, median_of};
use crate::table::{Table, short_number, table};

pub(crate) const SGD_STYLE: Style = Style(0);
pub(crate) const GD_STYLE: Style = Style(1);
pub(crate) const RUNS_NOTE: &str = "Dots: one run each (hollow: stopping rule not met). Lines: \
                                    medians over the runs, with 95 % bootstrap intervals.";

/// A bound of one minimum for one way of drawing batches; absent where infinite.
pub(crate) type BatchBound = fn(&BatchThresholds) -> Option<f64>;

/// A result that is at rest, or that stopped before.
pub(crate) trait AtRest: Copy {
    /// Says that training met the stopping rule.
    fn at_rest(&self) -> bool;

    /// Where it comes from, for a pointer on its point.
    fn origin(&self) -> String;
}

/// A training run of any network.
pub(crate) trait TrainingRun: AtRest {
    fn method(&self) -> Method;

    /// The initial learning rate η.
    fn learning_rate(&self) -> f64;

    /// The conventional name of the method.
    fn method_name(&self) -> &'static str {
        method_name(self.method())
    }
}

/// Reads what every training run has from its cell.
macro_rules! training_run {
    ($run:ident) => {
        impl AtRest for $run<'_> {
            fn at_rest(&self) -> bool {
                self.result.outcome == Outcome::Converged
            }

            fn origin(&self) -> String {
                origin(self.spec.learning_rate, self.spec.seed)
            }
        }

        impl TrainingRun for $run<'_> {
            fn method(&self) -> Method {
                self.spec.method
            }

            fn learning_rate(&self) -> f64 {
                self.spec.learning_rate
            }
        }
    };
}

training_run!(ShallowRun);
training_run!(DeepRun);
training_run!(SensingRun);
training_run!(UnivariateRun);

impl ShallowRun<'_> {
    pub(crate) fn is_relu(&self) -> bool {
        matches!(self.spec.problem, Problem::Relu(_))
    }

    /// `tr G · η/2` at the end, with the initial learning rate: above 1 the minimum is unstable.
    pub(crate) fn scaled_trace(&self) -> Option<f64> {
        Some(self.trace()? * self.spec.learning_rate / 2.0)
    }

    /// `λ_max(G) · η/2` at the end.
    pub(crate) fn scaled_lambda_max(&self) -> Option<f64> {
        Some(self.result.last?.empirical.lambda_max * self.spec.learning_rate / 2.0)
    }

    /// A measurement at the end; `None` for a run that diverged.
    pub(crate) fn end(&self, value: fn(&Measurement) -> f64) -> Option<f64> {
        self.result.last.as_ref().map(value)
    }

    pub(crate) fn trace(&self) -> Option<f64> {
        self.end(|m| m.empirical.trace)
    }

    /// Path norm (ReLU) or ℓ1 norm of β (diagonal) at the end.
    pub(crate) fn norm(&self) -> Option<f64> {
        self.end(|m| m.norm)
    }
}

impl DeepRun<'_> {
    /// `2/η`.
    pub(crate) fn edge(&self) -> f64 {
        2.0 / self.spec.learning_rate
    }

    /// `tr G · η/2` at the end.
    pub(crate) fn scaled_trace(&self) -> Option<f64> {
        Some(self.result.last?.empirical.trace / self.edge())
    }

    /// Test loss at the end over that of the zero function.
    pub(crate) fn relative_test_error(&self) -> Option<f64> {
        Some(self.result.last?.test_loss / self.result.zero_test_loss)
    }
}

/// Learning rate and seed of a run.
pub(crate) fn origin(learning_rate: f64, seed: u64) -> String {
    format!("η = {}, seed {seed}", short_number(learning_rate))
}

pub(crate) fn method_name(method: Method) -> &'static str {
    match method {
        Method::GradientDescent => "GD",
        Method::Sgd { .. } => "SGD",
    }
}

pub(crate) fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Converged => "converged",
        Outcome::OutOfSteps => "out_of_steps",
        Outcome::Diverged => "diverged",
    }
}

/// The name of a sampling in tables.
pub(crate) fn sampling_name(sampling: Sampling) -> String {
    sampling.name().replace('-', "_")
}

/// The runs for which `keep` is true.
pub(crate) fn only<T: Copy>(runs: &[T], keep: impl Fn(&T) -> bool) -> Vec<T> {
    runs.iter().copied().filter(|run| keep(run)).collect()
}

/// The runs that met the stopping rule.
pub(crate) fn at_rest<T: AtRest>(runs: &[T]) -> Vec<T> {
    only(runs, T::at_rest)
}

/// The runs of one method.
pub(crate) fn of_method<T: TrainingRun>(runs: &[T], method: Method) -> Vec<T> {
    only(runs, |run| run.method() == method)
}

/// The values of the runs that have one.
pub(crate) fn values<T>(runs: &[T], value: impl Fn(&T) -> Option<f64>) -> Vec<f64> {
    runs.iter().filter_map(value).collect()
}

/// The median over the runs that have a value.
pub(crate) fn median_value<T>(runs: &[T], value: impl Fn(&T) -> Option<f64>) -> Option<f64> {
    median_of(values(runs, value))
}

/// Medians of `value` over the runs with the same learning rate that have one.
pub(crate) fn medians<T: TrainingRun>(
    runs: &[T],
    value: impl Fn(&T) -> Option<f64>,
) -> Vec<(f64, f64)> {
    medians_by(runs, T::learning_rate, value)
}

fn medians_by<T: Copy>(
    runs: &[T],
    key: impl Fn(&T) -> f64,
    value: impl Fn(&T) -> Option<f64>,
) -> Vec<(f64, f64)> {
    let groups = group_by(runs, key).into_iter();
    groups.filter_map(|(key, group)| Some((key, median_value(&group, &value)?))).collect()
}

/// Runs of one method that agree in a number, such as the learning rate.
pub(crate) struct RunGroup<T> {
    pub(crate) method: Method,
    pub(crate) key: f64,
    pub(crate) runs: Vec<T>,
}

impl<T: TrainingRun> RunGroup<T> {
    /// The groups of each method in turn, in ascending order of `key`.
    pub(crate) fn all(runs: &[T], methods: [Method; 2], key: impl Fn(&T) -> f64) -> Vec<Self> {
        let of = |method| {
            let groups = group_by(&of_method(runs, method), &key).into_iter();
            groups.map(move |(key, runs)| Self { method, key, runs })
        };
        methods.into_iter().flat_map(of).collect()
    }

    /// The median over the runs that have a value.
    pub(crate) fn median(&self, value: impl Fn(&T) -> Option<f64>) -> Option<f64> {
        median_value(&self.runs, value)
    }
}

/// Every run as a dot (hollow where the stopping rule was not met), and the line of medians.
pub(crate) fn dots_and_medians<T: AtRest>(
    runs: &[T],
    label: &str,
    style: Style,
    x: impl Fn(&T) -> f64,
    y: impl Fn(&T) -> Option<f64>,
) -> Vec<Series> {
    let dots = |mark: Mark, at_rest: bool| {
        let chosen = runs.iter().filter(|run| run.at_rest() == at_rest);
        let drawn = chosen.filter_map(|run| Some(((x(run), y(run)?), run.origin())));
        let (points, notes): (Vec<(f64, f64)>, Vec<String>) = drawn.unzip();
        Series::new(label, style, mark, points).with_notes(notes)
    };
    let [medians, bars] = medians_with_bars(runs, label, style, &x, &y);
    let series = [dots(Mark::Points, true), dots(Mark::OpenPoints, false), bars, medians];
    series.into_iter().filter(|series| !series.points.is_empty()).collect()
}

/// The line of medians of `y`, and the bars of their bootstrap intervals.
pub(crate) fn medians_with_bars<T: Copy>(
    runs: &[T],
    label: &str,
    style: Style,
    x: impl Fn(&T) -> f64,
    y: impl Fn(&T) -> Option<f64>,
) -> [Series; 2] {
    let groups = group_by(runs, x).into_iter().map(|(at, group)| (at, values(&group, &y)));
    centres_with_bars(groups, label, style, ("median", median))
}

/// The line of a named centre of each group of values, and the bars of its bootstrap intervals.
pub(crate) fn centres_with_bars(
    groups: impl IntoIterator<Item = (f64, Vec<f64>)>,
    label: &str,
    style: Style,
    (name, centre): (&str, fn(&[f64]) -> f64),
) -> [Series; 2] {
    let (mut points, mut ends, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for (at, values) in groups.into_iter().filter(|(_, values)| !values.is_empty()) {
        points.push((at, centre(&values)));
        let interval = interval(&values, centre);
        ends.extend(interval.into_iter().flatten().map(|end| (at, end)));
        let words = interval.map_or_else(String::new, |[low, high]| {
            format!(", 95 % [{}, {}]", short_number(low), short_number(high))
        });
        notes.push(format!("{name}{words}"));
    }
    [
        Series::new(label, style, Mark::LineAndPoints, points).with_notes(notes),
        Series::new(label, style, Mark::Intervals, ends),
    ]
}

/// Dots without a line of medians.
pub(crate) fn dots<T: AtRest>(
    runs: &[T],
    label: &str,
    style: Style,
    x: impl Fn(&T) -> f64,
    y: impl Fn(&T) -> Option<f64>,
) -> Vec<Series> {
    without_medians(dots_and_medians(runs, label, style, x, y))
}

/// The series without lines of medians and their bars.
pub(crate) fn without_medians(mut series: Vec<Series>) -> Vec<Series> {
    series.retain(|series| !matches!(series.mark, Mark::LineAndPoints | Mark::Intervals));
    series
}

/// Dots and medians of SGD and gradient descent against `x`.
pub(crate) fn by_method<T: TrainingRun>(
    runs: &[T],
    x: impl Fn(&T) -> f64,
    y: impl Fn(&T) -> Option<f64>,
) -> Vec<Series> {
    let methods = [(SGD, SGD_STYLE), (GD, GD_STYLE)].into_iter();
    let series = methods.flat_map(|(method, style)| {
        dots_and_medians(&of_method(runs, method), method_name(method), style, &x, &y)
    });
    series.collect()
}

/// Dots and medians of a value against the learning rate, on logarithmic axes.
pub(crate) fn rate_panel<'r>(
    runs: &[ShallowRun<'r>],
    title: &str,
    label: &str,
    value: impl Fn(&ShallowRun<'r>) -> Option<f64>,
    references: Vec<Reference>,
) -> Panel {
    let series = by_method(runs, TrainingRun::learning_rate, value);
    Panel::new(title, Axis::log("learning rate η"), Axis::log(label), series, references)
}

/// The table, a figure and the summary of runs at several learning rates.
pub(crate) fn rate_presentation(
    runs: &[ShallowRun<'_>],
    title: &str,
    columns: usize,
    panels: Vec<Panel>,
) -> Presentation {
    Presentation {
        table: run_table(runs),
        figure: Figure::new(title, RUNS_NOTE, columns, panels),
        summary: learning_rate_summary(runs),
    }
}

/// `2/η` as a curve over the learning rates shown.
pub(crate) fn two_over_eta(runs: &[ShallowRun<'_>], label: &str) -> Reference {
    let rates = || runs.iter().map(|run| run.spec.learning_rate);
    let low = rates().min_by(f64::total_cmp).into_iter();
    let ends = low.chain(rates().max_by(f64::total_cmp));
    Reference::curve(label, ends.map(|rate| (rate, 2.0 / rate)))
}

/// One row a run: its settings, its outcome, and all measurements at the end.
pub(crate) fn run_table(runs: &[ShallowRun<'_>]) -> Table {
    table!(runs, |run| {
        "method", "word", "SGD (batch size 1) or GD" => run.method_name();
        "learning_rate", "1", "initial learning rate η" => run.spec.learning_rate;
        "schedule", "word", "learning-rate schedule" => run.spec.schedule.name();
        "clip_norm", "norm", "gradient norms above it are scaled down to it" => run.spec.clip_norm;
        "initial_balance_ratio", "1", "r0, where the start is unbalanced on purpose"
            => run.spec.problem.initial_balance_ratio();
        "seed", "seed", "seed of teacher, data, start and batches" => run.spec.seed;
        "outcome", "word", "converged, out_of_steps or diverged" => outcome_name(run.result.outcome);
        "steps", "steps", "steps done" => run.result.steps;
        "clipped_steps", "steps", "steps whose gradient was clipped" => run.result.clipped_steps;
        "train_loss", "loss", "(1/2n) Σ r_i² on the training data" => run.end(|m| m.train_loss);
        "test_loss", "loss", "the same mean on the test data" => run.end(|m| m.test_loss);
        "relative_test_error", "1", "test loss over that of the zero function"
            => run.result.relative_test_error();
        "trace", "sharpness", "tr G, empirical Gauss–Newton matrix" => run.trace();
        "frobenius_norm", "sharpness", "Frobenius norm of G, empirical"
            => run.end(|m| m.empirical.frobenius_norm);
        "lambda_max", "sharpness", "largest eigenvalue of G, empirical"
            => run.end(|m| m.empirical.lambda_max);
        "population_trace", "sharpness", "trace of the population matrix"
            => run.result.population.map(|p| p.trace);
        "population_frobenius_norm", "sharpness", "its Frobenius norm"
            => run.result.population.map(|p| p.frobenius_norm);
        "population_lambda_max", "sharpness", "its largest eigenvalue"
            => run.result.population.map(|p| p.lambda_max);
        "batch_sharpness", "sharpness", "Σ r_i²‖g_i‖⁴ / Σ r_i²‖g_i‖²"
            => run.result.last.and_then(|m| m.batch_sharpness);
        "threshold", "1", "exact η* of SGD as it is run, to 1e-6, where it was computed"
            => run.result.last.and_then(|m| m.threshold);
        "norm", "norm", "path norm (ReLU) or l1 norm of β (diagonal)" => run.norm();
        "balance_ratio", "1", "r(θ) at the end (diagonal)"
            => run.result.last.and_then(|m| m.balance_ratio);
        "coefficient_error", "1", "‖β − β*‖² (diagonal)"
            => run.result.last.and_then(|m| m.coefficient_error);
    })
}

/// Medians for each method and learning rate.
pub(crate) fn learning_rate_summary(runs: &[ShallowRun<'_>]) -> Table {
    table!(&RunGroup::all(runs, [SGD, GD], TrainingRun::learning_rate), |g| {
        "method", "word", "SGD (batch size 1) or GD" => method_name(g.method);
        "learning_rate", "1", "learning rate η" => g.key;
        "converged", "runs", "runs that met the stopping rule" => at_rest(&g.runs).len();
        "runs", "runs", "runs" => g.runs.len();
        "steps", "steps", "median of the steps done"
            => g.median(|run| Some(run.result.steps as f64));
        "scaled_trace", "1", "median of tr G · η/2" => g.median(ShallowRun::scaled_trace);
        "scaled_lambda_max", "1", "median of λ_max · η/2"
            => g.median(ShallowRun::scaled_lambda_max);
        "norm", "norm", "median path norm (ReLU) or l1 norm of β (diagonal)"
            => g.median(ShallowRun::norm);
        "relative_test_error", "1", "median test loss over that of the zero function"
            => g.median(|run| run.result.relative_test_error());
        "coefficient_error", "1", "median ‖β − β*‖² (diagonal)"
            => g.median(|run| run.result.last?.coefficient_error);
    })
}
