//! The definition of a step, for any model and any optimizer.

use flatmin_linalg::simd;
use flatmin_models::{Dataset, Model};

use super::step::{Kernel, Samples, Step, Update};
use crate::optimizer::{Descent, Optimizer, OptimizerState};

/// Steps by the plain definition: per-sample gradients through [`Model::gradient`], their mean, its
/// norm, clipping, and the step of the optimizer. Slow, and the reference for every other kernel.
#[derive(Debug)]
pub struct PlainKernel<'a, M: ?Sized> {
    model: &'a M,
    data: &'a Dataset,
    descent: Descent,
    parameters: Vec<f64>,
    mean_gradient: Vec<f64>,
    output: Vec<f64>,
    /// The gradients of the k outputs at one sample, k × p.
    sample_gradients: Vec<f64>,
}

impl<'a, M: Model + ?Sized> PlainKernel<'a, M> {
    /// A kernel that starts from `parameters`, with steps of plain SGD.
    ///
    /// # Panics
    /// When the parameters or the inputs do not fit the model.
    pub fn new(model: &'a M, data: &'a Dataset, parameters: &[f64]) -> Self {
        let state = OptimizerState::default();
        Self::with_optimizer(model, data, parameters, Optimizer::sgd(), state)
    }

    /// A kernel that starts from `parameters`, with steps of `optimizer` that start from `state`.
    /// The default state is the one before the first step.
    ///
    /// # Panics
    /// See [`new`](Self::new).
    pub fn with_optimizer(
        model: &'a M,
        data: &'a Dataset,
        parameters: &[f64],
        optimizer: Optimizer,
        state: OptimizerState,
    ) -> Self {
        let p = model.parameter_count();
        assert_eq!(parameters.len(), p, "number of parameters");
        assert_eq!(data.inputs().columns(), model.input_dim(), "dimension of the inputs");
        assert_eq!(data.output_dim(), model.output_dim(), "number of outputs");
        Self {
            output: vec![0.0; model.output_dim()],
            sample_gradients: vec![0.0; model.output_dim() * p],
            model,
            data,
            descent: Descent::new(optimizer, state),
            parameters: parameters.to_vec(),
            mean_gradient: vec![0.0; p],
        }
    }
}

impl<M: Model + ?Sized> Kernel for PlainKernel<'_, M> {
    fn step(&mut self, samples: Samples<'_>, update: Update) -> Step {
        let count = samples.len(self.data);
        let scale = samples.scale(self.data);
        self.mean_gradient.fill(0.0);
        let mut loss = 0.0;
        for sample in (0..count).map(|position| samples.get(position)) {
            let input = self.data.inputs().row(sample);
            self.model.output(&self.parameters, input, &mut self.output);
            self.model.gradient(&self.parameters, input, &mut self.sample_gradients);
            let targets = self.data.targets_of(sample..sample + 1);
            let function = self.data.loss_function();
            function.differentiate(scale, &mut self.output, targets, &mut loss);
            let gradients = self.sample_gradients.chunks_exact(self.parameters.len());
            for (residual, gradient) in self.output.iter().zip(gradients) {
                simd::axpy(*residual, gradient, &mut self.mean_gradient);
            }
        }
        let gradient_norm = simd::norm_squared(&self.mean_gradient).sqrt();
        let (scale, clipped) = update.clip(gradient_norm);
        let (parameters, gradient) = (&mut self.parameters, &mut self.mean_gradient);
        self.descent.step(parameters, gradient, scale, update.learning_rate);
        Step { loss, gradient_norm, clipped }
    }

    fn parameters(&self) -> Vec<f64> {
        self.parameters.clone()
    }

    fn optimizer_state(&self) -> OptimizerState {
        self.descent.state.clone()
    }
}
