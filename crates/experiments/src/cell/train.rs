//! Training runs.

use flatmin_linalg::{EigenError, Sharpness, simd, stream};
use flatmin_models::data::{self, DatasetError, Split};
use flatmin_models::{Dataset, DiagonalLinear, TwoLayerRelu};
use flatmin_optim::{
    Method, Outcome, Precision, Sampling, Schedule, Segment, StoppingRule, TrainOptions, Trainable,
    log_spaced_steps, train,
};
use serde::{Deserialize, Serialize};

use super::place::Place;
use super::test_data::TestData;
use super::{CellError, Study, StudyResult};

/// Variance of one coordinate of `Unif[−1, 1]^d`.
pub(crate) const CUBE_VARIANCE: f64 = 1.0 / 3.0;

/// The sizes of a two-layer ReLU teacher–student problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReluProblem {
    /// Neurons of the teacher.
    pub teacher_width: usize,
    /// Neurons m of the student.
    pub width: usize,
    /// Input dimension d.
    pub input_dim: usize,
    /// Training inputs n.
    pub sample_count: usize,
    /// Test inputs.
    pub test_count: usize,
}

/// The sizes of a sparse linear problem for a diagonal network.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DiagonalProblem {
    /// Input dimension d.
    pub input_dim: usize,
    /// Ones in `β* = (1, …, 1, 0, …, 0)`.
    pub nonzero: usize,
    /// Training inputs n.
    pub sample_count: usize,
    /// Test inputs.
    pub test_count: usize,
    /// Where training starts.
    pub initial: DiagonalInitial,
}

/// Initial parameters of a diagonal network.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiagonalInitial {
    /// `a_j, b_j ~ N(0, 1)`.
    Gaussian,
    /// See [`DiagonalLinear::unbalanced_parameters`].
    Unbalanced {
        /// The balance ratio r ≥ 1.
        ratio: f64,
    },
}

/// What is learned.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// Two-layer ReLU network, teacher and student.
    Relu(ReluProblem),
    /// Diagonal linear network, sparse teacher.
    Diagonal(DiagonalProblem),
}

/// One training run, completely.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TrainSpec {
    /// What is learned.
    pub problem: Problem,
    /// The optimizer.
    pub method: Method,
    /// Initial learning rate η.
    pub learning_rate: f64,
    /// Its schedule.
    pub schedule: Schedule,
    /// Gradient-norm clipping.
    pub clip_norm: f64,
    /// Most steps.
    pub max_steps: u64,
    /// Log-spaced checkpoints a decade; none but the end when zero.
    pub checkpoints_per_decade: u32,
    /// What is asked of the minimum at the end.
    pub study: Study,
    /// Fixes the teacher, the data, the start and the batches.
    pub seed: u64,
}

/// The three sharpness measures, as stored.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MeasuredSharpness {
    /// `tr G`.
    pub trace: f64,
    /// `‖G‖_F`.
    pub frobenius_norm: f64,
    /// `λ_max(G)`.
    pub lambda_max: f64,
}

impl From<Sharpness> for MeasuredSharpness {
    fn from(s: Sharpness) -> Self {
        Self { trace: s.trace, frobenius_norm: s.frobenius_norm, lambda_max: s.lambda_max }
    }
}

/// Everything measured at one point of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Steps done.
    pub step: u64,
    /// Training loss `(1/2n) Σ r_i²`.
    pub train_loss: f64,
    /// The same mean over the test set.
    pub test_loss: f64,
    /// Sharpness of the empirical Gauss–Newton matrix.
    pub empirical: MeasuredSharpness,
    /// Batch sharpness; absent where every residual is zero.
    pub batch_sharpness: Option<f64>,
    /// The exact threshold η* of SGD as it is run, to 1e-6, where checkpoints or a study are asked
    /// for.
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

impl Measurement {
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
    /// How it ended.
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
    pub population: Option<MeasuredSharpness>,
    /// What stability theory says of the end; absent when the run diverged or nothing is asked.
    pub study: Option<Box<StudyResult>>,
}

impl TrainResult {
    /// Whether the stopping rule was met.
    pub fn converged(&self) -> bool {
        self.outcome == Outcome::Converged
    }

