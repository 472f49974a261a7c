// Marks on docs.rs what needs a feature.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![doc = include_str!("../README.md")]
//!
//! # Where to start
//!
//! - Dense matrices: [`product`] and [`matmul`] (see [`gemm`]), [`cholesky()`], [`thin_qr`],
//!   [`symmetric_eigenvalues`], [`symmetric_eigen`] and, for large matrices, [`decompose`];
//!   [`RowMatrix`] stores data and Jacobians row by row.
//! - Operators that are never formed: the trait [`Operator`], or a closure ([`FnOperator`]), which
//!   [`probe()`] checks; [`largest_eigenpair`] and [`top_eigenpairs`] by Lanczos;
//!   [`spectral_density`].
//! - Jacobians that are never formed: the trait [`JacobianProducts`], in memory
//!   ([`DenseJacobian`]) or by closures ([`FnJacobian`]), which [`probe_jacobian`] checks.
//! - Monte Carlo estimates with calibrated errors: [`trace()`], [`estimate_trace`] and
//!   [`frobenius_norm_squared`].
//! - [`Sharpness`]: trace, Frobenius norm and largest eigenvalue of a positive semidefinite matrix.
//! - Numbers: [`Bisection`], exact scaling by a [`PowerOfTwo`], bounds of [`rounding`] errors, and
//!   proofs that a matrix [`is_positive_definite`].
//! - [`simd`]: dot products and updates with a fixed lane order.
//! - [`stream()`]: named, independent ChaCha random streams.
//! - [`named!`]: enums whose choices are read and written by name.
//!
//! Errors are enums for a task, such as [`EigenError`] and [`EstimateError`], and can be sent to
//! other threads. Wrong lengths of slices and matrices panic, as `# Panics` says.

mod bisection;
mod cholesky;
mod density;
mod eigen;
mod eigenpairs;
mod estimate;
pub mod gemm;
mod householder;
mod jacobian;
mod lanczos;
mod linop;
mod matrix;
mod names;
mod operator;
mod parallelism;
mod power_of_two;
mod probe;
pub mod rounding;
mod sharpness;
pub mod simd;
mod stream;

/// The crate whose matrices and views are arguments here.
pub use faer;
/// The crate whose generators are arguments here; a [`Stream`] is one.
pub use rand;

pub use bisection::Bisection;
pub use cholesky::{
    cholesky, cholesky_margin, divide_by_lower, divide_by_transposed_lower, is_positive_definite,
};
pub use density::{
    DensityError, DensityOptions, Node, ProbeMean, SpectralDensity, spectral_density,
};
pub use eigen::{
    Decomposition, Eigen, EigenError, decompose, symmetric_eigen, symmetric_eigenvalues,
};
pub use eigenpairs::{EigenpairError, EigenpairOptions, Eigenpairs, End, RitzPair, top_eigenpairs};
pub use estimate::{
    Estimate, EstimateError, FrobeniusMethod, FrobeniusOptions, Interval, TraceMethod,
    TraceOptions, TraceRun, TraceStatus, TraceTarget, estimate_trace, frobenius_norm_squared,
    trace,
};
pub use gemm::{matmul, matmul_lower, product};
pub use householder::thin_qr;
pub use jacobian::{
    DenseJacobian, FnJacobian, JacobianError, JacobianProbe, JacobianProduct, JacobianProducts,
    probe_jacobian,
};
pub use lanczos::{
    DEFAULT_RELATIVE_RESIDUAL, Eigenpair, Krylov, LanczosOptions, LanczosStatus, largest_eigenpair,
};
pub use linop::{AsLinOp, FromLinOp};
pub use matrix::{RowMatrix, ShapeError};
pub use names::UnknownName;
pub use operator::{FnOperator, Operator, columns, columns_mut};
pub use parallelism::Parallelism;
pub use power_of_two::PowerOfTwo;
pub use probe::{OperatorError, Probe, probe};
pub use sharpness::{Sharpness, gram_sharpness};
pub use stream::{Stream, stream};
