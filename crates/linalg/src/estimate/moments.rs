//! The standard error and the interval that follow from residual forms.
//!
//! The random part of every estimator here is a mean of m quadratic forms `gᵀBg` with g uniform on
//! the sphere of radius √d (the space that B lives on has dimension d). Its law depends on B only
//! through the power sums of the eigenvalues of `B̄ = B − (tr B/d) I`: with `p_j = tr B̄^j` the
//! variance is `2 p_2 d/(d + 2)/m`, the skewness `√(8/(m h_3))` with `h_3 = p_2³/p_3²`. The image
//! `B̄g` gives `p_2 = E ‖B̄g‖²` with far less noise than the spread of the forms.

use faer::{Mat, MatRef};

use super::error::EstimateError;
use super::interval::{ErrorLaw, Estimate};
use super::products::{dots, inner};
use crate::{PowerOfTwo, columns, columns_mut, simd};

/// The rounding error of sums and products, relative to the sum of magnitudes. It corresponds to a
/// few dozen independent roundings, because errors of accumulation are far from their worst case.
pub(super) const ROUNDING: f64 = 8.0 * f64::EPSILON;

/// Power sums of an operator, estimated from a sample of residual forms.
#[derive(Debug, Clone, Copy)]
pub(super) struct FormMoments {
    /// The trace `tr B`: the mean of the forms.
    pub(super) trace: f64,
    /// The number of forms.
    pub(super) count: usize,
    /// The number of pairs of vectors behind the higher powers.
    pub(super) pairs: f64,
    /// The variance of `trace`.
    pub(super) variance: f64,
    /// Degrees of freedom of the uncertainty of `variance` beyond that of the power sums.
    pub(super) noise_degrees: f64,
    /// Estimates of `tr B̄²`, `tr B̄³`, `tr B̄⁴`.
    pub(super) powers: [f64; 3],
}

impl FormMoments {
    /// The estimate `known + trace`, whose rounding error is about `rounding`; all in units of
    /// `unit`.
    pub(super) fn estimate(
        &self,
        known: f64,
        rounding: f64,
        unit: PowerOfTwo,
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
            // Few pairs leave the rank uncertain, and too high a rank makes the interval too short.
            // One more pair, of rank 1, prevents that.
            rank = (self.pairs + 1.0) / (self.pairs * fourth + 1.0);
        }
        let law = ErrorLaw {
            degrees: m * rank,
            skew: skew.clamp(-1.0, 1.0),
            coupling: 0.5,
            noise_degrees: self.noise_degrees.max(1.0),
        };
        let value = known + self.trace;
        let standard_error =
            libm::hypot(variance.max(0.0).sqrt(), rounding.max(ROUNDING * value.abs()));
        Estimate::scaled(value, standard_error, law, unit, products)
    }
}

/// Forms of independent vectors. They come in blocks, of which only sums are kept.
///
/// `tr B` is only known at the end. Until then B is centred at the mean c of the first block. With
/// `δ = tr B/d − c` the power sums of `B − c I` are the power sums of `B̄ + δ I`.
#[derive(Debug)]
pub(super) struct ResidualForms {
    dim: usize,
    /// The centre c.
    centre: Option<f64>,
    count: usize,
    pairs: f64,
    sum: f64,
    /// Sums of the estimates of the second, third and fourth power sum of `B − c I`.
    powers: [f64; 3],
}

impl ResidualForms {
    /// No forms yet, on a space of dimension `dim`.
    pub(super) fn new(dim: usize) -> Self {
        Self { dim, centre: None, count: 0, pairs: 0.0, sum: 0.0, powers: [0.0; 3] }
    }

    /// Adds the forms of the columns of `vectors`, of norm √dim, with their images under B.
    pub(super) fn add(&mut self, vectors: MatRef<'_, f64>, mut images: Mat<f64>) {
        let count = vectors.ncols();
        let sum: f64 = dots(vectors, images.as_ref()).sum();
        let centre = *self.centre.get_or_insert(sum / count as f64 / self.dim as f64);
        for (image, vector) in columns_mut(images.as_mut()).into_iter().zip(columns(vectors)) {
            simd::axpy(-centre, vector, image);
        }
        let mixed = inner(vectors, images.as_ref());
        let gram = inner(images.as_ref(), images.as_ref());
        let [second, third, fourth] = &mut self.powers;
        for j in 0..count {
            *second += gram[(j, j)];
            for i in 0..j {
                *third += 0.5 * (mixed[(i, j)] + mixed[(j, i)]) * gram[(i, j)];
                *fourth += gram[(i, j)] * gram[(i, j)];
            }
        }
        self.sum += sum;
        self.count += count;
        self.pairs += 0.5 * count as f64 * (count as f64 - 1.0);
    }

