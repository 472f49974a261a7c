//! The steps of SGD and gradient descent.
//!
//! [`plain`] is their definition, for any model and optimizer. The other kernels are fused for one
//! model and plain SGD, and tested against it. They are made of three things: `gemm`, products of
//! matrices, and `rank_k`, sums of outer products, both tile by tile with registers along one axis
//! (*lanes*), and sweeps over single rows of weights.

#![expect(
    clippy::inline_always,
    reason = "a kernel that is not inlined loses the instruction set it was dispatched to"
)]

mod correlation;
mod diagonal;
mod gemm;
mod input_layer;
mod matrix_sensing;
mod mlp;
mod plain;
mod relu;
mod rows;
mod step;
mod univariate;

pub use diagonal::DiagonalKernel;
pub use matrix_sensing::MatrixSensingKernel;
pub use mlp::MlpKernel;
pub use plain::PlainKernel;
pub use relu::ReluKernel;
pub use step::{Kernel, Samples, Segment, Step, Update};
pub use univariate::UnivariateKernel;
