//! Dense symmetric eigenproblems through one guarded door.
//!
//! The solver underneath (faer) fails on matrices of extreme scale and does not look at its input.
//! Here input is checked, scaled by a power of two (exact), and the result is checked against the
//! trace and the Frobenius norm, which an eigendecomposition preserves, before it is handed out.

use faer::{Mat, MatRef};

use crate::RowMatrix;
use crate::panels::Parallelism;
use crate::tridiagonal::{self, Room};

/// Eigenvalues in ascending order with orthonormal eigenvectors (columns).
#[derive(Debug, Clone)]
pub struct Eigen {
    /// Eigenvalues, ascending.
    pub values: Vec<f64>,
    /// Eigenvectors as columns, in the order of `values`.
    pub vectors: Mat<f64>,
}

/// Why a symmetric eigenproblem has no trustworthy answer.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EigenError {
    /// The matrix is not square.
    #[error("a symmetric matrix must be square, got {rows} × {columns}")]
    NotSquare {
        /// Rows given.
        rows: usize,
        /// Columns given.
        columns: usize,
    },
    /// An entry is NaN or infinite.
    #[error("entry ({row}, {column}) is {value}, expected a finite number")]
    NotFinite {
        /// Row of the first such entry.
        row: usize,
        /// Its column.
        column: usize,
        /// Its value.
        value: f64,
    },
    /// The iteration did not converge.
    #[error("the eigenvalue iteration did not converge for a {0} × {0} matrix")]
    NoConvergence(usize),
    /// The result contradicts an invariant of the matrix.
    #[error("the computed eigenvalues give {invariant} {computed}, the matrix has {expected}")]
    Inconsistent {
        /// Which invariant: the trace or the Frobenius norm.
        invariant: &'static str,
        /// From the eigenvalues.
        computed: f64,
        /// From the matrix.
        expected: f64,
    },
}

/// All eigenvalues of a symmetric matrix, ascending. The lower triangle is read.
///
/// Costs O(n³). The 0 × 0 matrix has none.
///
/// # Errors
/// [`EigenError`]: not square, not finite, no convergence, or a result that fails its check.
pub fn symmetric_eigenvalues(matrix: MatRef<'_, f64>) -> Result<Vec<f64>, EigenError> {
    let guard = Guard::new(matrix)?;
    if guard.is_zero() {
        return Ok(vec![0.0; matrix.nrows()]);
    }
    let mut room = Room::new(matrix, -guard.exponent);
    let values = tridiagonal::eigenvalues(&mut room);
    guard.finish(values.ok_or(EigenError::NoConvergence(matrix.nrows()))?, &room)
}

/// Eigenvalues and eigenvectors of a symmetric matrix. The lower triangle is read.
///
/// Costs O(n³).
///
/// # Errors
/// As [`symmetric_eigenvalues`].
pub fn symmetric_eigen(matrix: MatRef<'_, f64>) -> Result<Eigen, EigenError> {
    let guard = Guard::new(matrix)?;
    let n = matrix.nrows();
    if guard.is_zero() {
        return Ok(Eigen { values: vec![0.0; n], vectors: Mat::identity(n, n) });
    }
    let mut room = Room::new(matrix, -guard.exponent);
    let eigen = tridiagonal::eigen(&mut room, Parallelism::Sequential);
    let (values, vectors) = eigen.ok_or(EigenError::NoConvergence(n))?;
    let values = guard.finish(values, &room)?;
    Ok(Eigen { values, vectors: vectors.as_mat().to_owned() })
}

/// What [`decompose`] makes of a symmetric matrix.
#[derive(Debug)]
pub struct Decomposition {
    /// Eigenvalues, ascending.
    pub values: Vec<f64>,
    /// Eigenvectors as columns, in the order of `values`.
    pub vectors: RowMatrix,
    room: Room,
}

impl Decomposition {
    /// The matrix itself, bit by bit; only the lower triangle means something.
    pub fn lower(&self) -> MatRef<'_, f64> {
        self.room.lower()
    }
}

