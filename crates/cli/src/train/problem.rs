//! A training run with everything in memory, checked.

use std::path::Path;

use flatmin_arrays::MAX_VALUES;
use flatmin_linalg::{Stream, stream};
use flatmin_models::data::{self, Split};
use flatmin_models::{Dataset, Model as _};
use flatmin_optim::{
    BatchOrder, Method, Optimizer, Sampling, StoppingRule, TrainOptions, Trainer, log_spaced_steps,
};
use flatmin_theory::Batch;
use serde::{Deserialize, Serialize};

use super::measure::Column;
use crate::config::{
    AnyModel, BatchesConfig, Config, DataConfig, InitialConfig, MetricSteps, Teacher,
};
use crate::failure::Failure;
use crate::labelled;
use crate::load::{self, MOST_SAMPLES};
use crate::network::Network;

/// Most rows of a metrics table.
const MOST_ROWS: u64 = 10_000_000;

/// BLAKE3 of everything that decides the result of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Digests {
    config: String,
    data: String,
    test_data: Option<String>,
    initial: String,
    order: Option<String>,
}

impl Digests {
    /// What differs, in words.
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

/// Training and test data.
pub(crate) struct Data {
    pub(crate) train: Dataset,
    pub(crate) test: Option<Dataset>,
}

/// A run that can be started, but for its model.
pub(super) struct Problem {
    pub(super) data: Data,
    pub(super) initial: Vec<f64>,
    pub(super) order: Option<BatchOrder>,
    pub(super) options: TrainOptions,
    pub(super) columns: Vec<Column>,
    /// The batches as theory knows them, where it does.
    pub(super) batch: Option<Batch>,
    pub(super) digests: Digests,
    seed: u64,
}

/// The data and the model of a configuration.
pub(crate) fn data_and_model(path: &Path, config: &Config) -> Result<(Data, AnyModel), Failure> {
    let said = config.model.input_dim();
    let data = match &config.data {
        DataConfig::File(file) => {
            let train = load::dataset(file)?;
            let (dim, outputs) = (train.inputs().columns(), train.output_dim());
            let checked = config.model.check_dimensions(dim, outputs);
            checked.map_err(|reason| Failure::input(file, reason))?;
            let test = match &config.test_data {
                Some(file) => {
                    let test = load::dataset(file)?;
                    let columns = test.inputs().columns();
                    if columns != dim {
                        let reason =
                            format!("x has {columns} columns, the training data has {dim}");
                        return Err(Failure::input(file, reason));
                    }
                    let columns = test.output_dim();
                    if columns != outputs {
                        let reason =
                            format!("y has {columns} columns, the training data has {outputs}");
                        return Err(Failure::input(file, reason));
                    }
                    Some(test)
                }
                None => None,
            };
            Data { train, test }
        }
        DataConfig::Synthetic { teacher, sample_count, test_count } => {
            let dim = said.unwrap_or(1);
            check_product(path, ("sample_count", *sample_count), ("input_dim", dim))?;
            check_product(path, ("test_count", *test_count), ("input_dim", dim))?;
            if let Teacher::TwoLayerRelu { width } = *teacher {
                check_product(path, ("teacher_width", width), ("input_dim", dim))?;
                check_product(path, ("teacher_width", width), ("sample_count", *sample_count))?;
                check_product(path, ("teacher_width", width), ("test_count", *test_count))?;
            }
            let seed = config.seed.unwrap_or(0);
            let make = |count, split| {
                let data = match *teacher {
                    Teacher::TwoLayerRelu { width } => {
                        data::relu_dataset(width, dim, count, split, seed)
                    }
                    Teacher::SparseLinear { nonzero } => {
                        data::sparse_linear_dataset(nonzero, dim, count, split, seed)
                    }
                };
                data.map_err(|error| Failure::input(path, error.to_string()))
            };
            let test = if *test_count > 0 { Some(make(*test_count, Split::Test)?) } else { None };
            Data { train: make(*sample_count, Split::Training)?, test }
        }
        DataConfig::Labelled(labelled) => {
            let (train, test) = labelled::datasets(path, labelled, config.seed.unwrap_or(0))?;
            let dim = train.inputs().columns();
            if let Some(said) = said.filter(|said| *said != dim) {
                let reason =
                    format!("input_dim in [model] is {said}, but the images have {dim} values");
                return Err(Failure::input(path, reason));
            }
            let checked = config.model.check_dimensions(dim, train.output_dim());
            checked.map_err(|reason| Failure::input(path, reason))?;
            Data { train, test }
        }
    };
    let model = config.model.sized(data.train.inputs().columns(), data.train.output_dim());
    Ok((data, model.map_err(|error| Failure::input(path, error.to_string()))?))
}

/// That a matrix of these sizes can be held.
fn check_product(path: &Path, a: (&str, usize), b: (&str, usize)) -> Result<(), Failure> {
    if a.1.checked_mul(b.1).is_some_and(|count| count <= MAX_VALUES) {
        return Ok(());
    }
    let reason = format!(
        "a matrix of {} × {} = {} × {} numbers is too large (at most {MAX_VALUES} numbers)",
        a.0, b.0, a.1, b.1
    );
    Err(Failure::input(path, reason))
}

/// That the matrices of a step can be held.
fn check_sizes(path: &Path, method: Method, n: usize, model: &AnyModel) -> Result<(), Failure> {
    let batch_size = match method {
        Method::GradientDescent => ("samples", n),
        Method::Sgd { batch_size, .. } => ("batch_size", batch_size),
    };
    let dim = match model {
        AnyModel::Relu(network) => {
            let (width, dim) = (network.width(), network.input_dim());
            check_product(path, ("width", width), ("input_dim", dim))?;
            check_product(path, ("samples", n), ("width", width))?;
            check_product(path, batch_size, ("width", width))?;
            dim
        }
        AnyModel::Diagonal(network) => network.input_dim(),
        AnyModel::Perceptron(network) => {
            for pair in network.widths().windows(2) {
                check_product(path, ("a width", pair[1]), ("the one before it", pair[0]))?;
            }
            network.input_dim()
        }
    };
    check_product(path, batch_size, ("input_dim", dim))
}

impl Problem {
    /// Loads the rest and checks that all of it fits together.
    pub(super) fn load(
        path: &Path,
        config: &Config,
        data: Data,
        model: &AnyModel,
    ) -> Result<Self, Failure> {
        let fail = |reason: String| Failure::input(path, reason);
        let n = data.train.sample_count();
        let order = match &config.order {
            Some(file) => Some(load::order(file, n)?),
            None => None,
        };
        let (method, max_steps) = match (&config.optimizer.batches, &order) {
            (BatchesConfig::All { max_steps }, _) => (Method::GradientDescent, *max_steps),
            (BatchesConfig::Drawn { batch_size, sampling, max_steps }, _) => {
                let (batch_size, sampling) = (*batch_size, *sampling);
                if batch_size > n && sampling != Sampling::WithReplacement {
                    let reason = format!(
                        "batch_size is {batch_size}, but there are {n} samples; more of them in a \
                         batch takes sampling = \"with-replacement\""
                    );
                    return Err(fail(reason));
                }
                (Method::Sgd { batch_size, sampling }, *max_steps)
            }
            (BatchesConfig::Order, order) => {
                let order = order.as_ref();
                let batch_size = order.map_or(1, BatchOrder::batch_size);
                let sampling = Sampling::WithoutReplacement;
                (Method::Sgd { batch_size, sampling }, order.map_or(0, BatchOrder::steps))
            }
        };
        check_sizes(path, method, n, model)?;
        let initial = match model {
            AnyModel::Relu(network) => initial(config, network)?,
            AnyModel::Diagonal(network) => match config.initial {
                InitialConfig::Unbalanced { balance_ratio } => {
                    let mut rng =
                        stream(config.seed.unwrap_or(0), "diagonal initial parameters", 0);
                    network.unbalanced_parameters(balance_ratio, &mut rng)
                }
                _ => initial(config, network)?,
            },
            AnyModel::Perceptron(network) => initial(config, network)?,
        };
        let batch = match method {
            _ if order.is_some() => None,
            Method::GradientDescent => theory_batch(n, Sampling::WithoutReplacement),
            Method::Sgd { batch_size, sampling } => theory_batch(batch_size, sampling),
        };
        let columns = columns(config, data.test.is_some());
        check_columns(&columns, n, data.train.output_dim()).map_err(fail)?;
        let checkpoints = match config.metrics.steps {
            MetricSteps::PerDecade(per_decade) => log_spaced_steps(per_decade, max_steps),
            MetricSteps::Every(every) if max_steps / every > MOST_ROWS => {
                let reason = format!(
                    "every = {every} in [metrics] makes more than {MOST_ROWS} rows of {max_steps} \
                     steps; raise it"
                );
                return Err(fail(reason));
            }
            MetricSteps::Every(every) => {
                (0..=max_steps / every).map(|k| k * every).chain([max_steps]).collect()
            }
        };
        let mut checkpoints = checkpoints;
        checkpoints.dedup();
        let options = TrainOptions {
            method,
            optimizer: Optimizer::sgd(),
            learning_rate: config.optimizer.learning_rate,
            schedule: config.optimizer.schedule,
            clip_norm: config.optimizer.clip_norm,
            max_steps,
            precision: config.optimizer.precision,
            stopping: config.stopping.unwrap_or_else(StoppingRule::never),
            checkpoints,
        };
        let digests = Digests {
            config: config_digest(config).map_err(|error| fail(error.to_string()))?,
            data: dataset_digest(&data.train),
            test_data: data.test.as_ref().map(dataset_digest),
            initial: digest(&[initial.len()], &initial),
            order: order.as_ref().map(|order| {
                let mut hasher = blake3::Hasher::new();
                hasher.update(&(order.batch_size() as u64).to_le_bytes());
                order.indices().iter().for_each(|index| {
                    hasher.update(&index.to_le_bytes());
                });
                hasher.finalize().to_hex().to_string()
            }),
        };
        let seed = config.seed.unwrap_or(0);
        Ok(Self { data, initial, order, options, columns, batch, digests, seed })
    }

