//! The interval that contains a threshold, and the accuracy requested of it.

use flatmin_linalg::Parallelism;

/// The relative width of the intervals that [`threshold`](crate::threshold()) returns, unless
/// rounding is larger.
pub const DEFAULT_RELATIVE_WIDTH: f64 = 1e-10;

/// The accuracy requested of a threshold, and the limits on its cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ThresholdOptions {
    /// Relative width of the interval at which the search stops. For 512 rows or more, up to 5 % of
    /// it may be spent on dropping the smallest eigenvalues. Rounding adds to the width: asking for
    /// less than 1e-14 gains nothing.
    pub relative_width: f64,
    /// True if the products may use several cores. The result has the same bits either way.
    pub parallelism: Parallelism,
    /// The largest number of products with M.
    pub max_products: usize,
}

impl Default for ThresholdOptions {
    /// A relative width of [`DEFAULT_RELATIVE_WIDTH`], one core, at most 2000 products.
    fn default() -> Self {
        Self {
            relative_width: DEFAULT_RELATIVE_WIDTH,
            parallelism: Parallelism::Sequential,
            max_products: 2000,
        }
    }
}

/// An interval that contains the largest mean-square stable learning rate η*.
///
/// **Guarantee.** For SGD without momentum the interval contains the η* of the exact real numbers
/// that the given floating-point numbers represent. Every rounding is bounded, under the standard
/// model of floating-point arithmetic (no overflow; underflow below 1e-80 relative is neglected)
/// and for any order of the sums inside products. Three parts make up the width:
///
/// - the requested width, which includes the effect of eigenvalues that were dropped;
/// - the rounding of the last product;
/// - the error of the eigendecomposition, by two perturbation bounds. μ* = 2/η* is at most
///   `(1+ω)²/(1−ω)` times its value for rows whose Gauss–Newton matrix is within a factor `1±ω` of
///   the diagonal one used, and μ* moves by at most `(4 + 4pn) ‖ΔK‖₂` (`2n ‖ΔK‖₂` for p = 1) when
///   the Gram matrix K moves by ΔK.
///
/// `docs/threshold.md` in the repository proves both. The rounding parts are about 1e-11 at n = 300
/// and about 1e-10 at n = 2000.
///
/// **With several outputs** the guarantee and its constants are the same; n is the number of
/// samples and K the nk × nk Gram matrix. The vector of the certificate is a tuple of positive
/// definite matrices, and Cholesky decompositions that allow for every rounding, their own
/// included, check that its image stays below a multiple of it.
///
/// **With momentum** the error of the eigendecomposition is a first-order estimate, doubled,
/// instead of a proved bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// Every learning rate up to this one is mean-square stable. Infinite when `G = 0`.
    pub lower: f64,
    /// Every learning rate above this one is unstable. Infinite when `G = 0`.
    pub upper: f64,
    /// Products with M used.
    pub iterations: usize,
    /// The way in which the iteration ended.
    pub status: ThresholdStatus,
}

/// The way in which the iteration for a threshold ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThresholdStatus {
    /// The interval is as narrow as requested, up to rounding.
    Converged,
    /// The budget of products, or eight attempts, ran out first: the interval is valid but wider
    /// than requested.
    NotConverged,
}

/// The verdict of an interval on a learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stability {
    /// The rate is at most the lower end.
    Stable,
    /// The rate is above the upper end.
    Unstable,
    /// The rate lies inside the interval.
    Undecided,
}

impl Threshold {
    /// The middle of the interval.
    pub fn midpoint(&self) -> f64 {
        if self.lower.is_infinite() { self.lower } else { f64::midpoint(self.lower, self.upper) }
    }

    /// `(upper − lower)/upper`; 0 when both ends are infinite.
    pub fn relative_width(&self) -> f64 {
        match (self.lower.is_infinite(), self.upper.is_infinite()) {
            (true, _) => 0.0,
            (false, true) => 1.0,
            (false, false) => 1.0 - self.lower / self.upper,
        }
    }

    /// The threshold for `loss_scale` times the loss: both ends divided by it and rounded outward.
    #[must_use]
    pub fn for_loss_scale(self, loss_scale: f64) -> Self {
        if loss_scale.to_bits() == 1.0_f64.to_bits() {
            return self;
        }
        let lower = match self.lower / loss_scale {
            lower if self.lower.is_infinite() => lower,
            lower => lower.next_down().clamp(0.0, f64::MAX),
        };
        Self { lower, upper: (self.upper / loss_scale).next_up(), ..self }
    }

    /// The verdict on this learning rate.
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

#[cfg(test)]
mod tests {
    use super::{Threshold, ThresholdStatus};

    #[test]
    fn a_scaled_loss_has_the_threshold_divided_outward() {
        let interval = |lower, upper| Threshold {
            lower,
            upper,
            iterations: 0,
            status: ThresholdStatus::Converged,
        };
        let plain = interval(2.0 - 1e-10, 2.0 + 1e-10);
        assert_eq!(plain.for_loss_scale(1.0), plain);
        for loss_scale in [0.3, 3.0, 5.0, 7.0] {
            let scaled = plain.for_loss_scale(loss_scale);
            // The exact signs of `loss_scale · scaled end − plain end`.
            assert!(scaled.lower.mul_add(loss_scale, -plain.lower) < 0.0, "{loss_scale}");
            assert!(scaled.upper.mul_add(loss_scale, -plain.upper) > 0.0, "{loss_scale}");
        }
        let scaled = interval(f64::INFINITY, f64::INFINITY).for_loss_scale(2.0);
        assert!(scaled.lower.is_infinite() && scaled.upper.is_infinite());
    }
}
