//! R7: a training step of a two-layer ReLU network.

use flatmin_models::{Model as _, TwoLayerRelu};

use crate::families::network::{NetworkInstance, StepInstance};
use crate::families::relu::random_network;
use crate::prelude::*;

pub(super) static R7: Statement = Statement {
    id: "R7",
    title: "A step balances a neuron",
    words: "In a step on one sample with residual r, a_j² − ‖w_j‖² grows by η²r²((w_jᵀx)² − \
            a_j²‖x‖²) if the neuron is active, and not at all otherwise.",
    latex: r"a_j'^2 - \|w_j'\|^2 = a_j^2 - \|w_j\|^2 + \eta^2 r^2\,\mathbf 1(w_j^\top x > 0)\left((w_j^\top x)^2 - a_j^2\|x\|^2\right)",
    hypotheses: "none: any input, residual and learning rate",
    source: FLATMIN,
    check_words: "Both sides for every neuron, after a step through the gradient of the model.",
    mutant_words: "+ a_j²‖x‖² instead of − a_j²‖x‖²",
    trial: &Trial { generate, check: |form, step| Ok(check(form, step)) },
};

/// A training step of a two-layer ReLU network. R7 is about steps on one sample.
pub type ReluStepInstance = StepInstance<TwoLayerRelu>;

fn generate(rng: &mut dyn Rng) -> ReluStepInstance {
    let (model, parameters) = random_network(rng);
    StepInstance::random(model, parameters, 1, rng)
}

impl Instance for ReluStepInstance {
    fn sizes(&self) -> String {
        let (m, d) = (self.network.model.width(), self.network.model.input_dim());
        format!("m = {m}, d = {d}, η = {}", self.learning_rate)
    }
}

/// Checks the balance of every neuron after a step along the gradient of the model. The mutant adds
/// `a_j²‖x‖²` instead of subtracting it.
fn check(form: Form, step: &ReluStepInstance) -> Vec<Comparison> {
    let StepInstance { network, residuals, learning_rate } = step;
    let [residual] = residuals[..] else { return Vec::new() };
    let NetworkInstance { model, parameters, inputs } = network;
    let input = inputs.row(0);
    let mut after = parameters.clone();
    simd::axpy(-learning_rate * residual, &network.gradient(input), &mut after);
    let ((hidden, output), (hidden_after, output_after)) =
        (model.split(parameters), model.split(&after));
    let squared_norm = simd::norm_squared(input);
    let step = learning_rate * residual;
    (0..model.width())
        .map(|j| {
            let weights =
                |hidden: &[f64]| hidden[j * model.input_dim()..][..model.input_dim()].to_vec();
            let (w, w_after) = (weights(hidden), weights(hidden_after));
            let (a, z) = (output[j], simd::dot(&w, input));
            let lhs = output_after[j].powi(2) - simd::norm_squared(&w_after);
            let sign = form.pick(1.0, -1.0);
            let change = if z > 0.0 { z * z - sign * a * a * squared_norm } else { 0.0 };
            let rhs = a * a - simd::norm_squared(&w) + step * step * change;
            // An upper bound on all intermediate sums.
            let factor = 1.0 + step.abs() * squared_norm.sqrt();
            let scale = (factor * (a.abs() + simd::norm_squared(&w).sqrt())).powi(2);
            Comparison::equal("balance after a step", lhs, rhs, scale)
        })
        .collect()
}
