//! The step of an optimizer, once the gradient is known.
//!
//! [`Optimizer`] defines a step; [`Descent`] computes it. A new optimizer is a new setting there
//! and a few lines in [`Descent::step`]; the numbers that it keeps from step to step are fields of
//! [`OptimizerState`], which runs store and restore without looking inside.

use flatmin_linalg::simd;
pub use flatmin_theory::Optimizer;
use serde::{Deserialize, Serialize};

/// The numbers that an optimizer keeps from step to step, such as its momentum buffer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct OptimizerState {
    /// The momentum buffer u, of length p; empty without momentum and before the first step.
    momentum_buffer: Vec<f64>,
}

impl OptimizerState {
    /// True for an optimizer that keeps nothing, and before the first step.
    pub fn is_empty(&self) -> bool {
        self.momentum_buffer.is_empty()
    }

    /// True if no number is NaN or infinite.
    pub(crate) fn is_finite(&self) -> bool {
        self.momentum_buffer.iter().copied().all(f64::is_finite)
    }

    /// True if `optimizer` can have this state after `steps` steps of `parameter_count` parameters.
    pub(crate) fn fits(&self, optimizer: &Optimizer, parameter_count: usize, steps: u64) -> bool {
        let is_kept = optimizer.momentum_coefficient() > 0.0 && steps > 0;
        self.momentum_buffer.len() == if is_kept { parameter_count } else { 0 }
    }
}

/// An optimizer in a run: its settings and its state.
#[derive(Debug)]
pub(crate) struct Descent {
    optimizer: Optimizer,
    /// The state of the optimizer after the last step.
    pub(crate) state: OptimizerState,
}

impl Descent {
    /// An optimizer that starts or resumes from `state`.
    pub(crate) fn new(optimizer: Optimizer, state: OptimizerState) -> Self {
        Self { optimizer, state }
    }

    /// Moves `parameters` by one step along `scale · gradient`, as `torch.optim.SGD` does.
    ///
    /// `scale` is the factor by which clipping scales the gradient, 1 without clipping: weight
    /// decay and momentum act on the clipped gradient. `gradient` is overwritten.
    pub(crate) fn step(
        &mut self,
        parameters: &mut [f64],
        gradient: &mut [f64],
        scale: f64,
        learning_rate: f64,
    ) {
        let Self { optimizer, state } = self;
        if *optimizer == Optimizer::sgd() {
            simd::axpy(-(learning_rate * scale), gradient, parameters);
            return;
        }
        let coupled = optimizer.coupled_decay();
        for (g, theta) in gradient.iter_mut().zip(&*parameters) {
            *g = scale * *g + coupled * theta;
        }
        let kept = 1.0 - learning_rate * optimizer.decoupled_decay();
        for theta in &mut *parameters {
            *theta *= kept;
        }
        let momentum = optimizer.momentum_coefficient();
        if momentum > 0.0 {
            let buffer = &mut state.momentum_buffer;
            if buffer.is_empty() {
                // The first gradient is not dampened.
                buffer.extend_from_slice(gradient);
            } else {
                let fresh = 1.0 - optimizer.dampening_coefficient();
                for (u, g) in buffer.iter_mut().zip(&*gradient) {
                    *u = momentum * *u + fresh * g;
                }
            }
            if optimizer.is_nesterov() {
                simd::axpy(momentum, buffer, gradient);
            } else {
                gradient.copy_from_slice(buffer);
            }
        }
        simd::axpy(-learning_rate, gradient, parameters);
    }
}
