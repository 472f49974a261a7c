//! The training loop, piece by piece.

use flatmin_linalg::{Stream, simd};
use flatmin_models::Dataset;
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::batches::Batches;
use crate::kernel::{Kernel, PlainKernel, Segment};
use crate::optimizer::{Optimizer, OptimizerState};
use crate::order::BatchOrder;
use crate::sampling::SamplerState;
use crate::settings::{Method, Observation, Outcome, Precision, Run, TrainError, TrainOptions};
use crate::trainable::Trainable;

/// Parameters with a larger ℓ2 norm have diverged.
const DIVERGED_NORM: f64 = 1e8;

/// A training run in progress.
///
/// [`run`](Self::run) goes to the end. [`advance`](Self::advance) runs a single piece, so that a
/// run can stop between two pieces and resume from its [`TrainState`].
///
/// A piece ends at the end of an epoch, at the next step of [`TrainOptions::checkpoints`], or after
/// 2¹⁶ samples, so that a run has the same pieces if it is stopped and resumed. This keeps every
/// bit the same, because kernels compute steps of a piece together ([`Kernel::single_steps`]), and
/// the mean loss by which the stopping rule screens is summed piece by piece. Runs with other
/// checkpoints agree to rounding.
///
/// ```
/// use flatmin_linalg::{RowMatrix, stream};
/// use flatmin_models::{Dataset, DiagonalLinear};
/// use flatmin_optim::{Method, Sampling, TrainOptions, Trainer};
///
/// let model = DiagonalLinear::new(2)?;
/// let data = Dataset::new(RowMatrix::new(2, 2, vec![1.0, 0.0, 0.0, 1.0])?, vec![1.0, 0.5])?;
/// let method = Method::Sgd { batch_size: 1, sampling: Sampling::WithReplacement };
/// let options = TrainOptions::new(method, 0.1, 1000);
/// let rng = || stream(0, "batches", 0);
/// let start = [0.5; 4];
/// let mut whole = Trainer::new(&model, &data, &start, &options, rng())?;
/// while whole.outcome().is_none() {
///     whole.advance();
/// }
///
/// let mut first = Trainer::new(&model, &data, &start, &options, rng())?;
/// first.advance();
/// let state = first.state().expect("finite");
/// let mut second = Trainer::new(&model, &data, &start, &options, rng())?;
/// second.restore(&state)?;
/// while second.outcome().is_none() {
///     second.advance();
/// }
/// assert_eq!(second.parameters(), whole.parameters());
/// assert_eq!(second.total(), whole.total());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Trainer<'a, M: ?Sized, R> {
    model: &'a M,
    data: &'a Dataset,
    options: &'a TrainOptions,
    kernel: Box<dyn Kernel + 'a>,
    batches: Batches<'a, R>,
    /// The state of the run. Its parameters, optimizer, sampler and stream position are filled in
    /// only when the state is asked for.
    progress: TrainState,
    outcome: Option<Outcome>,
}

/// Everything that a run needs to resume: the values that its [`Trainer`] keeps from step to step,
/// and the position in its random stream.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TrainState {
    step: u64,
    /// True if `step` is a checkpoint that was observed.
    observed: bool,
    passed_checks: u32,
    total: Segment,
    since_checkpoint: Segment,
    since_check: Segment,
    sampler: SamplerState,
    /// The position in the random stream, in words of 32 bits.
    stream_position: u128,
    parameters: Vec<f64>,
    /// Omitted if empty, because states stored by older versions do not have this field.
    #[serde(default, skip_serializing_if = "OptimizerState::is_empty")]
    optimizer: OptimizerState,
}

impl TrainState {
    /// Steps done.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The parameters after them.
    pub fn parameters(&self) -> &[f64] {
        &self.parameters
    }

    fn is_finite(&self) -> bool {
        let sums = [self.total, self.since_checkpoint, self.since_check];
        let sums = sums.iter().flat_map(|sum| [sum.loss_sum, sum.max_gradient_norm]);
        let numbers = self.parameters.iter().copied();
        numbers.chain(sums).all(f64::is_finite) && self.optimizer.is_finite()
    }
}

impl<M: ?Sized, R> std::fmt::Debug for Trainer<'_, M, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trainer")
            .field("options", self.options)
            .field("step", &self.progress.step)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

impl<'a, M: Trainable + ?Sized, R: Rng> Trainer<'a, M, R> {
    /// A run of `model` on `data` from `initial`, whose batches are drawn from `rng`.
    ///
    /// # Errors
    /// [`TrainError`] for settings that cannot be run.
    ///
    /// # Panics
    /// When the parameters or the inputs do not fit the model.
    pub fn new(
        model: &'a M,
        data: &'a Dataset,
        initial: &[f64],
        options: &'a TrainOptions,
        rng: R,
    ) -> Result<Self, TrainError> {
        let batches = Batches::drawn(options, data.sample_count(), rng)?;
        Self::start(model, data, initial, options, batches)
    }

