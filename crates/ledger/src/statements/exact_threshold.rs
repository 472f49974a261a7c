//! S8: the exact threshold, compared with the map of second moments formed from the Jacobian.

use flatmin_theory::dense_threshold;

use crate::prelude::*;

pub(super) static S8: Statement = Statement {
    id: "S8",
    title: "The exact threshold",
    words: "SGD is mean-square stable if and only if the learning rate is at most η* = \
            2/λ_max(C†D), which does not fall when batches grow.",
    latex: r"\text{SGD stable} \iff \eta \le \eta^* = \frac{2}{\lambda_{\max}(C^\dagger D)},\quad C(X) = \tfrac12(GX+XG),\quad D(X) = (1-p)\,GXG + \frac pn\sum_i (g_i^\top X g_i)\, g_i g_i^\top",
    hypotheses: ZERO_LOSS,
    source: "Mulayoff and Michaeli (2024)",
    check_words: "The map of second moments, formed as a matrix from the Jacobian without an \
                  eigendecomposition, has no eigenvalue above 1 at the threshold and has one at \
                  1.01 times it; the threshold for batches one larger is not smaller.",
    mutant_words: "1.96/λ_max(C†D) instead of 2/λ_max(C†D), and a threshold that falls as batches \
                   grow",
    trial: &Trial { generate: MinimumInstance::random, check },
};

/// Growth past the threshold is measured at `1 + PAST` times the threshold.
const PAST: f64 = 0.01;

/// Checks that the largest eigenvalue of the second-moment map is 1 at the lower end of the
/// threshold and larger past its upper end, and that the threshold does not fall when batches grow.
/// The mutant claims a threshold that is 2 % too small, and that it falls.
fn check(form: Form, instance: &MinimumInstance) -> Checked {
    let MinimumInstance { jacobian, batch } = instance;
    let minimum = Minimum::new(jacobian)?;
    let p = batch.noise_coefficient(minimum.sample_count())?;
    let threshold = threshold(&minimum, &Optimizer::sgd(), batch)?;
    if threshold.lower.is_infinite() {
        return Ok(Vec::new());
    }
    let rows = coordinates(jacobian);
    let factor = form.pick(1.0, 0.98);
    let name = "second moments at and past the threshold";
    let at = largest_growth(&rows, p, factor * threshold.lower)?;
    let past = largest_growth(&rows, p, factor * (1.0 + PAST) * threshold.upper)?;
    let mut comparisons = Comparison::all_at_most([(name, at, 1.0), (name, 1.0 + 1e-7, past)]);
    let larger = Batch::new(batch.size() + 1, batch.sampling())?;
    if larger.noise_coefficient(minimum.sample_count()).is_ok() {
        let exact = dense_threshold(&minimum, batch)?;
        let with_larger = dense_threshold(&minimum, &larger)?;
        let (lhs, rhs) = form.pick((exact, with_larger), (with_larger, exact));
        comparisons.push(Comparison::at_most("threshold and batch size", lhs, rhs));
    }
    Ok(comparisons)
}

/// The rows of a Jacobian in an orthonormal basis of at most n directions whose span contains them.
fn coordinates(jacobian: &RowMatrix) -> RowMatrix {
    let (n, p) = (jacobian.rows(), jacobian.columns());
    if p <= n {
        return jacobian.clone();
    }
    let qr = jacobian.as_mat().transpose().qr();
    let triangle = qr.R();
    RowMatrix::from_fn(n, n, |i, j| if j <= i { triangle[(j, i)] } else { 0.0 })
}

/// The largest eigenvalue of `T(P) = P − η(GP + PG) + η²[(1−p) GPG + p (1/n) Σ (g_iᵀPg_i) g_ig_iᵀ]`
/// on symmetric matrices, formed in the orthonormal basis `E_kk`, `(E_kl + E_lk)/√2`.
fn largest_growth(rows: &RowMatrix, p: f64, rate: f64) -> Result<f64, LedgerError> {
    let dim = rows.columns();
    let pairs = lower_triangle(dim);
    let gauss_newton: Mat<f64> =
        faer::Scale(1.0 / rows.rows() as f64) * (rows.as_mat().transpose() * rows.as_mat());
    let images: Vec<Mat<f64>> = pairs
        .iter()
        .map(|&(k, l)| {
            let mut unit = Mat::zeros(dim, dim);
            let entry = if k == l { 1.0 } else { 0.5_f64.sqrt() };
            (unit[(k, l)], unit[(l, k)]) = (entry, entry);
            let drift = &gauss_newton * &unit;
            let noise = second_order(rows, gauss_newton.as_ref(), p, unit.as_ref());
            Mat::from_fn(dim, dim, |i, j| {
                unit[(i, j)] - rate * (drift[(i, j)] + drift[(j, i)]) + rate * rate * noise[(i, j)]
            })
        })
        .collect();
    let map = Mat::from_fn(pairs.len(), pairs.len(), |row, column| {
        let (k, l) = pairs[row];
        let multiplicity = if k == l { 1.0 } else { 2.0_f64.sqrt() };
        multiplicity * images[column][(k, l)]
    });
    Ok(symmetric_eigenvalues(map.as_ref())?.last().copied().unwrap_or(0.0))
}
