//! Brackets as JSON.

use flatmin_theory::{BracketStop, RitzMode, Sampling, ThresholdBracket};
use serde::Serialize;

use super::{BatchBracket, BracketAnalysis};
use crate::analyze::analysis::Model;
use crate::analyze::arguments::AnalyzeArguments;
use crate::analyze::doubts::Doubt;
use crate::analyze::report::GradientReport;
use crate::analyze::training::Loss;
use crate::optimizer::OptimizerReport;
use crate::words::{Interval, Number};

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
    doubts: &'a [Doubt],
    residual_gradients: Option<GradientReport>,
    /// The rank of G and its Frobenius norm are not found.
    rank: Option<usize>,
    trace: Number,
    frobenius_norm: Option<Number>,
    /// The lower end of `lambda_max_interval`.
    lambda_max: Number,
    lambda_max_interval: Interval,
    max_gradient_norm_squared: Number,
    leading_modes: Vec<ModeReport>,
    batches: Vec<BatchReport>,
}

#[derive(Debug, Serialize)]
struct ModeReport {
    eigenvalue: Number,
    residual: Number,
}

#[derive(Debug, Serialize)]
struct EndsReport {
    #[serde(flatten)]
    interval: Interval,
    estimate: Number,
    kind: &'static str,
    confidence: f64,
}

#[derive(Debug, Serialize)]
struct BatchReport {
    batch_size: usize,
    sampling: Sampling,
    optimizer: OptimizerReport,
    noise_coefficient: f64,
    threshold: EndsReport,
    relative_width: f64,
    status: &'static str,
    bracket: ModesReport,
    bounds: BoundsReport,
    learning_rates: Vec<RateReport>,
}

/// How a bracket was found.
#[derive(Debug, Serialize)]
struct ModesReport {
    rank: usize,
    converged: usize,
    products: usize,
    rest_of_trace: f64,
    rest_of_heaviest_sample: f64,
    rank_for_one_percent: Option<usize>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "UPPERCASE")]
struct BoundsReport {
    s2: Number,
    s5: Number,
    s6: Number,
    s7: Number,
    s19: Number,
}

#[derive(Debug, Serialize)]
struct RateReport {
    learning_rate: f64,
    verdict: &'static str,
    margin: Number,
}

/// The reason for the end of a bracket, in the word of the JSON.
fn status(stop: BracketStop) -> &'static str {
    match stop {
        BracketStop::Width => "width_reached",
        BracketStop::Complete => "complete",
        BracketStop::Products => "products_spent",
        BracketStop::Rank => "rank_reached",
        BracketStop::Memory => "memory_spent",
        BracketStop::Caller => "interrupted",
    }
}

/// The answer as JSON.
pub(crate) fn report<'a>(
    arguments: &AnalyzeArguments,
    analysis: &'a BracketAnalysis,
) -> BracketReport<'a> {
    let scale = arguments.loss_scale;
    let of_all = |get: fn(&ThresholdBracket) -> f64, choose: fn(f64, f64) -> f64| {
        analysis.batches.iter().map(|batch| scale * get(&batch.bracket)).reduce(choose)
    };
    let lower = of_all(|bracket| bracket.lambda_max.0, f64::max).unwrap_or(0.0);
    let upper = of_all(|bracket| bracket.lambda_max.1, f64::min).unwrap_or(f64::INFINITY);
    let last = analysis.batches.last();
    let mode = |mode: &RitzMode| ModeReport {
        eigenvalue: Number(scale * mode.value),
        residual: Number(scale * mode.residual),
    };
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
        doubts: &analysis.doubts,
        residual_gradients: analysis.gradients.map(GradientReport::from),
        trace: Number(last.map_or(0.0, |batch| scale * batch.bracket.trace)),
        rank: None,
        frobenius_norm: None,
        lambda_max: Number(lower),
        lambda_max_interval: Interval::new(lower, upper),
        max_gradient_norm_squared: Number(scale * analysis.largest_own),
        leading_modes: last
            .map(|batch| batch.bracket.modes.iter().map(mode).collect())
            .unwrap_or_default(),
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
    let bracket = &batch.bracket;
    let bounds = bracket.bounds;
    let rate = |rate: &f64| {
        let (verdict, margin) = batch.verdict(*rate);
        RateReport { learning_rate: *rate, verdict, margin: Number(margin) }
    };
    BatchReport {
        batch_size: batch.batch_size,
        sampling: arguments.batches.sampling(),
        optimizer: OptimizerReport::new(&analysis.optimizer, analysis.is_preconditioned),
        noise_coefficient: batch.noise.coefficient,
        threshold: EndsReport {
            interval: Interval::new(bracket.lower, bracket.upper),
            estimate: Number(bracket.estimate),
            kind: "bracket",
            confidence: 1.0 - bracket.failure_probability,
        },
        relative_width: bracket.relative_width(),
        status: status(bracket.stop),
        bracket: ModesReport {
            rank: bracket.rank,
            converged: bracket.converged,
            products: bracket.products,
            rest_of_trace: (bracket.rest_of_trace / bracket.trace.max(f64::MIN_POSITIVE)).max(0.0),
            rest_of_heaviest_sample: bracket.rest_of_heaviest,
            rank_for_one_percent: bracket.rank_for_one_percent,
        },
        bounds: BoundsReport {
            s2: Number(bounds.trace),
            s5: Number(bounds.lambda_max),
            s6: Number(bounds.spectral),
            s7: Number(bounds.sufficient),
            s19: Number(bounds.contraction),
        },
        learning_rates: arguments.batches.learning_rate.iter().map(rate).collect(),
    }
}
