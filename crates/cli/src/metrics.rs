//! `flatmin metrics`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use flatmin_linalg::{Parallelism, Sharpness, simd};
use flatmin_models::{Dataset, Model};
use flatmin_theory::{Batch, Gram, Minimum, ThresholdOptions, threshold_with};
use serde::Serialize;

use crate::config::{AnyModel, ModelConfig};
use crate::failure::{Exit, Failure};
use crate::load;
use crate::network::Network;
use crate::output::{self, Format, Number};

/// The format of the JSON output.
const SCHEMA: &str = "flatmin.metrics/1";

/// Measure a model at given parameters: loss, sharpness, norms, and its exact stability threshold.
///
/// The loss is (1/2n) Σ (f(x) − y)², so that the Gauss–Newton matrix is G = JᵀJ/n.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  flatmin metrics run.toml --parameters run/parameters.npz --data data.npz --batch-size 1,8")]
pub(crate) struct Options {
    /// The model: a TOML file with its [model], such as the configuration of a training run.
    model: PathBuf,
    /// Its parameters: arrays w and a (two-layer-relu), or a and b (diagonal-linear).
    #[arg(long, value_name = "FILE")]
    parameters: PathBuf,
    /// The data: arrays x (n × d) and y (n).
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Batch sizes to give the threshold for.
    #[arg(long, value_name = "B", value_delimiter = ',', default_value = "1")]
    batch_size: Vec<usize>,
    /// How batches are drawn.
    #[arg(long, value_enum, default_value_t = Drawn::WithoutReplacement)]
    sampling: Drawn,
    /// Variance of an input coordinate, for the population.
    #[arg(long, value_name = "VARIANCE", default_value_t = 1.0)]
    input_variance: f64,
    /// Format of the output.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// How the samples of a batch are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Drawn {
    /// Every sample independently.
    WithReplacement,
    /// Distinct samples, as data loaders do.
    WithoutReplacement,
}

#[derive(Debug, Serialize)]
struct Report {
    schema: &'static str,
    samples: usize,
    parameters: usize,
    loss: Number,
    gradient_norm: Number,
    trace: Number,
    frobenius_norm: Number,
    lambda_max: Number,
    path_norm: Option<Number>,
    l1_norm: Option<Number>,
    balance_ratio: Option<Number>,
    input_variance: Number,
    population: Measures,
    batches: Vec<BatchReport>,
}

#[derive(Debug, Serialize)]
struct Measures {
    trace: Number,
    frobenius_norm: Number,
    lambda_max: Number,
}

#[derive(Debug, Serialize)]
struct BatchReport {
    batch_size: usize,
    sampling: &'static str,
    noise_coefficient: Number,
    threshold: Interval,
}

#[derive(Debug, Serialize)]
struct Interval {
    lower: Number,
    upper: Number,
}

impl From<Sharpness> for Measures {
    fn from(sharpness: Sharpness) -> Self {
        let Sharpness { trace, frobenius_norm, lambda_max } = sharpness;
        Self {
            trace: Number(trace),
            frobenius_norm: Number(frobenius_norm),
            lambda_max: Number(lambda_max),
        }
    }
}

pub(crate) fn metrics(options: &Options) -> Result<Exit, Failure> {
    let config = ModelConfig::read(&options.model)?;
    let data = load::dataset(&options.data)?;
    let dim = data.inputs().columns();
    if let Some(said) = config.input_dim().filter(|said| *said != dim) {
        let reason = format!("x has {dim} columns, but input_dim in [model] is {said}");
        return Err(Failure::input(&options.data, reason));
    }
    let model =
        config.sized(dim).map_err(|error| Failure::input(&options.model, error.to_string()))?;
    match model {
        AnyModel::Relu(network) => report(options, &network, &data),
        AnyModel::Diagonal(network) => report(options, &network, &data),
    }
}

