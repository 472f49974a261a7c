//! A minimum with zero loss, reduced to the quantities that stability depends on.

mod gram;
mod sum;

use std::borrow::Cow;

use faer::MatRef;
use flatmin_linalg::gemm::{rounding_terms, summarize_symmetric_product};
use flatmin_linalg::rounding::gamma;
use flatmin_linalg::{
    EigenError, Parallelism, PowerOfTwo, RowMatrix, Sharpness, decompose, product, simd,
    symmetric_eigenvalues,
};

pub use self::gram::Gram;
use self::gram::{ScaledGram, sample_count};
pub use self::sum::GramSum;
use crate::{LossError, MinimumError, OutputHessians};

/// A minimum with zero loss, given by its Jacobian `J` (n × p, rows `g_i = ∇f(x_i)`) or by the Gram
/// matrix `JJᵀ`.
///
/// A network with k outputs has a k × p block `J_i` for each sample. Its Jacobian is nk × p, sample
/// by sample: row `i·k + o` is the gradient of output o at sample i. Its loss is
/// `(1/2n) Σ ‖f(x_i) − y_i‖²`, so that `G = (1/n) Σ J_iᵀJ_i = JᵀJ/n` with the number n of samples.
///
/// Linearised SGD depends on `J` only through `G` and the rows of `J` in the eigenbasis of `G`.
/// Both come from the eigendecomposition of the Gram matrix `K = JJᵀ/n`, nk × nk. Eigenvalues of at
/// most `nk·ε·λ_max` are zero up to rounding and are dropped. Internally `J` is scaled by a power
/// of two, so that entries of 1e±150 need no care.
#[derive(Debug, Clone)]
pub struct Minimum {
    output_count: usize,
    eigenvalues: Vec<f64>,
    /// `J = unit · J'`; the fields below describe J'.
    unit: PowerOfTwo,
    scaled_sharpness: Sharpness,
    scaled_largest_norm_squared: f64,
    scaled_eigenvalues: Vec<f64>,
    scaled_rows: RowMatrix,
    /// Bounds on the error of [`scaled`](Self::scaled).
    pub(crate) accuracy: Accuracy,
}

/// Rigorous bounds on the distance of the stored rows ĝ (nk × r) and eigenvalues Λ from the matrix
/// that they represent. They cover the rounding of their own evaluation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Accuracy {
    /// `‖K − ĝĝᵀ/n‖₂`, with K the exact Gram matrix of the given numbers.
    pub(crate) gram: f64,
    /// `‖Λ^{−½} (ĝᵀĝ/n) Λ^{−½} − I‖₂`.
    pub(crate) orthogonality: f64,
}

/// A value that determines a [`Minimum`]: a minimum itself, a Jacobian (n × p), or a [`Gram`]
/// matrix.
pub trait ToMinimum {
    /// The minimum. Costs nothing for a [`Minimum`], and an eigendecomposition otherwise.
    ///
    /// # Errors
    /// The errors of [`Minimum::new`] and [`Minimum::from_gram`].
    fn to_minimum(&self) -> Result<Cow<'_, Minimum>, MinimumError>;
}

impl ToMinimum for Minimum {
    fn to_minimum(&self) -> Result<Cow<'_, Minimum>, MinimumError> {
        Ok(Cow::Borrowed(self))
    }
}

impl ToMinimum for RowMatrix {
    fn to_minimum(&self) -> Result<Cow<'_, Minimum>, MinimumError> {
        Minimum::new(self).map(Cow::Owned)
    }
}

impl ToMinimum for Gram {
    fn to_minimum(&self) -> Result<Cow<'_, Minimum>, MinimumError> {
        Minimum::from_gram(self.clone(), Parallelism::Sequential).map(Cow::Owned)
    }
}

impl Minimum {
    /// The minimum with this Jacobian. Costs O(n²p + n³); a [`GramSum`] may use several cores.
    ///
    /// # Errors
    /// [`MinimumError`] when there is no row, an entry is not finite, or the eigenproblem fails.
    pub fn new(jacobian: &RowMatrix) -> Result<Self, MinimumError> {
        Self::with_outputs(jacobian, 1)
    }

