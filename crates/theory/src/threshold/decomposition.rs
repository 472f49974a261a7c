//! The effect of the error of the eigendecomposition on μ*.

use faer::Mat;
use flatmin_linalg::rounding::gamma;

use super::perron::PerronOperator;
use super::response::{Filter, HeavyBall, Law, RELATIVE_STEP, Response};
use super::search::Bracket;
use crate::{Minimum, Noise};

/// The distance by which μ* may lie outside a bracket that was found for the stored rows.
pub(super) struct DecompositionError {
    pub(super) below: f64,
    pub(super) above: f64,
}

/// Bounds the error for plain SGD by the two perturbation bounds of `docs/threshold.md`. With
/// momentum or weight decay it is twice a first-order estimate.
pub(super) fn decomposition_error(
    minimum: &Minimum,
    operator: PerronOperator<'_>,
    noise: Noise,
    bracket: &Bracket,
) -> DecompositionError {
    let accuracy = minimum.accuracy;
    let omega = accuracy.orthogonality;
    let response = operator.response;
    let p = noise.coefficient;
    if response.plain().is_none() && p > 0.0 {
        let matrix = operator.response_matrix(bracket.nu, &bracket.weights);
        let error = match &response.law {
            Law::HeavyBall(law) => {
                first_order_error(minimum, &response, law, bracket.upper, &matrix)
            }
            Law::Filter(law) => filter_error(minimum, &response, law, bracket.nu, &matrix),
        };
        return DecompositionError { below: 2.0 * error, above: 2.0 * error };
    }
    let n = minimum.sample_count() as f64;
    // p is rounded three times, 1 − p once more, and μ* moves by at most as much, relatively.
    let parameters = gamma(8 + response.extra_roundings());
    let lipschitz = if response.is_homogeneous() { 2.0 * n } else { 4.0 + 4.0 * p * n };
    let additive = lipschitz * accuracy.gram * (1.0 + 1e-9);
    let shrunk = (1.0 - omega).powi(2) / (1.0 + omega) - parameters;
    let grown = (1.0 + omega).powi(2) / (1.0 - omega).max(0.0) + parameters;
    DecompositionError {
        below: bracket.lower * (1.0 - shrunk) + additive,
        above: bracket.upper * (grown - 1.0) + additive,
    }
}

/// As [`first_order_error`], where d has no simpler form than its closed one: the same two changes
/// of `Σ_kl d_kl X_kl²`, by difference quotients of d in the eigenvalues.
///
/// With `B_kl² = λ_kλ_l X_kl²`, an error of K changes only the `d_kl/(λ_kλ_l)` in front of
/// `B_kl²`. An error of the eigenbasis changes the eigenvalues in d relatively.
fn filter_error(
    minimum: &Minimum,
    response: &Response<'_>,
    law: &Filter,
    nu: f64,
    matrix: &Mat<f64>,
) -> f64 {
    let accuracy = minimum.accuracy;
    let (eigenvalues, lambda_max) = (response.eigenvalues, response.lambda_max());
    let step = RELATIVE_STEP * nu;
    let nudged: Vec<f64> = eigenvalues.iter().map(|value| value * (1.0 + RELATIVE_STEP)).collect();
    let modes = law.modes(eigenvalues, lambda_max, nu);
    let nudged = law.modes(&nudged, lambda_max, nu);
    let moved = law.modes(eigenvalues, lambda_max, nu + step);
    let (mut gram, mut relative, mut total, mut slope) = (0.0, 0.0, 0.0, 0.0);
    for (k, value) in eigenvalues.iter().enumerate() {
        for (l, other) in eigenvalues.iter().enumerate() {
            let square = matrix[(l, k)] * matrix[(l, k)];
            let d = modes.between(k, &modes, l);
            // λ_k ∂d/∂λ_k.
            let change = (nudged.between(k, &modes, l) - d) / RELATIVE_STEP;
            gram += 2.0 * square * ((change - d).abs() / value).max(d / value.max(*other));
            relative += 2.0 * square * change.abs();
            total += square * d;
            slope += square * (moved.between(k, &moved, l) - d) / step;
        }
    }
    let parameters = gamma(8 + response.extra_roundings()) * total;
    (accuracy.gram * gram + accuracy.orthogonality * 2.0 * (relative + total) + parameters) / slope
}

/// The first-order change of μ* under errors as large as those of the eigendecomposition, at the
/// maximiser `X = W ∘ (ĝᵀ diag(v) ĝ)`.
///
/// μ* is the largest value of `[(P/n) Σ (ĝ_iᵀXĝ_i)² + κ tr(XGXG) − ζ Σ X_kl² (λ_k−λ_l)²] / tr(XGX)`
/// over symmetric X, so that only its explicit dependence on G counts.
fn first_order_error(
    minimum: &Minimum,
    response: &Response<'_>,
    law: &HeavyBall,
    mu: f64,
    matrix: &Mat<f64>,
) -> f64 {
    let accuracy = minimum.accuracy;
    let (curvature, coupling) = (law.curvature.abs(), law.coupling);
    // Σ X_kl² w_kl for the weights (a+b)/2, ab, a/b, a²/b, (a−b)² and (a−b)²/b, with a = λ_k, b =
    // λ_l.
    let (mut mean, mut product, mut ratio, mut steep) = (0.0, 0.0, 0.0, 0.0);
    let (mut spread, mut steep_spread) = (0.0, 0.0);
    for (k, a) in response.eigenvalues.iter().enumerate() {
        for (l, b) in response.eigenvalues.iter().enumerate() {
            let square = matrix[(l, k)] * matrix[(l, k)];
            mean += square * 0.5 * (a + b);
            product += square * a * b;
            ratio += square * a / b;
            steep += square * a * a / b;
            spread += square * (a - b) * (a - b);
            steep_spread += square * (a - b) * (a - b) / b;
        }
    }
    // With Q = [X, G], the ζ term is ζ‖Q‖², and vanishes with its derivatives for a single mode. In
    // K it changes by 2ζ⟨ΔK, K^{−½}[Q, XK]K^{−½}⟩, in G by 2ζ⟨Q, [X, ΔG]⟩.
    let commuting = 2.0 * coupling * steep_spread.sqrt() * (mean.sqrt() + steep.sqrt());
    let gram = accuracy.gram * (commuting + mu * ratio) / mean;
    let twisting = 2.0 * coupling * (spread * response.lambda_max() * mean).sqrt();
    let factor = mu + (curvature * product + twisting) / mean;
    let orthogonality = 2.0 * accuracy.orthogonality * factor;
    // κ is a difference of two rounded numbers, 1/(1+β) and P.
    let constants = ((1.0 + response.noise) * product + coupling * spread) / mean;
    let parameters = gamma(16) * (mu + constants);
    gram + orthogonality + parameters
}
