//! What statements are tried on.

use std::fmt;

use flatmin_linalg::RowMatrix;
use flatmin_models::{DiagonalLinear, Model as _, TwoLayerRelu};

use crate::LedgerError;
use flatmin_theory::{Batch, TheoryError};

/// A minimum with a way of drawing batches.
#[derive(Debug, Clone, PartialEq)]
pub struct MinimumInstance {
    /// The Jacobian, n × p.
    pub jacobian: RowMatrix,
    /// How batches are drawn.
    pub batch: Batch,
}

/// A minimum at which SGD moves with momentum.
#[derive(Debug, Clone, PartialEq)]
pub struct MomentumInstance {
    /// The minimum and how batches are drawn.
    pub minimum: MinimumInstance,
    /// The momentum β of the heavy ball, in [0, 1).
    pub momentum: f64,
}

/// A minimum of a network with several outputs, with a way of drawing batches.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputsInstance {
    /// The Jacobian, nk × p, sample by sample.
    pub jacobian: RowMatrix,
    /// Number k of outputs.
    pub output_count: usize,
    /// How batches of samples are drawn.
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
    /// [`LedgerError::Length`] when parameters or inputs do not fit the model.
    pub fn new(
        model: TwoLayerRelu,
        parameters: Vec<f64>,
        inputs: RowMatrix,
    ) -> Result<Self, LedgerError> {
        length("the parameter vector", parameters.len(), model.parameter_count())?;
        length("an input", inputs.columns(), model.input_dim())?;
        Ok(Self { model, parameters, inputs })
    }
}

/// One training step of a two-layer ReLU network on one sample.
#[derive(Debug, Clone, PartialEq)]
pub struct ReluStepInstance {
    pub(super) model: TwoLayerRelu,
    pub(super) parameters: Vec<f64>,
    pub(super) input: Vec<f64>,
    pub(super) residual: f64,
    pub(super) learning_rate: f64,
}

impl ReluStepInstance {
    /// A step on the sample `input` (d) with any `residual` `f(x) − y`.
    ///
    /// # Errors
    /// [`LedgerError::Length`] when parameters or input do not fit the model.
    pub fn new(
        model: TwoLayerRelu,
        parameters: Vec<f64>,
        input: Vec<f64>,
        residual: f64,
        learning_rate: f64,
    ) -> Result<Self, LedgerError> {
        length("the parameter vector", parameters.len(), model.parameter_count())?;
        length("an input", input.len(), model.input_dim())?;
        Ok(Self { model, parameters, input, residual, learning_rate })
    }
}

/// A sample of inputs, for all two-layer ReLU networks of bounded path norm.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleInstance {
    pub(super) inputs: RowMatrix,
    pub(super) path_norm: f64,
}

