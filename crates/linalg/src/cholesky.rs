//! The Cholesky factor of a small matrix, division by it, and the proof of definiteness it gives.

use faer::{Mat, MatMut, MatRef};

use crate::rounding::UNIT_ROUNDOFF;
use crate::{columns_mut, simd};

/// The lower triangular Cholesky factor L with `L Lᵀ = A`, zero above its diagonal.
///
/// A is n × n; its lower triangle is read. `None` where a pivot is not a positive number: A is not
/// positive definite to rounding, or not finite. See [`is_positive_definite`] for a verdict that
/// rounding cannot change. Costs n³/3 operations. The bits of the result are the same on every
/// machine.
///
/// # Panics
/// When A is not square.
pub fn cholesky(matrix: MatRef<'_, f64>) -> Option<Mat<f64>> {
    let n = matrix.nrows();
    assert_eq!(n, matrix.ncols(), "a symmetric matrix is square");
    let mut lower = Mat::from_fn(n, n, |i, j| if i < j { 0.0 } else { matrix[(i, j)] });
    let mut columns = columns_mut(lower.as_mut());
    for j in 0..n {
        let (done, rest) = columns.split_at_mut(j + 1);
        let column = &mut done[j][j..];
        let pivot = column[0];
        // Not `<=`: a NaN must fail.
        if !(pivot > 0.0 && pivot.is_finite()) {
            return None;
        }
        let root = pivot.sqrt();
        for v in &mut *column {
            *v /= root;
        }
        for (k, later) in (j + 1..).zip(rest) {
            let below = &column[k - j..];
            simd::axpy(-below[0], below, &mut later[k..]);
        }
    }
    Some(lower)
}

/// The margin that makes [`cholesky`] a proof: when `A − margin · tr A · I` has a factor, A is
/// positive definite. `margin = (4n + 32) u` for n × n matrices.
///
/// `(n + 2) u` is enough for the factorisation itself (Rump 2006); the rest covers the rounding of
/// the shift and of the trace.
pub fn cholesky_margin(n: usize) -> f64 {
    (4 * n + 32) as f64 * UNIT_ROUNDOFF
}

/// Proves that `A − shift · I` is positive definite, rounding included; false means only that there
/// is no proof.
///
/// A is n × n and symmetric; its lower triangle is read. Costs n³/3 operations.
///
/// ```
/// use faer::mat;
/// use flatmin_linalg::is_positive_definite;
/// let matrix = mat![[2.0, 1.0], [1.0, 2.0]]; // eigenvalues 1 and 3
/// assert!(is_positive_definite(matrix.as_ref(), 0.999));
/// assert!(!is_positive_definite(matrix.as_ref(), 1.0));
/// ```
///
/// # Panics
/// When A is not square.
pub fn is_positive_definite(matrix: MatRef<'_, f64>, shift: f64) -> bool {
    let n = matrix.nrows();
    let trace: f64 = (0..n).map(|i| matrix[(i, i)].abs()).sum();
    let margin = shift + cholesky_margin(n) * trace;
    let mut shifted = matrix.to_owned();
    for i in 0..n {
        shifted[(i, i)] -= margin;
    }
    cholesky(shifted.as_ref()).is_some()
}

/// Replaces X by `X L⁻ᵀ` for a lower triangular L.
///
/// L is n × n; its upper triangle is not read. X has n contiguous columns. Costs mn² operations for
/// m rows. The bits of the result are the same on every machine.
///
/// # Panics
/// When the shapes do not fit, or the columns of X are not contiguous.
pub fn divide_by_transposed_lower(lower: MatRef<'_, f64>, x: MatMut<'_, f64>) {
    let n = x.ncols();
    assert_eq!((n, n), (lower.nrows(), lower.ncols()), "shape of a triangle");
    let mut columns = columns_mut(x);
    for j in 0..n {
        let (done, rest) = columns.split_at_mut(j);
        let column = &mut *rest[0];
        for (k, done) in done.iter().enumerate() {
            simd::axpy(-lower[(j, k)], done, column);
        }
        for v in column {
            *v /= lower[(j, j)];
        }
    }
}

/// Replaces X by `X L⁻¹`; otherwise as [`divide_by_transposed_lower`].
///
/// # Panics
/// When the shapes do not fit, or the columns of X are not contiguous.
pub fn divide_by_lower(lower: MatRef<'_, f64>, x: MatMut<'_, f64>) {
    let n = x.ncols();
    assert_eq!((n, n), (lower.nrows(), lower.ncols()), "shape of a triangle");
    let mut columns = columns_mut(x);
    for j in (0..n).rev() {
        let (rest, done) = columns.split_at_mut(j + 1);
        let column = &mut *rest[j];
        for (k, done) in (j + 1..).zip(done.iter()) {
            simd::axpy(-lower[(k, j)], done, column);
        }
        for v in column {
            *v /= lower[(j, j)];
        }
    }
}

#[cfg(test)]
mod tests {
    use faer::Mat;

    use super::{cholesky, divide_by_lower, divide_by_transposed_lower, is_positive_definite};
    use crate::product;

    fn definite(n: usize) -> Mat<f64> {
        let entry = |i: usize, j: usize| ((i * 7919 + j * 104_729) % 1009) as f64 / 504.5 - 1.0;
        let factor = Mat::from_fn(n, n, entry);
        product(factor.as_ref(), factor.transpose()) + Mat::<f64>::identity(n, n)
    }

    #[test]
    fn the_factor_makes_the_matrix_and_divides_it_out() {
        for n in [1, 2, 9, 40] {
            let matrix = definite(n);
            let lower = cholesky(matrix.as_ref()).unwrap();
            let error = product(lower.as_ref(), lower.transpose()) - &matrix;
            assert!(error.norm_l2() <= 4.0 * n as f64 * f64::EPSILON * matrix.norm_l2());
            // A L⁻ᵀ = L and then L L⁻¹ = I.
            let mut rest = matrix.clone();
            divide_by_transposed_lower(lower.as_ref(), rest.as_mut());
            let size = matrix.norm_l2();
            assert!((&rest - &lower).norm_l2() <= 8.0 * n as f64 * f64::EPSILON * size);
            divide_by_lower(lower.as_ref(), rest.as_mut());
            let error = (rest - Mat::<f64>::identity(n, n)).norm_l2();
            assert!(error <= 16.0 * n as f64 * f64::EPSILON * size, "{n}: {error}");
        }
    }

    #[test]
    fn what_is_not_definite_has_no_factor() {
        for value in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let matrix = Mat::from_fn(2, 2, |i, j| if i == 1 && j == 1 { value } else { 1.0 });
            assert!(cholesky(matrix.as_ref()).is_none(), "{value}");
        }
    }

    #[test]
    fn definiteness_is_proved_beyond_rounding() {
        for n in [1, 3, 20] {
            let matrix = definite(n);
            let lowest = crate::symmetric_eigenvalues(matrix.as_ref()).unwrap()[0];
            assert!(is_positive_definite(matrix.as_ref(), 0.999 * lowest));
            assert!(!is_positive_definite(matrix.as_ref(), 1.001 * lowest));
        }
        // Within rounding of singular.
        let matrix = Mat::from_fn(2, 2, |i, j| if i == j { 1.0 } else { 1.0 - 1e-16 });
        assert!(!is_positive_definite(matrix.as_ref(), 0.0));
        assert!(is_positive_definite(Mat::<f64>::new().as_ref(), 0.0));
    }
}