    /// The minimum of a network with k = `output_count` outputs, from its Jacobian (nk × p, sample
    /// by sample). Costs O(n²k²p + n³k³).
    ///
    /// # Errors
    /// The errors of [`Minimum::new`], and [`MinimumError::Outputs`] unless there are k rows for
    /// each sample.
    pub fn with_outputs(jacobian: &RowMatrix, output_count: usize) -> Result<Self, MinimumError> {
        let samples = sample_count(jacobian.rows(), output_count)?;
        let mut sum = GramSum::with_outputs(samples, output_count, Parallelism::Sequential)?;
        sum.add(jacobian.as_mat())?;
        sum.minimum()
    }

    /// The minimum of another loss than the squared one, from the Jacobian of the outputs (nk × p,
    /// sample by sample) and the Hessians of the loss in them (S17).
    ///
    /// # Errors
    /// [`LossError::Rows`](crate::LossError::Rows) unless there are nk rows;
    /// [`LossError::Minimum`](crate::LossError::Minimum) as [`Minimum::new`].
    pub fn with_loss(jacobian: &RowMatrix, loss: &OutputHessians) -> Result<Self, LossError> {
        let weighted = loss.weigh(jacobian.as_mat())?;
        let outputs = loss.output_count();
        let mut sum = GramSum::with_outputs(loss.sample_count(), outputs, Parallelism::Sequential)?;
        sum.add(weighted.as_ref())?;
        Ok(sum.minimum()?)
    }

    /// The minimum with this Gram matrix. Costs O(n³).
    ///
    /// # Errors
    /// [`MinimumError::GramIndefinite`] when an eigenvalue is negative beyond
    /// [`Gram::TOLERANCE`], or when the eigenproblem fails.
    pub fn from_gram(gram: Gram, parallelism: Parallelism) -> Result<Self, MinimumError> {
        Self::decompose(gram.scaled(), parallelism)
    }

    fn decompose(gram: ScaledGram, parallelism: Parallelism) -> Result<Self, MinimumError> {
        let ScaledGram { output_count, unit, matrix, divisor, error, tolerance, is_sum } = gram;
        let n = matrix.nrows();
        let sample_count = (n / output_count) as f64;
        let mut decomposition = decompose(matrix, parallelism)?;
        let values = &decomposition.values;
        let unscale = |value: f64| unit.squared().times(value);
        let lambda_max = values[n - 1].max(0.0);
        if values[0] < -tolerance * lambda_max {
            // Of the matrix that was given, so that its owner finds them again.
            let given = if is_sum { 1.0 } else { divisor };
            let [eigenvalue, lambda_max] = [values[0], lambda_max].map(|v| unscale(v / given));
            return Err(MinimumError::GramIndefinite { eigenvalue, lambda_max });
        }
        let cutoff = n as f64 * f64::EPSILON * lambda_max;
        let zeros = values.iter().filter(|v| **v <= cutoff).count();
        let scaled_eigenvalues: Vec<f64> =
            values[zeros..].iter().map(|value| value / divisor).collect();
        let factors: Vec<f64> =
            scaled_eigenvalues.iter().map(|value| (sample_count * value).sqrt()).collect();
        let scaled_rows = scaled_columns(&mut decomposition.vectors, zeros, &factors);
        let matrix = decomposition.lower();

        let diagonal = (0..n).map(|i| matrix[(i, i)]);
        let trace = diagonal.clone().sum::<f64>() / divisor;
        let squares = |j: usize| {
            let below: f64 = (j + 1..n).map(|i| matrix[(i, j)] * matrix[(i, j)]).sum();
            2.0 * below + matrix[(j, j)] * matrix[(j, j)]
        };
        let scaled_sharpness = Sharpness {
            trace,
            frobenius_norm: (0..n).map(squares).sum::<f64>().sqrt() / divisor,
            lambda_max: lambda_max / divisor,
        };
        let largest = match output_count {
            1 => diagonal.fold(0.0, f64::max),
            _ => largest_block_eigenvalue(matrix, output_count)?,
        };
        let gram = gram_error(matrix, sample_count, divisor, &scaled_rows, parallelism);
        let orthogonality =
            orthogonality_error(&scaled_eigenvalues, sample_count, &scaled_rows, parallelism);
        let accuracy = Accuracy { gram: gram + error / divisor, orthogonality };
        Ok(Self {
            output_count,
            eigenvalues: scaled_eigenvalues.iter().copied().map(unscale).collect(),
            unit,
            scaled_sharpness,
            scaled_largest_norm_squared: largest * (sample_count / divisor),
            scaled_eigenvalues,
            scaled_rows,
            accuracy,
        })
    }

