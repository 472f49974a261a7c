#![doc = include_str!("../README.md")]
//!
//! # Where to start
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
//! Population counterparts are closed forms of the models and belong to [`flatmin_models`]. Wrong
//! lengths and parameters that are not finite are a [`CurvatureError`]; sharpness fails where its
//! eigenproblem does, with an [`EigenError`](flatmin_linalg::EigenError).

mod blocks;
mod operator;
mod products;
mod sharpness;

/// The crate whose operators and matrices are arguments and results here.
pub use flatmin_linalg;
/// The crate whose models and data are arguments here.
pub use flatmin_models;

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