    /// The power sums that all forms give.
    pub(super) fn moments(&self) -> FormMoments {
        let (m, d) = (self.count as f64, self.dim as f64);
        let trace = self.sum / m;
        let shift = trace / d - self.centre.unwrap_or(0.0);
        let pairs = self.pairs.max(1.0);
        // The first formula holds exactly for the sample, the others on average.
        let second = (self.powers[0] / m - shift * shift * d).max(0.0);
        let third = self.powers[1] / pairs - shift * (3.0 * second + shift * shift * d);
        let fourth = self.powers[2] / pairs
            - shift * (4.0 * third + shift * (6.0 * second + shift * shift * d));
        FormMoments {
            trace,
            count: self.count,
            pairs: self.pairs,
            variance: 2.0 * second * d / (d + 2.0) / m,
            noise_degrees: f64::INFINITY,
            powers: [second, third, fourth],
        }
    }
}

#[cfg(test)]
mod tests {
    use faer::Mat;

    use super::ResidualForms;
    use crate::estimate::products::spherical;
    use crate::{product, stream};

    const DIM: usize = 12;

    /// Vectors of norm √dim and their images under a diagonal matrix.
    fn draw(eigenvalues: &[f64], count: usize, seed: u64) -> (Mat<f64>, Mat<f64>) {
        let vectors =
            spherical(Mat::zeros(DIM, 0).as_ref(), count, &mut stream(seed, "tests of forms", 0));
        let matrix = Mat::from_fn(DIM, DIM, |i, j| if i == j { eigenvalues[i] } else { 0.0 });
        let images = product(matrix.as_ref(), vectors.as_ref());
        (vectors, images)
    }

    /// A long tail below, so that the odd powers are far from zero.
    fn eigenvalues() -> Vec<f64> {
        (0..DIM).map(|k| if k == 0 { -9.0 } else { 2.0 + 0.1 * k as f64 }).collect()
    }

    #[test]
    fn blocks_change_the_second_power_only_by_rounding() {
        let (vectors, images) = draw(&eigenvalues(), 40, 0);
        let mut whole = ResidualForms::new(DIM);
        whole.add(vectors.as_ref(), images.clone());
        let mut blocks = ResidualForms::new(DIM);
        for (first, count) in [(0, 4), (4, 4), (8, 12), (20, 16), (36, 4)] {
            let part = vectors.subcols(first, count);
            blocks.add(part, images.subcols(first, count).to_owned());
        }
        let (whole, blocks) = (whole.moments(), blocks.moments());
        assert!((whole.trace - blocks.trace).abs() < 1e-13 * whole.trace.abs());
        assert!((whole.powers[0] - blocks.powers[0]).abs() < 1e-12 * whole.powers[0]);
        assert!((whole.pairs - 780.0).abs() < 0.5 && (blocks.pairs - 204.0).abs() < 0.5);
    }

    #[test]
    fn powers_are_those_of_the_centred_matrix_on_average() {
        let eigenvalues = eigenvalues();
        let mean = eigenvalues.iter().sum::<f64>() / DIM as f64;
        let power = |k: i32| eigenvalues.iter().map(|v| (v - mean).powi(k)).sum::<f64>();
        // Blocks of three leave the first centre far from the mean of all forms. The other cases
        // set the centre.
        let seeds = 2000;
        for (centre, width) in [(None, 3), (Some(mean + 2.0), 40), (Some(mean - 2.0), 40)] {
            let (mut sums, mut squares) = ([0.0; 3], [0.0; 3]);
            for seed in 0..seeds {
                let (vectors, images) = draw(&eigenvalues, 120, seed);
                let mut forms = ResidualForms { centre, ..ResidualForms::new(DIM) };
                for first in (0..120).step_by(width) {
                    let part = vectors.subcols(first, width);
                    forms.add(part, images.subcols(first, width).to_owned());
                }
                for (k, value) in forms.moments().powers.into_iter().enumerate() {
                    sums[k] += value;
                    squares[k] += value * value;
                }
            }
            for (k, exact) in [power(2), power(3), power(4)].into_iter().enumerate() {
                let mean = sums[k] / seeds as f64;
                let variance = squares[k] / seeds as f64 - mean * mean;
                let deviation = (variance / seeds as f64).sqrt();
                // The estimates are biased, because the mean of the sample stands in for the trace:
                // by about 2/(120 dim) for the second power.
                let error = (mean - exact).abs();
                assert!(error < 0.01 * exact.abs() + 3.0 * deviation, "{k}: {mean} {exact}");
            }
        }
    }
}
