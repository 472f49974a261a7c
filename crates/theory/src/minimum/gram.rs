//! Gram matrices of gradients.

use faer::Mat;
use flatmin_linalg::PowerOfTwo;

use crate::MinimumError;

/// A Gram matrix of gradients, `JJᵀ` with entries `g_iᵀg_j`: n × n, or nk × nk for a network with k
/// outputs, see [`Gram::with_outputs`].
///
/// The constructors check that the matrix is finite, symmetric, and without entries that no
/// positive semidefinite matrix has. Asymmetry and negative eigenvalues up to [`Gram::TOLERANCE`]
/// are taken as the rounding of the program that computed the matrix (single precision gives about
/// 1e-6 at n in the thousands); they widen the intervals that are derived from it.
///
/// ```
/// use flatmin_linalg::faer::mat;
/// use flatmin_theory::{Batch, Gram, Optimizer, Sampling, threshold};
/// // Gradients (1, 0) and (0, 2).
/// let gram = Gram::from_sums(mat![[1.0, 0.0], [0.0, 4.0]])?;
/// let batch = Batch::new(1, Sampling::WithReplacement)?;
/// let threshold = threshold(&gram, &Optimizer::sgd(), &batch)?;
/// assert!((threshold.midpoint() - 0.5).abs() < 1e-9);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Gram {
    /// `JJᵀ` or `JJᵀ/n`; only the lower triangle is read.
    matrix: Mat<f64>,
    is_mean: bool,
    /// Number k of outputs of each sample.
    output_count: usize,
    /// Largest `|a_ij − a_ji| / 2` over all entries of `matrix`.
    asymmetry: f64,
    /// The relative rounding of an entry, see [`Gram::from_rounded_sums`].
    rounding: f64,
}

/// The Gram matrix of the Jacobian `J/unit`.
pub(super) struct ScaledGram {
    pub(super) output_count: usize,
    pub(super) unit: PowerOfTwo,
    /// `divisor · K`, lower triangle.
    pub(super) matrix: Mat<f64>,
    pub(super) divisor: f64,
    /// A bound on the spectral norm of the error of `matrix`.
    pub(super) error: f64,
    /// The size of a negative eigenvalue that is rounding, relative to the largest eigenvalue.
    pub(super) tolerance: f64,
    /// True if eigenvalues of the matrix without the divisor are those of `JJᵀ` as given.
    pub(super) is_sum: bool,
}

impl Gram {
    /// Asymmetry and negative eigenvalues that are accepted as rounding, relative to the largest
    /// diagonal entry and the largest eigenvalue.
    pub const TOLERANCE: f64 = 1e-5;

    /// The Gram matrix given by `JJᵀ`, which is **not** divided by n.
    ///
    /// # Errors
    /// [`MinimumError`], with the offending entry: the matrix has no rows, is not square,
    /// not finite or not symmetric, or has an entry that no positive semidefinite matrix has: a
    /// negative one on the diagonal, or one with `|a_ij| > √(a_ii a_jj)`.
    pub fn from_sums(matrix: Mat<f64>) -> Result<Self, MinimumError> {
        Self::new(matrix, false, 0.0)
    }

    /// The Gram matrix given by `JJᵀ`, not divided by n, whose entries were formed in a lower
    /// precision: entry (i, j) is off by up to `rounding · ‖g_i‖‖g_j‖`.
    ///
    /// The error matrix then has at most the spectral norm `rounding · tr(JJᵀ)`, because
    /// `‖g_i‖‖g_j‖` is a matrix of rank one with that norm. Intervals for thresholds are widened by
    /// it, and negative eigenvalues of that size are accepted.
    ///
    /// # Errors
    /// See [`Gram::from_sums`].
    pub fn from_rounded_sums(matrix: Mat<f64>, rounding: f64) -> Result<Self, MinimumError> {
        Self::new(matrix, false, rounding)
    }

    /// The Gram matrix given by `K = JJᵀ/n`, as `Model::gram` of flatmin-models returns it.
    ///
    /// # Errors
    /// See [`Gram::from_sums`].
    pub fn from_means(matrix: Mat<f64>) -> Result<Self, MinimumError> {
        Self::new(matrix, true, 0.0)
    }

    /// Interprets the matrix as the Gram matrix of n samples with k = `output_count` outputs each:
    /// nk × nk, sample by sample, with row `i·k + o` for output o at sample i.
    ///
    /// The n of [`Gram::from_sums`] and [`Gram::from_means`] is the number of samples.
    ///
    /// # Errors
    /// [`MinimumError::Outputs`] unless there are k rows for each sample.
    pub fn with_outputs(self, output_count: usize) -> Result<Self, MinimumError> {
        sample_count(self.matrix.nrows(), output_count)?;
        Ok(Self { output_count, ..self })
    }

    fn new(matrix: Mat<f64>, is_mean: bool, rounding: f64) -> Result<Self, MinimumError> {
        let tolerance = Self::TOLERANCE.max(2.0 * rounding);
        let (rows, columns) = (matrix.nrows(), matrix.ncols());
        if rows == 0 {
            return Err(MinimumError::NoSamples);
        }
        if rows != columns {
            return Err(MinimumError::GramNotSquare { rows, columns });
        }
        for column in 0..rows {
            for row in 0..rows {
                let value = matrix[(row, column)];
                if !value.is_finite() {
                    return Err(MinimumError::GramNotFinite { row, column, value });
                }
            }
        }
        if let Some(row) = (0..rows).find(|&i| matrix[(i, i)] < 0.0) {
            return Err(MinimumError::GramNegative { row, value: matrix[(row, row)] });
        }
        let largest = (0..rows).fold(0.0_f64, |m, i| m.max(matrix[(i, i)]));
        let mut asymmetry = 0.0_f64;
        for column in 0..rows {
            for row in column + 1..rows {
                let (value, mirrored) = (matrix[(row, column)], matrix[(column, row)]);
                let difference = (value - mirrored).abs();
                if !(difference <= tolerance * largest) {
                    return Err(MinimumError::GramNotSymmetric { row, column, value, mirrored });
                }
                // Halving a subnormal difference may round it down.
                asymmetry = asymmetry.max((0.5 * difference).next_up().min(difference));
                // Not √(a·b): the product of the entries may overflow.
                let bound = matrix[(row, row)].sqrt() * matrix[(column, column)].sqrt();
                if value.abs() > bound + tolerance * largest {
                    return Err(MinimumError::GramTooLarge { row, column, value, bound });
                }
            }
        }
        Ok(Self { matrix, is_mean, output_count: 1, asymmetry, rounding })
    }

