//! The loop that grows a subspace until the bracket is narrow enough or a budget is spent.

use std::ops::ControlFlow;

use flatmin_linalg::{JacobianProducts, probe_jacobian, stream};

use super::conditions::{heaviest_sample, learning_rate, spectral_mu};
use super::counted::CountedGram;
use super::error::BracketError;
use super::measure::{CERTIFICATE_PRODUCTS, Measured, Measurement, Problem};
use super::options::{
    BracketBounds, BracketOptions, BracketProgress, BracketStage, BracketStop, RitzMode,
    ThresholdBracket, relative_width,
};
use super::subspace::Subspace;
use crate::{Batch, Optimizer};

/// The purpose of the random vectors of the probe.
const PROBE_STREAM: &str = "threshold bracket probe";

/// The growth of the subspace between two measurements, and that while the width is more than
/// [`FAR`] times the one asked for.
const GROWTH: (usize, usize) = (7, 5);
const FAST_GROWTH: (usize, usize) = (2, 1);
const FAR: f64 = 4.0;

/// The width without a certificate, relative to the one asked for, from which a certificate is
/// tried: it adds a little.
const CERTIFIABLE: f64 = 0.97;

/// The largest dimension has room for so many blocks at least: a Krylov space of a single block
/// is a random space.
const LEAST_BLOCKS: usize = 2;

/// The part of the largest dimension that a restart keeps.
const KEPT: (usize, usize) = (3, 5);

/// A part of the trace that is rounding.
const NEGLIGIBLE_REST: f64 = 1e-12;

/// The largest number of modes in a result.
const MAX_LISTED: usize = 100;

/// Numbers for each row and each coordinate that the work takes beside two copies of the subspace.
const ROW_NUMBERS: usize = 4;
const COORDINATE_NUMBERS: usize = 24;

/// A width falls by at least this factor for another restart to be worth its products.
const RESTART_GAIN: f64 = 0.95;

/// An interval for the largest mean-square stable learning rate of `optimizer`, from products with
/// the Jacobian only: nothing of the size of the Gram matrix is formed.
///
/// The products are [probed](probe_jacobian) before a number is used. See [`ThresholdBracket`] for
/// the guarantee and [`continue_bracket`] for progress, interruption and storage.
///
/// ```
/// use flatmin_linalg::{DenseJacobian, Parallelism, RowMatrix};
/// use flatmin_theory::{
///     Batch, BracketOptions, Minimum, Optimizer, Sampling, threshold, threshold_bracket,
/// };
/// // 200 samples whose gradients have a spectrum that decays.
/// let jacobian = RowMatrix::from_fn(200, 50, |i, j| {
///     let entry = ((i * 7919 + j * 104_729 + i * i * j) % 1009) as f64 / 504.5 - 1.0;
///     entry / (1.0 + j as f64)
/// });
/// let batch = Batch::new(4, Sampling::WithoutReplacement)?;
/// let products = DenseJacobian::new(&jacobian, 1, Parallelism::Sequential)?;
/// let options = BracketOptions::default();
/// let bracket = threshold_bracket(&products, &Optimizer::sgd(), &batch, &options)?;
/// assert!(bracket.relative_width() < 0.05);
/// let exact = threshold(&Minimum::new(&jacobian)?, &Optimizer::sgd(), &batch)?;
/// assert!(bracket.lower <= exact.lower && exact.upper <= bracket.upper);
/// assert!((bracket.estimate / exact.midpoint() - 1.0).abs() < 0.01);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`BracketError::Jacobian`] when a product fails or the probe finds a defect;
/// [`BracketError::GramTooSmall`] when a matrix `J_iJ_iᵀ` contradicts the products;
/// [`BracketError::Batch`] as [`Batch::noise`]; [`BracketError::WeightDecay`];
/// [`BracketError::Option`] for a setting out of its range. A budget that is too small is no error:
/// the interval is then a wide one.
pub fn threshold_bracket(
    jacobian: &dyn JacobianProducts,
    optimizer: &Optimizer,
    batch: &Batch,
    options: &BracketOptions,
) -> Result<ThresholdBracket, BracketError> {
    let watch = &mut |_: &BracketProgress, _: &Subspace| ControlFlow::Continue(());
    continue_bracket(jacobian, optimizer, batch, options, &mut Subspace::new(), watch)
}

