//! The alignment of the noise of SGD with the curvature of a minimum.

use faer::Mat;
use flatmin_linalg::gemm::symmetric_product;
use flatmin_linalg::{EigenError, Parallelism, RowMatrix, simd, symmetric_eigenvalues};

use crate::Minimum;

/// An alignment below this is zero up to rounding.
const NO_ALIGNMENT: f64 = 1e-12;

/// The alignment of the gradient noise at a minimum with its curvature, without units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alignment {
    /// `min_i χ_i`, where `χ_i = g_iᵀ G g_i / ‖G‖_F²`; zero when `G = 0`. With several outputs it
    /// is the smallest eigenvalue of any `J_i G J_iᵀ / ‖G‖_F²`.
    pub chi_min: f64,
    /// `max_i χ_i`; with several outputs the largest eigenvalue of any `J_i G J_iᵀ / ‖G‖_F²`.
    pub chi_max: f64,
    /// The smallest value of `tr(S G) / (2R ‖G‖_F²)` over the states δ of the linearised model with
    /// loss R > 0, where `S = (1/n) Σ r_i² g_i g_iᵀ − ∇R ∇Rᵀ` is the covariance of the gradient of
    /// one sample. Values below 1e-12, zero up to rounding, are reported as zero.
    pub centered: f64,
}

/// The alignment at `minimum`.
///
/// With the residuals `r = Jδ` in the range of the Gram matrix `K = UΛUᵀ` and `c_i = g_iᵀ G g_i`,
/// `tr(S G)/(2R) = rᵀ(diag(c) − K²)r / ‖r‖²`, so that the centred alignment is
/// `λ_min(Uᵀ diag(c) U − Λ²) / ‖G‖_F²`; with several outputs the blocks `J_i G J_iᵀ` replace the
/// `c_i`. Directions whose eigenvalue is zero up to rounding are left out, as everywhere in
/// [`Minimum`]. Stability does not depend on them. Costs O(nr² + r³). Source: theory S4.
///
/// # Errors
/// When the eigenproblem fails.
pub fn alignment(minimum: &Minimum) -> Result<Alignment, EigenError> {
    // The scale of the rows does not matter, because the alignment has no units.
    let (_, eigenvalues, rows) = minimum.scaled();
    let (n, rank) = (rows.rows(), eigenvalues.len());
    let squared_norm = simd::norm_squared(eigenvalues);
    if rank == 0 {
        return Ok(Alignment { chi_min: 0.0, chi_max: 0.0, centered: 0.0 });
    }
    let outputs = minimum.output_count();
    let (mut chi_min, mut chi_max) = (f64::INFINITY, 0.0_f64);
    let mut weighted = RowMatrix::zeros(n, rank);
    for first in (0..n).step_by(outputs) {
        let chi = Mat::from_fn(outputs, outputs, |a, b| {
            let pairs = rows.row(first + a).iter().zip(rows.row(first + b));
            let terms = pairs.zip(eigenvalues).map(|((a, b), lambda)| a * b * lambda);
            terms.sum::<f64>() / squared_norm
        });
        let (smallest, largest) = match outputs {
            1 => (chi[(0, 0)], chi[(0, 0)]),
            _ => extreme_eigenvalues(&chi)?,
        };
        chi_min = chi_min.min(smallest);
        chi_max = chi_max.max(largest);
        for a in 0..outputs {
            for b in 0..outputs {
                simd::axpy(chi[(a, b)], rows.row(first + b), weighted.row_mut(first + a));
            }
        }
    }
    let (left, right) = (weighted.as_mat().transpose(), rows.as_mat().transpose());
    let sums = symmetric_product(left, right, Parallelism::Sequential);
    let samples = minimum.sample_count() as f64;
    let matrix = Mat::from_fn(rank, rank, |k, l| {
        let sum = sums[(k.max(l), k.min(l))];
        let noise = sum / (samples * (eigenvalues[k] * eigenvalues[l]).sqrt());
        if k == l { noise - eigenvalues[k] * (eigenvalues[k] / squared_norm) } else { noise }
    });
    let smallest = symmetric_eigenvalues(matrix.as_ref())?[0];
    Ok(Alignment {
        chi_min,
        chi_max,
        centered: if smallest < NO_ALIGNMENT { 0.0 } else { smallest },
    })
}

/// The smallest eigenvalue of a positive semidefinite matrix, set to zero if it is zero up to
/// rounding, and its largest eigenvalue.
fn extreme_eigenvalues(matrix: &Mat<f64>) -> Result<(f64, f64), EigenError> {
    let values = symmetric_eigenvalues(matrix.as_ref())?;
    let largest = values.last().copied().unwrap_or(0.0).max(0.0);
    let smallest = values.first().copied().unwrap_or(0.0);
    Ok((if smallest <= NO_ALIGNMENT * largest { 0.0 } else { smallest }, largest))
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::RowMatrix;

    use super::{Alignment, alignment};
    use crate::Minimum;

    fn check(rows: usize, columns: usize, values: &[f64], expected: Alignment) {
        let jacobian = RowMatrix::new(rows, columns, values.to_vec()).unwrap();
        let found = alignment(&Minimum::new(&jacobian).unwrap()).unwrap();
        for (found, expected) in [
            (found.chi_min, expected.chi_min),
            (found.chi_max, expected.chi_max),
            (found.centered, expected.centered),
        ] {
            assert!((found - expected).abs() <= 1e-14, "{found}, expected {expected}");
        }
    }

    #[test]
    fn equal_rows_make_no_noise() {
        // At every state the gradients of all samples agree: the noise is not aligned, it is zero.
        let expected = Alignment { chi_min: 1.0, chi_max: 1.0, centered: 0.0 };
        check(2, 2, &[0.6, 0.8, 0.6, 0.8], expected);
        check(1, 1, &[7.0], expected);
    }

    #[test]
    fn orthonormal_rows_have_a_closed_form() {
        // G = I/n and c_i = 1/n: χ_i = 1, and the centred alignment loses 1/n to the mean gradient.
        let expected = Alignment { chi_min: 1.0, chi_max: 1.0, centered: 0.5 };
        check(2, 2, &[1.0, 0.0, 0.0, 1.0], expected);
        check(2, 2, &[1e150, 0.0, 0.0, 1e150], expected);
        check(2, 2, &[1e-150, 0.0, 0.0, 1e-150], expected);
    }

    #[test]
    fn a_zero_row_has_no_alignment_and_flat_minima_none_at_all() {
        // c = (1/2, 0): the range of K is the first sample alone, with ½ − ¼ over ‖G‖_F² = ¼.
        check(2, 1, &[1.0, 0.0], Alignment { chi_min: 0.0, chi_max: 2.0, centered: 1.0 });
        check(2, 1, &[0.0, 0.0], Alignment { chi_min: 0.0, chi_max: 0.0, centered: 0.0 });
    }
}
