//! Why a question of this crate has no answer.

use flatmin_linalg::EigenError;

use crate::{Domain, Statement};

/// Why a threshold, a bound or a check cannot be computed.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TheoryError {
    /// A minimum is described by the gradients of its samples: at least one.
    #[error("a minimum needs at least one sample")]
    NoSamples,
    /// An entry of the Jacobian is NaN or infinite.
    #[error("entry ({row}, {column}) of the Jacobian is {value}, expected a finite number")]
    NotFinite {
        /// Row of the first such entry.
        row: usize,
        /// Its column.
        column: usize,
        /// Its value.
        value: f64,
    },
    /// A batch of no samples.
    #[error("a batch needs at least one sample")]
    EmptyBatch,
    /// More distinct samples asked for than there are.
    #[error("cannot draw {batch_size} of {sample_count} samples without replacement")]
    BatchTooLarge {
        /// The batch size B.
        batch_size: usize,
        /// The number n of samples.
        sample_count: usize,
    },
    /// A part of an instance has the wrong length.
    #[error("{what} has {got} values, expected {expected}")]
    Length {
        /// Which part.
        what: &'static str,
        /// Its length.
        got: usize,
        /// The length that fits the rest.
        expected: usize,
    },
    /// A statement was tried on an instance that it does not speak about.
    #[error("{} speaks about {expected:?} instances, got {got:?}", statement.id())]
    WrongInstance {
        /// The statement.
        statement: Statement,
        /// What it speaks about.
        expected: Domain,
        /// What was given.
        got: Domain,
    },
    /// An eigenproblem has no trustworthy answer.
    #[error(transparent)]
    Eigen(#[from] EigenError),
    /// A learning rate at which the linearised dynamics cannot be run.
    #[error(
        "the learning rate is {value}, expected at least 0 and at most 1e30 divided by the largest \
         squared gradient norm"
    )]
    LearningRate {
        /// The learning rate.
        value: f64,
    },
    /// A momentum outside [0, 1).
    #[error("the momentum is {value}, expected a number in [0, 1)")]
    Momentum {
        /// The momentum.
        value: f64,
    },
    /// An entry of a matrix other than the Jacobian is NaN or infinite.
    #[error("entry ({row}, {column}) of {what} is {value}, expected a finite number")]
    MatrixNotFinite {
        /// Which matrix.
        what: &'static str,
        /// Row of the first such entry.
        row: usize,
        /// Its column.
        column: usize,
        /// Its value.
        value: f64,
    },
    /// A simulation too short, or of too few replicas, to say anything.
    #[error("{what} is {got}, expected at least {least}")]
    TooFew {
        /// Which setting.
        what: &'static str,
        /// Its value.
        got: usize,
        /// The smallest value that works.
        least: usize,
    },
}
