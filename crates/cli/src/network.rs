//! The models as the command line sees them: arrays with names, norms, population sharpness.

use flatmin_linalg::{EigenError, Sharpness, stream};
use flatmin_models::{DiagonalLinear, TwoLayerRelu};
use flatmin_optim::Trainable;

/// Most neurons for which matrices of neurons × neurons are formed, of 0.8 GB each.
const MOST_NEURONS: usize = 10_000;

/// A model whose parameters are stored by name.
pub(crate) trait Network: Trainable {
    /// What it is, in words.
    fn describe(&self) -> String;

    /// Names and shapes of the arrays of its parameters, in the order of the parameter vector.
    fn arrays(&self) -> [(&'static str, Vec<usize>); 2];

    /// The norms that theory ties to its sharpness.
    fn norms(&self, parameters: &[f64]) -> Norms;

    /// The inputs for which [`population`](Self::population) holds, in words.
    fn population_inputs(&self, input_variance: f64) -> String;

    /// Sharpness of the population Gauss–Newton matrix; a coordinate of the inputs has this variance.
    /// `None` where it takes too much memory.
    fn population(
        &self,
        parameters: &[f64],
        input_variance: f64,
    ) -> Result<Option<Sharpness>, EigenError>;
}

/// Norms of the parameters; absent where the model has no such norm.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Norms {
    pub(crate) path_norm: Option<f64>,
    pub(crate) l1_norm: Option<f64>,
    pub(crate) balance_ratio: Option<f64>,
}

impl Network for TwoLayerRelu {
    fn describe(&self) -> String {
        let d = flatmin_models::Model::input_dim(self);
        format!("Two-layer ReLU network, width {}, input dimension {d}", self.width())
    }

    fn arrays(&self) -> [(&'static str, Vec<usize>); 2] {
        let d = flatmin_models::Model::input_dim(self);
        [("w", vec![self.width(), d]), ("a", vec![self.width()])]
    }

    fn norms(&self, parameters: &[f64]) -> Norms {
        Norms { path_norm: Some(self.path_norm(parameters)), ..Norms::default() }
    }

    fn population_inputs(&self, input_variance: f64) -> String {
        format!("inputs normal or uniform on a sphere, of variance {input_variance} a coordinate")
    }

    fn population(
        &self,
        parameters: &[f64],
        input_variance: f64,
    ) -> Result<Option<Sharpness>, EigenError> {
        if self.width() > MOST_NEURONS {
            return Ok(None);
        }
        let mut rng = stream(0, "population Lanczos start", 0);
        let unit = self.population(parameters).sharpness(&mut rng)?;
        // The gradient is homogeneous of degree 1 in x.
        Ok(Some(Sharpness {
            trace: input_variance * unit.trace,
            frobenius_norm: input_variance * unit.frobenius_norm,
            lambda_max: input_variance * unit.lambda_max,
        }))
    }
}

impl Network for DiagonalLinear {
    fn describe(&self) -> String {
        let d = flatmin_models::Model::input_dim(self);
        format!("Diagonal linear network, input dimension {d}")
    }

    fn arrays(&self) -> [(&'static str, Vec<usize>); 2] {
        let d = flatmin_models::Model::input_dim(self);
        [("a", vec![d]), ("b", vec![d])]
    }

    fn norms(&self, parameters: &[f64]) -> Norms {
        Norms {
            path_norm: None,
            l1_norm: Some(self.l1_norm(parameters)),
            balance_ratio: Some(self.balance_ratio(parameters)),
        }
    }

    fn population_inputs(&self, input_variance: f64) -> String {
        format!("independent input coordinates of mean 0 and variance {input_variance}")
    }

    fn population(
        &self,
        parameters: &[f64],
        input_variance: f64,
    ) -> Result<Option<Sharpness>, EigenError> {
        Ok(Some(self.population_sharpness(parameters, input_variance)))
    }
}
