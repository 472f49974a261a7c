//! S17: any convex loss, compared with batches whose curvature is formed from its Hessians.

use flatmin_theory::OutputHessians;

use crate::families::steps::{BatchModel, batch_models, enumerated_threshold};
use crate::prelude::*;

pub(super) static S17: Statement = Statement {
    id: "S17",
    title: "The threshold for any convex loss",
    words: "For the loss (1/n) Σ ℓ_i(f(x_i)) with convex ℓ_i, whose Hessian in the k outputs is \
            S_i = R_iR_iᵀ, every statement holds with R_iᵀJ_i in place of J_i, in the form of S13 \
            for k > 1. For softmax cross-entropy S_i = diag(π_i) − π_iπ_iᵀ, for binary \
            cross-entropy π_i(1−π_i). This is exact where every ∇ℓ_i vanishes, as for the squared \
            loss at zero and for cross-entropy with soft labels at an interpolating minimum; \
            elsewhere it is the Gauss–Newton model of the loss.",
    latex: r"J_i \to R_i^\top J_i,\quad R_iR_i^\top = \nabla^2\ell_i,\quad \text{softmax: } \nabla^2\ell_i = \operatorname{diag}(\pi_i) - \pi_i\pi_i^\top",
    hypotheses: "every ℓ_i convex; ∇ℓ_i = 0 at the minimum, or the Gauss–Newton model; batches \
                 drawn independently, with or without replacement or with Poisson sampling",
    source: FLATMIN,
    check_words: "The reported threshold of a Jacobian with softmax, binary or general Hessians \
                  against the operator of S8, averaged over all batches, of the matrices J_iᵀS_iJ_i. \
                  For softmax S_i is formed as ½ Σ π_aπ_b (e_a−e_b)(e_a−e_b)ᵀ.",
    mutant_words: "the Jacobian not weighted",
    trial: &Trial { generate: LossInstance::random, check },
};

/// The convex functions `ℓ_i` of a [`LossInstance`].
#[derive(Debug, Clone, PartialEq)]
pub enum Loss {
    /// Softmax cross-entropy at these logits, n × k with k > 1.
    Softmax(RowMatrix),
    /// Binary cross-entropy at these logits, n of them.
    Logistic(Vec<f64>),
    /// The Hessians `S_i = R_iR_iᵀ` of any loss, by the `R_i` one below the other, nk × k.
    General(RowMatrix),
}

/// A minimum of a network whose loss is not the squared one.
#[derive(Debug, Clone, PartialEq)]
pub struct LossInstance {
    jacobian: RowMatrix,
    outputs: usize,
    loss: Loss,
    batch: Batch,
}

impl Instance for LossInstance {
    fn sizes(&self) -> String {
        let Self { jacobian, outputs, loss, batch } = self;
        let (n, p) = (jacobian.rows() / outputs, jacobian.columns());
        let loss = match loss {
            Loss::Softmax(_) => "softmax",
            Loss::Logistic(_) => "logistic",
            Loss::General(_) => "general",
        };
        format!("n = {n}, k = {outputs}, p = {p}, {loss}, {}", batch_words(*batch))
    }
}

impl LossInstance {
    /// A minimum with the Jacobian of a network, nk × p sample by sample, for this loss.
    ///
    /// # Errors
    /// [`InstanceError::Length`] when the Jacobian does not have nk rows.
    pub fn new(jacobian: RowMatrix, loss: Loss, batch: Batch) -> Result<Self, InstanceError> {
        let (rows, outputs) = match &loss {
            Loss::Softmax(logits) => (logits.rows() * logits.columns(), logits.columns()),
            Loss::Logistic(logits) => (logits.len(), 1),
            Loss::General(roots) => (roots.rows(), roots.columns()),
        };
        expect_length("the Jacobian", jacobian.rows(), rows)?;
        Ok(Self { jacobian, outputs, loss, batch })
    }

    /// At most 4 samples, 3 outputs and 4 parameters.
    fn random(rng: &mut dyn Rng) -> Self {
        const MAX_COLUMNS: usize = 4;
        let (samples, columns) = (rng.random_range(1..=4), size(rng).min(MAX_COLUMNS));
        let spread = rng.random_range(0.0..4.0);
        let (outputs, loss) = match rng.random_range(0..3) {
            0 => {
                let outputs = rng.random_range(2..=3);
                let mut logits = normal_matrix(samples, outputs, rng);
                (0..samples).for_each(|i| scale_row(&mut logits, i, spread));
                (outputs, Loss::Softmax(logits))
            }
            1 => (1, Loss::Logistic((0..samples).map(|_| spread * normal(rng)).collect())),
            _ => {
                let outputs = rng.random_range(1..=3);
                let mut roots = normal_matrix(samples * outputs, outputs, rng);
                // Some rows are zero: S_i is singular.
                for row in 0..roots.rows() {
                    scale_row(&mut roots, row, if rng.random_bool(0.25) { 0.0 } else { 1.0 });
                }
                (outputs, Loss::General(roots))
            }
        };
        let mut jacobian = normal_matrix(samples * outputs, columns, rng);
        if rng.random_bool(0.5) {
            for i in 0..samples {
                let scale = heavy_tailed(rng);
                (i * outputs..(i + 1) * outputs)
                    .for_each(|row| scale_row(&mut jacobian, row, scale));
            }
        }
        let batch = independent_batch(samples, rng);
        Self { jacobian, outputs, loss, batch }
    }

