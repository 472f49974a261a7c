//! `flatmin metrics`.

use std::path::PathBuf;

use clap::Args;
use faer::Mat;
use flatmin_linalg::Parallelism;
use flatmin_models::Dataset;
use flatmin_optim::{Step, Update};
use flatmin_theory::{Batch, Gram, Minimum, Optimizer, Sampling, ThresholdOptions, threshold_with};
use serde::Serialize;

use crate::batches::Batches;
use crate::config::{AnyModel, ModelConfig};
use crate::failure::{Exit, Failure};
use crate::load::{self, MOST_SAMPLES};
use crate::network::Network;
use crate::number::{significant, table};
use crate::output::{self, Format, Interval, Measures, Number};
use crate::train;
use crate::values;

/// The format of the JSON output.
const SCHEMA: &str = "flatmin.metrics/1";

/// Digits of measured quantities.
const DIGITS: usize = 6;

/// Measure a model at given parameters: loss, sharpness, norms, and its exact stability threshold.
///
/// The loss is (1/2n) Σ ‖f(x) − y‖², so that the Gauss–Newton matrix is G = JᵀJ/n.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  flatmin metrics run.toml --parameters run/parameters.npz --batch-size 1,8
  flatmin metrics model.toml --parameters parameters.npz --data data.npz")]
pub(crate) struct Options {
    #[arg(
        value_name = "MODEL.toml",
        help = "The model: a TOML file with a table [model], such as that of a training run"
    )]
    model: PathBuf,
    /// Its parameters: arrays w and a (two-layer-relu), a and b (diagonal-linear), or w1, b1, w2, ...
    /// (perceptron).
    #[arg(long, value_name = "FILE")]
    parameters: PathBuf,
    /// The data: arrays x (n × d) and y (n, or n × k). Without it, the training data of MODEL.toml.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    #[command(flatten)]
    batches: Batches,
    /// Variance of an input coordinate, for the population.
    #[arg(long, value_name = "VARIANCE", default_value = "1", value_parser = values::positive)]
    input_variance: f64,
    /// Format of the output.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Serialize)]
struct Report {
    schema: &'static str,
    samples: usize,
    outputs: usize,
    parameters: usize,
    loss: Number,
    gradient_norm: Number,
    #[serde(flatten)]
    sharpness: Measures,
    path_norm: Option<Number>,
    l1_norm: Option<Number>,
    l2_norm: Option<Number>,
    balance_ratio: Option<Number>,
    input_variance: Number,
    population: Option<Measures>,
    batches: Vec<BatchReport>,
}

#[derive(Debug, Serialize)]
struct BatchReport {
    batch_size: usize,
    sampling: Sampling,
    noise_coefficient: Number,
    threshold: Interval,
}

pub(crate) fn metrics(options: &Options) -> Result<Exit, Failure> {
    let (data, model) = data_and_model(options)?;
    match model {
        AnyModel::Relu(network) => report(options, &network, &data),
        AnyModel::Diagonal(network) => report(options, &network, &data),
        AnyModel::Perceptron(network) => report(options, &network, &data),
    }
}

fn data_and_model(options: &Options) -> Result<(Dataset, AnyModel), Failure> {
    let (model, config) = ModelConfig::read(&options.model)?;
    let Some(file) = &options.data else {
        let config = config.ok_or_else(|| {
            let reason = "says nothing of data: give --data FILE, or the configuration of a run";
            Failure::input(&options.model, reason)
        })?;
        let (data, model) = train::data_and_model(&options.model, &config)?;
        return Ok((data.train, model));
    };
    let data = load::dataset(file)?;
    let (dim, outputs) = (data.inputs().columns(), data.output_dim());
    let checked = model.check_dimensions(dim, outputs);
    checked.map_err(|reason| Failure::input(file, reason))?;
    let model = model.sized(dim, outputs);
    let model = model.map_err(|error| Failure::input(&options.model, error.to_string()))?;
    Ok((data, model))
}

