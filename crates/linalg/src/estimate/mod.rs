//! Monte Carlo estimates for operators known by their products, with calibrated errors.
//!
//! Every estimate is a computed number plus the mean of quadratic forms of random vectors. The
//! module `moments` derives the distribution of the error of such a mean; `xtrace` extends it to
//! forms that are not independent.

mod adaptive;
mod error;
mod frobenius;
mod interval;
mod moments;
pub(crate) mod products;
mod quantile;
mod trace;
mod xtrace;

pub use adaptive::{TraceRun, TraceStatus, TraceTarget, estimate_trace};
pub use error::EstimateError;
pub use frobenius::{FrobeniusMethod, FrobeniusOptions, frobenius_norm_squared};
pub use interval::{Estimate, Interval};
pub(crate) use quantile::student;
pub use trace::{TraceMethod, TraceOptions, trace};
