//! The models as the commands use them: parameters by name, norms, population sharpness.

use flatmin_linalg::{EigenError, Sharpness, simd, stream};
use flatmin_models::{DiagonalLinear, MatrixSensing, Mlp, Model as _, TwoLayerRelu};
use flatmin_optim::Trainable;
use serde::Serialize;

use crate::words::Number;

/// Most neurons for which a matrix of neurons × neurons is formed, which then takes 0.8 GB.
const MAX_NEURONS: usize = 10_000;

/// A model whose parameters are stored by name.
pub(crate) trait Network: Trainable {
    /// The model in words.
    fn describe(&self) -> String;

    /// Names and shapes of the arrays of its parameters, in the order of the parameter vector.
    fn arrays(&self) -> Vec<ParameterArray>;

    /// True if an array of this name belongs to the parameters of another model of the same kind.
    fn is_foreign(&self, _name: &str) -> bool {
        false
    }

    /// Random initial parameters: Gaussian or, for a diagonal linear network, with a balance ratio.
    ///
    /// For the models of the experiments they are those of the experiments with the same seed.
    fn random_start(&self, seed: u64, balance_ratio: Option<f64>) -> Vec<f64>;

    /// The matrices of a step besides its inputs: the lengths of their two sides with their names,
    /// for this number of samples and batch size.
    fn matrices(&self, samples: Side, batch_size: Side) -> Vec<[Side; 2]>;

    /// The norms that theory relates to the sharpness.
    fn norms(&self, parameters: &[f64]) -> Norms;

    /// The inputs that [`population`](Self::population) assumes, in words; `None` if there is no
    /// closed form.
    fn population_inputs(&self, _input_variance: f64) -> Option<String> {
        None
    }

    /// The sharpness of the population Gauss–Newton matrix, for inputs whose coordinates have
    /// variance `input_variance`; `None` if it takes too much memory, or there is no closed form.
    fn population(
        &self,
        _parameters: &[f64],
        _input_variance: f64,
    ) -> Result<Option<Sharpness>, EigenError> {
        Ok(None)
    }
}

/// The name and the length of a side of a matrix.
pub(crate) type Side = (&'static str, usize);

/// Purposes of the random streams.
const RELU_START: &str = "relu initial parameters";
const DIAGONAL_START: &str = "diagonal initial parameters";
const SENSING_START: &str = "sensing initial parameters";
const PERCEPTRON_START: &str = "perceptron initial parameters";

/// An array of parameters in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ParameterArray {
    pub(crate) name: String,
    /// The shape as it is written.
    pub(crate) shape: Vec<usize>,
    /// Another shape that is accepted.
    pub(crate) also: Option<Vec<usize>>,
}

impl ParameterArray {
    fn new(name: impl Into<String>, shape: Vec<usize>) -> Self {
        Self { name: name.into(), shape, also: None }
    }
}

/// Norms of the parameters; `None` for a norm that the model does not have.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub(crate) struct Norms {
    pub(crate) path_norm: Option<Number>,
    pub(crate) l1_norm: Option<Number>,
    pub(crate) l2_norm: Option<Number>,
    pub(crate) balance_ratio: Option<Number>,
}

impl Network for TwoLayerRelu {
    fn describe(&self) -> String {
        let d = self.input_dim();
        format!("Two-layer ReLU network, width {}, input dimension {d}", self.width())
    }

    fn arrays(&self) -> Vec<ParameterArray> {
        let d = self.input_dim();
        vec![
            ParameterArray::new("w", vec![self.width(), d]),
            ParameterArray::new("a", vec![self.width()]),
        ]
    }

    fn random_start(&self, seed: u64, _balance_ratio: Option<f64>) -> Vec<f64> {
        self.initial_parameters(&mut stream(seed, RELU_START, 0))
    }

    fn matrices(&self, samples: Side, batch_size: Side) -> Vec<[Side; 2]> {
        let (width, input_dim) = (("width", self.width()), ("input_dim", self.input_dim()));
        vec![[width, input_dim], [samples, width], [batch_size, width]]
    }

    fn norms(&self, parameters: &[f64]) -> Norms {
        Norms { path_norm: Some(Number(self.path_norm(parameters))), ..Norms::default() }
    }

    fn population_inputs(&self, input_variance: f64) -> Option<String> {
        Some(format!(
            "inputs normal or uniform on a sphere, of variance {input_variance} a coordinate"
        ))
    }

    fn population(
        &self,
        parameters: &[f64],
        input_variance: f64,
    ) -> Result<Option<Sharpness>, EigenError> {
        if self.width() > MAX_NEURONS {
            return Ok(None);
        }
        let mut rng = stream(0, "population Lanczos start", 0);
        let unit = self.population(parameters).sharpness(&mut rng)?;
        // The gradient is homogeneous of degree 1 in x, so G scales with the variance.
        Ok(Some(Sharpness {
            trace: input_variance * unit.trace,
            frobenius_norm: input_variance * unit.frobenius_norm,
            lambda_max: input_variance * unit.lambda_max,
        }))
    }
}

