//! What is asked of a threshold bracket, and what it answers.

use flatmin_linalg::Parallelism;

use super::error::BracketError;
use crate::Stability;

/// The accuracy requested of a bracket, and the limits on its cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BracketOptions {
    /// The relative width `(upper − lower)/upper` at which the subspace stops growing.
    pub relative_width: f64,
    /// The largest number of products with J and its transpose, counted by vectors.
    pub max_products: usize,
    /// The largest dimension of the subspace.
    pub max_rank: usize,
    /// The largest number of bytes that the subspace and the work on it may take. The products, and
    /// the vectors of p parameters of one block, come on top.
    pub max_bytes: usize,
    /// The number of vectors of one product. Small blocks need fewer products in total, larger ones
    /// suit the processor. At most half of the largest dimension is used.
    pub block_size: usize,
    /// The probability that the lower end may be wrong, for a random choice of the seed.
    pub failure_probability: f64,
    /// The seed of the random vectors.
    pub seed: u64,
    /// True if the work on the subspace may use several cores. The result has the same bits either
    /// way.
    pub parallelism: Parallelism,
}

impl Default for BracketOptions {
    /// A relative width of 0.05, at most 10 000 products, 2000 modes and 4 GB, blocks of 16
    /// vectors, a probability of 1e-9, seed 0, one core.
    fn default() -> Self {
        Self {
            relative_width: 0.05,
            max_products: 10_000,
            max_rank: 2000,
            max_bytes: 4_000_000_000,
            block_size: 16,
            failure_probability: 1e-9,
            seed: 0,
            parallelism: Parallelism::Sequential,
        }
    }
}

impl BracketOptions {
    pub(super) fn check(&self) -> Result<(), BracketError> {
        let positive = [("the relative width", self.relative_width, "a number above 0")];
        let probability = self.failure_probability;
        for (what, value, expected) in positive {
            if !(value > 0.0 && value.is_finite()) {
                return Err(BracketError::Option { what, value, expected });
            }
        }
        if !(probability > 0.0 && probability < 1.0) {
            let (what, value) = ("the failure probability", probability);
            return Err(BracketError::Option { what, value, expected: "a number between 0 and 1" });
        }
        if self.block_size == 0 {
            let (what, value) = ("the block size", 0.0);
            return Err(BracketError::Option { what, value, expected: "at least 1" });
        }
        Ok(())
    }
}

/// A bracket while its subspace grows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BracketProgress {
    /// Products with J and its transpose so far.
    pub products: usize,
    /// The dimension of the subspace so far.
    pub rank: usize,
    /// The interval so far; the lower end is not certified yet. `None` before the first one.
    pub interval: Option<(f64, f64)>,
    /// The point estimate so far.
    pub estimate: Option<f64>,
    /// The largest dimension of the subspace that the options, the memory and the shape of J allow.
    pub max_rank: usize,
    /// The part of the work that comes next.
    pub stage: BracketStage,
}

/// The parts of the work on a bracket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BracketStage {
    /// Products with a block of vectors enlarge the subspace.
    Growing,
    /// The ends are computed from the subspace.
    Measuring,
    /// Random vectors bound what the subspace leaves out.
    Certifying,
}

/// The reason why a subspace grew no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BracketStop {
    /// The bracket is as narrow as requested.
    Width,
    /// The subspace holds everything that K maps to: more products would add nothing.
    Complete,
    /// The budget of products is spent.
    Products,
    /// The subspace has its largest dimension, and restarts no longer help.
    Rank,
    /// The subspace takes as much memory as it may, and restarts no longer help.
    Memory,
    /// The caller asked to stop.
    Caller,
}

/// A leading mode of the Gram matrix K, which is one of the Gauss–Newton matrix G too.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RitzMode {
    /// The Ritz value θ, at most the eigenvalue of the same rank.
    pub value: f64,
    /// `‖K u − θ u‖` for the unit Ritz vector u: an eigenvalue lies within this distance of θ.
    pub residual: f64,
}

