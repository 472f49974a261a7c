//! The operator D of the second moments of SGD, computed from its definition.

use faer::MatRef;
use faer::linalg::solvers::Solve as _;

use crate::prelude::*;

/// `D(X) = (1−p) GXG + p (1/n) Σ (g_iᵀXg_i) g_i g_iᵀ` for the rows `g_i` of a Jacobian.
pub(crate) fn second_order(
    rows: &RowMatrix,
    gauss_newton: MatRef<'_, f64>,
    p: f64,
    x: MatRef<'_, f64>,
) -> Mat<f64> {
    let n = rows.rows() as f64;
    let mut image = faer::Scale(1.0 - p) * (gauss_newton * x * gauss_newton);
    for i in 0..rows.rows() {
        let row = rows.row(i);
        let weight = p / n * quadratic_form(x, row);
        for (k, a) in row.iter().enumerate() {
            for (l, b) in row.iter().enumerate() {
                image[(k, l)] += weight * a * b;
            }
        }
    }
    image
}

/// `gᵀXg`.
pub(crate) fn quadratic_form(x: MatRef<'_, f64>, g: &[f64]) -> f64 {
    let image = |k: usize| (0..g.len()).map(|l| x[(k, l)] * g[l]).sum::<f64>();
    (0..g.len()).map(|k| g[k] * image(k)).sum()
}

/// The indices of the lower triangle of a symmetric matrix, column by column.
pub(crate) fn lower_triangle(dim: usize) -> Vec<(usize, usize)> {
    (0..dim).flat_map(|l| (l..dim).map(move |k| (k, l))).collect()
}

/// The diagonal matrix of `values`.
pub(crate) fn diagonal_matrix(values: &[f64]) -> Mat<f64> {
    Mat::from_fn(values.len(), values.len(), |k, l| if k == l { values[k] } else { 0.0 })
}

/// The symmetric matrix with this lower triangle.
pub(crate) fn symmetric(dim: usize, triangle: &Mat<f64>) -> Mat<f64> {
    let mut matrix = Mat::zeros(dim, dim);
    for (row, (k, l)) in lower_triangle(dim).into_iter().enumerate() {
        (matrix[(k, l)], matrix[(l, k)]) = (triangle[(row, 0)], triangle[(row, 0)]);
    }
    matrix
}

/// True if no entry is NaN or infinite.
pub(crate) fn is_finite(matrix: &Mat<f64>) -> bool {
    matrix.col_iter().all(|column| column.iter().all(|value| value.is_finite()))
}

/// True if all second moments of a state decay. Their map T preserves positive semidefinite
/// matrices, so they decay exactly when `X − T(X) = I` has a positive solution, which is then
/// `I + T(I) + T²(I) + …`. `system` is the matrix of `X − T(X)` on lower triangles.
pub(crate) fn moments_decay(states: usize, system: &Mat<f64>) -> Result<bool, LedgerError> {
    let pairs = lower_triangle(states);
    let identity = |row: usize| if pairs[row].0 == pairs[row].1 { 1.0 } else { 0.0 };
    let right = Mat::from_fn(pairs.len(), 1, |row, _| identity(row));
    let moments = symmetric(states, &system.partial_piv_lu().solve(&right));
    // A singular system: the rate is on the edge.
    if !is_finite(&moments) {
        return Ok(false);
    }
    // The solution is at least I when stable and has a negative eigenvalue otherwise.
    Ok(symmetric_eigenvalues(moments.as_ref())?[0] > 0.5)
}
