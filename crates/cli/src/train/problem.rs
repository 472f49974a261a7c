//! A training run with everything in memory, checked.

use std::path::Path;

use clap::ValueEnum as _;
use flatmin_linalg::{Stream, stream};
use flatmin_models::Dataset;
use flatmin_optim::{
    BatchOrder, Method, Sampling, StoppingRule, TrainOptions, Trainer, log_spaced_steps,
};
use flatmin_theory::{Batch, Optimizer};
use serde::{Deserialize, Serialize};

use crate::column::Column;
use crate::config::{BatchesConfig, Config, InitialConfig, MetricSteps};
use crate::data::{self, Data};
use crate::failure::Failure;
use crate::limits::{check_matrix, samples_and_matrix};
use crate::network::Network;

/// Most rows of a metrics table.
const MAX_ROWS: u64 = 10_000_000;

/// The BLAKE3 hashes of everything that decides the result of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Digests {
    config: String,
    data: String,
    test_data: Option<String>,
    initial: String,
    order: Option<String>,
}

impl Digests {
    fn new(
        config: &Config,
        data: &Data,
        initial: &[f64],
        order: Option<&BatchOrder>,
    ) -> serde_json::Result<Self> {
        Ok(Self {
            config: blake3::hash(&serde_json::to_vec(config)?).to_hex().to_string(),
            data: dataset_digest(&data.train),
            test_data: data.test.as_ref().map(dataset_digest),
            initial: digest(&[initial.len()], initial.iter().map(|value| value.to_le_bytes())),
            order: order.map(order_digest),
        })
    }

    /// The first difference from another run, in words.
    pub(super) fn difference(&self, other: &Self) -> Option<&'static str> {
        let Self { config, data, test_data, initial, order } = self;
        [
            (*data != other.data, "other training data"),
            (*test_data != other.test_data, "other test data"),
            (*order != other.order, "another order"),
            (*config != other.config, "another configuration"),
            (*initial != other.initial, "other initial parameters"),
        ]
        .into_iter()
        .find_map(|(differs, what)| differs.then_some(what))
    }
}

/// A run that can be started, without its model.
pub(super) struct Problem {
    pub(super) data: Data,
    pub(super) initial: Vec<f64>,
    pub(super) order: Option<BatchOrder>,
    pub(super) options: TrainOptions,
    pub(super) columns: Vec<Column>,
    /// The optimizer and its batches, for thresholds; `None` if there is no threshold for them.
    pub(super) threshold: Option<(Optimizer, Batch)>,
    pub(super) digests: Digests,
    seed: u64,
}

impl Problem {
    /// Loads what the configuration names, and checks that all of it fits together.
    pub(super) fn load(
        path: &Path,
        config: &Config,
        data: Data,
        network: &dyn Network,
    ) -> Result<Self, Failure> {
        let fail = Failure::at::<String>(path);
        let n = data.train.sample_count();
        let order = config.order.as_ref().map(|file| data::order(file, n)).transpose()?;
        let (method, max_steps) = method(config, order.as_ref(), n).map_err(&fail)?;
        check_sizes(path, method, n, network)?;
        let initial = match &config.initial {
            InitialConfig::File(file) => data::parameters(file, network)?,
            InitialConfig::Gaussian => network.random_start(config.seed(), None),
            InitialConfig::Unbalanced { balance_ratio } => {
                network.random_start(config.seed(), Some(*balance_ratio))
            }
        };
        let optimizer = config.optimizer.optimizer;
        let (batch_size, sampling) = match method {
            Method::GradientDescent => (n, Sampling::WithoutReplacement),
            Method::Sgd { batch_size, sampling } => (batch_size, sampling),
        };
        let independent = order.is_none() && sampling != Sampling::Reshuffling;
        let batch = Batch::new(batch_size, sampling).ok().filter(|_| independent);
        let columns = columns(config, data.test.is_some());
        check_columns(&columns, n, data.train.output_dim()).map_err(&fail)?;
        let options = TrainOptions {
            method,
            optimizer,
            learning_rate: config.optimizer.learning_rate,
            schedule: config.optimizer.schedule,
            clip_norm: config.optimizer.clip_norm,
            max_steps,
            precision: config.optimizer.precision,
            stopping: config.stopping.unwrap_or_else(StoppingRule::never),
            checkpoints: measured_steps(config.metrics.steps, max_steps).map_err(&fail)?,
        };
        let digests = Digests::new(config, &data, &initial, order.as_ref());
        Ok(Self {
            digests: digests.map_err(Failure::at(path))?,
            data,
            initial,
            order,
            options,
            columns,
            threshold: batch.map(|batch| (optimizer, batch)),
            seed: config.seed(),
        })
    }

    /// The run at its start.
    pub(super) fn start<'a>(
        &'a self,
        path: &Path,
        network: &'a (dyn Network + 'static),
    ) -> Result<Trainer<'a, dyn Network, Stream>, Failure> {
        let Self { data, initial, order, options, seed, .. } = self;
        let trainer = if let Some(order) = order {
            Trainer::replay(network, &data.train, initial, options, order)
        } else {
            let rng = stream(*seed, "batches", 0);
            Trainer::new(network, &data.train, initial, options, rng)
        };
        trainer.map_err(Failure::at(path))
    }
}

