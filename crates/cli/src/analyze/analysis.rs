//! Everything that is said about a minimum.

use std::collections::BTreeMap;

use flatmin_linalg::{Parallelism, Sharpness};
use flatmin_theory::{
    Alignment, Batch, Bounds, Optimizer, Sampling, Stability, Threshold, ThresholdOptions,
    ThresholdStatus, alignment, threshold_with,
};
use serde::Serialize;

use super::Options;
use super::input::Found;
use crate::failure::Failure;
use crate::output::{Interval, Measures, Number};
use crate::progress::Progress;

/// What was found, for the loss `c · (1/2n) Σ ‖f − y‖²` with c of `--loss-scale`.
#[derive(Debug)]
pub(crate) struct Analysis {
    pub(crate) found: Found,
    alignment: Alignment,
    loss_scale: f64,
    pub(crate) batches: Vec<BatchAnalysis>,
}

/// What was found for one batch size.
#[derive(Debug)]
pub(crate) struct BatchAnalysis {
    pub(crate) batch_size: usize,
    pub(crate) noise_coefficient: f64,
    pub(crate) threshold: Threshold,
    /// The learning rates at which the conditions turn; they are about SGD without momentum.
    pub(crate) bounds: Option<Bounds>,
    /// The learning rates that were asked about, with the verdict.
    pub(crate) learning_rates: Vec<(f64, Stability)>,
}

impl Analysis {
    pub(crate) fn new(
        options: &Options,
        found: Found,
        parallelism: Parallelism,
    ) -> Result<Self, Failure> {
        let failed = Failure::theory(&options.file);
        let progress =
            Progress::steps("alignment of the noise", options.batches.batch_size.len() as u64);
        let alignment = alignment(&found.minimum).map_err(failed)?;
        let mut analysis =
            Self { found, alignment, loss_scale: options.loss_scale, batches: Vec::new() };
        for &batch_size in &options.batches.batch_size {
            progress.message(&format!("threshold for batch size {batch_size}"));
            analysis.batches.push(analysis.batch(options, batch_size, parallelism)?);
            progress.advance(1);
        }
        Ok(analysis)
    }

    /// Analyses one batch size.
    pub(crate) fn batch(
        &self,
        options: &Options,
        batch_size: usize,
        parallelism: Parallelism,
    ) -> Result<BatchAnalysis, Failure> {
        let minimum = &self.found.minimum;
        let batch = Batch::new(batch_size, options.batches.sampling)
            .map_err(Failure::theory(&options.file))?;
        let noise_coefficient =
            batch.noise_coefficient(minimum.sample_count()).map_err(|error| {
                let remedy = "give smaller --batch-size values or --sampling with-replacement";
                Failure::input(&options.file, format!("{error}; {remedy}"))
            })?;
        let optimizer = Optimizer::sgd().momentum(options.momentum);
        let optimizer = optimizer.map_err(Failure::theory(&options.file))?;
        let settings = ThresholdOptions {
            relative_width: options.tolerance,
            parallelism,
            ..ThresholdOptions::default()
        };
        let threshold = threshold_with(minimum, &optimizer, &batch, &settings)
            .map_err(Failure::theory(&options.file))?;
        let threshold = threshold.for_loss_scale(self.loss_scale);
        let bounds = Bounds::new(minimum, &self.alignment, noise_coefficient);
        let judge = |rate: &f64| (*rate, threshold.stability(*rate));
        Ok(BatchAnalysis {
            batch_size,
            noise_coefficient,
            threshold,
            bounds: (options.momentum <= 0.0).then(|| bounds.for_loss_scale(self.loss_scale)),
            learning_rates: options.learning_rate.iter().map(judge).collect(),
        })
    }

    /// Sharpness of the scaled loss.
    pub(crate) fn sharpness(&self) -> Sharpness {
        self.scale(self.found.minimum.sharpness())
    }

    /// `max ‖g_i‖²`, with several outputs `max λ_max(J_iJ_iᵀ)`, times the scale of the loss.
    pub(crate) fn largest_gradient_norm_squared(&self) -> f64 {
        self.loss_scale * self.found.minimum.largest_gradient_norm_squared()
    }

    fn scale(&self, sharpness: Sharpness) -> Sharpness {
        let scale = self.loss_scale;
        Sharpness {
            trace: scale * sharpness.trace,
            frobenius_norm: scale * sharpness.frobenius_norm,
            lambda_max: scale * sharpness.lambda_max,
        }
    }

    /// The blocks of parameters, with the sharpness of the scaled loss.
    pub(crate) fn blocks(&self) -> Option<Vec<BlockReport<'_>>> {
        let blocks = self.found.blocks.as_ref()?.iter();
        let report = blocks.map(|(name, range, sharpness)| BlockReport {
            name,
            first: range.start,
            end: range.end,
            sharpness: self.scale(*sharpness).into(),
        });
        Some(report.collect())
    }

    /// Whether a learning rate that was asked about is unstable.
    pub(crate) fn has_unstable(&self) -> bool {
        let mut verdicts = self.batches.iter().flat_map(|batch| &batch.learning_rates);
        verdicts.any(|(_, stability)| *stability == Stability::Unstable)
    }

    /// The answer as JSON has it.
    pub(crate) fn report<'a>(&'a self, options: &'a Options) -> Report<'a> {
        let minimum = &self.found.minimum;
        Report {
            schema: "flatmin.analyze/1",
            file: options.file.to_string_lossy().into_owned(),
            array: self.found.array.as_deref(),
            samples: minimum.sample_count(),
            outputs: minimum.output_count(),
            parameters: self.found.parameters,
            rank: minimum.eigenvalues().len(),
            loss_scale: options.loss_scale,
            momentum: options.momentum,
            sharpness: self.sharpness().into(),
            max_gradient_norm_squared: Number(self.largest_gradient_norm_squared()),
            blocks: self.blocks(),
            batches: self.batches.iter().map(|batch| batch.report(options)).collect(),
        }
    }
}

/// By how much a threshold exceeds a learning rate, relative to it; negative where it is unstable.
fn margin(threshold: &Threshold, learning_rate: f64) -> f64 {
    threshold.midpoint() / learning_rate - 1.0
}

impl BatchAnalysis {
    fn report(&self, options: &Options) -> BatchReport {
        let Threshold { iterations, status, .. } = self.threshold;
        BatchReport {
            batch_size: self.batch_size,
            sampling: options.batches.sampling,
            noise_coefficient: self.noise_coefficient,
            threshold: self.threshold.into(),
            relative_width: self.threshold.relative_width(),
            iterations,
            status: match status {
                ThresholdStatus::Converged => "converged",
                ThresholdStatus::NotConverged => "not_converged",
            },
            bounds: self.bounds.as_ref().map(bounds_report),
            learning_rates: self
                .learning_rates
                .iter()
                .map(|(learning_rate, stability)| LearningRateReport {
                    learning_rate: *learning_rate,
                    verdict: verdict(*stability),
                    margin: Number(margin(&self.threshold, *learning_rate)),
                })
                .collect(),
        }
    }
}

/// A verdict in one word.
pub(crate) fn verdict(stability: Stability) -> &'static str {
    match stability {
        Stability::Stable => "stable",
        Stability::Unstable => "unstable",
        Stability::Undecided => "undecided",
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

#[derive(Debug, Serialize)]
pub(crate) struct Report<'a> {
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
pub(crate) struct BlockReport<'a> {
    pub(crate) name: &'a str,
    pub(crate) first: usize,
    pub(crate) end: usize,
    #[serde(flatten)]
    pub(crate) sharpness: Measures,
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
