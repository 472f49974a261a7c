//! D5: a training step of a diagonal linear network.

use flatmin_models::{DiagonalLinear, Model as _};

use crate::families::diagonal::random_parameters;
use crate::families::network::{NetworkInstance, StepInstance};
use crate::prelude::*;

pub(super) static D5: Statement = Statement {
    id: "D5",
    title: "A step shrinks the imbalance",
    words: "In a step of SGD the imbalance a_j² − b_j² of a coordinate is multiplied by 1 − \
            η²c_j², where c_j is the mean of residual times input over the batch.",
    latex: r"a_j'^2 - b_j'^2 = (a_j^2 - b_j^2)\left(1 - \eta^2 c_j^2\right),\quad c_j = \tfrac1B\sum_i r_i x_{ij}",
    hypotheses: "none: any batch, residuals and learning rate",
    source: FLATMIN,
    check_words: "Both sides for every coordinate, after a step through the gradient of the model.",
    mutant_words: "1 + η²c_j² instead of 1 − η²c_j²",
    trial: &Trial { generate, check: |form, step| Ok(check(form, step)) },
};

/// A training step of a diagonal linear network.
pub type DiagonalStepInstance = StepInstance<DiagonalLinear>;

fn generate(rng: &mut dyn Rng) -> DiagonalStepInstance {
    let (dim, batch_size) = (size(rng), size(rng));
    let model = DiagonalLinear::new(dim).expect("sizes are drawn from 1 on");
    StepInstance::random(model, random_parameters(dim, rng), batch_size, rng)
}

impl Instance for DiagonalStepInstance {
    fn sizes(&self) -> String {
        let (d, size) = (self.network.model.input_dim(), self.residuals.len());
        format!("d = {d}, B = {size}, η = {}", self.learning_rate)
    }
}

/// Checks the imbalance of every coordinate after a step along the gradient of the model.
fn check(form: Form, step: &DiagonalStepInstance) -> Vec<Comparison> {
    let StepInstance { network, residuals, learning_rate } = step;
    let NetworkInstance { model, parameters, inputs } = network;
    let batch_size = inputs.rows() as f64;
    let mut after = parameters.clone();
    for (i, residual) in residuals.iter().enumerate() {
        let gradient = network.gradient(inputs.row(i));
        for (value, derivative) in after.iter_mut().zip(&gradient) {
            *value -= learning_rate / batch_size * residual * derivative;
        }
    }
    let ((a, b), (a_after, b_after)) = (model.split(parameters), model.split(&after));
    (0..model.input_dim())
        .map(|j| {
            let terms = residuals.iter().enumerate().map(|(i, r)| r * inputs.row(i)[j]);
            let (sum, sum_of_sizes) =
                terms.fold((0.0, 0.0), |(sum, sizes), term| (sum + term, sizes + term.abs()));
            let shrinkage = (learning_rate * sum / batch_size).powi(2);
            let lhs = a_after[j].powi(2) - b_after[j].powi(2);
            let rhs = (a[j].powi(2) - b[j].powi(2)) * (1.0 - form.pick(1.0, -1.0) * shrinkage);
            // An upper bound on all intermediate sums.
            let factor = 1.0 + learning_rate.abs() * sum_of_sizes / batch_size;
            let scale = (factor * (a[j].abs() + b[j].abs())).powi(2);
            Comparison::equal("balance after a step", lhs, rhs, scale)
        })
        .collect()
}
