//! Curvature of the mean loss of a model, at parameters, on data.
//!
//! [`hessian`] and [`gauss_newton`] are operators by exact products, for networks of any size and the
//! estimators of [`flatmin_linalg`].
//!
//! [`gauss_newton_sharpness`] measures the empirical Gauss–Newton matrix `G = (1/n) Σ g_i g_iᵀ`
//! (the paper's Fisher matrix) through the n × n Gram matrix, which has the same nonzero spectrum:
//! a p × p matrix is never formed. [`batch_sharpness`] is the directional curvature that a batch
//! sees; [`batch_sharpness_of_outputs`] is that of models with several outputs. The population
//! counterparts belong to the models, whose closed forms they are.
//!
//! This crate knows nothing of learning rates.

mod operator;

use faer::MatRef;
use flatmin_linalg::{EigenError, Sharpness, gram_sharpness};
use flatmin_models::{Dataset, Model};

pub use operator::{
    CurvatureError, CurvatureOperator, CurvatureOptions, gauss_newton, gauss_newton_with, hessian,
    hessian_with,
};

/// Sharpness of the empirical Gauss–Newton matrix `G = JᵀJ/n`, exact.
///
/// `inputs` is n × d. Costs the Gram matrix plus a few dozen products with it.
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
    model: &impl Model,
    parameters: &[f64],
    inputs: &flatmin_linalg::RowMatrix,
) -> Result<Sharpness, EigenError> {
    gram_sharpness(model.gram(parameters, inputs).as_ref())
}

/// Batch sharpness for batches of one: `Σ r_i²‖g_i‖⁴ / Σ r_i²‖g_i‖²`, the expected curvature of a
/// sample's loss along its own gradient (its Gauss–Newton part).
///
/// Needs only residuals `r_i` and squared gradient norms `‖g_i‖²`, for example n times the diagonal
/// of the Gram matrix. `None` when every residual or gradient is zero. Source: Andreyev &
/// Beneventano (2024), who see it hover at 2/η along SGD.
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

/// Batch sharpness for batches of one of a model with k outputs,
/// `Σ r_iᵀ (J_i J_iᵀ)² r_i / Σ r_iᵀ J_i J_iᵀ r_i`: the Gauss–Newton part of the expected curvature of a
/// sample's loss along its own gradient `J_iᵀ r_i`.
///
/// `residuals` is n × k row by row; `gram` is `JJᵀ/n`, nk × nk, whose diagonal k × k blocks are
/// `J_i J_iᵀ/n`. For k = 1 it is [`batch_sharpness`], to the bit. `None` when every residual or gradient
/// is zero.
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

/// Everything measured at one point of a training run, from one Gram matrix.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainingCurvature {
    /// Sharpness of the empirical Gauss–Newton matrix.
    pub sharpness: Sharpness,
    /// See [`batch_sharpness_of_outputs`].
    pub batch_sharpness: Option<f64>,
    /// The loss `(1/2n) Σ ‖r_i‖²`.
    pub loss: f64,
}

/// Sharpness, batch sharpness and loss on `data`.
///
/// # Errors
/// As [`gauss_newton_sharpness`].
pub fn training_curvature(
    model: &impl Model,
    parameters: &[f64],
    data: &Dataset,
) -> Result<TrainingCurvature, EigenError> {
    let gram = model.gram(parameters, data.inputs());
    let residuals = data.residuals(model, parameters);
    training_curvature_of_gram(gram.as_ref(), &residuals, data.output_dim())
}

/// The same from the Gram matrix `JJᵀ/n`, nk × nk, and the residuals, n × k row by row.
///
/// # Errors
/// As [`gauss_newton_sharpness`].
///
/// # Panics
/// When these are not k for each of n samples, with k = `output_dim`.
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
