//! The exact stability threshold from its plain definition.

use faer::Mat;
use flatmin_linalg::{PowerOfTwo, product, symmetric_eigenvalues};

use crate::{Batch, Minimum, ThresholdError};

/// The largest learning rate at which plain SGD is mean-square stable,
/// `η* = 2/λ_max(C^{−1/2} D C^{−1/2})`; infinite when `G = 0`.
///
/// C and D act on symmetric r × r matrices in the eigenbasis of `G`: `C(X) = (GX + XG)/2` is
/// diagonal with `C_kl = (λ_k + λ_l)/2`, and `D(X) = α GXG + p (1/n) Σ (g_iᵀX g_i) g_i g_iᵀ`,
/// or `D(X) = α GXG + p (1/n) Σ J_iᵀJ_i X J_iᵀJ_i` with several outputs. The operator is a
/// dense matrix of dimension r(r+1)/2, which costs O(r⁶): the reference for small minima. Source:
/// theory S8 (Mulayoff and Michaeli 2024), S13.
///
/// # Errors
/// As [`Batch::noise`], and when the eigenproblem fails.
pub fn dense_threshold(minimum: &Minimum, batch: &Batch) -> Result<f64, ThresholdError> {
    let noise = batch.noise(minimum.sample_count())?;
    let (p, alpha) = (noise.coefficient, noise.mean_weight());
    let (exponent, eigenvalues, rows) = minimum.scaled();
    let rank = eigenvalues.len();
    if rank == 0 {
        return Ok(f64::INFINITY);
    }
    let pairs: Vec<(usize, usize)> =
        (0..rank).flat_map(|l| (l..rank).map(move |k| (k, l))).collect();
    // The columns are C^{−1/2} (a bᵀ + b aᵀ)/2 for the rows a, b of each sample, in the orthonormal
    // basis E_kk, (E_kl + E_lk)/√2. Columns with a ≠ b count twice.
    let outputs = minimum.output_count();
    let rows_of = |i: usize| i * outputs..(i + 1) * outputs;
    let columns: Vec<(usize, usize)> = (0..minimum.sample_count())
        .flat_map(|i| rows_of(i).flat_map(move |a| (rows_of(i).start..=a).map(move |b| (a, b))))
        .collect();
    let noise = Mat::from_fn(pairs.len(), columns.len(), |pair, column| {
        let (k, l) = pairs[pair];
        let multiplicity = if k == l { 1.0_f64 } else { 2.0 };
        let c = f64::midpoint(eigenvalues[k], eigenvalues[l]);
        let (a, b) = columns[column];
        let product = if a == b {
            rows.row(a)[k] * rows.row(a)[l]
        } else {
            let [a, b] = [a, b].map(|row| rows.row(row));
            (a[k] * b[l] + a[l] * b[k]) * 0.5_f64.sqrt()
        };
        product * (multiplicity / c).sqrt()
    });
    let samples = minimum.sample_count() as f64;
    let mut operator = faer::Scale(p / samples) * product(noise.as_ref(), noise.transpose());
    for (pair, &(k, l)) in pairs.iter().enumerate() {
        let c = f64::midpoint(eigenvalues[k], eigenvalues[l]);
        operator[(pair, pair)] += alpha * eigenvalues[k] * (eigenvalues[l] / c);
    }
    let values = symmetric_eigenvalues(operator.as_ref())?;
    let largest = values.last().copied().unwrap_or(0.0);
    Ok(PowerOfTwo::new(-2 * exponent).times(2.0 / largest))
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::RowMatrix;

    use super::dense_threshold;
    use crate::{Batch, Minimum, Sampling};

    fn check(rows: usize, columns: usize, values: &[f64], batch_size: usize, expected: f64) {
        let jacobian = RowMatrix::new(rows, columns, values.to_vec()).unwrap();
        let minimum = Minimum::new(&jacobian).unwrap();
        let batch = Batch::new(batch_size, Sampling::WithReplacement).unwrap();
        let threshold = dense_threshold(&minimum, &batch).unwrap();
        assert!((threshold / expected - 1.0).abs() < 1e-14, "{threshold}, expected {expected}");
    }

    #[test]
    fn one_direction_has_a_closed_form() {
        // E(1 − (η/B) Σ g²)² ≤ 1 ⇔ η ≤ 2 E g² / ((1−p)(E g²)² + p E g⁴): g² = 1 and 9.
        check(2, 1, &[1.0, 3.0], 1, 2.0 * 5.0 / 41.0);
        check(2, 1, &[1.0, 3.0], 4, 2.0 * 5.0 / (0.75 * 25.0 + 0.25 * 41.0));
        // Scaling the gradients scales the threshold, even where G nearly overflows.
        check(2, 1, &[1e150, 3e150], 1, 2.0 * 5.0 / 41.0 * 1e-300);
    }

    #[test]
    fn orthonormal_rows_have_a_closed_form() {
        // G = I/n; the matrix Σ g_i g_iᵀ is an eigenvector: η* = 2n/(1 + p(n − 1)).
        check(2, 2, &[0.0, 1.0, 1.0, 0.0], 1, 2.0);
        check(2, 2, &[0.0, 1.0, 1.0, 0.0], 3, 4.0 / (1.0 + 1.0 / 3.0));
    }

    #[test]
    fn no_curvature_is_stable_at_every_learning_rate() {
        let minimum = Minimum::new(&RowMatrix::zeros(3, 2)).unwrap();
        let batch = Batch::new(2, Sampling::WithoutReplacement).unwrap();
        assert_eq!(dense_threshold(&minimum, &batch), Ok(f64::INFINITY));
    }
}
