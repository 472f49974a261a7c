//! Why a statement cannot be tried, or a linear problem not be interpolated.

use flatmin_linalg::EigenError;
use flatmin_theory::{OptimizerError, TheoryError};

use crate::{Domain, Statement};

/// Why a check of the ledger, or a basis pursuit, has no result.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The minimum of an instance has no threshold, bound or simulation.
    #[error(transparent)]
    Theory(#[from] TheoryError),
    /// An instance has settings that make no optimizer.
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
    /// An eigenproblem has no trustworthy answer.
    #[error(transparent)]
    Eigen(#[from] EigenError),
    /// An instance needs at least one sample.
    #[error("an instance needs at least one sample")]
    NoSamples,
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
    /// An entry of the inputs or the targets is NaN or infinite.
    #[error("entry ({row}, {column}) of {what} is {value}, expected a finite number")]
    NotFinite {
        /// Which matrix.
        what: &'static str,
        /// Row of the first such entry.
        row: usize,
        /// Its column.
        column: usize,
        /// Its value.
        value: f64,
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
