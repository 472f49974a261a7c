//! The configuration of a training run, a TOML file.

mod labelled;
mod model;
mod table;

use std::path::{Path, PathBuf};

use flatmin_host::{read_small, said};
use flatmin_models::data::ClassTargets;
use flatmin_optim::{Precision, Sampling, Schedule, StoppingRule};
use serde::Serialize;
use toml::de::DeTable;

pub(crate) use self::labelled::{LabelledConfig, LabelledFiles, LabelledSource};
pub(crate) use self::model::{AnyModel, ModelConfig, name_of};
use self::table::{ConfigError, Table, line};
use crate::failure::Failure;
use crate::train::Column;

/// A configuration with every key and what it means; it runs as it is.
pub(crate) const COMMENTED: &str = include_str!("commented.toml");

/// Largest size of a configuration file. They take a kilobyte.
const LARGEST: u64 = 1 << 20;

/// Most parameters, samples, and so on: indices are 32 bits wide.
const MOST: u64 = u32::MAX as u64;

/// A training run as it was asked for. What is serialised decides its result, beside the content of
/// the files, which have digests of their own.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Config {
    pub(crate) seed: Option<u64>,
    pub(crate) model: ModelConfig,
    pub(crate) data: DataConfig,
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

/// `data`: a file or `[data]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DataConfig {
    File(#[serde(skip)] PathBuf),
    Synthetic { teacher: Teacher, sample_count: usize, test_count: usize },
    Labelled(LabelledConfig),
}

/// What labels synthetic inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "teacher", rename_all = "snake_case")]
pub(crate) enum Teacher {
    /// A small network, on inputs from a sphere.
    TwoLayerRelu { width: usize },
    /// A linear function with a few ones for coefficients, on inputs from a cube.
    SparseLinear { nonzero: usize },
}

/// `initial`: a file or `[initial]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InitialConfig {
    File(#[serde(skip)] PathBuf),
    Gaussian,
    Unbalanced { balance_ratio: f64 },
}

/// `[optimizer]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct OptimizerConfig {
    pub(crate) batches: BatchesConfig,
    pub(crate) learning_rate: f64,
    /// Infinite for no clipping.
    pub(crate) clip_norm: f64,
    pub(crate) schedule: Schedule,
    /// Not in the digest where it is float64: the digests of runs are older than the choice.
    #[serde(skip_serializing_if = "is_float64")]
    pub(crate) precision: Precision,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
fn is_float64(precision: &Precision) -> bool {
    *precision == Precision::Float64
}

/// Which samples make up the steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BatchesConfig {
    /// All of them: gradient descent.
    All { max_steps: u64 },
    /// Drawn.
    Drawn { batch_size: usize, sampling: Sampling, max_steps: u64 },
    /// As a file says.
    Order,
}

/// `[metrics]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct MetricsConfig {
    pub(crate) steps: MetricSteps,
    /// `None`: all that the model and the data have, but no thresholds.
    pub(crate) columns: Option<Vec<Column>>,
}

/// When to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MetricSteps {
    PerDecade(u32),
    Every(u64),
}

const ROOT_KEYS: &[&str] = &[
    "seed",
    "data",
    "test_data",
    "initial",
    "order",
    "model",
    "optimizer",
    "stopping",
    "metrics",
    "output",
];

#[derive(Clone, Copy, PartialEq)]
enum TeacherKind {
    Relu,
    SparseLinear,
}

const TARGETS: &[(&str, ClassTargets)] =
    &[("parity", ClassTargets::Parity), ("one-hot", ClassTargets::OneHot)];
const TEACHERS: &[(&str, TeacherKind)] =
    &[("two-layer-relu", TeacherKind::Relu), ("sparse-linear", TeacherKind::SparseLinear)];

/// The tables of a configuration and their keys.
const TABLES: &[(&str, &[&str])] = &[
    ("model", &["kind", "width", "widths", "activation", "biases", "input_dim"]),
    (
        "data",
        &[
            "teacher",
            "teacher_width",
            "nonzero",
            "digits",
            "images",
            "labels",
            "targets",
            "test_images",
            "test_labels",
            "sample_count",
            "test_count",
        ],
    ),
    ("initial", &["kind", "balance_ratio"]),
    (
        "optimizer",
        &[
            "method",
            "learning_rate",
            "batch_size",
            "sampling",
            "clip_norm",
            "schedule",
            "precision",
            "max_steps",
        ],
    ),
    ("stopping", &["loss", "checks", "screening_loss"]),
    ("metrics", &["per_decade", "every", "columns"]),
    ("output", &["checkpoint_every"]),
];

