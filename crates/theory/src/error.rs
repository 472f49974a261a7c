//! The errors of this crate, one type for each task.

use flatmin_linalg::EigenError;

use crate::{OptimizerError, Sampling};

/// The reason why a Jacobian or a Gram matrix does not describe a minimum.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MinimumError {
    /// There is no row: a minimum is described by the gradients of at least one sample.
    #[error("a minimum needs at least one sample")]
    NoSamples,
    /// The rows cannot be divided evenly among the outputs of the samples.
    #[error("{rows} rows are not {output_count} outputs for every sample")]
    Outputs {
        /// Rows given.
        rows: usize,
        /// Outputs of each sample.
        output_count: usize,
    },
    /// A block of columns, or another sum, does not have as many rows as the sum it is added to.
    #[error("{what} has {got} rows, expected {expected}")]
    Rows {
        /// The part with the wrong number of rows, in words.
        what: &'static str,
        /// Its rows.
        got: usize,
        /// The rows of the sum.
        expected: usize,
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
    /// The Gram matrix is not square.
    #[error("a Gram matrix must be square, got {rows} × {columns}")]
    GramNotSquare {
        /// Rows given.
        rows: usize,
        /// Columns given.
        columns: usize,
    },
    /// An entry of the Gram matrix is NaN or infinite.
    #[error("entry ({row}, {column}) of the Gram matrix is {value}, expected a finite number")]
    GramNotFinite {
        /// Row of the first such entry, column by column.
        row: usize,
        /// Its column.
        column: usize,
        /// Its value.
        value: f64,
    },
    /// A diagonal entry of the Gram matrix is negative.
    #[error(
        "entry ({row}, {row}) of the Gram matrix is {value}: a squared norm cannot be negative"
    )]
    GramNegative {
        /// Row of the first such entry.
        row: usize,
        /// Its value.
        value: f64,
    },
    /// The Gram matrix differs from its transpose by more than rounding.
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
    /// An entry of the Gram matrix exceeds the geometric mean of its diagonal entries.
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
    /// The Gram matrix has a negative eigenvalue beyond rounding.
    #[error(
        "the Gram matrix has the eigenvalue {eigenvalue}, and its largest is {lambda_max}: a matrix \
         of inner products has no negative eigenvalue; form it as J @ J.T from one Jacobian, in \
         float64"
    )]
    GramIndefinite {
        /// The smallest eigenvalue.
        eigenvalue: f64,
        /// The largest eigenvalue.
        lambda_max: f64,
    },
    /// The eigenproblem of the Gram matrix has no trustworthy answer.
    #[error(transparent)]
    Eigen(#[from] EigenError),
}

/// The reason why a batch cannot be drawn, or why its noise has no coefficient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The batch size is zero.
    #[error("a batch needs at least one sample")]
    Empty,
    /// There is no sample to draw from.
    #[error("a minimum needs at least one sample")]
    NoSamples,
    /// More distinct samples are requested than exist.
    #[error("cannot draw {batch_size} of {sample_count} samples without replacement")]
    TooLarge {
        /// The batch size B.
        batch_size: usize,
        /// The number n of samples.
        sample_count: usize,
    },
    /// The mean size of Poisson batches exceeds the number of samples.
    #[error("cannot draw Poisson batches of {batch_size} samples on average from {sample_count}")]
    PoissonTooLarge {
        /// The batch size B, the mean of the sizes of the batches.
        batch_size: usize,
        /// The number n of samples.
        sample_count: usize,
    },
    /// The batches do not come in epochs.
    #[error("batches drawn {sampling} have no epochs, only reshuffling has")]
    NoEpochs {
        /// The sampling.
        sampling: Sampling,
    },
    /// An epoch without its short batch has no batch at all.
    #[error(
        "{sample_count} samples have no whole batch of {batch_size}; keep the last batch of an \
         epoch"
    )]
    NoWholeBatch {
        /// The batch size B.
        batch_size: usize,
        /// The number n of samples.
        sample_count: usize,
    },
    /// Epochs are reshuffled, so that batches are not independent.
    #[error(
        "reshuffling has no closed form here: the batches of an epoch depend on each other; choose \
         with-replacement or without-replacement"
    )]
    Dependent,
}

