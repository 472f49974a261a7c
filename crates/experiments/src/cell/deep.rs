//! Training runs of deep networks.

use faer::{MatMut, MatRef};
use flatmin_curvature::{CurvatureOptions, hessian_with};
use flatmin_linalg::{
    Eigenpair, LanczosOptions, LanczosStatus, Operator as _, Parallelism, Sharpness,
    largest_eigenpair, stream,
};
use flatmin_models::data::digits::{DigitsSplit, INPUT_DIM, digits};
use flatmin_models::data::{self, ClassTargets, Split};
use flatmin_models::{Activation, Dataset, Mlp};
use flatmin_optim::{Method, Observation, Outcome, TrainOptions};
use rand_distr::{Distribution as _, StandardNormal};
use serde::{Deserialize, Serialize};

use super::error::CellError;
use super::linearised::LinearisedPoint;
use super::streams;
use super::training::{
    Checkpoint, MeasuredRun, TrainingProblem, checkpoints, clipped_fraction, train_measured,
};

/// The task that a deep network learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeepTask {
    /// The outputs of a two-layer ReLU network of ten neurons on the sphere of radius √d.
    Teacher {
        /// Dimension d of the inputs.
        input_dim: usize,
    },
    /// The parity of a handwritten digit: +1 for even, −1 for odd.
    DigitParity,
}

/// The complete description of one training run of a perceptron.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DeepSpec {
    /// The task.
    pub task: DeepTask,
    /// Number of affine layers.
    pub depth: usize,
    /// Neurons of every hidden layer.
    pub width: usize,
    /// Activation of the hidden layers.
    pub activation: Activation,
    /// Number n of training inputs.
    pub sample_count: usize,
    /// Number of test inputs.
    pub test_count: usize,
    /// The optimizer.
    pub method: Method,
    /// The learning rate η, constant.
    pub learning_rate: f64,
    /// Gradient-norm clipping.
    pub clip_norm: f64,
    /// Largest number of steps.
    pub max_steps: u64,
    /// Log-spaced checkpoints a decade, at which the Hessian is measured too. Zero measures the end
    /// only, without its Hessian.
    pub checkpoints_per_decade: u32,
    /// Seed of the data, the start and the batches.
    pub seed: u64,
}

/// Everything measured at one point of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DeepMeasurement {
    /// Steps done.
    pub step: u64,
    /// Training loss `(1/2n) Σ r_i²`.
    pub train_loss: f64,
    /// Test loss, the mean over the test set.
    pub test_loss: f64,
    /// Sharpness of the empirical Gauss–Newton matrix.
    pub empirical: Sharpness,
    /// Largest eigenvalue of the Hessian of the training loss; present where the specification asks
    /// for checkpoints.
    pub hessian_lambda_max: Option<f64>,
    /// Batch sharpness; absent where every residual is zero.
    pub batch_sharpness: Option<f64>,
    /// The exact threshold η* of the SGD that trains, to 1e-6; absent for gradient descent.
    pub threshold: Option<f64>,
    /// `‖θ‖`.
    pub norm: f64,
    /// Fraction of clipped steps since the last measurement.
    pub clipped_fraction: f64,
}

/// A finished run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeepResult {
    /// The outcome of training.
    pub outcome: Outcome,
    /// Steps done.
    pub steps: u64,
    /// Loss of the zero function on the test set, by which test losses are divided.
    pub zero_test_loss: f64,
    /// Checkpoints before the end, where the specification asks for them.
    pub path: Vec<DeepMeasurement>,
    /// The end; absent when the run diverged.
    pub last: Option<DeepMeasurement>,
}

impl DeepResult {
    /// All measurements in order.
    pub fn points(&self) -> impl Iterator<Item = &DeepMeasurement> {
        self.path.iter().chain(&self.last)
    }
}

impl Checkpoint for DeepMeasurement {
    fn step(&self) -> u64 {
        self.step
    }

    fn is_finite(&self) -> bool {
        let sharpness = self.empirical;
        [self.train_loss, self.test_loss, self.norm, sharpness.frobenius_norm]
            .into_iter()
            .chain([sharpness.trace, sharpness.lambda_max])
            .all(f64::is_finite)
    }
}

