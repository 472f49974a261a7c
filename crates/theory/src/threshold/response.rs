//! How a pair of modes answers to noise: the matrix W of S9, with momentum (S12).

use faer::MatMut;

/// The noise response of pairs of modes of SGD with heavy-ball momentum β, as a function of μ = 2/η.
///
/// With `P = p/(1−β)`, `κ = 1/(1+β) − p/(1−β)` and `ζ = β/((1−β)²(1+β))`,
///
/// ```text
/// W_kl(μ) = 1 / d_kl(μ),   d_kl(μ) = μ(λ_k+λ_l)/2 − κ λ_k λ_l + ζ (λ_k−λ_l)²,
/// M(μ)_ij = (P/n) Σ_kl ĝ_ik ĝ_jk W_kl(μ) ĝ_il ĝ_jl.
/// ```
///
/// β = 0 gives S9: P = p, κ = 1 − p, ζ = 0. The docs derive the closed form from the 4 × 4 systems of
/// S12 and prove that W is positive semidefinite wherever it is positive.
///
/// μ is kept as `pole + ν`, with the pole `max(κ, 0) λ_max` where `d` of the top mode vanishes: then
/// every d is a sum of nonnegative terms, and nothing cancels next to the pole, where small batches
/// of noise (p → 0) put the threshold.
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
            // 1 − p without a detour where β = 0.
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

    /// Whether `M(μ) = M(1)/μ`: no momentum and p = 1.
    pub(super) fn is_homogeneous(&self) -> bool {
        self.curvature.abs() <= 0.0 && self.coupling <= 0.0
    }

    /// The μ below which gradient descent alone is unstable.
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

    /// `d_kl` for all l ≥ k, by [`shifts`](Self::shifts): a sum of nonnegative terms with a relative
    /// error of at most 8 roundings.
    pub(super) fn denominators(&self, shifts: &[f64], k: usize) -> impl Iterator<Item = f64> {
        self.denominators_from(shifts, k, k)
    }

    /// The same for all l from `first` on.
    fn denominators_from(
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

    /// Replaces S by `W ∘ S`, the diagonal halved, in rows of a lower triangle: those from `first` on, up to
    /// their diagonal entries.
    pub(super) fn apply(&self, shifts: &[f64], first: usize, mut rows: MatMut<'_, f64>) {
        let last = first + rows.nrows();
        for k in 0..rows.ncols() {
            let start = first.max(k);
            let column = rows.as_mut().col_mut(k).subrows_mut(start - first, last - start);
            let denominators = self.denominators_from(shifts, k, start);
            for (value, denominator) in column.iter_mut().zip(denominators) {
                *value /= denominator;
            }
            if k >= first {
                rows[(k - first, k)] *= 0.5;
            }
        }
    }

    /// By how much μ must grow, at most, for ρ to fall by a factor `1 − ε`: ε times this, which is
    /// the largest `2 d_kl/(λ_k+λ_l)`. Then every d grows at least by the factor `1 + ε`.
    ///
    /// μ or less where `d ≤ μ(λ_k+λ_l)/2`, as without momentum. Costs O(r²).
    pub(super) fn stiffness(&self, nu: f64) -> f64 {
        let shifts = self.shifts(nu);
        let mut largest = 0.0_f64;
        for (k, value) in self.eigenvalues.iter().enumerate() {
            let pairs = self.eigenvalues[k..].iter().zip(self.denominators(&shifts, k));
            for (other, denominator) in pairs {
                largest = largest.max(2.0 * denominator / (value + other));
            }
        }
        largest * (1.0 + 1e-14)
    }

    /// The ν with `P Σ_k λ_k / m_k = 1`, where the quadratic form of M in the vector of ones turns:
    /// S6 where β = 0, and always a lower bound on the ν of the threshold. With several outputs the sum is
    /// their number, and the vector the tuple of identities.
    pub(super) fn spectral_root(&self, outputs: usize) -> f64 {
        let noise = self.noise / outputs as f64;
        let sum = |nu: f64| -> f64 {
            let shifts = self.shifts(nu);
            self.eigenvalues.iter().zip(shifts).map(|(value, shift)| value / shift).sum()
        };
        let upper = noise * self.eigenvalues.iter().sum::<f64>();
        let lower = if self.curvature >= 0.0 { noise * self.lambda_max() } else { 0.0 };
        falling_root(lower, upper, |nu| noise * sum(nu) - 1.0)
    }
}

/// The root of a falling function between two points, by bisection down to neighbouring numbers
/// or 1e-15 relative; the end on the left of it.
pub(super) fn falling_root(mut lower: f64, mut upper: f64, function: impl Fn(f64) -> f64) -> f64 {
    loop {
        // In the logarithm as long as the ends are far apart: the root may be tiny.
        let middle = if lower > 0.0 && upper > 4.0 * lower {
            lower.sqrt() * upper.sqrt()
        } else {
            f64::midpoint(lower, upper)
        };
        if !(lower < middle && middle < upper) || upper - lower <= 1e-15 * upper {
            return lower;
        }
        if function(middle) > 0.0 {
            lower = middle;
        } else {
            upper = middle;
        }
    }
}
