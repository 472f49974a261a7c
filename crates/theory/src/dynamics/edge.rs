//! The largest learning rate at which single runs converge.

use super::exponent::{LyapunovExponent, Runs, growth};
use super::linearised::LinearisedSgd;
use crate::{Batch, Minimum, Optimizer, SimulationError, lambda_max_bound};

/// Standard errors by which an exponent must differ from zero for its sign to count.
const DECISIVE: f64 = 3.0;

/// Ratio of neighbouring learning rates while the search looks for the edge.
const STRIDE: f64 = 1.25;

/// The accuracy to which the edge is located, and the limits on its cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EdgeOptions {
    /// A learning rate known to be almost surely stable, such as the mean-square threshold. The
    /// search starts there. Without one it starts from S7, which with momentum β is multiplied by
    /// 1 − β and then not proved to be stable: the search goes down from there if it must.
    pub known_stable: Option<f64>,
    /// The search ends when `upper ≤ (1 + tolerance) · lower`.
    pub tolerance: f64,
    /// Independent runs per learning rate, at least 2.
    pub replicas: usize,
    /// The largest number of steps of each run, at least 256, and 4 epochs of reshuffled batches.
    pub steps: usize,
    /// The largest number of learning rates tried, at least 2.
    pub evaluations: usize,
    /// Seed of the starts and batches, which are the same at every learning rate.
    pub seed: u64,
}

impl EdgeOptions {
    /// No known stable rate; a tolerance of 2 %; 16 replicas of at most 65 536 steps at no more
    /// than 24 learning rates.
    pub const fn with_seed(seed: u64) -> Self {
        Self {
            known_stable: None,
            tolerance: 0.02,
            replicas: 16,
            steps: 1 << 16,
            evaluations: 24,
            seed,
        }
    }
}

/// A learning rate with the Lyapunov exponent found there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EdgePoint {
    /// The learning rate η.
    pub learning_rate: f64,
    /// The exponent at η.
    pub exponent: LyapunovExponent,
}

/// The way in which a search for the edge ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EdgeStatus {
    /// The edge is known in closed form, and both ends are equal to it.
    Exact,
    /// Both ends are decided, and the interval is as narrow as requested.
    Resolved,
    /// Both ends are decided, but the interval is wider than requested: the learning rates tried
    /// inside it stayed undecided, or the evaluations ran out.
    Wide,
    /// An end is undecided: the exponent is not known to be ≤ 0 at the lower end, or not known to
    /// be > 0 at the upper end.
    Undecided,
}

/// An interval for the edge of almost-sure stability.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct AlmostSureEdge {
    /// A learning rate with exponent ≤ 0, by 3 standard errors or because it is known.
    pub lower: EdgePoint,
    /// A larger learning rate with exponent > 0, by 3 standard errors.
    pub upper: EdgePoint,
    /// The way in which the search ended.
    pub status: EdgeStatus,
    /// The number of learning rates tried.
    pub evaluations: usize,
}

