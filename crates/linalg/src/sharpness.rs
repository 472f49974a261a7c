//! The three sharpness measures of a matrix.

use faer::{ColRef, MatRef};

use crate::{
    EigenError, LanczosOptions, LanczosStatus, PowerOfTwo, largest_eigenpair, simd,
    symmetric_eigenvalues,
};

/// Trace, Frobenius norm and largest eigenvalue of a positive semidefinite matrix.
///
/// The function that returns it says which matrix it describes, for example the empirical or the
/// population Gauss–Newton matrix G. The loss carries the factor ½,
/// `R(θ) = (1/2n) Σ (f(x_i;θ) − y_i)²`, so that G has no factor 2.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Sharpness {
    /// The trace `tr G`.
    pub trace: f64,
    /// The Frobenius norm `‖G‖_F`.
    pub frobenius_norm: f64,
    /// The largest eigenvalue `λ_max(G)`.
    pub lambda_max: f64,
}

impl Sharpness {
    /// The sharpness of `factor · G`. Values beyond the range of `f64` become infinite or zero.
    #[must_use]
    pub fn scaled(self, factor: PowerOfTwo) -> Self {
        Self {
            trace: factor.times(self.trace),
            frobenius_norm: factor.times(self.frobenius_norm),
            lambda_max: factor.times(self.lambda_max),
        }
    }
}

/// The sharpness of `G = JᵀJ/n` from the Gram matrix `K = JJᵀ/n` (n × n, symmetric), which has the
/// same nonzero eigenvalues.
///
/// ```
/// use faer::mat;
/// let sharpness = flatmin_linalg::gram_sharpness(mat![[2.0, 1.0], [1.0, 2.0]].as_ref())?;
/// assert!((sharpness.trace - 4.0).abs() < 1e-14);
/// assert!((sharpness.lambda_max - 3.0).abs() < 1e-14);
/// # Ok::<(), flatmin_linalg::EigenError>(())
/// ```
///
/// # Errors
/// [`EigenError`] when an entry is not finite or the eigenproblem fails.
pub fn gram_sharpness(gram: MatRef<'_, f64>) -> Result<Sharpness, EigenError> {
    let trace = (0..gram.nrows()).map(|i| gram[(i, i)]).sum();
    let squares = gram.col_iter().flat_map(ColRef::iter).map(|value| value * value);
    let frobenius_norm = f64::sqrt(squares.sum());
    Ok(Sharpness { trace, frobenius_norm, lambda_max: lambda_max(gram)? })
}

/// The largest size at which the dense eigenproblem is as fast as Lanczos.
const MAX_DENSE_SIZE: usize = 64;

/// The largest eigenvalue of a positive semidefinite matrix.
///
/// Large matrices go through Lanczos. Its relative residual of 1e-10 bounds the relative error,
/// which is about the square of that when the eigenvalue is isolated. The dense eigenproblem
/// decides whenever Lanczos does not converge, or ends in an invariant space, which may miss the
/// largest eigenvalue.
fn lambda_max(gram: MatRef<'_, f64>) -> Result<f64, EigenError> {
    let n = gram.nrows();
    if n > MAX_DENSE_SIZE {
        let columns: Option<Vec<&[f64]>> =
            gram.col_iter().map(|column| Some(column.try_as_col_major()?.as_slice())).collect();
        let options = LanczosOptions { relative_residual: 1e-10, ..LanczosOptions::default() };
        if let Some(columns) = columns {
            let apply = |v: &[f64], out: &mut [f64]| {
                for (out, column) in out.iter_mut().zip(&columns) {
                    *out = simd::dot(column, v);
                }
            };
            let pair = largest_eigenpair(&start(n), apply, options)?;
            if pair.status == LanczosStatus::Converged {
                return Ok(pair.value);
            }
        }
    }
    // The matrix is positive semidefinite: a negative result is a rounding error of zero.
    Ok(symmetric_eigenvalues(gram)?.last().copied().unwrap_or(0.0).max(0.0))
}

/// A start vector without structure (the fractional parts of multiples of the golden ratio), so
/// that no eigenvector of a structured matrix is orthogonal to it.
fn start(n: usize) -> Vec<f64> {
    (0..n).map(|i| 0.5 + (i as f64 * 0.618_033_988_749_894_9).fract()).collect()
}

#[cfg(test)]
mod tests {
    use faer::Mat;

    use super::{MAX_DENSE_SIZE, gram_sharpness, start};

    /// The identity plus a projection orthogonal to the start. The Krylov space is invariant at
    /// once, without the largest eigenvalue.
    #[test]
    fn an_eigenvalue_that_the_iteration_cannot_see_is_found() {
        let n = MAX_DENSE_SIZE + 6;
        let start = start(n);
        let mut hidden = vec![0.0; n];
        let length = (start[0] * start[0] + start[1] * start[1]).sqrt();
        (hidden[0], hidden[1]) = (start[1] / length, -start[0] / length);
        let gram = Mat::from_fn(n, n, |i, j| f64::from(u8::from(i == j)) + hidden[i] * hidden[j]);
        let sharpness = gram_sharpness(gram.as_ref()).unwrap();
        assert!((sharpness.lambda_max - 2.0).abs() < 1e-13, "{sharpness:?}");
    }
}
