//! The response of SGD with and without heavy-ball momentum (S9, S12).

use crate::Noise;

/// The response of pairs of modes to noise for SGD with heavy-ball momentum β.
///
/// With `P = p/(1−β)`, `κ = 1/(1+β) − (1−α)/(1−β)` and `ζ = β/((1−β)²(1+β))`,
///
/// ```text
/// d_kl(μ) = μ(λ_k+λ_l)/2 − κ λ_k λ_l + ζ (λ_k−λ_l)².
/// ```
///
/// β = 0 gives S9: P = p, κ = α, ζ = 0. The pole is `max(κ, 0) λ_max`, the zero of d for the top
/// mode.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeavyBall {
    /// κ.
    pub(crate) curvature: f64,
    /// ζ.
    pub(crate) coupling: f64,
}

impl HeavyBall {
    pub(super) fn new(noise: Noise, momentum: f64) -> Self {
        let (deficit, beta) = (noise.mean_deficit, momentum);
        let still = 1.0 - beta;
        Self {
            // Exactly the rounded α for β = 0.
            curvature: if beta > 0.0 {
                1.0 / (1.0 + beta) - deficit / still
            } else {
                noise.mean_weight()
            },
            coupling: beta / (still * still * (1.0 + beta)),
        }
    }

    /// `m_k = μ − κ λ_k` at μ = pole + ν, without cancellation.
    pub(super) fn shifts(&self, eigenvalues: &[f64], nu: f64) -> Vec<f64> {
        let top = eigenvalues.last().copied().unwrap_or(0.0);
        let curvature = self.curvature;
        let shift = |value: &f64| {
            if curvature > 0.0 { nu + curvature * (top - value) } else { nu - curvature * value }
        };
        eigenvalues.iter().map(shift).collect()
    }

    /// `d_kl` for all l ≥ `first`, from [`shifts`](Self::shifts): sums of nonnegative terms with a
    /// relative error of at most 8 roundings.
    pub(super) fn denominators(
        &self,
        eigenvalues: &[f64],
        shifts: &[f64],
        k: usize,
        first: usize,
    ) -> impl Iterator<Item = f64> {
        let (value, shift, coupling) = (eigenvalues[k], shifts[k], self.coupling);
        let pairs = eigenvalues[first..].iter().zip(&shifts[first..]);
        pairs.map(move |(other, other_shift)| {
            let difference = other - value;
            0.5 * (shift * other + other_shift * value) + coupling * difference * difference
        })
    }
}