    /// The number n of samples.
    pub fn sample_count(&self) -> usize {
        self.matrix.nrows() / self.output_count
    }

    /// The matrix, scaled so that its largest diagonal entry lies in [1, 4).
    pub(super) fn scaled(self) -> ScaledGram {
        let divisor = if self.is_mean { 1.0 } else { self.sample_count() as f64 };
        let Self { mut matrix, is_mean, output_count, asymmetry, rounding } = self;
        let n = matrix.nrows();
        let diagonal: Vec<f64> = (0..n).map(|i| matrix[(i, i)]).collect();
        let largest = PowerOfTwo::of_largest(&diagonal).unwrap_or_default();
        let unit = PowerOfTwo::new(largest.exponent().div_euclid(2));
        let inverse = unit.inverse().squared();
        scale_lower(&mut matrix, inverse);
        let trace: f64 = (0..n).map(|i| matrix[(i, i)]).sum();
        let error = n as f64 * inverse.times(asymmetry) + rounding * trace;
        // λ_max is at least the largest diagonal entry.
        let top = (0..n).fold(0.0_f64, |m, i| m.max(matrix[(i, i)]));
        let relative = if top > 0.0 { rounding * trace / top } else { 0.0 };
        let tolerance = Self::TOLERANCE.max(relative);
        ScaledGram { output_count, unit, matrix, divisor, error, tolerance, is_sum: !is_mean }
    }
}

/// The number of samples with `output_count` outputs each that `rows` rows make.
pub(super) fn sample_count(rows: usize, output_count: usize) -> Result<usize, MinimumError> {
    match rows.checked_div(output_count) {
        Some(0) => Err(MinimumError::NoSamples),
        Some(samples) if samples * output_count == rows => Ok(samples),
        _ => Err(MinimumError::Outputs { rows, output_count }),
    }
}

/// Multiplies the lower triangle by a power of two.
pub(super) fn scale_lower(matrix: &mut Mat<f64>, factor: PowerOfTwo) {
    if factor != PowerOfTwo::default() {
        for column in 0..matrix.ncols() {
            for row in column..matrix.nrows() {
                matrix[(row, column)] = factor.times(matrix[(row, column)]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use faer::{Mat, mat};

    use super::Gram;

    #[track_caller]
    fn check(matrix: &Mat<f64>, message: &str) {
        let error = Gram::from_sums(matrix.clone()).unwrap_err();
        assert_eq!(error.to_string(), message);
    }

    #[test]
    fn what_is_no_gram_matrix_is_refused_with_the_entry() {
        check(&Mat::zeros(0, 0), "a minimum needs at least one sample");
        check(&Mat::zeros(2, 3), "a Gram matrix must be square, got 2 × 3");
        check(
            &mat![[1.0, f64::NAN], [0.0, 1.0]],
            "entry (0, 1) of the Gram matrix is NaN, expected a finite number",
        );
        check(
            &mat![[1.0, 0.5], [0.4, 1.0]],
            "the Gram matrix is not symmetric: entry (1, 0) is 0.4, entry (0, 1) is 0.5",
        );
        check(
            &mat![[1.0, 0.0], [0.0, -1e-3]],
            "entry (1, 1) of the Gram matrix is -0.001: a squared norm cannot be negative",
        );
        check(
            &mat![[1.0, 2.0], [2.0, 1.0]],
            "entry (1, 0) of the Gram matrix is 2, more than the norms of its rows allow (1)",
        );
    }

    #[test]
    fn a_declared_rounding_is_accepted_and_bounded_by_the_trace() {
        // The eigenvalue −0.01 is rounding where entries are off by up to 1 % of the norms.
        let matrix = mat![[1.0, 1.01], [1.01, 1.0]];
        assert!(Gram::from_sums(matrix.clone()).is_err());
        let scaled = Gram::from_rounded_sums(matrix, 0.01).unwrap().scaled();
        assert!((scaled.error - 0.02).abs() < 1e-15);
        assert!((scaled.tolerance - 0.02).abs() < 1e-15);
    }

    #[test]
    fn rounding_in_the_last_digits_of_single_precision_is_accepted() {
        let gram = Gram::from_means(mat![[1.0, 1.0 + 1e-6], [1.0, 1.0]]).unwrap();
        assert!((gram.asymmetry - 5e-7).abs() < 1e-12);
        assert_eq!(gram.sample_count(), 2);
        // Half of the smallest subnormal number rounds to zero.
        let large = f64::from_bits(1 << 20);
        let gram = Gram::from_means(mat![[large, f64::from_bits(1)], [0.0, large]]).unwrap();
        assert!(gram.asymmetry > 0.0);
        assert!(Gram::from_means(mat![[1e300, 0.0], [0.0, 1e-300]]).is_ok());
        assert!(Gram::from_sums(Mat::zeros(1, 1)).is_ok());
    }
}
