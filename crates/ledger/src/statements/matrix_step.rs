//! F6: a training step of matrix sensing.

use flatmin_models::MatrixSensing;

use crate::families::network::{NetworkInstance, StepInstance};
use crate::families::sensing::{factor_matrices, random_factors, random_sensing};
use crate::prelude::*;

pub(super) static F6: Statement = Statement {
    id: "F6",
    title: "A step changes the balance of factors",
    words: "A step of SGD adds η²(VᵀCᵀCV − UᵀCCᵀU) to the balance D = UᵀU − VᵀV, where C is the \
            mean of residual times measurement over the batch. D = 0 is not kept.",
    latex: r"D' = D + \eta^2\left(V^\top C^\top C V - U^\top C C^\top U\right),\quad D = U^\top U - V^\top V,\ C = \tfrac1B\sum_i r_i X_i",
    hypotheses: "none: any batch, residuals and learning rate",
    source: FLATMIN,
    check_words: "Both sides for every entry, after a step through the gradient of the model.",
    mutant_words: "minus the second term",
    trial: &Trial { generate, check: |form, step| Ok(check(form, step)) },
};

/// A training step of matrix sensing.
pub type SensingStepInstance = StepInstance<MatrixSensing>;

fn generate(rng: &mut dyn Rng) -> SensingStepInstance {
    let model = random_sensing(rng);
    let parameters = random_factors(model, rng);
    StepInstance::random(model, parameters, size(rng), rng)
}

impl Instance for SensingStepInstance {
    fn sizes(&self) -> String {
        let model = self.network.model;
        let (rows, columns, k) = (model.rows(), model.columns(), model.factor_count());
        let (size, rate) = (self.residuals.len(), self.learning_rate);
        format!("d₁ = {rows}, d₂ = {columns}, k = {k}, B = {size}, η = {rate}")
    }
}

fn check(form: Form, step: &SensingStepInstance) -> Vec<Comparison> {
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
    let columns = model.columns();
    let mean = |term: &dyn Fn(f64, f64) -> f64, row: usize, column: usize| {
        let entries = residuals.iter().enumerate();
        let terms = entries.map(|(i, r)| term(*r, inputs.row(i)[row * columns + column]));
        terms.sum::<f64>() / batch_size
    };
    let correlation = Mat::from_fn(model.rows(), columns, |i, j| mean(&|r, x| r * x, i, j));
    let sizes = Mat::from_fn(model.rows(), columns, |i, j| mean(&|r, x| (r * x).abs(), i, j));
    let (u, v) = factor_matrices(*model, parameters);
    let (u_after, v_after) = factor_matrices(*model, &after);
    let (d_u, d_v) = (&correlation * &v, correlation.transpose() * &u);
    let change = d_u.transpose() * &d_u - d_v.transpose() * &d_v;
    let balance = u.transpose() * &u - v.transpose() * &v;
    let balance_after = u_after.transpose() * &u_after - v_after.transpose() * &v_after;
    // An upper bound on all intermediate sums.
    let growth = 1.0 + learning_rate.abs() * sizes.norm_l2();
    let scale = (growth * (u.norm_l2() + v.norm_l2())).powi(2);
    let factor = form.pick(1.0, -1.0) * learning_rate * learning_rate;
    let k = model.factor_count();
    (0..k * k)
        .map(|entry| {
            let at = (entry / k, entry % k);
            let rhs = balance[at] + factor * change[at];
            Comparison::equal("balance after a step", balance_after[at], rhs, scale)
        })
        .collect()
}
