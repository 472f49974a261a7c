//! The steps of SGD and gradient descent.
//!
//! [`plain`] is their definition, for any model and optimizer. The other kernels are fused for one
//! model and plain SGD, and tested against it.

#![expect(
    clippy::inline_always,
    reason = "a kernel that is not inlined loses the instruction set it was dispatched to"
)]

mod blocked;
mod diagonal;
mod grouped;
mod mlp;
mod plain;
mod relu;
mod step;
mod sweep;

pub use diagonal::DiagonalKernel;
pub use mlp::MlpKernel;
pub use plain::PlainKernel;
pub use relu::ReluKernel;
pub use step::{Kernel, Segment, Step, Update};
