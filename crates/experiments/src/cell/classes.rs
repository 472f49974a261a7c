//! Training runs on classes of digits with cross-entropy.

use flatmin_linalg::{RowMatrix, stream};
use flatmin_models::data::digits::digits;
use flatmin_models::data::{ClassTargets, InputScaling, Labelled, SampleSplit};
use flatmin_models::{Activation, Dataset, Loss, Mlp, Model as _};
use flatmin_optim::{Method, Observation, Outcome, Sampling, StoppingRule, TrainOptions};
use flatmin_theory::{Batch, Minimum, Optimizer, OutputHessians, ThresholdOptions, threshold_with};
use serde::{Deserialize, Serialize};

use super::error::CellError;
use super::linearised::LinearisedPoint;
use super::streams;
use super::training::{Checkpoint, MeasuredRun, TrainingProblem, checkpoints, train_measured};

/// The digits 0 to 4 are the classes.
const CLASSES: u8 = 5;

/// The classification of the digits 0 to 4 by a perceptron with one hidden layer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassProblem {
    /// Activation of the hidden layer.
    pub activation: Activation,
    /// Neurons of the hidden layer.
    pub width: usize,
    /// Number n of training inputs.
    pub sample_count: usize,
    /// The part of the labels that goes to all classes alike.
    pub label_smoothing: f64,
}

impl ClassProblem {
    pub(super) fn model(&self, data: &Dataset) -> Result<Mlp, CellError> {
        let widths = [data.inputs().columns(), self.width, data.output_dim()];
        Ok(Mlp::new(&widths, self.activation, true)?)
    }

    /// The training data, scaled as the digits are.
    pub(super) fn dataset(&self, seed: u64) -> Result<Dataset, CellError> {
        let all = digits()?.samples();
        let labels = all.labels().iter().enumerate();
        let chosen: Vec<usize> =
            labels.filter_map(|(i, label)| (*label < CLASSES).then_some(i)).collect();
        let mut rng = stream(seed, streams::CLASS_SPLIT, 0);
        let split = SampleSplit::draw(chosen.len(), self.sample_count, 0, &mut rng)?;
        let training: Vec<usize> = split.training.iter().map(|i| chosen[*i]).collect();
        let samples = all.select(&training);
        let (inputs, labels) = (samples.inputs().clone(), samples.labels().to_vec());
        let samples = Labelled::new(inputs, labels, usize::from(CLASSES))?;
        let data = samples.dataset(ClassTargets::OneHot, &InputScaling::new(samples.inputs())?)?;
        Ok(data.with_loss(Loss::cross_entropy(self.label_smoothing)?)?)
    }

    pub(super) fn initial(model: &Mlp, seed: u64) -> Vec<f64> {
        model.initial_parameters(&mut stream(seed, streams::CLASS_INITIAL, 0))
    }
}

/// The complete description of one training run with cross-entropy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassSpec {
    /// The problem.
    pub problem: ClassProblem,
    /// Samples per step, drawn without replacement.
    pub batch_size: usize,
    /// The learning rate η, constant.
    pub learning_rate: f64,
    /// Gradient-norm clipping.
    pub clip_norm: f64,
    /// Largest number of steps.
    pub max_steps: u64,
    /// Log-spaced checkpoints a decade; none but the end when zero.
    pub checkpoints_per_decade: u32,
    /// Seed of the data, the start and the batches.
    pub seed: u64,
}

/// Everything measured at one point of a run with cross-entropy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassMeasurement {
    /// Steps done.
    pub step: u64,
    /// The training loss less its least value, the entropy of the smoothed labels.
    pub excess_loss: f64,
    /// Trace of the Gauss–Newton matrix `(1/n) Σ J_iᵀS_iJ_i`.
    pub trace: f64,
    /// Its largest eigenvalue.
    pub lambda_max: f64,
    /// The exact threshold η* of the SGD that trains, to 1e-4; absent where infinite.
    pub threshold: Option<f64>,
    /// The share of training samples that are classified right.
    pub accuracy: f64,
}

