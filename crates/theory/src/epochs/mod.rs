//! The stability edge of reshuffled epochs (S21).
//!
//! An epoch is a random order π of the samples, cut into batches; the last one may be short and
//! counts with its own size. The second moments of the state after an epoch are
//! `T(P) = E_π[A_π P A_πᵀ]`, where `A_π` is the product of the steps of the batches: the epochs are
//! stable where the spectral radius of T is at most 1.
//!
//! - [`exact`] computes T by a recursion over the sets of samples that an epoch has used so far.
//!   It is affordable for n ≤ 12, and for few batches.
//! - [`estimate`] follows populations of states through random epochs, and resamples them in
//!   proportion to their growth.
//!
//! The stable learning rates need not form an interval. The edge is the first one at which
//! stability is lost, found by a scan.

mod estimate;
mod exact;
mod step;

use faer::Mat;
use flatmin_linalg::{Parallelism, PowerOfTwo, symmetric_eigen};

use self::estimate::Populations;
use self::exact::Exact;
use self::step::{Epoch, Step};
use crate::{
    Batch, Minimum, Optimizer, Sampling, ThresholdError, ThresholdOptions, lyapunov_function,
};

/// The relative step of the scan for the first unstable learning rate.
const SCAN: f64 = 1.05;

/// The relative accuracy of an exact edge.
const EXACT_WIDTH: f64 = 1e-10;

/// How an [`EpochEdge`] is estimated where the exact recursion is too long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochOptions {
    /// The seed of the random epochs.
    pub seed: u64,
    /// Independent populations for each of seven learning rates, at least 4. Their spread gives the
    /// interval.
    pub populations: usize,
    /// States in each population.
    pub states: usize,
    /// Epochs that each population takes, after three times as many to forget the start.
    pub epochs: usize,
    /// False to estimate the edge even where it can be computed exactly, which tests the estimate.
    pub is_exact_allowed: bool,
    /// True if the populations may use several cores. The result has the same bits either way.
    pub parallelism: Parallelism,
}

impl Default for EpochOptions {
    /// Seed 0; 12 populations of 64 states for each learning rate, 16 epochs.
    fn default() -> Self {
        Self {
            seed: 0,
            populations: 12,
            states: 64,
            epochs: 16,
            is_exact_allowed: true,
            parallelism: Parallelism::Sequential,
        }
    }
}

/// The first learning rate at which reshuffled epochs lose mean-square stability, see
/// [`epoch_edge`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochEdge {
    /// The lower end of the interval for the edge.
    pub lower: f64,
    /// The upper end.
    pub upper: f64,
    /// The edge.
    pub estimate: f64,
    /// The confidence of the interval; `None` where the edge is exact up to rounding.
    pub confidence: Option<f64>,
}

/// The first learning rate at which reshuffled epochs of `batch` lose mean-square stability: exact
/// for n ≤ 12 samples and for few batches, otherwise an estimate with a 95 % interval.
///
/// ```
/// use flatmin_linalg::RowMatrix;
/// use flatmin_theory::{
///     Batch, EpochOptions, Minimum, Optimizer, Sampling, epoch_edge, threshold,
/// };
/// let jacobian = RowMatrix::new(3, 2, vec![1.0, 0.0, 0.0, 1.0, 0.25, 0.25])?;
/// let minimum = Minimum::new(&jacobian)?;
/// let epochs = Batch::new(1, Sampling::Reshuffling)?;
/// let edge = epoch_edge(&minimum, &Optimizer::sgd(), &epochs, &EpochOptions::default())?;
/// assert!((edge.estimate - 2.0855).abs() < 1e-4);
/// // Independent draws are stable a little further.
/// let independent = Batch::new(1, Sampling::WithoutReplacement)?;
/// let threshold = threshold(&minimum, &Optimizer::sgd(), &independent)?;
/// assert!((threshold.midpoint() - 2.1030).abs() < 1e-4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Source: theory S21.
///
/// # Errors
/// [`ThresholdError::Batch`] when the batch is larger than the number of samples, or is not
/// reshuffled; [`ThresholdError::Populations`] for too few populations, states or epochs.
pub fn epoch_edge(
    minimum: &Minimum,
    optimizer: &Optimizer,
    batch: &Batch,
    options: &EpochOptions,
) -> Result<EpochEdge, ThresholdError> {
    let n = minimum.sample_count();
    let epoch = Epoch::new(minimum, batch)?;
    let least = [options.populations / 4, options.states / 2, options.epochs];
    if least.contains(&0) {
        return Err(ThresholdError::Populations {
            populations: options.populations,
            states: options.states,
            epochs: options.epochs,
        });
    }
    let (exponent, eigenvalues, _) = minimum.scaled();
    if eigenvalues.is_empty() || epoch.sizes.is_empty() {
        let (lower, upper, estimate) = (f64::INFINITY, f64::INFINITY, f64::INFINITY);
        return Ok(EpochEdge { lower, upper, estimate, confidence: None });
    }
    if epoch.sizes == [n] {
        // Gradient descent.
        let whole = Batch::new(n, Sampling::WithoutReplacement)?;
        let found = crate::threshold(minimum, optimizer, &whole)?;
        let (lower, upper, estimate) = (found.lower, found.upper, found.midpoint());
        return Ok(EpochEdge { lower, upper, estimate, confidence: None });
    }
    let unit = PowerOfTwo::new(-2 * exponent);
    let (undamped, factor) = optimizer.undamped();
    let step = Step::new(undamped.for_power_of_two(unit));
    let start = epoch.safe_rate(&step);
    let exact = Exact::affordable(&epoch, &step).filter(|_| options.is_exact_allowed);
    let edge = if let Some(exact) = exact {
        let (stable, unstable) = scan(start, |rate| exact.is_unstable(rate))?;
        let estimate = exact.root(stable, unstable);
        let (lower, upper) = (estimate * (1.0 - EXACT_WIDTH), estimate * (1.0 + EXACT_WIDTH));
        EpochEdge { lower, upper, estimate, confidence: None }
    } else {
        let known = |size: usize| -> Result<f64, ThresholdError> {
            let batch = Batch::new(size, Sampling::WithoutReplacement)?;
            let found = crate::threshold(minimum, optimizer, &batch)?;
            Ok(unit.inverse().times(factor * found.midpoint()))
        };
        let root = likely_moments(minimum, batch.size(), options.parallelism)?;
        estimated(&Populations::new(&epoch, &step, *options, &root), &epoch, start, known)?
    };
    let rate = |scaled: f64| unit.times(scaled / factor);
    let EpochEdge { lower, upper, estimate, confidence } = edge;
    Ok(EpochEdge { lower: rate(lower), upper: rate(upper), estimate: rate(estimate), confidence })
}

