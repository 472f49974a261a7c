//! Gram matrices of gradients.

use faer::Mat;

use crate::TheoryError;
use crate::minimum::samples;

/// A Gram matrix of gradients, `JJᵀ` with entries `g_iᵀg_j`, n × n; nk × nk for networks with k outputs,
/// see [`Gram::with_outputs`].
///
/// Checked when it is made: finite, symmetric and without an entry that a positive semidefinite
/// matrix cannot have. Asymmetry and negative eigenvalues up to [`Gram::TOLERANCE`] are taken as
/// the rounding of whoever computed it (single precision gives about 1e-6 at n in the thousands)
/// and widen the intervals that are derived from it.
#[derive(Debug, Clone)]
pub struct Gram {
    /// `JJᵀ` or `JJᵀ/n`; only the lower triangle is read.
    pub(crate) matrix: Mat<f64>,
    scale: Scale,
    /// Number k of outputs of each sample.
    pub(crate) output_count: usize,
    /// Largest `|a_ij − a_ji| / 2` over all entries of `matrix`.
    pub(crate) asymmetry: f64,
}

/// What a matrix is.
#[derive(Debug, Clone, Copy)]
enum Scale {
    /// `JJᵀ`.
    Sums,
    /// `K = JJᵀ/n`.
    Means,
}

impl Gram {
    /// Asymmetry and negative eigenvalues that are accepted as rounding, relative to the largest
    /// diagonal entry and the largest eigenvalue.
    pub const TOLERANCE: f64 = 1e-5;

    /// From `JJᵀ`, **not** divided by n.
    ///
    /// # Errors
    /// [`TheoryError`] that names the offending entry: no rows, not square, not finite, not
    /// symmetric, or an entry that no positive semidefinite matrix has, which is a negative
    /// diagonal one or one with `|a_ij| > √(a_ii a_jj)`.
    pub fn from_sums(matrix: Mat<f64>) -> Result<Self, TheoryError> {
        Self::new(matrix, Scale::Sums)
    }

    /// From `K = JJᵀ/n`, as `Model::gram` of flatmin-models returns it.
    ///
    /// # Errors
    /// As [`Gram::from_sums`].
    pub fn from_means(matrix: Mat<f64>) -> Result<Self, TheoryError> {
        Self::new(matrix, Scale::Means)
    }

    /// The same matrix as that of n samples with k = `output_count` outputs each: nk × nk, sample by
    /// sample, the row of output o at sample i being `i·k + o`.
    ///
    /// The n of [`Gram::from_sums`] and [`Gram::from_means`] is the number of samples.
    ///
    /// # Errors
    /// [`TheoryError::Outputs`] when the rows are not k for each sample.
    pub fn with_outputs(self, output_count: usize) -> Result<Self, TheoryError> {
        samples(self.matrix.nrows(), output_count)?;
        Ok(Self { output_count, ..self })
    }

    fn new(matrix: Mat<f64>, scale: Scale) -> Result<Self, TheoryError> {
        let (rows, columns) = (matrix.nrows(), matrix.ncols());
        if rows == 0 {
            return Err(TheoryError::NoSamples);
        }
        if rows != columns {
            return Err(TheoryError::GramNotSquare { rows, columns });
        }
        for column in 0..rows {
            for row in 0..rows {
                let value = matrix[(row, column)];
                if !value.is_finite() {
                    return Err(TheoryError::GramNotFinite { row, column, value });
                }
            }
        }
        if let Some(row) = (0..rows).find(|&i| matrix[(i, i)] < 0.0) {
            return Err(TheoryError::GramNegative { row, value: matrix[(row, row)] });
        }
        let largest = (0..rows).fold(0.0_f64, |m, i| m.max(matrix[(i, i)]));
        let mut asymmetry = 0.0_f64;
        for column in 0..rows {
            for row in column + 1..rows {
                let (value, mirrored) = (matrix[(row, column)], matrix[(column, row)]);
                let difference = (value - mirrored).abs();
                if !(difference <= Self::TOLERANCE * largest) {
                    return Err(TheoryError::GramNotSymmetric { row, column, value, mirrored });
                }
                // Half of an odd number of the smallest units is no number.
                asymmetry = asymmetry.max((0.5 * difference).next_up().min(difference));
                // √a·√b: the product of the entries may leave the range.
                let bound = matrix[(row, row)].sqrt() * matrix[(column, column)].sqrt();
                if value.abs() > bound + Self::TOLERANCE * largest {
                    return Err(TheoryError::GramTooLarge { row, column, value, bound });
                }
            }
        }
        Ok(Self { matrix, scale, output_count: 1, asymmetry })
    }

    /// Number n of samples.
    pub fn sample_count(&self) -> usize {
        self.matrix.nrows() / self.output_count
    }

    /// By what `matrix` must be divided to give `K = JJᵀ/n`.
    pub(crate) fn divisor(&self) -> f64 {
        match self.scale {
            Scale::Sums => self.sample_count() as f64,
            Scale::Means => 1.0,
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
    fn rounding_in_the_last_digits_of_single_precision_is_accepted() {
        let gram = Gram::from_means(mat![[1.0, 1.0 + 1e-6], [1.0, 1.0]]).unwrap();
        assert!((gram.asymmetry - 5e-7).abs() < 1e-12);
        assert_eq!(gram.sample_count(), 2);
        // Half of the smallest number is none.
        let large = f64::from_bits(1 << 20);
        let gram = Gram::from_means(mat![[large, f64::from_bits(1)], [0.0, large]]).unwrap();
        assert!(gram.asymmetry > 0.0);
        assert!(Gram::from_means(mat![[1e300, 0.0], [0.0, 1e-300]]).is_ok());
        assert!(Gram::from_sums(Mat::zeros(1, 1)).is_ok());
    }
}
