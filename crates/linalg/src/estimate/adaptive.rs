//! A trace to a wanted accuracy.

use rand::Rng;

use super::trace::trace_within;
use super::{Estimate, EstimateError, TraceMethod, TraceOptions, trace};
use crate::Operator;

/// What [`estimate_trace`] is to reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TraceTarget {
    /// Half the width of the interval, relative to the estimate, at which it is good enough: at least 0.
    pub relative_error: f64,
    /// Confidence of that interval, between 0 and 1.
    pub confidence: f64,
    /// Most operator products, over all rounds.
    pub max_products: usize,
    /// The method.
    pub method: TraceMethod,
    /// Most bytes of vectors kept at once, about. A round in which the method needs more is one of
    /// Hutch++ with as many directions Q as fit beside a block of vectors, or, where none does, of
    /// Hutchinson's method with eight vectors at least.
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

/// How [`estimate_trace`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceStatus {
    /// The interval is as narrow as was asked for.
    Converged,
    /// The budget of products ran out first; the interval says how far it got.
    OutOfProducts,
}

/// What [`estimate_trace`] found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TraceRun {
    /// The estimate of the last round, with the products of that round.
    pub estimate: Estimate,
    /// Operator products used, over all rounds.
    pub products: usize,
    /// The method of the last round.
    pub method: TraceMethod,
    /// How it ended.
    pub status: TraceStatus,
}

/// Products of the first round.
const FIRST: usize = 16;

/// The trace of a symmetric operator, with as many products as the wanted accuracy takes.
///
/// Rounds of 16, 32, 64, … products with fresh random vectors, until the interval of one is narrow
/// enough or the next would exceed the budget; the last one gets all that is left. A round
/// knows nothing of the rounds before, so that their luck cannot bias it: what remains is that a
/// round whose interval happens to be too narrow is likelier to be the last. The example `coverage`
/// shows that the interval covers its share all the same. Its price is that at most half of the
/// products are in rounds that are not used.
///
/// # Errors
/// As [`trace`]; [`EstimateError::Target`] for an error below zero or a confidence that is not between
/// 0 and 1.
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
    let mut next = FIRST;
    loop {
        // Another round must be larger than this one to be worth anything.
        let left = target.max_products - products;
        let max_products = if left < next.saturating_mul(3) { left } else { next };
        let fits = target.max_bytes / size_of::<f64>() / operator.dim().max(1);
        let options = TraceOptions { method: target.method, max_products };
        let (method, estimate) = if target.method.most_vectors(max_products) <= fits {
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
