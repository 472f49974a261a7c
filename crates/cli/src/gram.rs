//! The Gram matrix of a network on data, weighted by the loss.

use faer::Mat;
use flatmin_linalg::RowMatrix;
use flatmin_models::{Dataset, Loss};
use flatmin_theory::{LossError, OutputHessians};

use crate::network::Network;

/// `JJᵀ/n`, nk × nk, with the rows `R_iᵀJ_i` of S17 in place of the Jacobian's for cross-entropy.
///
/// # Errors
/// [`LossError::NotFinite`] where an output is not finite.
pub(crate) fn weighted_gram(
    network: &dyn Network,
    parameters: &[f64],
    data: &Dataset,
) -> Result<Mat<f64>, LossError> {
    let gram = network.gram(parameters, data.inputs());
    let Loss::CrossEntropy(_) = data.loss_function() else { return Ok(gram) };
    let (n, k) = (data.sample_count(), data.output_dim());
    let outputs = network.outputs(parameters, data.inputs());
    let logits = RowMatrix::from_fn(n, k, |i, output| outputs[i * k + output]);
    OutputHessians::softmax(&logits)?.weigh_gram(gram.as_ref())
}
