//! The leading eigenvector of a map on second moments, by Arnoldi's method.

use faer::{Mat, Scale};
use flatmin_linalg::simd;

/// An approximate eigenvalue of T with its eigenvector.
pub(super) struct RitzPair {
    pub(super) value: f64,
    /// The norm of `T(P) − value · P`, for a P of norm 1.
    pub(super) residual: f64,
    pub(super) vector: Mat<f64>,
}

/// The eigenvalue of largest real part of the map `apply` in a Krylov space of at most so many
/// directions; `None` where an image overflows.
///
/// A map that keeps the cone of positive semidefinite matrices has its spectral radius as an
/// eigenvalue, which is therefore the one of largest real part. Other eigenvalues may be complex
/// and of nearly the same modulus, as those of a momentum are, so that powers would not settle.
pub(super) fn ritz_pair(
    apply: &dyn Fn(&Mat<f64>) -> Mat<f64>,
    start: &Mat<f64>,
    directions: usize,
) -> Option<RitzPair> {
    let scaled = |matrix: Mat<f64>, norm: f64| matrix * Scale(1.0 / norm);
    let mut basis = vec![scaled(start.clone(), start.norm_l2())];
    let mut hessenberg = Mat::<f64>::zeros(directions + 1, directions);
    let mut size = 0;
    while size < directions {
        let mut next = apply(&basis[size]);
        let norm = next.norm_l2();
        if !norm.is_finite() {
            return None;
        }
        // Twice, so that rounding leaves no part of the basis.
        for _ in 0..2 {
            for (row, direction) in basis.iter().enumerate() {
                let part = inner(direction, &next);
                hessenberg[(row, size)] += part;
                next -= direction * Scale(part);
            }
        }
        let rest = next.norm_l2();
        hessenberg[(size + 1, size)] = rest;
        size += 1;
        if rest <= 1e-14 * norm {
            break;
        }
        basis.push(scaled(next, rest));
    }
    let eigen = hessenberg.get(..size, ..size).eigen().ok()?;
    let values = eigen.S().column_vector();
    let top = (0..size).max_by(|a, b| values[*a].re.total_cmp(&values[*b].re))?;
    let column = eigen.U().col(top);
    let norm = (0..size).map(|k| column[k].re.powi(2)).sum::<f64>().sqrt();
    let mut vector = Mat::zeros(start.nrows(), start.nrows());
    for (direction, k) in basis.iter().zip(0..size) {
        vector += direction * Scale(column[k].re / norm);
    }
    let residual = hessenberg[(size, size - 1)] * column[size - 1].re.abs() / norm;
    Some(RitzPair { value: values[top].re, residual, vector })
}

fn inner(a: &Mat<f64>, b: &Mat<f64>) -> f64 {
    (0..a.ncols()).map(|j| simd::dot(a.col_as_slice(j), b.col_as_slice(j))).sum()
}
