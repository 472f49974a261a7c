//! Models and data of flatmin.
//!
//! A [`Model`] is a function `f(x; θ)` of an input and a flat parameter vector, with its exact first
//! and second derivatives; its [`Linearization`] gives many products with them at one θ. [`Mlp`] is a
//! network of any depth. [`TwoLayerRelu`] and [`DiagonalLinear`] add what is special to them: the
//! norms that theory ties to sharpness (path norm, ℓ1 norm) and the exact population Gauss–Newton
//! matrix `Ḡ = E[∇f(x) ∇f(x)ᵀ]`, never formed. [`data`] makes the synthetic teachers' data sets and
//! those of labelled images, of which the handwritten [`data::digits`] are built in.
//!
//! Methods about one input are the plain definition. What is written for speed is tested against it:
//! the linearization here, and the fused training steps, which live with the optimizers.

pub mod data;
mod diagonal;
mod linearization;
mod mlp;
mod model;
mod relu;

pub use data::Dataset;
pub use diagonal::DiagonalLinear;
pub use linearization::Linearization;
pub use mlp::{Activation, Mlp, UnknownActivation};
pub use model::{Model, SizeError};
pub use relu::{PopulationGaussNewton, TwoLayerRelu};