/// The learning rate at which the top Lyapunov exponent turns from ≤ 0 to > 0, found by a search
/// upwards from a stable learning rate.
///
/// Single runs converge up to this edge, beyond the mean-square threshold. Below the edge λ(η) is
/// the exponent of the slowest direction, about `−ηλ_min`; beyond it, λ(η) is the exponent of the
/// first unstable direction. So λ has a (rounded) kink where it crosses zero: at a ReLU network
/// trained with η = 0.01, in units of 1e-4, it is −1.6, −1.9, −0.3, 2.4, 10 and 20 at 0.8, 1, 1.05,
/// 1.1, 1.2 and 1.3 η. The lower end is the costly one, because λ is close to zero below the edge.
///
/// λ may change its sign several times (for one direction and g² = 1 or 100, runs converge again
/// around η = 1). The edge reported is the first sign change that the growing strides of the search
/// meet. Two changes within one stride are missed.
///
/// Every exponent is read over the last three quarters of a run. The length of the run is doubled
/// until the exponent is 3 standard errors from zero, with the same sign over the last half, or the
/// steps run out. A learning rate whose exponent stays undecided counts as close to the edge, and
/// the search continues on both sides of it. An end is wrong only if a rate near the edge was
/// decided too early: of 400 seeds with 4096 steps, 2 or fewer missed each of four edges known in
/// closed form. Where every batch is the same the edge is exact, such as `2(1+β)/λ_max(G)` with
/// heavy-ball momentum: there the step of the top mode grows. Without curvature it is infinite.
///
/// Without momentum the search starts from a rate at which no step grows in expectation (S7):
/// `η ≤ 2/(αλ_max + p max_i ‖g_i‖² + w)` with weight decay w, and for reshuffled epochs
/// `η ≤ 2/(L + w)` with `L = min(max_i ‖g_i‖², nλ_max/s)`, which bounds the curvature of every batch
/// of at least s samples, s being the size of the short batch, if there is one. That batch may
/// decide the edge. Exponents of epochs count per step, and are read after whole epochs.
///
/// Costs at most `evaluations · replicas · steps` steps of O(B r), most of them far fewer: 0.2 to
/// 1.1 s with the defaults at trained networks with n = r = 300, B = 1.
///
/// # Errors
/// [`SimulationError::TooFew`] for too few replicas, steps, epochs or evaluations;
/// [`SimulationError::LearningRate`] when the rate known to be stable is not positive or too large;
/// also the errors of [`LinearisedSgd::new`].
pub fn almost_sure_edge(
    minimum: &Minimum,
    optimizer: &Optimizer,
    batch: &Batch,
    options: EdgeOptions,
) -> Result<AlmostSureEdge, SimulationError> {
    let EdgeOptions { known_stable, replicas, steps, evaluations, .. } = options;
    SimulationError::check(&[
        ("the number of replicas", replicas, 2),
        ("the number of steps", steps, 256),
        ("the number of evaluations", evaluations, 2),
    ])?;
    let sgd = LinearisedSgd::new(minimum, optimizer, batch, 0.0)?;
    if minimum.eigenvalues().is_empty() || sgd.is_deterministic() {
        let learning_rate = descent_limit(optimizer, minimum.sharpness().lambda_max);
        let point = EdgePoint { learning_rate, exponent: LyapunovExponent::exact(0.0) };
        let status = EdgeStatus::Exact;
        return Ok(AlmostSureEdge { lower: point, upper: point, status, evaluations: 0 });
    }
    let least = sgd.period.saturating_mul(4);
    SimulationError::check(&[("the number of steps", steps, least)])?;
    let start = known_stable.unwrap_or_else(|| start(&sgd));
    if !(start > 0.0) {
        return Err(SimulationError::LearningRate { value: start });
    }
    let mut search = EdgeSearch { sgd, options, evaluations: 0 };
    let known = known_stable.is_some() || optimizer.momentum_coefficient() <= 0.0;
    search.run(start, known)
}

/// The learning rate beyond which gradient descent grows in the top mode; infinite without
/// curvature, where decay acts on ker G alone.
///
/// On the eigenvalue −1 of `A − ηλ b cᵀ`, `2(1+β) = η[κλ + κw + (1+β)w']` for undamped momentum,
/// with `κ = 1 + 2β` for Nesterov's and 1 otherwise, w the coupled and w' the decoupled decay.
fn descent_limit(optimizer: &Optimizer, lambda_max: f64) -> f64 {
    let (undamped, factor) = optimizer.undamped();
    let beta = undamped.momentum_coefficient();
    let limit = if lambda_max <= 0.0 {
        f64::INFINITY
    } else if undamped.is_nesterov() {
        let slope = (1.0 + 2.0 * beta) / (1.0 + beta);
        2.0 / (slope * (lambda_max + undamped.coupled_decay()) + undamped.decoupled_decay())
    } else {
        let decay = undamped.coupled_decay() + (1.0 + beta) * undamped.decoupled_decay();
        (1.0 + beta) * lambda_max_bound(lambda_max + decay)
    };
    limit / factor
}

/// The learning rate from which the search starts: S7 with decay, times 1 − β.
fn start(sgd: &LinearisedSgd<'_>) -> f64 {
    let (minimum, batch) = (sgd.minimum(), sgd.batch());
    let lambda_max = minimum.sharpness().lambda_max;
    let largest = minimum.largest_gradient_norm_squared();
    let curvature = if let Some(noise) = sgd.noise {
        noise.mean_weight() * lambda_max + noise.coefficient * largest
    } else {
        // H_I ⪯ (n/s) G, and H_I is a mean of matrices of norm ‖g_i‖².
        let n = minimum.sample_count();
        largest.min(n as f64 / batch.smallest(n) as f64 * lambda_max)
    };
    let (undamped, factor) = sgd.optimizer().undamped();
    let decay = undamped.coupled_decay() + undamped.decoupled_decay();
    (1.0 - undamped.momentum_coefficient()) * (2.0 / (curvature + decay)) / factor
}

