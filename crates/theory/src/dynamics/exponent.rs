//! The top Lyapunov exponent of linearised SGD.

use flatmin_linalg::{PowerOfTwo, Stream, simd, stream};
use rand_distr::{Distribution as _, StandardNormal};

use super::linearised::{Law, LinearisedSgd};
use super::stepper::{State, Stepper};
use super::tally::{ReplicaMean, Tally};
use crate::SimulationError;

/// The purpose of the random streams, one for each replica.
const EXPONENT_STREAM: &str = "Lyapunov exponent";

/// Steps between two checks of the size of a state.
const CHECK_INTERVAL: usize = 8;

/// The squared norms at which a state is not rescaled. Eight steps from inside these bounds neither
/// overflow (a step grows by at most 1e30) nor become subnormal (a fused update cancels at most 106
/// bits).
const TAME: std::ops::Range<f64> = 1e-30..1e30;

/// The length of the simulation for a Lyapunov exponent, and its number of runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LyapunovOptions {
    /// Independent runs, at least 2.
    pub replicas: usize,
    /// Steps of each run before the growth is measured, rounded up to whole epochs.
    pub burn_in: usize,
    /// Steps of each run over which the growth is measured, at least 2; each half is rounded up to
    /// whole epochs.
    pub steps: usize,
    /// Seed of the starts and batches.
    pub seed: u64,
}

impl LyapunovOptions {
    /// 32 replicas of 20 000 steps after 5000: 1e6 steps in all.
    pub const fn with_seed(seed: u64) -> Self {
        Self { replicas: 32, burn_in: 5000, steps: 20_000, seed }
    }
}

/// An estimate of the top Lyapunov exponent, per step.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct LyapunovExponent {
    /// The growth of `ln ‖δ‖` per step; −∞ when a product of steps is zero on range(G).
    pub value: f64,
    /// Its standard error, from the spread of the replicas (R − 1 degrees of freedom); 0 where the
    /// value is exact.
    pub standard_error: f64,
    /// Growth per step in the second part of the run minus that in the first, replica by replica: 0
    /// up to its standard error once the direction of δ has settled.
    pub drift: ReplicaMean,
    /// Number R of replicas; 0 where the value is exact.
    pub replicas: usize,
    /// Number of steps over which the growth of each replica is measured; 0 where the value is
    /// exact.
    pub steps: usize,
}

impl LyapunovExponent {
    /// A value in closed form.
    pub(crate) fn exact(value: f64) -> Self {
        let drift = ReplicaMean { value: 0.0, standard_error: 0.0 };
        Self { value, standard_error: 0.0, drift, replicas: 0, steps: 0 }
    }

    /// True if the drift is at most `multiple` standard errors, or at most a rounding error.
    /// Otherwise the run was too short: the value is still on the way to the exponent, which its
    /// standard error does not show.
    pub fn is_settled(self, multiple: f64) -> bool {
        let rounding = 8.0 * f64::EPSILON * (1.0 + self.value.abs());
        let drift = self.drift;
        drift.value.abs() <= multiple * drift.standard_error + rounding
    }

    /// `value − multiple · standard_error`.
    pub fn lower(self, multiple: f64) -> f64 {
        self.value - multiple * self.standard_error
    }

    /// `value + multiple · standard_error`.
    pub fn upper(self, multiple: f64) -> f64 {
        self.value + multiple * self.standard_error
    }
}