    /// The number n of samples.
    pub fn sample_count(&self) -> usize {
        self.scaled_rows.rows() / self.output_count
    }

    /// The number k of outputs of each sample.
    pub fn output_count(&self) -> usize {
        self.output_count
    }

    /// Sharpness of `G`; infinite or zero where it is beyond the range of `f64`.
    pub fn sharpness(&self) -> Sharpness {
        self.scaled_sharpness.scaled(self.unit.squared())
    }

    /// `max_i λ_max(J_i J_iᵀ)`, the largest curvature of a single sample; with one output
    /// `max_i ‖g_i‖²`.
    pub fn largest_gradient_norm_squared(&self) -> f64 {
        self.unit.squared().times(self.scaled_largest_norm_squared)
    }

    /// The nonzero eigenvalues of `G`, ascending. Their number is the rank r of `G`.
    pub fn eigenvalues(&self) -> &[f64] {
        &self.eigenvalues
    }

    /// The exponent e, and the eigenvalues and nk × r rows of `J/2^e` in the eigenbasis of its `G`.
    pub fn scaled(&self) -> (i32, &[f64], &RowMatrix) {
        (self.unit.exponent(), &self.scaled_eigenvalues, &self.scaled_rows)
    }

    /// The minimum of the network restricted to the modes of the largest eigenvalues of G.
    pub(crate) fn restricted_to(&self, modes: usize) -> Result<Self, MinimumError> {
        let (rank, k) = (self.scaled_rows.columns(), self.output_count);
        let first = rank - modes.min(rank);
        let rows = RowMatrix::from_fn(self.scaled_rows.rows(), rank - first, |row, mode| {
            self.scaled_rows.row(row)[first + mode]
        });
        let squares = |row: usize| simd::norm_squared(rows.row(row));
        let largest = match k {
            1 => (0..rows.rows()).map(squares).fold(0.0, f64::max),
            _ => (0..rows.rows())
                .step_by(k)
                .map(|row| {
                    let block = rows.as_mat().subrows(row, k);
                    largest_block_eigenvalue(product(block, block.transpose()).as_ref(), k)
                })
                .try_fold(0.0_f64, |most, found| found.map(|found| most.max(found)))?,
        };
        let scaled_eigenvalues = self.scaled_eigenvalues[first..].to_vec();
        let scaled_sharpness = Sharpness {
            trace: scaled_eigenvalues.iter().sum(),
            frobenius_norm: simd::norm_squared(&scaled_eigenvalues).sqrt(),
            lambda_max: self.scaled_sharpness.lambda_max,
        };
        Ok(Self {
            output_count: k,
            eigenvalues: self.eigenvalues[first..].to_vec(),
            unit: self.unit,
            scaled_sharpness,
            scaled_largest_norm_squared: largest,
            scaled_eigenvalues,
            scaled_rows: rows,
            accuracy: self.accuracy,
        })
    }

    /// Sharpness and [largest norm](Self::largest_gradient_norm_squared) of `J/2^e`, see
    /// [`scaled`](Self::scaled): these are within the range of `f64` even if the values for `J` are
    /// not.
    pub(crate) fn scaled_curvature(&self) -> (Sharpness, f64) {
        (self.scaled_sharpness, self.scaled_largest_norm_squared)
    }
}

impl GramSum {
    /// The minimum with this Jacobian. Costs O(n³).
    ///
    /// # Errors
    /// When the eigenproblem fails.
    pub fn minimum(self) -> Result<Minimum, MinimumError> {
        let parallelism = self.parallelism;
        Minimum::decompose(self.scaled(), parallelism)
    }
}

