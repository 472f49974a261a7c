//! SGD and gradient descent with fused kernels, and the training loop.
//!
//! [`train()`] runs one optimizer on one model and data set, with gradient-norm clipping, a learning
//! rate schedule, an observer at log-spaced checkpoints and a stopping rule; divergence is an
//! outcome, not an error. It is a loop over a [`Trainer`], which can also be stopped, stored as a
//! [`TrainState`] and taken up again, or replay an explicit [`BatchOrder`]. The steps themselves
//! are done by a [`Kernel`]: [`PlainKernel`] is the definition, for any model; [`ReluKernel`],
//! [`DiagonalKernel`] and [`MlpKernel`] are fused for speed and tested against it. A model names its kernel through [`Trainable`].
//!
//! This crate knows neither figures nor files.

mod kernel;
mod names;
mod optimizer;
mod order;
mod sampling;
mod schedule;
mod train;
mod trainable;
mod trainer;

pub use kernel::{
    DiagonalKernel, Kernel, MlpKernel, PlainKernel, ReluKernel, Segment, Step, Update,
};
pub use names::UnknownName;
pub use optimizer::{Optimizer, OptimizerState};
pub use order::{BatchOrder, OrderError};
pub use sampling::{BatchSampler, SamplerState, Sampling, SamplingError};
pub use schedule::Schedule;
pub use train::{
    Method, Observation, Outcome, Precision, Run, StoppingRule, TrainError, TrainOptions,
    log_spaced_steps, train,
};
pub use trainable::Trainable;
pub use trainer::{TrainState, Trainer};
