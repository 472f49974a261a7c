//! The answer of `flatmin analyze` as JSON.

use std::collections::BTreeMap;

use flatmin_theory::{Sampling, ThresholdStatus};
use serde::Serialize;

use super::analysis::{Analysis, BatchAnalysis, Model, SimpleBounds, Verdict};
use super::arguments::AnalyzeArguments;
use super::doubts::Doubt;
use super::input::Block;
use super::point::Point;
use super::reading::sentence;
use super::subsets::SubsetReport;
use super::training::Loss;
use crate::edge::{EdgeReport, VerdictReport};
use crate::optimizer::OptimizerReport;
use crate::words::{Measures, Number};

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
    loss: Loss,
    model: Model,
    reading: String,
    doubts: &'a [Doubt],
    residual_gradients: Option<GradientReport>,
    #[serde(flatten)]
    sharpness: Measures,
    max_gradient_norm_squared: Number,
    blocks: Option<Vec<BlockReport>>,
    batches: Vec<BatchReport>,
}

#[derive(Debug, Serialize)]
struct BlockReport {
    name: String,
    first: usize,
    end: usize,
    columns: usize,
    #[serde(flatten)]
    sharpness: Measures,
}

#[derive(Debug, Serialize)]
pub(super) struct GradientReport {
    mean: Number,
    root_mean_square: Number,
    decrement: Option<Number>,
    distance: Option<Number>,
}

impl From<Point> for GradientReport {
    fn from(point: Point) -> Self {
        Self {
            mean: Number(point.gradients.mean),
            root_mean_square: Number(point.gradients.root_mean_square),
            decrement: point.lowers.map(Number),
            distance: point.distance.map(Number),
        }
    }
}

#[derive(Debug, Serialize)]
struct ShortBatchReport {
    size: usize,
    threshold: Option<EdgeReport>,
}

#[derive(Debug, Serialize)]
struct AlmostSureReport {
    lower: Number,
    upper: Number,
    confidence: Option<f64>,
}

#[derive(Debug, Serialize)]
struct NoiseFloorReport {
    training_loss: Option<Number>,
    excess: Number,
}

#[derive(Debug, Serialize)]
pub(super) struct BatchReport {
    batch_size: usize,
    sampling: Sampling,
    drop_last: bool,
    optimizer: OptimizerReport,
    noise_coefficient: Option<f64>,
    threshold: EdgeReport,
    relative_width: f64,
    iterations: usize,
    status: &'static str,
    bounds: Option<BTreeMap<&'static str, Number>>,
    short_last_batch: Option<ShortBatchReport>,
    almost_sure_edge: Option<AlmostSureReport>,
    /// With `--subsets`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subsets: Vec<SubsetReport>,
    learning_rates: Vec<LearningRateReport>,
}

#[derive(Debug, Serialize)]
struct LearningRateReport {
    #[serde(flatten)]
    verdict: VerdictReport,
    noise_floor: Option<NoiseFloorReport>,
}

/// The answer as JSON.
pub(super) fn report<'a>(arguments: &AnalyzeArguments, analysis: &'a Analysis) -> Report<'a> {
    let (source, minimum) = (&analysis.source, &analysis.source.minimum);
    let block = |block: Block| BlockReport {
        name: block.name,
        first: block.range.start,
        end: block.range.end,
        columns: block.columns,
        sharpness: Measures::from(block.sharpness),
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
        momentum: arguments.training.optimizer.momentum,
        loss: arguments.training.loss,
        model: analysis.model,
        reading: sentence(&source.evidence, source.residuals.is_some()),
        doubts: &analysis.doubts,
        residual_gradients: analysis.point.map(GradientReport::from),
        sharpness: analysis.sharpness().into(),
        max_gradient_norm_squared: Number(analysis.max_gradient_norm_squared()),
        blocks: analysis.blocks().map(|blocks| blocks.into_iter().map(block).collect()),
        batches: batch_reports(arguments, analysis, &analysis.batches),
    }
}

/// The answers for these batches as JSON.
pub(super) fn batch_reports(
    arguments: &AnalyzeArguments,
    analysis: &Analysis,
    batches: &[BatchAnalysis],
) -> Vec<BatchReport> {
    batches.iter().map(|batch| batch_report(arguments, analysis, batch)).collect()
}

fn batch_report(
    arguments: &AnalyzeArguments,
    analysis: &Analysis,
    batch: &BatchAnalysis,
) -> BatchReport {
    let threshold = batch.threshold;
    let is_squared = arguments.training.loss == Loss::Squared;
    let learning_rate = |verdict: &Verdict| LearningRateReport {
        verdict: threshold.verdict(verdict.learning_rate),
        noise_floor: verdict.noise_floor.map(|floor| NoiseFloorReport {
            training_loss: is_squared.then_some(Number(floor.training_loss)),
            excess: Number(floor.excess),
        }),
    };
    BatchReport {
        batch_size: batch.batch_size,
        sampling: arguments.batches.sampling(),
        drop_last: arguments.batches.drop_last,
        optimizer: OptimizerReport::new(&analysis.optimizer, analysis.is_preconditioned),
        noise_coefficient: batch.noise.map(|noise| noise.coefficient),
        threshold: threshold.into(),
        relative_width: threshold.interval.relative_width(),
        iterations: threshold.interval.iterations,
        status: match threshold.interval.status {
            ThresholdStatus::Converged => "converged",
            ThresholdStatus::NotConverged => "not_converged",
        },
        bounds: batch.bounds.as_ref().map(bounds_report),
        short_last_batch: batch.short_batch.map(|short| ShortBatchReport {
            size: short.size,
            threshold: short.edge.map(EdgeReport::from),
        }),
        almost_sure_edge: batch.almost_sure.map(|edge| AlmostSureReport {
            lower: Number(edge.lower),
            upper: Number(edge.upper),
            // Three standard errors on either side.
            confidence: (edge.is_decided && !edge.is_exact).then_some(0.997),
        }),
        subsets: batch.subsets.clone(),
        learning_rates: batch.learning_rates.iter().map(learning_rate).collect(),
    }
}

/// The bounds by the ids of their statements.
fn bounds_report(bounds: &SimpleBounds) -> BTreeMap<&'static str, Number> {
    let SimpleBounds { simple: bounds, contraction } = bounds;
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
        ("S19", *contraction),
    ]
    .into_iter()
    .map(|(id, rate)| (id, Number(rate)))
    .collect()
}
