// Marks on docs.rs what needs a feature.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![doc = include_str!("../README.md")]

mod basis_pursuit;
mod comparison;
mod error;
mod families;
mod least_trace;
mod prelude;
mod statement;
mod statements;
mod verify;

/// The crate whose matrices are arguments here.
pub use flatmin_linalg;
/// The crate whose batches and optimizers are parts of instances.
pub use flatmin_theory;

pub use basis_pursuit::{BASIS_PURSUIT_TOLERANCE, BasisPursuit, BasisPursuitError, basis_pursuit};
pub use comparison::{Comparison, Relation, TOLERANCE};
pub use error::{InstanceError, LedgerError};
pub use families::minimum::MinimumInstance;
pub use families::network::{NetworkInstance, StepInstance};
pub use families::univariate::UnivariateInstance;
pub use least_trace::{
    LEAST_TRACE_TOLERANCE, LeastTrace, LeastTraceError, PricedKnot, least_trace,
};
pub use statement::{AnyTrial, Checked, Form, Instance, Statement, Trial};
pub use statements::{
    DiagonalInstance, DiagonalStepInstance, EpochInstance, InterpolationInstance, Loss,
    LossInstance, MatrixInstance, MomentumInstance, NoiseFloorInstance, OptimizerInstance,
    OutputsInstance, RecoveryInstance, ReluInstance, ReluStepInstance, STATEMENTS, SampleInstance,
    SensingInstance, SensingStepInstance, UnknownStatement, diagonal_norm_checks, rademacher_bound,
    relu_norm_checks, statement,
};
pub use verify::{Attained, Tally, Verification, verify};
