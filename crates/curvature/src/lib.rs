//! ```
//! use flatmin_curvature::{gauss_newton_sharpness, hessian};
//! use flatmin_linalg::{RowMatrix, TraceOptions, stream, trace};
//! use flatmin_models::{Dataset, DiagonalLinear};
//!
//! // f(x) = a b x with a = 2, b = 1, so that ∇f(x) = (b x, a x) and tr G = 5 E[x²].
//! let model = DiagonalLinear::new(1)?;
//! let parameters = [2.0, 1.0];
//! let inputs = RowMatrix::new(2, 1, vec![1.0, 3.0])?;
//! let sharpness = gauss_newton_sharpness(&model, &parameters, &inputs)?;
//! assert!((sharpness.trace - 25.0).abs() < 1e-12);
//!
//! // At a minimum with zero loss the Hessian is G; products with it never form it.
//! let data = Dataset::new(inputs, vec![2.0, 6.0])?;
//! let operator = hessian(&model, &parameters, &data)?;
//! let estimate = trace(&operator, &TraceOptions::default(), &mut stream(0, "trace", 0))?;
//! assert!((estimate.value - 25.0).abs() < 1e-12);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Curvature of the mean loss of a model, at parameters, on data.
//!
//! - [`hessian`] and [`gauss_newton`] are operators by exact products, for networks of any size and
//!   the estimators of [`flatmin_linalg`].
//! - [`gauss_newton_sharpness`] measures the empirical Gauss–Newton matrix `G = (1/n) Σ g_i g_iᵀ`
//!   (called Fisher matrix in the paper) through the n × n Gram matrix, which has the same nonzero
//!   eigenvalues. The p × p matrix is never formed.
//! - [`batch_sharpness`] and, for several outputs, [`batch_sharpness_of_outputs`] are the
//!   directional curvature that a batch experiences.
//! - [`training_curvature`] measures all of these at once.
//! - [`diagonal_curvature`], [`gauss_newton_frobenius_norm`] and [`gauss_newton_lambda_max`] measure
//!   them without an nk × nk matrix, for many samples or outputs.
//! - [`ModelJacobian`] is the Jacobian by its products, for the bracket of the theory.
//!
//! Population counterparts are closed forms of the models and belong to [`flatmin_models`]. The
//! crate has no optional features and knows no learning rates.

mod blocks;
mod operator;
mod products;
mod sharpness;

pub use blocks::{
    DiagonalCurvature, diagonal_curvature, gauss_newton_frobenius_norm, gauss_newton_lambda_max,
};
pub use operator::{
    CurvatureError, CurvatureOperator, CurvatureOptions, gauss_newton, gauss_newton_with, hessian,
    hessian_with,
};
pub use products::ModelJacobian;
pub use sharpness::{
    TrainingCurvature, batch_sharpness, batch_sharpness_of_outputs, gauss_newton_sharpness,
    training_curvature, training_curvature_of_gram,
};

/// The example of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