/// The sign of an exponent, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    NotPositive,
    Positive,
    Undecided,
}

struct EdgeSearch<'a> {
    sgd: LinearisedSgd<'a>,
    options: EdgeOptions,
    evaluations: usize,
}

impl EdgeSearch<'_> {
    fn is_spent(&self) -> bool {
        self.evaluations >= self.options.evaluations
    }

    fn run(&mut self, start: f64, known: bool) -> Result<AlmostSureEdge, SimulationError> {
        let mut bracket = EdgeBracket::default();
        let (mut lowest, mut sign) = self.evaluate(start)?;
        if known && sign == Sign::Undecided {
            sign = Sign::NotPositive;
        }
        bracket.add(lowest, sign);
        let mut highest = lowest;
        while bracket.lower.is_none() && !self.is_spent() {
            let (point, sign) = self.evaluate(lowest.learning_rate / (STRIDE * STRIDE * STRIDE))?;
            lowest = point;
            bracket.add(point, sign);
        }
        let mut strides = 0;
        while bracket.upper.is_none() && !self.is_spent() {
            // Four strides of each width, so that a distant edge is reached too.
            let stride = STRIDE.powi(1 + strides / 4);
            strides += 1;
            let (point, sign) = self.evaluate(highest.learning_rate * stride)?;
            highest = point;
            bracket.add(point, sign);
        }
        while let Some(rate) = bracket.next(self.options.tolerance)
            && !self.is_spent()
        {
            let (point, sign) = self.evaluate(rate)?;
            bracket.add(point, sign);
        }
        let lower = bracket.lower.unwrap_or(lowest);
        let upper = bracket.upper.unwrap_or(highest);
        let narrow = upper.learning_rate <= (1.0 + self.options.tolerance) * lower.learning_rate;
        let status = match (bracket.lower, bracket.upper) {
            (Some(_), Some(_)) if narrow => EdgeStatus::Resolved,
            (Some(_), Some(_)) => EdgeStatus::Wide,
            _ => EdgeStatus::Undecided,
        };
        Ok(AlmostSureEdge { lower, upper, status, evaluations: self.evaluations })
    }

    /// The exponent at a learning rate, from as many steps as it takes to determine its sign.
    fn evaluate(&mut self, learning_rate: f64) -> Result<(EdgePoint, Sign), SimulationError> {
        self.evaluations += 1;
        let EdgeOptions { replicas, steps, seed, .. } = self.options;
        let sgd = self.sgd.with_learning_rate(learning_rate)?;
        let mut runs = Runs::new(&sgd, replicas, seed);
        // The exponent is read after 1, 2, 4, …, 256 parts of the steps, each of whole epochs. Few
        // epochs make fewer parts, at least 4.
        let period = sgd.period;
        let epochs = steps / period;
        let part = (epochs / 256).max(1);
        let parts = 1 << (epochs / part).ilog2().min(8);
        let part = part * period;
        runs.advance(part);
        let mut quarter = runs.log_norms();
        runs.advance(part);
        let mut half = runs.log_norms();
        let mut time = 2 * part;
        loop {
            runs.advance(time);
            time *= 2;
            let end = runs.log_norms();
            let exponent = growth(&quarter, &half, &end, [time / 4, time / 2]);
            // Two thirds of the steps belong to the last half.
            let late = exponent.value + exponent.drift.value / 3.0;
            let sign = if exponent.lower(DECISIVE) > 0.0 && late > 0.0 {
                Sign::Positive
            } else if exponent.upper(DECISIVE) <= 0.0 && late <= 0.0 && time >= 32.min(parts) * part
            {
                // Decay is accepted only after longer runs than growth, because fast directions may
                // decay before slow growth shows.
                Sign::NotPositive
            } else {
                Sign::Undecided
            };
            if sign != Sign::Undecided || time >= parts * part {
                return Ok((EdgePoint { learning_rate, exponent }, sign));
            }
            (quarter, half) = (half, end);
        }
    }
}

