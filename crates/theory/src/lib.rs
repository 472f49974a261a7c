// Marks on docs.rs what needs a feature.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![doc = include_str!("../README.md")]
//!
//! # Where to start
//!
//! Values:
//!
//! - [`Minimum`]: a minimum with zero loss of a network with one output or several, from its
//!   Jacobian, from blocks of its columns ([`GramSum`]), or from its [`Gram`] matrix;
//! - [`Optimizer`]: SGD with momentum and weight decay, in PyTorch's conventions;
//! - [`Batch`]: batch size and [`Sampling`], and the [`Noise`] that they give;
//! - [`OutputHessians`]: a loss other than the squared one; [`Preconditioner`]: that of Adam.
//!
//! Questions:
//!
//! - [`threshold()`]: the exact stability threshold, as an interval with a certificate, and
//!   [`lyapunov_function`], which decays exactly below it;
//! - [`threshold_bracket`]: an interval for it from products with a Jacobian that is too large to
//!   form, with an estimate inside;
//! - [`bounds()`]: every necessary and sufficient condition, as the learning rate up to which it
//!   holds;
//! - [`epoch_edge`]: the edge of reshuffled epochs, as data loaders draw them;
//! - [`noise_floor`]: the training loss that SGD settles at where residuals do not vanish;
//! - [`alignment()`]: the alignment of the noise of SGD with the curvature;
//! - [`dense_threshold`]: the exact threshold of a small minimum, by its plain definition;
//! - [`LinearisedSgd`]: the random dynamics near a minimum with one output, with [`SecondMoments`]
//!   (exact), [`simulate()`] (many replicas), [`lyapunov_exponent`] and [`almost_sure_edge`]
//!   (single runs).
//!
//! Numbers such as S8 are those of the statements in `docs/theory.md` of the repository, where
//! `docs/threshold.md` has the proofs. Errors are enums for a task, such as [`ThresholdError`] and
//! [`BracketError`], and can be sent to other threads.

mod alignment;
mod batch;
mod bounds;
mod bracket;
mod dynamics;
mod epochs;
mod error;
mod loss;
mod minimum;
mod noise_floor;
mod optimizer;
mod preconditioner;
mod stationarity;
mod threshold;
mod weighted;

/// The crate whose matrices and Jacobians are arguments here.
pub use flatmin_linalg;

pub use alignment::{Alignment, alignment};
pub use batch::{Batch, Noise, Sampling};
pub use bounds::{
    Bounds, bounds, centered_alignment_bound, contraction_bound, frobenius_bound, lambda_max_bound,
    sharp_frobenius_bound, spectral_bound, spectral_root, sufficient_bound, trace_bound,
    uncentered_alignment_bound,
};
pub use bracket::{
    BracketBounds, BracketError, BracketOptions, BracketProgress, BracketStage, BracketStop,
    RitzMode, Subspace, ThresholdBracket, continue_bracket, threshold_bracket,
};
pub use dynamics::{
    AlmostSureEdge, EdgeOptions, EdgePoint, EdgeStatus, LinearisedSgd, LyapunovExponent,
    LyapunovOptions, ReplicaMean, SecondMoments, SimulationOptions, Snapshot, Start,
    almost_sure_edge, lyapunov_exponent, simulate, simulate_at,
};
pub use epochs::{EpochEdge, EpochOptions, ExactEdges, epoch_edge};
pub use error::{BatchError, LossError, MinimumError, SimulationError, ThresholdError};
pub use loss::OutputHessians;
pub use minimum::{Gram, GramSum, Minimum, ToMinimum};
pub use noise_floor::{NoiseFloor, noise_floor};
pub use optimizer::{Optimizer, OptimizerError, StateSpace};
pub use preconditioner::Preconditioner;
pub use stationarity::ResidualGradients;
pub use threshold::{
    DEFAULT_RELATIVE_WIDTH, LyapunovFunction, Stability, Threshold, ThresholdOptions,
    ThresholdStatus, dense_threshold, lyapunov_function, threshold, threshold_with,
};
pub use weighted::WeightedJacobian;