    /// Test loss at the end divided by that of the zero function.
    pub fn relative_test_error(&self) -> Option<f64> {
        self.last.map(|last| last.test_loss / self.zero_test_loss)
    }
}

/// Model, data, start and extra measures of a problem.
struct Setup<M> {
    model: M,
    train: Dataset,
    test: TestData,
    initial: Vec<f64>,
}

impl TrainSpec {
    pub(super) fn run(&self) -> Result<TrainResult, CellError> {
        match self.problem {
            Problem::Relu(problem) => {
                let setup = problem.setup(self.seed)?;
                let model = setup.model;
                self.train(
                    &setup,
                    |p| model.path_norm(p),
                    |_| (None, None),
                    |p| {
                        let mut rng = stream(self.seed, "relu population start", 0);
                        model.population(p).sharpness(&mut rng)
                    },
                )
            }
            Problem::Diagonal(problem) => {
                let setup = problem.setup(self.seed)?;
                let model = setup.model;
                let target = data::sparse_coefficients(problem.input_dim, problem.nonzero);
                self.train(
                    &setup,
                    |p| model.l1_norm(p),
                    |p| {
                        let beta = model.coefficients(p);
                        let error = beta.iter().zip(&target).map(|(b, t)| (b - t).powi(2)).sum();
                        (Some(model.balance_ratio(p)), Some(error))
                    },
                    |p| Ok(model.population_sharpness(p, CUBE_VARIANCE)),
                )
            }
        }
    }

    fn train<M: Trainable>(
        &self,
        setup: &Setup<M>,
        norm: impl Fn(&[f64]) -> f64,
        diagonal: impl Fn(&[f64]) -> (Option<f64>, Option<f64>),
        population: impl Fn(&[f64]) -> Result<Sharpness, EigenError>,
    ) -> Result<TrainResult, CellError> {
        let measure = |place: &Place, step, parameters: &[f64], since: Segment| {
            let curvature = place.curvature(&setup.model, parameters, &setup.train)?;
            let (balance_ratio, coefficient_error) = diagonal(parameters);
            let threshold = if self.checkpoints_per_decade > 0 || self.study != Study::None {
                place.threshold(self.method)?
            } else {
                None
            };
            Ok::<_, CellError>(Measurement {
                step,
                train_loss: curvature.loss,
                test_loss: setup.test.loss(&setup.model, parameters)?,
                empirical: curvature.sharpness.into(),
                batch_sharpness: curvature.batch_sharpness,
                threshold,
                norm: norm(parameters),
                balance_ratio,
                coefficient_error,
                max_gradient_norm: since.max_gradient_norm,
                clipped_fraction: since.clipped_steps as f64 / since.steps.max(1) as f64,
            })
        };
        let checkpoints = if self.checkpoints_per_decade == 0 {
            Vec::new()
        } else {
            log_spaced_steps(self.checkpoints_per_decade, self.max_steps)
        };
        let options = TrainOptions {
            method: self.method,
            learning_rate: self.learning_rate,
            schedule: self.schedule,
            clip_norm: self.clip_norm,
            max_steps: self.max_steps,
            precision: Precision::Float64,
            stopping: StoppingRule::default(),
            checkpoints,
        };
        let mut rng = stream(self.seed, "batches", 0);
        let (mut path, mut since_last) = (Vec::new(), Segment::default());
        let mut seen_last = None;
        let run = train(&setup.model, &setup.train, &setup.initial, &options, &mut rng, |seen| {
            since_last = seen.since_last;
            if self.checkpoints_per_decade > 0 {
                // A state that cannot be measured any more (overflow) is left out; the outcome
                // says what happened.
                let place = Place::new(&setup.model, seen.parameters, setup.train.inputs());
                let measured = measure(&place, seen.step, seen.parameters, seen.since_last);
                path.extend(measured.ok().filter(Measurement::is_finite));
                seen_last = Some((seen.step, place));
            }
        })?;
        let finite = run.outcome != Outcome::Diverged;
        // Where the run ended at a checkpoint, the place is known and has been measured.
        let place = finite.then(|| match seen_last {
            Some((step, place)) if step == run.steps => place,
            _ => Place::new(&setup.model, &run.parameters, setup.train.inputs()),
        });
        let measured = path.pop_if(|point| point.step == run.steps);
        let last = match (&place, measured) {
            (Some(place), None) => Some(measure(place, run.steps, &run.parameters, since_last)?),
            (Some(_), measured) => measured,
            (None, _) => None,
        };
        let n = setup.train.sample_count() as f64;
        let study = match &place {
            Some(place) => {
                let (method, rate) = (self.method, self.learning_rate);
                self.study.run(place, method, rate, self.seed)?.map(Box::new)
            }
            None => None,
        };
        Ok(TrainResult {
            outcome: run.outcome,
            steps: run.steps,
            clipped_steps: run.total.clipped_steps,
            zero_test_loss: setup.test.zero_loss()?,
            mean_input_norm_squared: simd::norm_squared(setup.train.inputs().values()) / n,
            path,
            last,
            population: if finite { Some(population(&run.parameters)?.into()) } else { None },
            study,
        })
    }

