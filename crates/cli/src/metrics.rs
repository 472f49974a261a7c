//! `flatmin metrics`: a model at given parameters.

use std::path::PathBuf;

use clap::Args;
use faer::Mat;
use flatmin_curvature::ModelJacobian;
use flatmin_host::{Exit, Format, interrupt, print, print_json, significant};
use flatmin_linalg::{Parallelism, Sharpness};
use flatmin_models::{Dataset, Loss};
use flatmin_optim::{Step, Update};
use flatmin_theory::{Gram, Minimum, Optimizer, Sampling, ThresholdError, ThresholdOptions};
use serde::Serialize;

use crate::batches::Batches;
use crate::brackets::{
    Asked, BatchBracket, BracketArguments, FoundReport, LeadingReport, bounds_text, ends_text,
    lambda_max, obstacle,
};
use crate::column::Column;
use crate::config::{self, LossConfig};
use crate::curvature::{Curvature, curvature};
use crate::data;
use crate::edge::{Edge, EdgeReport, Question, VerdictReport, certainty, margin};
use crate::failure::Failure;
use crate::gram::weighted_gram;
use crate::limits::{MAX_SAMPLES, samples_and_matrix};
use crate::network::{Network, Norms};
use crate::optimizer::{OptimizerArguments, OptimizerReport};
use crate::values;
use crate::words::{DIGITS, Measures, Number, PROGRAM, table};

/// The format of the JSON output.
const METRICS_SCHEMA: &str = "flatmin.metrics/1";

/// Measure a model at given parameters: loss, sharpness, norms, and its exact stability threshold.
///
/// The loss is (1/2n) Σ ‖f(x) − y‖², so that the Gauss–Newton matrix is G = JᵀJ/n, or the
/// cross-entropy of the configuration.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flatmin metrics run.toml --parameters run/parameters.npz --batch-size 1,8
  flatmin metrics run.toml --parameters run/parameters.npz --momentum 0.9 --learning-rate 0.01
  flatmin metrics mnist.toml --parameters mnist/parameters.npz --relative-width 0.05
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
    #[command(flatten)]
    optimizer: OptimizerArguments,
    /// The loss is this many times that of the model; 2 for a mean squared error (2/k for one that
    /// is also the mean over k outputs).
    #[arg(long, value_name = "c", default_value = "1", value_parser = values::positive_fraction)]
    loss_scale: f64,
    #[command(flatten)]
    bracket: BracketArguments,
    /// Most memory for the modes of a bracket, in GiB.
    #[arg(long, value_name = "GIB", default_value = "4", value_parser = values::positive)]
    memory_limit: f64,
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
    loss_scale: f64,
    /// Left out for the squared loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    loss_function: Option<String>,
    loss: Number,
    gradient_norm: Number,
    #[serde(flatten)]
    sharpness: Measures,
    /// With a bracket.
    #[serde(flatten)]
    leading: Option<LeadingReport>,
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
    drop_last: bool,
    optimizer: OptimizerReport,
    /// `None` for batches that depend on each other.
    noise_coefficient: Option<Number>,
    threshold: EdgeReport,
    /// With a bracket.
    #[serde(flatten)]
    found: Option<FoundReport>,
    learning_rates: Vec<VerdictReport>,
    #[serde(skip)]
    edge: Edge,
}

/// What is known of G, and the thresholds.
struct Measured {
    /// Of the loss without scale.
    sharpness: Sharpness,
    batches: Vec<ThresholdReport>,
    /// The brackets that the thresholds come from, if any.
    brackets: Vec<BatchBracket>,
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
    let optimizer = arguments.optimizer.optimizer()?;
    arguments.bracket.check(&arguments.batches, &optimizer)?;
    let scale = arguments.loss_scale;
    let (data, network) = data_and_model(arguments)?;
    let (n, k) = (data.sample_count(), data.output_dim());
    let parameters = data::parameters(&arguments.parameters, &*network)?;
    let fail = Failure::at(&arguments.parameters);
    let Measured { sharpness, batches, brackets } =
        measured(arguments, &optimizer, &*network, &parameters, &data)?;
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
        loss_scale: scale,
        loss: Number(scale * loss),
        gradient_norm: Number(scale * gradient_norm),
        sharpness: scaled(sharpness, scale).into(),
        leading: (!brackets.is_empty()).then(|| LeadingReport::new(&brackets, scale)),
        norms: network.norms(&parameters),
        input_variance: Number(arguments.input_variance),
        population: population.map(|sharpness| scaled(sharpness, scale).into()),
        batches,
    };
    match arguments.format {
        Format::Json => print_json(&report)?,
        Format::Text => print(&text(&report, &brackets, &*network, arguments, &optimizer))?,
    }
    Ok(Exit::Done)
}

