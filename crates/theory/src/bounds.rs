//! Bounds on the stable learning rates of a minimum.
//!
//! Every function returns the learning rate up to which its condition holds and beyond which it
//! fails. Infinity means that the condition holds at every learning rate (no curvature, or no
//! noise). `p` is the [noise coefficient](crate::Batch::noise_coefficient) and lies in [0, 1].
//!
//! The formulas are for networks with one output. With k outputs, S2 and S3 hold with p/k in place
//! of p, the sharp form of S3 with `‖G‖_F/√k` in place of `‖G‖_F`, and S6 with k/p in place of 1/p.
//! S4, S5 and S7 hold as they are, with `λ_max(J_iJ_iᵀ)` for `‖g_i‖²` ([`Bounds::new`]).

use faer::Mat;
use flatmin_linalg::{Bisection, PowerOfTwo, Sharpness, product, simd, symmetric_eigenvalues};

use crate::{Alignment, Batch, Minimum, Noise, ThresholdError, alignment};

/// S1 and S5: `2/λ_max(G)`. Gradient descent is stable exactly up to it; SGD at most up to it.
pub fn lambda_max_bound(lambda_max: f64) -> f64 {
    2.0 / lambda_max
}

/// S2: SGD is stable at most up to `2/(p tr G)`.
pub fn trace_bound(trace: f64, noise_coefficient: f64) -> f64 {
    2.0 / (noise_coefficient * trace)
}

/// S3: SGD is stable at most up to `2/(√p ‖G‖_F)`.
pub fn frobenius_bound(frobenius_norm: f64, noise_coefficient: f64) -> f64 {
    2.0 / (noise_coefficient.sqrt() * frobenius_norm)
}

/// S3, sharp form: SGD is stable at most up to `1/(√(p(1−p)) ‖G‖_F)` for p ≤ ½ and `2/‖G‖_F`
/// for p ≥ ½.
pub fn sharp_frobenius_bound(frobenius_norm: f64, noise_coefficient: f64) -> f64 {
    let p = noise_coefficient.min(0.5);
    1.0 / ((p * (1.0 - p)).sqrt() * frobenius_norm)
}

/// S4: SGD is stable at most up to `1/(‖G‖_F √(pμ))`, where `μ` is the centred alignment, see
/// [`Alignment::centered`](crate::Alignment::centered).
///
/// With the uncentred alignment `min_i χ_i` in its place this would not be a bound: SGD on two
/// equal rows of norm 1, one at a time, is stable up to 2, but the formula would give 1.
pub fn centered_alignment_bound(
    frobenius_norm: f64,
    centered_alignment: f64,
    noise_coefficient: f64,
) -> f64 {
    1.0 / ((noise_coefficient * centered_alignment).sqrt() * frobenius_norm)
}

/// S4, uncentred: SGD is stable at most up to `1/(‖G‖_F √(p(1−p)χ))` for p ≤ ½ and `2/(‖G‖_F √χ)`
/// for p ≥ ½, where `χ = min_i χ_i`, see [`Alignment::chi_min`](crate::Alignment::chi_min).
pub fn uncentered_alignment_bound(
    frobenius_norm: f64,
    chi_min: f64,
    noise_coefficient: f64,
) -> f64 {
    sharp_frobenius_bound(chi_min.sqrt() * frobenius_norm, noise_coefficient)
}

/// S6: SGD is stable at most up to the η with `p Σ_k ηλ_k / (2 − (1−p)ηλ_k) = 1`, below the pole.
///
/// `eigenvalues` are those of `G`, in any order; zeros do not matter. Costs O(r) per step of a
/// bisection of about 60.
pub fn spectral_bound(eigenvalues: &[f64], noise_coefficient: f64) -> f64 {
    spectral_root(eigenvalues, noise_coefficient, 1.0 - noise_coefficient)
}

/// The η with `p Σ_k ηλ_k / (2 − qηλ_k) = 1` and `qηλ_max < 2`.
pub fn spectral_root(eigenvalues: &[f64], p: f64, q: f64) -> f64 {
    let lambda_max = eigenvalues.iter().fold(0.0_f64, |m, v| m.max(*v));
    if lambda_max <= 0.0 {
        return f64::INFINITY;
    }
    if p <= 0.0 {
        return lambda_max_bound(q * lambda_max);
    }
    // With μ = 2/(ηλ_max) and ρ_k = λ_k/λ_max the equation is p Σ ρ_k/(μ − qρ_k) = 1, whose left
    // side falls with μ. The largest term alone bounds the root below, qρ_k ≤ q bounds it above.
    let ratios: Vec<f64> = eigenvalues.iter().map(|v| v / lambda_max).collect();
    let (low, high) = (q + p, q + p * ratios.iter().sum::<f64>());
    let sum = |mu: f64| -> f64 { ratios.iter().map(|ratio| ratio / (mu - q * ratio)).sum() };
    let (_, root) = Bisection::between(low, high).run(|mu| p * sum(mu) > 1.0);
    lambda_max_bound(lambda_max) / root
}

