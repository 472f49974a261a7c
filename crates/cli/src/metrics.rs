//! `flatmin metrics`: a model at given parameters.

use std::path::PathBuf;

use clap::Args;
use faer::Mat;
use flatmin_host::{Exit, Format, print, print_json, significant};
use flatmin_linalg::{Parallelism, Sharpness};
use flatmin_models::{Dataset, Loss};
use flatmin_optim::{Step, Update};
use flatmin_theory::{
    Batch, Gram, Minimum, Optimizer, Sampling, ThresholdError, ThresholdOptions, threshold_with,
};
use serde::Serialize;

use crate::batches::Batches;
use crate::column::Column;
use crate::config::{self, LossConfig};
use crate::curvature::{Curvature, curvature};
use crate::data;
use crate::failure::Failure;
use crate::gram::weighted_gram;
use crate::limits::{MAX_SAMPLES, samples_and_matrix};
use crate::network::{Network, Norms};
use crate::values;
use crate::words::{DIGITS, Interval, Measures, Number, table};

/// The format of the JSON output.
const METRICS_SCHEMA: &str = "flatmin.metrics/1";

/// Measure a model at given parameters: loss, sharpness, norms, and its exact stability threshold.
///
/// The loss is (1/2n) Σ ‖f(x) − y‖², so that the Gauss–Newton matrix is G = JᵀJ/n, or the
/// cross-entropy of the configuration.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  flatmin metrics run.toml --parameters run/parameters.npz --batch-size 1,8
  flatmin metrics model.toml --parameters parameters.npz --data data.npz")]
pub(crate) struct MetricsArguments {
    #[arg(
        value_name = "MODEL.toml",
        help = "The model: a TOML file with a table [model], such as that of a training run"
    )]
    model: PathBuf,
    /// The parameters: arrays w and a (two-layer-relu), a and b (diagonal-linear), or w1, b1, w2,
    /// ... (perceptron).
    #[arg(long, value_name = "FILE")]
    parameters: PathBuf,
    /// The data: arrays x (n × d) and y (n, or n × k) [default: the training data of MODEL.toml].
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
struct MetricsReport {
    schema: &'static str,
    samples: usize,
    outputs: usize,
    parameters: usize,
    /// Left out for the squared loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    loss_function: Option<String>,
    loss: Number,
    gradient_norm: Number,
    #[serde(flatten)]
    sharpness: Measures,
    #[serde(flatten)]
    norms: Norms,
    input_variance: Number,
    population: Option<Measures>,
    batches: Vec<ThresholdReport>,
}

#[derive(Debug, Serialize)]
struct ThresholdReport {
    batch_size: usize,
    sampling: Sampling,
    noise_coefficient: Number,
    threshold: Interval,
}

fn data_and_model(arguments: &MetricsArguments) -> Result<(Dataset, Box<dyn Network>), Failure> {
    let (model, config) = config::model(&arguments.model, None)?;
    let Some(file) = &arguments.data else {
        let config = config.ok_or_else(|| {
            let reason = "names no data: give --data FILE, or the configuration of a run";
            Failure::input(&arguments.model, reason)
        })?;
        let (data, model) = data::data_and_model(&arguments.model, &config)?;
        return Ok((data.train, model));
    };
    let data = data::dataset(file, config.map_or_else(LossConfig::default, |config| config.loss))?;
    let (dim, outputs) = (data.inputs().columns(), data.output_dim());
    model.check_dimensions(dim, outputs).map_err(Failure::at(file))?;
    Ok((data, model.sized(dim, outputs).map_err(Failure::at(&arguments.model))?))
}

/// Measures a model.
pub(crate) fn metrics(arguments: &MetricsArguments) -> Result<Exit, Failure> {
    let (data, network) = data_and_model(arguments)?;
    let (n, k) = (data.sample_count(), data.output_dim());
    let parameters = data::parameters(&arguments.parameters, &*network)?;
    let fail = Failure::at(&arguments.parameters);
    let (sharpness, batches) = if n.saturating_mul(k) <= MAX_SAMPLES {
        let gram = weighted_gram(&*network, &parameters, &data)
            .map_err(Failure::at(&arguments.parameters))?;
        let sharpness = flatmin_linalg::gram_sharpness(gram.as_ref()).map_err(&fail)?;
        let batches = thresholds(&arguments.batches, gram, (n, k));
        (sharpness, batches.map_err(Failure::at(&arguments.parameters))?)
    } else {
        let columns = [Column::FrobeniusNorm, Column::LambdaMax];
        let measured = curvature(&*network, &parameters, &data, &columns).map_err(&fail)?;
        let Curvature { trace, frobenius_norm, lambda_max, .. } = measured;
        (Sharpness { trace, frobenius_norm, lambda_max }, Vec::new())
    };
    let population = network.population(&parameters, arguments.input_variance).map_err(&fail)?;
    // A step of length zero yields the loss and its gradient.
    let still = Update { learning_rate: 0.0, clip_norm: f64::INFINITY };
    let Step { loss: excess, gradient_norm, .. } =
        network.kernel(&data, &parameters).full_step(still);
    let function = data.loss_function();
    let is_squared = function == Loss::Squared;
    let loss = if is_squared { excess } else { data.loss(&*network, &parameters) };
    let report = MetricsReport {
        schema: METRICS_SCHEMA,
        samples: n,
        outputs: k,
        parameters: parameters.len(),
        loss_function: (!is_squared).then(|| function.to_string()),
        loss: Number(loss),
        gradient_norm: Number(gradient_norm),
        sharpness: sharpness.into(),
        norms: network.norms(&parameters),
        input_variance: Number(arguments.input_variance),
        population: population.map(Measures::from),
        batches,
    };
    match arguments.format {
        Format::Json => print_json(&report)?,
        Format::Text => print(&text(&report, &*network, arguments))?,
    }
    Ok(Exit::Done)
}

