#![doc = include_str!("../README.md")]

mod activation;
pub mod data;
mod dataset;
mod diagonal;
mod linearization;
mod loss;
mod mlp;
mod model;
mod relu;
mod size;

pub use activation::Activation;
pub use dataset::Dataset;
pub use diagonal::DiagonalLinear;
pub use linearization::Linearization;
pub use loss::{LabelSmoothing, Loss, OutputLoss, SmoothingError, UnknownLoss};
pub use mlp::Mlp;
pub use model::Model;
pub use relu::{PopulationGaussNewton, TwoLayerRelu};
pub use size::SizeError;
