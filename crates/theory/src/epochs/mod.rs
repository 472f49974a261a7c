//! The stability edge of reshuffled epochs (S21).
//!
//! An epoch is a random order π of the samples, cut into batches; the last one may be short and
//! counts with its own size. The second moments of the state after an epoch are
//! `T(P) = E_π[A_π P A_πᵀ]`, where `A_π` is the product of the steps of the batches: the epochs are
//! stable where the spectral radius of T is at most 1.
//!
//! - [`exact`] computes T by a recursion over the sets of samples that an epoch has used so far.
//!   It is affordable for n ≤ 12, and for few batches.
//! - [`estimate`] takes means over random orders, and finds the spectral radius from
//!   approximations to the eigenvector of T and to that of its adjoint. Small modes are left out
//!   where there are many; what they do to the edge of independent batches corrects for them.
//!
//! The stable learning rates need not form an interval. The edge is the first one at which
//! stability is lost, found by a scan.

mod blocks;
mod estimate;
mod exact;
mod krylov;
mod last_batch;
mod mean_epoch;
mod pencil;
mod step;

use std::borrow::Cow;

use faer::{Mat, Scale};
use flatmin_linalg::{Parallelism, PowerOfTwo};

use self::blocks::root_of;
use self::estimate::Estimator;
use self::exact::Exact;
use self::step::{Epoch, Step};
use crate::{
    Batch, Minimum, Optimizer, Sampling, ThresholdError, ThresholdOptions, lyapunov_function,
    threshold_with,
};

/// The confidence of intervals.
const CONFIDENCE: f64 = 0.95;

/// The relative step of the scan for the first unstable learning rate.
const SCAN: f64 = 1.05;

/// The largest work of an exact growth for which a scan is quicker than an estimate.
const QUICK: f64 = 3e5;

/// The modes of the scan for the first unstable learning rate, and the largest number of them for
/// an estimate.
const SCOUT_MODES: usize = 32;
const MOST_MODES: usize = 256;

/// The share of the trace in the modes that an estimate leaves out, if their number allows it.
const LEFT_OUT_MODES: f64 = 0.01;

/// The share of the logarithm of the correction for these modes that is uncertain.
const UNSURE: f64 = 0.25;

/// The relative accuracy of an exact edge.
const EXACT_WIDTH: f64 = 1e-10;

/// The settings by which an [`EpochEdge`] is estimated where the exact recursion is too long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochOptions {
    /// The seed of the random epochs.
    pub seed: u64,
    /// The relative width that the interval should have.
    pub relative_width: f64,
    /// The largest number of random orders for a mean, at least 8. Fewer are taken where an epoch
    /// is long.
    pub max_orders: usize,
    /// The problems whose edge is computed exactly.
    pub exact: ExactEdges,
    /// True if the means may use several cores. The result has the same bits either way.
    pub parallelism: Parallelism,
}

/// The problems for which the edge of reshuffled epochs is computed exactly, and not estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExactEdges {
    /// None, which tests the estimate.
    Never,
    /// Those for which it takes a fraction of a second.
    WhereQuick,
    /// Those with n ≤ 12 samples or few batches.
    WhereAffordable,
}