    /// The run, at its start.
    pub(super) fn start<'a, N: Network>(
        &'a self,
        path: &Path,
        network: &'a N,
    ) -> Result<Trainer<'a, N, Stream>, Failure> {
        let Self { data, initial, order, options, seed, .. } = self;
        let trainer = if let Some(order) = order {
            Trainer::replay(network, &data.train, initial, options, order)
        } else {
            let rng = stream(*seed, "batches", 0);
            Trainer::new(network, &data.train, initial, options, rng)
        };
        trainer.map_err(|error| Failure::input(path, error.to_string()))
    }
}

/// Initial parameters from a file or Gaussian.
fn initial<N: Network + Gaussian>(config: &Config, network: &N) -> Result<Vec<f64>, Failure> {
    match &config.initial {
        InitialConfig::File(file) => load::parameters(file, network),
        _ => Ok(network.gaussian(config.seed.unwrap_or(0))),
    }
}

/// A model with random initial parameters; those that are in the experiments too are the same there for
/// the same seed.
trait Gaussian {
    fn gaussian(&self, seed: u64) -> Vec<f64>;
}

impl Gaussian for flatmin_models::TwoLayerRelu {
    fn gaussian(&self, seed: u64) -> Vec<f64> {
        self.initial_parameters(&mut stream(seed, "relu initial parameters", 0))
    }
}

