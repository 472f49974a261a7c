//! A whole configuration of a training run.

use std::path::{Path, PathBuf};

use flatmin_host::read_small;
use flatmin_optim::{Precision, Sampling, Schedule, StoppingRule};
use flatmin_theory::{Batch, Gram, Optimizer, OptimizerError, threshold};
use serde::{Deserialize, Serialize};

use super::data::{DataConfig, DataSetting};
use super::document::{ConfigError, Document, Section};
use super::loss::{LossConfig, LossTable};
use super::model::{ModelConfig, ModelTable};
use super::value::{FilePath, MAX_SIZE, Positive, SamplingName, Size, TextOr, Whole};
use crate::column::Column;
use crate::failure::Failure;

/// A configuration with every key and what it means; it runs as it is.
pub(crate) const COMMENTED: &str = include_str!("commented.toml");

/// Largest size of a configuration file, which takes a kilobyte.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Most steps: they are also counted as floating-point numbers, which are exact up to 2⁵³.
const MAX_STEPS: u64 = 1 << 53;

/// The reason, after its name, why a column is refused for the squared loss.
const CROSS_ENTROPY_ONLY: &str = ", which is for kind = \"cross-entropy\" in [loss] only";

/// A configuration as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunFile {
    seed: Option<Whole<0>>,
    data: Option<DataSetting>,
    test_data: Option<FilePath>,
    initial: Option<TextOr<FilePath, InitialTable>>,
    order: Option<FilePath>,
    model: Option<ModelTable>,
    loss: Option<LossTable>,
    optimizer: Option<OptimizerTable>,
    stopping: Option<TextOr<NoStopping, StoppingTable>>,
    metrics: Option<MetricsTable>,
    output: Option<OutputTable>,
}