/// The reason why a loss has no output Hessians, or none that fit the Jacobian.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LossError {
    /// Softmax of fewer than two outputs.
    #[error(
        "softmax cross-entropy of {outputs} output has no curvature; one logit a sample belongs to \
         binary cross-entropy"
    )]
    OneClass {
        /// The number of outputs.
        outputs: usize,
    },
    /// The values are not n blocks of k × k numbers.
    #[error("{values} numbers are not one {outputs} × {outputs} matrix for each sample")]
    Shape {
        /// Numbers given.
        values: usize,
        /// Outputs of each sample.
        outputs: usize,
    },
    /// The Jacobian has another number of rows.
    #[error("the Jacobian has {got} rows, the loss has {samples} samples with {outputs} outputs")]
    Rows {
        /// Rows of the Jacobian.
        got: usize,
        /// Samples of the loss.
        samples: usize,
        /// Outputs of each sample.
        outputs: usize,
    },
    /// A number is NaN or infinite.
    #[error("the {what} of sample {sample}, output {output} is {value}, expected a finite number")]
    NotFinite {
        /// The quantity.
        what: &'static str,
        /// The sample.
        sample: usize,
        /// The output, or the row of its Hessian.
        output: usize,
        /// The value.
        value: f64,
    },
    /// An output Hessian differs from its transpose by more than rounding.
    #[error(
        "the output Hessian of sample {sample} is not symmetric: entry ({row}, {column}) is \
         {value}, entry ({column}, {row}) is {mirrored}"
    )]
    NotSymmetric {
        /// The sample.
        sample: usize,
        /// Row of the entry.
        row: usize,
        /// Its column.
        column: usize,
        /// Its value.
        value: f64,
        /// The value on the other side of the diagonal.
        mirrored: f64,
    },
    /// An output Hessian has a negative eigenvalue beyond rounding.
    #[error(
        "the output Hessian of sample {sample} has the eigenvalue {eigenvalue} beside \
         {lambda_max}: a convex loss has no negative one"
    )]
    NotSemidefinite {
        /// The sample.
        sample: usize,
        /// The smallest eigenvalue.
        eigenvalue: f64,
        /// The largest eigenvalue.
        lambda_max: f64,
    },
    /// The rows do not describe a minimum.
    #[error(transparent)]
    Minimum(#[from] MinimumError),
    /// An eigenproblem has no trustworthy answer.
    #[error(transparent)]
    Eigen(#[from] EigenError),
}

/// The reason why a threshold, a bound or a Lyapunov function cannot be computed.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ThresholdError {
    /// The matrix does not describe a minimum.
    #[error(transparent)]
    Minimum(#[from] MinimumError),
    /// The settings of the optimizer contradict each other or are out of range.
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
    /// The batch has no noise coefficient.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// Too few random orders for a mean.
    #[error("got {orders} random orders, expected at least 8")]
    Orders {
        /// The number of orders.
        orders: usize,
    },
    /// The residuals are not one finite number for each output of each sample.
    #[error("got {got} finite residuals, expected {expected}: one for each output of each sample")]
    Residuals {
        /// Finite residuals given.
        got: usize,
        /// Outputs of all samples.
        expected: usize,
    },
    /// The requested relative width is not a positive number.
    #[error("the relative width is {value}, expected a positive number")]
    RelativeWidth {
        /// The width.
        value: f64,
    },
    /// The iteration produced a vector that is not finite.
    #[error("the stability iteration left the range of floating-point numbers")]
    NoCertificate,
    /// An eigenproblem has no trustworthy answer.
    #[error(transparent)]
    Eigen(#[from] EigenError),
}

/// The reason why linearised dynamics cannot be simulated.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SimulationError {
    /// The batch has no noise coefficient.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The network has several outputs; only the dynamics of one are implemented.
    #[error(
        "linearised dynamics are simulated for networks with one output, not yet for {output_count}"
    )]
    SeveralOutputs {
        /// Outputs of each sample.
        output_count: usize,
    },
    /// The learning rate is negative, or so large that a few steps overflow.
    #[error(
        "the learning rate is {value}, expected at least 0 and at most 1e30 divided by the largest \
         squared gradient norm or the weight decay"
    )]
    LearningRate {
        /// The learning rate.
        value: f64,
    },
    /// A matrix in the eigenbasis of G has the wrong shape.
    #[error("{what} is {rows} × {columns}, expected {rank} × {rank}")]
    Shape {
        /// The matrix, in words.
        what: &'static str,
        /// Its rows.
        rows: usize,
        /// Its columns.
        columns: usize,
        /// The rank of G.
        rank: usize,
    },
    /// An entry of a matrix in the eigenbasis of G is NaN or infinite.
    #[error("entry ({row}, {column}) of {what} is {value}, expected a finite number")]
    NotFinite {
        /// The matrix, in words.
        what: &'static str,
        /// Row of the first such entry.
        row: usize,
        /// Its column.
        column: usize,
        /// Its value.
        value: f64,
    },
    /// The simulation is too short, or has too few replicas, to give an estimate.
    #[error("{what} is {got}, expected at least {least}")]
    TooFew {
        /// The setting, in words.
        what: &'static str,
        /// Its value.
        got: usize,
        /// The smallest value that is allowed.
        least: usize,
    },
    /// An eigenproblem has no trustworthy answer.
    #[error(transparent)]
    Eigen(#[from] EigenError),
}

impl SimulationError {
    /// Checks settings, given as their names, values and least values.
    pub(crate) fn check(settings: &[(&'static str, usize, usize)]) -> Result<(), Self> {
        match settings.iter().find(|(_, got, least)| got < least) {
            Some(&(what, got, least)) => Err(Self::TooFew { what, got, least }),
            None => Ok(()),
        }
    }
}
