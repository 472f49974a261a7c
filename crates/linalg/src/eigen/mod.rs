//! Dense symmetric eigenproblems, with input and result checked.
//!
//! The solver underneath is the crate's own: reduction to tridiagonal form and QL iteration, with
//! the same bits on every machine and for any number of threads. It expects entries near one. Here
//! the input is checked and scaled by a power of two, which is exact. The result is compared with
//! the trace and the Frobenius norm of the matrix, which an eigendecomposition preserves, before it
//! is returned.

#![expect(
    clippy::inline_always,
    reason = "a kernel that is not inlined loses the instruction set it was dispatched to"
)]

mod columns;
mod ql;
mod reduction;
mod rotations;
mod tridiagonal;
mod work_matrix;

use faer::{Mat, MatRef};

use self::work_matrix::WorkMatrix;
use crate::{Parallelism, PowerOfTwo, RowMatrix};

/// Eigenvalues in ascending order with orthonormal eigenvectors (columns).
#[derive(Debug, Clone)]
pub struct Eigen {
    /// Eigenvalues, ascending.
    pub values: Vec<f64>,
    /// Eigenvectors as columns, in the order of `values`.
    pub vectors: Mat<f64>,
}

/// The reason why a symmetric eigenproblem has no trustworthy solution.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EigenError {
    /// The matrix is not square.
    #[error("a symmetric matrix must be square, got {rows} × {columns}")]
    NotSquare {
        /// Number of rows.
        rows: usize,
        /// Number of columns.
        columns: usize,
    },
    /// An entry is NaN or infinite.
    #[error("entry ({row}, {column}) is {value}, expected a finite number")]
    NotFinite {
        /// Row of the first such entry.
        row: usize,
        /// Column of that entry.
        column: usize,
        /// Value of that entry.
        value: f64,
    },
    /// The iteration did not converge.
    #[error("the eigenvalue iteration did not converge for a {0} × {0} matrix")]
    NoConvergence(usize),
    /// The result contradicts an invariant of the matrix.
    #[error("the computed eigenvalues give {invariant} {computed}, the matrix has {expected}")]
    Inconsistent {
        /// The invariant: the trace or the Frobenius norm.
        invariant: &'static str,
        /// Its value from the eigenvalues.
        computed: f64,
        /// Its value from the matrix.
        expected: f64,
    },
}

/// All eigenvalues of a symmetric matrix, ascending. The lower triangle is read.
///
/// Costs O(n³). The 0 × 0 matrix has none.
///
/// ```
/// use faer::mat;
/// let values = flatmin_linalg::symmetric_eigenvalues(mat![[2.0, 1.0], [1.0, 2.0]].as_ref())?;
/// assert!((values[0] - 1.0).abs() < 1e-14 && (values[1] - 3.0).abs() < 1e-14);
/// # Ok::<(), flatmin_linalg::EigenError>(())
/// ```
///
/// # Errors
/// [`EigenError`]: not square, not finite, no convergence, or a result that fails its check.
pub fn symmetric_eigenvalues(matrix: MatRef<'_, f64>) -> Result<Vec<f64>, EigenError> {
    Problem::new(matrix)?.eigenvalues()
}

/// Eigenvalues and eigenvectors of a symmetric matrix. The lower triangle is read.
///
/// Costs O(n³).
///
/// # Errors
/// See [`symmetric_eigenvalues`].
pub fn symmetric_eigen(matrix: MatRef<'_, f64>) -> Result<Eigen, EigenError> {
    let (values, vectors) = Problem::new(matrix)?.eigen(Parallelism::Sequential)?;
    Ok(Eigen { values, vectors: vectors.as_mat().to_owned() })
}

/// The eigendecomposition of a symmetric matrix, with the matrix itself; see [`decompose`].
#[derive(Debug)]
pub struct Decomposition {
    /// Eigenvalues, ascending.
    pub values: Vec<f64>,
    /// Eigenvectors as columns, in the order of `values`.
    pub vectors: RowMatrix,
    work: WorkMatrix,
}

