//! The trace of an operator to a given accuracy.

use rand::Rng;

use super::error::EstimateError;
use super::interval::Estimate;
use super::trace::{TraceMethod, TraceOptions, trace, trace_within};
use crate::Operator;

/// The accuracy that [`estimate_trace`] is to reach, and its limits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TraceTarget {
    /// The accepted half width of the interval, relative to the estimate; at least 0.
    pub relative_error: f64,
    /// The confidence of that interval, between 0 and 1.
    pub confidence: f64,
    /// The largest number of operator products, over all rounds.
    pub max_products: usize,
    /// The method of every round that fits into memory.
    pub method: TraceMethod,
    /// The approximate number of bytes for vectors. A round whose method needs more uses Hutch++
    /// with as many directions Q as fit beside a block of vectors, or, when none fits, Hutchinson's
    /// method with at least eight vectors.
    pub max_bytes: usize,
}

impl Default for TraceTarget {
    /// One per cent with 95 % confidence, `XTrace`, at most 1000 products, 256 MiB.
    fn default() -> Self {
        Self {
            relative_error: 0.01,
            confidence: 0.95,
            max_products: 1000,
            method: TraceMethod::default(),
            max_bytes: 256 << 20,
        }
    }
}

/// The reason why [`estimate_trace`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceStatus {
    /// The interval is as narrow as requested.
    Converged,
    /// The budget of products ran out first; the interval shows the accuracy reached.
    OutOfProducts,
}

/// The result of [`estimate_trace`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct TraceRun {
    /// The estimate of the last round. It counts only the products of that round.
    pub estimate: Estimate,
    /// The number of operator products used, over all rounds.
    pub products: usize,
    /// The method of the last round.
    pub method: TraceMethod,
    /// The reason why it ended.
    pub status: TraceStatus,
}

/// The number of products of the first round.
const FIRST_ROUND: usize = 16;

/// The trace of a symmetric operator to a given accuracy.
///
/// Rounds of 16, 32, 64, … products with fresh random vectors follow each other until the interval
/// of one is narrow enough or the next would exceed the budget; the last round gets all products
/// that are left. A round ignores the rounds before it, so that they cannot bias it. One effect
/// remains: a round whose interval happens to be too narrow is likelier to be the last. The example
/// `coverage` shows that the interval covers the truth as often as it should all the same. The
/// price is that up to half of the products belong to rounds that are not used.
///
/// ```
/// use flatmin_linalg::{FnOperator, TraceStatus, TraceTarget, estimate_trace, stream};
/// // diag(1, 2, …, 100), known by its products.
/// let operator = FnOperator::new(100, |v: &[f64], image: &mut [f64]| {
///     (0..100).for_each(|i| image[i] = (i + 1) as f64 * v[i]);
/// });
/// let target = TraceTarget { relative_error: 0.1, ..TraceTarget::default() };
/// let run = estimate_trace(&operator, &target, &mut stream(0, "trace", 0))?;
/// assert_eq!(run.status, TraceStatus::Converged);
/// assert!(run.estimate.interval(0.95).half_width() <= 0.1 * run.estimate.value);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// The errors of [`trace`], and [`EstimateError::Target`] for a relative error below zero or a
/// confidence that is not between 0 and 1.
pub fn estimate_trace(
    operator: &(impl Operator + ?Sized),
    target: &TraceTarget,
    rng: &mut impl Rng,
) -> Result<TraceRun, EstimateError> {
    let TraceTarget { relative_error, confidence, .. } = *target;
    if !(relative_error >= 0.0 && relative_error.is_finite()) {
        let (what, expected) = ("relative error", "a finite number, at least 0");
        return Err(EstimateError::Target { what, value: relative_error, expected });
    }
    if !(confidence > 0.0 && confidence < 1.0) {
        let (what, expected) = ("confidence", "a number between 0 and 1");
        return Err(EstimateError::Target { what, value: confidence, expected });
    }
    let mut products = 0;
    let mut next = FIRST_ROUND;
    loop {
        // A further round is useful only if it is larger than this one.
        let left = target.max_products - products;
        let max_products = if left < next.saturating_mul(3) { left } else { next };
        let fits = target.max_bytes / size_of::<f64>() / operator.dim().max(1);
        let options = TraceOptions { method: target.method, max_products };
        let (method, estimate) = if target.method.max_vectors(max_products) <= fits {
            (target.method, trace(operator, &options, rng)?)
        } else {
            trace_within(operator, max_products, fits, rng)?
        };
        products += estimate.products;
        let half_width = estimate.interval(confidence).half_width();
        let status = if half_width <= relative_error * estimate.value.abs() {
            TraceStatus::Converged
        } else if max_products == left {
            TraceStatus::OutOfProducts
        } else {
            next *= 2;
            continue;
        };
        return Ok(TraceRun { estimate, products, method, status });
    }
}
