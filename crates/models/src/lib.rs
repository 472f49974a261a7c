// Marks on docs.rs what needs a feature.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![doc = include_str!("../README.md")]

mod activation;
pub mod data;
mod dataset;
mod diagonal;
mod linearization;
mod loss;
mod matrix_sensing;
mod mlp;
mod model;
mod relu;
mod size;
mod univariate;

/// The crate whose matrices are arguments and results here.
pub use flatmin_linalg;

pub use activation::Activation;
pub use dataset::Dataset;
pub use diagonal::DiagonalLinear;
pub use linearization::Linearization;
pub use loss::{LabelSmoothing, Loss, OutputLoss, SmoothingError, UnknownLoss};
pub use matrix_sensing::{MatrixSensing, singular_values};
pub use mlp::Mlp;
pub use model::Model;
pub use relu::{PopulationGaussNewton, TwoLayerRelu};
pub use size::SizeError;
pub use univariate::{Knot, KnotPrices, Side, SideMoments, UnivariateParameters, UnivariateRelu};