impl Decomposition {
    /// The matrix that was decomposed, bit by bit. Only its lower triangle is meaningful.
    pub fn lower(&self) -> MatRef<'_, f64> {
        self.work.original_lower()
    }
}

/// Eigenvalues and eigenvectors of a large symmetric matrix that is needed afterwards too.
///
/// The results have the bits of [`symmetric_eigen`], for any number of threads. Never holds more
/// than two n × n matrices: the one given becomes one of the two that are returned.
///
/// # Errors
/// See [`symmetric_eigenvalues`].
pub fn decompose(matrix: Mat<f64>, parallelism: Parallelism) -> Result<Decomposition, EigenError> {
    let mut problem = Problem::new(matrix.as_ref())?;
    drop(matrix);
    let (values, vectors) = problem.eigen(parallelism)?;
    let mut work = problem.work;
    work.restore();
    Ok(Decomposition { values, vectors, work })
}

/// A symmetric matrix that has been checked, divided by a power of two near its largest entry.
struct Problem {
    work: WorkMatrix,
    size: usize,
    /// `None` when the matrix is zero.
    unit: Option<PowerOfTwo>,
}

impl Problem {
    fn new(matrix: MatRef<'_, f64>) -> Result<Self, EigenError> {
        let (rows, columns) = (matrix.nrows(), matrix.ncols());
        if rows != columns {
            return Err(EigenError::NotSquare { rows, columns });
        }
        let mut largest = 0.0_f64;
        for column in 0..columns {
            for row in column..rows {
                let value = matrix[(row, column)];
                if !value.is_finite() {
                    return Err(EigenError::NotFinite { row, column, value });
                }
                largest = largest.max(value.abs());
            }
        }
        let unit = PowerOfTwo::of_largest(&[largest]);
        let work = WorkMatrix::new(matrix, unit.unwrap_or_default().inverse());
        Ok(Self { work, size: rows, unit })
    }

    fn eigenvalues(&mut self) -> Result<Vec<f64>, EigenError> {
        let Some(unit) = self.unit else { return Ok(vec![0.0; self.size]) };
        let values = tridiagonal::eigenvalues(&mut self.work);
        self.finish(values.ok_or(EigenError::NoConvergence(self.size))?, unit)
    }

    fn eigen(&mut self, parallelism: Parallelism) -> Result<(Vec<f64>, RowMatrix), EigenError> {
        let n = self.size;
        let Some(unit) = self.unit else {
            let identity = RowMatrix::from_fn(n, n, |i, j| f64::from(u8::from(i == j)));
            return Ok((vec![0.0; n], identity));
        };
        let eigen = tridiagonal::eigen(&mut self.work, parallelism);
        let (values, vectors) = eigen.ok_or(EigenError::NoConvergence(n))?;
        Ok((self.finish(values, unit)?, vectors))
    }