/// The learning rates up to which simpler conditions hold, as far as the modes found decide them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BracketBounds {
    /// S2, exact: no learning rate above it is stable.
    pub trace: f64,
    /// S5 for a lower bound on `λ_max`: no learning rate above it is stable. Infinite without modes.
    pub lambda_max: f64,
    /// S6, with the rest of the trace spread over eigenvalues near zero, or S5 where that is less: no
    /// learning rate above it is stable. Infinite where momentum makes the sum no bound.
    pub spectral: f64,
    /// S7 for an upper bound on `λ_max`: every learning rate up to it is stable.
    pub sufficient: f64,
    /// S19 for a matrix that is at least K: every learning rate up to it is stable. At least
    /// [`sufficient`](Self::sufficient).
    pub contraction: f64,
}

/// An interval for the largest mean-square stable learning rate η* of a minimum whose Jacobian is
/// known by its products (S20).
///
/// **Guarantee for SGD without momentum.** Up to rounding, no learning rate above
/// [`upper`](Self::upper) is stable, and every learning rate up to [`lower`](Self::lower) is stable
/// unless an event of probability [`failure_probability`](Self::failure_probability) occurred in
/// the choice of random vectors. Rounding is not bounded rigorously: both ends are moved outward by
/// a relative `64 n ε`, which is far more than what was seen.
///
/// **With heavy-ball momentum** the same holds for the upper end, except with that probability, and
/// for the lower end, which leaves out a term that helps and is therefore low.
///
/// **With Nesterov momentum** the upper end is an estimate from the modes found, and there is no
/// lower end: it is zero.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ThresholdBracket {
    /// Every learning rate up to this one is stable.
    pub lower: f64,
    /// No learning rate above this one is stable.
    pub upper: f64,
    /// The point estimate, inside the interval and much closer to η* than its lower end. The upper
    /// end is far closer than the lower one too, so that both may have the same digits; without
    /// noise, as in gradient descent, the upper end is the estimate.
    pub estimate: f64,
    /// The probability that the random vectors hid something from the lower end.
    pub failure_probability: f64,
    /// The dimension of the subspace.
    pub rank: usize,
    /// The number of modes in the lower end: those whose residuals are small enough.
    pub converged: usize,
    /// The trace of G, exact.
    pub trace: f64,
    /// The part of the trace that the subspace leaves out.
    pub rest_of_trace: f64,
    /// The part of `tr J_iJ_iᵀ` of the heaviest sample that the subspace leaves out.
    pub rest_of_heaviest: f64,
    /// The largest eigenvalue of G lies between these two; the upper one with the probability above.
    pub lambda_max: (f64, f64),
    /// The leading Ritz values, the largest first, at most 100 of them.
    pub modes: Vec<RitzMode>,
    /// Simpler conditions.
    pub bounds: BracketBounds,
    /// Products with J and its transpose in this run.
    pub products: usize,
    /// The reason why the subspace grew no further.
    pub stop: BracketStop,
    /// The rank at which a width of 1 % may be expected, extrapolated from the widths seen; `None`
    /// where they do not fall, or too few were seen.
    pub rank_for_one_percent: Option<usize>,
}

impl ThresholdBracket {
    /// `(upper − lower)/upper`; 0 when both ends are infinite.
    pub fn relative_width(&self) -> f64 {
        relative_width(self.lower, self.upper)
    }

    /// The verdict of the interval on a learning rate.
    pub fn stability(&self, learning_rate: f64) -> Stability {
        if learning_rate <= self.lower {
            Stability::Stable
        } else if learning_rate > self.upper {
            Stability::Unstable
        } else {
            Stability::Undecided
        }
    }
}

pub(super) fn relative_width(lower: f64, upper: f64) -> f64 {
    match (lower.is_infinite(), upper.is_infinite()) {
        (true, _) => 0.0,
        (false, true) => 1.0,
        (false, false) => 1.0 - lower / upper,
    }
}
