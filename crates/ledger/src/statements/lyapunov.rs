//! S14: the Lyapunov function and its mean over every batch.

use flatmin_theory::{ThresholdOptions, lyapunov_function};

use crate::families::batches::batches;
use crate::prelude::*;

pub(super) static S14: Statement = Statement {
    id: "S14",
    title: "A Lyapunov function that is exact up to the threshold",
    words: "There is a positive semidefinite Y*, with D(Y*) = (2/η*) C(Y*), such that V(δ) = δᵀY*δ \
            changes in a step by −η(η* − η) δᵀD(Y*)δ on average, from every state and for every \
            learning rate: V is a supermartingale exactly up to the threshold.",
    latex: r"\mathbb E\,V(\delta') - V(\delta) = -\eta(\eta^* - \eta)\,\delta^\top D(Y^*)\,\delta",
    hypotheses: "those of S2, and G ≠ 0",
    source: FLATMIN,
    check_words: "V after a step, averaged over all batches, from random states at 0.3, 1 and 1.7 \
                  times the threshold.",
    mutant_words: "2η* − η instead of η* − η",
    trial: &Trial { generate: MinimumInstance::random, check },
};

/// Checks the expectation of V after a step, over every batch, from a few states and at learning
/// rates on both sides of the threshold. Also checks that Y* has no negative eigenvalue. The mutant
/// has `2η* − η` instead of `η* − η`.
fn check(form: Form, instance: &MinimumInstance) -> Checked {
    let minimum = Minimum::new(&instance.jacobian)?;
    let (exponent, eigenvalues, rows) = minimum.scaled();
    let rank = eigenvalues.len();
    let Some(batches) = batches(minimum.sample_count(), instance.batch) else {
        return Ok(Vec::new());
    };
    if rank == 0 {
        return Ok(Vec::new());
    }
    let p = instance.batch.noise_coefficient(minimum.sample_count())?;
    // The identity is tested to more digits than the default width gives.
    let options = ThresholdOptions { relative_width: 1e-14, ..ThresholdOptions::default() };
    let function = lyapunov_function(&minimum, &instance.batch, &options)?;
    let threshold = libm::scalbn(function.threshold.midpoint(), 2 * exponent);
    let weights = function.matrix.as_mat().to_owned();
    let gauss_newton = diagonal_matrix(eigenvalues);
    let curvature = second_order(rows, gauss_newton.as_ref(), p, weights.as_ref());
    let mut comparisons = Vec::new();
    for (index, part) in [0.3, 1.0, 1.7].into_iter().enumerate() {
        let rate = part * threshold;
        let mut rng = stream(0, "states of the linearised model", index as u64);
        let state: Vec<f64> = (0..rank).map(|_| StandardNormal.sample(&mut rng)).collect();
        let mut expectation = 0.0;
        for batch in &batches {
            let mut after = state.clone();
            for (i, count) in batch.counts.iter().enumerate() {
                let slope = simd::dot(rows.row(i), &state) * *count as f64;
                let step = rate / instance.batch.size() as f64 * slope;
                simd::axpy(-step, rows.row(i), &mut after);
            }
            expectation += batch.probability * quadratic_form(weights.as_ref(), &after);
        }
        let before = quadratic_form(weights.as_ref(), &state);
        let growth = rate * (form.pick(1.0, 2.0) * threshold - rate);
        let rhs = before - growth * quadratic_form(curvature.as_ref(), &state);
        // An upper bound on the intermediate terms of V.
        let longest = (0..rows.rows()).map(|i| simd::norm_squared(rows.row(i)));
        let factor = 1.0 + rate * longest.fold(0.0, f64::max);
        let scale = factor * factor * simd::norm_squared(&state) * weights.norm_l2();
        let name = "expectation after a step";
        comparisons.push(Comparison::equal(name, expectation, rhs, scale));
    }
    if form == Form::Stated {
        let values = symmetric_eigenvalues(weights.as_ref())?;
        let largest = values[rank - 1];
        let name = "no negative eigenvalue";
        comparisons.push(Comparison::at_most(name, largest, largest + values[0]));
    }
    Ok(comparisons)
}
