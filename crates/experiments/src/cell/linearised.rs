//! A point of training, as curvature and stability theory see it.

use std::cell::OnceCell;

use faer::Mat;
use flatmin_curvature::{TrainingCurvature, training_curvature_of_gram};
use flatmin_linalg::{Parallelism, RowMatrix};
use flatmin_models::{Dataset, Model};
use flatmin_optim::{Method, Sampling};
use flatmin_theory::{
    Batch, Gram, Minimum, Optimizer, OutputHessians, ThresholdOptions, threshold_with,
};

use super::error::CellError;

/// A model linearised at a point of its training, through the Gram matrix of its gradients.
///
/// Everything measured at the point comes from this matrix, and from its eigendecomposition, which
/// is computed when it is first asked for.
#[derive(Debug)]
pub(super) struct LinearisedPoint {
    /// `JJᵀ/n`.
    gram: Mat<f64>,
    minimum: OnceCell<Minimum>,
}

impl LinearisedPoint {
    /// Linearises `model` at `parameters` on the training inputs.
    pub(super) fn new(model: &impl Model, parameters: &[f64], inputs: &RowMatrix) -> Self {
        Self { gram: model.gram(parameters, inputs), minimum: OnceCell::new() }
    }

    /// Sharpness, batch sharpness and loss. The model, its parameters and the inputs of `data` must
    /// be those of the point.
    pub(super) fn curvature(
        &self,
        model: &impl Model,
        parameters: &[f64],
        data: &Dataset,
    ) -> Result<TrainingCurvature, CellError> {
        let residuals = data.residuals(model, parameters);
        Ok(training_curvature_of_gram(self.gram.as_ref(), &residuals, data.output_dim())?)
    }

    /// The point as the minimum of its linearisation.
    pub(super) fn minimum(&self) -> Result<&Minimum, CellError> {
        if let Some(minimum) = self.minimum.get() {
            return Ok(minimum);
        }
        let gram = Gram::from_means(self.gram.clone())?;
        let minimum = Minimum::from_gram(gram, Parallelism::Sequential)?;
        Ok(self.minimum.get_or_init(|| minimum))
    }

    /// The point as the minimum of its linearisation, for a model with several outputs.
    pub(super) fn minimum_of_outputs(&self, output_count: usize) -> Result<Minimum, CellError> {
        let gram = Gram::from_means(self.gram.clone())?.with_outputs(output_count)?;
        Ok(Minimum::from_gram(gram, Parallelism::Sequential)?)
    }

    /// The point as the minimum of another loss than the squared one (S17).
    pub(super) fn weighted_minimum(&self, loss: &OutputHessians) -> Result<Minimum, CellError> {
        let gram = Gram::from_means(loss.weigh_gram(self.gram.as_ref())?)?;
        let gram = gram.with_outputs(loss.output_count())?;
        Ok(Minimum::from_gram(gram, Parallelism::Sequential)?)
    }

    /// The threshold of `method` to plotting accuracy, a relative 1e-6. `None` for gradient
    /// descent, whose threshold is `2/λ_max`, for samplings without a closed form, and where it is
    /// infinite.
    pub(super) fn threshold(&self, method: Method) -> Result<Option<f64>, CellError> {
        let Method::Sgd { batch_size, sampling } = method else { return Ok(None) };
        let Some(batch) = theory_batch(batch_size, sampling)? else { return Ok(None) };
        let options = ThresholdOptions { relative_width: 1e-6, ..ThresholdOptions::default() };
        let threshold = threshold_with(self.minimum()?, &Optimizer::sgd(), &batch, &options)?;
        Ok(Some(threshold.midpoint()).filter(|midpoint| midpoint.is_finite()))
    }
}

/// The batch, for the closed forms of the theory; `None` for samplings that they do not cover.
pub(crate) fn theory_batch(
    batch_size: usize,
    sampling: Sampling,
) -> Result<Option<Batch>, CellError> {
    Ok(match sampling {
        Sampling::Reshuffling => None,
        independent => Some(Batch::new(batch_size, independent)?),
    })
}
