//! ```
//! use faer::mat;
//! use flatmin_linalg::{FnOperator, TraceOptions, stream, symmetric_eigenvalues, trace};
//!
//! // A dense symmetric eigenproblem, checked before and after.
//! let values = symmetric_eigenvalues(mat![[2.0, 1.0], [1.0, 2.0]].as_ref())?;
//! assert!((values[1] - 3.0).abs() < 1e-14);
//!
//! // The trace of an operator that is known by its products only, with a confidence interval.
//! let operator = FnOperator::new(1000, |v: &[f64], image: &mut [f64]| {
//!     for (i, (image, v)) in image.iter_mut().zip(v).enumerate() {
//!         *image = v / (1.0 + i as f64);
//!     }
//! });
//! let estimate = trace(&operator, &TraceOptions::default(), &mut stream(0, "trace", 0))?;
//! let interval = estimate.interval(0.95);
//! assert!(interval.lower < 7.6 && 7.4 < interval.upper);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Linear algebra and random streams with the same bits on every machine, for any instruction set
//! and any number of threads.
//!
//! - Dense matrices: [`product`] and [`matmul`] (see [`gemm`]), [`cholesky()`], [`thin_qr`],
//!   [`symmetric_eigenvalues`], [`symmetric_eigen`] and, for large matrices, [`decompose`];
//!   [`RowMatrix`] stores data and Jacobians row by row.
//! - Operators that are never formed: the trait [`Operator`], which [`probe()`] checks;
//!   [`largest_eigenpair`] and [`top_eigenpairs`] by Lanczos; [`spectral_density`].
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
//! The feature `parallel` (on by default) lets large problems use a rayon thread pool where that is
//! asked for. The feature `serde` (off by default) derives `Serialize` and `Deserialize` for
//! [`Sharpness`] and [`TraceMethod`]. The crate knows neither models nor data. It reads no clock,
//! no environment and no file, and uses one thread unless [`Parallelism::Rayon`] asks for more.

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

/// The example of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
