//! The Cholesky factor of a small matrix, and division by it.

use faer::{Mat, MatMut, MatRef};

use crate::simd;

/// The lower triangular L with `L Lᵀ = A`, n × n, of which the lower triangle is read; above the
/// diagonal zeros. None where a pivot is not positive: A is not definite to rounding, or not finite.
///
/// Costs n³/3 operations. The bits of the result are the same on every machine.
pub(crate) fn cholesky(matrix: MatRef<'_, f64>) -> Option<Mat<f64>> {
    let n = matrix.nrows();
    let mut lower = Mat::from_fn(n, n, |i, j| if i < j { 0.0 } else { matrix[(i, j)] });
    for j in 0..n {
        let pivot = lower[(j, j)];
        // Not `<=`: a NaN must fail.
        if !(pivot > 0.0 && pivot.is_finite()) {
            return None;
        }
        let root = pivot.sqrt();
        let column = &mut lower.col_as_slice_mut(j)[j..];
        for v in &mut *column {
            *v /= root;
        }
        let column = column.to_vec();
        for k in j + 1..n {
            let rest = &column[k - j..];
            simd::axpy(-rest[0], rest, &mut lower.col_as_slice_mut(k)[k..]);
        }
    }
    Some(lower)
}

/// `X ← X L⁻ᵀ` for a lower triangular L, n × n, of which the upper triangle is not read, and X with n
/// columns, each contiguous.
///
/// Costs mn² operations for m rows. The bits of the result are the same on every machine.
///
/// # Panics
/// When the shapes do not fit, or the columns of X are not contiguous.
pub fn divide_by_transposed_lower(lower: MatRef<'_, f64>, mut x: MatMut<'_, f64>) {
    let n = x.ncols();
    assert_eq!((n, n), (lower.nrows(), lower.ncols()), "shape of a triangle");
    for j in 0..n {
        let (done, mut rest) = x.as_mut().split_at_col_mut(j);
        let column = contiguous(rest.as_mut().subcols_mut(0, 1));
        for k in 0..j {
            simd::axpy(-lower[(j, k)], contiguous_ref(done.as_ref(), k), column);
        }
        for v in column {
            *v /= lower[(j, j)];
        }
    }
}

/// `X ← X L⁻¹`, otherwise as [`divide_by_transposed_lower`].
///
/// # Panics
/// When the shapes do not fit, or the columns of X are not contiguous.
pub fn divide_by_lower(lower: MatRef<'_, f64>, mut x: MatMut<'_, f64>) {
    let n = x.ncols();
    assert_eq!((n, n), (lower.nrows(), lower.ncols()), "shape of a triangle");
    for j in (0..n).rev() {
        let (mut rest, done) = x.as_mut().split_at_col_mut(j + 1);
        let column = contiguous(rest.as_mut().subcols_mut(j, 1));
        for k in j + 1..n {
            simd::axpy(-lower[(k, j)], contiguous_ref(done.as_ref(), k - j - 1), column);
        }
        for v in column {
            *v /= lower[(j, j)];
        }
    }
}

fn contiguous(column: MatMut<'_, f64>) -> &mut [f64] {
    let column = column.col_mut(0).try_as_col_major_mut();
    column.expect("columns are contiguous, as the caller promises").as_slice_mut()
}

fn contiguous_ref(matrix: MatRef<'_, f64>, j: usize) -> &[f64] {
    let column = matrix.col(j).try_as_col_major();
    column.expect("columns are contiguous, as the caller promises").as_slice()
}

#[cfg(test)]
mod tests {
    use faer::Mat;

    use super::{cholesky, divide_by_lower, divide_by_transposed_lower};
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
}
