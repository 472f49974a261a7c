//! Training runs of ReLU networks on one input.

use std::f64::consts::PI;

use flatmin_ledger::least_trace;
use flatmin_linalg::{RowMatrix, Sharpness, stream};
use flatmin_models::{Dataset, KnotPrices, Model as _, UnivariateRelu};
use flatmin_optim::{Method, Observation, Outcome, StoppingRule, TrainOptions};
use rand::RngExt as _;
use rand_distr::{Distribution as _, StandardNormal};
use serde::{Deserialize, Serialize};

use super::error::CellError;
use super::linearised::LinearisedPoint;
use super::streams;
use super::training::{Checkpoint, MeasuredRun, TrainingProblem, train_measured};

/// Points of a drawn function, at equal distances on [−1, 1].
const CURVE_POINTS: usize = 161;

/// Points at which the error of a function is measured.
const ERROR_POINTS: usize = 2001;

/// Samples of `sin πx`, one in each of n equal parts of [−1, 1].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct UnivariateProblem {
    /// Number n of samples: `x_i = −1 + 2(i + u_i)/n` with `u_i` uniform on [¼, ¾].
    pub sample_count: usize,
    /// Standard deviation of the noise of the targets.
    pub noise: f64,
    /// Neurons m of the network.
    pub width: usize,
    /// The point at which training starts.
    pub initial: UnivariateInitial,
}

/// Initial parameters of a network on one input.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnivariateInitial {
    /// `a_j, w_j ~ N(0, scale²)`, knots uniform on [−1, 1], c = 0.
    Spread {
        /// The standard deviation.
        scale: f64,
    },
    /// The default of PyTorch's layers.
    Framework,
}

impl UnivariateProblem {
    pub(super) fn dataset(self, seed: u64) -> Result<Dataset, CellError> {
        let n = self.sample_count;
        let mut rng = stream(seed, streams::UNIVARIATE_INPUTS, 0);
        let inputs = RowMatrix::from_fn(n, 1, |i, _| {
            let within: f64 = rng.random_range(0.25..0.75);
            -1.0 + 2.0 * (i as f64 + within) / n as f64
        });
        let mut rng = stream(seed, streams::UNIVARIATE_NOISE, 0);
        let mut noise = || -> f64 { StandardNormal.sample(&mut rng) };
        let targets = inputs.values().iter().map(|x| libm::sin(PI * x) + self.noise * noise());
        let targets = targets.collect();
        Ok(Dataset::new(inputs, targets)?)
    }
}

/// The complete description of one training run of a network on one input.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct UnivariateSpec {
    /// The problem.
    pub problem: UnivariateProblem,
    /// The optimizer.
    pub method: Method,
    /// The learning rate η, constant.
    pub learning_rate: f64,
    /// Gradient-norm clipping.
    pub clip_norm: f64,
    /// Largest number of steps.
    pub max_steps: u64,
    /// The training loss at which a run stops.
    pub stopping_loss: f64,
    /// Seed of the data, the start and the batches.
    pub seed: u64,
}

/// The measurements at the end of a run of a network on one input.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct UnivariateMeasurement {
    /// Steps done.
    pub step: u64,
    /// Training loss `(1/2n) Σ r_i²`.
    pub train_loss: f64,
    /// Sharpness of the empirical Gauss–Newton matrix.
    pub empirical: Sharpness,
    /// `∫|f''|h` (U2).
    pub trace_norm: f64,
    /// `∫|f''|g` (U1).
    pub lambda_max_norm: f64,
    /// The mean of `(f(x) − sin πx)²` between the outermost inputs.
    pub error: f64,
    /// The mean of `(f(x) − sin πx)²` over [−1, 1], where the ends lie outside of all inputs.
    pub error_with_outside: f64,
}

impl Checkpoint for UnivariateMeasurement {
    fn step(&self) -> u64 {
        self.step
    }

    fn is_finite(&self) -> bool {
        let Sharpness { trace, frobenius_norm, lambda_max } = self.empirical;
        [self.train_loss, trace, frobenius_norm, lambda_max, self.error]
            .into_iter()
            .all(f64::is_finite)
    }
}

/// A finished run of a network on one input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnivariateResult {
    /// The outcome of training.
    pub outcome: Outcome,
    /// Steps done.
    pub steps: u64,
    /// Steps whose gradient was clipped.
    pub clipped_steps: u64,
    /// The training samples `(x_i, y_i)`.
    pub samples: Vec<(f64, f64)>,
    /// The value LP of U3 for these samples: a proved lower bound.
    pub least_trace_norm: f64,
    /// The end; absent when the run diverged.
    pub last: Option<UnivariateMeasurement>,
    /// The function at the end, at points at equal distances on [−1, 1]; empty when the run
    /// diverged.
    pub curve: Vec<f64>,
}

