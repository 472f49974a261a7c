//! The training loop, piece by piece.

use flatmin_linalg::{Stream, simd};
use flatmin_models::Dataset;
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::{
    BatchOrder, BatchSampler, Kernel, Method, Optimizer, OptimizerState, Outcome, PlainKernel,
    Precision, SamplerState, Segment, TrainError, TrainOptions, Trainable, Update,
};

/// Parameters larger than this (ℓ2 norm) have diverged.
const DIVERGED_NORM: f64 = 1e8;

/// Most samples that [`Trainer::advance`] goes through, unless a single step has more.
const SAMPLES: usize = 1 << 16;

/// A training run in progress: [`train()`](crate::train()) piece by piece, which can be stopped between
/// two pieces and taken up again from its [`TrainState`].
///
/// A piece ends at the end of an epoch, at the next step of [`TrainOptions::checkpoints`], or after
/// 2¹⁶ samples, so that the same run has the same pieces whether it is stopped or not. That matters
/// to the bit: kernels take steps together within a piece ([`Kernel::single_steps`]), and the mean loss by which
/// the stopping rule screens is summed piece by piece. Runs with other checkpoints agree to rounding.
///
/// ```
/// use flatmin_linalg::{RowMatrix, stream};
/// use flatmin_models::{Dataset, DiagonalLinear};
/// use flatmin_optim::{
///     Method, Optimizer, Precision, Sampling, Schedule, StoppingRule, TrainOptions, Trainer,
/// };
///
/// let model = DiagonalLinear::new(2)?;
/// let data = Dataset::new(RowMatrix::new(2, 2, vec![1.0, 0.0, 0.0, 1.0])?, vec![1.0, 0.5])?;
/// let options = TrainOptions {
///     method: Method::Sgd { batch_size: 1, sampling: Sampling::WithReplacement },
///     optimizer: Optimizer::sgd(),
///     learning_rate: 0.1,
///     schedule: Schedule::Constant,
///     clip_norm: f64::INFINITY,
///     max_steps: 1000,
///     precision: Precision::Float64,
///     stopping: StoppingRule::default(),
///     checkpoints: Vec::new(),
/// };
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
    step: u64,
    total: Segment,
    since_checkpoint: Segment,
    since_check: Segment,
    passed_checks: u32,
    /// Position in the checkpoints of the first one that was not observed.
    next_checkpoint: usize,
    outcome: Option<Outcome>,
}

