//! Why a question of this crate has no answer.

use flatmin_linalg::EigenError;

use crate::{Optimizer, OptimizerError};

/// Why a threshold, a bound or a check cannot be computed.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TheoryError {
    /// A minimum is described by the gradients of its samples: at least one.
    #[error("a minimum needs at least one sample")]
    NoSamples,
    /// Rows that are not the same number of outputs for every sample.
    #[error("{rows} rows are not {output_count} outputs for every sample")]
    Outputs {
        /// Rows given.
        rows: usize,
        /// Outputs of each sample.
        output_count: usize,
    },
    /// The dynamics of a network with several outputs are not simulated.
    #[error(
        "the linearised dynamics of {output_count} outputs are not simulated, only those of one"
    )]
    SeveralOutputs {
        /// Outputs of each sample.
        output_count: usize,
    },
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
    /// A Gram matrix that is not square.
    #[error("a Gram matrix must be square, got {rows} × {columns}")]
    GramNotSquare {
        /// Rows given.
        rows: usize,
        /// Columns given.
        columns: usize,
    },
    /// An entry of a Gram matrix is NaN or infinite.
    #[error("entry ({row}, {column}) of the Gram matrix is {value}, expected a finite number")]
    GramNotFinite {
        /// Row of the first such entry, column by column.
        row: usize,
        /// Its column.
        column: usize,
        /// Its value.
        value: f64,
    },
    /// A negative entry on the diagonal of a Gram matrix.
    #[error(
        "entry ({row}, {row}) of the Gram matrix is {value}: a squared norm cannot be negative"
    )]
    GramNegative {
        /// Row of the first such entry.
        row: usize,
        /// Its value.
        value: f64,
    },
    /// A Gram matrix that differs from its transpose by more than rounding.
    #[error(
        "the Gram matrix is not symmetric: entry ({row}, {column}) is {value}, entry \
         ({column}, {row}) is {mirrored}"
    )]
    GramNotSymmetric {
        /// Row of the first such entry, column by column below the diagonal.
        row: usize,
        /// Its column.
        column: usize,
        /// Its value.
        value: f64,
        /// The value on the other side of the diagonal.
        mirrored: f64,
    },
    /// An entry of a Gram matrix above the geometric mean of its diagonal entries.
    #[error(
        "entry ({row}, {column}) of the Gram matrix is {value}, more than the norms of its rows \
         allow ({bound})"
    )]
    GramTooLarge {
        /// Row of the first such entry, column by column below the diagonal.
        row: usize,
        /// Its column.
        column: usize,
        /// Its value.
        value: f64,
        /// `√(a_ii a_jj)`.
        bound: f64,
    },
    /// A Gram matrix with a negative eigenvalue beyond rounding.
    #[error(
        "the Gram matrix has the eigenvalue {eigenvalue} beside {lambda_max}: a matrix of inner \
         products has no negative one"
    )]
    GramIndefinite {
        /// The smallest eigenvalue.
        eigenvalue: f64,
        /// The largest one.
        lambda_max: f64,
    },
    /// A requested relative width that is not a positive number.
    #[error("the relative width is {value}, expected a positive number")]
    RelativeWidth {
        /// The width.
        value: f64,
    },
    /// The iteration produced a vector that is not finite.
    #[error("the stability iteration left the range of floating-point numbers")]
    NoCertificate,
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
    /// Settings that make no optimizer.
    #[error(transparent)]
    OptimizerSettings(#[from] OptimizerError),
    /// Reshuffled epochs, whose batches are not independent.
    #[error(
        "reshuffling has no closed form here: the batches of an epoch depend on each other; choose \
         with-replacement or without-replacement"
    )]
    DependentBatches,
    /// An optimizer that the question has no answer for yet.
    #[error(
        "{what} is known for SGD with and without heavy-ball momentum, not yet for {optimizer}"
    )]
    Optimizer {
        /// What was asked for.
        what: &'static str,
        /// The optimizer.
        optimizer: Optimizer,
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
