//! What statements are tried on.

use std::fmt;

use flatmin_linalg::RowMatrix;
use flatmin_models::{DiagonalLinear, Model as _, TwoLayerRelu};

use crate::{Batch, Sampling, TheoryError};

/// A minimum with a way of drawing batches.
#[derive(Debug, Clone, PartialEq)]
pub struct MinimumInstance {
    /// The Jacobian, n × p.
    pub jacobian: RowMatrix,
    /// How batches are drawn.
    pub batch: Batch,
}

/// A two-layer ReLU network with inputs drawn for it.
///
/// Hypothesis of every statement about such networks: `w_j ≠ 0` wherever `a_j ≠ 0`. A neuron with
/// `w_j = 0` is dead, since the derivative of the ReLU at zero is zero, but its `a_j` would enter
/// the norms.
#[derive(Debug, Clone, PartialEq)]
pub struct ReluInstance {
    pub(super) model: TwoLayerRelu,
    pub(super) parameters: Vec<f64>,
    pub(super) inputs: RowMatrix,
}

impl ReluInstance {
    /// A network with N independent `inputs` on the sphere of radius √d (N × d).
    ///
    /// # Errors
    /// [`TheoryError::Length`] when parameters or inputs do not fit the model.
    pub fn new(
        model: TwoLayerRelu,
        parameters: Vec<f64>,
        inputs: RowMatrix,
    ) -> Result<Self, TheoryError> {
        length("the parameter vector", parameters.len(), model.parameter_count())?;
        length("an input", inputs.columns(), model.input_dim())?;
        Ok(Self { model, parameters, inputs })
    }
}

/// A diagonal linear network with inputs drawn for it.
#[derive(Debug, Clone, PartialEq)]
pub struct DiagonalInstance {
    pub(super) model: DiagonalLinear,
    pub(super) parameters: Vec<f64>,
    pub(super) input_variance: f64,
    pub(super) inputs: RowMatrix,
}

impl DiagonalInstance {
    /// A network with N independent `inputs` (N × d) whose coordinates are independent and uniform
    /// on `[−√3 s, √3 s]`, so that their variance is `input_variance` = s².
    ///
    /// # Errors
    /// [`TheoryError::Length`] when parameters or inputs do not fit the model.
    pub fn new(
        model: DiagonalLinear,
        parameters: Vec<f64>,
        input_variance: f64,
        inputs: RowMatrix,
    ) -> Result<Self, TheoryError> {
        length("the parameter vector", parameters.len(), model.parameter_count())?;
        length("an input", inputs.columns(), model.input_dim())?;
        Ok(Self { model, parameters, input_variance, inputs })
    }
}

/// One training step of a diagonal linear network.
#[derive(Debug, Clone, PartialEq)]
pub struct StepInstance {
    pub(super) model: DiagonalLinear,
    pub(super) parameters: Vec<f64>,
    pub(super) inputs: RowMatrix,
    pub(super) residuals: Vec<f64>,
    pub(super) learning_rate: f64,
}

impl StepInstance {
    /// A step on a batch of `inputs` (B × d) with the given residuals `f(x_i) − y_i` (B), any
    /// numbers.
    ///
    /// # Errors
    /// [`TheoryError::EmptyBatch`] without inputs, [`TheoryError::Length`] when the parts do not
    /// fit together.
    pub fn new(
        model: DiagonalLinear,
        parameters: Vec<f64>,
        inputs: RowMatrix,
        residuals: Vec<f64>,
        learning_rate: f64,
    ) -> Result<Self, TheoryError> {
        if inputs.rows() == 0 {
            return Err(TheoryError::EmptyBatch);
        }
        length("the parameter vector", parameters.len(), model.parameter_count())?;
        length("an input", inputs.columns(), model.input_dim())?;
        length("the residual vector", residuals.len(), inputs.rows())?;
        Ok(Self { model, parameters, inputs, residuals, learning_rate })
    }
}

fn length(what: &'static str, got: usize, expected: usize) -> Result<(), TheoryError> {
    if got == expected { Ok(()) } else { Err(TheoryError::Length { what, got, expected }) }
}

/// What a statement speaks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Domain {
    /// A minimum with a way of drawing batches.
    Minimum,
    /// A two-layer ReLU network.
    Relu,
    /// A diagonal linear network.
    Diagonal,
    /// A training step of a diagonal linear network.
    Step,
}

/// An instance of any domain.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Instance {
    /// Of [`Domain::Minimum`].
    Minimum(MinimumInstance),
    /// Of [`Domain::Relu`].
    Relu(ReluInstance),
    /// Of [`Domain::Diagonal`].
    Diagonal(DiagonalInstance),
    /// Of [`Domain::Step`].
    Step(StepInstance),
}

impl Instance {
    /// The domain.
    pub fn domain(&self) -> Domain {
        match self {
            Self::Minimum(_) => Domain::Minimum,
            Self::Relu(_) => Domain::Relu,
            Self::Diagonal(_) => Domain::Diagonal,
            Self::Step(_) => Domain::Step,
        }
    }
}

/// The sizes, as in `n = 4, p = 2, B = 1 with replacement`.
impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Minimum(MinimumInstance { jacobian, batch }) => {
                let sampling = match batch.sampling() {
                    Sampling::WithReplacement => "with",
                    Sampling::WithoutReplacement => "without",
                };
                let (n, p, size) = (jacobian.rows(), jacobian.columns(), batch.size());
                write!(f, "n = {n}, p = {p}, B = {size} {sampling} replacement")
            }
            Self::Relu(ReluInstance { model, .. }) => {
                write!(f, "m = {}, d = {}", model.width(), model.input_dim())
            }
            Self::Diagonal(DiagonalInstance { model, input_variance, .. }) => {
                write!(f, "d = {}, s² = {input_variance}", model.input_dim())
            }
            Self::Step(StepInstance { model, inputs, learning_rate, .. }) => {
                let (d, size) = (model.input_dim(), inputs.rows());
                write!(f, "d = {d}, B = {size}, η = {learning_rate}")
            }
        }
    }
}
