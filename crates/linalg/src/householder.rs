//! Householder reflections in blocks, and the QR decomposition made of them.
//!
//! All sums come from [`simd`] and [`matmul`], so that the bits are the same on every machine.

use faer::{Accum, ColRef, Mat, MatMut, MatRef};

use crate::{PowerOfTwo, columns_mut, matmul, product, simd};

/// The number of columns whose reflections are applied to the rest together.
pub(crate) const BLOCK_REFLECTIONS: usize = 32;

/// Sums of squares below this are negligible in a matrix with entries near one, and may have lost
/// digits to underflow.
const NEGLIGIBLE: f64 = 1e-280;

/// Turns a column x, of a matrix with entries near one at most, into the vector v, with `v_0 = 1`,
/// of the reflection `H = I − τ v vᵀ` with `H x = β e_0`. Returns τ and β.
pub(crate) fn reflect(x: &mut [f64]) -> (f64, f64) {
    let Some((head, tail)) = x.split_first_mut() else { return (0.0, 0.0) };
    let rest = simd::norm_squared(tail);
    let alpha = std::mem::replace(head, 1.0);
    if rest <= NEGLIGIBLE {
        tail.fill(0.0);
        return (0.0, alpha);
    }
    let norm = alpha.mul_add(alpha, rest).sqrt();
    // The sign that avoids cancellation.
    let beta = if alpha > 0.0 { -norm } else { norm };
    let scale = 1.0 / (alpha - beta);
    for v in tail {
        *v *= scale;
    }
    ((beta - alpha) / beta, beta)
}

/// The upper triangular T with `H_0 H_1 ⋯ = I − V T Vᵀ`, for the columns of V and their τ.
pub(crate) fn block_factor(vectors: MatRef<'_, f64>, factors: &[f64]) -> Mat<f64> {
    let count = factors.len();
    let gram = product(vectors.transpose(), vectors);
    let mut out = Mat::zeros(count, count);
    for j in 0..count {
        for i in 0..j {
            let sum = (i..j).fold(0.0, |sum, k| f64::mul_add(out[(i, k)], gram[(k, j)], sum));
            out[(i, j)] = -factors[j] * sum;
        }
        out[(j, j)] = factors[j];
    }
    out
}

/// Replaces C by `(I − V T Vᵀ) C`. The transpose of T gives the inverse.
pub(crate) fn apply_block(vectors: MatRef<'_, f64>, triangle: MatRef<'_, f64>, c: MatMut<'_, f64>) {
    let components = product(vectors.transpose(), c.as_ref());
    let components = product(triangle, components.as_ref());
    matmul(c, Accum::Add, vectors, components.as_ref(), -1.0);
}

/// The thin QR decomposition `A = Q R` of a matrix with at least as many rows as columns, by
/// Householder reflections: Q, m × n with orthonormal columns, and R, n × n upper triangular with a
/// diagonal of any sign.
///
/// The matrix may be any finite one, also a singular one. Costs 4 mn² operations. The bits of the
/// result are the same on every machine.
///
/// # Panics
/// When there are more columns than rows.
pub fn thin_qr(matrix: MatRef<'_, f64>) -> (Mat<f64>, Mat<f64>) {
    let (m, n) = (matrix.nrows(), matrix.ncols());
    let mut blocks = Vec::new();
    let upper = reduce(matrix, |block| blocks.push(block));
    let mut basis = Mat::identity(m, n);
    for BlockReflection { first, vectors, triangle } in blocks.iter().rev() {
        let block = basis.as_mut().submatrix_mut(*first, *first, m - first, n - first);
        apply_block(vectors.as_ref(), triangle.as_ref(), block);
    }
    (basis, upper)
}

/// The factor R of [`thin_qr`] alone, at half the cost and with memory for one copy of the matrix.
///
/// # Panics
/// When there are more columns than rows.
pub(crate) fn thin_r(matrix: MatRef<'_, f64>) -> Mat<f64> {
    reduce(matrix, drop)
}

/// The reflections of a block of columns, `I − V T Vᵀ` on the rows from `first` on.
struct BlockReflection {
    first: usize,
    vectors: Mat<f64>,
    triangle: Mat<f64>,
}

