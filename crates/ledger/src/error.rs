//! The reasons why a statement cannot be checked on an instance.

use flatmin_linalg::EigenError;
use flatmin_theory::{BatchError, LossError, MinimumError, OptimizerError, ThresholdError};

use crate::basis_pursuit::BasisPursuitError;
use crate::least_trace::LeastTraceError;

/// The reason why the check of a statement has no result.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The gradients of an instance do not describe a minimum.
    #[error(transparent)]
    Minimum(#[from] MinimumError),
    /// The batch of an instance cannot be drawn.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The minimum of an instance has no threshold or bound.
    #[error(transparent)]
    Threshold(#[from] ThresholdError),
    /// The minimum of an instance has no bracket, or the products do not form a Jacobian.
    #[error("there is no bracket")]
    Bracket,
    /// The output Hessians of an instance are not those of a convex loss.
    #[error(transparent)]
    Loss(#[from] LossError),
    /// The optimizer settings of an instance contradict each other or are out of range.
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
    /// An eigenproblem has no trustworthy answer.
    #[error(transparent)]
    Eigen(#[from] EigenError),
    /// The targets of an instance have no certified interpolator of minimum ℓ1 norm.
    #[error(transparent)]
    BasisPursuit(#[from] BasisPursuitError),
    /// The data of an instance have no certified least trace.
    #[error(transparent)]
    LeastTrace(#[from] LeastTraceError),
    /// The instance is of a type that the statement is not about.
    #[error("{statement} is about instances of another type")]
    WrongInstance {
        /// Id of the statement.
        statement: &'static str,
    },
}

/// The reason why the parts of an instance do not fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InstanceError {
    /// There are no inputs.
    #[error("an instance needs at least one input")]
    NoInputs,
    /// A part has the wrong length.
    #[error("{what} has {got} values, expected {expected}")]
    Length {
        /// The part, in words.
        what: &'static str,
        /// Its length.
        got: usize,
        /// The length that fits the other parts.
        expected: usize,
    },
    /// The check lists all cases, and the instance has too many of them.
    #[error("{got} {what}, expected at most {most}")]
    TooMany {
        /// The parts of which there are too many, in words.
        what: &'static str,
        /// Their number.
        got: usize,
        /// The largest number that the check can afford.
        most: usize,
    },
}

/// Refuses a part that does not have the expected length.
pub(crate) fn expect_length(
    what: &'static str,
    got: usize,
    expected: usize,
) -> Result<(), InstanceError> {
    if got == expected { Ok(()) } else { Err(InstanceError::Length { what, got, expected }) }
}

/// Refuses more than `most` parts.
pub(crate) fn expect_at_most(
    what: &'static str,
    got: usize,
    most: usize,
) -> Result<(), InstanceError> {
    if got <= most { Ok(()) } else { Err(InstanceError::TooMany { what, got, most }) }
}
