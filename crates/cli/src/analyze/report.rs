//! The answer of `flatmin analyze` as JSON.

use std::collections::BTreeMap;
use std::ops::Range;

use flatmin_linalg::Sharpness;
use flatmin_theory::{Bounds, Sampling, Stability, ThresholdStatus};
use serde::Serialize;

use super::analysis::{Analysis, BatchAnalysis, verdict};
use super::arguments::AnalyzeArguments;
use crate::words::{Interval, Measures, Number};

#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    schema: &'static str,
    file: String,
    array: Option<&'a str>,
    samples: usize,
    outputs: usize,
    parameters: Option<usize>,
    rank: usize,
    loss_scale: f64,
    momentum: f64,
    #[serde(flatten)]
    sharpness: Measures,
    max_gradient_norm_squared: Number,
    blocks: Option<Vec<BlockReport<'a>>>,
    batches: Vec<BatchReport>,
}

#[derive(Debug, Serialize)]
struct BlockReport<'a> {
    name: &'a str,
    first: usize,
    end: usize,
    #[serde(flatten)]
    sharpness: Measures,
}

#[derive(Debug, Serialize)]
struct BatchReport {
    batch_size: usize,
    sampling: Sampling,
    noise_coefficient: f64,
    threshold: Interval,
    relative_width: f64,
    iterations: usize,
    status: &'static str,
    bounds: Option<BTreeMap<&'static str, Number>>,
    learning_rates: Vec<LearningRateReport>,
}

#[derive(Debug, Serialize)]
struct LearningRateReport {
    learning_rate: f64,
    verdict: &'static str,
    margin: Number,
}

/// The answer as JSON.
pub(super) fn report<'a>(arguments: &AnalyzeArguments, analysis: &'a Analysis) -> Report<'a> {
    let (source, minimum) = (&analysis.source, &analysis.source.minimum);
    let block = |(name, range, sharpness): (&'a str, Range<usize>, Sharpness)| BlockReport {
        name,
        first: range.start,
        end: range.end,
        sharpness: Measures::from(sharpness),
    };
    Report {
        schema: "flatmin.analyze/1",
        file: arguments.file.to_string_lossy().into_owned(),
        array: source.array.as_deref(),
        samples: minimum.sample_count(),
        outputs: minimum.output_count(),
        parameters: source.parameters,
        rank: minimum.eigenvalues().len(),
        loss_scale: arguments.loss_scale,
        momentum: arguments.momentum,
        sharpness: analysis.sharpness().into(),
        max_gradient_norm_squared: Number(analysis.max_gradient_norm_squared()),
        blocks: analysis.blocks().map(|blocks| blocks.into_iter().map(block).collect()),
        batches: analysis.batches.iter().map(|batch| batch_report(arguments, batch)).collect(),
    }
}

fn batch_report(arguments: &AnalyzeArguments, batch: &BatchAnalysis) -> BatchReport {
    let threshold = batch.threshold;
    let learning_rate = |&(learning_rate, stability): &(f64, Stability)| LearningRateReport {
        learning_rate,
        verdict: verdict(stability),
        // Negative where the learning rate is unstable.
        margin: Number(threshold.midpoint() / learning_rate - 1.0),
    };
    BatchReport {
        batch_size: batch.batch_size,
        sampling: arguments.batches.sampling,
        noise_coefficient: batch.noise_coefficient,
        threshold: threshold.into(),
        relative_width: threshold.relative_width(),
        iterations: threshold.iterations,
        status: match threshold.status {
            ThresholdStatus::Converged => "converged",
            ThresholdStatus::NotConverged => "not_converged",
        },
        bounds: batch.bounds.as_ref().map(bounds_report),
        learning_rates: batch.learning_rates.iter().map(learning_rate).collect(),
    }
}

/// The bounds by the ids of their statements.
fn bounds_report(bounds: &Bounds) -> BTreeMap<&'static str, Number> {
    [
        ("S1", bounds.lambda_max),
        ("S2", bounds.trace),
        ("S3", bounds.frobenius_norm),
        ("S3_sharp", bounds.sharp_frobenius_norm),
        ("S4", bounds.centered_alignment),
        ("S4_uncentered", bounds.uncentered_alignment),
        ("S5", bounds.lambda_max),
        ("S6", bounds.spectral),
        ("S7", bounds.sufficient),
    ]
    .into_iter()
    .map(|(id, rate)| (id, Number(rate)))
    .collect()
}
