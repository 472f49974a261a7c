//! Everything that is said about a minimum.

use std::collections::BTreeMap;

use flatmin_linalg::{Parallelism, Sharpness};
use flatmin_theory::{
    Alignment, Batch, Stability, Threshold, ThresholdOptions, ThresholdStatus, alignment,
    centered_alignment_bound, frobenius_bound, lambda_max_bound, sharp_frobenius_bound,
    spectral_bound, sufficient_bound, threshold_with, trace_bound, uncentered_alignment_bound,
};
use serde::Serialize;

use super::Options;
use super::input::Found;
use crate::failure::Failure;
use crate::output::Number;
use crate::progress::Progress;

/// What was found, for the loss `c · (1/2n) Σ (f − y)²` with c of `--loss-scale`.
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

/// The learning rates at which the conditions of one batch size turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// S1 and S5.
    pub(crate) lambda_max: f64,
    pub(crate) trace: f64,
    pub(crate) frobenius_norm: f64,
    pub(crate) sharp_frobenius_norm: f64,
    pub(crate) centered_alignment: f64,
    pub(crate) uncentered_alignment: f64,
    pub(crate) spectral: f64,
    pub(crate) sufficient: f64,
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
        let failed = Failure::theory(&options.file);
        let minimum = &self.found.minimum;
        let batch = Batch::new(batch_size, options.batches.sampling.sampling()).map_err(&failed)?;
        let noise_coefficient =
            batch.noise_coefficient(minimum.sample_count()).map_err(|error| {
                let remedy = "give smaller --batch-size values or --sampling with-replacement";
                Failure::input(&options.file, format!("{error}; {remedy}"))
            })?;
        let settings = ThresholdOptions {
            relative_width: options.tolerance,
            momentum: options.momentum,
            parallelism,
            ..ThresholdOptions::default()
        };
        let threshold = threshold_with(minimum, batch, &settings).map_err(&failed)?;
        let threshold = self.scaled(threshold);
        let judge = |rate: &f64| (*rate, threshold.stability(*rate));
        Ok(BatchAnalysis {
            batch_size,
            noise_coefficient,
            threshold,
            bounds: (options.momentum <= 0.0).then(|| self.bounds(noise_coefficient)),
            learning_rates: options.learning_rate.iter().map(judge).collect(),
        })
    }

    /// The threshold for the scaled loss.
    fn scaled(&self, threshold: Threshold) -> Threshold {
        let scale = self.loss_scale;
        if scale.to_bits() == 1.0_f64.to_bits() {
            return threshold;
        }
        // Outward, since the quotients are rounded.
        let lower = match threshold.lower / scale {
            lower if threshold.lower.is_infinite() => lower,
            lower => lower.next_down().clamp(0.0, f64::MAX),
        };
        Threshold { lower, upper: (threshold.upper / scale).next_up(), ..threshold }
    }

    pub(crate) fn bounds(&self, noise_coefficient: f64) -> Bounds {
        let (p, minimum) = (noise_coefficient, &self.found.minimum);
        let Sharpness { trace, frobenius_norm, lambda_max } = self.sharpness();
        let Alignment { chi_min, centered, .. } = self.alignment;
        Bounds {
            lambda_max: lambda_max_bound(lambda_max),
            trace: trace_bound(trace, p),
            frobenius_norm: frobenius_bound(frobenius_norm, p),
            sharp_frobenius_norm: sharp_frobenius_bound(frobenius_norm, p),
            centered_alignment: centered_alignment_bound(frobenius_norm, centered, p),
            uncentered_alignment: uncentered_alignment_bound(frobenius_norm, chi_min, p),
            spectral: spectral_bound(minimum.eigenvalues(), p) / self.loss_scale,
            sufficient: sufficient_bound(lambda_max, self.largest_row_norm_squared(), p),
        }
    }

    /// Sharpness of the scaled loss.
    pub(crate) fn sharpness(&self) -> Sharpness {
        self.scale(self.found.minimum.sharpness())
    }

    /// `max ‖g_i‖²`, times the scale of the loss.
    pub(crate) fn largest_row_norm_squared(&self) -> f64 {
        self.loss_scale * self.found.minimum.largest_row_norm_squared()
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
        let blocks = self.found.blocks.as_ref()?;
        Some(
            blocks
                .iter()
                .map(|(name, range, sharpness)| {
                    let sharpness = self.scale(*sharpness);
                    BlockReport {
                        name,
                        first: range.start,
                        end: range.end,
                        trace: Number(sharpness.trace),
                        frobenius_norm: Number(sharpness.frobenius_norm),
                        lambda_max: Number(sharpness.lambda_max),
                    }
                })
                .collect(),
        )
    }

    /// Whether a learning rate that was asked about is unstable.
    pub(crate) fn has_unstable(&self) -> bool {
        let mut verdicts = self.batches.iter().flat_map(|batch| &batch.learning_rates);
        verdicts.any(|(_, stability)| *stability == Stability::Unstable)
    }

    /// The answer as JSON has it.
    pub(crate) fn report<'a>(&'a self, options: &'a Options) -> Report<'a> {
        let Sharpness { trace, frobenius_norm, lambda_max } = self.sharpness();
        let minimum = &self.found.minimum;
        Report {
            schema: "flatmin.analyze/1",
            file: options.file.to_string_lossy().into_owned(),
            array: self.found.array.as_deref(),
            samples: minimum.sample_count(),
            parameters: self.found.parameters,
            rank: minimum.eigenvalues().len(),
            loss_scale: options.loss_scale,
            momentum: options.momentum,
            trace: Number(trace),
            frobenius_norm: Number(frobenius_norm),
            lambda_max: Number(lambda_max),
            max_gradient_norm_squared: Number(self.largest_row_norm_squared()),
            blocks: self.blocks(),
            batches: self.batches.iter().map(|batch| batch.report(options)).collect(),
        }
    }
}

