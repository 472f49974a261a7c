//! A point of training, as curvature and stability see it.

use std::cell::OnceCell;

use faer::Mat;
use flatmin_curvature::{TrainingCurvature, training_curvature_of_gram};
use flatmin_linalg::{Parallelism, RowMatrix};
use flatmin_models::{Dataset, Model};
use flatmin_optim::Method;
use flatmin_theory::{Gram, Minimum, Optimizer, ThresholdOptions, threshold_with};

use super::CellError;
use super::study::theory_batch;

/// Parameters, as their Gram matrix on the training inputs. All that is measured there is made of it,
/// and of its eigendecomposition, which is found when it is first asked for.
#[derive(Debug)]
pub(super) struct Place {
    /// `JJᵀ/n`.
    gram: Mat<f64>,
    minimum: OnceCell<Minimum>,
}

impl Place {
    /// The place of `model` at `parameters`.
    pub(super) fn new(model: &impl Model, parameters: &[f64], inputs: &RowMatrix) -> Self {
        Self { gram: model.gram(parameters, inputs), minimum: OnceCell::new() }
    }

    /// Sharpness, batch sharpness and loss for the same model and parameters, where `data` has the
    /// inputs.
    pub(super) fn curvature(
        &self,
        model: &impl Model,
        parameters: &[f64],
        data: &Dataset,
    ) -> Result<TrainingCurvature, CellError> {
        let residuals = data.residuals(model, parameters);
        Ok(training_curvature_of_gram(self.gram.as_ref(), &residuals, data.output_dim())?)
    }

    /// The place as a minimum.
    pub(super) fn minimum(&self) -> Result<&Minimum, CellError> {
        if let Some(minimum) = self.minimum.get() {
            return Ok(minimum);
        }
        let gram = Gram::from_means(self.gram.clone())?;
        let minimum = Minimum::from_gram(gram, Parallelism::Sequential)?;
        Ok(self.minimum.get_or_init(|| minimum))
    }

    /// The threshold of an optimizer that is here, to plotting accuracy; `None` for gradient descent,
    /// whose threshold is `2/λ_max`, for samplings without closed form, and where it is infinite.
    pub(super) fn threshold(&self, method: Method) -> Result<Option<f64>, CellError> {
        let Method::Sgd { batch_size, sampling } = method else { return Ok(None) };
        let Some(batch) = theory_batch(batch_size, sampling)? else { return Ok(None) };
        let options = ThresholdOptions { relative_width: 1e-6, ..ThresholdOptions::default() };
        let threshold =
            threshold_with(self.minimum()?, &Optimizer::sgd(), &batch, &options)?.midpoint();
        Ok(threshold.is_finite().then_some(threshold))
    }
}