/// The columns of `matrix` from `first` on, each times its factor. Reuses the storage of `matrix`,
/// which is left empty.
fn scaled_columns(matrix: &mut RowMatrix, first: usize, factors: &[f64]) -> RowMatrix {
    let (rows, columns, rank) = (matrix.rows(), matrix.columns(), factors.len());
    let mut values = std::mem::replace(matrix, RowMatrix::zeros(0, 0)).into_values();
    for i in 0..rows {
        for (k, factor) in factors.iter().enumerate() {
            // Each value is written at or before the place from which it is read.
            values[i * rank + k] = factor * values[i * columns + first + k];
        }
    }
    values.truncate(rows * rank);
    values.shrink_to_fit();
    RowMatrix::new(rows, rank, values).expect("rank factors for each row")
}

/// The largest eigenvalue of any `size` × `size` block on the diagonal. Reads the lower triangle.
fn largest_block_eigenvalue(matrix: MatRef<'_, f64>, size: usize) -> Result<f64, EigenError> {
    let mut largest = 0.0_f64;
    for first in (0..matrix.nrows()).step_by(size) {
        let block = matrix.get(first..first + size, first..first + size);
        let values = symmetric_eigenvalues(block)?;
        largest = values.last().copied().map_or(largest, |value| largest.max(value));
    }
    Ok(largest)
}

/// Bounds `‖K − ĝĝᵀ/n‖₂` for `gram = divisor · K` (lower triangle) by the Frobenius norm of the
/// computed difference, plus the rounding of its entries, each at most `γ ‖ĝ_i‖‖ĝ_j‖`.
fn gram_error(
    gram: MatRef<'_, f64>,
    sample_count: f64,
    divisor: f64,
    rows: &RowMatrix,
    parallelism: Parallelism,
) -> f64 {
    let factor = sample_count / divisor;
    // For each column its sum of squared differences and its diagonal entry.
    let columns = summarize_symmetric_product(rows.as_mat(), parallelism, |first, product| {
        let column = |j: usize| {
            let difference =
                |i: usize| (factor * gram[(first + i, first + j)] - product[(i, j)]).powi(2);
            let below: f64 = (j + 1..product.nrows()).map(difference).sum();
            (2.0 * below + difference(j), product[(j, j)])
        };
        (0..product.ncols()).map(column).collect::<Vec<_>>()
    });
    let (mut squares, mut exact, mut rebuilt) = (0.0, 0.0, 0.0);
    for (j, (square, diagonal)) in columns.into_iter().flatten().enumerate() {
        squares += square;
        exact += factor * gram[(j, j)];
        rebuilt += diagonal;
    }
    let hidden = gamma(rounding_terms(rows.columns()) + 4) * rebuilt + gamma(4) * exact;
    // The factor covers the rounding of these sums themselves.
    (squares.sqrt() + hidden) * (1.0 + 1e-6) / sample_count
}

/// Bounds `‖Λ^{−½} (ĝᵀĝ/n) Λ^{−½} − I‖₂` in the same way as [`gram_error`].
fn orthogonality_error(
    eigenvalues: &[f64],
    sample_count: f64,
    rows: &RowMatrix,
    parallelism: Parallelism,
) -> f64 {
    let (n, rank) = (rows.rows(), eigenvalues.len());
    let scale: Vec<f64> = eigenvalues.iter().map(|v| 1.0 / (sample_count * v).sqrt()).collect();
    let columns = rows.as_mat().transpose();
    let columns = summarize_symmetric_product(columns, parallelism, |first, product| {
        let column = |l: usize| {
            let entry = |k: usize| product[(k, l)] * scale[first + k] * scale[first + l];
            let below: f64 = (l + 1..product.nrows()).map(|k| entry(k).powi(2)).sum();
            (2.0 * below, entry(l))
        };
        (0..product.ncols()).map(column).collect::<Vec<_>>()
    });
    let (mut squares, mut largest) = (0.0, 0.0_f64);
    for (below, diagonal) in columns.into_iter().flatten() {
        squares += below;
        squares += (diagonal - 1.0).powi(2);
        largest = largest.max(diagonal);
    }
    let hidden = gamma(rounding_terms(n) + 12) * largest * rank as f64;
    (squares.sqrt() + hidden) * (1.0 + 1e-6)
}