    fn start(
        model: &'a M,
        data: &'a Dataset,
        initial: &[f64],
        options: &'a TrainOptions,
        batches: Batches<'a, R>,
    ) -> Result<Self, TrainError> {
        for (name, value) in
            [("the learning rate", options.learning_rate), ("the clip norm", options.clip_norm)]
        {
            // Not `<=`: a NaN must be refused.
            if !(value > 0.0) {
                return Err(TrainError::NotPositive { name, value });
            }
        }
        let mut trainer = Self {
            model,
            data,
            options,
            kernel: kernel(model, data, options, initial, &OptimizerState::default())?,
            batches,
            progress: TrainState::default(),
            outcome: None,
        };
        if options.max_steps == 0 {
            trainer.end(Outcome::OutOfSteps);
        }
        Ok(trainer)
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.progress.step
    }

    /// The parameters after them (not finite, or huge, when the run diverged).
    pub fn parameters(&self) -> Vec<f64> {
        self.kernel.parameters()
    }

    /// All steps, summed up.
    pub fn total(&self) -> Segment {
        self.progress.total
    }

    /// The way in which the run ended; `None` while it has not.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// Runs to the end, and calls `observe` at the checkpoints that the run reaches and at its end.
    pub fn run(mut self, mut observe: impl FnMut(Observation<'_>)) -> Run {
        loop {
            if let Some(since_last) = self.observe() {
                let (step, parameters) = (self.step(), self.parameters());
                observe(Observation { step, parameters: &parameters, since_last });
            }
            if let Some(outcome) = self.outcome {
                let (steps, total) = (self.step(), self.total());
                return Run { outcome, steps, total, parameters: self.parameters() };
            }
            self.advance();
        }
    }

    /// The measurements of the steps since the last observation, if one is due now: at a step of
    /// [`TrainOptions::checkpoints`], or at the end of the run if there were steps since. Returns
    /// them only once.
    pub fn observe(&mut self) -> Option<Segment> {
        let TrainState { step, observed, since_checkpoint, .. } = &mut self.progress;
        let is_checkpoint = !*observed && self.options.checkpoints.binary_search(step).is_ok();
        *observed |= is_checkpoint;
        let is_end = self.outcome.is_some() && since_checkpoint.steps > 0;
        (is_checkpoint || is_end).then(|| std::mem::take(since_checkpoint))
    }

    /// Runs the next piece; does nothing when the run is over. A checkpoint that is passed without
    /// [`observe`](Self::observe) is lost.
    pub fn advance(&mut self) {
        if self.outcome.is_some() {
            return;
        }
        let (step, epoch, piece) = (self.progress.step, self.batches.epoch, self.batches.piece);
        let epoch_start = step / epoch * epoch;
        let epoch_end = epoch_start + epoch;
        let piece_end = step + piece - (step - epoch_start) % piece;
        let checkpoints = &self.options.checkpoints;
        let next = checkpoints.partition_point(|checkpoint| *checkpoint <= step);
        let checkpoint = checkpoints.get(next).copied().unwrap_or(u64::MAX);
        let end = epoch_end.min(piece_end).min(checkpoint).min(self.options.max_steps);
        let segment = self.batches.run(self.kernel.as_mut(), step, end);
        let TrainState { total, since_checkpoint, since_check, .. } = &mut self.progress;
        for sum in [total, since_checkpoint, since_check] {
            sum.merge(&segment);
        }
        (self.progress.step, self.progress.observed) = (end, false);
        if end == epoch_end
            && let Some(outcome) = self.check()
        {
            self.end(outcome);
        } else if end >= self.options.max_steps {
            self.end(Outcome::OutOfSteps);
        }
    }

    /// Checks for convergence and divergence at the end of an epoch.
    fn check(&mut self) -> Option<Outcome> {
        let stopping = &self.options.stopping;
        let Segment { steps, loss_sum, .. } = std::mem::take(&mut self.progress.since_check);
        let mean_loss = loss_sum / steps as f64;
        if !mean_loss.is_finite() {
            return Some(Outcome::Diverged);
        }
        // The parameter norm is computed only for a large loss, where divergence can show.
        let screened = mean_loss <= stopping.screening_loss;
        if !screened && mean_loss > 1.0 && diverged(&self.kernel.parameters()) {
            return Some(Outcome::Diverged);
        }
        let passed = screened && {
            // In gradient descent the batch loss is the loss of all samples.
            let full = self.options.method == Method::GradientDescent
                && self.options.precision == Precision::Float64;
            let loss = if full {
                mean_loss
            } else {
                self.data.excess_loss(self.model, &self.kernel.parameters())
            };
            loss <= stopping.loss
        };
        let passed_checks = &mut self.progress.passed_checks;
        *passed_checks = if passed { *passed_checks + 1 } else { 0 };
        (*passed_checks >= stopping.checks).then_some(Outcome::Converged)
    }

    fn end(&mut self, outcome: Outcome) {
        let diverged = diverged(&self.kernel.parameters());
        self.outcome = Some(if diverged { Outcome::Diverged } else { outcome });
    }
}

impl<'a, M: Trainable + ?Sized> Trainer<'a, M, Stream> {
    /// A run whose batches are given: step t takes batch t of `order`. The method must be SGD with
    /// the order's batch size; its sampling is not used.
    ///
    /// # Errors
    /// [`TrainError`] for settings that cannot be run, [`TrainError::Order`] when the order has
    /// another batch size or number of samples, or fewer steps than
    /// [`max_steps`](TrainOptions::max_steps).
    ///
    /// # Panics
    /// When the parameters or the inputs do not fit the model.
    pub fn replay(
        model: &'a M,
        data: &'a Dataset,
        initial: &[f64],
        options: &'a TrainOptions,
        order: &'a BatchOrder,
    ) -> Result<Self, TrainError> {
        let batches = Batches::given(options, data.sample_count(), order)?;
        Self::start(model, data, initial, options, batches)
    }