fn report<N: Network>(options: &Options, network: &N, data: &Dataset) -> Result<Exit, Failure> {
    let (n, k) = (data.sample_count(), data.output_dim());
    if n.saturating_mul(k) > MOST_SAMPLES {
        let (samples, matrices) = match k {
            1 => (format!("{n} samples"), "n × n"),
            _ => (format!("{n} samples with {k} targets"), "nk × nk"),
        };
        let reason = format!(
            "{samples} are too many for {matrices} matrices (at most {MOST_SAMPLES}): take some of \
             them"
        );
        return Err(Failure::input(options.data.as_ref().unwrap_or(&options.model), reason));
    }
    let parameters = load::parameters(&options.parameters, network)?;
    let fail = |reason: String| Failure::input(&options.parameters, reason);
    let gram = network.gram(&parameters, data.inputs());
    let sharpness =
        flatmin_linalg::gram_sharpness(gram.as_ref()).map_err(|error| fail(error.to_string()))?;
    let population = network
        .population(&parameters, options.input_variance)
        .map_err(|error| fail(error.to_string()))?;
    let batches = thresholds(options, gram, n, k)?;
    // A step of length zero sees the loss and its gradient.
    let still = Update { learning_rate: 0.0, clip_norm: f64::INFINITY };
    let Step { loss, gradient_norm, .. } = network.kernel(data, &parameters).full_step(still);
    let norms = network.norms(&parameters);
    let report = Report {
        schema: SCHEMA,
        samples: n,
        outputs: k,
        parameters: parameters.len(),
        loss: Number(loss),
        gradient_norm: Number(gradient_norm),
        sharpness: sharpness.into(),
        path_norm: norms.path_norm.map(Number),
        l1_norm: norms.l1_norm.map(Number),
        l2_norm: norms.l2_norm.map(Number),
        balance_ratio: norms.balance_ratio.map(Number),
        input_variance: Number(options.input_variance),
        population: population.map(Measures::from),
        batches,
    };
    match options.format {
        Format::Json => output::print_json(&report)?,
        Format::Text => output::print(&text(&report, network, options))?,
    }
    Ok(Exit::Done)
}

/// The thresholds for the batches that were asked for.
fn thresholds(
    options: &Options,
    gram: Mat<f64>,
    n: usize,
    k: usize,
) -> Result<Vec<BatchReport>, Failure> {
    let minimum = Gram::from_means(gram)
        .and_then(|gram| gram.with_outputs(k))
        .and_then(|gram| Minimum::from_gram(gram, Parallelism::Rayon))
        .map_err(Failure::theory(&options.parameters))?;
    let mut batches = Vec::new();
    for &batch_size in &options.batches.batch_size {
        let batch = Batch::new(batch_size, options.batches.sampling)
            .map_err(Failure::theory(&options.parameters))?;
        let noise = batch.noise_coefficient(n).map_err(Failure::theory(&options.parameters))?;
        let thresholds =
            ThresholdOptions { parallelism: Parallelism::Rayon, ..ThresholdOptions::default() };
        let threshold = threshold_with(&minimum, &Optimizer::sgd(), &batch, &thresholds)
            .map_err(Failure::theory(&options.parameters))?;
        batches.push(BatchReport {
            batch_size,
            sampling: options.batches.sampling,
            noise_coefficient: Number(noise),
            threshold: threshold.into(),
        });
    }
    Ok(batches)
}

fn text<N: Network>(report: &Report, network: &N, options: &Options) -> String {
    let rows = |rows: &[(&str, Option<Number>)]| {
        let present = rows.iter().filter_map(|(name, number)| Some((name, (*number)?)));
        let cells =
            present.map(|(name, number)| vec![(*name).to_owned(), significant(number.0, DIGITS)]);
        table(&[], &cells.collect::<Vec<_>>())
    };
    let measured = rows(&[
        ("loss", Some(report.loss)),
        ("norm of its gradient", Some(report.gradient_norm)),
        ("path norm", report.path_norm),
        ("ℓ1 norm", report.l1_norm),
        ("ℓ2 norm", report.l2_norm),
        ("balance ratio", report.balance_ratio),
    ]);
    let sharpness = |measures: Measures| {
        rows(&[
            ("trace", Some(measures.trace)),
            ("Frobenius norm", Some(measures.frobenius_norm)),
            ("largest eigenvalue", Some(measures.lambda_max)),
        ])
    };
    let empirical = sharpness(report.sharpness);
    let population = network.population_inputs(options.input_variance).map(|inputs| {
        let sharpness = match report.population {
            Some(measures) => sharpness(measures),
            None => "  not computed for a network of this width\n".to_owned(),
        };
        format!("Sharpness of the population matrix Ḡ, for {inputs}\n{sharpness}\n")
    });
    let residual = if network.output_dim() == 1 { "(f − y)²" } else { "‖f − y‖²" };
    let rows: Vec<Vec<String>> = report
        .batches
        .iter()
        .map(|batch| vec![batch.batch_size.to_string(), batch.threshold.text()])
        .collect();
    let thresholds = format!(
        "Largest stable learning rate η* of SGD (mean square, exact) if this is a minimum, batches \
         drawn {}\n{}",
        options.batches.sampling_words(),
        table(&["batch size", "certified interval"], &rows)
    );
    format!(
        "{}: {} parameters, {} samples\n\
         Loss (1/2n) Σ {residual}, so that G = JᵀJ/n.\n\n{measured}\n\
         Sharpness of the Gauss–Newton matrix G\n{empirical}\n{}{thresholds}",
        network.describe(),
        report.parameters,
        report.samples,
        population.unwrap_or_default(),
    )
}