/// Measures G by its Gram matrix, or by products where a bracket is asked for or the matrix is too
/// large.
fn measured(
    arguments: &MetricsArguments,
    optimizer: &Optimizer,
    network: &(dyn Network + 'static),
    parameters: &[f64],
    data: &Dataset,
) -> Result<Measured, Failure> {
    let fail = Failure::at(&arguments.parameters);
    let (n, k) = (data.sample_count(), data.output_dim());
    if arguments.bracket.is_wanted() {
        return bracketed(arguments, &arguments.bracket, optimizer, network, parameters, data);
    }
    if n.saturating_mul(k) <= MAX_SAMPLES {
        let gram =
            weighted_gram(network, parameters, data).map_err(Failure::at(&arguments.parameters))?;
        let sharpness = flatmin_linalg::gram_sharpness(gram.as_ref()).map_err(&fail)?;
        let batches = thresholds(arguments, optimizer, gram, (n, k))
            .map_err(Failure::at(&arguments.parameters))?;
        return Ok(Measured { sharpness, batches, brackets: Vec::new() });
    }
    let columns = [Column::FrobeniusNorm, Column::LambdaMax];
    let measured = curvature(network, parameters, data, &columns).map_err(&fail)?;
    let Curvature { trace, frobenius_norm, lambda_max, .. } = measured;
    let sharpness = Sharpness { trace, frobenius_norm, lambda_max };
    if obstacle(&arguments.batches, optimizer).is_some() {
        return Ok(Measured { sharpness, batches: Vec::new(), brackets: Vec::new() });
    }
    let usual = arguments.bracket.in_place_of_exact();
    let found = bracketed(arguments, &usual, optimizer, network, parameters, data)?;
    Ok(Measured { sharpness, ..found })
}

/// The thresholds of all batch sizes as brackets, and what the same modes tell of G.
#[expect(clippy::too_many_arguments, reason = "arguments, and the model on its data")]
fn bracketed(
    arguments: &MetricsArguments,
    bracket: &BracketArguments,
    optimizer: &Optimizer,
    network: &(dyn Network + 'static),
    parameters: &[f64],
    data: &Dataset,
) -> Result<Measured, Failure> {
    interrupt::watch(PROGRAM, "the bracket", Some("stopping with the bracket reached"));
    let jacobian = ModelJacobian::new(network, parameters, data, Parallelism::Rayon)
        .map_err(Failure::at(&arguments.parameters))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size")]
    let memory = (arguments.memory_limit * f64::from(1 << 30)) as usize;
    let asked = Asked {
        path: &arguments.parameters,
        batches: &arguments.batches,
        optimizer,
        loss_scale: arguments.loss_scale,
        arguments: bracket,
        memory,
        parallelism: Parallelism::Rayon,
        stop: &interrupt::requested,
    };
    let brackets = asked.brackets(&jacobian)?;
    let report = |batch: &BatchBracket| {
        let edge = batch.edge();
        ThresholdReport {
            batch_size: batch.batch_size,
            sampling: arguments.batches.sampling(),
            drop_last: arguments.batches.drop_last,
            optimizer: OptimizerReport::new(optimizer, false),
            noise_coefficient: Some(Number(batch.noise.coefficient)),
            threshold: edge.into(),
            found: Some(FoundReport::new(batch)),
            learning_rates: verdicts(arguments, &edge),
            edge,
        }
    };
    let batches = brackets.iter().map(report).collect();
    let trace = brackets.last().map_or(f64::NAN, |batch| batch.bracket.trace);
    let sharpness =
        Sharpness { trace, frobenius_norm: f64::NAN, lambda_max: lambda_max(&brackets).0 };
    Ok(Measured { sharpness, batches, brackets })
}

/// The verdicts on the learning rates asked about.
fn verdicts(arguments: &MetricsArguments, edge: &Edge) -> Vec<VerdictReport> {
    arguments.batches.learning_rate.iter().map(|rate| edge.verdict(*rate)).collect()
}

/// The sharpness of `scale` times the loss.
fn scaled(sharpness: Sharpness, scale: f64) -> Sharpness {
    let Sharpness { trace, frobenius_norm, lambda_max } = sharpness;
    Sharpness {
        trace: scale * trace,
        frobenius_norm: scale * frobenius_norm,
        lambda_max: scale * lambda_max,
    }
}

/// The thresholds for batches, from the Gram matrix of n samples with k outputs.
fn thresholds(
    arguments: &MetricsArguments,
    optimizer: &Optimizer,
    gram: Mat<f64>,
    (n, k): (usize, usize),
) -> Result<Vec<ThresholdReport>, ThresholdError> {
    let (batches, loss_scale) = (&arguments.batches, arguments.loss_scale);
    let gram = Gram::from_means(gram)?.with_outputs(k)?;
    let minimum = Minimum::from_gram(gram, Parallelism::Rayon)?;
    let unscaled = optimizer.for_loss_scale(1.0 / loss_scale);
    let question = Question {
        minimum: &minimum,
        optimizer: &unscaled,
        loss_scale,
        parallelism: Parallelism::Rayon,
    };
    let threshold = |&batch_size: &usize| {
        let batch = batches.of_size(batch_size)?;
        let noise_coefficient = match batches.sampling() {
            Sampling::Reshuffling => None,
            _ => Some(Number(batch.noise_coefficient(n)?)),
        };
        let edge = question.edge(&batch, ThresholdOptions::default().relative_width)?;
        Ok(ThresholdReport {
            batch_size,
            sampling: batches.sampling(),
            drop_last: batches.drop_last,
            optimizer: OptimizerReport::new(optimizer, false),
            noise_coefficient,
            threshold: edge.into(),
            found: None,
            learning_rates: verdicts(arguments, &edge),
            edge,
        })
    };
    batches.batch_size.iter().map(threshold).collect()
}

/// The thresholds and the verdicts in words.
fn threshold_text(
    report: &MetricsReport,
    brackets: &[BatchBracket],
    arguments: &MetricsArguments,
    optimizer: &Optimizer,
) -> String {
    let (samples, matrix) = samples_and_matrix(report.samples, report.outputs);
    let too_large = format!(
        "they need all of an {matrix} matrix, which is too large for {samples} (at most {MAX_SAMPLES})"
    );
    if let Some(obstacle) = obstacle(&arguments.batches, optimizer)
        && report.batches.is_empty()
    {
        return format!("No thresholds: {too_large}; {}.\n", obstacle.words());
    }
    let drawn = arguments.batches.sampling_words();
    let mut text = if brackets.is_empty() {
        let edges: Vec<Edge> = report.batches.iter().map(|batch| batch.edge).collect();
        let (certainty, interval) = certainty(&edges);
        let rows: Vec<Vec<String>> = report
            .batches
            .iter()
            .map(|batch| vec![batch.batch_size.to_string(), batch.edge.interval_words()])
            .collect();
        format!(
            "Largest stable learning rate η* of {optimizer} (mean square, {certainty}) if this is a minimum, \
             batches drawn {drawn}\n{}",
            table(&["batch size", &interval], &rows)
        )
    } else {
        let reason = if arguments.bracket.is_wanted() {
            String::new()
        } else {
            let limits = arguments.bracket.in_place_of_exact().limits_text();
            format!(
                "No exact thresholds: {too_large}.\nBrackets from products take their place, {limits}; \
                 --relative-width and --rank set other limits.\n\n"
            )
        };
        format!(
            "{reason}Largest stable learning rate η* of {optimizer} (mean square) if this is a minimum, \
             bracketed by leading modes, batches drawn {drawn}\n{}{}",
            ends_text(brackets, optimizer),
            bounds_text(brackets)
        )
    };
    let verdict = |batch: &ThresholdReport, rate: &VerdictReport| {
        vec![
            batch.batch_size.to_string(),
            significant(rate.learning_rate, 15),
            rate.verdict.to_owned(),
            margin(batch.edge.estimate, rate.learning_rate),
        ]
    };
    let verdicts: Vec<Vec<String>> = report
        .batches
        .iter()
        .flat_map(|batch| batch.learning_rates.iter().map(move |rate| verdict(batch, rate)))
        .collect();
    if !verdicts.is_empty() {
        text.push_str("\nThe learning rates asked about\n");
        text.push_str(&table(&["batch size", "η", "verdict", "margin"], &verdicts));
    }
    text
}

fn text(
    report: &MetricsReport,
    brackets: &[BatchBracket],
    network: &dyn Network,
    arguments: &MetricsArguments,
    optimizer: &Optimizer,
) -> String {
    let thresholds = threshold_text(report, brackets, arguments, optimizer);
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
    let (times, factor) = match arguments.loss_scale {
        1.0 => (String::new(), String::new()),
        scale => (format!("{} × ", significant(scale, 15)), format!("{} ", significant(scale, 15))),
    };
    let loss = match &report.loss_function {
        None => format!("{times}(1/2n) Σ {residual}, so that G = {factor}JᵀJ/n"),
        Some(name) if !times.is_empty() => {
            format!("{times}{name}, and G is that many times (1/n) Σ Jᵀ(diag π − ππᵀ)J")
        }
        Some(name) => format!("{name}, so that G = (1/n) Σ Jᵀ(diag π − ππᵀ)J with π = softmax(f)"),
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
