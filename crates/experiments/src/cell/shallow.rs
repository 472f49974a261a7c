//! Training runs of two-layer ReLU and diagonal linear networks.

use flatmin_linalg::{EigenError, Sharpness, simd, stream};
use flatmin_models::data::{self, Split};
use flatmin_models::{DiagonalLinear, TwoLayerRelu};
use flatmin_optim::{Method, Observation, Outcome, Schedule, TrainOptions, Trainable};
use serde::{Deserialize, Serialize};

use super::error::CellError;
use super::linearised::LinearisedPoint;
use super::problem::{CUBE_VARIANCE, DiagonalInitial, DiagonalProblem, Problem, ReluProblem};
use super::stability::{StabilityResult, StabilityStudy};
use super::streams;
use super::test_data::TestData;
use super::training::{
    Checkpoint, MeasuredRun, TrainingProblem, checkpoints, clipped_fraction, train_measured,
};

/// The complete description of one training run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TrainSpec {
    /// The problem that is learned.
    pub problem: Problem,
    /// The optimizer.
    pub method: Method,
    /// Initial learning rate η.
    pub learning_rate: f64,
    /// Its schedule.
    pub schedule: Schedule,
    /// Gradient-norm clipping.
    pub clip_norm: f64,
    /// Largest number of steps.
    pub max_steps: u64,
    /// Log-spaced checkpoints a decade; none but the end when zero.
    pub checkpoints_per_decade: u32,
    /// The questions asked of the minimum at the end.
    pub study: StabilityStudy,
    /// Seed of the teacher, the data, the start and the batches.
    pub seed: u64,
}

/// Everything measured at one point of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Steps done.
    pub step: u64,
    /// Training loss `(1/2n) Σ r_i²`.
    pub train_loss: f64,
    /// Test loss, the mean over the test set.
    pub test_loss: f64,
    /// Sharpness of the empirical Gauss–Newton matrix.
    pub empirical: Sharpness,
    /// Batch sharpness; absent where every residual is zero.
    pub batch_sharpness: Option<f64>,
    /// The exact threshold η* of the SGD that trains, to 1e-6; present where the specification asks
    /// for checkpoints or a study.
    pub threshold: Option<f64>,
    /// Path norm (ReLU) or ℓ1 norm of β (diagonal).
    pub norm: f64,
    /// Balance ratio r(θ) (diagonal).
    pub balance_ratio: Option<f64>,
    /// `‖β − β*‖²` (diagonal).
    pub coefficient_error: Option<f64>,
    /// Largest gradient norm of a step, before clipping, since the last measurement.
    pub max_gradient_norm: f64,
    /// Fraction of clipped steps since the last measurement.
    pub clipped_fraction: f64,
}

impl Checkpoint for Measurement {
    fn step(&self) -> u64 {
        self.step
    }

    fn is_finite(&self) -> bool {
        let sharpness = self.empirical;
        [self.train_loss, self.test_loss, sharpness.frobenius_norm, self.max_gradient_norm]
            .into_iter()
            .chain([self.norm, sharpness.trace, sharpness.lambda_max])
            .chain(self.coefficient_error)
            .all(f64::is_finite)
    }
}

/// A finished run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainResult {
    /// The outcome of training.
    pub outcome: Outcome,
    /// Steps done.
    pub steps: u64,
    /// Steps whose gradient was clipped.
    pub clipped_steps: u64,
    /// Loss of the zero function on the test set, by which test losses are divided.
    pub zero_test_loss: f64,
    /// Mean of `‖x_i‖²` over the training inputs.
    pub mean_input_norm_squared: f64,
    /// Checkpoints before the end, where the specification asks for them.
    pub path: Vec<Measurement>,
    /// The end; absent when the run diverged.
    pub last: Option<Measurement>,
    /// Sharpness of the population Gauss–Newton matrix at the end; absent when the run diverged.
    pub population: Option<Sharpness>,
    /// The answers of stability theory at the end; absent when the run diverged or nothing is
    /// asked.
    pub study: Option<Box<StabilityResult>>,
}

impl TrainResult {
    /// Test loss at the end divided by that of the zero function.
    pub fn relative_test_error(&self) -> Option<f64> {
        self.last.map(|last| last.test_loss / self.zero_test_loss)
    }
}

/// Balance ratio and `‖β − β*‖²` of a diagonal network; neither of a ReLU network.
type DiagonalMeasures = (Option<f64>, Option<f64>);

/// The functions of the parameters that differ between the two architectures.
struct Architecture<'f> {
    /// Path norm (ReLU) or ℓ1 norm of β (diagonal).
    norm: &'f dyn Fn(&[f64]) -> f64,
    diagonal: &'f dyn Fn(&[f64]) -> DiagonalMeasures,
    /// Sharpness of the population Gauss–Newton matrix.
    population: &'f dyn Fn(&[f64]) -> Result<Sharpness, EigenError>,
}

impl TrainSpec {
    pub(super) fn run(&self) -> Result<TrainResult, CellError> {
        match self.problem {
            Problem::Relu(problem) => self.run_relu(problem),
            Problem::Diagonal(problem) => self.run_diagonal(problem),
        }
    }

