//! Stability of minima for SGD and GD: executable statements and their mutants.
//!
//! - [`Optimizer`]: SGD with momentum, Nesterov's momentum and weight decay, in PyTorch's conventions;
//! - [`Batch`]: batch size and sampling, and the noise coefficient they make;
//! - [`Minimum`]: a zero-loss minimum, of a network with one output or several, given by its Jacobian,
//!   by blocks of its columns ([`GramSum`]), or by its [`Gram`] matrix;
//! - [`threshold()`]: the exact stability threshold, as an interval with a certificate, with
//!   [`lyapunov_function`], which decays exactly below it;
//! - [`alignment()`]: how far the noise of SGD is aligned with the curvature;
//! - [`bounds()`]: every necessary and sufficient condition as the learning rate at which it turns;
//! - [`dense_threshold`]: the exact threshold of a small minimum, by the plain definition;
//! - [`LinearisedSgd`]: the random dynamics near a minimum, with [`SecondMoments`] (exact),
//!   [`simulate()`] (many replicas), [`lyapunov_exponent`] and [`almost_sure_edge`] (single runs), for one
//!   output;
//!
//! ```
//! use flatmin_linalg::RowMatrix;
//! use flatmin_theory::{Batch, Minimum, Optimizer, Sampling, bounds, threshold};
//! // Two samples with gradients (1, 0) and (0, 2), one at a time.
//! let minimum = Minimum::new(&RowMatrix::new(2, 2, vec![1.0, 0.0, 0.0, 2.0])?)?;
//! let batch = Batch::new(1, Sampling::WithReplacement)?;
//! let threshold = threshold(&minimum, &Optimizer::sgd(), &batch)?;
//! assert!((threshold.midpoint() - 0.5).abs() < 1e-10);
//! // The trace allows 2/tr G = 0.8, the largest eigenvalue 1.
//! assert!((bounds(&minimum, &batch)?.trace - 0.8).abs() < 1e-15);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A minimum is a Jacobian or a vector of parameters here; how it was found is not known.

mod alignment;
mod batch;
mod bounds;
mod dense;
mod edge;
mod error;
mod gram;
mod gram_sum;
mod linearised;
mod lyapunov;
mod minimum;
mod moments;
mod optimizer;
mod replicas;
mod stepper;
mod threshold;

pub use alignment::{Alignment, alignment};
pub use batch::{Batch, Sampling, UnknownSampling};
pub use bounds::{
    Bounds, bounds, centered_alignment_bound, frobenius_bound, lambda_max_bound,
    sharp_frobenius_bound, spectral_bound, spectral_root, sufficient_bound, trace_bound,
    uncentered_alignment_bound,
};
pub use dense::dense_threshold;
pub use edge::{AlmostSureEdge, EdgeOptions, EdgePoint, EdgeStatus, almost_sure_edge};
pub use error::TheoryError;
pub use gram::Gram;
pub use gram_sum::GramSum;
pub use linearised::LinearisedSgd;
pub use lyapunov::{LyapunovExponent, LyapunovOptions, lyapunov_exponent};
pub use minimum::{Minimum, ToMinimum, rounding};
pub use moments::SecondMoments;
pub use optimizer::{Optimizer, OptimizerError, StateSpace};
pub use replicas::{ReplicaMean, SimulationOptions, Snapshot, Start, simulate, simulate_at};
pub use threshold::{
    LyapunovFunction, Stability, Threshold, ThresholdOptions, ThresholdStatus, lyapunov_function,
    threshold, threshold_with,
};
