//! Sharpness of the empirical Gauss–Newton matrix, from one Gram matrix.

use faer::MatRef;
use flatmin_linalg::{EigenError, RowMatrix, Sharpness, gram_sharpness};
use flatmin_models::{Dataset, Model};

/// The exact sharpness of the empirical Gauss–Newton matrix `G = JᵀJ/n`.
///
/// `inputs` is n × d. Costs the Gram matrix `JJᵀ/n` plus a few dozen products with it.
///
/// ```
/// use flatmin_linalg::RowMatrix;
/// use flatmin_models::DiagonalLinear;
/// // f(x) = a b x with a = 2, b = 1: ∇f(x) = (b x, a x), so tr G = 5 E[x²].
/// let model = DiagonalLinear::new(1)?;
/// let inputs = RowMatrix::new(2, 1, vec![1.0, 3.0])?;
/// let sharpness = flatmin_curvature::gauss_newton_sharpness(&model, &[2.0, 1.0], &inputs)?;
/// assert!((sharpness.trace - 25.0).abs() < 1e-13);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`EigenError`] when an entry of the Gram matrix is not finite or the eigenproblem fails.
pub fn gauss_newton_sharpness(
    model: &(impl Model + ?Sized),
    parameters: &[f64],
    inputs: &RowMatrix,
) -> Result<Sharpness, EigenError> {
    gram_sharpness(model.gram(parameters, inputs).as_ref())
}

/// The batch sharpness for batches of one sample, `Σ r_i²‖g_i‖⁴ / Σ r_i²‖g_i‖²`.
///
/// It is the expected curvature of a sample's loss along its own gradient (the Gauss–Newton part).
/// Needs only residuals `r_i` and squared gradient norms `‖g_i‖²`, for example n times the diagonal
/// of the Gram matrix. `None` when every residual or gradient is zero. Source: Andreyev &
/// Beneventano (2024), who observe that it stays near 2/η along SGD.
pub fn batch_sharpness(residuals: &[f64], gradient_norms_squared: &[f64]) -> Option<f64> {
    // Residuals near convergence are tiny: scale them to keep the squares in range.
    let largest = residuals.iter().fold(0.0_f64, |m, r| m.max(r.abs()));
    let (mut numerator, mut denominator) = (0.0, 0.0);
    for (r, g) in residuals.iter().zip(gradient_norms_squared) {
        let weight = (r / largest).powi(2) * g;
        numerator += weight * g;
        denominator += weight;
    }
    (denominator > 0.0).then(|| numerator / denominator)
}

/// The batch sharpness of a model with k outputs for batches of one sample,
/// `Σ r_iᵀ (J_i J_iᵀ)² r_i / Σ r_iᵀ J_i J_iᵀ r_i`.
///
/// It is the Gauss–Newton part of the expected curvature of a sample's loss along its own gradient
/// `J_iᵀ r_i`.
///
/// `residuals` is n × k row by row; `gram` is `JJᵀ/n`, nk × nk, whose diagonal k × k blocks are
/// `J_i J_iᵀ/n`. For k = 1 it is [`batch_sharpness`], to the bit. `None` when every residual or
/// gradient is zero.
///
/// # Panics
/// When k is zero, or `residuals` or `gram` has another size.
pub fn batch_sharpness_of_outputs(
    residuals: &[f64],
    gram: MatRef<'_, f64>,
    output_dim: usize,
) -> Option<f64> {
    assert!(output_dim > 0, "a model has outputs");
    assert_eq!(residuals.len() % output_dim, 0, "whole rows of residuals");
    assert_eq!((gram.nrows(), gram.ncols()), (residuals.len(), residuals.len()), "size of gram");
    let n = (residuals.len() / output_dim) as f64;
    if output_dim == 1 {
        let norms: Vec<f64> = (0..gram.nrows()).map(|i| n * gram[(i, i)]).collect();
        return batch_sharpness(residuals, &norms);
    }
    let largest = residuals.iter().fold(0.0_f64, |m, r| m.max(r.abs()));
    let (mut numerator, mut denominator) = (0.0, 0.0);
    for (i, residual) in residuals.chunks_exact(output_dim).enumerate() {
        let start = i * output_dim;
        for (o, r) in residual.iter().enumerate() {
            // Entry o of `J_i J_iᵀ r_i`.
            let product: f64 = residual
                .iter()
                .enumerate()
                .map(|(q, other)| n * gram[(start + o, start + q)] * (other / largest))
                .sum();
            numerator += product * product;
            denominator += r / largest * product;
        }
    }
    (denominator > 0.0).then(|| numerator / denominator)
}

/// The measurements at one point of a training run, from one Gram matrix.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainingCurvature {
    /// The sharpness of the empirical Gauss–Newton matrix.
    pub sharpness: Sharpness,
    /// The batch sharpness, see [`batch_sharpness_of_outputs`].
    pub batch_sharpness: Option<f64>,
    /// The loss `(1/2n) Σ ‖r_i‖²`.
    pub loss: f64,
}

/// Sharpness, batch sharpness and loss of `model` at `parameters` on `data`.
///
/// # Errors
/// See [`gauss_newton_sharpness`].
pub fn training_curvature(
    model: &(impl Model + ?Sized),
    parameters: &[f64],
    data: &Dataset,
) -> Result<TrainingCurvature, EigenError> {
    let gram = model.gram(parameters, data.inputs());
    let residuals = data.residuals(model, parameters);
    training_curvature_of_gram(gram.as_ref(), &residuals, data.output_dim())
}

/// [`training_curvature`] from the Gram matrix `JJᵀ/n`, nk × nk, and the residuals, n × k row by
/// row.
///
/// # Errors
/// See [`gauss_newton_sharpness`].
///
/// # Panics
/// When their sizes do not fit k = `output_dim` outputs for each of n samples.
pub fn training_curvature_of_gram(
    gram: MatRef<'_, f64>,
    residuals: &[f64],
    output_dim: usize,
) -> Result<TrainingCurvature, EigenError> {
    let n = (residuals.len() / output_dim) as f64;
    Ok(TrainingCurvature {
        sharpness: gram_sharpness(gram)?,
        batch_sharpness: batch_sharpness_of_outputs(residuals, gram, output_dim),
        loss: residuals.iter().map(|r| r * r).sum::<f64>() / (2.0 * n),
    })
}
