//! Exact sharpness of a model, at parameters, on data.
//!
//! [`gauss_newton_sharpness`] measures the empirical Gauss–Newton matrix `G = (1/n) Σ g_i g_iᵀ`
//! (the paper's Fisher matrix) through the n × n Gram matrix, which has the same nonzero spectrum:
//! a p × p matrix is never formed. [`batch_sharpness`] is the directional curvature that a batch
//! sees. The population counterparts belong to the models, whose closed forms they are.
//!
//! This crate knows nothing of learning rates.

use faer::MatRef;
use flatmin_linalg::{EigenError, Sharpness, symmetric_eigenvalues};
use flatmin_models::{Dataset, Model};

/// Sharpness of the empirical Gauss–Newton matrix `G = JᵀJ/n`, exact.
///
/// `inputs` is n × d. Costs the Gram matrix plus O(n³).
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

/// Sharpness of `G` from the Gram matrix `K = JJᵀ/n` (n × n, symmetric).
///
/// # Errors
/// [`EigenError`] when an entry is not finite or the eigenproblem fails.
pub fn gram_sharpness(gram: MatRef<'_, f64>) -> Result<Sharpness, EigenError> {
    let eigenvalues = symmetric_eigenvalues(gram)?;
    let n = gram.nrows();
    let trace = (0..n).map(|i| gram[(i, i)]).sum();
    let squares: f64 = (0..n).flat_map(|j| (0..n).map(move |i| gram[(i, j)] * gram[(i, j)])).sum();
    Ok(Sharpness {
        trace,
        frobenius_norm: squares.sqrt(),
        // K is positive semidefinite: a negative top is rounding of zero.
        lambda_max: eigenvalues.last().copied().unwrap_or(0.0).max(0.0),
    })
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

/// Everything measured at one point of a training run, from one Gram matrix.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainingCurvature {
    /// Sharpness of the empirical Gauss–Newton matrix.
    pub sharpness: Sharpness,
    /// See [`batch_sharpness`].
    pub batch_sharpness: Option<f64>,
    /// The loss `(1/2n) Σ r_i²`.
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
    let n = data.sample_count() as f64;
    let gram = model.gram(parameters, data.inputs());
    let residuals = data.residuals(model, parameters);
    let norms: Vec<f64> = (0..gram.nrows()).map(|i| n * gram[(i, i)]).collect();
    Ok(TrainingCurvature {
        sharpness: gram_sharpness(gram.as_ref())?,
        batch_sharpness: batch_sharpness(&residuals, &norms),
        loss: residuals.iter().map(|r| r * r).sum::<f64>() / (2.0 * n),
    })
}
