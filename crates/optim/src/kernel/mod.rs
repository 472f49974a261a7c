//! The steps of SGD and gradient descent.

#![expect(
    clippy::inline_always,
    reason = "a kernel that is not inlined loses the instruction set it was dispatched to"
)]

mod blocked;
mod diagonal;
mod grouped;
mod mlp;
mod plain;
mod relu;
mod sweep;

use flatmin_models::{Dataset, DiagonalLinear, Mlp, Model, TwoLayerRelu};

pub use diagonal::DiagonalKernel;
pub use mlp::MlpKernel;
pub use plain::PlainKernel;
pub use relu::ReluKernel;

/// How far a step goes along the gradient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update {
    /// The learning rate η.
    pub learning_rate: f64,
    /// A gradient with a larger ℓ2 norm is scaled down to this norm; infinite for no clipping.
    pub clip_norm: f64,
}

impl Update {
    /// The factor of the gradient, `η · min(1, clip/norm)`, and whether it was clipped.
    #[inline]
    fn factor(self, gradient_norm: f64) -> (f64, bool) {
        if gradient_norm > self.clip_norm {
            (self.learning_rate * (self.clip_norm / gradient_norm), true)
        } else {
            (self.learning_rate, false)
        }
    }
}

/// What one step saw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// The loss of the batch before the step, `(1/2B) Σ r_i²`.
    pub loss: f64,
    /// The ℓ2 norm of the batch gradient before clipping.
    pub gradient_norm: f64,
    /// Whether the gradient was clipped.
    pub clipped: bool,
}

/// What a run of steps saw, summed up.
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
/// The loss is `(1/2B) Σ ‖f(x_i) − y_i‖²` over the batch. Indices beyond the data panic.
pub trait Kernel: Send {
    /// One step on the samples `batch`.
    fn batch_step(&mut self, batch: &[u32], update: Update) -> Step;

    /// One step on all samples.
    fn full_step(&mut self, update: Update) -> Step;

    /// One step of batch size 1 for each entry of `order`, with the learning rate of the same
    /// position. The same numbers as [`batch_step`](Kernel::batch_step) one by one, or as several calls
    /// for parts of the sequence, to rounding: kernels may take steps together.
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
}

/// A model that can be trained.
pub trait Trainable: Model {
    /// The fastest kernel there is for this model, starting from `parameters`, in float64.
    ///
    /// # Panics
    /// When the parameters or the inputs do not fit the model.
    fn kernel<'a>(&self, data: &'a Dataset, parameters: &[f64]) -> Box<dyn Kernel + 'a>;

    /// The same with parameters, inputs and arithmetic in float32, where there is one: it starts from
    /// `parameters` rounded to float32. Sums over coordinates are float32; what a step computes from
    /// them, residuals, losses, the gradient norm and the factor of the gradient, is float64.
    ///
    /// # Panics
    /// As [`kernel`](Self::kernel).
    fn float32_kernel<'a>(
        &self,
        _data: &'a Dataset,
        _parameters: &[f64],
    ) -> Option<Box<dyn Kernel + 'a>> {
        None
    }
}

impl Trainable for TwoLayerRelu {
    fn kernel<'a>(&self, data: &'a Dataset, parameters: &[f64]) -> Box<dyn Kernel + 'a> {
        Box::new(ReluKernel::<f64>::new(*self, data, parameters))
    }

    fn float32_kernel<'a>(
        &self,
        data: &'a Dataset,
        parameters: &[f64],
    ) -> Option<Box<dyn Kernel + 'a>> {
        Some(Box::new(ReluKernel::<f32>::new(*self, data, parameters)))
    }
}

impl Trainable for DiagonalLinear {
    fn kernel<'a>(&self, data: &'a Dataset, parameters: &[f64]) -> Box<dyn Kernel + 'a> {
        Box::new(DiagonalKernel::<f64>::new(*self, data, parameters))
    }

    fn float32_kernel<'a>(
        &self,
        data: &'a Dataset,
        parameters: &[f64],
    ) -> Option<Box<dyn Kernel + 'a>> {
        Some(Box::new(DiagonalKernel::<f32>::new(*self, data, parameters)))
    }
}

impl Trainable for Mlp {
    fn kernel<'a>(&self, data: &'a Dataset, parameters: &[f64]) -> Box<dyn Kernel + 'a> {
        Box::new(MlpKernel::new(self, data, parameters))
    }
}