/// What a run needs to go on: everything that its [`Trainer`] keeps from step to step, with the
/// position in its random stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainState {
    step: u64,
    /// Whether the checkpoint at `step`, if it is one, was observed.
    observed: bool,
    passed_checks: u32,
    total: Segment,
    since_checkpoint: Segment,
    since_check: Segment,
    sampler: SamplerState,
    /// In words of 32 bits from the start of the stream.
    stream_position: u128,
    parameters: Vec<f64>,
    /// Not stored where it is empty: states are older than the choice of an optimizer.
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
            .field("step", &self.step)
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
            step: 0,
            total: Segment::default(),
            since_checkpoint: Segment::default(),
            since_check: Segment::default(),
            passed_checks: 0,
            next_checkpoint: 0,
            outcome: None,
        };
        if options.max_steps == 0 {
            trainer.end(Outcome::OutOfSteps);
        }
        Ok(trainer)
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The parameters after them (not finite, or huge, when the run diverged).
    pub fn parameters(&self) -> Vec<f64> {
        self.kernel.parameters()
    }

    /// All steps, summed up.
    pub fn total(&self) -> Segment {
        self.total
    }

    /// How the run ended; `None` while it has not.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// The steps since the last observation, if one is due now: at a step of
    /// [`TrainOptions::checkpoints`], or at the end of the run when it made steps since. Once for
    /// each.
    pub fn observe(&mut self) -> Option<Segment> {
        let is_checkpoint = self.checkpoint() == Some(self.step);
        if is_checkpoint {
            self.next_checkpoint += 1;
        }
        let is_end = self.outcome.is_some() && self.since_checkpoint.steps > 0;
        (is_checkpoint || is_end).then(|| std::mem::take(&mut self.since_checkpoint))
    }

    /// Runs the next piece; nothing when the run is over. Checkpoints that are passed without
    /// [`observe`](Self::observe) are lost.
    pub fn advance(&mut self) {
        if self.outcome.is_some() {
            return;
        }
        let Batches { epoch, piece, .. } = self.batches;
        let epoch_start = self.step / epoch * epoch;
        let epoch_end = epoch_start + epoch;
        let piece_end = self.step + piece - (self.step - epoch_start) % piece;
        while self.checkpoint().is_some_and(|step| step <= self.step) {
            self.next_checkpoint += 1;
        }
        let checkpoint = self.checkpoint().unwrap_or(u64::MAX);
        let end = epoch_end.min(piece_end).min(checkpoint).min(self.options.max_steps);
        let segment = self.batches.run(self.kernel.as_mut(), self.step, end);
        self.step = end;
        for sum in [&mut self.total, &mut self.since_checkpoint, &mut self.since_check] {
            sum.merge(&segment);
        }
        if self.step == epoch_end
            && let Some(outcome) = self.check()
        {
            self.end(outcome);
        } else if self.step >= self.options.max_steps {
            self.end(Outcome::OutOfSteps);
        }
    }

    /// The first checkpoint that was not observed.
    fn checkpoint(&self) -> Option<u64> {
        self.options.checkpoints.get(self.next_checkpoint).copied()
    }

    /// The check at the end of an epoch.
    fn check(&mut self) -> Option<Outcome> {
        let stopping = &self.options.stopping;
        let mean_loss = self.since_check.loss_sum / self.since_check.steps as f64;
        self.since_check = Segment::default();
        if !mean_loss.is_finite() {
            return Some(Outcome::Diverged);
        }
        // The norm is looked at where divergence can show: large losses.
        let screened = mean_loss <= stopping.screening_loss;
        if !screened && mean_loss > 1.0 && diverged(&self.kernel.parameters()) {
            return Some(Outcome::Diverged);
        }
        let passed = screened && {
            // A full batch has just seen the whole loss.
            let full = self.options.method == Method::GradientDescent
                && self.options.precision == Precision::Float64;
            let loss = if full {
                mean_loss
            } else {
                self.data.loss(self.model, &self.kernel.parameters())
            };
            loss <= stopping.loss
        };
        self.passed_checks = if passed { self.passed_checks + 1 } else { 0 };
        (self.passed_checks >= stopping.checks).then_some(Outcome::Converged)
    }

    fn end(&mut self, outcome: Outcome) {
        let diverged = diverged(&self.kernel.parameters());
        self.outcome = Some(if diverged { Outcome::Diverged } else { outcome });
    }
}

impl<'a, M: Trainable + ?Sized> Trainer<'a, M, Stream> {
    /// A run whose batches are given: step t takes row t of `order`. The method must be SGD with the
    /// order's batch size; its sampling is not used.
    ///
    /// # Errors
    /// [`TrainError`] for settings that cannot be run, [`TrainError::Order`] when the order is of
    /// another batch size or number of samples, or has fewer steps than
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

    /// The state between two pieces; `None` when a number in it is not finite, which no run comes
    /// back from.
    pub fn state(&self) -> Option<TrainState> {
        let (sampler, position) = match &self.batches.source {
            Source::Drawn { sampler, rng } => (sampler.state(), rng.get_word_pos()),
            Source::All | Source::Given(_) => (SamplerState::default(), 0),
        };
        let last = self.next_checkpoint.checked_sub(1);
        let state = TrainState {
            step: self.step,
            observed: last.is_some_and(|last| self.options.checkpoints[last] == self.step),
            passed_checks: self.passed_checks,
            total: self.total,
            since_checkpoint: self.since_checkpoint,
            since_check: self.since_check,
            sampler,
            stream_position: position,
            parameters: self.kernel.parameters(),
            optimizer: self.kernel.optimizer_state(),
        };
        state.is_finite().then_some(state)
    }

