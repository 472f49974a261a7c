//! The training loop.

use flatmin_linalg::simd;
use flatmin_models::Dataset;
use rand::Rng;

use crate::{BatchSampler, Sampling, SamplingError, Schedule, Segment, Trainable, Update};

/// Parameters larger than this (ℓ2 norm) have diverged.
const DIVERGED_NORM: f64 = 1e8;

/// The optimizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Full-batch gradient descent.
    GradientDescent,
    /// Stochastic gradient descent.
    Sgd {
        /// Samples per step.
        batch_size: usize,
        /// How they are drawn.
        sampling: Sampling,
    },
}

/// When a run counts as converged: the training loss at most `loss` at `checks` checks in a row,
/// one check an epoch (every ⌈n/B⌉ steps; every step for gradient descent).
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct StoppingRule {
    /// Largest training loss `(1/2n) Σ r_i²` that counts.
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

/// A training run's settings.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainOptions {
    /// The optimizer.
    pub method: Method,
    /// The initial learning rate η.
    pub learning_rate: f64,
    /// Its schedule over `max_steps`.
    pub schedule: Schedule,
    /// Gradients with a larger ℓ2 norm are scaled down to it; infinite for no clipping.
    pub clip_norm: f64,
    /// Most steps.
    pub max_steps: u64,
    /// When to stop before that.
    pub stopping: StoppingRule,
    /// Steps after which the observer is called, ascending; step 0 is the start.
    pub checkpoints: Vec<u64>,
}

/// Settings that cannot be run.
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
    /// The batch size does not fit the data.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
}

/// How a run ended.
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

/// What an observer sees at a checkpoint.
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
pub struct Run {
    /// How it ended.
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

/// Trains `model` on `data` from `initial`, calling `observe` at the checkpoints that the run
/// reaches and at its end.
///
/// # Errors
/// [`TrainError`] for settings that cannot be run. Divergence is an [`Outcome`].
///
/// # Panics
/// When the parameters or the inputs do not fit the model.
pub fn train(
    model: &impl Trainable,
    data: &Dataset,
    initial: &[f64],
    options: &TrainOptions,
    rng: &mut impl Rng,
    mut observe: impl FnMut(Observation<'_>),
) -> Result<Run, TrainError> {
    for (name, value) in
        [("the learning rate", options.learning_rate), ("the clip norm", options.clip_norm)]
    {
        // Not `<=`: a NaN must be refused.
        if !(value > 0.0) {
            return Err(TrainError::NotPositive { name, value });
        }
    }
    let mut batches = Batches::new(options, data.sample_count())?;
    let mut kernel = model.kernel(data, initial);
    let mut total = Segment::default();
    let mut since_checkpoint = Segment::default();
    let mut since_check = Segment::default();
    let mut passed_checks = 0;
    let mut step = 0;
    let mut checkpoints = options.checkpoints.iter().copied().peekable();
    let outcome = loop {
        while checkpoints.next_if(|c| *c <= step).is_some_and(|c| c == step) {
            let parameters = kernel.parameters();
            observe(Observation { step, parameters: &parameters, since_last: since_checkpoint });
            since_checkpoint = Segment::default();
        }
        if step >= options.max_steps {
            break Outcome::OutOfSteps;
        }
        let epoch_end = (step / batches.epoch + 1) * batches.epoch;
        let checkpoint = checkpoints.peek().copied().unwrap_or(u64::MAX);
        let end = epoch_end.min(checkpoint).min(options.max_steps);
        let segment = batches.run(kernel.as_mut(), step, end, rng);
        step = end;
        for sum in [&mut total, &mut since_checkpoint, &mut since_check] {
            sum.merge(&segment);
        }
        if step != epoch_end {
            continue;
        }
        let mean_loss = since_check.loss_sum / since_check.steps as f64;
        since_check = Segment::default();
        if !mean_loss.is_finite() {
            break Outcome::Diverged;
        }
        // The norm is looked at where divergence can show: large losses.
        let screened = mean_loss <= options.stopping.screening_loss;
        if !screened && mean_loss > 1.0 && diverged(&kernel.parameters()) {
            break Outcome::Diverged;
        }
        let passed = screened && {
            // A full batch has just seen the whole loss.
            let full = options.method == Method::GradientDescent;
            let loss = if full { mean_loss } else { data.loss(model, &kernel.parameters()) };
            loss <= options.stopping.loss
        };
        passed_checks = if passed { passed_checks + 1 } else { 0 };
        if passed_checks >= options.stopping.checks {
            break Outcome::Converged;
        }
    };
    let parameters = kernel.parameters();
    let outcome = if diverged(&parameters) { Outcome::Diverged } else { outcome };
    if since_checkpoint.steps > 0 {
        observe(Observation { step, parameters: &parameters, since_last: since_checkpoint });
    }
    Ok(Run { outcome, steps: step, total, parameters })
}

fn diverged(parameters: &[f64]) -> bool {
    // Not `>`: a NaN has diverged too.
    !(simd::norm_squared(parameters) <= DIVERGED_NORM * DIVERGED_NORM)
}

/// Draws batches and runs them.
struct Batches<'a> {
    options: &'a TrainOptions,
    /// `None` for gradient descent.
    sampler: Option<BatchSampler>,
    batch_size: usize,
    /// Steps an epoch.
    epoch: u64,
    order: Vec<u32>,
    learning_rates: Vec<f64>,
}

impl<'a> Batches<'a> {
    fn new(options: &'a TrainOptions, sample_count: usize) -> Result<Self, SamplingError> {
        let (sampler, batch_size) = match options.method {
            Method::GradientDescent => (None, sample_count),
            Method::Sgd { batch_size, sampling } => {
                (Some(BatchSampler::new(sampling, batch_size, sample_count)?), batch_size)
            }
        };
        let epoch = sample_count.div_ceil(batch_size) as u64;
        let (order, learning_rates) = (Vec::new(), Vec::new());
        Ok(Self { options, sampler, batch_size, epoch, order, learning_rates })
    }

    /// Runs the steps `start..end`.
    fn run(
        &mut self,
        kernel: &mut dyn crate::Kernel,
        start: u64,
        end: u64,
        rng: &mut impl Rng,
    ) -> Segment {
        let options = self.options;
        self.order.clear();
        self.learning_rates.clear();
        for step in start..end {
            let factor = options.schedule.factor(step, options.max_steps);
            self.learning_rates.push(options.learning_rate * factor);
            if let Some(sampler) = &mut self.sampler {
                sampler.draw(rng, &mut self.order);
            }
        }
        let clip_norm = options.clip_norm;
        if self.sampler.is_some() && self.batch_size == 1 {
            return kernel.single_steps(&self.order, &self.learning_rates, clip_norm);
        }
        let mut segment = Segment::default();
        for (t, &learning_rate) in self.learning_rates.iter().enumerate() {
            let update = Update { learning_rate, clip_norm };
            segment.add(match self.sampler {
                Some(_) => {
                    let batch = &self.order[t * self.batch_size..][..self.batch_size];
                    kernel.batch_step(batch, update)
                }
                None => kernel.full_step(update),
            });
        }
        segment
    }
}