/// Like [`threshold_bracket`], from a subspace that was found before and is left for later, with a
/// caller that watches.
///
/// `watch` is called before each product and each measurement, with the progress and the subspace
/// so far, which it may store. When it breaks, the bracket reached is returned; the certificate of
/// its lower end still takes up to 160 products. An empty [`Subspace`] starts afresh. After an error
/// the subspace is as useful as before the failed step.
///
/// # Errors
/// The errors of [`threshold_bracket`], and [`BracketError::SubspaceShape`] or
/// [`BracketError::SubspaceDiffers`] when the subspace belongs to another Jacobian.
#[expect(clippy::too_many_arguments, reason = "problem, settings, state and observer are apart")]
pub fn continue_bracket(
    jacobian: &dyn JacobianProducts,
    optimizer: &Optimizer,
    batch: &Batch,
    options: &BracketOptions,
    subspace: &mut Subspace,
    watch: &mut Watch<'_>,
) -> Result<ThresholdBracket, BracketError> {
    options.check()?;
    if optimizer.coupled_decay() > 0.0 || optimizer.decoupled_decay() > 0.0 {
        return Err(BracketError::WeightDecay);
    }
    let noise = batch.noise(jacobian.sample_count())?;
    let (optimizer, factor) = optimizer.undamped();
    let probe_cost = 8 + 4 * jacobian.output_count();
    let mut spent = 0;
    if probe_cost < options.max_products {
        spent = probe_jacobian(jacobian, &mut stream(options.seed, PROBE_STREAM, 0))?.products;
    }
    let mut gram = CountedGram::new(jacobian, spent, options.max_products)?;
    subspace.check(&mut gram)?;
    let is_continued = subspace.dimension() > 0;
    let problem = Problem { optimizer, noise };
    let run = Run {
        gram,
        problem,
        options,
        subspace,
        watch,
        factor,
        history: Vec::new(),
        last: None,
        rounds: 0,
        failure: 0.0,
        start: None,
    };
    let bracket = run.finish()?;
    if is_continued && bracket.lower > bracket.upper {
        let defect = bracket.lower / bracket.upper - 1.0;
        return Err(BracketError::SubspaceDiffers { defect });
    }
    Ok(bracket)
}

/// The observer of a run: it is told the progress and the subspace so far, and says whether to go
/// on.
type Watch<'w> = dyn FnMut(&BracketProgress, &Subspace) -> ControlFlow<()> + 'w;

/// One run of the loop.
struct Run<'a, 'b> {
    gram: CountedGram<'b>,
    problem: Problem,
    options: &'a BracketOptions,
    subspace: &'a mut Subspace,
    watch: &'a mut Watch<'a>,
    /// The factor by which dampening scales learning rates.
    factor: f64,
    /// Dimensions with the widths measured there.
    history: Vec<(usize, f64)>,
    last: Option<Measured>,
    /// Certificates so far, and the probability that one of them was wrong.
    rounds: usize,
    failure: f64,
    /// A tuple close to the one that the last estimate came from.
    start: Option<Vec<f64>>,
}

impl Run<'_, '_> {
    fn finish(mut self) -> Result<ThresholdBracket, BracketError> {
        if self.gram.trace() <= 0.0 {
            return Ok(self.without_curvature());
        }
        let stop = self.grow_until_narrow()?;
        self.result(stop)
    }

    /// The largest dimension that memory allows.
    fn dimensions_in_memory(&self) -> usize {
        let (rows, block) = (self.gram.rows(), self.options.block_size);
        let k = self.gram.outputs();
        let coordinates = self.gram.samples() * k * (k + 1) / 2;
        let fixed = rows * ROW_NUMBERS * block + coordinates * COORDINATE_NUMBERS;
        (self.options.max_bytes / 8).saturating_sub(fixed) / (2 * rows)
    }

    /// The largest dimension that anything allows.
    fn max_rank(&self) -> usize {
        self.dimensions_in_memory().min(self.options.max_rank).min(self.gram.max_rank())
    }