fn report<N: Network>(options: &Options, network: &N, data: &Dataset) -> Result<Exit, Failure> {
    let variance = options.input_variance;
    if !(variance > 0.0 && variance.is_finite()) {
        let reason = format!("--input-variance is {variance}, expected a positive number");
        return Err(Failure::input(&options.model, reason));
    }
    let parameters = load::parameters(&options.parameters, network)?;
    let fail = |reason: String| Failure::input(&options.parameters, reason);
    let gram = network.gram(&parameters, data.inputs());
    let sharpness = flatmin_curvature::gram_sharpness(gram.as_ref())
        .map_err(|error| fail(error.to_string()))?;
    let theory = Failure::theory(&options.parameters);
    let minimum = Gram::from_means(gram)
        .and_then(|gram| Minimum::from_gram(gram, Parallelism::Rayon))
        .map_err(&theory)?;
    let population =
        network.population(&parameters, variance).map_err(|error| fail(error.to_string()))?;
    let (sampling, name) = match options.sampling {
        Drawn::WithReplacement => (flatmin_theory::Sampling::WithReplacement, "with-replacement"),
        Drawn::WithoutReplacement => {
            (flatmin_theory::Sampling::WithoutReplacement, "without-replacement")
        }
    };
    let mut batches = Vec::new();
    for &batch_size in &options.batch_size {
        let batch = Batch::new(batch_size, sampling).map_err(&theory)?;
        let noise = batch.noise_coefficient(data.sample_count()).map_err(&theory)?;
        let thresholds =
            ThresholdOptions { parallelism: Parallelism::Rayon, ..ThresholdOptions::default() };
        let threshold = threshold_with(&minimum, batch, &thresholds).map_err(&theory)?;
        batches.push(BatchReport {
            batch_size,
            sampling: name,
            noise_coefficient: Number(noise),
            threshold: Interval { lower: Number(threshold.lower), upper: Number(threshold.upper) },
        });
    }
    let (residuals, norms) = (data.residuals(network, &parameters), network.norms(&parameters));
    let measures = Measures::from(sharpness);
    let report = Report {
        schema: SCHEMA,
        samples: data.sample_count(),
        parameters: parameters.len(),
        loss: Number(data.loss(network, &parameters)),
        gradient_norm: Number(gradient_norm(network, &parameters, data, &residuals)),
        trace: measures.trace,
        frobenius_norm: measures.frobenius_norm,
        lambda_max: measures.lambda_max,
        path_norm: norms.path_norm.map(Number),
        l1_norm: norms.l1_norm.map(Number),
        balance_ratio: norms.balance_ratio.map(Number),
        input_variance: Number(variance),
        population: population.into(),
        batches,
    };
    match options.format {
        Format::Json => output::print_json(&report),
        Format::Text => output::print(&text(&report, network, variance)),
    }
    Ok(Exit::Done)
}

/// `‖∇R‖` of the whole loss: how far the parameters are from a minimum.
fn gradient_norm(model: &impl Model, parameters: &[f64], data: &Dataset, residuals: &[f64]) -> f64 {
    let scale = 1.0 / data.sample_count() as f64;
    let mut sum = vec![0.0; model.parameter_count()];
    let mut gradient = sum.clone();
    for (sample, residual) in residuals.iter().enumerate() {
        model.gradient(parameters, data.inputs().row(sample), &mut gradient);
        simd::axpy(scale * residual, &gradient, &mut sum);
    }
    simd::norm_squared(&sum).sqrt()
}

fn text<N: Network>(report: &Report, network: &N, variance: f64) -> String {
    let entry = |name: &str, value: Number| format!("  {name:<22} {}", value.0);
    let mut lines = vec![
        format!(
            "{}, {} parameters, {} samples",
            network.describe(),
            report.parameters,
            report.samples
        ),
        "loss (1/2n) Σ (f − y)², Gauss–Newton matrix G = JᵀJ/n".to_owned(),
        entry("loss", report.loss),
        entry("gradient norm", report.gradient_norm),
        entry("tr G", report.trace),
        entry("‖G‖_F", report.frobenius_norm),
        entry("λ_max(G)", report.lambda_max),
    ];
    let norms = [
        ("path norm", report.path_norm),
        ("l1 norm", report.l1_norm),
        ("balance ratio", report.balance_ratio),
    ];
    lines.extend(norms.iter().filter_map(|(name, value)| Some(entry(name, (*value)?))));
    lines.push(format!("population, for {}", network.population_inputs(variance)));
    lines.push(entry("tr Ḡ", report.population.trace));
    lines.push(entry("‖Ḡ‖_F", report.population.frobenius_norm));
    lines.push(entry("λ_max(Ḡ)", report.population.lambda_max));
    lines.push("largest mean-square stable learning rate, if this is a minimum".to_owned());
    for batch in &report.batches {
        let Interval { lower, upper } = &batch.threshold;
        let size = format!("batch size {}", batch.batch_size);
        lines.push(format!("  {size:<22} {} to {} ({})", lower.0, upper.0, batch.sampling));
    }
    lines.join("\n") + "\n"
}