impl Default for EpochOptions {
    /// Seed 0; a width of 1 %, and up to 4096 orders.
    fn default() -> Self {
        Self {
            seed: 0,
            relative_width: 0.01,
            max_orders: 4096,
            exact: ExactEdges::WhereAffordable,
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
/// reshuffled; [`ThresholdError::Orders`] for too few orders.
pub fn epoch_edge(
    minimum: &Minimum,
    optimizer: &Optimizer,
    batch: &Batch,
    options: &EpochOptions,
) -> Result<EpochEdge, ThresholdError> {
    let n = minimum.sample_count();
    let epoch = Epoch::new(minimum, batch)?;
    if options.max_orders < 8 {
        return Err(ThresholdError::Orders { orders: options.max_orders });
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
    let exact = Exact::affordable(&epoch, &step).filter(|exact| match options.exact {
        ExactEdges::Never => false,
        ExactEdges::WhereQuick => exact.work <= QUICK,
        ExactEdges::WhereAffordable => true,
    });
    let edge = match exact {
        Some(exact) if exact.work <= QUICK => exact_edge(&exact, None, start)?,
        exact => {
            let estimate = || estimated_edge(minimum, batch, &step, *options, start);
            match exact {
                Some(exact) => exact_edge(&exact, estimate().ok(), start)?,
                None => estimate()?,
            }
        }
    };
    let rate = |scaled: f64| unit.times(scaled / factor);
    let EpochEdge { lower, upper, estimate, confidence } = edge;
    Ok(EpochEdge { lower: rate(lower), upper: rate(upper), estimate: rate(estimate), confidence })
}

/// The exact edge. The estimate says where to look for it; a scan does where that is wrong.
fn exact_edge(
    exact: &Exact<'_>,
    estimate: Option<EpochEdge>,
    start: f64,
) -> Result<EpochEdge, ThresholdError> {
    let near = estimate.and_then(|found| {
        let margin = 2.0 * (found.upper - found.lower) + 1e-3 * found.estimate;
        let (low, high) = (found.estimate - margin, found.estimate + margin);
        (!exact.is_unstable(low) && exact.is_unstable(high)).then_some((low, high))
    });
    let (stable, unstable) = match near {
        Some(interval) => interval,
        None => scan(start, |rate| Ok(exact.is_unstable(rate)))?,
    };
    let estimate = exact.root(stable, unstable);
    let (lower, upper) = (estimate * (1.0 - EXACT_WIDTH), estimate * (1.0 + EXACT_WIDTH));
    Ok(EpochEdge { lower, upper, estimate, confidence: None })
}

/// The estimate of an edge, in the units of [`Minimum::scaled`].
///
/// It is found with the modes that hold nearly all of the trace. The edge of independent batches,
/// with all modes and with these, corrects it for the others.
fn estimated_edge(
    minimum: &Minimum,
    batch: &Batch,
    step: &Step,
    options: EpochOptions,
    start: f64,
) -> Result<EpochEdge, ThresholdError> {
    let eigenvalues = minimum.scaled().1;
    let independent = |minimum: &Minimum| -> Result<f64, ThresholdError> {
        let batch = Batch::new(batch.size(), Sampling::WithoutReplacement)?;
        let options = ThresholdOptions {
            relative_width: 1e-6,
            parallelism: options.parallelism,
            ..ThresholdOptions::default()
        };
        let (exponent, ..) = minimum.scaled();
        let found = threshold_with(minimum, &step.for_unit(exponent), &batch, &options)?;
        Ok(PowerOfTwo::new(2 * exponent).times(found.midpoint()))
    };
    let restricted_to = |modes: usize| -> Result<Cow<'_, Minimum>, ThresholdError> {
        Ok(if modes < eigenvalues.len() {
            Cow::Owned(minimum.restricted_to(modes)?)
        } else {
            Cow::Borrowed(minimum)
        })
    };
    let find = |modes: usize, near: Option<f64>, options: EpochOptions| {
        let restricted = restricted_to(modes)?;
        let epoch = Epoch::new(&restricted, batch)?;
        let moments = likely_moments(&restricted, &epoch, options.parallelism)?;
        let estimator = Estimator::new(&epoch, step, options, &moments);
        match near {
            Some(near) => estimator.edge_near(near),
            None => estimator.edge(start),
        }
    };
    let all = eigenvalues.len();
    if Estimator::is_short(&Epoch::new(minimum, batch)?, step) {
        return find(all, None, options);
    }
    let modes = leading_modes(eigenvalues);
    let edge_of_all = independent(minimum)?;
    let correction = |modes: usize| -> Result<f64, ThresholdError> {
        Ok(edge_of_all / independent(&*restricted_to(modes)?)?)
    };
    let (scouts, correction_of_modes) = (modes.min(SCOUT_MODES), correction(modes)?);
    let mut near = None;
    if scouts < modes {
        let few = EpochOptions { relative_width: 0.1, max_orders: 256, ..options };
        let scouted = find(scouts, None, few)?.estimate;
        near = Some(scouted * correction(scouts)? / correction_of_modes);
    }
    let (correction, mut edge) = (correction_of_modes, find(modes, near, options)?);
    let unsure = libm::exp(UNSURE * libm::log(correction).abs());
    edge.lower *= correction / unsure;
    edge.upper *= correction * unsure;
    edge.estimate *= correction;
    Ok(edge)
}

/// The number of leading modes that an estimate acts on.
fn leading_modes(eigenvalues: &[f64]) -> usize {
    let rank = eigenvalues.len();
    let trace: f64 = eigenvalues.iter().sum();
    let mut left_out = 0.0;
    let small = eigenvalues.iter().take_while(|value| {
        left_out += **value;
        left_out <= LEFT_OUT_MODES * trace
    });
    (rank - small.count()).clamp(1, MOST_MODES)
}

/// Roots of second moments that may grow fastest: those of independent batches at their threshold.
/// A short last batch has a direction of its own, and flat directions another.
fn likely_moments(
    minimum: &Minimum,
    epoch: &Epoch<'_>,
    parallelism: Parallelism,
) -> Result<Vec<Mat<f64>>, ThresholdError> {
    let mut sizes = epoch.sizes.clone();
    sizes.dedup();
    let options = ThresholdOptions { relative_width: 1e-6, parallelism, ..Default::default() };
    let fastest = |size: &usize| -> Result<Mat<f64>, ThresholdError> {
        let batch = Batch::new(*size, Sampling::WithoutReplacement)?;
        Ok(lyapunov_function(minimum, &batch, &options)?.matrix.as_mat().to_owned())
    };
    let mut moments = sizes.iter().map(fastest).collect::<Result<Vec<_>, _>>()?;
    let every_direction = Mat::<f64>::identity(epoch.rank(), epoch.rank());
    if let [moments] = &mut moments[..] {
        // A little of every direction, so that none is lost.
        *moments += every_direction * Scale(1e-4);
    } else {
        moments.push(every_direction);
    }
    moments.iter().map(root_of).collect()
}

/// The last stable and the first unstable learning rate of a scan upwards from `start`; the start
/// is lowered until it is stable.
fn scan(
    mut start: f64,
    is_unstable: impl Fn(f64) -> Result<bool, ThresholdError>,
) -> Result<(f64, f64), ThresholdError> {
    const MAX_STEPS: usize = 2000;
    let mut steps = 0;
    while is_unstable(start)? {
        start *= 0.5;
        steps += 1;
        if steps > MAX_STEPS {
            return Err(ThresholdError::NoCertificate);
        }
    }
    for _ in 0..MAX_STEPS {
        let next = start * SCAN;
        if is_unstable(next)? {
            return Ok((start, next));
        }
        start = next;
    }
    Err(ThresholdError::NoCertificate)
}