/// The method and the number of steps, for n samples; the reason if they do not fit.
fn method(config: &Config, order: Option<&BatchOrder>, n: usize) -> Result<(Method, u64), String> {
    match config.optimizer.batches {
        BatchesConfig::All { max_steps } => Ok((Method::GradientDescent, max_steps)),
        BatchesConfig::Drawn { batch_size, sampling, .. }
            if batch_size > n && sampling != Sampling::WithReplacement =>
        {
            Err(format!(
                "batch_size is {batch_size}, but there are {n} samples; a larger batch needs \
                 sampling = \"with-replacement\""
            ))
        }
        BatchesConfig::Drawn { batch_size, sampling, max_steps } => {
            Ok((Method::Sgd { batch_size, sampling }, max_steps))
        }
        BatchesConfig::Order => {
            let batch_size = order.map_or(1, BatchOrder::batch_size);
            let sampling = Sampling::WithoutReplacement;
            Ok((Method::Sgd { batch_size, sampling }, order.map_or(0, BatchOrder::steps)))
        }
    }
}

/// Checks that the matrices of a step fit into memory.
fn check_sizes(
    path: &Path,
    method: Method,
    n: usize,
    network: &dyn Network,
) -> Result<(), Failure> {
    let batch_size = match method {
        Method::GradientDescent => ("samples", n),
        Method::Sgd { batch_size, .. } => ("batch_size", batch_size),
    };
    let inputs = [batch_size, ("input_dim", network.input_dim())];
    for [rows, columns] in network.matrices(("samples", n), batch_size).into_iter().chain([inputs])
    {
        check_matrix(path, rows, columns)?;
    }
    Ok(())
}

/// The steps after which metrics are measured, ascending; the reason if there are too many.
fn measured_steps(steps: MetricSteps, max_steps: u64) -> Result<Vec<u64>, String> {
    let mut steps: Vec<u64> = match steps {
        MetricSteps::PerDecade(per_decade) => log_spaced_steps(per_decade, max_steps),
        MetricSteps::Every(every) if max_steps / every > MAX_ROWS => {
            return Err(format!(
                "every = {every} in [metrics] makes more than {MAX_ROWS} rows of {max_steps} steps; \
                 raise it"
            ));
        }
        MetricSteps::Every(every) => {
            (0..=max_steps / every).map(|k| k * every).chain([max_steps]).collect()
        }
    };
    steps.dedup();
    Ok(steps)
}

/// The columns that the configuration lists, or all that the model and the data have except
/// thresholds.
fn columns(config: &Config, has_test: bool) -> Vec<Column> {
    let kind = config.model.kind();
    let exists = |column: &Column| match column {
        Column::TestLoss => has_test,
        Column::TestAccuracy if !has_test => false,
        column if !config.loss.has(*column) => false,
        column => !column.is_threshold() && column.model_kind().is_none_or(|only| only == kind),
    };
    let all = || Column::value_variants().iter().copied().filter(exists).collect();
    config.metrics.columns.clone().unwrap_or_else(all)
}

/// Checks that the columns can be measured for n samples with k outputs; the reason if not, with
/// all columns that cannot.
fn check_columns(columns: &[Column], n: usize, k: usize) -> Result<(), String> {
    let size = n.saturating_mul(k);
    let too_large = |column: &&Column| column.size_limit().is_some_and(|limit| size > limit);
    let refused: Vec<&Column> = columns.iter().filter(too_large).collect();
    let Some(limit) = refused.iter().filter_map(|column| column.size_limit()).max() else {
        return Ok(());
    };
    let names: Vec<String> = refused.iter().map(|column| column.name()).collect();
    let (samples, matrix) = samples_and_matrix(n, k);
    let (need, them) = if names.len() == 1 { ("needs", "it") } else { ("need", "them") };
    Err(format!(
        "{} {need} all of an {matrix} matrix, which is too large for {samples} (at most {limit}); leave \
         {them} out of columns in [metrics]",
        names.join(", ")
    ))
}

fn dataset_digest(data: &Dataset) -> String {
    let inputs = data.inputs();
    let values = inputs.values().iter().chain(data.targets()).map(|value| value.to_le_bytes());
    digest(&[inputs.rows(), inputs.columns(), data.output_dim()], values)
}

fn order_digest(order: &BatchOrder) -> String {
    let indices = order.indices().iter().map(|index| u64::from(*index).to_le_bytes());
    match order.ends() {
        // The indices of full batches as they are stored, in 32 bits.
        None => digest(&[order.batch_size()], order.indices().iter().map(|i| i.to_le_bytes())),
        Some(ends) => {
            let ends_bytes = ends.iter().map(|end| (*end as u64).to_le_bytes());
            digest(&[order.batch_size(), ends.len()], ends_bytes.chain(indices))
        }
    }
}

/// The BLAKE3 hash of a shape and of numbers, in little-endian order.
fn digest<const N: usize>(shape: &[usize], numbers: impl Iterator<Item = [u8; N]>) -> String {
    let mut hasher = blake3::Hasher::new();
    for length in shape {
        hasher.update(&(*length as u64).to_le_bytes());
    }
    for bytes in numbers {
        hasher.update(&bytes);
    }
    hasher.finalize().to_hex().to_string()
}
