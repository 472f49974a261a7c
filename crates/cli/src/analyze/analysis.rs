//! The analysis of a minimum: sharpness, thresholds, bounds and verdicts.

use std::collections::BTreeSet;
use std::ops::Range;

use flatmin_host::Progress;
use flatmin_linalg::{Parallelism, Sharpness};
use flatmin_theory::{
    Alignment, Batch, Bounds, Optimizer, Stability, Threshold, ThresholdOptions, alignment,
    threshold_with,
};

use super::arguments::AnalyzeArguments;
use super::input::FileMinimum;
use crate::failure::Failure;

/// The analysis of a minimum for the loss `c · (1/2n) Σ ‖f − y‖²`, with c of `--loss-scale`.
#[derive(Debug)]
pub(super) struct Analysis {
    pub(super) source: FileMinimum,
    alignment: Alignment,
    loss_scale: f64,
    optimizer: Optimizer,
    /// The batch sizes of the arguments, in their order.
    pub(super) batches: Vec<BatchAnalysis>,
}

/// The analysis for one batch size.
#[derive(Debug, Clone)]
pub(super) struct BatchAnalysis {
    pub(super) batch_size: usize,
    pub(super) noise_coefficient: f64,
    pub(super) threshold: Threshold,
    /// The learning rates at which the simple conditions turn; `None` for another optimizer than
    /// plain SGD.
    pub(super) bounds: Option<Bounds>,
    /// The learning rates of the arguments with their verdicts.
    pub(super) learning_rates: Vec<(f64, Stability)>,
}

impl Analysis {
    /// Analyses the minimum for the batch sizes of the arguments.
    pub(super) fn new(
        arguments: &AnalyzeArguments,
        source: FileMinimum,
        parallelism: Parallelism,
    ) -> Result<Self, Failure> {
        let sizes = &arguments.batches.batch_size;
        let progress = Progress::steps("alignment of the noise", sizes.len() as u64);
        let alignment = alignment(&source.minimum).map_err(Failure::at(&arguments.file))?;
        let optimizer = Optimizer::sgd().momentum(arguments.momentum);
        let optimizer = optimizer.map_err(Failure::at(&arguments.file))?;
        let loss_scale = arguments.loss_scale;
        let mut analysis = Self { source, alignment, loss_scale, optimizer, batches: Vec::new() };
        for &batch_size in sizes {
            progress.message(&format!("threshold for batch size {batch_size}"));
            analysis.batches.push(analysis.batch(arguments, batch_size, parallelism)?);
            progress.advance(1);
        }
        Ok(analysis)
    }

    /// Analyses one batch size.
    fn batch(
        &self,
        arguments: &AnalyzeArguments,
        batch_size: usize,
        parallelism: Parallelism,
    ) -> Result<BatchAnalysis, Failure> {
        let minimum = &self.source.minimum;
        let batch = Batch::new(batch_size, arguments.batches.sampling)
            .map_err(Failure::at(&arguments.file))?;
        let noise = batch.noise(minimum.sample_count()).map_err(|error| {
            let remedy = "give smaller --batch-size values or --sampling with-replacement";
            Failure::input(&arguments.file, format!("{error}; {remedy}"))
        })?;
        let settings = ThresholdOptions {
            relative_width: arguments.tolerance,
            parallelism,
            ..ThresholdOptions::default()
        };
        let threshold = threshold_with(minimum, &self.optimizer, &batch, &settings);
        let threshold =
            threshold.map_err(Failure::at(&arguments.file))?.for_loss_scale(self.loss_scale);
        let bounds = Bounds::new(minimum, &self.alignment, noise);
        let bounds = bounds.for_loss_scale(self.loss_scale);
        let judge = |rate: &f64| (*rate, threshold.stability(*rate));
        Ok(BatchAnalysis {
            batch_size,
            noise_coefficient: noise.coefficient,
            threshold,
            bounds: self.is_plain_sgd().then_some(bounds),
            learning_rates: arguments.learning_rate.iter().map(judge).collect(),
        })
    }

    /// The analysis for the batch sizes 1, 2, 4, …, n and those of the arguments, ascending.
    pub(super) fn curve(
        &self,
        arguments: &AnalyzeArguments,
        parallelism: Parallelism,
    ) -> Result<Vec<BatchAnalysis>, Failure> {
        let n = self.source.minimum.sample_count();
        let doubling = std::iter::successors(Some(1_usize), |size| size.checked_mul(2));
        let mut sizes: BTreeSet<usize> = doubling.take_while(|size| *size < n).collect();
        sizes.insert(n);
        sizes.extend(&arguments.batches.batch_size);
        let progress = Progress::steps("thresholds for the figure", sizes.len() as u64);
        let batch = |size| {
            let known = self.batches.iter().find(|batch| batch.batch_size == size).cloned();
            let batch = known.map_or_else(|| self.batch(arguments, size, parallelism), Ok);
            progress.advance(1);
            batch
        };
        sizes.into_iter().map(batch).collect()
    }

    /// True for SGD without momentum, which the simple bounds are about.
    pub(super) fn is_plain_sgd(&self) -> bool {
        self.optimizer == Optimizer::sgd()
    }

    /// The threshold of gradient descent, `2/λ_max`.
    pub(super) fn gradient_descent_threshold(&self) -> f64 {
        2.0 / self.sharpness().lambda_max
    }

    /// The sharpness of the scaled loss.
    pub(super) fn sharpness(&self) -> Sharpness {
        self.scale(self.source.minimum.sharpness())
    }

    /// `max ‖g_i‖²`, or `max λ_max(J_iJ_iᵀ)` for several outputs, times the scale of the loss.
    pub(super) fn max_gradient_norm_squared(&self) -> f64 {
        self.loss_scale * self.source.minimum.largest_gradient_norm_squared()
    }

    fn scale(&self, sharpness: Sharpness) -> Sharpness {
        let scale = self.loss_scale;
        Sharpness {
            trace: scale * sharpness.trace,
            frobenius_norm: scale * sharpness.frobenius_norm,
            lambda_max: scale * sharpness.lambda_max,
        }
    }

    /// Name, columns and sharpness of each block of parameters, for the scaled loss.
    pub(super) fn blocks(&self) -> Option<Vec<(&str, Range<usize>, Sharpness)>> {
        let blocks = self.source.blocks.as_ref()?.iter();
        let scaled = blocks
            .map(|(name, range, sharpness)| (name.as_str(), range.clone(), self.scale(*sharpness)));
        Some(scaled.collect())
    }

    /// True if a learning rate of the arguments is unstable.
    pub(super) fn has_unstable(&self) -> bool {
        let mut verdicts = self.batches.iter().flat_map(|batch| &batch.learning_rates);
        verdicts.any(|(_, stability)| *stability == Stability::Unstable)
    }
}

/// A verdict in one word.
pub(super) fn verdict(stability: Stability) -> &'static str {
    match stability {
        Stability::Stable => "stable",
        Stability::Unstable => "unstable",
        Stability::Undecided => "undecided",
    }
}
