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
    /// An entry of the inputs or targets of a linear problem is NaN or infinite.
    #[error("entry ({row}, {column}) of the {what} is {value}, expected a finite number")]
    NotFiniteData {
        /// The inputs or the targets.
        what: &'static str,
        /// Row of the first such entry.
        row: usize,
        /// Its column; 0 for targets.
        column: usize,
        /// Its value.
        value: f64,
    },
    /// No linear function of the inputs takes the values of the targets.
    #[error("no coefficients interpolate the targets")]
    NoInterpolator,
    /// The linear-programming solver gave up.
    #[error("the linear-programming solver reached no answer")]
    LinearProgram,
    /// The solver's answer does not come with sufficient evidence that it is a solution.
    #[error(
        "the interpolator found leaves a relative residual of {residual:e} and a relative duality \
         gap of {gap:e}"
    )]
    NotCertified {
        /// `‖Xβ − y‖_∞ / ‖y‖_∞`.
        residual: f64,
        /// `(‖β‖_1 − yᵀν) / ‖β‖_1`.
        gap: f64,
    },
}
