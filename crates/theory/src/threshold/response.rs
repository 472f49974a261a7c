//! The response W of pairs of modes to noise (S9), with momentum (S12).

use faer::MatMut;
use flatmin_linalg::Bisection;

/// The response of pairs of modes to noise for SGD with heavy-ball momentum β, as a function of μ =
/// 2/η.
///
/// With `P = p/(1−β)`, `κ = 1/(1+β) − p/(1−β)` and `ζ = β/((1−β)²(1+β))`,
///
/// ```text
/// W_kl(μ) = 1 / d_kl(μ),   d_kl(μ) = μ(λ_k+λ_l)/2 − κ λ_k λ_l + ζ (λ_k−λ_l)²,
/// M(μ)_ij = (P/n) Σ_kl ĝ_ik ĝ_jk W_kl(μ) ĝ_il ĝ_jl.
/// ```
///
/// β = 0 gives S9: P = p, κ = 1 − p, ζ = 0. `docs/threshold.md` derives the closed form from the 4
/// × 4 systems of S12 and proves that W is positive semidefinite wherever it is positive.
///
/// μ is stored as `pole + ν`, where the pole `max(κ, 0) λ_max` is the zero of `d` for the top mode.
/// Then every d is a sum of nonnegative terms, and nothing cancels near the pole, which the
/// threshold approaches for little noise (p → 0).
#[derive(Debug, Clone, Copy)]
pub(super) struct Response<'a> {
    eigenvalues: &'a [f64],
    /// P.
    pub(super) noise: f64,
    /// κ.
    pub(super) curvature: f64,
    /// ζ.
    pub(super) coupling: f64,
}

impl<'a> Response<'a> {
    /// The response for eigenvalues in ascending order, at least one of them.
    pub(super) fn new(eigenvalues: &'a [f64], noise_coefficient: f64, momentum: f64) -> Self {
        let (p, beta) = (noise_coefficient, momentum);
        let still = 1.0 - beta;
        Self {
            eigenvalues,
            noise: p / still,
            // Exactly the rounded 1 − p for β = 0.
            curvature: if beta > 0.0 { 1.0 / (1.0 + beta) - p / still } else { 1.0 - p },
            coupling: beta / (still * still * (1.0 + beta)),
        }
    }

    pub(super) fn eigenvalues(&self) -> &'a [f64] {
        self.eigenvalues
    }

    pub(super) fn lambda_max(&self) -> f64 {
        self.eigenvalues.last().copied().unwrap_or(0.0)
    }

    /// True if `M(μ) = M(1)/μ`: no momentum and p = 1.
    pub(super) fn is_homogeneous(&self) -> bool {
        self.curvature.abs() <= 0.0 && self.coupling <= 0.0
    }

    /// The least μ at which gradient descent is stable.
    pub(super) fn pole(&self) -> f64 {
        self.curvature.max(0.0) * self.lambda_max()
    }

    /// `m_k = μ − κ λ_k` at μ = pole + ν, without cancellation.
    pub(super) fn shifts(&self, nu: f64) -> Vec<f64> {
        let top = self.lambda_max();
        let curvature = self.curvature;
        let shift = |value: &f64| {
            if curvature > 0.0 { nu + curvature * (top - value) } else { nu - curvature * value }
        };
        self.eigenvalues.iter().map(shift).collect()
    }

    /// `d_kl` for all l ≥ `first`, from [`shifts`](Self::shifts): sums of nonnegative terms with a
    /// relative error of at most 8 roundings.
    pub(super) fn denominators(
        &self,
        shifts: &[f64],
        k: usize,
        first: usize,
    ) -> impl Iterator<Item = f64> {
        let (value, shift, coupling) = (self.eigenvalues[k], shifts[k], self.coupling);
        let pairs = self.eigenvalues[first..].iter().zip(&shifts[first..]);
        pairs.map(move |(other, other_shift)| {
            let difference = other - value;
            0.5 * (shift * other + other_shift * value) + coupling * difference * difference
        })
    }

    /// Replaces S by `W ∘ S`, with a halved diagonal, in a block of rows of a lower triangle. The
    /// block starts at row `first`, and each row ends at its diagonal entry.
    pub(super) fn apply(&self, shifts: &[f64], first: usize, mut rows: MatMut<'_, f64>) {
        let last = first + rows.nrows();
        for k in 0..rows.ncols() {
            let start = first.max(k);
            let column = rows.as_mut().col_mut(k).subrows_mut(start - first, last - start);
            let denominators = self.denominators(shifts, k, start);
            for (value, denominator) in column.iter_mut().zip(denominators) {
                *value /= denominator;
            }
            if k >= first {
                rows[(k - first, k)] *= 0.5;
            }
        }
    }

    /// The largest `2 d_kl/(λ_k+λ_l)`: when μ grows by ε times it, every d grows at least by the
    /// factor `1 + ε`, so that ρ falls at least by the factor `1 − ε`.
    ///
    /// It is at most μ if every `d_kl ≤ μ(λ_k+λ_l)/2`, which holds without momentum. Costs O(r²).
    pub(super) fn stiffness(&self, nu: f64) -> f64 {
        let shifts = self.shifts(nu);
        let mut largest = 0.0_f64;
        for (k, value) in self.eigenvalues.iter().enumerate() {
            let pairs = self.eigenvalues[k..].iter().zip(self.denominators(&shifts, k, k));
            for (other, denominator) in pairs {
                largest = largest.max(2.0 * denominator / (value + other));
            }
        }
        largest * (1.0 + 1e-14)
    }

    /// The ν at which `P Σ_k λ_k / m_k` is the number of outputs, so that the Rayleigh quotient of
    /// the vector of ones (the tuple of identities) is 1. It is a lower bound on the ν of the
    /// threshold, and S6 for β = 0 and one output.
    pub(super) fn spectral_root(&self, outputs: usize) -> f64 {
        let noise = self.noise / outputs as f64;
        let sum = |nu: f64| -> f64 {
            let shifts = self.shifts(nu);
            self.eigenvalues.iter().zip(shifts).map(|(value, shift)| value / shift).sum()
        };
        let upper = noise * self.eigenvalues.iter().sum::<f64>();
        let lower = if self.curvature >= 0.0 { noise * self.lambda_max() } else { 0.0 };
        let search = Bisection::between(lower, upper).geometric().to_relative_width(1e-15);
        search.run(|nu| noise * sum(nu) - 1.0 > 0.0).0
    }
}
