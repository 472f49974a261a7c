//! Minima of reshuffled epochs, with and without a short last batch (S21).

use flatmin_linalg::stream;
use flatmin_models::data::{self, Split};
use flatmin_models::{Dataset, Model as _, TwoLayerRelu};
use flatmin_optim::{
    BatchOrder, Method, Observation, Outcome, Sampling, StoppingRule, TrainOptions, Trainer,
};
use flatmin_theory::{
    Batch, EpochEdge, EpochOptions, ExactEdges, Minimum, Optimizer, epoch_edge, threshold,
};
use rand::seq::SliceRandom as _;
use rand_distr::{Distribution as _, StandardNormal};
use serde::{Deserialize, Serialize};

use super::error::CellError;
use super::linearised::LinearisedPoint;
use super::problem::ReluProblem;
use super::streams;
use super::training::{Checkpoint, MeasuredRun, TrainingProblem, train_measured};

/// The standard deviation of a parameter after the push that starts a trial.
const PUSH: f64 = 1e-7;

/// The complete description of one training run with independent or reshuffled batches.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EpochSpec {
    /// The problem.
    pub problem: ReluProblem,
    /// Samples per step. A short last batch of an epoch is dropped.
    pub batch_size: usize,
    /// How they are drawn.
    pub sampling: Sampling,
    /// The learning rate η, constant.
    pub learning_rate: f64,
    /// Gradient-norm clipping.
    pub clip_norm: f64,
    /// Largest number of steps.
    pub max_steps: u64,
    /// Random orders by which the edge of reshuffled epochs at the end is estimated; none when
    /// zero.
    pub edge_orders: usize,
    /// Trials with and without a short last batch at the end.
    pub short_batch: Option<ShortBatch>,
    /// Seed of the teacher, the data, the start and the batches.
    pub seed: u64,
}

/// Trials whose epochs end with a short batch, or drop it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ShortBatch {
    /// Samples of a full batch.
    pub batch_size: usize,
    /// The learning rate of the trials is this times η*(B).
    pub factor: f64,
    /// Number of trials.
    pub trials: usize,
    /// Epochs of a trial.
    pub epochs: usize,
}

/// The edge of reshuffled epochs, as stored.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StoredEpochEdge {
    /// The edge.
    pub estimate: f64,
    /// The lower end of its 95 % interval; the edge where it is exact.
    pub lower: f64,
    /// The upper end.
    pub upper: f64,
}

impl From<EpochEdge> for StoredEpochEdge {
    fn from(EpochEdge { lower, upper, estimate, .. }: EpochEdge) -> Self {
        Self { estimate, lower, upper }
    }
}

/// The measurements at the end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EpochMeasurement {
    /// Steps done.
    pub step: u64,
    /// Training loss `(1/2n) Σ r_i²`.
    pub train_loss: f64,
    /// tr G.
    pub trace: f64,
    /// The largest eigenvalue of G.
    pub lambda_max: f64,
    /// The exact threshold η*(B) of independent batches without replacement, to 1e-6.
    pub threshold: f64,
}

impl Checkpoint for EpochMeasurement {
    fn step(&self) -> u64 {
        self.step
    }

    fn is_finite(&self) -> bool {
        [self.train_loss, self.trace, self.lambda_max].into_iter().all(f64::is_finite)
    }
}

/// What a short last batch does at one minimum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShortBatchResult {
    /// η*(B) of independent batches.
    pub threshold: f64,
    /// The edge of epochs with the short batch.
    pub edge: StoredEpochEdge,
    /// The edge of epochs that drop it.
    pub edge_without: StoredEpochEdge,
    /// The distance from the minimum at the end of each trial over that at its start, with the
    /// short batch.
    pub departures: Vec<f64>,
    /// The same without it.
    pub departures_without: Vec<f64>,
}

/// A finished run with independent or reshuffled batches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochResult {
    /// The outcome of training.
    pub outcome: Outcome,
    /// Steps done.
    pub steps: u64,
    /// The end; absent when the run diverged.
    pub last: Option<EpochMeasurement>,
    /// The edge of reshuffled epochs at the end, where it is asked for.
    pub edge: Option<StoredEpochEdge>,
    /// The trials with a short last batch, where they are asked for.
    pub short_batch: Option<ShortBatchResult>,
}

fn independent_threshold(minimum: &Minimum, batch_size: usize) -> Result<f64, CellError> {
    let batch = Batch::new(batch_size, Sampling::WithoutReplacement)?;
    Ok(threshold(minimum, &Optimizer::sgd(), &batch)?.midpoint())
}

fn edge(minimum: &Minimum, batch: &Batch, orders: usize) -> Result<StoredEpochEdge, CellError> {
    let exact = ExactEdges::WhereQuick;
    let options = EpochOptions { max_orders: orders, exact, ..EpochOptions::default() };
    Ok(epoch_edge(minimum, &Optimizer::sgd(), batch, &options)?.into())
}

impl EpochSpec {
    fn method(&self) -> Method {
        Method::Sgd { batch_size: self.batch_size, sampling: self.sampling }
    }