/// The edge by populations, checked on independent batches as large as the smallest of an epoch,
/// whose edge is `known`.
///
/// Where the check misses by more than its interval, a few rare states carry the second moments, and
/// the estimate misses some of them: it is corrected by the ratio if all batches have that size, and
/// its interval is widened by the miss.
fn estimated(
    populations: &Populations<'_>,
    epoch: &Epoch<'_>,
    start: f64,
    known: impl Fn(usize) -> Result<f64, ThresholdError>,
) -> Result<EpochEdge, ThresholdError> {
    let found = populations.edge(start)?;
    let smallest = epoch.sizes.iter().copied().min().unwrap_or(1);
    let independent = epoch.of_equal_batches(smallest);
    let control = populations.with_epoch(&independent).control().edge(start)?;
    let exact = known(smallest)?;
    if control.lower <= exact && exact <= control.upper {
        return Ok(found);
    }
    let is_equal = epoch.sizes.iter().all(|size| *size == smallest);
    let ratio = exact / control.estimate;
    let estimate = if is_equal { found.estimate * ratio } else { found.estimate };
    let half = |edge: &EpochEdge| (edge.upper - edge.lower) / (2.0 * edge.estimate);
    let width = (libm::hypot(half(&found), half(&control)) + (ratio - 1.0).abs()).min(0.99);
    let (lower, upper) = (estimate * (1.0 - width), estimate * (1.0 + width));
    Ok(EpochEdge { lower, upper, estimate, confidence: found.confidence })
}

/// A root of the second moments that grow fastest with independent batches at their threshold, which
/// are close to those of epochs.
fn likely_moments(
    minimum: &Minimum,
    size: usize,
    parallelism: Parallelism,
) -> Result<Mat<f64>, ThresholdError> {
    let batch = Batch::new(size, Sampling::WithoutReplacement)?;
    let options = ThresholdOptions { relative_width: 1e-6, parallelism, ..Default::default() };
    let matrix = lyapunov_function(minimum, &batch, &options)?.matrix;
    let eigen = symmetric_eigen(matrix.as_mat())?;
    Ok(Mat::from_fn(matrix.rows(), matrix.rows(), |k, l| {
        // A little of every direction, so that none is lost.
        (eigen.values[l].max(0.0) + 1e-4).sqrt() * eigen.vectors[(k, l)]
    }))
}

/// The last stable and the first unstable learning rate of a scan upwards from `start`; the start
/// is lowered until it is stable.
fn scan(mut start: f64, is_unstable: impl Fn(f64) -> bool) -> Result<(f64, f64), ThresholdError> {
    const MAX_STEPS: usize = 2000;
    let mut steps = 0;
    while is_unstable(start) {
        start *= 0.5;
        steps += 1;
        if steps > MAX_STEPS {
            return Err(ThresholdError::NoCertificate);
        }
    }
    for _ in 0..MAX_STEPS {
        let next = start * SCAN;
        if is_unstable(next) {
            return Ok((start, next));
        }
        start = next;
    }
    Err(ThresholdError::NoCertificate)
}