    fn run_relu(&self, sizes: ReluProblem) -> Result<TrainResult, CellError> {
        let ReluProblem { teacher_width, width, input_dim, sample_count, test_count } = sizes;
        let model = TwoLayerRelu::new(width, input_dim)?;
        let make =
            |count, split| data::relu_dataset(teacher_width, input_dim, count, split, self.seed);
        let data = make(sample_count, Split::Training)?;
        let test = TestData::Held(make(test_count, Split::Test)?);
        let initial = model.initial_parameters(&mut stream(self.seed, streams::RELU_INITIAL, 0));
        let architecture = Architecture {
            norm: &|parameters| model.path_norm(parameters),
            diagonal: &|_| (None, None),
            population: &|parameters| {
                let mut rng = stream(self.seed, streams::RELU_POPULATION, 0);
                model.population(parameters).sharpness(&mut rng)
            },
        };
        self.train(&TrainingProblem { model, data, initial }, &test, &architecture)
    }

    fn run_diagonal(&self, sizes: DiagonalProblem) -> Result<TrainResult, CellError> {
        let model = DiagonalLinear::new(sizes.input_dim)?;
        let mut rng = stream(self.seed, streams::DIAGONAL_INITIAL, 0);
        let initial = match sizes.initial {
            DiagonalInitial::Gaussian => model.initial_parameters(&mut rng),
            DiagonalInitial::Unbalanced { ratio } => model.unbalanced_parameters(ratio, &mut rng),
        };
        let data = sizes.dataset(sizes.sample_count, Split::Training, self.seed)?;
        let test = TestData::drawn(sizes, self.seed)?;
        let target = data::sparse_coefficients(sizes.input_dim, sizes.nonzero);
        let architecture = Architecture {
            norm: &|parameters| model.l1_norm(parameters),
            diagonal: &|parameters| {
                let beta = model.coefficients(parameters);
                let error = beta.iter().zip(&target).map(|(b, t)| (b - t).powi(2)).sum();
                (Some(model.balance_ratio(parameters)), Some(error))
            },
            population: &|parameters| Ok(model.population_sharpness(parameters, CUBE_VARIANCE)),
        };
        self.train(&TrainingProblem { model, data, initial }, &test, &architecture)
    }

    fn train<M: Trainable>(
        &self,
        problem: &TrainingProblem<M>,
        test: &TestData,
        architecture: &Architecture<'_>,
    ) -> Result<TrainResult, CellError> {
        let (model, data) = (&problem.model, &problem.data);
        let options = TrainOptions {
            schedule: self.schedule,
            clip_norm: self.clip_norm,
            checkpoints: checkpoints(self.checkpoints_per_decade, self.max_steps),
            ..TrainOptions::new(self.method, self.learning_rate, self.max_steps)
        };
        let with_threshold = self.checkpoints_per_decade > 0 || self.study != StabilityStudy::None;
        let measure = |point: &LinearisedPoint, seen: Observation<'_>| {
            let curvature = point.curvature(model, seen.parameters, data)?;
            let (balance_ratio, coefficient_error) = (architecture.diagonal)(seen.parameters);
            let threshold = if with_threshold { point.threshold(self.method)? } else { None };
            Ok(Measurement {
                step: seen.step,
                train_loss: curvature.loss,
                test_loss: test.loss(model, seen.parameters)?,
                empirical: curvature.sharpness,
                batch_sharpness: curvature.batch_sharpness,
                threshold,
                norm: (architecture.norm)(seen.parameters),
                balance_ratio,
                coefficient_error,
                max_gradient_norm: seen.since_last.max_gradient_norm,
                clipped_fraction: clipped_fraction(seen.since_last),
            })
        };
        let MeasuredRun { run, path, end } = train_measured(problem, &options, self.seed, measure)?;
        let (last, population, study) = match end {
            Some((last, point)) => {
                let population = (architecture.population)(&run.parameters)?;
                let study = self.study.run(&point, self.method, self.learning_rate, self.seed)?;
                (Some(last), Some(population), study.map(Box::new))
            }
            None => (None, None, None),
        };
        let inputs = data.inputs();
        Ok(TrainResult {
            outcome: run.outcome,
            steps: run.steps,
            clipped_steps: run.total.clipped_steps,
            zero_test_loss: test.zero_loss()?,
            mean_input_norm_squared: simd::norm_squared(inputs.values())
                / data.sample_count() as f64,
            path,
            last,
            population,
            study,
        })
    }

    pub(super) fn label(&self) -> String {
        let problem = match self.problem {
            Problem::Relu(_) => "ReLU".to_owned(),
            Problem::Diagonal(problem) => match problem.initial {
                DiagonalInitial::Unbalanced { ratio } => format!("diagonal r0={ratio}"),
                DiagonalInitial::Gaussian => format!("diagonal n={}", problem.sample_count),
            },
        };
        let method = match self.method {
            Method::GradientDescent => "GD".to_owned(),
            Method::Sgd { batch_size: 1, .. } => "SGD B=1".to_owned(),
            Method::Sgd { batch_size, sampling } => {
                format!("SGD B={batch_size} {}", sampling.name().replace('-', " "))
            }
        };
        let schedule = match self.schedule {
            Schedule::Constant => "",
            Schedule::Cosine => " cosine",
            Schedule::Step => " step decay",
        };
        let (rate, clip, seed) = (self.learning_rate, self.clip_norm, self.seed);
        format!("{problem} {method} η={rate:.3e}{schedule} clip={clip} seed {seed}")
    }
}
