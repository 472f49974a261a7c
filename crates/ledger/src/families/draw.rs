//! Random sizes, numbers and rows that instances are made of.

use crate::prelude::*;

/// Sizes are drawn from `1..=MAX_SIZE`.
pub(crate) const MAX_SIZE: usize = 7;

/// Small sizes are the hard ones: half of the draws are 1, 2 or 3.
pub(crate) fn size(rng: &mut dyn Rng) -> usize {
    if rng.random_bool(0.5) { rng.random_range(1..=3) } else { rng.random_range(1..=MAX_SIZE) }
}

/// A standard normal number.
pub(crate) fn normal(rng: &mut dyn Rng) -> f64 {
    StandardNormal.sample(rng)
}

/// `10^u` with u uniform on ±`decades`.
pub(crate) fn power_of_ten(rng: &mut dyn Rng, decades: f64) -> f64 {
    libm::exp10(rng.random_range(-decades..=decades))
}

/// A Pareto variable with tail exponent 2/3 (no mean), below 10⁵.
pub(crate) fn heavy_tailed(rng: &mut dyn Rng) -> f64 {
    let uniform: f64 = rng.random_range(1e-3..1.0);
    libm::pow(uniform, -1.5)
}

/// A matrix of independent standard normal numbers.
pub(crate) fn normal_matrix(rows: usize, columns: usize, rng: &mut dyn Rng) -> RowMatrix {
    RowMatrix::from_fn(rows, columns, |_, _| normal(rng))
}

/// Multiplies one row by `scale`.
pub(crate) fn scale_row(matrix: &mut RowMatrix, row: usize, scale: f64) {
    for value in matrix.row_mut(row) {
        *value *= scale;
    }
}

/// Multiplies every row by a heavy-tailed random number.
pub(crate) fn scale_rows_heavily(matrix: &mut RowMatrix, rng: &mut dyn Rng) {
    for i in 0..matrix.rows() {
        scale_row(matrix, i, heavy_tailed(rng));
    }
}

/// Makes all rows nearly equal to the first.
pub(crate) fn make_nearly_equal(matrix: &mut RowMatrix) {
    let first = matrix.row(0).to_vec();
    for i in 1..matrix.rows() {
        scale_row(matrix, i, 1e-7);
        simd::axpy(1.0, &first, matrix.row_mut(i));
    }
}

/// Makes every row a random multiple of the first, plus `noise` times its old value.
pub(crate) fn make_parallel(matrix: &mut RowMatrix, noise: f64, rng: &mut dyn Rng) {
    let direction = matrix.row(0).to_vec();
    for i in 0..matrix.rows() {
        scale_row(matrix, i, noise);
        simd::axpy(normal(rng), &direction, matrix.row_mut(i));
    }
}

/// `rows ≤ columns` orthonormal vectors, by Gram–Schmidt with re-orthogonalisation.
pub(crate) fn orthonormal_rows(rows: usize, columns: usize, rng: &mut dyn Rng) -> RowMatrix {
    let mut matrix = RowMatrix::zeros(rows, columns);
    for i in 0..rows {
        let mut vector: Vec<f64> = (0..columns).map(|_| normal(rng)).collect();
        for _ in 0..2 {
            for k in 0..i {
                let component = simd::dot(matrix.row(k), &vector);
                simd::axpy(-component, matrix.row(k), &mut vector);
            }
            let norm = simd::norm_squared(&vector).sqrt();
            for value in &mut vector {
                *value /= norm;
            }
        }
        matrix.row_mut(i).copy_from_slice(&vector);
    }
    matrix
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::{simd, stream};

    use super::orthonormal_rows;

    #[test]
    fn orthonormal_rows_are() {
        let rows = orthonormal_rows(4, 6, &mut stream(1, "orthonormal rows", 0));
        for i in 0..4 {
            for j in 0..4 {
                let expected = if i == j { 1.0 } else { 0.0 };
                assert!((simd::dot(rows.row(i), rows.row(j)) - expected).abs() < 1e-15);
            }
        }
    }
}
