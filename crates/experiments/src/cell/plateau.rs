//! The plateau of SGD at minima whose residuals do not vanish (S18).

use flatmin_linalg::{Parallelism, RowMatrix, simd, stream, symmetric_eigen};
use flatmin_models::{Activation, Dataset, Mlp, Model};
use flatmin_optim::{Method, Sampling, StoppingRule, TrainOptions, Trainable, Trainer};
use flatmin_theory::{Batch, Gram, Minimum, Optimizer, noise_floor, threshold};
use rand_distr::{Distribution as _, StandardNormal};
use serde::{Deserialize, Serialize};

use super::error::CellError;
use super::streams;
use crate::statistics::mean_and_standard_error;

/// Segments whose mean losses give the standard error of a plateau, and those before them, which
/// are left out.
const SEGMENTS: u32 = 50;
const BURN_IN: u32 = 15;

/// The model that cannot interpolate its data.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlateauModel {
    /// Linear least squares with gradients N(0, 1).
    Linear {
        /// Number p of parameters.
        parameters: usize,
        /// Number k of outputs of a sample.
        outputs: usize,
    },
    /// A tanh network with one hidden layer.
    Tanh {
        /// Dimension d of the inputs.
        input_dim: usize,
        /// Neurons of the hidden layer.
        width: usize,
    },
}

/// The optimizers whose plateaus are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlateauOptimizer {
    /// SGD.
    Plain,
    /// Heavy-ball momentum .9.
    Momentum,
    /// Nesterov momentum .9.
    Nesterov,
}

impl PlateauOptimizer {
    /// The name for a reader.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "SGD",
            Self::Momentum => "momentum",
            Self::Nesterov => "Nesterov",
        }
    }

    fn optimizer(self) -> Result<Optimizer, CellError> {
        Ok(match self {
            Self::Plain => Optimizer::sgd(),
            Self::Momentum => Optimizer::sgd().momentum(0.9)?,
            Self::Nesterov => Optimizer::sgd().momentum(0.9)?.nesterov()?,
        })
    }
}

/// Plateaus of one optimizer at one stationary point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlateauSpec {
    /// The model.
    pub model: PlateauModel,
    /// Number n of samples.
    pub sample_count: usize,
    /// Standard deviation of the noise of the targets.
    pub noise: f64,
    /// The optimizer.
    pub optimizer: PlateauOptimizer,
    /// Samples per step, drawn without replacement.
    pub batch_size: usize,
    /// The learning rates in units of η*.
    pub factors: Vec<f64>,
    /// Steps of each run, those of the burn-in left out.
    pub steps: u64,
    /// Seed of the data and the batches.
    pub seed: u64,
}

/// The plateau at one learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Plateau {
    /// η/η*.
    pub factor: f64,
    /// The mean training loss that S18 predicts.
    pub predicted: f64,
    /// The mean of the losses of all batches after the burn-in, each before its step.
    pub simulated: f64,
    /// Its standard error, from the means of segments.
    pub standard_error: f64,
}

/// The plateaus of one optimizer at one stationary point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlateauResult {
    /// The exact threshold η* of the optimizer.
    pub threshold: f64,
    /// The training loss of the stationary point itself.
    pub still: f64,
    /// The plateaus.
    pub plateaus: Vec<Plateau>,
}

/// `f_o(x; θ) = ⟨x_o, θ⟩`: an input holds the gradients of all outputs.
#[derive(Debug)]
struct LinearOutputs {
    parameters: usize,
    outputs: usize,
}

impl Model for LinearOutputs {
    fn input_dim(&self) -> usize {
        self.parameters * self.outputs
    }

    fn output_dim(&self) -> usize {
        self.outputs
    }

    fn parameter_count(&self) -> usize {
        self.parameters
    }

    fn output(&self, parameters: &[f64], input: &[f64], output: &mut [f64]) {
        for (value, gradient) in output.iter_mut().zip(input.chunks_exact(self.parameters)) {
            *value = simd::dot(gradient, parameters);
        }
    }

    fn gradient(&self, _: &[f64], input: &[f64], gradients: &mut [f64]) {
        gradients.copy_from_slice(input);
    }

    fn add_second_derivative(&self, _: &[f64], _: &[f64], _: &[f64], _: &[f64], _: &mut [f64]) {}
}

impl Trainable for LinearOutputs {}

