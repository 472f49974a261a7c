//! S19: the edge of contraction, compared with the mean square of a step over all batches.

use faer::MatRef;
use flatmin_theory::contraction_bound;

use super::outputs::OutputsInstance;
use crate::families::steps::{BatchModel, Range, batch_models, enumerated_threshold, mean_hessian};
use crate::prelude::*;

pub(super) static S19: Statement = Statement {
    id: "S19",
    title: "The edge of contraction",
    words: "A step of SGD does not increase the expected squared distance from the minimum, from \
            any start, if and only if η ≤ η_c = 2/λ_max(αΛ + p Uᵀdiag(‖g_i‖²)U), with the \
            eigenvectors U and eigenvalues Λ of the Gram matrix, and J_iJ_iᵀ in place of ‖g_i‖² \
            for several outputs. S7 ≤ η_c ≤ η*. With batches of one, S7 is the edge of the worst \
            batch.",
    latex: r"\mathbb E\|\delta'\|^2 \le \|\delta\|^2\ \forall\delta \iff \eta \le \eta_c = \frac{2}{\lambda_{\max}\left(\alpha\Lambda + p\,U^\top\operatorname{diag}(\|g_i\|^2)\,U\right)},\quad \text{S7} \le \eta_c \le \eta^*",
    hypotheses: INDEPENDENT,
    source: "flatmin; λ_max E[(I−ηH_I)²] is estimated by Andreyev and Beneventano; the worst \
             batch: Mulayoff and Stich (2026)",
    check_words: "Over the list of all batches: 2/λ_max of G^{−½}E[H_I²]G^{−½} on the range of G, \
                  the threshold of S8, and the mean squared distance after a step from random \
                  starts and from the worst one.",
    mutant_words: "the mean of ‖g_i‖² instead of each, and instead of the largest in S7",
    trial: &Trial { generate: random, check },
};

/// At most 4 samples with one output, or 3 with two, and 4 parameters.
fn random(rng: &mut dyn Rng) -> OutputsInstance {
    let jacobian = small_jacobian(6, 4, rng);
    let output_count =
        if jacobian.rows() >= 4 && jacobian.rows().is_multiple_of(2) { 2 } else { 1 };
    let samples = (jacobian.rows() / output_count).min(4);
    let rows = samples * output_count;
    let jacobian = RowMatrix::from_fn(rows, jacobian.columns(), |i, j| jacobian.row(i)[j]);
    OutputsInstance { jacobian, output_count, batch: independent_batch(samples, rng) }
}

/// Minima with a slower mode than this, relative to the fastest, are not compared: the quotient
/// loses as many digits.
const SLOWEST: f64 = 1e-5;

/// True if a mode is slower than [`SLOWEST`]. The singular values of the Jacobian tell a slow mode
/// from none at all.
fn has_slow_modes(jacobian: &RowMatrix) -> bool {
    /// Singular values below this part of the largest are rounding.
    const NONE: f64 = 1e-14;
    let Ok(values) = jacobian.as_mat().singular_values() else { return true };
    let largest = values.iter().copied().fold(0.0, f64::max);
    let is_slow = |value: &f64| *value > NONE * largest && *value < SLOWEST.sqrt() * largest;
    values.iter().any(is_slow)
}

/// Checks `η_c` against the quotient of E[H²] and G, its place between S7 and the threshold, and the
/// mean square of a step at it. The mutant replaces the norms by their mean.
fn check(form: Form, instance: &OutputsInstance) -> Checked {
    let OutputsInstance { jacobian, output_count, batch } = instance;
    let Some(models) = batch_models(jacobian, *output_count, &[], *batch) else {
        return Ok(Vec::new());
    };
    let gauss_newton = mean_hessian(&models);
    let eigen = symmetric_eigen(gauss_newton.as_ref())?;
    let range = Range::of(&eigen.values);
    if range.eigenvalues.is_empty() || has_slow_modes(jacobian) {
        return Ok(Vec::new());
    }
    let dim = gauss_newton.nrows();
    let mut square = Mat::<f64>::zeros(dim, dim);
    for model in &models {
        square += faer::Scale(model.probability) * (&model.hessian * &model.hessian);
    }
    let half = Mat::from_fn(dim, range.eigenvalues.len(), |k, l| {
        eigen.vectors[(k, range.first + l)] / range.eigenvalues[l].sqrt()
    });
    let quotient = symmetric_eigen((half.transpose() * square * &half).as_ref())?;
    let rank = quotient.values.len();
    let exact = 2.0 / quotient.values[rank - 1];
    let worst: Mat<f64> = &half * quotient.vectors.get(.., rank - 1..);
    let minimum = Minimum::with_outputs(jacobian, *output_count)?;
    let noise = batch.noise(minimum.sample_count())?;
    let norms = block_norms(jacobian, *output_count)?;
    let (p, alpha) = (noise.coefficient, noise.mean_weight());
    let with_norm = |norm: f64| 2.0 / (alpha * minimum.sharpness().lambda_max + p * norm);
    let wrong = with_norm(norms.iter().sum::<f64>() / norms.len() as f64);
    let sufficient = with_norm(norms.iter().copied().fold(0.0, f64::max));
    let claimed = form.pick(contraction_bound(&minimum, noise)?, wrong);
    let mut comparisons = vec![
        Comparison::equal("edge of contraction", claimed, exact, exact),
        Comparison::at_most("S7", form.pick(sufficient, wrong), exact),
        Comparison::at_most("threshold", claimed, enumerated_threshold(&models)?),
    ];
    // Starts on the range of G in a form that does not depend on its scale.
    let mut rng = stream(0, "starts of a step", 0);
    let start = Mat::from_fn(rank, 1, |_, _| normal(&mut rng));
    for start in [(&half * start).as_ref(), worst.as_ref()] {
        let start: Vec<f64> = (0..dim).map(|k| start[(k, 0)]).collect();
        let (before, after) = (simd::norm_squared(&start), mean_square(&models, claimed, &start));
        comparisons.push(Comparison::at_most("mean square after a step", after, before));
    }
    Ok(comparisons)
}

/// `E‖(I − ηH_I)δ‖²`.
fn mean_square(models: &[BatchModel], rate: f64, start: &[f64]) -> f64 {
    let after = |hessian: MatRef<'_, f64>| -> f64 {
        let pull = |k: usize| -> f64 { (0..start.len()).map(|l| hessian[(k, l)] * start[l]).sum() };
        (0..start.len()).map(|k| (start[k] - rate * pull(k)).powi(2)).sum()
    };
    models.iter().map(|model| model.probability * after(model.hessian.as_ref())).sum()
}

/// `λ_max(J_iJ_iᵀ)` of each sample.
fn block_norms(jacobian: &RowMatrix, outputs: usize) -> Result<Vec<f64>, LedgerError> {
    let norm = |i: usize| {
        let row = |a: usize| jacobian.row(i * outputs + a);
        let gram = Mat::from_fn(outputs, outputs, |a, b| simd::dot(row(a), row(b)));
        Ok(symmetric_eigenvalues(gram.as_ref())?.last().copied().unwrap_or(0.0))
    };
    (0..jacobian.rows() / outputs).map(norm).collect()
}
