//! What must happen to the threshold when a minimum is changed in a way whose effect is known.
//!
//! A certified interval contains the threshold of the numbers that it was given. Where a change leaves the
//! threshold of the real numbers as it is, and is made without rounding, the two intervals must therefore
//! meet, however narrow they are: the width asked for is such that rounding alone decides it. Equal bits are
//! expected only where every operation is the same up to exact factors.

mod cases;
mod invariance;
mod noise;
mod rounding;
mod scale;
#[path = "../support/mod.rs"]
mod support;
