//! Networks with parameters and inputs, and their training steps.

use flatmin_models::Model;

use crate::prelude::*;

/// A network with its parameters and with inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkInstance<M> {
    pub(crate) model: M,
    pub(crate) parameters: Vec<f64>,
    pub(crate) inputs: RowMatrix,
}

impl<M: Model> NetworkInstance<M> {
    /// A network with N `inputs` (N × d).
    ///
    /// Statements about the population compare it with the mean over these inputs, which should be
    /// drawn independently: R1 for inputs on the sphere of radius √d.
    ///
    /// # Errors
    /// [`InstanceError::Length`] when parameters or inputs do not fit the model.
    pub fn new(model: M, parameters: Vec<f64>, inputs: RowMatrix) -> Result<Self, InstanceError> {
        expect_length("the parameter vector", parameters.len(), model.parameter_count())?;
        expect_length("an input", inputs.columns(), model.input_dim())?;
        Ok(Self { model, parameters, inputs })
    }

    /// The gradient of the output at one input.
    pub(crate) fn gradient(&self, input: &[f64]) -> Vec<f64> {
        let mut gradient = vec![0.0; self.parameters.len()];
        self.model.gradient(&self.parameters, input, &mut gradient);
        gradient
    }

    /// `‖∇f(x)‖²` at one input.
    pub(crate) fn squared_gradient(&self, input: &[f64]) -> f64 {
        self.gradient(input).iter().map(|g| g * g).sum()
    }
}

/// A training step of a network on a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct StepInstance<M> {
    pub(crate) network: NetworkInstance<M>,
    pub(crate) residuals: Vec<f64>,
    pub(crate) learning_rate: f64,
}

impl<M: Model> StepInstance<M> {
    /// A step on the inputs of `network` (B × d) with the residuals `f(x_i) − y_i` (B), which may
    /// be any numbers.
    ///
    /// # Errors
    /// [`InstanceError::NoInputs`] without inputs, [`InstanceError::Length`] unless there is one
    /// residual per input.
    pub fn new(
        network: NetworkInstance<M>,
        residuals: Vec<f64>,
        learning_rate: f64,
    ) -> Result<Self, InstanceError> {
        if residuals.is_empty() {
            return Err(InstanceError::NoInputs);
        }
        expect_length("the residual vector", residuals.len(), network.inputs.rows())?;
        Ok(Self { network, residuals, learning_rate })
    }

    /// A step of a network with these parameters on `batch_size` random samples.
    pub(crate) fn random(
        model: M,
        parameters: Vec<f64>,
        batch_size: usize,
        rng: &mut dyn Rng,
    ) -> Self {
        let inputs = normal_matrix(batch_size, model.input_dim(), rng);
        Self {
            network: NetworkInstance { model, parameters, inputs },
            residuals: (0..batch_size).map(|_| normal(rng) * power_of_ten(rng, 1.0)).collect(),
            learning_rate: power_of_ten(rng, 2.0),
        }
    }
}