/// The learning rates that enclose the edge.
#[derive(Debug, Default)]
struct EdgeBracket {
    /// The largest rate with an exponent ≤ 0 below `upper`.
    lower: Option<EdgePoint>,
    /// The smallest rate with an exponent > 0.
    upper: Option<EdgePoint>,
    /// Smallest and largest undecided rate between them.
    undecided: Option<(f64, f64)>,
}

impl EdgeBracket {
    fn add(&mut self, point: EdgePoint, sign: Sign) {
        let rate = point.learning_rate;
        match sign {
            Sign::NotPositive => {
                self.lower = Some(point);
                self.undecided = self.undecided.filter(|(_, high)| *high > rate);
                self.undecided = self.undecided.map(|(low, high)| (low.max(rate), high));
            }
            Sign::Positive => {
                self.upper = Some(point);
                self.undecided = self.undecided.filter(|(low, _)| *low < rate);
                self.undecided = self.undecided.map(|(low, high)| (low, high.min(rate)));
            }
            Sign::Undecided => {
                let (low, high) = self.undecided.unwrap_or((rate, rate));
                self.undecided = Some((low.min(rate), high.max(rate)));
            }
        }
    }

    /// The rate to try next: the middle of the wider of the two gaps between decided and undecided
    /// rates.
    fn next(&self, tolerance: f64) -> Option<f64> {
        let (lower, upper) = (self.lower?.learning_rate, self.upper?.learning_rate);
        if upper <= (1.0 + tolerance) * lower {
            return None;
        }
        let (a, b) = match self.undecided {
            None => (lower, upper),
            Some((low, high)) if low / lower >= upper / high => (lower, low),
            Some((_, high)) => (high, upper),
        };
        let middle = (a.sqrt()) * b.sqrt();
        // Another rate this close to an undecided one would gain nothing.
        let fine = 1.0 + tolerance / 4.0;
        (b > fine * a && a < middle && middle < b).then_some(middle)
    }
}

#[cfg(test)]
mod tests {
    use super::{EdgeBracket, EdgePoint, Sign};
    use crate::LyapunovExponent;

    #[test]
    fn gaps_beside_what_is_undecided_are_halved_down_to_a_fraction_of_the_tolerance() {
        let mut bracket = EdgeBracket { lower: None, upper: None, undecided: None };
        let mut add = |learning_rate, sign| {
            let exponent = LyapunovExponent::exact(0.0);
            bracket.add(EdgePoint { learning_rate, exponent }, sign);
            bracket.next(0.01)
        };
        assert_eq!(add(1.0, Sign::NotPositive), None);
        assert_eq!(add(2.0, Sign::Positive), Some(2.0_f64.sqrt()));
        // The lower gap, of 1.2, is wider than the upper one.
        assert_eq!(add(1.2, Sign::Undecided), Some(1.2_f64.sqrt() * 2.0_f64.sqrt()));
        assert_eq!(add(1.999, Sign::Undecided), Some(1.2_f64.sqrt()));
        // Both gaps are below a quarter of a percent now, though the decided rates lie far apart.
        assert_eq!(add(1.001, Sign::Undecided), None);
    }

    #[test]
    fn a_bracket_as_narrow_as_asked_for_is_left_alone() {
        let next = |low: f64, undecided, high: f64| {
            let point = |learning_rate| {
                let exponent = LyapunovExponent::exact(0.0);
                Some(EdgePoint { learning_rate, exponent })
            };
            EdgeBracket { lower: point(low), upper: point(high), undecided }.next(0.01)
        };
        assert_eq!(next(1.0, None, 1.009), None);
        assert!(next(1.0, None, 1.011).is_some());
        // Beside undecided rates, gaps down to a quarter of the tolerance are halved.
        let undecided = |rate| Some((rate, rate));
        assert_eq!(next(1.0, undecided(1.0024), 1.0047), None);
        assert_eq!(next(1.0, undecided(1.0024), 2.0), Some(1.0024_f64.sqrt() * 2.0_f64.sqrt()));
        assert_eq!(
            next(1.0, undecided(1.0049), 1.0101),
            Some(1.0049_f64.sqrt() * 1.0101_f64.sqrt())
        );
        // The wider gap is the one with the larger ratio, at any magnitude.
        assert_eq!(next(10.0, Some((10.2, 10.5)), 20.0), Some(10.5_f64.sqrt() * 20.0_f64.sqrt()));
    }
}