/// The top Lyapunov exponent `λ = lim (1/t) ln ‖δ_t‖` of linearised SGD on range(G).
///
/// A single run converges when λ < 0 and diverges when λ > 0, almost surely and from almost every
/// start. This is weaker than mean-square stability, which implies λ ≤ 0. Where every batch is the
/// same (p = 0, epochs of one batch, or one sample) the exponent is exact: the largest logarithm of
/// the spectral radius of `A − ηλ_k b cᵀ`, which is `|1 − ηλ_k|` for plain SGD. Where nothing moves
/// (`G = 0` or `η = 0`) it is 0. Everywhere else the value is the mean over replicas of the growth
/// per step after the burn-in.
///
/// Reshuffled runs consist of whole epochs: the burn-in and the two halves of the steps are rounded
/// up to multiples of the [period](crate::Batch::period) T. The exponent still counts per step; an
/// epoch multiplies δ by about `e^{Tλ}`.
///
/// The standard error comes from the independent replicas, so that correlation in time within a run
/// does not matter. It does not show errors that all replicas share:
///
/// - **Slow directions.** Below the edge of almost-sure stability, λ is the exponent of the weakest
///   directions, about `−ηλ_min`, and often tiny. From a generic start δ first loses its fast
///   components, so a short run reports a value between their exponent and λ: too negative, but
///   with the right sign. The [drift](LyapunovExponent::drift) shows it.
/// - **Ties.** Directions that share the top exponent and do not mix (orthogonal rows of equal
///   norm) race each other, and ‖δ‖ follows the winner: the value is too high by about the standard
///   deviation of a single replica.
///
/// In floating point a state that cancels exactly leaves rounding errors, so that rates below about
/// −36 per step mean −∞ or close to it. Costs O(B r) per step and replica. Source: theory, section
/// 2.
///
/// # Errors
/// [`SimulationError::TooFew`] for fewer than 2 replicas or steps.
pub fn lyapunov_exponent(
    sgd: &LinearisedSgd<'_>,
    options: LyapunovOptions,
) -> Result<LyapunovExponent, SimulationError> {
    let LyapunovOptions { replicas, burn_in, steps, seed } = options;
    let settings = [("the number of replicas", replicas, 2), ("the number of steps", steps, 2)];
    SimulationError::check(&settings)?;
    if let Some(exponent) = exact_exponent(sgd) {
        return Ok(exponent);
    }
    let whole_epochs = |steps: usize| steps.div_ceil(sgd.period).saturating_mul(sgd.period);
    let mut runs = Runs::new(sgd, replicas, seed);
    runs.advance(whole_epochs(burn_in));
    let start = runs.log_norms();
    let parts = [steps / 2, steps - steps / 2].map(whole_epochs);
    runs.advance(parts[0]);
    let middle = runs.log_norms();
    runs.advance(parts[1]);
    Ok(growth(&start, &middle, &runs.log_norms(), parts))
}

/// The exponent where all batches give the same step, in closed form.
fn exact_exponent(sgd: &LinearisedSgd<'_>) -> Option<LyapunovExponent> {
    let (_, eigenvalues, _) = sgd.minimum().scaled();
    if eigenvalues.is_empty() || sgd.learning_rate() <= 0.0 {
        return Some(LyapunovExponent::exact(0.0));
    }
    let law = sgd.law();
    sgd.is_deterministic().then(|| {
        let log_radius = |lambda: &f64| match &law {
            Law::HeavyBall { momentum, rate } => log_radius(rate * lambda, *momentum),
            Law::Linear(system) if system.has_velocity => {
                system_log_radius(system.mode(system.rate * lambda))
            }
            // One state decays by ηw beside the step of gradient descent.
            Law::Linear(system) => log_radius(system.rate * lambda + sgd.decay(), 0.0),
        };
        let largest = eigenvalues.iter().map(log_radius).fold(f64::NEG_INFINITY, f64::max);
        LyapunovExponent::exact(largest)
    })
}

/// `ln ρ` of a 2 × 2 matrix.
fn system_log_radius([[a, b], [c, d]]: [[f64; 2]; 2]) -> f64 {
    let (trace, determinant) = (a + d, a * d - b * c);
    // Δ is the square of half the distance of the eigenvalues, without cancellation of large terms.
    let half_difference = (a - d) / 2.0;
    let discriminant = half_difference * half_difference + b * c;
    if discriminant < 0.0 {
        0.5 * libm::log(determinant)
    } else {
        libm::log(trace.abs() / 2.0 + discriminant.sqrt())
    }
}

/// `ln ρ` of the step `[[1−x, β], [−x, β]]` of a mode with `x = ηλ`.
fn log_radius(x: f64, momentum: f64) -> f64 {
    // The eigenvalues solve z² − (1 − x + β) z + β = 0.
    let trace = 1.0 - x + momentum;
    let discriminant = trace * trace - 4.0 * momentum;
    if momentum <= 0.0 {
        // ln(1 − x) with all digits of a small x.
        if x < 1.0 { libm::log1p(-x) } else { libm::log(x - 1.0) }
    } else if discriminant < 0.0 {
        0.5 * libm::log(momentum)
    } else {
        libm::log(f64::midpoint(trace.abs(), discriminant.sqrt()))
    }
}

