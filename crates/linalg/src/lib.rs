//! Linear algebra and random streams of flatmin.
//!
//! - [`symmetric_eigenvalues`], [`symmetric_eigen`] and, for large matrices, [`decompose`]: the one guarded door
//!   to dense symmetric eigenproblems;
//! - [`largest_eigenpair`]: Lanczos with full re-orthogonalisation for operators that are never
//!   formed;
//! - [`Operator`]: what is known by its products with blocks of vectors;
//! - [`probe`]: whether such an operator is what it claims to be;
//! - [`trace()`], [`estimate_trace`], [`frobenius_norm_squared`]: Monte Carlo estimates of it, with
//!   calibrated errors;
//! - [`top_eigenpairs`] and [`spectral_density`]: its extreme eigenvalues, and all of them at a glance;
//! - [`RowMatrix`]: the row-major storage of data and Jacobians;
//! - [`gemm`]: products with the same bits on every machine and for any number of threads;
//! - [`simd`]: dot products and updates with a fixed lane order, the same bits on every machine;
//! - [`stream`]: named, independent ChaCha random streams;
//! - [`Sharpness`]: the three sharpness measures of a positive semidefinite matrix.
//!
//! This crate knows neither models nor data. Everything in it is deterministic, and
//! sequential unless asked otherwise.

mod bisection;
mod cholesky;
mod density;
mod eigenpairs;
mod estimate;
pub mod gemm;
mod householder;
mod lanczos;
mod linop;
mod matrix;
mod operator;
mod parallelism;
mod power_of_two;
mod probe;
pub mod rounding;
mod sharpness;
pub mod simd;
mod stream;
mod symmetric;
mod tridiagonal;

pub use bisection::Bisection;
pub use cholesky::{
    cholesky, cholesky_margin, divide_by_lower, divide_by_transposed_lower, is_positive_definite,
};
pub use density::{
    DensityError, DensityOptions, Node, ProbeMean, SpectralDensity, spectral_density,
};
pub use eigenpairs::{EigenpairError, EigenpairOptions, Eigenpairs, End, RitzPair, top_eigenpairs};
pub use estimate::{
    Estimate, EstimateError, FrobeniusMethod, FrobeniusOptions, Interval, TraceMethod,
    TraceOptions, TraceRun, TraceStatus, TraceTarget, estimate_trace, frobenius_norm_squared,
    trace,
};
pub use gemm::{matmul, matmul_lower, product};
pub use householder::thin_qr;
pub use lanczos::{
    DEFAULT_RELATIVE_RESIDUAL, Eigenpair, Krylov, LanczosOptions, LanczosStatus, largest_eigenpair,
};
pub use linop::{AsLinOp, FromLinOp};
pub use matrix::{RowMatrix, ShapeError};
pub use operator::{FnOperator, Operator, columns, columns_mut};
pub use parallelism::Parallelism;
pub use power_of_two::PowerOfTwo;
pub use probe::{OperatorError, Probe, probe};
pub use sharpness::{Sharpness, gram_sharpness};
pub use stream::{Stream, stream};
pub use symmetric::{
    Decomposition, Eigen, EigenError, decompose, symmetric_eigen, symmetric_eigenvalues,
};
