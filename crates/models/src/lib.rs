//! Models and data of flatmin.
//!
//! A [`Model`] is a scalar function `f(x; θ)` of an input and a flat parameter vector, with its
//! exact gradient. [`TwoLayerRelu`] and [`DiagonalLinear`] add what is special to them: the norms
//! that theory ties to sharpness (path norm, ℓ1 norm) and the exact population Gauss–Newton matrix
//! `Ḡ = E[∇f(x) ∇f(x)ᵀ]`, never formed. [`data`] makes the synthetic teachers' data sets.
//!
//! Everything here is the plain definition. Code written for speed (the fused training steps) lives
//! with the optimizers and is tested against it.

pub mod data;
mod diagonal;
mod model;
mod relu;

pub use data::Dataset;
pub use diagonal::DiagonalLinear;
pub use model::{Model, SizeError};
pub use relu::{PopulationGaussNewton, TwoLayerRelu};