    /// Goes on from a state of the same run: same model, data, options and stream or order. That they
    /// are the same is up to the caller; only what cannot be is refused.
    ///
    /// # Errors
    /// [`TrainError::State`] when this run cannot be in that state; this run is then as it was.
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
            return refuse("it has done another number of steps");
        }
        let parts = [state.total, state.since_checkpoint, state.since_check];
        if parts.iter().any(|part| part.clipped_steps > part.steps || part.steps > state.step) {
            return refuse("its counts of steps contradict each other");
        }
        // A run that had passed as many had ended.
        if state.passed_checks >= self.options.stopping.checks.max(1) {
            return refuse("it has met the stopping rule");
        }
        let TrainState { parameters, optimizer, .. } = state;
        let kernel = kernel(self.model, self.data, self.options, parameters, optimizer)?;
        match &mut self.batches.source {
            Source::Drawn { sampler, rng } => {
                if !sampler.restore(&state.sampler) {
                    return refuse("its sampler has another order of samples");
                }
                rng.set_word_pos(state.stream_position);
            }
            Source::All | Source::Given(_) => {}
        }
        self.kernel = kernel;
        self.step = state.step;
        self.passed_checks = state.passed_checks;
        self.total = state.total;
        self.since_checkpoint = state.since_checkpoint;
        self.since_check = state.since_check;
        let before = |step: &u64| *step < state.step || state.observed && *step == state.step;
        self.next_checkpoint = self.options.checkpoints.iter().take_while(|s| before(s)).count();
        self.outcome = None;
        if self.step >= self.options.max_steps {
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

/// Where the samples of a step come from.
enum Source<'a, R> {
    /// All of them: gradient descent.
    All,
    Drawn {
        sampler: BatchSampler,
        rng: R,
    },
    Given(&'a BatchOrder),
}

/// Takes batches and runs them.
struct Batches<'a, R> {
    options: &'a TrainOptions,
    source: Source<'a, R>,
    batch_size: usize,
    /// Steps an epoch.
    epoch: u64,
    /// Most steps a piece.
    piece: u64,
    order: Vec<u32>,
    learning_rates: Vec<f64>,
}

impl<'a, R: Rng> Batches<'a, R> {
    fn drawn(options: &'a TrainOptions, sample_count: usize, rng: R) -> Result<Self, TrainError> {
        let (source, batch_size) = match options.method {
            Method::GradientDescent => (Source::All, sample_count),
            Method::Sgd { batch_size, sampling } => {
                let sampler = BatchSampler::new(sampling, batch_size, sample_count)?;
                (Source::Drawn { sampler, rng }, batch_size)
            }
        };
        Ok(Self::new(options, source, batch_size, sample_count))
    }

    fn given(
        options: &'a TrainOptions,
        sample_count: usize,
        order: &'a BatchOrder,
    ) -> Result<Self, TrainError> {
        let batch_size = match options.method {
            Method::GradientDescent => sample_count,
            Method::Sgd { batch_size, .. } => batch_size,
        };
        let steps = order.steps().min(options.max_steps);
        for (what, order, expected) in [
            ("a batch size of", order.batch_size() as u64, batch_size as u64),
            (
                "indices into a number of samples of",
                order.sample_count() as u64,
                sample_count as u64,
            ),
            ("a number of steps of", steps, options.max_steps),
        ] {
            if order != expected {
                return Err(TrainError::Order { what, order, expected });
            }
        }
        Ok(Self::new(options, Source::Given(order), batch_size, sample_count))
    }

    fn new(
        options: &'a TrainOptions,
        source: Source<'a, R>,
        batch_size: usize,
        sample_count: usize,
    ) -> Self {
        let epoch = sample_count.div_ceil(batch_size) as u64;
        let piece = (SAMPLES / batch_size).max(1) as u64;
        let (order, learning_rates) = (Vec::new(), Vec::new());
        Self { options, source, batch_size, epoch, piece, order, learning_rates }
    }

    /// Runs the steps `start..end`.
    fn run(&mut self, kernel: &mut dyn Kernel, start: u64, end: u64) -> Segment {
        let options = self.options;
        self.order.clear();
        self.learning_rates.clear();
        for step in start..end {
            let factor = options.schedule.factor(step, options.max_steps);
            self.learning_rates.push(options.learning_rate * factor);
            match &mut self.source {
                Source::All => {}
                Source::Drawn { sampler, rng } => sampler.draw(rng, &mut self.order),
                Source::Given(order) => self.order.extend_from_slice(order.batch(step)),
            }
        }
        let clip_norm = options.clip_norm;
        let full = matches!(self.source, Source::All);
        if !full && self.batch_size == 1 {
            return kernel.single_steps(&self.order, &self.learning_rates, clip_norm);
        }
        let mut segment = Segment::default();
        for (t, &learning_rate) in self.learning_rates.iter().enumerate() {
            let update = Update { learning_rate, clip_norm };
            segment.add(if full {
                kernel.full_step(update)
            } else {
                kernel.batch_step(&self.order[t * self.batch_size..][..self.batch_size], update)
            });
        }
        segment
    }
}