/// The points of drawn functions: at equal distances on [−1, 1].
pub(crate) fn curve_points() -> impl Iterator<Item = f64> {
    points(CURVE_POINTS, (-1.0, 1.0))
}

/// `count` points at equal distances, the ends of the range included.
fn points(count: usize, (low, high): (f64, f64)) -> impl Iterator<Item = f64> {
    (0..count).map(move |k| low + (high - low) * k as f64 / (count - 1) as f64)
}

fn outputs(model: UnivariateRelu, parameters: &[f64], at: impl Iterator<Item = f64>) -> Vec<f64> {
    let at: Vec<f64> = at.collect();
    model.outputs(parameters, &RowMatrix::from_fn(at.len(), 1, |i, _| at[i]))
}

fn inputs_range(inputs: &[f64]) -> (f64, f64) {
    let low = inputs.iter().copied().fold(f64::INFINITY, f64::min);
    (low, inputs.iter().copied().fold(f64::NEG_INFINITY, f64::max))
}

/// The mean of `(f(x) − sin πx)²` over a range.
fn mean_error(model: UnivariateRelu, parameters: &[f64], range: (f64, f64)) -> f64 {
    let fitted = outputs(model, parameters, points(ERROR_POINTS, range));
    let pairs = fitted.iter().zip(points(ERROR_POINTS, range));
    pairs.map(|(f, x)| (f - libm::sin(PI * x)).powi(2)).sum::<f64>() / ERROR_POINTS as f64
}

impl UnivariateSpec {
    pub(super) fn run(&self) -> Result<UnivariateResult, CellError> {
        let model = UnivariateRelu::new(self.problem.width)?;
        let data = self.problem.dataset(self.seed)?;
        let mut rng = stream(self.seed, streams::UNIVARIATE_INITIAL, 0);
        let initial = match self.problem.initial {
            UnivariateInitial::Spread { scale } => model.spread_parameters(scale, &mut rng),
            UnivariateInitial::Framework => model.framework_parameters(&mut rng),
        };
        let loss = self.stopping_loss;
        let options = TrainOptions {
            clip_norm: self.clip_norm,
            stopping: StoppingRule { loss, screening_loss: 1e3 * loss, ..StoppingRule::default() },
            ..TrainOptions::new(self.method, self.learning_rate, self.max_steps)
        };
        let prices = KnotPrices::new(data.inputs().values());
        let least = least_trace(data.inputs().values(), data.targets())?;
        let problem = TrainingProblem { model, data, initial };
        let measure = |point: &LinearisedPoint, seen: Observation<'_>| {
            let curvature = point.curvature(&model, seen.parameters, &problem.data)?;
            let knots = model.knots(seen.parameters);
            let between = inputs_range(problem.data.inputs().values());
            let error = |range| mean_error(model, seen.parameters, range);
            Ok(UnivariateMeasurement {
                step: seen.step,
                train_loss: curvature.loss,
                empirical: curvature.sharpness,
                trace_norm: prices.trace_norm(&knots),
                lambda_max_norm: prices.lambda_max_norm(&knots),
                error: error(between),
                error_with_outside: error((-1.0, 1.0)),
            })
        };
        let MeasuredRun { run, end, .. } = train_measured(&problem, &options, self.seed, measure)?;
        let inputs = problem.data.inputs().values().iter().copied();
        Ok(UnivariateResult {
            outcome: run.outcome,
            steps: run.steps,
            clipped_steps: run.total.clipped_steps,
            samples: inputs.zip(problem.data.targets().iter().copied()).collect(),
            least_trace_norm: least.lower,
            curve: end
                .as_ref()
                .map_or_else(Vec::new, |_| outputs(model, &run.parameters, curve_points())),
            last: end.map(|(last, _)| last),
        })
    }

    pub(super) fn label(&self) -> String {
        let Self { problem: UnivariateProblem { noise, initial, .. }, learning_rate, seed, .. } =
            self;
        let start = match initial {
            UnivariateInitial::Spread { .. } => "",
            UnivariateInitial::Framework => " default start",
        };
        let method = crate::runs::method_name(self.method);
        format!("one input noise={noise}{start} {method} η={learning_rate:.3e} seed {seed}")
    }
}
