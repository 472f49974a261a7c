//! Brackets as JSON.

use flatmin_theory::Sampling;
use serde::Serialize;

use super::BracketAnalysis;
use crate::analyze::analysis::Model;
use crate::analyze::arguments::AnalyzeArguments;
use crate::analyze::doubts::Doubt;
use crate::analyze::report::GradientReport;
use crate::analyze::training::Loss;
use crate::brackets::{BatchBracket, FoundReport, LeadingReport, lambda_max};
use crate::edge::EdgeReport;
use crate::optimizer::OptimizerReport;
use crate::words::Number;

#[derive(Debug, Serialize)]
pub(crate) struct BracketReport<'a> {
    schema: &'static str,
    file: String,
    array: Option<&'a str>,
    samples: usize,
    outputs: usize,
    parameters: usize,
    loss_scale: f64,
    momentum: f64,
    loss: Loss,
    model: Model,
    /// `None` where a program gives products in place of an array.
    reading: Option<&'a str>,
    doubts: &'a [Doubt],
    residual_gradients: Option<GradientReport>,
    /// The rank of G and its Frobenius norm are not found.
    rank: Option<usize>,
    trace: Number,
    frobenius_norm: Option<Number>,
    /// The lower end of `lambda_max_interval`.
    lambda_max: Number,
    max_gradient_norm_squared: Number,
    #[serde(flatten)]
    leading: LeadingReport,
    batches: Vec<BatchReport>,
}

#[derive(Debug, Serialize)]
struct BatchReport {
    batch_size: usize,
    sampling: Sampling,
    optimizer: OptimizerReport,
    noise_coefficient: f64,
    threshold: EdgeReport,
    #[serde(flatten)]
    found: FoundReport,
    learning_rates: Vec<RateReport>,
}

#[derive(Debug, Serialize)]
struct RateReport {
    learning_rate: f64,
    verdict: &'static str,
    margin: Number,
}

/// The answer as JSON.
pub(crate) fn report<'a>(
    arguments: &AnalyzeArguments,
    analysis: &'a BracketAnalysis,
) -> BracketReport<'a> {
    let scale = arguments.loss_scale;
    let last = analysis.batches.last();
    BracketReport {
        schema: "flatmin.analyze/1",
        file: arguments.file.to_string_lossy().into_owned(),
        array: analysis.array.as_deref(),
        samples: analysis.samples,
        outputs: analysis.outputs,
        parameters: analysis.parameters,
        loss_scale: scale,
        momentum: arguments.training.optimizer.momentum,
        loss: arguments.training.loss,
        model: analysis.model,
        reading: analysis.reading.as_ref().map(|reading| reading.sentence.as_str()),
        doubts: &analysis.doubts,
        residual_gradients: analysis.point.map(GradientReport::from),
        trace: Number(last.map_or(0.0, |batch| scale * batch.bracket.trace)),
        rank: None,
        frobenius_norm: None,
        lambda_max: Number(scale * lambda_max(&analysis.batches).0),
        max_gradient_norm_squared: Number(scale * analysis.largest_own),
        leading: LeadingReport::new(&analysis.batches, scale),
        batches: analysis
            .batches
            .iter()
            .map(|batch| batch_report(arguments, analysis, batch))
            .collect(),
    }
}

fn batch_report(
    arguments: &AnalyzeArguments,
    analysis: &BracketAnalysis,
    batch: &BatchBracket,
) -> BatchReport {
    let rate = |rate: &f64| {
        let (verdict, margin) = batch.verdict(*rate);
        RateReport { learning_rate: *rate, verdict, margin: Number(margin) }
    };
    BatchReport {
        batch_size: batch.batch_size,
        sampling: arguments.batches.sampling(),
        optimizer: OptimizerReport::new(&analysis.optimizer, analysis.is_preconditioned),
        noise_coefficient: batch.noise.coefficient,
        threshold: batch.edge().into(),
        found: FoundReport::new(batch),
        learning_rates: arguments.batches.learning_rate.iter().map(rate).collect(),
    }
}