/// S7: SGD is stable at least up to `2/((1−p) λ_max(G) + p max_i ‖g_i‖²)`.
pub fn sufficient_bound(
    lambda_max: f64,
    largest_gradient_norm_squared: f64,
    noise_coefficient: f64,
) -> f64 {
    let p = noise_coefficient;
    2.0 / ((1.0 - p) * lambda_max + p * largest_gradient_norm_squared)
}

/// S19: the expected distance `E‖δ'‖²` after a step of SGD is at most `‖δ‖²`, for every δ, exactly
/// up to `2/λ_max(αΛ + p Uᵀ diag(‖g_i‖²) U)`, with the eigenvectors U of the Gram matrix; with
/// several outputs `J_iJ_iᵀ` takes the place of `‖g_i‖²`. It lies between S7 and the threshold.
/// Infinite without curvature.
///
/// Costs O(nr² + r³).
///
/// # Errors
/// [`ThresholdError::Eigen`] when the eigenproblem fails.
pub fn contraction_bound(minimum: &Minimum, noise: Noise) -> Result<f64, ThresholdError> {
    let (exponent, eigenvalues, rows) = minimum.scaled();
    let (rank, k) = (eigenvalues.len(), minimum.output_count());
    if rank == 0 {
        return Ok(f64::INFINITY);
    }
    let samples = minimum.sample_count() as f64;
    // U = ĝ (nΛ)^{−½}, row by row, and the rows of J_iJ_iᵀ U_i.
    let scale: Vec<f64> = eigenvalues.iter().map(|v| 1.0 / (samples * v).sqrt()).collect();
    let vectors = Mat::from_fn(rows.rows(), rank, |i, l| rows.row(i)[l] * scale[l]);
    let mut weighted = Mat::zeros(rows.rows(), rank);
    for first in (0..rows.rows()).step_by(k) {
        for a in first..first + k {
            for b in first..first + k {
                let inner = simd::dot(rows.row(a), rows.row(b));
                for l in 0..rank {
                    weighted[(a, l)] += inner * vectors[(b, l)];
                }
            }
        }
    }
    let mut matrix = product(vectors.transpose(), weighted.as_ref());
    for l in 0..rank {
        for other in 0..rank {
            matrix[(l, other)] *= noise.coefficient;
        }
        matrix[(l, l)] += noise.mean_weight() * eigenvalues[l];
    }
    let largest = symmetric_eigenvalues(matrix.as_ref())?.last().copied().unwrap_or(0.0);
    Ok(PowerOfTwo::new(-2 * exponent).times(lambda_max_bound(largest)))
}

/// All bounds of one minimum for one way of drawing batches.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Bounds {
    /// S1 and S5, see [`lambda_max_bound`].
    pub lambda_max: f64,
    /// S2, see [`trace_bound`].
    pub trace: f64,
    /// S3, see [`frobenius_bound`].
    pub frobenius_norm: f64,
    /// S3 sharp, see [`sharp_frobenius_bound`].
    pub sharp_frobenius_norm: f64,
    /// S4, see [`centered_alignment_bound`].
    pub centered_alignment: f64,
    /// S4, uncentred, see [`uncentered_alignment_bound`].
    pub uncentered_alignment: f64,
    /// S6, see [`spectral_bound`].
    pub spectral: f64,
    /// S7, see [`sufficient_bound`].
    pub sufficient: f64,
}