impl SampleInstance {
    /// At most 8 `inputs` of dimension 1 or 2 (n × d), small enough for an exact complexity, and the
    /// largest `path_norm` that the networks may have.
    ///
    /// # Errors
    /// [`LedgerError::NoSamples`] without inputs, [`LedgerError::Length`] when there are too many or
    /// their dimension is another.
    pub fn new(inputs: RowMatrix, path_norm: f64) -> Result<Self, LedgerError> {
        const MOST: usize = 8;
        if inputs.rows() == 0 {
            return Err(LedgerError::NoSamples);
        }
        length("a sample of inputs", inputs.rows(), inputs.rows().min(MOST))?;
        length("an input", inputs.columns(), inputs.columns().clamp(1, 2))?;
        Ok(Self { inputs, path_norm })
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
    /// [`LedgerError::Length`] when parameters or inputs do not fit the model.
    pub fn new(
        model: DiagonalLinear,
        parameters: Vec<f64>,
        input_variance: f64,
        inputs: RowMatrix,
    ) -> Result<Self, LedgerError> {
        length("the parameter vector", parameters.len(), model.parameter_count())?;
        length("an input", inputs.columns(), model.input_dim())?;
        Ok(Self { model, parameters, input_variance, inputs })
    }
}

/// One training step of a diagonal linear network.
#[derive(Debug, Clone, PartialEq)]
pub struct DiagonalStepInstance {
    pub(super) model: DiagonalLinear,
    pub(super) parameters: Vec<f64>,
    pub(super) inputs: RowMatrix,
    pub(super) residuals: Vec<f64>,
    pub(super) learning_rate: f64,
}

impl DiagonalStepInstance {
    /// A step on a batch of `inputs` (B × d) with the given residuals `f(x_i) − y_i` (B), any
    /// numbers.
    ///
    /// # Errors
    /// [`LedgerError::EmptyBatch`] without inputs, [`LedgerError::Length`] when the parts do not
    /// fit together.
    pub fn new(
        model: DiagonalLinear,
        parameters: Vec<f64>,
        inputs: RowMatrix,
        residuals: Vec<f64>,
        learning_rate: f64,
    ) -> Result<Self, LedgerError> {
        if inputs.rows() == 0 {
            return Err(LedgerError::Theory(TheoryError::EmptyBatch));
        }
        length("the parameter vector", parameters.len(), model.parameter_count())?;
        length("an input", inputs.columns(), model.input_dim())?;
        length("the residual vector", residuals.len(), inputs.rows())?;
        Ok(Self { model, parameters, inputs, residuals, learning_rate })
    }
}

/// Coefficients to be recovered from fewer linear measurements than there are coordinates.
#[derive(Debug, Clone, PartialEq)]
pub struct RecoveryInstance {
    pub(super) inputs: RowMatrix,
    pub(super) coefficients: Vec<f64>,
    pub(super) input_variance: f64,
}

impl RecoveryInstance {
    /// The measurements `⟨β*, x_i⟩` of `coefficients` β* (d) at `inputs` (n × d), for a population of
    /// inputs with variance `input_variance` = s². At most 10 coordinates: the check lists supports.
    ///
    /// # Errors
    /// [`LedgerError::Length`] when the parts do not fit together or there are too many coordinates.
    pub fn new(
        inputs: RowMatrix,
        coefficients: Vec<f64>,
        input_variance: f64,
    ) -> Result<Self, LedgerError> {
        const MOST: usize = 10;
        length("the coefficient vector", coefficients.len(), inputs.columns().min(MOST))?;
        Ok(Self { inputs, coefficients, input_variance })
    }
}

/// Coefficients and random designs at which to interpolate them.
#[derive(Debug, Clone, PartialEq)]
pub struct InterpolationInstance {
    pub(super) coefficients: Vec<f64>,
    pub(super) designs: Vec<RowMatrix>,
    pub(super) input_variance: f64,
}

impl InterpolationInstance {
    /// `coefficients` β* (d) and independent `designs` (each n × d), whose entries are independent
    /// with one symmetric law of variance `input_variance` = s².
    ///
    /// # Errors
    /// [`LedgerError::Length`] when the parts do not fit together.
    pub fn new(
        coefficients: Vec<f64>,
        designs: Vec<RowMatrix>,
        input_variance: f64,
    ) -> Result<Self, LedgerError> {
        for design in &designs {
            length("an input", design.columns(), coefficients.len())?;
        }
        Ok(Self { coefficients, designs, input_variance })
    }
}

fn length(what: &'static str, got: usize, expected: usize) -> Result<(), LedgerError> {
    if got == expected { Ok(()) } else { Err(LedgerError::Length { what, got, expected }) }
}

/// What a statement speaks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Domain {
    /// A minimum with a way of drawing batches.
    Minimum,
    /// The same, with momentum.
    Momentum,
    /// A minimum of a network with several outputs.
    Outputs,
    /// A two-layer ReLU network.
    Relu,
    /// A training step of a two-layer ReLU network.
    ReluStep,
    /// A sample of inputs, for all two-layer ReLU networks of bounded path norm.
    Sample,
    /// A diagonal linear network.
    Diagonal,
    /// A training step of a diagonal linear network.
    DiagonalStep,
    /// Coefficients to be recovered from fewer measurements than coordinates.
    Recovery,
    /// Coefficients and random designs at which to interpolate them.
    Interpolation,
}

