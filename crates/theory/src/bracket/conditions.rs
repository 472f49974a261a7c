//! Simpler conditions on the learning rate, from what is known of the spectrum (S6, S7).

use flatmin_linalg::{Bisection, PowerOfTwo, symmetric_eigenvalues};

use super::counted::CountedGram;
use super::error::BracketError;

/// `max_i λ_max(J_iJ_iᵀ)`.
pub(super) fn heaviest_sample(gram: &CountedGram<'_>) -> Result<f64, BracketError> {
    let k = gram.outputs();
    let mut largest = 0.0_f64;
    for block in gram.grams.chunks(k * k) {
        let trace: f64 = block.iter().step_by(k + 1).sum();
        // The trace is an upper bound, so that most samples need no eigenproblem.
        if k == 1 {
            largest = largest.max(trace);
        } else if trace > largest {
            let matrix = faer::MatRef::from_row_major_slice(block, k, k);
            largest = largest.max(symmetric_eigenvalues(matrix)?[k - 1]);
        }
    }
    Ok(largest)
}

/// The μ at which `Σ_k λ_k/(μ − αλ_k) + τ/μ` is k/p: S6, with the trace τ of the rest near zero.
pub(super) fn spectral_mu(values: &[f64], rest: f64, noise: f64, alpha: f64) -> f64 {
    let top = values.iter().fold(0.0_f64, |m, v| m.max(*v));
    let pole = alpha * top;
    let sum = |nu: f64| {
        let terms = values.iter().map(|value| value / (nu + alpha * (top - value)));
        terms.sum::<f64>() + rest / (pole + nu)
    };
    let total = values.iter().sum::<f64>() + rest;
    if noise <= 0.0 || total <= 0.0 {
        return pole;
    }
    let (low, high) = (noise * total * 1e-18, noise * total);
    let search = Bisection::between(low, high).geometric().to_relative_width(1e-14);
    pole + search.run(|nu| noise * sum(nu) > 1.0).0
}

/// `2/μ` for the given Jacobian, from the μ of the scaled one.
pub(super) fn learning_rate(mu: f64, unit: PowerOfTwo, factor: f64) -> f64 {
    unit.squared().inverse().times(2.0 / mu / factor)
}
