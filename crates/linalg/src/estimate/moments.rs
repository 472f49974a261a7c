//! From residual forms to a standard error and an interval.
//!
//! What is random in every estimator here is a mean of m quadratic forms `gᵀBg` with g uniform on
//! the sphere of radius √d (the space that B lives on has dimension d). Its law depends on B only
//! through the power sums of the eigenvalues of `B̄ = B − (tr B/d) I`: with `p_j = tr B̄^j` the
//! variance is `2 p_2 d/(d + 2)/m`, the skewness `√(8/(m h_3))` with `h_3 = p_2³/p_3²`. The image
//! `B̄g` gives `p_2 = E ‖B̄g‖²` with far less noise than the spread of the forms.

use faer::{Mat, MatRef};

use super::{Estimate, EstimateError, Shape};

/// Rounding error of sums and products, relative to what was added up. It is that of a few dozen
/// independent roundings: errors of accumulation are far from their worst case.
pub(super) const ROUNDING: f64 = 8.0 * f64::EPSILON;

/// What a sample of residual forms says about the operator behind them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moments {
    /// `tr B`, the mean of the forms.
    pub(super) trace: f64,
    /// Number of forms.
    pub(super) count: usize,
    /// Variance of `trace`.
    pub(super) variance: f64,
    /// Degrees of freedom of what makes `variance` uncertain besides the power sums.
    pub(super) noise_degrees: f64,
    /// Estimates of `tr B̄²`, `tr B̄³`, `tr B̄⁴`.
    pub(super) powers: [f64; 3],
}

impl Moments {
    /// Of independent vectors (columns of `vectors`, of norm √dim) and their images under B.
    pub(super) fn of_images(vectors: MatRef<'_, f64>, images: MatRef<'_, f64>, dim: usize) -> Self {
        let count = vectors.ncols();
        let forms: Vec<f64> =
            (0..count).map(|j| super::products::dot(vectors, images, j)).collect();
        let trace = forms.iter().sum::<f64>() / count as f64;
        let centred = centred(vectors, images, trace / dim as f64);
        let mixed = super::products::inner(vectors, centred.as_ref());
        let gram = super::products::inner(centred.as_ref(), centred.as_ref());
        let second = (0..count).map(|j| gram[(j, j)]).sum::<f64>() / count as f64;
        let (mut third, mut fourth) = (0.0, 0.0);
        for j in 0..count {
            for i in 0..j {
                third += 0.5 * (mixed[(i, j)] + mixed[(j, i)]) * gram[(i, j)];
                fourth += gram[(i, j)] * gram[(i, j)];
            }
        }
        let pairs = (0.5 * count as f64 * (count as f64 - 1.0)).max(1.0);
        let powers = [second, third / pairs, fourth / pairs];
        let (m, d) = (count as f64, dim as f64);
        let variance = 2.0 * second * d / (d + 2.0) / m;
        Self { trace, count, variance, noise_degrees: f64::INFINITY, powers }
    }

    /// The estimate `known + trace`, whose rounding error is about `rounding`; all in units of
    /// `2^exponent`.
    pub(super) fn estimate(
        &self,
        known: f64,
        rounding: f64,
        exponent: i32,
        products: usize,
    ) -> Result<Estimate, EstimateError> {
        let m = self.count as f64;
        let variance = self.variance;
        let [second, third, fourth] = self.powers;
        // tr B̄⁴ ≤ (tr B̄²)², and (tr B̄³)² ≤ tr B̄² tr B̄⁴.
        let (mut rank, mut skew) = (1.0, 0.0);
        if self.count > 1 && second > 0.0 {
            let share = (third / second / second.sqrt() * (m + 2.0) / m).clamp(-1.0, 1.0);
            let fourth = (fourth / second / second * (m + 2.0) / m).clamp(share * share, 1.0);
            skew = share / fourth.max(1e-24).sqrt();
            // Few pairs leave the rank uncertain, and too high a rank makes the interval too short:
            // one more pair that says 1.
            let pairs = 0.5 * m * (m - 1.0);
            rank = (pairs + 1.0) / (pairs * fourth + 1.0);
        }
        let shape = Shape {
            degrees: m * rank,
            skew: skew.clamp(-1.0, 1.0),
            coupling: 0.5,
            noise_degrees: self.noise_degrees.max(1.0),
        };
        let value = known + self.trace;
        let standard_error =
            libm::hypot(variance.max(0.0).sqrt(), rounding.max(ROUNDING * value.abs()));
        Estimate::scaled(value, standard_error, shape, exponent, products)
    }
}

/// `B̄g` for the columns g of `vectors` with images `Bg`: the images less `mean` times the vectors.
pub(super) fn centred(vectors: MatRef<'_, f64>, images: MatRef<'_, f64>, mean: f64) -> Mat<f64> {
    Mat::from_fn(images.nrows(), images.ncols(), |i, j| {
        (-mean).mul_add(vectors[(i, j)], images[(i, j)])
    })
}