/// The thresholds for batches, from the Gram matrix of n samples with k outputs.
fn thresholds(
    batches: &Batches,
    gram: Mat<f64>,
    (n, k): (usize, usize),
) -> Result<Vec<ThresholdReport>, ThresholdError> {
    let gram = Gram::from_means(gram)?.with_outputs(k)?;
    let minimum = Minimum::from_gram(gram, Parallelism::Rayon)?;
    let sampling = batches.sampling();
    let threshold = |&batch_size: &usize| {
        let batch = Batch::new(batch_size, sampling)?;
        let noise_coefficient = Number(batch.noise_coefficient(n)?);
        let settings =
            ThresholdOptions { parallelism: Parallelism::Rayon, ..ThresholdOptions::default() };
        let threshold = threshold_with(&minimum, &Optimizer::sgd(), &batch, &settings)?.into();
        Ok(ThresholdReport { batch_size, sampling, noise_coefficient, threshold })
    };
    batches.batch_size.iter().map(threshold).collect()
}

fn text(report: &MetricsReport, network: &dyn Network, arguments: &MetricsArguments) -> String {
    let rows = |rows: &[(&str, Option<Number>)]| {
        let present = rows.iter().filter_map(|(name, number)| Some((name, (*number)?)));
        let cells = present.map(|(name, number)| {
            let text = match number.0 {
                value if value.is_nan() => "not computed".to_owned(),
                value => significant(value, DIGITS),
            };
            vec![(*name).to_owned(), text]
        });
        table(&[], &cells.collect::<Vec<_>>())
    };
    let measured = rows(&[
        ("loss", Some(report.loss)),
        ("norm of its gradient", Some(report.gradient_norm)),
        ("path norm", report.norms.path_norm),
        ("ℓ1 norm", report.norms.l1_norm),
        ("ℓ2 norm", report.norms.l2_norm),
        ("balance ratio", report.norms.balance_ratio),
    ]);
    let sharpness = |measures: Measures| {
        rows(&[
            ("trace", Some(measures.trace)),
            ("Frobenius norm", Some(measures.frobenius_norm)),
            ("largest eigenvalue", Some(measures.lambda_max)),
        ])
    };
    let empirical = sharpness(report.sharpness);
    let population = network.population_inputs(arguments.input_variance).map(|inputs| {
        let sharpness = match report.population {
            Some(measures) => sharpness(measures),
            None => "  not computed for a network of this width\n".to_owned(),
        };
        format!("Sharpness of the population matrix Ḡ, for {inputs}\n{sharpness}\n")
    });
    let residual = if network.output_dim() == 1 { "(f − y)²" } else { "‖f − y‖²" };
    let loss = match &report.loss_function {
        None => format!("(1/2n) Σ {residual}, so that G = JᵀJ/n"),
        Some(name) => format!("{name}, so that G = (1/n) Σ Jᵀ(diag π − ππᵀ)J with π = softmax(f)"),
    };
    let rows: Vec<Vec<String>> = report
        .batches
        .iter()
        .map(|batch| vec![batch.batch_size.to_string(), batch.threshold.text()])
        .collect();
    let thresholds = if rows.is_empty() {
        let (samples, matrix) = samples_and_matrix(report.samples, report.outputs);
        format!(
            "No thresholds: they need all of an {matrix} matrix, which is too large for {samples} (at \
             most {MAX_SAMPLES}).\n"
        )
    } else {
        format!(
            "Largest stable learning rate η* of SGD (mean square, exact) if this is a minimum, \
             batches drawn {}\n{}",
            arguments.batches.sampling_words(),
            table(&["batch size", "certified interval"], &rows)
        )
    };
    format!(
        "{}: {} parameters, {} samples\n\
         Loss {loss}.\n\n{measured}\n\
         Sharpness of the Gauss–Newton matrix G\n{empirical}\n{}{thresholds}",
        network.describe(),
        report.parameters,
        report.samples,
        population.unwrap_or_default(),
    )
}