    fn grow_until_narrow(&mut self) -> Result<BracketStop, BracketError> {
        let in_memory = self.dimensions_in_memory();
        let limit = in_memory.min(self.options.max_rank);
        let at_limit =
            if in_memory < self.options.max_rank { BracketStop::Memory } else { BracketStop::Rank };
        let block_size = self.options.block_size.min((limit / LEAST_BLOCKS).max(1));
        let mut target = self.subspace.dimension().max(2 * block_size);
        let mut restarted_at = f64::INFINITY;
        loop {
            let width = self.subspace.next_width(&self.gram, block_size);
            let reserve = CERTIFICATE_PRODUCTS.min(self.options.max_products / 4);
            let affords = self.gram.products + 2 * width + reserve <= self.options.max_products;
            let stop = if self.is_complete() {
                Some(BracketStop::Complete)
            } else if !affords {
                Some(BracketStop::Products)
            } else if self.tell(BracketStage::Growing).is_break() {
                Some(BracketStop::Caller)
            } else {
                None
            };
            if let Some(stop) = stop {
                return self.certify(stop);
            }
            let is_over = self.subspace.dimension() + width > limit;
            if is_over || self.subspace.dimension() >= target {
                let found = self.measure(None)?;
                if found <= CERTIFIABLE * self.options.relative_width {
                    let stop = self.certify(BracketStop::Width)?;
                    if self.width() <= self.options.relative_width {
                        return Ok(stop);
                    }
                }
                let is_far = found > FAR * self.options.relative_width;
                let growth = if is_far { FAST_GROWTH } else { GROWTH };
                let grown = self.subspace.dimension() * growth.0 / growth.1;
                target = grown.max(self.subspace.dimension() + width);
                if is_over {
                    let kept = limit * KEPT.0 / KEPT.1;
                    let is_stalled = found > RESTART_GAIN * restarted_at;
                    if is_stalled || kept + width > limit || self.problem.noise.coefficient <= 0.0 {
                        return self.certify(at_limit);
                    }
                    restarted_at = found;
                    let pairs = self.subspace.ritz_pairs()?;
                    let kept = kept.min(self.subspace.dimension()).max(1);
                    self.subspace.restart(&pairs, kept, self.options.parallelism);
                    target = limit;
                    continue;
                }
            }
            let Self { gram, options, subspace, .. } = self;
            subspace.grow(gram, block_size, options.seed, options.parallelism)?;
        }
    }

    /// True if the space holds everything that K maps to, to rounding.
    fn is_complete(&self) -> bool {
        let trace = self.gram.trace();
        self.subspace.is_full() || trace - self.subspace.trace() <= NEGLIGIBLE_REST * trace
    }

    fn tell(&mut self, stage: BracketStage) -> ControlFlow<()> {
        let rate = |mu: f64| learning_rate(mu, self.gram.unit, self.factor);
        let last = self.last.as_ref();
        let progress = BracketProgress {
            products: self.gram.products,
            rank: self.subspace.dimension(),
            interval: last.map(|last| (rate(last.upper), rate(last.lower))),
            estimate: last.map(|last| rate(last.estimate)),
            max_rank: self.max_rank(),
            stage,
        };
        (self.watch)(&progress, self.subspace)
    }

    /// The relative width of the last measurement.
    fn width(&self) -> f64 {
        self.last.as_ref().map_or(1.0, |last| relative_width(1.0 / last.upper, 1.0 / last.lower))
    }

    /// Measures the ends and returns their relative width.
    fn measure(&mut self, failure: Option<f64>) -> Result<f64, BracketError> {
        if self.subspace.dimension() == 0 {
            return Ok(1.0);
        }
        let is_certified = failure.is_some();
        let stage = if is_certified { BracketStage::Certifying } else { BracketStage::Measuring };
        // Breaking takes effect before the next product.
        let _ = self.tell(stage);
        let Self { gram, problem, options, subspace, start, .. } = self;
        let problem = *problem;
        let mut measurement =
            Measurement { space: subspace, gram, problem, options, failure, start };
        let measured = if problem.noise.coefficient > 0.0 {
            measurement.run()?
        } else {
            measurement.run_without_noise()?
        };
        if is_certified {
            self.failure += measured.failure;
        }
        self.last = Some(measured);
        let width = self.width();
        self.history.retain(|(rank, _)| *rank != self.subspace.dimension());
        self.history.push((self.subspace.dimension(), width));
        Ok(width)
    }

    fn certify(&mut self, stop: BracketStop) -> Result<BracketStop, BracketError> {
        self.rounds += 1;
        // Σ 6/(πj)² = 1; three bounds a round.
        let share = 2.0 / (std::f64::consts::PI * self.rounds as f64).powi(2);
        self.measure(Some(share * self.options.failure_probability))?;
        Ok(stop)
    }

    /// The rank at which the width falls to 1 %, on a line through the last widths in logarithms.
    fn rank_for_one_percent(&self) -> Option<usize> {
        const GOAL: f64 = 0.01;
        let (rank, width) = *self.history.last()?;
        if width <= GOAL {
            let first = self.history.iter().find(|(_, width)| *width <= GOAL);
            return first.map(|(rank, _)| *rank);
        }
        // Two ranks close to each other would magnify the difference between their widths.
        let earlier = self.history.iter().rev().find(|(before, _)| 4 * before <= 3 * rank);
        let (rank_before, before) = *earlier?;
        let ratio = (rank as f64 / rank_before as f64, before / width);
        if !(ratio.0 > 1.0 && ratio.1 > 1.02) {
            return None;
        }
        let slope = libm::log(ratio.1) / libm::log(ratio.0);
        let wanted = rank as f64 * libm::pow(width / GOAL, 1.0 / slope);
        let most = self.gram.max_rank();
        Some((rank..most).find(|rank| *rank as f64 >= wanted).unwrap_or(most))
    }

