#![doc = include_str!("../README.md")]

mod batches;
mod kernel;
mod optimizer;
mod order;
mod sampling;
mod schedule;
mod settings;
mod trainable;
mod trainer;

/// The crate whose random streams are arguments here.
pub use flatmin_linalg;
/// The crate whose models and data are trained here.
pub use flatmin_models;

pub use kernel::{
    DiagonalKernel, Kernel, MatrixSensingKernel, MlpKernel, PlainKernel, ReluKernel, Samples,
    Segment, Step, UnivariateKernel, Update,
};
pub use optimizer::{Optimizer, OptimizerState};
pub use order::{BatchOrder, OrderError};
pub use sampling::{BatchSampler, SamplerState, Sampling, SamplingError};
pub use schedule::Schedule;
pub use settings::{
    Method, Observation, Outcome, Precision, Run, StoppingRule, TrainError, TrainOptions,
    log_spaced_steps,
};
pub use trainable::Trainable;
pub use trainer::{TrainState, Trainer};
