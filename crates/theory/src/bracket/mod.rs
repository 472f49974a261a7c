//! A certified bracket for the threshold of a minimum whose Gram matrix is too large to form (S20).
//!
//! The Jacobian is known by its products ([`JacobianProducts`](flatmin_linalg::JacobianProducts)).
//! `docs/threshold.md` proves what the modules compute:
//!
//! - [`subspace`] grows a block Krylov space of `K = JJᵀ/n` with full re-orthogonalisation and
//!   thick restarts. One product with K for each direction is all that is ever asked for.
//! - [`leading`] turns it into two matrices with few modes: one that is at most K in the Loewner
//!   order, and one that is at least K. The rest of both is known by its diagonal blocks, exactly,
//!   since the `J_iJ_iᵀ` are known.
//! - [`operator`] has the maps whose largest eigenvalues bound that of `Φ(μ)` from below and above.
//! - [`probable`] bounds a largest eigenvalue with a stated probability.
//! - [`measure`] puts the ends together, [`conditions`] has the simpler ones, and [`driver`]
//!   decides how far to grow.
//!
//! μ* grows with K, so that the first matrix gives an upper end for η* and the second a lower end.

mod columns;
mod conditions;
mod counted;
mod driver;
mod error;
mod leading;
mod measure;
mod operator;
mod options;
mod probable;
mod stored;
mod subspace;

pub use driver::{continue_bracket, threshold_bracket};
pub use error::BracketError;
pub use options::{
    BracketBounds, BracketOptions, BracketProgress, BracketStage, BracketStop, RitzMode,
    ThresholdBracket,
};
pub use subspace::Subspace;