    /// Checks the eigenvalues of the scaled matrix and scales them back.
    fn finish(&self, mut values: Vec<f64>, unit: PowerOfTwo) -> Result<Vec<f64>, EigenError> {
        let n = values.len() as f64;
        let norm = self.work.squares.sqrt();
        // A backward-stable solver moves each eigenvalue by a modest multiple of n·ε·‖A‖, and the
        // trace by at most √n times that.
        let slack = 16.0 * n * f64::EPSILON * norm * n.sqrt();
        let squares: f64 = values.iter().map(|v| v * v).sum();
        for (invariant, computed, expected) in [
            ("the trace", values.iter().sum(), self.work.trace),
            ("the Frobenius norm", squares.sqrt(), norm),
        ] {
            // Not `>`: a NaN must fail.
            if !((computed - expected).abs() <= slack) {
                let (computed, expected) = (unit.times(computed), unit.times(expected));
                return Err(EigenError::Inconsistent { invariant, computed, expected });
            }
        }
        for value in &mut values {
            *value = unit.times(*value);
        }
        values.sort_by(f64::total_cmp);
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use faer::{Mat, mat};

    use super::{EigenError, decompose, symmetric_eigen, symmetric_eigenvalues};
    use crate::Parallelism;

    #[test]
    fn a_known_spectrum_is_found_at_every_scale() {
        let base = mat![[2.0, 1.0], [1.0, 2.0_f64]];
        for scale in [1.0, 1e-310, 1e-150, 1e150, 1e300] {
            let values = symmetric_eigenvalues((faer::Scale(scale) * &base).as_ref()).unwrap();
            // 1e-310 is subnormal and carries fewer digits.
            let tolerance = if scale < 1e-300 { 1e-13 } else { 1e-15 };
            assert!((values[0] / scale - 1.0).abs() <= tolerance, "{scale}: {values:?}");
            assert!((values[1] / scale - 3.0).abs() <= 3.0 * tolerance, "{scale}: {values:?}");
        }
    }

    #[test]
    fn only_the_lower_triangle_is_read() {
        let lower = mat![[2.0, 777.0], [1.0, 2.0]];
        assert!((symmetric_eigenvalues(lower.as_ref()).unwrap()[1] - 3.0).abs() < 1e-15);
    }

    #[test]
    fn eigenvectors_reproduce_the_matrix() {
        let a = Mat::from_fn(7, 7, |i, j| 1.0 / (1.0 + i as f64 + j as f64));
        let eigen = symmetric_eigen(a.as_ref()).unwrap();
        for i in 0..7 {
            for j in 0..7 {
                let rebuilt: f64 = (0..7)
                    .map(|k| eigen.vectors[(i, k)] * eigen.values[k] * eigen.vectors[(j, k)])
                    .sum();
                assert!((rebuilt - a[(i, j)]).abs() < 1e-14, "{i} {j}");
            }
        }
    }

    #[test]
    fn a_decomposition_of_any_size_has_the_same_bits_and_keeps_the_matrix() {
        // For the larger sizes, work is cut into parts. The scale of the entries must be undone.
        for n in [1, 5, 64, 530, 1100] {
            let entry = |i: usize, j: usize| ((i * 7919 + j * 104_729) % 1009) as f64 - 504.0;
            let matrix = Mat::from_fn(n, n, |i, j| entry(i.max(j), i.min(j)) / 1_099_511_627_776.0);
            let eigen = symmetric_eigen(matrix.as_ref()).unwrap();
            let whole = decompose(matrix.clone(), Parallelism::Rayon).unwrap();
            assert_eq!(
                (&whole.values, whole.vectors.as_mat()),
                (&eigen.values, eigen.vectors.as_ref())
            );
            // The backward error of a reduction by reflections is at most about n ε ‖A‖_F.
            let tolerance = n as f64 * f64::EPSILON * matrix.norm_l2();
            for k in [0, n / 2, n - 1] {
                for i in 0..n {
                    let image: f64 = (0..n).map(|j| matrix[(i, j)] * eigen.vectors[(j, k)]).sum();
                    let residual = image - eigen.values[k] * eigen.vectors[(i, k)];
                    assert!(residual.abs() <= tolerance, "{n} {k} {i}: {residual:e}");
                }
            }
            for j in 0..n {
                for i in j..n {
                    assert_eq!(whole.lower()[(i, j)].to_bits(), matrix[(i, j)].to_bits());
                }
            }
        }
        let zero = decompose(Mat::zeros(3, 3), Parallelism::Sequential).unwrap();
        assert_eq!((zero.values, zero.vectors.row(1)), (vec![0.0; 3], &[0.0, 1.0, 0.0][..]));
    }

    #[test]
    fn bad_input_is_named_and_degenerate_input_is_ordinary() {
        let a = mat![[1.0, 0.0], [f64::NAN, 1.0]];
        assert!(matches!(
            symmetric_eigenvalues(a.as_ref()),
            Err(EigenError::NotFinite { row: 1, column: 0, .. })
        ));
        assert_eq!(
            symmetric_eigenvalues(Mat::<f64>::zeros(2, 3).as_ref()),
            Err(EigenError::NotSquare { rows: 2, columns: 3 })
        );
        assert_eq!(symmetric_eigenvalues(Mat::<f64>::zeros(3, 3).as_ref()), Ok(vec![0.0; 3]));
        assert_eq!(symmetric_eigenvalues(Mat::<f64>::zeros(0, 0).as_ref()), Ok(vec![]));
    }
}