const SCHEDULES: &[(&str, Schedule)] =
    &[("constant", Schedule::Constant), ("cosine", Schedule::Cosine), ("step", Schedule::Step)];

const PRECISIONS: &[(&str, Precision)] =
    &[("float64", Precision::Float64), ("float32", Precision::Float32)];

impl Config {
    /// Reads a configuration and checks what can be checked without the files it names. Their paths
    /// are relative to its folder.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        Self::from_bytes(read_small(path, LARGEST, "a TOML file")?, path)
    }

    /// The same from the bytes of the file at `path`.
    pub(crate) fn from_bytes(bytes: Vec<u8>, path: &Path) -> Result<Self, Failure> {
        let text = utf8(bytes, path)?;
        parse_text(&text)
            .and_then(|root| Self::parse(&text, &root, folder(path)))
            .map_err(|error| Failure::input(path, error.to_string()))
    }

    fn parse(text: &str, root: &DeTable<'_>, folder: &Path) -> Result<Self, ConfigError> {
        let root = Table::root(text, root, ROOT_KEYS, TABLES)?;
        let file = |key: &str| -> Result<Option<PathBuf>, ConfigError> {
            match root.text(key, "the path of a file")? {
                Some("") => Err(root.error(key, &format!("{key} is empty, expected a path"))),
                path => Ok(path.map(|path| folder.join(path))),
            }
        };
        let model = model::model(&root)?;
        let data = data(&root, &model, &file, folder)?;
        let test_data = file("test_data")?;
        if test_data.is_some() && !matches!(data, DataConfig::File(_)) {
            let reason = "goes with a file of data; with a table [data] set test_count there";
            root.refuse("test_data", reason)?;
        }
        let initial = initial(&root, &model, &file)?;
        let order = file("order")?;
        let optimizer = optimizer(&root, &model, order.is_some())?;
        let seed = root.integer("seed", 0, u64::MAX)?;
        let random = [
            (matches!(data, DataConfig::Synthetic { .. }), "the synthetic data"),
            (matches!(&data, DataConfig::Labelled(data) if data.is_random()), "the samples"),
            (!matches!(initial, InitialConfig::File(_)), "the initial parameters"),
            (matches!(optimizer.batches, BatchesConfig::Drawn { .. }), "the batches"),
        ];
        let drawn: Vec<&str> = random.iter().filter(|(is, _)| *is).map(|(_, what)| *what).collect();
        if seed.is_none() && !drawn.is_empty() {
            let what = format!("it fixes {}, for example seed = 0", drawn.join(", "));
            return Err(root.missing("seed", &what));
        }
        let has_test = match &data {
            DataConfig::File(_) => test_data.is_some(),
            DataConfig::Synthetic { test_count, .. } => *test_count > 0,
            DataConfig::Labelled(data) => data.has_test(),
        };
        let stopping = stopping(&root, order.is_some())?;
        let metrics = metrics(&root, &model, &optimizer.batches, has_test)?;
        let checkpoint_every = match root.table("output")? {
            Some(output) => output.integer("checkpoint_every", 1, u64::MAX)?,
            None => None,
        };
        let checkpoint_every = checkpoint_every.unwrap_or(100_000);
        Ok(Self {
            seed,
            model,
            data,
            test_data,
            initial,
            order,
            optimizer,
            stopping,
            metrics,
            checkpoint_every,
        })
    }
}

fn utf8(bytes: Vec<u8>, path: &Path) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|_| Failure::input(path, "is not UTF-8 text"))
}

fn parse_text(text: &str) -> Result<DeTable<'_>, ConfigError> {
    match DeTable::parse(text) {
        Ok(root) => Ok(root.into_inner()),
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            let message = said(&error.message().trim().replace('\n', ", "));
            Err(ConfigError(format!("line {}: {message}", line(text, at))))
        }
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// A whole number that is a size.
fn size(table: &Table<'_>, key: &str, least: u64) -> Result<Option<usize>, ConfigError> {
    let number = table.integer(key, least, MOST)?;
    Ok(number.map(|number| usize::try_from(number).unwrap_or(usize::MAX)))
}

