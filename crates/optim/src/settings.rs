//! The settings of a training run, and its results.

use flatmin_linalg::named;

use crate::kernel::Segment;
use crate::optimizer::Optimizer;
use crate::sampling::{Sampling, SamplingError};
use crate::schedule::Schedule;

/// The number of samples of a step, and how they are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Full-batch gradient descent.
    GradientDescent,
    /// Stochastic gradient descent.
    Sgd {
        /// Samples per step: with Poisson sampling their mean number, by which sums are divided.
        batch_size: usize,
        /// The way in which they are drawn.
        sampling: Sampling,
    },
}

impl Method {
    /// The number of samples of a step, for a data set of n samples.
    pub(crate) fn batch_size(self, sample_count: usize) -> usize {
        match self {
            Self::GradientDescent => sample_count,
            Self::Sgd { batch_size, .. } => batch_size,
        }
    }
}

/// The rule by which a run counts as converged: the training loss is at most `loss` at `checks`
/// checks in a row, with one check per epoch (every ⌈n/B⌉ steps; every step for gradient descent).
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct StoppingRule {
    /// Largest training loss that counts: `(1/2n) Σ r_i²`, or for another loss of the data its
    /// mean above the [least](flatmin_models::Loss::least) value for the targets.
    pub loss: f64,
    /// Number of checks in a row.
    pub checks: u32,
    /// The full loss is only computed when the mean of the batch losses over the last epoch is
    /// below this; otherwise the check has failed.
    pub screening_loss: f64,
}

impl Default for StoppingRule {
    /// 1e-12 at 20 checks, screened at 1e-9.
    fn default() -> Self {
        Self { loss: 1e-12, checks: 20, screening_loss: 1e-9 }
    }
}

impl StoppingRule {
    /// A rule that no run meets: every run takes all its steps, unless it diverges.
    pub fn never() -> Self {
        Self { loss: f64::NEG_INFINITY, checks: u32::MAX, screening_loss: f64::NEG_INFINITY }
    }
}

/// The floating-point type in which steps are computed. Losses and parameters are returned as
/// float64.
///
/// ```
/// use flatmin_optim::Precision;
/// assert_eq!("float32".parse(), Ok(Precision::Float32));
/// assert_eq!(Precision::default().to_string(), "float64");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// float64.
    #[default]
    Float64,
    /// Parameters, inputs and arithmetic in float32, see
    /// [`Trainable::float32_kernel`](crate::Trainable::float32_kernel). Steps are faster, but the
    /// loss stays above a floor, at which a step is less than half the distance between
    /// neighbouring float32 numbers.
    Float32,
}

named!("precision", Precision, ["float64" => Float64, "float32" => Float32]);

/// A training run's settings.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainOptions {
    /// The number of samples of a step, and how they are drawn.
    pub method: Method,
    /// The rule that turns a gradient into a step. The steps of every optimizer except plain SGD
    /// are computed by the plain definition, in float64.
    pub optimizer: Optimizer,
    /// The initial learning rate η.
    pub learning_rate: f64,
    /// Its schedule over `max_steps`.
    pub schedule: Schedule,
    /// Gradients with a larger ℓ2 norm are scaled down to it; infinite for no clipping.
    pub clip_norm: f64,
    /// The largest number of steps.
    pub max_steps: u64,
    /// The floating-point type in which steps are computed.
    pub precision: Precision,
    /// The rule for stopping before `max_steps`.
    pub stopping: StoppingRule,
    /// Steps after which the observer is called, ascending; step 0 is the start.
    pub checkpoints: Vec<u64>,
}

impl TrainOptions {
    /// Plain SGD or GD at a constant learning rate, in float64, without clipping and without
    /// checkpoints, with the default stopping rule.
    ///
    /// ```
    /// use flatmin_optim::{Method, Schedule, TrainOptions};
    /// let options = TrainOptions {
    ///     schedule: Schedule::Cosine,
    ///     ..TrainOptions::new(Method::GradientDescent, 0.1, 1000)
    /// };
    /// assert_eq!(options.clip_norm, f64::INFINITY);
    /// ```
    pub fn new(method: Method, learning_rate: f64, max_steps: u64) -> Self {
        Self {
            method,
            optimizer: Optimizer::sgd(),
            learning_rate,
            schedule: Schedule::Constant,
            clip_norm: f64::INFINITY,
            max_steps,
            precision: Precision::Float64,
            stopping: StoppingRule::default(),
            checkpoints: Vec::new(),
        }
    }
}

/// The reason why a training run cannot start or resume.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The learning rate or the clip norm is not a positive number.
    #[error("{name} is {value}, expected a positive number")]
    NotPositive {
        /// Which setting.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// The model is trained in float64 only.
    #[error("this model cannot be trained in float32: choose float64")]
    NoFloat32,
    /// The optimizer is not plain SGD, and the precision is float32.
    #[error("{optimizer} runs in float64 only: choose float64, or plain SGD for float32")]
    Float32Optimizer {
        /// The optimizer.
        optimizer: Optimizer,
    },
    /// The batch size does not fit the data.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// An explicit order of samples does not fit the run.
    #[error("the order has {what} {order}, expected {expected}")]
    Order {
        /// The property that does not fit, in words: the number of steps, the batch size or the
        /// number of samples.
        what: &'static str,
        /// Its value in the order.
        order: u64,
        /// The value that the run needs. An order may have more steps, but no other value may
        /// differ.
        expected: u64,
    },
    /// This run cannot be in the given state.
    #[error("the state does not fit this run: {reason}")]
    State {
        /// The contradiction, in words.
        reason: &'static str,
    },
}

/// The way in which a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The stopping rule was met.
    Converged,
    /// The steps ran out.
    OutOfSteps,
    /// A loss was not finite, or the parameters left the ball of radius 1e8.
    Diverged,
}

/// The arguments of an observer at a checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct Observation<'a> {
    /// Steps done.
    pub step: u64,
    /// The parameters after them.
    pub parameters: &'a [f64],
    /// The steps since the last checkpoint.
    pub since_last: Segment,
}

/// A finished run.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Run {
    /// The way in which it ended.
    pub outcome: Outcome,
    /// Steps done.
    pub steps: u64,
    /// All steps, summed up.
    pub total: Segment,
    /// The final parameters (not finite, or huge, when the run diverged).
    pub parameters: Vec<f64>,
}

/// Steps `0, 1, …, max_steps` that are evenly spaced in the logarithm, `per_decade` to a decade
/// (fewer where steps would coincide); 0 and `max_steps` are always in.
pub fn log_spaced_steps(per_decade: u32, max_steps: u64) -> Vec<u64> {
    let mut steps = vec![0];
    for k in 0.. {
        let step = libm::exp10(f64::from(k) / f64::from(per_decade.max(1))).round();
        if step >= max_steps as f64 {
            break;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "rounded, at least 1 and below max_steps"
        )]
        steps.push(step as u64);
    }
    steps.push(max_steps);
    steps.dedup();
    steps
}