impl Bounds {
    /// The bounds of `minimum`, with its alignment, for batches with this noise. Costs
    /// O(r), and one alignment serves batches of every size.
    ///
    /// With several outputs S6 alone does not imply S5; then [`spectral`](Self::spectral) is the
    /// smaller of both.
    pub fn new(minimum: &Minimum, alignment: &Alignment, noise: Noise) -> Self {
        let (p, alpha) = (noise.coefficient, noise.mean_weight());
        // Eigenvalues of J/2^e, whose squares are within the range of `f64`.
        let (exponent, eigenvalues, _) = minimum.scaled();
        let (sharpness, largest_norm_squared) = minimum.scaled_curvature();
        let Sharpness { trace, frobenius_norm, lambda_max } = sharpness;
        let Alignment { chi_min, centered, .. } = *alignment;
        let outputs = minimum.output_count() as f64;
        let limit = if minimum.output_count() > 1 {
            lambda_max_bound(lambda_max)
        } else {
            // S6 implies S5.
            f64::INFINITY
        };
        let rate = |scaled: f64| PowerOfTwo::new(-2 * exponent).times(scaled);
        Self {
            lambda_max: rate(lambda_max_bound(lambda_max)),
            trace: rate(trace_bound(trace, p / outputs)),
            frobenius_norm: rate(frobenius_bound(frobenius_norm, p / outputs)),
            sharp_frobenius_norm: rate(sharp_frobenius_bound(frobenius_norm / outputs.sqrt(), p)),
            centered_alignment: rate(centered_alignment_bound(frobenius_norm, centered, p)),
            uncentered_alignment: rate(uncentered_alignment_bound(frobenius_norm, chi_min, p)),
            spectral: rate(spectral_root(eigenvalues, p / outputs, alpha).min(limit)),
            sufficient: rate(2.0 / (alpha * lambda_max + p * largest_norm_squared)),
        }
    }

    /// The bounds for `loss_scale` times the loss: every learning rate is divided by it.
    #[must_use]
    pub fn for_loss_scale(self, loss_scale: f64) -> Self {
        Self {
            lambda_max: self.lambda_max / loss_scale,
            trace: self.trace / loss_scale,
            frobenius_norm: self.frobenius_norm / loss_scale,
            sharp_frobenius_norm: self.sharp_frobenius_norm / loss_scale,
            centered_alignment: self.centered_alignment / loss_scale,
            uncentered_alignment: self.uncentered_alignment / loss_scale,
            spectral: self.spectral / loss_scale,
            sufficient: self.sufficient / loss_scale,
        }
    }
}

/// The bounds of `minimum` for `batch`. Costs an [`alignment`]; see [`Bounds::new`] for batches of
/// many sizes.
///
/// # Errors
/// The errors of [`Batch::noise_coefficient`], and an error when an eigenproblem fails.
pub fn bounds(minimum: &Minimum, batch: &Batch) -> Result<Bounds, ThresholdError> {
    let noise = batch.noise(minimum.sample_count())?;
    Ok(Bounds::new(minimum, &alignment(minimum)?, noise))
}

#[cfg(test)]
mod tests {
    use super::{
        centered_alignment_bound, frobenius_bound, lambda_max_bound, sharp_frobenius_bound,
        spectral_bound, sufficient_bound, trace_bound, uncentered_alignment_bound,
    };

    #[test]
    fn the_spectral_bound_is_a_root() {
        for p in [0.9, 0.5, 0.1, 1e-3, 1e-9] {
            let eigenvalues = [3.0, 0.0, 0.2, 3.0, 1e-7];
            let rate = spectral_bound(&eigenvalues, p);
            let terms = eigenvalues.iter().map(|l| rate * l / (2.0 - (1.0 - p) * rate * l));
            let sum = p * terms.sum::<f64>();
            // One ulp of η moves the sum by ε times its logarithmic slope, which is below 2/p.
            assert!((sum - 1.0).abs() <= 8.0 * f64::EPSILON / p, "p = {p}: {sum}");
            assert!((1.0 - p) * rate * 3.0 < 2.0);
        }
    }

    #[test]
    fn the_spectral_bound_ends_in_s1_and_s2() {
        let eigenvalues = [1.0, 2.0, 5.0];
        assert!((spectral_bound(&eigenvalues, 0.0) - 0.4).abs() < 1e-16);
        assert!((spectral_bound(&eigenvalues, 1.0) - 0.25).abs() < 1e-16);
    }

    #[test]
    fn without_curvature_or_noise_nothing_turns() {
        let flat = [
            lambda_max_bound(0.0),
            trace_bound(0.0, 1.0),
            trace_bound(1.0, 0.0),
            frobenius_bound(0.0, 1.0),
            frobenius_bound(1.0, 0.0),
            sharp_frobenius_bound(0.0, 1.0),
            sharp_frobenius_bound(1.0, 0.0),
            centered_alignment_bound(0.0, 0.5, 1.0),
            centered_alignment_bound(1.0, 0.0, 1.0),
            centered_alignment_bound(1.0, 0.5, 0.0),
            uncentered_alignment_bound(0.0, 0.5, 1.0),
            uncentered_alignment_bound(1.0, 0.0, 1.0),
            uncentered_alignment_bound(1.0, 0.5, 0.0),
            spectral_bound(&[], 0.3),
            spectral_bound(&[0.0], 0.3),
            sufficient_bound(0.0, 0.0, 0.3),
        ];
        assert!(flat.iter().all(|rate| rate.is_infinite()), "{flat:?}");
    }
}
