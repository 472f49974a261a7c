//! The operator D of the second moments of SGD, computed from its definition.

use faer::MatRef;

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
