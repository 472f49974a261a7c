//! Changes of a minimum that change the threshold in a known way.
//!
//! A certified interval contains the threshold of the numbers that it was given. Where a change is
//! made without rounding and does not change the exact threshold, the two intervals must therefore
//! meet, however narrow they are: the requested width is so small that rounding alone decides it.
//! Equal bits are expected only where every operation is the same up to exact factors.

mod cases;
mod invariance;
mod noise;
mod rounding;
mod scale;
#[path = "../support/mod.rs"]
mod support;