/// As [`symmetric_eigen`], for a large matrix that is needed afterwards too: never holds more than two n × n
/// matrices, the one given and the two that are returned included. The values and vectors are the same to the
/// bit, for any number of threads.
///
/// # Errors
/// As [`symmetric_eigenvalues`].
pub fn decompose(matrix: Mat<f64>, parallelism: Parallelism) -> Result<Decomposition, EigenError> {
    let guard = Guard::new(matrix.as_ref())?;
    let n = matrix.nrows();
    let mut room = Room::new(matrix.as_ref(), -guard.exponent);
    drop(matrix);
    let (values, vectors) = if guard.is_zero() {
        (vec![0.0; n], RowMatrix::from_fn(n, n, |i, j| f64::from(u8::from(i == j))))
    } else {
        let eigen = tridiagonal::eigen(&mut room, parallelism);
        let (values, vectors) = eigen.ok_or(EigenError::NoConvergence(n))?;
        (guard.finish(values, &room)?, vectors)
    };
    room.restore();
    Ok(Decomposition { values, vectors, room })
}

/// A checked matrix, to be scaled to entries of order one.
struct Guard {
    exponent: i32,
    largest: f64,
}

impl Guard {
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
        let exponent = if largest > 0.0 { libm::ilogb(largest) } else { 0 };
        Ok(Self { exponent, largest })
    }

    fn is_zero(&self) -> bool {
        self.largest <= 0.0
    }

    /// Checks the eigenvalues of the scaled matrix and scales them back.
    fn finish(&self, mut values: Vec<f64>, room: &Room) -> Result<Vec<f64>, EigenError> {
        let n = values.len();
        let (trace, squares) = (room.trace, room.squares);
        let computed_trace: f64 = values.iter().sum();
        let computed_squares: f64 = values.iter().map(|v| v * v).sum();
        let norm = squares.sqrt();
        // A backward-stable solver moves each eigenvalue by a modest multiple of n·ε·‖A‖, and the
        // trace by at most √n times that.
        let tolerance = 16.0 * n as f64 * f64::EPSILON * norm;
        let slack = tolerance * (n as f64).sqrt();
        // Not `>`: a NaN must fail.
        if !((computed_trace - trace).abs() <= slack) {
            return Err(EigenError::Inconsistent {
                invariant: "the trace",
                computed: libm::scalbn(computed_trace, self.exponent),
                expected: libm::scalbn(trace, self.exponent),
            });
        }
        if !((computed_squares.sqrt() - norm).abs() <= slack) {
            return Err(EigenError::Inconsistent {
                invariant: "the Frobenius norm",
                computed: libm::scalbn(computed_squares.sqrt(), self.exponent),
                expected: libm::scalbn(norm, self.exponent),
            });
        }
        for value in &mut values {
            *value = libm::scalbn(*value, self.exponent);
        }
        values.sort_by(f64::total_cmp);
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use faer::{Mat, mat};

    use super::{EigenError, decompose, symmetric_eigen, symmetric_eigenvalues};
    use crate::panels::Parallelism;

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
    fn a_decomposition_has_the_same_bits_and_keeps_the_matrix() {
        // Beyond the sizes from which on work is cut into parts, and with a scale that is undone.
        for n in [1, 5, 64, 530, 1100] {
            let entry = |i: usize, j: usize| ((i * 7919 + j * 104_729) % 1009) as f64 - 504.0;
            let matrix = Mat::from_fn(n, n, |i, j| entry(i.max(j), i.min(j)) / 1_099_511_627_776.0);
            let eigen = symmetric_eigen(matrix.as_ref()).unwrap();
            let whole = decompose(matrix.clone(), Parallelism::Rayon).unwrap();
            assert_eq!(
                (&whole.values, whole.vectors.as_mat()),
                (&eigen.values, eigen.vectors.as_ref())
            );
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