/// The exponent from three readings of `ln ‖δ‖` of every replica. `parts` are the steps between the
/// first two and between the last two readings.
pub(crate) fn growth(
    start: &[f64],
    middle: &[f64],
    end: &[f64],
    parts: [usize; 2],
) -> LyapunovExponent {
    let (replicas, steps) = (end.len(), parts[0] + parts[1]);
    // If one replica vanishes, every replica vanishes sooner or later.
    if end.contains(&f64::NEG_INFINITY) {
        return LyapunovExponent { replicas, steps, ..LyapunovExponent::exact(f64::NEG_INFINITY) };
    }
    let (mut rate, mut drift) = (Tally::default(), Tally::default());
    for ((start, middle), end) in start.iter().zip(middle).zip(end) {
        rate.push((end - start) / steps as f64);
        let [early, late] = [(middle - start, parts[0]), (end - middle, parts[1])]
            .map(|(change, steps)| change / steps as f64);
        drift.push(late - early);
    }
    let ReplicaMean { value, standard_error } = rate.replica_mean();
    LyapunovExponent { value, standard_error, drift: drift.replica_mean(), replicas, steps }
}

/// Running replicas, each with a random stream of its own.
#[derive(Debug)]
pub(crate) struct Runs {
    stepper: Stepper,
    /// The true states are `2^exponent` times these.
    states: Vec<State>,
    exponents: Vec<i64>,
    streams: Vec<Stream>,
}

impl Runs {
    /// Replicas at their start, `δ ~ N(0, G)` at rest.
    ///
    /// The exponent does not depend on the start. This one puts most weight on directions of large
    /// curvature, which become unstable first, so that an instability shows at once.
    pub(crate) fn new(sgd: &LinearisedSgd<'_>, replicas: usize, seed: u64) -> Self {
        let (_, eigenvalues, rows) = sgd.minimum().scaled();
        let stepper = Stepper::new(sgd, rows.values(), eigenvalues.len());
        let mut streams: Vec<Stream> =
            (0..replicas).map(|index| stream(seed, EXPONENT_STREAM, index as u64)).collect();
        let start = |rng: &mut Stream| {
            let mut state = stepper.state();
            for (x, lambda) in state.position.iter_mut().zip(eigenvalues) {
                let normal: f64 = StandardNormal.sample(rng);
                *x = lambda.sqrt() * normal;
            }
            state
        };
        let states = streams.iter_mut().map(start).collect();
        Self { stepper, states, exponents: vec![0; replicas], streams }
    }

    /// Runs all replicas for more steps.
    pub(crate) fn advance(&mut self, steps: usize) {
        let Self { stepper, states, exponents, streams } = self;
        for done in (0..steps).step_by(CHECK_INTERVAL) {
            let more = CHECK_INTERVAL.min(steps - done);
            stepper.draw(more, states.len(), |replica, sampler, samples| {
                sampler.draw(replica, &mut streams[replica], samples);
            });
            stepper.advance(states);
            for (state, exponent) in states.iter_mut().zip(&mut *exponents) {
                *exponent += state.tame();
            }
        }
    }

    /// `ln ‖(δ, v)‖` of every replica; −∞ where both are zero.
    pub(crate) fn log_norms(&self) -> Vec<f64> {
        let log_norm = |(state, exponent): (&State, &i64)| {
            0.5 * libm::log(state.norm_squared()) + *exponent as f64 * std::f64::consts::LN_2
        };
        self.states.iter().zip(&self.exponents).map(log_norm).collect()
    }
}

impl State {
    /// Scales a very large or very small state by a power of two, which is exact, and returns the
    /// exponent of that power.
    fn tame(&mut self) -> i64 {
        if TAME.contains(&self.norm_squared()) {
            return 0;
        }
        let Self { position, velocity } = self;
        // The unit does not come from the squared norm, which may have overflowed or underflowed.
        let Some(unit) = PowerOfTwo::of_largest(position.iter().chain(&**velocity)) else {
            return 0;
        };
        for v in position.iter_mut().chain(&mut **velocity) {
            *v = unit.inverse().times(*v);
        }
        i64::from(unit.exponent())
    }

    fn norm_squared(&self) -> f64 {
        simd::norm_squared(&self.position) + simd::norm_squared(&self.velocity)
    }
}

#[cfg(test)]
mod tests {
    use super::LyapunovExponent;
    use crate::ReplicaMean;

    #[test]
    fn a_run_is_settled_when_its_drift_is_noise() {
        let exponent = LyapunovExponent::exact(-0.3);
        assert!(exponent.is_settled(0.0));
        let drifting = |value| {
            let drift = ReplicaMean { value, standard_error: 0.1 };
            LyapunovExponent { drift, ..exponent }.is_settled(3.0)
        };
        assert!(drifting(-0.29) && drifting(0.29));
        assert!(!drifting(-0.31) && !drifting(0.31));
    }
}