impl PlateauSpec {
    pub(super) fn run(&self) -> Result<PlateauResult, CellError> {
        let mut rng = stream(self.seed, streams::PLATEAU_INPUTS, 0);
        let mut normal = || -> f64 { StandardNormal.sample(&mut rng) };
        match self.model {
            PlateauModel::Linear { parameters, outputs } => {
                let columns = parameters * outputs;
                let inputs = RowMatrix::from_fn(self.sample_count, columns, |_, _| normal());
                let at = vec![0.0; parameters];
                self.settle(&LinearOutputs { parameters, outputs }, inputs, &at)
            }
            PlateauModel::Tanh { input_dim, width } => {
                let inputs = RowMatrix::from_fn(self.sample_count, input_dim, |_, _| normal());
                let model = Mlp::new(&[input_dim, width, 1], Activation::Tanh, true)?;
                let at: Vec<f64> = (0..model.parameter_count()).map(|_| normal()).collect();
                self.settle(&model, inputs, &at)
            }
        }
    }

    /// Runs at all learning rates from `at`, which noise in the targets makes a stationary point:
    /// the noise has no part in the span of the gradients.
    fn settle(
        &self,
        model: &impl Trainable,
        inputs: RowMatrix,
        at: &[f64],
    ) -> Result<PlateauResult, CellError> {
        let gram = model.gram(at, &inputs);
        let eigen = symmetric_eigen(gram.as_ref())?;
        let rows = gram.nrows();
        let mut rng = stream(self.seed, streams::PLATEAU_NOISE, 0);
        let drawn: Vec<f64> = (0..rows).map(|_| StandardNormal.sample(&mut rng)).collect();
        let mut residuals: Vec<f64> = drawn.iter().map(|value| self.noise * value).collect();
        let least = 1e-12 * eigen.values[rows - 1];
        for (k, _) in eigen.values.iter().enumerate().filter(|(_, value)| **value > least) {
            let part: f64 = (0..rows).map(|i| eigen.vectors[(i, k)] * residuals[i]).sum();
            for (i, residual) in residuals.iter_mut().enumerate() {
                *residual -= part * eigen.vectors[(i, k)];
            }
        }
        let outputs = model.outputs(at, &inputs);
        let k = model.output_dim();
        let targets =
            RowMatrix::from_fn(inputs.rows(), k, |i, o| outputs[i * k + o] - residuals[i * k + o]);
        let data = Dataset::with_outputs(inputs, &targets)?;
        let gram = Gram::from_means(gram)?.with_outputs(k)?;
        let minimum = Minimum::from_gram(gram, Parallelism::Sequential)?;
        let batch = Batch::new(self.batch_size, Sampling::WithoutReplacement)?;
        let optimizer = self.optimizer.optimizer()?;
        let threshold = threshold(&minimum, &optimizer, &batch)?.midpoint();
        let plateau = |factor: &f64| -> Result<Plateau, CellError> {
            let rate = factor * threshold;
            let floor = noise_floor(&minimum, &optimizer, &batch, rate, &residuals)?;
            let (simulated, standard_error) =
                self.simulate(model, &data, at, &TrainOptions { optimizer, ..self.options(rate) })?;
            let predicted = floor.map_or(f64::INFINITY, |floor| floor.training_loss);
            Ok(Plateau { factor: *factor, predicted, simulated, standard_error })
        };
        let plateaus = self.factors.iter().map(plateau).collect::<Result<_, _>>()?;
        let still = residuals.iter().map(|r| r * r).sum::<f64>() / (2 * self.sample_count) as f64;
        Ok(PlateauResult { threshold, still, plateaus })
    }

    fn options(&self, learning_rate: f64) -> TrainOptions {
        let segment = self.steps.div_ceil(SEGMENTS.into());
        let all = u64::from(SEGMENTS + BURN_IN);
        let method =
            Method::Sgd { batch_size: self.batch_size, sampling: Sampling::WithoutReplacement };
        TrainOptions {
            stopping: StoppingRule::never(),
            checkpoints: (0..=all).map(|k| k * segment).collect(),
            ..TrainOptions::new(method, learning_rate, all * segment)
        }
    }

    /// The mean loss of the batches after the burn-in, with its standard error.
    fn simulate(
        &self,
        model: &impl Trainable,
        data: &Dataset,
        at: &[f64],
        options: &TrainOptions,
    ) -> Result<(f64, f64), CellError> {
        let rng = stream(self.seed, streams::BATCHES, 0);
        let mut means = Vec::new();
        Trainer::new(model, data, at, options, rng)?.run(|seen| {
            if seen.since_last.steps > 0 {
                means.push(seen.since_last.loss_sum / seen.since_last.steps as f64);
            }
        });
        // A run that diverged has fewer segments.
        let settled =
            means.split_off(means.len().min(usize::try_from(BURN_IN).unwrap_or(usize::MAX)));
        Ok(mean_and_standard_error(&settled))
    }

    pub(super) fn label(&self) -> String {
        let model = match self.model {
            PlateauModel::Linear { outputs, .. } => format!("linear k={outputs}"),
            PlateauModel::Tanh { .. } => "tanh".to_owned(),
        };
        let Self { optimizer, batch_size, seed, .. } = self;
        format!("noise floor {model} {} B={batch_size} seed {seed}", optimizer.name())
    }
}
