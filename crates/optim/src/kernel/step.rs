//! The step of a kernel: its samples, its update and its measurements.

use flatmin_models::Dataset;

use crate::optimizer::OptimizerState;

/// The samples of a step.
#[derive(Debug, Clone, Copy)]
pub enum Samples<'s> {
    /// The whole data set, in order.
    All,
    /// The samples with these indices. An index may occur more than once.
    Batch(&'s [u32]),
    /// The samples of a batch whose number is random, as with [Poisson](crate::Sampling::Poisson)
    /// sampling. Sums over them are divided by the batch size B and not by their number, so that
    /// the gradient is right in the mean. An empty batch has the gradient zero.
    Drawn {
        /// Their indices.
        batch: &'s [u32],
        /// B, the mean number of samples.
        batch_size: usize,
    },
}

impl Samples<'_> {
    /// The number of these samples, where `data` is the whole data set.
    pub(super) fn len(self, data: &Dataset) -> usize {
        match self {
            Self::All => data.sample_count(),
            Self::Batch(batch) | Self::Drawn { batch, .. } => batch.len(),
        }
    }

    /// The factor of the sums over these samples in the loss and its gradient.
    pub(super) fn scale(self, data: &Dataset) -> f64 {
        1.0 / match self {
            Self::Drawn { batch_size, .. } => batch_size as f64,
            samples => samples.len(data) as f64,
        }
    }

    /// The index of the sample at `position`.
    #[inline(always)]
    pub(super) fn get(self, position: usize) -> usize {
        match self {
            Self::All => position,
            Self::Batch(batch) | Self::Drawn { batch, .. } => batch[position] as usize,
        }
    }
}

/// The learning rate and the clipping of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update {
    /// The learning rate η.
    pub learning_rate: f64,
    /// A gradient with a larger ℓ2 norm is scaled down to this norm; infinite for no clipping.
    pub clip_norm: f64,
}

impl Update {
    /// The factor by which clipping scales a gradient of this norm, `min(1, clip/norm)`, and true
    /// if it is clipped.
    #[inline]
    pub(super) fn clip(self, gradient_norm: f64) -> (f64, bool) {
        if gradient_norm > self.clip_norm {
            (self.clip_norm / gradient_norm, true)
        } else {
            (1.0, false)
        }
    }

    /// The factor of the gradient in the step, `η · min(1, clip/norm)`, and true if it is clipped.
    #[inline]
    pub(super) fn factor(self, gradient_norm: f64) -> (f64, bool) {
        let (scale, clipped) = self.clip(gradient_norm);
        (self.learning_rate * scale, clipped)
    }
}

/// The measurements of one step. The default is a step of plain SGD on no sample.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Step {
    /// The loss of the batch before the step, `(1/2B) Σ ‖r_i‖²`; for another loss of the data its
    /// mean above the [least](flatmin_models::Loss::least) value for the targets.
    pub loss: f64,
    /// The ℓ2 norm of the batch gradient before clipping.
    pub gradient_norm: f64,
    /// True if the gradient was clipped.
    pub clipped: bool,
}

/// The sums of the measurements of consecutive steps.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Segment {
    /// Number of steps.
    pub steps: u64,
    /// Number of clipped steps.
    pub clipped_steps: u64,
    /// Sum of the batch losses before each step.
    pub loss_sum: f64,
    /// Largest gradient norm before clipping.
    pub max_gradient_norm: f64,
}

impl Segment {
    /// Adds one step.
    #[inline]
    pub fn add(&mut self, step: Step) {
        self.steps += 1;
        self.clipped_steps += u64::from(step.clipped);
        self.loss_sum += step.loss;
        self.max_gradient_norm = self.max_gradient_norm.max(step.gradient_norm);
    }

    /// Adds another segment.
    pub fn merge(&mut self, other: &Self) {
        self.steps += other.steps;
        self.clipped_steps += other.clipped_steps;
        self.loss_sum += other.loss_sum;
        self.max_gradient_norm = self.max_gradient_norm.max(other.max_gradient_norm);
    }
}

/// A model being trained on a data set: its parameters, and the steps that move them.
///
/// The loss is `(1/2B) Σ ‖f(x_i) − y_i‖²` over the samples of a step, or `(1/B) Σ ℓ_i` if the data
/// have [another loss](Dataset::with_loss). B is the number of samples, unless they are
/// [drawn](Samples::Drawn). An index beyond the data causes a panic.
pub trait Kernel: Send {
    /// One step on the samples `samples`.
    fn step(&mut self, samples: Samples<'_>, update: Update) -> Step;

    /// One step on the samples `batch`.
    fn batch_step(&mut self, batch: &[u32], update: Update) -> Step {
        self.step(Samples::Batch(batch), update)
    }

    /// One step on all samples.
    fn full_step(&mut self, update: Update) -> Step {
        self.step(Samples::All, update)
    }

    /// One step of batch size 1 for each entry of `order`, with the learning rate of the same
    /// position.
    ///
    /// A kernel may compute several steps together. The results agree to rounding with separate
    /// calls of [`batch_step`](Kernel::batch_step), and with several calls for parts of the
    /// sequence.
    ///
    /// # Panics
    /// When the two slices differ in length.
    fn single_steps(&mut self, order: &[u32], learning_rates: &[f64], clip_norm: f64) -> Segment {
        assert_eq!(order.len(), learning_rates.len(), "one learning rate for each step");
        let mut segment = Segment::default();
        for (sample, &learning_rate) in order.iter().zip(learning_rates) {
            let update = Update { learning_rate, clip_norm };
            segment.add(self.batch_step(std::slice::from_ref(sample), update));
        }
        segment
    }

    /// The current parameters, in the layout of the model.
    fn parameters(&self) -> Vec<f64>;

    /// The state of the optimizer after the last step. It is empty for plain SGD, the only
    /// optimizer of the fused kernels.
    fn optimizer_state(&self) -> OptimizerState {
        OptimizerState::default()
    }
}
