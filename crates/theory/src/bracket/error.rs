//! The errors of a threshold bracket.

use flatmin_linalg::{EigenError, JacobianError};

use crate::BatchError;

/// The reason why a threshold cannot be bracketed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BracketError {
    /// The batch has no noise coefficient.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A product failed, or the products do not belong to one Jacobian.
    #[error(transparent)]
    Jacobian(#[from] JacobianError),
    /// A matrix `J_i J_iᵀ` is smaller than the modes that products gave.
    #[error(
        "J_i J_iᵀ of sample {sample} has the trace {given:e}, and products with J give at least \
         {expected:e}"
    )]
    GramTooSmall {
        /// The sample i.
        sample: usize,
        /// The trace of its matrix.
        given: f64,
        /// The part of the trace that the modes found hold.
        expected: f64,
    },
    /// A setting is out of its range.
    #[error("{what} is {value}, expected {expected}")]
    Option {
        /// The setting, in words.
        what: &'static str,
        /// Its value.
        value: f64,
        /// The range, in words.
        expected: &'static str,
    },
    /// The optimizer has weight decay, which brackets do not cover.
    #[error("a bracket covers SGD with or without momentum, not with weight decay")]
    WeightDecay,
    /// A stored subspace does not fit the Jacobian.
    #[error(
        "the stored subspace is damaged or belongs to another Jacobian than one of {rows} rows"
    )]
    SubspaceShape {
        /// The rows of the Jacobian.
        rows: usize,
    },
    /// A stored subspace belongs to another Jacobian.
    #[error(
        "the stored subspace belongs to another Jacobian: it contradicts the products by a \
         relative {defect:.1e}"
    )]
    SubspaceDiffers {
        /// The relative difference.
        defect: f64,
    },
    /// An eigenproblem of the size of the subspace failed.
    #[error(transparent)]
    Eigen(#[from] EigenError),
}