#[cfg(test)]
mod tests {
    use faer::Mat;
    use flatmin_linalg::{Parallelism, RowMatrix};

    use super::{Minimum, gram_error};
    use crate::MinimumError;

    #[test]
    fn repeated_and_zero_rows_leave_one_eigenvalue() {
        let jacobian = RowMatrix::new(3, 2, vec![3.0, 4.0, 0.0, 0.0, 3.0, 4.0]).unwrap();
        let minimum = Minimum::new(&jacobian).unwrap();
        assert_eq!(minimum.eigenvalues().len(), 1);
        assert!((minimum.eigenvalues()[0] - 50.0 / 3.0).abs() < 1e-14);
        assert!((minimum.largest_gradient_norm_squared() - 25.0).abs() < 1e-14);
    }

    #[test]
    fn outputs_of_a_sample_share_its_weight() {
        // J_1 = [3 4; 0 0], J_2 = [0 0; 1 0]: two samples, so that G = (1/2) Σ J_iᵀJ_i.
        let values = vec![3.0, 4.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0];
        let jacobian = RowMatrix::new(4, 2, values).unwrap();
        let minimum = Minimum::with_outputs(&jacobian, 2).unwrap();
        assert_eq!((minimum.sample_count(), minimum.output_count()), (2, 2));
        assert!((minimum.sharpness().trace - 13.0).abs() < 1e-14);
        assert!((minimum.eigenvalues().iter().sum::<f64>() - 13.0).abs() < 1e-14);
        assert!((minimum.largest_gradient_norm_squared() - 25.0).abs() < 1e-14);
        let error = Minimum::with_outputs(&jacobian, 3).unwrap_err();
        assert_eq!(error, MinimumError::Outputs { rows: 4, output_count: 3 });
        assert!(Minimum::with_outputs(&jacobian, 0).is_err());
        let flat = Minimum::with_outputs(&RowMatrix::zeros(4, 0), 2).unwrap();
        assert!(flat.largest_gradient_norm_squared().abs() < f64::MIN_POSITIVE);
    }

    #[test]
    fn bad_input_is_named_and_empty_gradients_are_zero() {
        let jacobian = RowMatrix::new(2, 2, vec![0.0, 1.0, f64::INFINITY, 0.0]).unwrap();
        let error = Minimum::new(&jacobian).unwrap_err();
        let value = f64::INFINITY;
        assert_eq!(error, MinimumError::NotFinite { row: 1, column: 0, value });
        assert_eq!(Minimum::new(&RowMatrix::zeros(0, 2)).unwrap_err(), MinimumError::NoSamples);
        assert!(Minimum::new(&RowMatrix::zeros(2, 0)).unwrap().eigenvalues().is_empty());
    }

    #[test]
    fn what_rounding_hides_is_measured_against_the_gram_matrix() {
        let error = |scale: f64| {
            let rows = RowMatrix::from_fn(2, 2, |i, j| scale * (i + 2 * j + 1) as f64);
            let gram = Mat::from_fn(2, 2, |i, j| {
                rows.row(i).iter().zip(rows.row(j)).map(|(a, b)| a * b).sum::<f64>() / 2.0
            });
            gram_error(gram.as_ref(), 2.0, 1.0, &rows, Parallelism::Sequential)
        };
        // The difference is zero here, because integers are not rounded.
        let trace = (1.0 + 9.0 + 4.0 + 16.0) / 2.0;
        assert!(error(1.0) >= 2.0 * f64::EPSILON * trace, "{}", error(1.0));
        assert!(error(1.0) <= 32.0 * f64::EPSILON * trace, "{}", error(1.0));
        assert_eq!(error(1024.0).to_bits(), (1024.0 * 1024.0 * error(1.0)).to_bits());
    }
}