impl Network for DiagonalLinear {
    fn describe(&self) -> String {
        let d = self.input_dim();
        format!("Diagonal linear network, input dimension {d}")
    }

    fn arrays(&self) -> Vec<ParameterArray> {
        let d = self.input_dim();
        vec![ParameterArray::new("a", vec![d]), ParameterArray::new("b", vec![d])]
    }

    fn random_start(&self, seed: u64, balance_ratio: Option<f64>) -> Vec<f64> {
        let mut rng = stream(seed, DIAGONAL_START, 0);
        match balance_ratio {
            Some(balance_ratio) => self.unbalanced_parameters(balance_ratio, &mut rng),
            None => self.initial_parameters(&mut rng),
        }
    }

    fn matrices(&self, _samples: Side, _batch_size: Side) -> Vec<[Side; 2]> {
        Vec::new()
    }

    fn norms(&self, parameters: &[f64]) -> Norms {
        Norms {
            l1_norm: Some(Number(self.l1_norm(parameters))),
            balance_ratio: Some(Number(self.balance_ratio(parameters))),
            ..Norms::default()
        }
    }

    fn population_inputs(&self, input_variance: f64) -> Option<String> {
        Some(format!("independent input coordinates of mean 0 and variance {input_variance}"))
    }

    fn population(
        &self,
        parameters: &[f64],
        input_variance: f64,
    ) -> Result<Option<Sharpness>, EigenError> {
        Ok(Some(self.population_sharpness(parameters, input_variance)))
    }
}

impl Network for MatrixSensing {
    fn describe(&self) -> String {
        let (rows, columns, k) = (self.rows(), self.columns(), self.factor_count());
        format!("Matrix sensing, {rows} × {columns}, factors with {k} columns")
    }

    fn arrays(&self) -> Vec<ParameterArray> {
        vec![
            ParameterArray::new("u", vec![self.rows(), self.factor_count()]),
            ParameterArray::new("v", vec![self.columns(), self.factor_count()]),
        ]
    }

    fn random_start(&self, seed: u64, _balance_ratio: Option<f64>) -> Vec<f64> {
        self.initial_parameters(&mut stream(seed, SENSING_START, 0))
    }

    fn matrices(&self, _samples: Side, _batch_size: Side) -> Vec<[Side; 2]> {
        let (rows, columns) = (("rows", self.rows()), ("columns", self.columns()));
        let factors = ("factor_count", self.factor_count());
        vec![[rows, columns], [rows, factors], [columns, factors]]
    }

    fn norms(&self, _parameters: &[f64]) -> Norms {
        Norms::default()
    }

    fn population_inputs(&self, input_variance: f64) -> Option<String> {
        Some(format!("independent entries of mean 0 and variance {input_variance}"))
    }

    fn population(
        &self,
        parameters: &[f64],
        input_variance: f64,
    ) -> Result<Option<Sharpness>, EigenError> {
        self.population_sharpness(parameters, input_variance).map(Some)
    }
}

impl Network for Mlp {
    fn describe(&self) -> String {
        let widths: Vec<String> = self.widths().iter().map(ToString::to_string).collect();
        format!(
            "Perceptron {}, {}, {} biases",
            widths.join("-"),
            self.activation(),
            if self.has_biases() { "with" } else { "without" }
        )
    }

    fn arrays(&self) -> Vec<ParameterArray> {
        let widths = self.widths();
        let mut arrays = Vec::new();
        for (l, pair) in widths.windows(2).enumerate() {
            let (inputs, outputs) = (pair[0], pair[1]);
            // The axis of a single output may be left out.
            let is_single = l + 2 == widths.len() && outputs == 1;
            let array = ParameterArray::new(format!("w{}", l + 1), vec![outputs, inputs]);
            arrays.push(ParameterArray { also: is_single.then(|| vec![inputs]), ..array });
            if self.has_biases() {
                let array = ParameterArray::new(format!("b{}", l + 1), vec![outputs]);
                arrays.push(ParameterArray { also: is_single.then(Vec::new), ..array });
            }
        }
        arrays
    }

    fn is_foreign(&self, name: &str) -> bool {
        let number = name.strip_prefix(['w', 'b']).map(str::parse::<u32>);
        number.is_some_and(|number| number.is_ok())
            && !self.arrays().iter().any(|array| array.name == name)
    }

    fn random_start(&self, seed: u64, _balance_ratio: Option<f64>) -> Vec<f64> {
        self.initial_parameters(&mut stream(seed, PERCEPTRON_START, 0))
    }

    fn matrices(&self, _samples: Side, _batch_size: Side) -> Vec<[Side; 2]> {
        let sides = |pair: &[usize]| [("a width", pair[1]), ("the one before it", pair[0])];
        self.widths().windows(2).map(sides).collect()
    }

    fn norms(&self, parameters: &[f64]) -> Norms {
        let l2_norm = Some(Number(simd::norm_squared(parameters).sqrt()));
        Norms { l2_norm, ..Norms::default() }
    }
}