    pub(super) fn label(&self) -> String {
        let problem = match self.problem {
            Problem::Relu(_) => "ReLU".to_owned(),
            Problem::Diagonal(DiagonalProblem {
                initial: DiagonalInitial::Unbalanced { ratio },
                ..
            }) => format!("diagonal r0={ratio}"),
            Problem::Diagonal(problem) => format!("diagonal n={}", problem.sample_count),
        };
        let method = match self.method {
            Method::GradientDescent => "GD".to_owned(),
            Method::Sgd { batch_size: 1, .. } => "SGD B=1".to_owned(),
            Method::Sgd { batch_size, sampling } => {
                let drawn = match sampling {
                    Sampling::WithReplacement => "with replacement",
                    Sampling::WithoutReplacement => "without replacement",
                    Sampling::Reshuffling => "reshuffled",
                };
                format!("SGD B={batch_size} {drawn}")
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

    pub(super) fn cost(&self) -> f64 {
        // Flops of a step at about 20 GFLOP/s; most runs converge early.
        let flops = match (self.problem, self.method) {
            (Problem::Relu(p), Method::Sgd { batch_size, .. }) => {
                6 * p.width * p.input_dim * batch_size
            }
            (Problem::Relu(p), Method::GradientDescent) => {
                4 * p.width * p.input_dim * p.sample_count / 3
            }
            (Problem::Diagonal(p), Method::Sgd { batch_size, .. }) => 10 * p.input_dim * batch_size,
            (Problem::Diagonal(p), Method::GradientDescent) => 2 * p.input_dim * p.sample_count,
        };
        let samples = match self.problem {
            Problem::Relu(problem) => problem.sample_count,
            Problem::Diagonal(problem) => problem.sample_count,
        };
        flops as f64 * self.max_steps as f64 / 2e10 + self.study.cost(samples)
    }
}

impl ReluProblem {
    fn setup(&self, seed: u64) -> Result<Setup<TwoLayerRelu>, CellError> {
        let model = TwoLayerRelu::new(self.width, self.input_dim)?;
        let make = |count, split| {
            data::relu_dataset(self.teacher_width, self.input_dim, count, split, seed)
        };
        Ok(Setup {
            model,
            train: make(self.sample_count, Split::Training)?,
            test: TestData::Held(make(self.test_count, Split::Test)?),
            initial: model.initial_parameters(&mut stream(seed, "relu initial parameters", 0)),
        })
    }
}

impl DiagonalProblem {
    fn setup(&self, seed: u64) -> Result<Setup<DiagonalLinear>, CellError> {
        let model = DiagonalLinear::new(self.input_dim)?;
        let mut rng = stream(seed, "diagonal initial parameters", 0);
        let initial = match self.initial {
            DiagonalInitial::Gaussian => model.initial_parameters(&mut rng),
            DiagonalInitial::Unbalanced { ratio } => model.unbalanced_parameters(ratio, &mut rng),
        };
        Ok(Setup {
            model,
            train: self.dataset(self.sample_count, Split::Training, seed)?,
            test: TestData::drawn(*self, seed)?,
            initial,
        })
    }

    pub(super) fn dataset(
        &self,
        count: usize,
        split: Split,
        seed: u64,
    ) -> Result<Dataset, DatasetError> {
        data::sparse_linear_dataset(self.nonzero, self.input_dim, count, split, seed)
    }
}