impl Checkpoint for ClassMeasurement {
    fn step(&self) -> u64 {
        self.step
    }

    fn is_finite(&self) -> bool {
        [self.excess_loss, self.trace, self.lambda_max].into_iter().all(f64::is_finite)
    }
}

/// A finished run with cross-entropy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassResult {
    /// The outcome of training.
    pub outcome: Outcome,
    /// Steps done.
    pub steps: u64,
    /// Checkpoints before the end, where the specification asks for them.
    pub path: Vec<ClassMeasurement>,
    /// The end; absent when the run diverged.
    pub last: Option<ClassMeasurement>,
}

impl ClassSpec {
    pub(super) fn method(&self) -> Method {
        Method::Sgd { batch_size: self.batch_size, sampling: Sampling::WithoutReplacement }
    }

    /// The settings of the run. The loss at which it stops is one above the least.
    pub(super) fn options(&self) -> TrainOptions {
        TrainOptions {
            clip_norm: self.clip_norm,
            stopping: StoppingRule { loss: 1e-10, screening_loss: 1e-7, checks: 20 },
            checkpoints: checkpoints(self.checkpoints_per_decade, self.max_steps),
            ..TrainOptions::new(self.method(), self.learning_rate, self.max_steps)
        }
    }

    pub(super) fn run(&self) -> Result<ClassResult, CellError> {
        let data = self.problem.dataset(self.seed)?;
        let model = self.problem.model(&data)?;
        let initial = ClassProblem::initial(&model, self.seed);
        let problem = TrainingProblem { model, data, initial };
        let (model, data) = (&problem.model, &problem.data);
        let measure = |point: &LinearisedPoint, seen: Observation<'_>| {
            let minimum = weighted_minimum(point, model, seen.parameters, data)?;
            let batch = Batch::new(self.batch_size, Sampling::WithoutReplacement)?;
            let options = ThresholdOptions { relative_width: 1e-4, ..ThresholdOptions::default() };
            let threshold = threshold_with(&minimum, &Optimizer::sgd(), &batch, &options)?;
            let sharpness = minimum.sharpness();
            Ok(ClassMeasurement {
                step: seen.step,
                excess_loss: data.excess_loss(model, seen.parameters),
                trace: sharpness.trace,
                lambda_max: sharpness.lambda_max,
                threshold: Some(threshold.midpoint()).filter(|value| value.is_finite()),
                accuracy: data.accuracy(model, seen.parameters),
            })
        };
        let MeasuredRun { run, path, end } =
            train_measured(&problem, &self.options(), self.seed, measure)?;
        let last = end.map(|(last, _)| last);
        Ok(ClassResult { outcome: run.outcome, steps: run.steps, path, last })
    }

    pub(super) fn label(&self) -> String {
        let Self { problem, batch_size, learning_rate, seed, .. } = self;
        let ClassProblem { activation, label_smoothing, .. } = problem;
        format!(
            "cross-entropy {activation} smoothing={label_smoothing} SGD B={batch_size} \
             η={learning_rate:.3e} seed {seed}"
        )
    }
}

/// The softmax Hessians of the loss at the outputs of a model.
pub(super) fn output_hessians(
    model: &Mlp,
    parameters: &[f64],
    inputs: &RowMatrix,
) -> Result<OutputHessians, CellError> {
    let outputs = model.outputs(parameters, inputs);
    let k = model.output_dim();
    Ok(OutputHessians::softmax(&RowMatrix::from_fn(inputs.rows(), k, |i, a| outputs[i * k + a]))?)
}

/// The minimum of cross-entropy with the rows `R_iᵀJ_i` (S17).
fn weighted_minimum(
    point: &LinearisedPoint,
    model: &Mlp,
    parameters: &[f64],
    data: &Dataset,
) -> Result<Minimum, CellError> {
    point.weighted_minimum(&output_hessians(model, parameters, data.inputs())?)
}