fn data(
    root: &Table<'_>,
    model: &ModelConfig,
    file: &dyn Fn(&str) -> Result<Option<PathBuf>, ConfigError>,
    folder: &Path,
) -> Result<DataConfig, ConfigError> {
    let what = "a file with arrays x and y, data = \"FILE.npz\", or a table [data]";
    if !root.has("data") {
        return Err(root.missing("data", what));
    }
    if root.is_text("data") {
        return Ok(DataConfig::File(file("data")?.unwrap_or_default()));
    }
    let table = root.table("data")?.ok_or_else(|| root.missing("data", what))?;
    if let Some(labelled) = LabelledConfig::parse(&table, folder)? {
        return Ok(DataConfig::Labelled(labelled));
    }
    let kind = table.choice("teacher", TEACHERS)?;
    let what = "\"two-layer-relu\" or \"sparse-linear\", or one of digits and images";
    let kind = kind.ok_or_else(|| table.missing("teacher", what))?;
    let Some(input_dim) = model.input_dim() else {
        let reason = "synthetic data needs input_dim in [model], the dimension of the inputs";
        return Err(root.error("data", reason));
    };
    let needed =
        |key: &str, what: &str| size(&table, key, 1)?.ok_or_else(|| table.missing(key, what));
    let teacher = match kind {
        TeacherKind::Relu => {
            table.refuse("nonzero", "is for the sparse-linear teacher only: leave it out")?;
            Teacher::TwoLayerRelu { width: needed("teacher_width", "the neurons of the teacher")? }
        }
        TeacherKind::SparseLinear => {
            let reason = "is for the two-layer-relu teacher only: leave it out";
            table.refuse("teacher_width", reason)?;
            let nonzero = needed("nonzero", "the number of ones among the coefficients")?;
            if nonzero > input_dim {
                let reason =
                    format!("nonzero is {nonzero}, more than the {input_dim} of input_dim");
                return Err(table.error("nonzero", &reason));
            }
            Teacher::SparseLinear { nonzero }
        }
    };
    let sample_count = needed("sample_count", "the number of training samples")?;
    let test_count = size(&table, "test_count", 0)?.unwrap_or(0);
    Ok(DataConfig::Synthetic { teacher, sample_count, test_count })
}

fn initial(
    root: &Table<'_>,
    model: &ModelConfig,
    file: &dyn Fn(&str) -> Result<Option<PathBuf>, ConfigError>,
) -> Result<InitialConfig, ConfigError> {
    if root.is_text("initial") {
        return Ok(InitialConfig::File(file("initial")?.unwrap_or_default()));
    }
    let Some(table) = root.table("initial")? else {
        return Ok(InitialConfig::Gaussian);
    };
    let unbalanced = table.choice("kind", &[("gaussian", false), ("unbalanced", true)])?;
    if unbalanced != Some(true) {
        table.refuse("balance_ratio", "is for kind = \"unbalanced\" only: leave it out")?;
        return Ok(InitialConfig::Gaussian);
    }
    if !matches!(model, ModelConfig::DiagonalLinear { .. }) {
        return Err(table.error("kind", "kind \"unbalanced\" is for diagonal-linear only"));
    }
    let ratio = table.number("balance_ratio")?;
    match ratio.ok_or_else(|| table.missing("balance_ratio", "at least 1"))? {
        balance_ratio if balance_ratio >= 1.0 && balance_ratio.is_finite() => {
            Ok(InitialConfig::Unbalanced { balance_ratio })
        }
        other => {
            let message = format!("balance_ratio is {other}, expected a number of at least 1");
            Err(table.error("balance_ratio", &message))
        }
    }
}