/// By how much a threshold exceeds a learning rate, relative to it; negative where it is unstable.
pub(crate) fn margin(threshold: &Threshold, learning_rate: f64) -> f64 {
    threshold.midpoint() / learning_rate - 1.0
}

impl BatchAnalysis {
    fn report(&self, options: &Options) -> BatchReport {
        let Threshold { lower, upper, iterations, status } = self.threshold;
        BatchReport {
            batch_size: self.batch_size,
            sampling: options.batches.sampling.name(),
            noise_coefficient: self.noise_coefficient,
            threshold: Interval { lower: Number(lower), upper: Number(upper) },
            relative_width: self.threshold.relative_width(),
            iterations,
            status: match status {
                ThresholdStatus::Converged => "converged",
                ThresholdStatus::NotConverged => "not_converged",
            },
            bounds: self.bounds.map(|bounds| bounds.report()),
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

impl Bounds {
    fn report(&self) -> BTreeMap<&'static str, Number> {
        [
            ("S1", self.lambda_max),
            ("S2", self.trace),
            ("S3", self.frobenius_norm),
            ("S3_sharp", self.sharp_frobenius_norm),
            ("S4", self.centered_alignment),
            ("S4_uncentered", self.uncentered_alignment),
            ("S5", self.lambda_max),
            ("S6", self.spectral),
            ("S7", self.sufficient),
        ]
        .into_iter()
        .map(|(id, rate)| (id, Number(rate)))
        .collect()
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Report<'a> {
    schema: &'static str,
    file: String,
    array: Option<&'a str>,
    samples: usize,
    parameters: Option<usize>,
    rank: usize,
    loss_scale: f64,
    momentum: f64,
    trace: Number,
    frobenius_norm: Number,
    lambda_max: Number,
    max_gradient_norm_squared: Number,
    blocks: Option<Vec<BlockReport<'a>>>,
    batches: Vec<BatchReport>,
}

#[derive(Debug, Serialize)]
pub(crate) struct BlockReport<'a> {
    pub(crate) name: &'a str,
    pub(crate) first: usize,
    pub(crate) end: usize,
    pub(crate) trace: Number,
    pub(crate) frobenius_norm: Number,
    pub(crate) lambda_max: Number,
}

#[derive(Debug, Serialize)]
struct BatchReport {
    batch_size: usize,
    sampling: &'static str,
    noise_coefficient: f64,
    threshold: Interval,
    relative_width: f64,
    iterations: usize,
    status: &'static str,
    bounds: Option<BTreeMap<&'static str, Number>>,
    learning_rates: Vec<LearningRateReport>,
}

#[derive(Debug, Serialize)]
struct Interval {
    lower: Number,
    upper: Number,
}

#[derive(Debug, Serialize)]
struct LearningRateReport {
    learning_rate: f64,
    verdict: &'static str,
    margin: Number,
}