    /// The `S_i`, k² numbers each, from their plain definitions.
    fn hessians(&self) -> Vec<f64> {
        let k = self.outputs;
        let mut values = vec![0.0; self.jacobian.rows() * k];
        for (i, block) in values.chunks_mut(k * k).enumerate() {
            match &self.loss {
                Loss::Softmax(logits) => {
                    let sum: f64 = logits.row(i).iter().map(|z| libm::exp(*z)).sum();
                    let pi = |a: usize| libm::exp(logits.row(i)[a]) / sum;
                    for (a, b) in (0..k).flat_map(|a| (0..k).map(move |b| (a, b))) {
                        // Half of the pair's (e_a − e_b)(e_a − e_b)ᵀ; the pair comes twice.
                        let weight = 0.5 * pi(a) * pi(b);
                        if a != b {
                            block[a * k + a] += weight;
                            block[b * k + b] += weight;
                            block[a * k + b] -= weight;
                            block[b * k + a] -= weight;
                        }
                    }
                }
                Loss::Logistic(logits) => {
                    let pi = 1.0 / (1.0 + libm::exp(-logits[i]));
                    block[0] = pi / (1.0 + libm::exp(logits[i]));
                }
                Loss::General(roots) => {
                    for (a, b) in (0..k).flat_map(|a| (0..k).map(move |b| (a, b))) {
                        block[a * k + b] = simd::dot(roots.row(i * k + a), roots.row(i * k + b));
                    }
                }
            }
        }
        values
    }

    /// The Hessians as a user gives them.
    fn reported(&self) -> Result<OutputHessians, LedgerError> {
        Ok(match &self.loss {
            Loss::Softmax(logits) => OutputHessians::softmax(logits)?,
            Loss::Logistic(logits) => OutputHessians::logistic(logits)?,
            Loss::General(_) => OutputHessians::new(&self.hessians(), self.outputs)?,
        })
    }

    /// The batches with the curvatures `(1/B) Σ J_iᵀS_iJ_i`; `None` if there are too many.
    fn batch_models(&self) -> Option<Vec<BatchModel>> {
        let (k, dim) = (self.outputs, self.jacobian.columns());
        let hessians = self.hessians();
        let samples = self.jacobian.rows() / k;
        // Weights of the samples by way of a Jacobian of unit vectors, one for each sample.
        let selector = RowMatrix::from_fn(samples, samples, |i, j| if i == j { 1.0 } else { 0.0 });
        let mut models = batch_models(&selector, 1, &[], self.batch)?;
        for model in &mut models {
            let weights = model.hessian.clone();
            model.hessian = Mat::from_fn(dim, dim, |first, second| {
                let mut sum = 0.0;
                for i in 0..samples {
                    for (a, b) in (0..k).flat_map(|a| (0..k).map(move |b| (a, b))) {
                        let s = hessians[(i * k + a) * k + b];
                        let (left, right) =
                            (self.jacobian.row(i * k + a), self.jacobian.row(i * k + b));
                        sum += weights[(i, i)] * left[first] * s * right[second];
                    }
                }
                sum
            });
            model.gradient = vec![0.0; dim];
        }
        Some(models)
    }
}

/// Checks the reported interval against the threshold of the enumerated batches. The mutant gives
/// the Jacobian without weights.
fn check(form: Form, instance: &LossInstance) -> Checked {
    let LossInstance { jacobian, outputs, batch, .. } = instance;
    let Some(models) = instance.batch_models() else { return Ok(Vec::new()) };
    let exact = enumerated_threshold(&models)?;
    let minimum = match form {
        Form::Stated => Minimum::with_loss(jacobian, &instance.reported()?)?,
        Form::Mutant => Minimum::with_outputs(jacobian, *outputs)?,
    };
    let reported = threshold(&minimum, &Optimizer::sgd(), batch)?;
    let (below, above) = ("lower end and threshold", "threshold and upper end");
    Ok(Comparison::all_at_most([(below, reported.lower, exact), (above, exact, reported.upper)]))
}