fn optimizer(
    root: &Table<'_>,
    model: &ModelConfig,
    has_order: bool,
) -> Result<OptimizerConfig, ConfigError> {
    let table = root.table("optimizer")?;
    let what = "a table with at least learning_rate";
    let table = table.ok_or_else(|| root.missing("[optimizer]", what))?;
    let is_sgd = table.choice("method", &[("sgd", true), ("gradient-descent", false)])?;
    let is_sgd = is_sgd.unwrap_or(true);
    let learning_rate = table.positive("learning_rate")?;
    let learning_rate =
        learning_rate.ok_or_else(|| table.missing("learning_rate", "a positive number"))?;
    if learning_rate.is_infinite() {
        return Err(table.error("learning_rate", "learning_rate is inf, expected a finite number"));
    }
    let batches = if has_order {
        if !is_sgd {
            let reason = "method is gradient-descent, but order says which samples each step takes: \
                          remove one of them";
            return Err(table.error("method", reason));
        }
        let reason = "and order exclude each other: batches and steps are those of the order";
        for key in ["batch_size", "sampling", "max_steps"] {
            table.refuse(key, reason)?;
        }
        BatchesConfig::Order
    } else {
        // Steps are also counted as floating-point numbers, which are exact up to 2⁵³.
        let max_steps = table.integer("max_steps", 1, 1 << 53)?;
        let max_steps =
            max_steps.ok_or_else(|| table.missing("max_steps", "the number of steps"))?;
        let batch_size = size(&table, "batch_size", 1)?;
        let sampling = table.choice("sampling", Sampling::ALL)?;
        if is_sgd {
            let batch_size =
                batch_size.ok_or_else(|| table.missing("batch_size", "the samples of a step"))?;
            let sampling = sampling.unwrap_or(Sampling::WithoutReplacement);
            BatchesConfig::Drawn { batch_size, sampling, max_steps }
        } else {
            let reason = "is for method = \"sgd\" only: gradient descent takes all samples";
            table.refuse("batch_size", reason)?;
            table.refuse("sampling", reason)?;
            BatchesConfig::All { max_steps }
        }
    };
    let precision = table.choice("precision", PRECISIONS)?.unwrap_or_default();
    if precision == Precision::Float32 && matches!(model, ModelConfig::Perceptron { .. }) {
        let reason = "precision \"float32\" is for two-layer-relu and diagonal-linear only: a perceptron is \
                      trained in float64, leave it out";
        return Err(table.error("precision", reason));
    }
    Ok(OptimizerConfig {
        batches,
        learning_rate,
        clip_norm: table.positive("clip_norm")?.unwrap_or(f64::INFINITY),
        schedule: table.choice("schedule", SCHEDULES)?.unwrap_or(Schedule::Constant),
        precision,
    })
}

/// `None`: all steps are taken.
fn stopping(root: &Table<'_>, has_order: bool) -> Result<Option<StoppingRule>, ConfigError> {
    if root.is_text("stopping") {
        root.choice("stopping", &[("never", ())])?;
        return Ok(None);
    }
    let default = StoppingRule::default();
    let Some(table) = root.table("stopping")? else {
        // Who replays an order wants all of it.
        return Ok((!has_order).then_some(default));
    };
    let loss = table.positive("loss")?;
    let screening_loss = table.positive("screening_loss")?;
    let checks = table.integer("checks", 1, MOST)?;
    let checks = checks.map_or(default.checks, |checks| u32::try_from(checks).unwrap_or(u32::MAX));
    let screening_loss = match (screening_loss, loss) {
        (Some(screening_loss), _) => screening_loss,
        (None, Some(loss)) => 1e3 * loss,
        (None, None) => default.screening_loss,
    };
    let loss = loss.unwrap_or(default.loss);
    Ok(Some(StoppingRule { loss, checks, screening_loss }))
}

fn metrics(
    root: &Table<'_>,
    model: &ModelConfig,
    batches: &BatchesConfig,
    has_test: bool,
) -> Result<MetricsConfig, ConfigError> {
    let default = MetricSteps::PerDecade(10);
    let Some(table) = root.table("metrics")? else {
        return Ok(MetricsConfig { steps: default, columns: None });
    };
    let per_decade = table.integer("per_decade", 1, 1000)?;
    let steps = match (per_decade, table.integer("every", 1, u64::MAX)?) {
        (Some(_), Some(_)) => {
            let reason = "every and per_decade exclude each other: remove one of them";
            return Err(table.error("every", reason));
        }
        (_, Some(every)) => MetricSteps::Every(every),
        (Some(per_decade), _) => {
            MetricSteps::PerDecade(u32::try_from(per_decade).unwrap_or(u32::MAX))
        }
        (None, None) => default,
    };
    let columns = table.choices("columns", Column::ALL)?;
    for column in columns.iter().flatten() {
        let refuse = |reason: &str| {
            Err(table.error("columns", &format!("columns holds {:?}, {reason}", column.name())))
        };
        match column {
            column if column.of_kind().is_some_and(|kind| kind != model.kind()) => {
                let kind = column.of_kind().unwrap_or_default();
                return refuse(&format!("which is for {kind} only"));
            }
            Column::TestLoss if !has_test => {
                return refuse("but there is no test set: set test_data, or test_count in [data]");
            }
            Column::ThresholdLower | Column::ThresholdUpper => match batches {
                BatchesConfig::Drawn { sampling: Sampling::Reshuffling, .. } => {
                    return refuse("but the threshold has no closed form with reshuffling");
                }
                BatchesConfig::Order => {
                    return refuse(
                        "but how the batches of an order were drawn is not known: leave it out and \
                         ask `flatmin metrics` with --batch-size and --sampling",
                    );
                }
                BatchesConfig::All { .. } | BatchesConfig::Drawn { .. } => {}
            },
            _ => {}
        }
    }
    Ok(MetricsConfig { steps, columns })
}
