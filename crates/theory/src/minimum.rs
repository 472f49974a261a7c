//! A zero-loss minimum, as stability sees it.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};
use flatmin_curvature::gram_sharpness;
use flatmin_linalg::{RowMatrix, Sharpness, simd, symmetric_eigen};

use crate::TheoryError;

/// A zero-loss minimum, given by its Jacobian `J` (n × p, rows `g_i = ∇f(x_i)`).
///
/// Linearised SGD depends on `J` only through `G = JᵀJ/n` and the rows in the eigenbasis of `G`;
/// both come from the eigendecomposition of the Gram matrix `K = JJᵀ/n`. Eigenvalues at most
/// `n·ε·λ_max` are rounding of zero and dropped. Inside, `J` is scaled by a power of two, so that
/// entries of 1e±150 are ordinary.
#[derive(Debug, Clone)]
pub struct Minimum {
    sample_count: usize,
    sharpness: Sharpness,
    largest_row_norm_squared: f64,
    eigenvalues: Vec<f64>,
    /// `J = 2^exponent · J'`; what follows is of `J'`.
    exponent: i32,
    scaled_eigenvalues: Vec<f64>,
    scaled_rows: RowMatrix,
}

impl Minimum {
    /// The minimum with this Jacobian. Costs O(n²p + n³).
    ///
    /// # Errors
    /// [`TheoryError`] when there is no row, an entry is not finite, or the eigenproblem fails.
    pub fn new(jacobian: &RowMatrix) -> Result<Self, TheoryError> {
        let (n, p) = (jacobian.rows(), jacobian.columns());
        if n == 0 {
            return Err(TheoryError::NoSamples);
        }
        let values = jacobian.values();
        if let Some(k) = values.iter().position(|v| !v.is_finite()) {
            let value = values[k];
            return Err(TheoryError::NotFinite { row: k / p, column: k % p, value });
        }
        let largest = values.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
        let exponent = if largest > 0.0 { libm::ilogb(largest) } else { 0 };
        let scaled = RowMatrix::from_fn(n, p, |i, j| libm::scalbn(jacobian.row(i)[j], -exponent));
        let (rows, scale) = (scaled.as_mat(), 1.0 / n as f64);
        let mut gram = Mat::zeros(n, n);
        matmul(gram.as_mut(), Accum::Replace, rows, rows.transpose(), scale, Par::Seq);

        let sharpness = gram_sharpness(gram.as_ref())?;
        let eigen = symmetric_eigen(gram.as_ref())?;
        let cutoff = n as f64 * f64::EPSILON * sharpness.lambda_max;
        let zeros = eigen.values.iter().filter(|v| **v <= cutoff).count();
        let scaled_eigenvalues = eigen.values[zeros..].to_vec();
        let scaled_rows = RowMatrix::from_fn(n, scaled_eigenvalues.len(), |i, k| {
            (n as f64 * scaled_eigenvalues[k]).sqrt() * eigen.vectors[(i, zeros + k)]
        });
        let row_norm_squared = (0..n).map(|i| simd::norm_squared(scaled.row(i)));
        let back = |value: f64| libm::scalbn(value, 2 * exponent);
        Ok(Self {
            sample_count: n,
            sharpness: Sharpness {
                trace: back(sharpness.trace),
                frobenius_norm: back(sharpness.frobenius_norm),
                lambda_max: back(sharpness.lambda_max),
            },
            largest_row_norm_squared: back(row_norm_squared.fold(0.0, f64::max)),
            eigenvalues: scaled_eigenvalues.iter().copied().map(back).collect(),
            exponent,
            scaled_eigenvalues,
            scaled_rows,
        })
    }

    /// Number n of samples.
    pub fn sample_count(&self) -> usize {
        self.sample_count
    }

    /// Sharpness of `G`.
    pub fn sharpness(&self) -> Sharpness {
        self.sharpness
    }

    /// `max_i ‖g_i‖²`.
    pub fn largest_row_norm_squared(&self) -> f64 {
        self.largest_row_norm_squared
    }

    /// The nonzero eigenvalues of `G`, ascending.
    pub fn eigenvalues(&self) -> &[f64] {
        &self.eigenvalues
    }

    /// The exponent e, eigenvalues and n × r rows of `J/2^e` in the eigenbasis of its `G`.
    pub(crate) fn scaled(&self) -> (i32, &[f64], &RowMatrix) {
        (self.exponent, &self.scaled_eigenvalues, &self.scaled_rows)
    }
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::RowMatrix;

    use super::Minimum;
    use crate::TheoryError;

    #[test]
    fn repeated_and_zero_rows_leave_one_eigenvalue() {
        let jacobian = RowMatrix::new(3, 2, vec![3.0, 4.0, 0.0, 0.0, 3.0, 4.0]).unwrap();
        let minimum = Minimum::new(&jacobian).unwrap();
        assert_eq!(minimum.eigenvalues().len(), 1);
        assert!((minimum.eigenvalues()[0] - 50.0 / 3.0).abs() < 1e-14);
        assert!((minimum.largest_row_norm_squared() - 25.0).abs() < 1e-14);
    }

    #[test]
    fn bad_input_is_named_and_empty_gradients_are_zero() {
        let jacobian = RowMatrix::new(2, 2, vec![0.0, 1.0, f64::INFINITY, 0.0]).unwrap();
        let error = Minimum::new(&jacobian).unwrap_err();
        let value = f64::INFINITY;
        assert_eq!(error, TheoryError::NotFinite { row: 1, column: 0, value });
        assert_eq!(Minimum::new(&RowMatrix::zeros(0, 2)).unwrap_err(), TheoryError::NoSamples);
        assert!(Minimum::new(&RowMatrix::zeros(2, 0)).unwrap().eigenvalues().is_empty());
    }
}