    /// The state between two pieces; `None` if a number in it is not finite, because no run
    /// recovers from that.
    pub fn state(&self) -> Option<TrainState> {
        let (sampler, stream_position) = self.batches.state();
        let state = TrainState {
            sampler,
            stream_position,
            parameters: self.kernel.parameters(),
            optimizer: self.kernel.optimizer_state(),
            ..self.progress.clone()
        };
        state.is_finite().then_some(state)
    }

    /// Resumes from a state of the same run: with the same model, data, options, and stream or
    /// order. The caller must ensure that these are the same; only a state that this run cannot
    /// have is refused.
    ///
    /// # Errors
    /// [`TrainError::State`] when this run cannot be in that state. The run is then unchanged.
    pub fn restore(&mut self, state: &TrainState) -> Result<(), TrainError> {
        let refuse = |reason| Err(TrainError::State { reason });
        if state.parameters.len() != self.model.parameter_count() {
            return refuse("it has another number of parameters");
        }
        if !state.is_finite() {
            return refuse("a number in it is not finite");
        }
        if !state.optimizer.fits(&self.options.optimizer, state.parameters.len(), state.step) {
            return refuse("it has another optimizer");
        }
        if state.step > self.options.max_steps || state.total.steps != state.step {
            return refuse("its number of steps cannot occur in this run");
        }
        let parts = [state.total, state.since_checkpoint, state.since_check];
        if parts.iter().any(|part| part.clipped_steps > part.steps || part.steps > state.step) {
            return refuse("its counts of steps contradict each other");
        }
        // A run with that many passed checks would have ended.
        if state.passed_checks >= self.options.stopping.checks.max(1) {
            return refuse("it has already met the stopping rule");
        }
        let TrainState { parameters, optimizer, .. } = state;
        let kernel = kernel(self.model, self.data, self.options, parameters, optimizer)?;
        if !self.batches.restore(&state.sampler, state.stream_position) {
            return refuse("its sampler has another order of samples");
        }
        self.kernel = kernel;
        self.progress = TrainState { parameters: Vec::new(), ..state.clone() };
        self.outcome = None;
        if state.step >= self.options.max_steps {
            self.end(Outcome::OutOfSteps);
        }
        Ok(())
    }
}

fn kernel<'a, M: Trainable + ?Sized>(
    model: &'a M,
    data: &'a Dataset,
    options: &TrainOptions,
    parameters: &[f64],
    state: &OptimizerState,
) -> Result<Box<dyn Kernel + 'a>, TrainError> {
    let (optimizer, state) = (options.optimizer, state.clone());
    match options.precision {
        Precision::Float64 if optimizer == Optimizer::sgd() => Ok(model.kernel(data, parameters)),
        Precision::Float64 => {
            Ok(Box::new(PlainKernel::with_optimizer(model, data, parameters, optimizer, state)))
        }
        Precision::Float32 if optimizer == Optimizer::sgd() => {
            model.float32_kernel(data, parameters).ok_or(TrainError::NoFloat32)
        }
        Precision::Float32 => Err(TrainError::Float32Optimizer { optimizer }),
    }
}

fn diverged(parameters: &[f64]) -> bool {
    // Not `>`: a NaN has diverged too.
    !(simd::norm_squared(parameters) <= DIVERGED_NORM * DIVERGED_NORM)
}
