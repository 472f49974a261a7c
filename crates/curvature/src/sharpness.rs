//! Sharpness of the empirical Gauss–Newton matrix, from one Gram matrix.

use faer::{Mat, MatRef};
use flatmin_linalg::{EigenError, RowMatrix, Sharpness, gram_sharpness};
use flatmin_models::{Dataset, Model, OutputLoss};

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
    if output_dim == 1 {
        let n = residuals.len() as f64;
        let norms: Vec<f64> = (0..gram.nrows()).map(|i| n * gram[(i, i)]).collect();
        return batch_sharpness(residuals, &norms);
    }
    let largest = residuals.iter().fold(0.0_f64, |m, r| m.max(r.abs()));
    let products = own_products(residuals, gram, output_dim, largest);
    ratio(residuals, [&products, &products], largest)
}

/// The vectors `J_i J_iᵀ r_i`, n × k row by row, of residuals divided by `largest`.
pub(crate) fn own_products(
    residuals: &[f64],
    gram: MatRef<'_, f64>,
    output_dim: usize,
    largest: f64,
) -> Vec<f64> {
    let n = (residuals.len() / output_dim) as f64;
    let mut products = Vec::with_capacity(residuals.len());
    for (i, residual) in residuals.chunks_exact(output_dim).enumerate() {
        let start = i * output_dim;
        for o in 0..output_dim {
            let terms = residual.iter().enumerate();
            let terms = terms.map(|(q, r)| n * gram[(start + o, start + q)] * (r / largest));
            products.push(terms.sum());
        }
    }
    products
}

/// `Σ w² / Σ r u` for the products u = `J_i J_iᵀ r_i` and their weighted ones w = `R_iᵀ u_i`.
pub(crate) fn ratio(
    residuals: &[f64],
    [products, weighted]: [&[f64]; 2],
    largest: f64,
) -> Option<f64> {
    let (mut numerator, mut denominator) = (0.0, 0.0);
    for ((r, product), weighted) in residuals.iter().zip(products).zip(weighted) {
        numerator += weighted * weighted;
        denominator += r / largest * product;
    }
    (denominator > 0.0).then(|| numerator / denominator)
}

/// The measurements at one point of a training run, from one Gram matrix.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct TrainingCurvature {
    /// The sharpness of the empirical Gauss–Newton matrix.
    pub sharpness: Sharpness,
    /// The batch sharpness, see [`batch_sharpness_of_outputs`].
    pub batch_sharpness: Option<f64>,
    /// The loss `(1/2n) Σ ‖r_i‖²`, or the mean of another loss of the data.
    pub loss: f64,
}

/// Sharpness, batch sharpness and loss of `model` at `parameters` on `data`.
///
/// If the data have [another loss](Dataset::with_loss) `(1/n) Σ ℓ_i` than the squared one, the
/// sharpness is that of its Gauss–Newton matrix `(1/n) Σ J_iᵀS_iJ_i` with `S_i = ∇²ℓ_i`, and the
/// batch sharpness is the expected curvature of a sample's loss along its own gradient.
///
/// # Errors
/// See [`gauss_newton_sharpness`].
pub fn training_curvature(
    model: &(impl Model + ?Sized),
    parameters: &[f64],
    data: &Dataset,
) -> Result<TrainingCurvature, EigenError> {
    let gram = model.gram(parameters, data.inputs());
    let (n, k) = (data.sample_count(), data.output_dim());
    let loss = data.output_loss(0..n, model.outputs(parameters, data.inputs()));
    if loss.is_squared() {
        return training_curvature_of_gram(gram.as_ref(), loss.residuals(), k);
    }
    let largest = loss.residuals().iter().fold(0.0_f64, |m, r| m.max(r.abs()));
    let products = own_products(loss.residuals(), gram.as_ref(), k, largest);
    let mut weighted = products.clone();
    loss.weigh(&mut weighted);
    Ok(TrainingCurvature {
        sharpness: gram_sharpness(weigh_gram(gram, &loss).as_ref())?,
        batch_sharpness: ratio(loss.residuals(), [&products, &weighted], largest),
        loss: loss.loss() / n as f64,
    })
}

/// The Gram matrix of the rows `R_iᵀJ_i` in place of the Jacobian's.
pub(crate) fn weigh_gram(gram: Mat<f64>, loss: &OutputLoss) -> Mat<f64> {
    let half = weigh_columns(gram, loss);
    weigh_columns(half.transpose().to_owned(), loss)
}

/// The matrix with `R_iᵀ u_i` in place of the rows `u_i` of each sample.
pub(crate) fn weigh_columns(mut matrix: Mat<f64>, loss: &OutputLoss) -> Mat<f64> {
    for column in 0..matrix.ncols() {
        loss.weigh(matrix.col_as_slice_mut(column));
    }
    matrix
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