    fn without_curvature(&self) -> ThresholdBracket {
        let bounds = BracketBounds {
            trace: f64::INFINITY,
            lambda_max: f64::INFINITY,
            spectral: f64::INFINITY,
            sufficient: f64::INFINITY,
            contraction: f64::INFINITY,
        };
        ThresholdBracket {
            lower: f64::INFINITY,
            upper: f64::INFINITY,
            estimate: f64::INFINITY,
            failure_probability: 0.0,
            rank: 0,
            converged: 0,
            trace: 0.0,
            rest_of_trace: 0.0,
            rest_of_heaviest: 0.0,
            lambda_max: (0.0, 0.0),
            modes: Vec::new(),
            bounds,
            products: self.gram.products,
            stop: BracketStop::Complete,
            rank_for_one_percent: None,
        }
    }

    /// The result, with simpler conditions where they are better or all there is.
    fn result(&mut self, stop: BracketStop) -> Result<ThresholdBracket, BracketError> {
        let gram = &self.gram;
        let (outputs, trace) = (gram.outputs() as f64, gram.trace());
        let (noise, law) = self.problem.law();
        let curvature = law.map_or(0.0, |(curvature, _)| curvature.max(0.0));
        let heaviest = heaviest_sample(gram)?;
        let pairs =
            if self.subspace.dimension() > 0 { Some(self.subspace.ritz_pairs()?) } else { None };
        let values = pairs.as_ref().map_or(&[][..], |pairs| &pairs.values);
        let values: Vec<f64> = values.iter().map(|value| value.max(0.0)).collect();
        let found: f64 = values.iter().sum();
        let top = values.first().copied().unwrap_or(0.0);
        let last = self.last.as_ref();
        let lambda_max = last.map_or(trace, |last| last.lambda_max.min(trace));
        // For a response that grows with μ, as that of SGD and of the heavy ball with κ ≥ 0.
        let is_monotone = law.is_some_and(|(curvature, _)| curvature >= 0.0);
        let spectral = if is_monotone {
            let rest = (trace - found).max(0.0);
            spectral_mu(&values, rest, noise / outputs, curvature)
        } else {
            0.0
        };
        let descent = if top > 0.0 { self.problem.descent_limit(top) } else { 0.0 };
        // With several outputs S6 alone does not imply S5.
        let spectral = spectral.max(if is_monotone { descent } else { 0.0 });
        let sufficient =
            if law.is_some() { curvature * lambda_max + noise * heaviest } else { f64::INFINITY };
        let contraction = last.map_or(sufficient, |last| last.contraction.min(sufficient));
        let margin = 64.0 * gram.samples() as f64 * f64::EPSILON;
        let least = last.map_or(0.0, |last| last.lower).max(spectral).max(descent);
        let most = last.map_or(sufficient, |last| last.upper.min(contraction));
        let rate = |mu: f64| learning_rate(mu, gram.unit, self.factor);
        let unscaled = |value: f64| gram.unit.squared().times(value);
        let lower = rate(most * (1.0 + margin));
        let upper = rate(least * (1.0 - margin));
        let estimate = last.map_or(f64::midpoint(lower, upper), |last| rate(last.estimate));
        let residuals = pairs.as_ref().map_or(&[][..], |pairs| &pairs.residuals);
        let modes = values.iter().zip(residuals).take(MAX_LISTED).map(|(value, residual)| {
            RitzMode { value: unscaled(*value), residual: unscaled(*residual) }
        });
        Ok(ThresholdBracket {
            lower,
            upper,
            estimate: estimate.clamp(lower, upper.max(lower)),
            failure_probability: self.failure,
            rank: self.subspace.dimension(),
            converged: last.map_or(0, |last| last.modes),
            trace: unscaled(trace),
            rest_of_trace: last.map_or(1.0, |last| last.rest_of_trace / trace),
            rest_of_heaviest: last.map_or(1.0, |last| last.rest_of_heaviest),
            lambda_max: (unscaled(top), unscaled(lambda_max)),
            modes: modes.collect(),
            bounds: BracketBounds {
                trace: if is_monotone { rate(noise * trace / outputs) } else { f64::INFINITY },
                lambda_max: rate(descent),
                spectral: rate(spectral),
                sufficient: rate(sufficient),
                contraction: rate(contraction),
            },
            products: gram.products,
            stop,
            // Where all modes are found, more of them narrow nothing.
            rank_for_one_percent: self
                .rank_for_one_percent()
                .filter(|rank| stop != BracketStop::Complete || *rank <= self.subspace.dimension()),
        })
    }
}
