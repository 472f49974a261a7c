//! The analysis of a minimum: sharpness, thresholds, bounds and verdicts.

use std::collections::BTreeSet;

use flatmin_host::Progress;
use flatmin_linalg::{Parallelism, Sharpness};
use flatmin_theory::{
    Alignment, Batch, Bounds, Noise, NoiseFloor, Optimizer, Sampling, Stability, alignment,
    contraction_bound, noise_floor,
};
use serde::Serialize;

use super::arguments::AnalyzeArguments;
use super::doubts::{Doubt, Facts, doubts};
use super::input::{Block, FileMinimum};
use super::point::{Point, Residuals};
use super::subsets::{SubsetReport, subsets};
use super::training::Loss;
use crate::edge::{AlmostSure, Edge, Kind, Question, ShortBatch};
use crate::failure::Failure;

/// The analysis of a minimum for the loss `c · (1/2n) Σ ‖f − y‖²`, with c of `--loss-scale`, or for
/// c times another loss.
#[derive(Debug)]
pub(super) struct Analysis {
    pub(super) source: FileMinimum,
    alignment: Alignment,
    loss_scale: f64,
    pub(super) optimizer: Optimizer,
    /// The optimizer at learning rates of the unscaled loss.
    unscaled_optimizer: Optimizer,
    pub(super) is_preconditioned: bool,
    pub(super) model: Model,
    /// The point, if the residuals show it.
    pub(super) point: Option<Point>,
    /// The doubts about the input.
    pub(super) doubts: Vec<Doubt>,
    /// The batch sizes of the arguments, in their order.
    pub(super) batches: Vec<BatchAnalysis>,
}

/// The curvature that the answer takes for that of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Model {
    /// The Hessian, at a minimum that interpolates.
    Exact,
    /// Its Gauss–Newton part, at a point that is not shown to interpolate.
    GaussNewton,
}

/// The analysis for one batch size.
#[derive(Debug, Clone)]
pub(super) struct BatchAnalysis {
    pub(super) batch_size: usize,
    /// `None` for batches that depend on each other.
    pub(super) noise: Option<Noise>,
    pub(super) threshold: Edge,
    /// The learning rates at which the simple conditions turn; `None` for another optimizer than
    /// plain SGD with independent batches.
    pub(super) bounds: Option<SimpleBounds>,
    /// The short last batch of epochs of this size, where the sampling was not chosen.
    pub(super) short_batch: Option<ShortBatch>,
    pub(super) almost_sure: Option<AlmostSure>,
    /// The thresholds of parts of the samples, where they were asked for.
    pub(super) subsets: Vec<SubsetReport>,
    /// The learning rates of the arguments with their verdicts.
    pub(super) learning_rates: Vec<Verdict>,
}

/// The bounds of theory, with the contraction bound S19.
#[derive(Debug, Clone, Copy)]
pub(super) struct SimpleBounds {
    pub(super) simple: Bounds,
    pub(super) contraction: f64,
}

/// The verdict on one learning rate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verdict {
    pub(super) learning_rate: f64,
    pub(super) stability: Stability,
    /// The noise floor, where residuals are given and the rate is stable.
    pub(super) noise_floor: Option<NoiseFloor>,
}

impl Analysis {
    /// Analyses the minimum for the batch sizes of the arguments.
    pub(super) fn new(
        arguments: &AnalyzeArguments,
        source: FileMinimum,
        parallelism: Parallelism,
    ) -> Result<Self, Failure> {
        let (sizes, training) = (&arguments.batches.batch_size, &arguments.training);
        let progress = Progress::steps("alignment of the noise", sizes.len() as u64);
        let alignment = alignment(&source.minimum).map_err(Failure::at(&arguments.file))?;
        let optimizer = training.optimizer.optimizer()?;
        arguments.batches.check()?;
        let loss_scale = arguments.loss_scale;
        let residuals = source.residuals.as_ref();
        let interpolates = residuals.map_or(training.loss == Loss::Squared, Residuals::interpolate);
        let decay = optimizer.balancing_decay() / loss_scale;
        let decays = decay > 0.0;
        let model = if interpolates && !decays { Model::Exact } else { Model::GaussNewton };
        let point = residuals.filter(|found| found.are_of_the_model).and_then(|found| {
            let gradients = source.minimum.residual_gradients(&found.weighted, decay)?;
            let samples = source.minimum.sample_count();
            Some(Point { decays, ..Point::new(found, gradients, samples, loss_scale) })
        });
        let mut analysis = Self {
            source,
            alignment,
            loss_scale,
            optimizer,
            unscaled_optimizer: optimizer.for_loss_scale(1.0 / loss_scale),
            is_preconditioned: training.preconditioner.is_some(),
            model,
            point,
            doubts: Vec::new(),
            batches: Vec::new(),
        };
        for &batch_size in sizes {
            progress.message(&format!("threshold for batch size {batch_size}"));
            let mut batch = analysis.batch(arguments, batch_size, parallelism)?;
            let question = analysis.question(parallelism);
            if arguments.batches.sampling.is_none() && !arguments.batches.drop_last {
                batch.short_batch = question.short_batch(batch_size);
            }
            if training.almost_sure {
                let drawn = analysis.drawn(arguments, batch_size)?;
                let edge = question.almost_sure(&drawn).map_err(Failure::at(&arguments.file))?;
                batch.almost_sure = Some(edge);
            }
            batch.subsets = subsets(arguments, analysis.question(parallelism), batch_size)?;
            analysis.batches.push(batch);
            progress.advance(1);
        }
        analysis.doubts = analysis.find_doubts();
        Ok(analysis)
    }