/// A file with a `[model]` alone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelFile {
    model: Option<ModelTable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct InitialTable {
    kind: Option<InitialKind>,
    balance_ratio: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table, [optimizer]")]
struct OptimizerTable {
    method: Option<MethodKind>,
    learning_rate: Option<Positive>,
    momentum: Option<f64>,
    dampening: Option<f64>,
    nesterov: Option<bool>,
    weight_decay: Option<f64>,
    decoupled_weight_decay: Option<f64>,
    batch_size: Option<Size>,
    sampling: Option<SamplingName>,
    clip_norm: Option<Positive>,
    schedule: Option<Schedule>,
    precision: Option<Precision>,
    max_steps: Option<Whole<1, MAX_STEPS>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoppingTable {
    loss: Option<Positive>,
    checks: Option<Whole<1, MAX_SIZE>>,
    screening_loss: Option<Positive>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table, [metrics]")]
struct MetricsTable {
    per_decade: Option<Whole<1, 1000>>,
    every: Option<Whole<1>>,
    columns: Option<Vec<Column>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table, [output]")]
struct OutputTable {
    checkpoint_every: Option<Whole<1>>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum InitialKind {
    #[default]
    Gaussian,
    Unbalanced,
}

#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum MethodKind {
    #[default]
    Sgd,
    GradientDescent,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum NoStopping {
    Never,
}

/// A checked configuration.
///
/// The serialised fields decide the result of the run, together with the contents of the files,
/// which have digests of their own.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Config {
    seed: Option<u64>,
    pub(crate) model: ModelConfig,
    pub(crate) data: DataConfig,
    /// The default is left out of the digest, because runs have digests from before there was a
    /// choice.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) loss: LossConfig,
    #[serde(skip)]
    pub(crate) test_data: Option<PathBuf>,
    pub(crate) initial: InitialConfig,
    #[serde(skip)]
    pub(crate) order: Option<PathBuf>,
    pub(crate) optimizer: OptimizerConfig,
    pub(crate) stopping: Option<StoppingRule>,
    pub(crate) metrics: MetricsConfig,
    #[serde(skip)]
    pub(crate) checkpoint_every: u64,
}

/// `initial`: a file or `[initial]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InitialConfig {
    File(#[serde(skip)] PathBuf),
    Gaussian,
    Unbalanced { balance_ratio: f64 },
}

/// A checked `[optimizer]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct OptimizerConfig {
    pub(crate) batches: BatchesConfig,
    pub(crate) learning_rate: f64,
    /// Infinite for no clipping.
    pub(crate) clip_norm: f64,
    pub(crate) schedule: Schedule,
    /// The default is left out of the digest, because runs have digests from before there was a
    /// choice.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) precision: Precision,
    /// The default is left out of the digest for the same reason.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) optimizer: Optimizer,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The samples of each step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BatchesConfig {
    /// All samples, which is gradient descent.
    All { max_steps: u64 },
    /// Samples that are drawn.
    Drawn { batch_size: usize, sampling: Sampling, max_steps: u64 },
    /// The samples that a file lists.
    Order,
}

/// A checked `[metrics]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct MetricsConfig {
    pub(crate) steps: MetricSteps,
    /// `None`: all columns that the model and the data have, without thresholds.
    pub(crate) columns: Option<Vec<Column>>,
}

/// The steps after which metrics are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MetricSteps {
    PerDecade(u32),
    Every(u64),
}

/// Reads a configuration and checks it as far as this is possible without the files it names.
///
/// Their paths are relative to its folder.
pub(crate) fn config(path: &Path, bytes: Option<Vec<u8>>) -> Result<Config, Failure> {
    with_document(path, bytes, |document| Config::new(document, path))
}

/// Reads the `[model]` of a file with nothing else, or of a whole configuration, which is then
/// checked and returned too.
pub(crate) fn model(
    path: &Path,
    bytes: Option<Vec<u8>>,
) -> Result<(ModelConfig, Option<Config>), Failure> {
    with_document(path, bytes, |document| {
        if document.has_other_than("model") {
            let config = Config::new(document, path)?;
            return Ok((config.model.clone(), Some(config)));
        }
        let ModelFile { model } = document.read()?;
        Ok((ModelConfig::new(document, model)?, None))
    })
}

/// Parses the file at `path`, whose content is `bytes` if they are given.
fn with_document<T>(
    path: &Path,
    bytes: Option<Vec<u8>>,
    read: impl FnOnce(&Document<'_>) -> Result<T, ConfigError>,
) -> Result<T, Failure> {
    let bytes = bytes.map_or_else(|| read_small(path, MAX_CONFIG_BYTES, "a TOML file"), Ok)?;
    let text = String::from_utf8(bytes).map_err(|_| Failure::input(path, "is not UTF-8 text"))?;
    let value = Document::parse(&text).and_then(|document| read(&document));
    value.map_err(Failure::at(path))
}

impl Config {
    fn new(document: &Document<'_>, path: &Path) -> Result<Self, ConfigError> {
        let file: RunFile = document.read()?;
        let (root, folder) = (document.root(), path.parent().unwrap_or(Path::new("")));
        let model = ModelConfig::new(document, file.model)?;
        let data = DataConfig::new(document, file.data, &model, folder)?;
        let loss = LossConfig::new(document, file.loss, &model, &data)?;
        let test_data = file.test_data.map(|FilePath(path)| folder.join(path));
        if !matches!(data, DataConfig::File(_)) {
            let reason = "goes with a file of data; with a table [data] set test_count there";
            root.refuse(&["test_data"], reason)?;
        }
        let initial = match file.initial {
            Some(TextOr::Text(FilePath(path))) => InitialConfig::File(folder.join(path)),
            Some(TextOr::Table(table)) => initial(document.section("initial"), &table, &model)?,
            None => InitialConfig::Gaussian,
        };
        let order = file.order.map(|FilePath(path)| folder.join(path));
        let optimizer = optimizer(document, file.optimizer, &model, order.is_some())?;
        let random = [
            (matches!(data, DataConfig::Synthetic { .. }), "the synthetic data"),
            (matches!(&data, DataConfig::Labelled(data) if data.is_random()), "the samples"),
            (!matches!(initial, InitialConfig::File(_)), "the initial parameters"),
            (matches!(optimizer.batches, BatchesConfig::Drawn { .. }), "the batches"),
        ];
        let drawn: Vec<&str> = random.iter().filter(|(is, _)| *is).map(|(_, what)| *what).collect();
        if file.seed.is_none() && !drawn.is_empty() {
            let what = format!("it fixes {}, for example seed = 0", drawn.join(", "));
            return Err(root.missing("seed", &what));
        }
        let has_test = match &data {
            DataConfig::File(_) => test_data.is_some(),
            DataConfig::Synthetic { test_count, .. } => *test_count > 0,
            DataConfig::Labelled(data) => data.has_test(),
        };
        let metrics = file.metrics.unwrap_or_default();
        let metrics = metrics_config(document, metrics, |column| {
            refusal(column, &model, &optimizer, has_test)
                .or_else(|| (!loss.has(column)).then(|| CROSS_ENTROPY_ONLY.to_owned()))
        })?;
        let checkpoint_every = file.output.unwrap_or_default().checkpoint_every;
        Ok(Self {
            seed: file.seed.map(|Whole(seed)| seed),
            model,
            data,
            loss,
            test_data,
            initial,
            stopping: stopping(file.stopping.as_ref(), order.is_some()),
            order,
            optimizer,
            metrics,
            checkpoint_every: checkpoint_every.map_or(100_000, |Whole(steps)| steps),
        })
    }

    /// The seed; 0 where nothing is random.
    pub(crate) fn seed(&self) -> u64 {
        self.seed.unwrap_or(0)
    }
}

/// Checks `[initial]`.
fn initial(
    section: Section<'_>,
    table: &InitialTable,
    model: &ModelConfig,
) -> Result<InitialConfig, ConfigError> {
    if !matches!(table.kind, Some(InitialKind::Unbalanced)) {
        let reason = "is for kind = \"unbalanced\" only: leave it out";
        section.refuse(&["balance_ratio"], reason)?;
        return Ok(InitialConfig::Gaussian);
    }
    if !matches!(model, ModelConfig::DiagonalLinear { .. }) {
        return Err(section.error("kind", "kind \"unbalanced\" is for diagonal-linear only"));
    }
    let balance_ratio = section.need("balance_ratio", table.balance_ratio, "at least 1")?;
    if balance_ratio >= 1.0 && balance_ratio.is_finite() {
        return Ok(InitialConfig::Unbalanced { balance_ratio });
    }
    let message = format!("balance_ratio is {balance_ratio}, expected a number of at least 1");
    Err(section.error("balance_ratio", &message))
}

/// Checks `[optimizer]`.
fn optimizer(
    document: &Document<'_>,
    table: Option<OptimizerTable>,
    model: &ModelConfig,
    has_order: bool,
) -> Result<OptimizerConfig, ConfigError> {
    let what = "a table with at least learning_rate";
    let table = document.root().need("[optimizer]", table, what)?;
    let section = document.section("optimizer");
    let what = "a positive number";
    let Positive(learning_rate) = section.need("learning_rate", table.learning_rate, what)?;
    if learning_rate.is_infinite() {
        let message = "learning_rate is inf, expected a finite number";
        return Err(section.error("learning_rate", message));
    }
    let batches = batches(section, &table, has_order)?;
    let precision = table.precision.unwrap_or_default();
    if precision == Precision::Float32 && matches!(model, ModelConfig::Perceptron { .. }) {
        let reason = "precision \"float32\" is for the other models only: a perceptron is trained in \
                      float64, leave it out";
        return Err(section.error("precision", reason));
    }
    let optimizer = update(section, &table)?;
    if precision == Precision::Float32 && optimizer != Optimizer::sgd() {
        let reason = format!(
            "precision \"float32\" is for SGD without momentum and weight decay only: {optimizer} is \
             float64, leave it out"
        );
        return Err(section.error("precision", &reason));
    }
    Ok(OptimizerConfig {
        batches,
        learning_rate,
        clip_norm: table.clip_norm.map_or(f64::INFINITY, |Positive(norm)| norm),
        schedule: table.schedule.unwrap_or(Schedule::Constant),
        precision,
        optimizer,
    })
}

/// The samples of each step, as `[optimizer]` or an order says.
fn batches(
    section: Section<'_>,
    table: &OptimizerTable,
    has_order: bool,
) -> Result<BatchesConfig, ConfigError> {
    let is_sgd = table.method.unwrap_or_default() == MethodKind::Sgd;
    if has_order {
        if !is_sgd {
            let reason = "method is gradient-descent, but order says which samples each step takes: \
                          remove one of them";
            return Err(section.error("method", reason));
        }
        let reason = "and order exclude each other: batches and steps are those of the order";
        section.refuse(&["batch_size", "sampling", "max_steps"], reason)?;
        return Ok(BatchesConfig::Order);
    }
    let Whole(max_steps) = section.need("max_steps", table.max_steps, "the number of steps")?;
    if !is_sgd {
        let reason = "is for method = \"sgd\" only: gradient descent takes all samples";
        section.refuse(&["batch_size", "sampling"], reason)?;
        return Ok(BatchesConfig::All { max_steps });
    }
    let batch_size = section.need("batch_size", table.batch_size, "the samples of a step")?.size();
    let sampling =
        table.sampling.map_or(Sampling::WithoutReplacement, |SamplingName(sampling)| sampling);
    Ok(BatchesConfig::Drawn { batch_size, sampling, max_steps })
}

/// Momentum and weight decay, by PyTorch's rules.
fn update(section: Section<'_>, table: &OptimizerTable) -> Result<Optimizer, ConfigError> {
    let set = |value: Option<f64>| value.unwrap_or(0.0);
    // Settings that depend on others come after them.
    let optimizer = Optimizer::sgd()
        .momentum(set(table.momentum))
        .and_then(|sgd| sgd.dampening(set(table.dampening)))
        .and_then(|sgd| if table.nesterov == Some(true) { sgd.nesterov() } else { Ok(sgd) })
        .and_then(|sgd| sgd.weight_decay(set(table.weight_decay)))
        .and_then(|sgd| sgd.decoupled_weight_decay(set(table.decoupled_weight_decay)));
    optimizer.map_err(|error| {
        let key = match error {
            OptimizerError::Momentum { .. } => "momentum",
            OptimizerError::Dampening { .. } => "dampening",
            OptimizerError::Nesterov { .. } => "nesterov",
            OptimizerError::WeightDecay { value } if Some(value) == table.weight_decay => {
                "weight_decay"
            }
            _ => "decoupled_weight_decay",
        };
        section.error(key, &error.to_string())
    })
}

/// The rule by which a run has converged; `None` if it takes all its steps.
fn stopping(
    setting: Option<&TextOr<NoStopping, StoppingTable>>,
    has_order: bool,
) -> Option<StoppingRule> {
    let default = StoppingRule::default();
    match setting {
        Some(TextOr::Text(NoStopping::Never)) => None,
        // An order is replayed to its end.
        None => (!has_order).then_some(default),
        Some(TextOr::Table(StoppingTable { loss, checks, screening_loss })) => {
            let screening_loss = match (screening_loss, loss) {
                (Some(Positive(screening_loss)), _) => *screening_loss,
                (None, Some(Positive(loss))) => 1e3 * loss,
                (None, None) => default.screening_loss,
            };
            let loss = loss.map_or(default.loss, |Positive(loss)| loss);
            let checks = checks.and_then(|Whole(checks)| u32::try_from(checks).ok());
            let checks = checks.unwrap_or(default.checks);
            Some(StoppingRule { loss, checks, screening_loss })
        }
    }
}

/// Checks `[metrics]`.
fn metrics_config(
    document: &Document<'_>,
    table: MetricsTable,
    refusal: impl Fn(Column) -> Option<String>,
) -> Result<MetricsConfig, ConfigError> {
    let section = document.section("metrics");
    let steps = match (table.per_decade, table.every) {
        (Some(_), Some(_)) => {
            let reason = "every and per_decade exclude each other: remove one of them";
            return Err(section.error("every", reason));
        }
        (None, Some(Whole(every))) => MetricSteps::Every(every),
        (per_decade, None) => {
            let per_decade = per_decade.and_then(|Whole(number)| u32::try_from(number).ok());
            MetricSteps::PerDecade(per_decade.unwrap_or(10))
        }
    };
    let Some(named) = table.columns else {
        return Ok(MetricsConfig { steps, columns: None });
    };
    if named.is_empty() {
        return Err(section.error("columns", "columns is empty: name some, or leave it out"));
    }
    let mut columns: Vec<Column> = Vec::new();
    for column in named {
        let refusal =
            if columns.contains(&column) { Some(" twice".to_owned()) } else { refusal(column) };
        if let Some(reason) = refusal {
            let message = format!("columns holds {:?}{reason}", column.name());
            return Err(section.error("columns", &message));
        }
        columns.push(column);
    }
    Ok(MetricsConfig { steps, columns: Some(columns) })
}

/// The reason why a run cannot have a column, as the words after the name of the column.
fn refusal(
    column: Column,
    model: &ModelConfig,
    optimizer: &OptimizerConfig,
    has_test: bool,
) -> Option<String> {
    match column {
        _ if column.model_kind().is_some_and(|kind| kind != model.kind()) => {
            Some(format!(", which is for {} only", column.model_kind().unwrap_or_default()))
        }
        Column::TestLoss | Column::TestAccuracy if !has_test => {
            Some(", but there is no test set: set test_data, or test_count in [data]".to_owned())
        }
        column if column.is_threshold() => {
            let reason = match optimizer.batches {
                BatchesConfig::Drawn { sampling: Sampling::Reshuffling, .. } => {
                    "the threshold has no closed form with reshuffling".to_owned()
                }
                BatchesConfig::Order => {
                    "it is unknown how the batches of an order were drawn: leave it out, and use \
                     `flatmin metrics` with --batch-size and --sampling"
                        .to_owned()
                }
                BatchesConfig::All { .. } | BatchesConfig::Drawn { .. } => {
                    no_threshold(&optimizer.optimizer)?
                }
            };
            Some(format!(", but {reason}"))
        }
        _ => None,
    }
}

/// The reason why there is no threshold for an optimizer; `None` if there is one.
fn no_threshold(optimizer: &Optimizer) -> Option<String> {
    let batch = Batch::new(1, Sampling::WithoutReplacement).ok()?;
    let simplest = Gram::from_means(faer::Mat::from_fn(1, 1, |_, _| 1.0)).ok()?;
    Some(threshold(&simplest, optimizer, &batch).err()?.to_string())
}
