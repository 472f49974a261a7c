//! Cells: the units of work of a reproduction.
//!
//! A [`CellSpec`] says completely what is computed; [`CellSpec::run`] is a pure function of it. So
//! a cell can run on any thread or machine, be skipped when its result is stored, and be shared by
//! every figure that needs it. Its [`CellKey`] names it by content.

mod classes;
mod cost;
mod deep;
mod epochs;
mod error;
mod estimator;
mod interpolator;
mod key;
mod linearised;
mod norms;
mod perturbed;
mod plateau;
mod problem;
mod sensing;
mod sensing_reference;
mod shallow;
mod spec;
mod stability;
mod streams;
mod test_data;
mod training;
mod univariate;

pub use classes::{ClassMeasurement, ClassProblem, ClassResult, ClassSpec};
pub use deep::{DeepMeasurement, DeepResult, DeepSpec, DeepTask};
pub use epochs::{
    EpochMeasurement, EpochResult, EpochSpec, ShortBatch, ShortBatchResult, StoredEpochEdge,
};
pub use error::CellError;
pub use estimator::{ESTIMATORS, EstimatorResult, EstimatorSpec, Spectrum, estimator_name};
pub use interpolator::{
    BalancedThresholds, Evidence, InterpolatorResult, InterpolatorSpec, MinimizedNorm,
};
pub use key::{CellKey, CellKeyError};
pub(crate) use linearised::theory_batch;
pub use norms::{NormResult, NormRow, NormSpec};
pub(crate) use perturbed::PUSHED_FACTORS;
pub use perturbed::{PerturbedResult, PerturbedSpec, PushedGrowth};
pub use plateau::{Plateau, PlateauModel, PlateauOptimizer, PlateauResult, PlateauSpec};
pub(crate) use problem::CUBE_VARIANCE;
pub use problem::{DiagonalInitial, DiagonalProblem, NetworkFamily, Problem, ReluProblem};
pub use sensing::{SensingMeasurement, SensingProblem, SensingResult, SensingSpec};
pub use sensing_reference::{
    BalancedPoint, ReferenceStability, SensingReferenceResult, SensingReferenceSpec,
};
pub use shallow::{Measurement, TrainResult, TrainSpec};
pub use spec::{CODE_VERSION, CellResult, CellSpec, Results};
pub use stability::{
    BatchThresholds, SimulatedDynamics, SimulatedPoint, SingleRuns, StabilityResult,
    StabilityStudy, StoredEdge, StoredExponent,
};
pub(crate) use stability::{FACTORS, MOMENTUM, SIMULATED_STEPS};
pub(crate) use univariate::curve_points;
pub use univariate::{
    UnivariateInitial, UnivariateMeasurement, UnivariateProblem, UnivariateResult, UnivariateSpec,
};