    pub(super) fn run(&self) -> Result<EpochResult, CellError> {
        let ReluProblem { teacher_width, width, input_dim, sample_count, .. } = self.problem;
        let model = TwoLayerRelu::new(width, input_dim)?;
        let split = Split::Training;
        let data = data::relu_dataset(teacher_width, input_dim, sample_count, split, self.seed)?;
        let initial = model.initial_parameters(&mut stream(self.seed, streams::RELU_INITIAL, 0));
        let options = TrainOptions {
            clip_norm: self.clip_norm,
            ..TrainOptions::new(self.method(), self.learning_rate, self.max_steps)
        };
        let problem = TrainingProblem { model, data, initial };
        let measure = |point: &LinearisedPoint, seen: Observation<'_>| {
            let curvature = point.curvature(&model, seen.parameters, &problem.data)?;
            Ok(EpochMeasurement {
                step: seen.step,
                train_loss: curvature.loss,
                trace: curvature.sharpness.trace,
                lambda_max: curvature.sharpness.lambda_max,
                threshold: independent_threshold(point.minimum()?, self.batch_size)?,
            })
        };
        let MeasuredRun { run, end, .. } = train_measured(&problem, &options, self.seed, measure)?;
        let (outcome, steps) = (run.outcome, run.steps);
        let Some((last, point)) = end else {
            return Ok(EpochResult { outcome, steps, last: None, edge: None, short_batch: None });
        };
        let batch = Batch::new(self.batch_size, Sampling::Reshuffling)?.dropping_last();
        let edge = match self.edge_orders {
            0 => None,
            orders => Some(edge(point.minimum()?, &batch, orders)?),
        };
        let short_batch = match self.short_batch {
            Some(trials) => {
                let seed = self.seed;
                let inputs = problem.data.inputs().clone();
                let targets = model.outputs(&run.parameters, &inputs);
                let data = Dataset::new(inputs, targets)?;
                let (minimum, at) = (point.minimum()?, &run.parameters);
                Some(trials.run(&Trials { model, data: &data, at, seed }, minimum)?)
            }
            None => None,
        };
        Ok(EpochResult { outcome, steps, last: Some(last), edge, short_batch })
    }

    pub(super) fn label(&self) -> String {
        let Self { batch_size, sampling, learning_rate, seed, .. } = self;
        let trials = if self.short_batch.is_some() { " short batch" } else { "" };
        format!("epochs B={batch_size} {sampling} η={learning_rate:.3e}{trials} seed {seed}")
    }
}

/// A network at an exact minimum of its data.
struct Trials<'a> {
    model: TwoLayerRelu,
    data: &'a Dataset,
    at: &'a [f64],
    seed: u64,
}

impl ShortBatch {
    fn run(self, trials: &Trials<'_>, minimum: &Minimum) -> Result<ShortBatchResult, CellError> {
        const ORDERS: usize = 64;
        let threshold = independent_threshold(minimum, self.batch_size)?;
        let epochs = Batch::new(self.batch_size, Sampling::Reshuffling)?;
        let departures = |drops_last: bool| -> Result<Vec<f64>, CellError> {
            (0..self.trials)
                .map(|trial| self.departure(trials, self.factor * threshold, drops_last, trial))
                .collect()
        };
        Ok(ShortBatchResult {
            threshold,
            edge: edge(minimum, &epochs, ORDERS)?,
            edge_without: edge(minimum, &epochs.dropping_last(), ORDERS)?,
            departures: departures(false)?,
            departures_without: departures(true)?,
        })
    }

    /// The distance from the minimum after a trial over that after the push.
    fn departure(
        self,
        trials: &Trials<'_>,
        learning_rate: f64,
        drops_last: bool,
        trial: usize,
    ) -> Result<f64, CellError> {
        let &Trials { model, data, at, seed } = trials;
        let n = data.sample_count();
        let mut rng = stream(seed, streams::PUSHES, trial as u64);
        let mut pushed = |value: &f64| {
            let step: f64 = StandardNormal.sample(&mut rng);
            value + PUSH * step
        };
        let start: Vec<f64> = at.iter().map(&mut pushed).collect();
        let batch = Batch::new(self.batch_size, Sampling::Reshuffling)?;
        let batch = if drops_last { batch.dropping_last() } else { batch };
        let epoch: Vec<usize> = batch.epoch_sizes(n).collect();
        let mut rng = stream(seed, streams::PUSHED_BATCHES, trial as u64);
        let (mut indices, mut sizes) = (Vec::new(), Vec::new());
        let mut order: Vec<u32> = (0..).take(n).collect();
        for _ in 0..self.epochs {
            order.shuffle(&mut rng);
            indices.extend_from_slice(&order[..epoch.iter().sum()]);
            sizes.extend_from_slice(&epoch);
        }
        let steps = sizes.len() as u64;
        let order = BatchOrder::ragged(indices, &sizes, n)?;
        let method = Method::Sgd { batch_size: self.batch_size, sampling: Sampling::Reshuffling };
        let options = TrainOptions {
            stopping: StoppingRule::never(),
            ..TrainOptions::new(method, learning_rate, steps)
        };
        let run = Trainer::replay(&model, data, &start, &options, &order)?.run(|_| {});
        let distance = |parameters: &[f64]| {
            let squares = parameters.iter().zip(at).map(|(value, at)| (value - at).powi(2));
            squares.sum::<f64>().sqrt()
        };
        // A run that diverged is further away than any number.
        let ratio = distance(&run.parameters) / distance(&start);
        Ok(if ratio.is_finite() { ratio } else { f64::MAX })
    }
}