impl Gaussian for flatmin_models::DiagonalLinear {
    fn gaussian(&self, seed: u64) -> Vec<f64> {
        self.initial_parameters(&mut stream(seed, "diagonal initial parameters", 0))
    }
}

impl Gaussian for flatmin_models::Mlp {
    fn gaussian(&self, seed: u64) -> Vec<f64> {
        self.initial_parameters(&mut stream(seed, "perceptron initial parameters", 0))
    }
}

/// The columns that were asked for, or all that there are but the thresholds.
fn columns(config: &Config, has_test: bool) -> Vec<Column> {
    let kind = config.model.kind();
    let is_there = |column: &Column| match column {
        Column::TestLoss => has_test,
        column => !column.is_threshold() && column.of_kind().is_none_or(|of_kind| of_kind == kind),
    };
    let all = || Column::ALL.iter().map(|(_, column)| *column).filter(is_there).collect();
    config.metrics.columns.clone().unwrap_or_else(all)
}

/// That what is asked for can be had of n samples with k outputs; the reason if not.
fn check_columns(columns: &[Column], n: usize, k: usize) -> Result<(), String> {
    if n.saturating_mul(k) > MOST_SAMPLES
        && let Some(column) = columns.iter().find(|column| column.is_quadratic())
    {
        let (matrix, samples) = match k {
            1 => ("an n × n", format!("{n} samples")),
            _ => ("an nk × nk", format!("{n} samples with {k} targets")),
        };
        return Err(format!(
            "{} takes {matrix} matrix, too large for {samples} (at most {MOST_SAMPLES}); set columns \
             in [metrics] without it",
            column.name()
        ));
    }
    Ok(())
}

fn theory_batch(batch_size: usize, sampling: Sampling) -> Option<Batch> {
    match sampling {
        Sampling::Reshuffling => None,
        independent => Batch::new(batch_size, independent).ok(),
    }
}

fn config_digest(config: &Config) -> serde_json::Result<String> {
    let text = serde_json::to_string(config)?;
    Ok(blake3::hash(text.as_bytes()).to_hex().to_string())
}

fn dataset_digest(data: &Dataset) -> String {
    let inputs = data.inputs();
    let values = [inputs.values(), data.targets()].concat();
    digest(&[inputs.rows(), inputs.columns(), data.output_dim()], &values)
}

/// BLAKE3 of a shape and numbers, in little-endian order.
fn digest(shape: &[usize], values: &[f64]) -> String {
    let mut hasher = blake3::Hasher::new();
    for length in shape {
        hasher.update(&(*length as u64).to_le_bytes());
    }
    for value in values {
        hasher.update(&value.to_le_bytes());
    }
    hasher.finalize().to_hex().to_string()
}
