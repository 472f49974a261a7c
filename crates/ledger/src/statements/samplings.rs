//! S16: the two numbers of a sampling, compared with the list of all batches.

use flatmin_theory::{Bounds, alignment};

use crate::families::steps::{BatchModel, batch_models, enumerated_threshold, mean_hessian};
use crate::prelude::*;

pub(super) static S16: Statement = Statement {
    id: "S16",
    title: "The two numbers of a sampling",
    words: "Second moments depend on the sampling through two numbers: the mean of H_I ⊗ H_I over \
            batches is α G ⊗ G + p (1/n) Σ H_i ⊗ H_i. With replacement p = 1/B, without \
            replacement p = (n−B)/(B(n−1)), and α = 1 − p for both. With Poisson sampling, where \
            every sample joins with probability B/n and the sum is divided by B, α = 1 and p = \
            (n−B)/(nB). S2 holds as it is; S5–S7, S9 and S11 hold with α for 1 − p.",
    latex: r"\mathbb E[H_I\otimes H_I] = \alpha\, G\otimes G + \frac pn\sum_i H_i\otimes H_i,\quad \text{Poisson: } \alpha = 1,\ p = \frac{n-B}{nB}",
    hypotheses: INDEPENDENT,
    source: FLATMIN,
    check_words: "The mean of H_I and of H_I ⊗ H_I over the list of all batches, entry by entry; \
                  the reported threshold and S2, S6 and S7 with α for 1 − p, against the threshold \
                  of the enumerated batches.",
    mutant_words: "α = 1 − p for Poisson sampling too",
    trial: &Trial { generate: random, check },
};

/// At most 5 samples and 4 parameters.
fn random(rng: &mut dyn Rng) -> MinimumInstance {
    let jacobian = small_jacobian(5, 4, rng);
    let batch = independent_batch(jacobian.rows(), rng);
    MinimumInstance { jacobian, batch }
}

/// Checks both means entry by entry, and the threshold and bounds that follow. The mutant takes α =
/// 1 − p.
fn check(form: Form, instance: &MinimumInstance) -> Checked {
    let MinimumInstance { jacobian, batch } = instance;
    let Some(models) = batch_models(jacobian, 1, &[], *batch) else { return Ok(Vec::new()) };
    let minimum = Minimum::new(jacobian)?;
    let noise = batch.noise(jacobian.rows())?;
    let p = noise.coefficient;
    let alpha = form.pick(noise.mean_weight(), 1.0 - p);
    let mean = mean_hessian(&models);
    let exact = enumerated_threshold(&models)?;
    let claimed = Claimed::new(jacobian, alpha, p);
    let mut comparisons = vec![claimed.second_moments(&models)];
    let sharpness = minimum.sharpness();
    let largest = minimum.largest_gradient_norm_squared();
    let name = "threshold and enumerated batches";
    if form == Form::Mutant {
        let wrong = enumerated_threshold(&claimed.as_batches())?;
        let bound = 2.0 / (alpha * sharpness.lambda_max + p * largest);
        comparisons.extend(Comparison::all_at_most([
            (name, wrong, exact),
            (name, exact, wrong),
            ("S7", bound, exact),
        ]));
        return Ok(comparisons);
    }
    let scale = mean.norm_max();
    for (k, l) in (0..mean.nrows()).flat_map(|k| (0..=k).map(move |l| (k, l))) {
        let (found, expected) = (mean[(k, l)], claimed.gauss_newton[(k, l)]);
        comparisons.push(Comparison::equal("mean", found, expected, scale));
    }
    let reported = threshold(&minimum, &Optimizer::sgd(), batch)?;
    let bounds = Bounds::new(&minimum, &alignment(&minimum)?, noise);
    comparisons.extend(Comparison::all_at_most([
        (name, reported.lower, exact),
        (name, exact, reported.upper),
        ("S7", bounds.sufficient, exact),
        ("S6", exact, bounds.spectral),
        ("S2", exact, bounds.trace),
    ]));
    Ok(comparisons)
}

/// The right side of the statement.
struct Claimed<'a> {
    jacobian: &'a RowMatrix,
    gauss_newton: Mat<f64>,
    alpha: f64,
    p: f64,
}

impl<'a> Claimed<'a> {
    fn new(jacobian: &'a RowMatrix, alpha: f64, p: f64) -> Self {
        let (matrix, n) = (jacobian.as_mat(), jacobian.rows() as f64);
        Self {
            jacobian,
            gauss_newton: faer::Scale(1.0 / n) * (matrix.transpose() * matrix),
            alpha,
            p,
        }
    }

    /// Compares the entry of the second moments that differs most, relative to the largest.
    fn second_moments(&self, models: &[BatchModel]) -> Comparison {
        let (n, dim) = (self.jacobian.rows(), self.jacobian.columns());
        let g = |entry: usize| self.gauss_newton[(entry / dim, entry % dim)];
        let (mut worst, mut scale) = ((0.0_f64, 0.0_f64), 0.0_f64);
        for first in 0..dim * dim {
            for second in 0..=first {
                let at = |entry: usize| (entry / dim, entry % dim);
                let enumerated: f64 = models
                    .iter()
                    .map(|m| m.probability * m.hessian[at(first)] * m.hessian[at(second)])
                    .sum();
                let product = |row: &[f64], entry: usize| row[entry / dim] * row[entry % dim];
                let mean: f64 = (0..n)
                    .map(|i| self.jacobian.row(i))
                    .map(|row| product(row, first) * product(row, second))
                    .sum();
                let claimed = self.alpha * g(first) * g(second) + self.p / n as f64 * mean;
                scale = scale.max(enumerated.abs());
                if !((enumerated - claimed).abs() <= (worst.0 - worst.1).abs()) {
                    worst = (enumerated, claimed);
                }
            }
        }
        Comparison::equal("second moments", worst.0, worst.1, scale)
    }

    /// Batches with these second moments, for α = 1 − p: G itself with probability α, and each
    /// sample with probability p/n.
    fn as_batches(&self) -> Vec<BatchModel> {
        let (n, dim) = (self.jacobian.rows(), self.jacobian.columns());
        let model = |probability: f64, hessian| BatchModel {
            probability,
            hessian,
            gradient: vec![0.0; dim],
        };
        let single = |i: usize| {
            let row = self.jacobian.row(i);
            Mat::from_fn(dim, dim, |k, l| row[k] * row[l])
        };
        let samples = (0..n).map(|i| model(self.p / n as f64, single(i)));
        samples.chain([model(self.alpha, self.gauss_newton.clone())]).collect()
    }
}