impl DeepTask {
    /// A short name, as in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Teacher { .. } => "teacher",
            Self::DigitParity => "digit parity",
        }
    }

    /// Dimension d of the inputs.
    pub(super) fn input_dim(self) -> usize {
        match self {
            Self::Teacher { input_dim } => input_dim,
            Self::DigitParity => INPUT_DIM,
        }
    }

    fn dataset(
        self,
        counts: (usize, usize),
        split: Split,
        seed: u64,
    ) -> Result<Dataset, CellError> {
        const TEACHER_WIDTH: usize = 10;
        Ok(match self {
            Self::Teacher { input_dim } => {
                let count = match split {
                    Split::Training => counts.0,
                    Split::Test => counts.1,
                };
                data::relu_dataset(TEACHER_WIDTH, input_dim, count, split, seed)?
            }
            Self::DigitParity => {
                let (training_count, test_count) = counts;
                let split_of = DigitsSplit { training_count, test_count, seed };
                digits()?.dataset(ClassTargets::Parity, split, split_of)?
            }
        })
    }
}

impl DeepSpec {
    fn model(&self) -> Result<Mlp, CellError> {
        let mut widths = vec![self.width; self.depth.saturating_sub(1)];
        widths.insert(0, self.task.input_dim());
        widths.push(1);
        Ok(Mlp::new(&widths, self.activation, true)?)
    }

    pub(super) fn run(&self) -> Result<DeepResult, CellError> {
        let model = self.model()?;
        let counts = (self.sample_count, self.test_count);
        let dataset = |split| self.task.dataset(counts, split, self.seed);
        let (data, test) = (dataset(Split::Training)?, dataset(Split::Test)?);
        let initial = model.initial_parameters(&mut stream(self.seed, streams::DEEP_INITIAL, 0));
        let options = TrainOptions {
            clip_norm: self.clip_norm,
            checkpoints: checkpoints(self.checkpoints_per_decade, self.max_steps),
            ..TrainOptions::new(self.method, self.learning_rate, self.max_steps)
        };
        let problem = TrainingProblem { model, data, initial };
        let (model, data) = (&problem.model, &problem.data);
        let measure = |point: &LinearisedPoint, seen: Observation<'_>| {
            let parameters = seen.parameters;
            let curvature = point.curvature(model, parameters, data)?;
            let hessian_lambda_max = if self.checkpoints_per_decade > 0 {
                Some(hessian_lambda_max(model, parameters, data, self.seed)?)
            } else {
                None
            };
            Ok(DeepMeasurement {
                step: seen.step,
                train_loss: curvature.loss,
                test_loss: test.loss(model, parameters),
                empirical: curvature.sharpness,
                hessian_lambda_max,
                batch_sharpness: curvature.batch_sharpness,
                threshold: point.threshold(self.method)?,
                norm: parameters.iter().map(|value| value * value).sum::<f64>().sqrt(),
                clipped_fraction: clipped_fraction(seen.since_last),
            })
        };
        let MeasuredRun { run, path, end } =
            train_measured(&problem, &options, self.seed, measure)?;
        Ok(DeepResult {
            outcome: run.outcome,
            steps: run.steps,
            zero_test_loss: test.zero_loss(),
            path,
            last: end.map(|(last, _)| last),
        })
    }

    pub(super) fn label(&self) -> String {
        let method = match self.method {
            Method::GradientDescent => "GD".to_owned(),
            Method::Sgd { batch_size, .. } => format!("SGD B={batch_size}"),
        };
        let (depth, rate, seed) = (self.depth, self.learning_rate, self.seed);
        format!("depth {depth} {} {method} η={rate:.3e} seed {seed}", self.task.name())
    }
}

/// The largest eigenvalue of the Hessian of the training loss, to 1e-6.
fn hessian_lambda_max(
    model: &Mlp,
    parameters: &[f64],
    data: &Dataset,
    seed: u64,
) -> Result<f64, CellError> {
    // Cells run side by side: one thread each.
    let options =
        CurvatureOptions { parallelism: Parallelism::Sequential, ..CurvatureOptions::default() };
    let operator = hessian_with(model, parameters, data, &options)?;
    let mut rng = stream(seed, streams::DEEP_HESSIAN, 0);
    let start: Vec<f64> = (0..operator.dim()).map(|_| StandardNormal.sample(&mut rng)).collect();
    let apply = |vector: &[f64], image: &mut [f64]| {
        let rows = vector.len();
        let vector = MatRef::from_column_major_slice(vector, rows, 1);
        operator.apply(vector, MatMut::from_column_major_slice_mut(image, rows, 1));
    };
    let options = LanczosOptions { relative_residual: 1e-6, ..LanczosOptions::default() };
    let Eigenpair { value, residual, products, status, .. } =
        largest_eigenpair(&start, apply, options)?;
    if status == LanczosStatus::OutOfProducts {
        return Err(CellError::NotConverged { value, residual, products });
    }
    Ok(value)
}