/// An instance of any domain.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Instance {
    /// Of [`Domain::Minimum`].
    Minimum(MinimumInstance),
    /// Of [`Domain::Momentum`].
    Momentum(MomentumInstance),
    /// Of [`Domain::Outputs`].
    Outputs(OutputsInstance),
    /// Of [`Domain::Relu`].
    Relu(ReluInstance),
    /// Of [`Domain::ReluStep`].
    ReluStep(ReluStepInstance),
    /// Of [`Domain::Sample`].
    Sample(SampleInstance),
    /// Of [`Domain::Diagonal`].
    Diagonal(DiagonalInstance),
    /// Of [`Domain::DiagonalStep`].
    DiagonalStep(DiagonalStepInstance),
    /// Of [`Domain::Recovery`].
    Recovery(RecoveryInstance),
    /// Of [`Domain::Interpolation`].
    Interpolation(InterpolationInstance),
}

impl Instance {
    /// The domain.
    pub fn domain(&self) -> Domain {
        match self {
            Self::Minimum(_) => Domain::Minimum,
            Self::Momentum(_) => Domain::Momentum,
            Self::Outputs(_) => Domain::Outputs,
            Self::Relu(_) => Domain::Relu,
            Self::ReluStep(_) => Domain::ReluStep,
            Self::Sample(_) => Domain::Sample,
            Self::Diagonal(_) => Domain::Diagonal,
            Self::DiagonalStep(_) => Domain::DiagonalStep,
            Self::Recovery(_) => Domain::Recovery,
            Self::Interpolation(_) => Domain::Interpolation,
        }
    }
}

/// The sizes, as in `n = 4, p = 2, B = 1 with replacement`.
impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Minimum(minimum) => minimum.fmt(f),
            Self::Momentum(MomentumInstance { minimum, momentum }) => {
                write!(f, "{minimum}, β = {momentum}")
            }
            Self::Outputs(OutputsInstance { jacobian, output_count, batch }) => {
                let samples = jacobian.rows() / output_count;
                write!(f, "n = {samples}, k = {output_count}, ")?;
                write!(f, "p = {}, {}", jacobian.columns(), Drawn(*batch))
            }
            Self::Relu(ReluInstance { model, .. }) => {
                write!(f, "m = {}, d = {}", model.width(), model.input_dim())
            }
            Self::ReluStep(ReluStepInstance { model, learning_rate, .. }) => {
                let (m, d) = (model.width(), model.input_dim());
                write!(f, "m = {m}, d = {d}, η = {learning_rate}")
            }
            Self::Sample(SampleInstance { inputs, path_norm }) => {
                write!(f, "n = {}, d = {}, Q = {path_norm}", inputs.rows(), inputs.columns())
            }
            Self::Diagonal(DiagonalInstance { model, input_variance, .. }) => {
                write!(f, "d = {}, s² = {input_variance}", model.input_dim())
            }
            Self::DiagonalStep(DiagonalStepInstance { model, inputs, learning_rate, .. }) => {
                let (d, size) = (model.input_dim(), inputs.rows());
                write!(f, "d = {d}, B = {size}, η = {learning_rate}")
            }
            Self::Recovery(RecoveryInstance { inputs, input_variance, .. }) => {
                let (n, d) = (inputs.rows(), inputs.columns());
                write!(f, "n = {n}, d = {d}, s² = {input_variance}")
            }
            Self::Interpolation(InterpolationInstance { coefficients, designs, .. }) => {
                let n = designs.first().map_or(0, RowMatrix::rows);
                write!(f, "n = {n}, d = {}, {} designs", coefficients.len(), designs.len())
            }
        }
    }
}

impl fmt::Display for MinimumInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { jacobian, batch } = self;
        write!(f, "n = {}, p = {}, {}", jacobian.rows(), jacobian.columns(), Drawn(*batch))
    }
}

/// As in `B = 1 with replacement`.
struct Drawn(Batch);

impl fmt::Display for Drawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sampling = self.0.sampling().name().replace('-', " ");
        write!(f, "B = {} {sampling}", self.0.size())
    }
}