    /// Finds the doubts about the input.
    fn find_doubts(&self) -> Vec<Doubt> {
        let margins = self.batches.iter().flat_map(|batch| {
            batch.learning_rates.iter().map(|v| batch.threshold.estimate / v.learning_rate)
        });
        let margin = margins.reduce(f64::max);
        let residuals = self.source.residuals.as_ref();
        doubts(&Facts { evidence: &self.source.evidence, residuals, point: self.point, margin })
    }

    /// True if there are doubts, and the input is not to be trusted in spite of them.
    pub(super) fn is_doubtful(&self, arguments: &AnalyzeArguments) -> bool {
        !(self.doubts.is_empty() || arguments.trust_input)
    }

    fn question(&self, parallelism: Parallelism) -> Question<'_> {
        let (minimum, optimizer) = (&self.source.minimum, &self.unscaled_optimizer);
        Question { minimum, optimizer, loss_scale: self.loss_scale, parallelism }
    }

    /// The batches of the arguments, of this size.
    fn drawn(&self, arguments: &AnalyzeArguments, batch_size: usize) -> Result<Batch, Failure> {
        let (batches, n) = (&arguments.batches, self.source.minimum.sample_count());
        let failed = Failure::at(&arguments.file);
        let batch = batches.of_size(batch_size).map_err(&failed)?;
        if batches.sampling() != Sampling::Reshuffling {
            batch.noise(n).map_err(|error| {
                let remedy = "give smaller --batch-size values or --sampling with-replacement";
                let reading = self.source.evidence.reading.of_few_samples();
                Failure::input(&arguments.file, format!("{error}; {reading}{remedy}"))
            })?;
        }
        Ok(batch)
    }

    /// Analyses one batch size.
    fn batch(
        &self,
        arguments: &AnalyzeArguments,
        batch_size: usize,
        parallelism: Parallelism,
    ) -> Result<BatchAnalysis, Failure> {
        let failed = Failure::at(&arguments.file);
        let minimum = &self.source.minimum;
        let batch = self.drawn(arguments, batch_size)?;
        let noise = batch.noise(minimum.sample_count()).ok();
        let edge = self.question(parallelism).edge(&batch, arguments.tolerance);
        let mut threshold = edge.map_err(&failed)?;
        if self.source.is_rounded {
            // The rounding of the matrix is estimated, not proved.
            threshold.kind = Kind::Estimate;
        }
        let bounds = noise.map_or(Ok(None), |noise| self.bounds(noise)).map_err(&failed)?;
        let judge = |rate: &f64| -> Result<Verdict, Failure> {
            let noise_floor = self.noise_floor(&batch, *rate).map_err(&failed)?;
            let stability = threshold.interval.stability(*rate);
            Ok(Verdict { learning_rate: *rate, stability, noise_floor })
        };
        let learning_rates: Result<_, _> =
            arguments.batches.learning_rate.iter().map(judge).collect();
        Ok(BatchAnalysis {
            batch_size,
            noise,
            threshold,
            bounds,
            short_batch: None,
            almost_sure: None,
            subsets: Vec::new(),
            learning_rates: learning_rates?,
        })
    }

    /// The simple bounds, which are about plain SGD.
    fn bounds(&self, noise: Noise) -> Result<Option<SimpleBounds>, flatmin_theory::ThresholdError> {
        if !self.is_plain_sgd() {
            return Ok(None);
        }
        let minimum = &self.source.minimum;
        let simple = Bounds::new(minimum, &self.alignment, noise).for_loss_scale(self.loss_scale);
        let contraction = contraction_bound(minimum, noise)? / self.loss_scale;
        Ok(Some(SimpleBounds { simple, contraction }))
    }

    /// The noise floor at a learning rate, where there are residuals and independent batches.
    fn noise_floor(
        &self,
        batch: &Batch,
        rate: f64,
    ) -> Result<Option<NoiseFloor>, flatmin_theory::ThresholdError> {
        let residuals = self.source.residuals.as_ref().filter(|found| found.are_of_the_model);
        let Some(residuals) = residuals else { return Ok(None) };
        if batch.sampling() == Sampling::Reshuffling {
            return Ok(None);
        }
        let (minimum, optimizer) = (&self.source.minimum, &self.unscaled_optimizer);
        let rate = rate * self.loss_scale;
        let floor = noise_floor(minimum, optimizer, batch, rate, &residuals.weighted)?;
        let scale = self.loss_scale;
        Ok(floor.map(|NoiseFloor { training_loss, excess }| NoiseFloor {
            training_loss: scale * training_loss,
            excess: scale * excess,
        }))
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

    /// True for SGD without momentum and decay, which the simple bounds are about.
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

    /// The blocks of parameters, for the scaled loss.
    pub(super) fn blocks(&self) -> Option<Vec<Block>> {
        let blocks = self.source.blocks.as_ref()?.iter();
        let scaled =
            |block: &Block| Block { sharpness: self.scale(block.sharpness), ..block.clone() };
        Some(blocks.map(scaled).collect())
    }

    /// True if a learning rate of the arguments is unstable.
    pub(super) fn has_unstable(&self) -> bool {
        let mut verdicts = self.batches.iter().flat_map(|batch| &batch.learning_rates);
        verdicts.any(|verdict| verdict.stability == Stability::Unstable)
    }
}
