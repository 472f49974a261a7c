//! The reasons why a cell cannot be computed.

use flatmin_curvature::CurvatureError;
use flatmin_linalg::EigenError;
use flatmin_theory::MinimumError;

/// A cell could not be computed: a defect of its specification or of this program.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CellError {
    /// A size of zero.
    #[error(transparent)]
    Size(#[from] flatmin_models::SizeError),
    /// The training settings cannot be run.
    #[error(transparent)]
    Train(#[from] flatmin_optim::TrainError),
    /// The data set could not be made.
    #[error(transparent)]
    Dataset(#[from] flatmin_models::data::DatasetError),
    /// The digits could not be used.
    #[error(transparent)]
    Digits(#[from] flatmin_models::data::digits::DigitsError),
    /// Samples of the digits could not be chosen.
    #[error(transparent)]
    Labelled(#[from] flatmin_models::data::LabelledError),
    /// Curvature could not be measured.
    #[error(transparent)]
    Curvature(#[from] CurvatureError),
    /// A trace could not be estimated.
    #[error(transparent)]
    Estimate(#[from] flatmin_linalg::EstimateError),
    /// An eigenproblem failed.
    #[error(transparent)]
    Eigen(#[from] EigenError),
    /// The largest eigenvalue of a Hessian was not reached.
    #[error(
        "the largest eigenvalue of the Hessian is {value} with a residual of {residual} after \
         {products} products"
    )]
    NotConverged {
        /// The value reached.
        value: f64,
        /// A bound on its error.
        residual: f64,
        /// Products used.
        products: usize,
    },
    /// A Gram matrix describes no minimum.
    #[error(transparent)]
    Minimum(#[from] MinimumError),
    /// A batch cannot be drawn.
    #[error(transparent)]
    Batch(#[from] flatmin_theory::BatchError),
    /// A threshold or a bound cannot be computed.
    #[error(transparent)]
    Threshold(#[from] flatmin_theory::ThresholdError),
    /// Linearised dynamics cannot be simulated.
    #[error(transparent)]
    Simulation(#[from] flatmin_theory::SimulationError),
    /// The settings make no optimizer.
    #[error(transparent)]
    Optimizer(#[from] flatmin_theory::OptimizerError),
    /// The interpolator of minimum ℓ1 norm could not be certified.
    #[error(transparent)]
    BasisPursuit(#[from] flatmin_ledger::BasisPursuitError),
    /// The least trace of an interpolating function could not be certified.
    #[error(transparent)]
    LeastTrace(#[from] flatmin_ledger::LeastTraceError),
    /// The label smoothing is out of range.
    #[error(transparent)]
    Smoothing(#[from] flatmin_models::SmoothingError),
    /// The Hessians of a loss do not fit.
    #[error(transparent)]
    Loss(#[from] flatmin_theory::LossError),
    /// An order of samples could not be made.
    #[error(transparent)]
    Order(#[from] flatmin_optim::OrderError),
    /// Measurements of a matrix depend on each other, as more of them than entries do.
    #[error("the measurements depend on each other")]
    DependentMeasurements,
}

impl CellError {
    /// Says that the parameters, or what is computed from them, left the range of numbers.
    pub(super) fn is_overflow(&self) -> bool {
        matches!(
            self,
            Self::Eigen(EigenError::NotFinite { .. })
                | Self::Curvature(CurvatureError::NotFinite { .. })
                | Self::Minimum(
                    MinimumError::NotFinite { .. } | MinimumError::GramNotFinite { .. }
                )
        )
    }
}