/// The factor R. The block reflections that lead to it are passed to `keep` in order.
fn reduce(matrix: MatRef<'_, f64>, mut keep: impl FnMut(BlockReflection)) -> Mat<f64> {
    let (m, n) = (matrix.nrows(), matrix.ncols());
    assert!(m >= n, "a thin QR decomposition of {m} rows and {n} columns");
    let entries = matrix.col_iter().flat_map(ColRef::iter);
    let unit = PowerOfTwo::of_largest(entries).unwrap_or_default();
    let mut work = scaled(matrix, unit.inverse());
    let mut upper = Mat::zeros(n, n);
    for first in (0..n).step_by(BLOCK_REFLECTIONS) {
        let width = BLOCK_REFLECTIONS.min(n - first);
        let (mut panel, mut rest) = work.as_mut().split_at_col_mut(first + width);
        let mut panel = columns_mut(panel.as_mut().submatrix_mut(first, first, m - first, width));
        let mut vectors = Mat::zeros(m - first, width);
        let mut factors = Vec::with_capacity(width);
        for j in 0..width {
            let vector = vectors.col_as_slice_mut(j);
            let (column, rest) = panel[j..].split_at_mut(1);
            vector[j..].copy_from_slice(&column[0][j..]);
            let (factor, beta) = reflect(&mut vector[j..]);
            upper[(first + j, first + j)] = beta;
            factors.push(factor);
            for (later, column) in (first + j + 1..).zip(rest) {
                let column = &mut column[j..];
                let component = simd::dot(&vector[j..], column);
                simd::axpy(-factor * component, &vector[j..], column);
                upper[(first + j, later)] = column[0];
            }
        }
        let triangle = block_factor(vectors.as_ref(), &factors);
        let below = rest.as_mut().subrows_mut(first, m - first);
        apply_block(vectors.as_ref(), triangle.transpose(), below);
        for later in first + width..n {
            for i in first..first + width {
                upper[(i, later)] = rest[(i, later - first - width)];
            }
        }
        keep(BlockReflection { first, vectors, triangle });
    }
    scaled(upper.as_ref(), unit)
}

/// The matrix `unit · A`.
fn scaled(matrix: MatRef<'_, f64>, unit: PowerOfTwo) -> Mat<f64> {
    Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| unit.times(matrix[(i, j)]))
}

#[cfg(test)]
mod tests {
    use faer::{Mat, MatRef};

    use super::{thin_qr, thin_r};
    use crate::product;

    fn check(matrix: MatRef<'_, f64>) {
        let (m, n) = (matrix.nrows(), matrix.ncols());
        let (q, r) = thin_qr(matrix);
        assert_eq!(r, thin_r(matrix));
        let size = matrix.norm_l2();
        // The tolerance is a modest multiple of n·ε, as the error analysis of reflections gives.
        let tolerance = 8.0 * (n as f64 + 1.0) * f64::EPSILON;
        let error = (product(q.as_ref(), r.as_ref()) - matrix).norm_l2();
        assert!(error <= tolerance * size, "{m} × {n}: {error} of {size}");
        let gram = product(q.transpose(), q.as_ref()) - Mat::<f64>::identity(n, n);
        assert!(gram.norm_l2() <= tolerance * (n as f64).sqrt(), "{m} × {n}: {}", gram.norm_l2());
        for j in 0..n {
            for i in j + 1..n {
                assert_eq!(r[(i, j)].to_bits(), 0);
            }
        }
    }

    #[test]
    fn the_factors_make_the_matrix() {
        let entry = |i: usize, j: usize| ((i * 7919 + j * 104_729) % 1009) as f64 / 504.5 - 1.0;
        for (m, n) in [(1, 1), (5, 3), (33, 33), (70, 64), (200, 100)] {
            check(Mat::from_fn(m, n, entry).as_ref());
            for scale in [1e-300, 1e-150, 1e150, 1e300] {
                check(Mat::from_fn(m, n, |i, j| entry(i, j) * scale).as_ref());
            }
        }
        let (q, r) = thin_qr(Mat::zeros(3, 0).as_ref());
        assert_eq!((q.ncols(), r.nrows()), (0, 0));
    }

    #[test]
    fn singular_matrices_have_a_basis_too() {
        check(Mat::zeros(5, 3).as_ref());
        check(Mat::from_fn(40, 36, |i, j| (i + 1) as f64 * (j + 1) as f64).as_ref());
        check(Mat::from_fn(40, 36, |i, j| f64::from(u8::from(i == j && j % 2 == 0))).as_ref());
    }
}
