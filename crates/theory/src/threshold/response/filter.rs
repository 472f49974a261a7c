//! The response of any optimizer with a state of one or two numbers for each parameter (S15).
//!
//! Without batch noise the coordinate of a mode is a second-order filter of the gradients,
//! `H(z) = (b₁ + n z)/(1 − t z + Δ z²)`, with t and Δ the trace and determinant of
//! `F = A − ηλ b cᵀ` and `n = −cᵀ adj(A) b`. With `e = 1 − t + Δ` and `f = 1 + t + Δ`, which are
//! positive where the mean is stable, and `g = b₁ + n`, the covariance of two filters that are
//! driven by the same noise is D/N, where
//!
//! ```text
//! N = (1−Δ)(1−Δ')(e f' + e' f)/2 + ρ (x − x')²,      x = ηλ,
//! D = g²(1 − ΔΔ') − b₁n [(1−Δ')e + (1−Δ)e'].
//! ```
//!
//! By Sherman–Morrison `d_kl = N/(η² D) + (1−α) λ_kλ_l`. `docs/threshold.md` has the derivation.
//! Everything is read off [`Optimizer::state_space`], so that a new optimizer needs nothing here.

use crate::Optimizer;

/// Bounds the roundings of a denominator, beyond the 8 of the heavy ball.
pub(super) const ROUNDINGS: usize = 56;

/// The response of one optimizer. A of its state space is affine in η.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filter {
    /// b₁.
    input: f64,
    /// n.
    zero: f64,
    /// det A at η = 0, and its slope in η.
    determinant: (f64, f64),
    /// The slope of e in η at λ = 0, where e vanishes at η = 0.
    rise: f64,
    /// f at η = 0, and its slope in η at λ = 0.
    fall: (f64, f64),
    /// 1 − α.
    mean_deficit: f64,
    pub(super) pole: f64,
    /// How far the pole lies below the μ at which gradient descent turns unstable.
    pub(super) margin: f64,
}

/// The modes at one μ.
#[derive(Debug)]
pub(crate) struct FilterModes {
    modes: Vec<Mode>,
    /// ρ.
    spread: f64,
    /// g².
    gain: f64,
    /// −b₁n.
    zero: f64,
    /// 1 − α.
    mean_deficit: f64,
}

#[derive(Debug, Clone, Copy)]
struct Mode {
    /// λ.
    value: f64,
    /// 1 − Δ.
    loss: f64,
    /// e.
    at_one: f64,
    /// (1−Δ) e/η.
    rise: f64,
    /// (1−Δ) f/(2η).
    fall: f64,
}

/// Trace and determinant of A, and `n = −cᵀ adj(A) b`.
fn invariants(optimizer: &Optimizer, learning_rate: f64) -> [f64; 3] {
    let system = optimizer.state_space(learning_rate);
    let a = |i: usize, j: usize| system.transition.row(i)[j];
    match system.input[..] {
        [first, second] => {
            let adjugate = a(1, 1) * first - a(0, 1) * second;
            [a(0, 0) + a(1, 1), a(0, 0) * a(1, 1) - a(0, 1) * a(1, 0), -adjugate]
        }
        _ => [a(0, 0), 0.0, 0.0],
    }
}

impl Filter {
    pub(super) fn new(optimizer: &Optimizer, mean_deficit: f64, lambda_max: f64) -> Self {
        // So large that a difference quotient of affine functions loses no digit.
        const FAR: f64 = (1_u64 << 40) as f64;
        let [trace, determinant, zero] = invariants(optimizer, 0.0);
        let [far_trace, far_determinant, _] = invariants(optimizer, FAR);
        let [trace_slope, slope] =
            [(far_trace - trace) / FAR, (far_determinant - determinant) / FAR];
        let mut filter = Self {
            input: optimizer.state_space(0.0).input[0],
            zero,
            determinant: (determinant, slope),
            rise: slope - trace_slope,
            fall: (1.0 + trace + determinant, trace_slope + slope),
            mean_deficit,
            pole: 0.0,
            margin: 0.0,
        };
        // At the limit of gradient descent the d of the top mode is (1−α)λ²: about as much as this
        // margin makes, so that nothing cancels near the limit either.
        let limit = filter.descent_limit(lambda_max);
        filter.margin = (mean_deficit * lambda_max).min(limit);
        filter.pole = limit - filter.margin;
        filter
    }

    /// The least μ at which gradient descent is stable for a mode: f = 0 there.
    pub(super) fn descent_limit(&self, eigenvalue: f64) -> f64 {
        let (still, slope) = self.fall;
        2.0 * (eigenvalue * (self.input - self.zero) - slope) / still
    }

    /// The modes of these eigenvalues at μ = pole + ν; the pole is that of `lambda_max`.
    pub(crate) fn modes(&self, eigenvalues: &[f64], lambda_max: f64, nu: f64) -> FilterModes {
        let rate = 2.0 / (self.pole + nu);
        let gain = self.input + self.zero;
        let (still, slope) = self.determinant;
        let (fall, _) = self.fall;
        let limit_slope = 2.0 * (self.input - self.zero) / fall;
        let mode = |value: f64| {
            let loss = (1.0 - still) - rate * (slope + self.zero * value);
            // e/η, and f/η by the distance to the limit of this mode.
            let rise = self.rise + gain * value;
            let distance = (nu - self.margin) + limit_slope * (lambda_max - value);
            Mode {
                value,
                loss,
                at_one: rate * rise,
                rise: loss * rise,
                fall: 0.25 * loss * fall * distance,
            }
        };
        // e, Δ and f are affine in x: ρ collects what (x − x')² multiplies.
        let product =
            (gain - self.zero) * ((still + rate * slope) * gain - self.zero * rate * self.rise);
        FilterModes {
            modes: eigenvalues.iter().copied().map(mode).collect(),
            spread: product + self.zero * gain,
            gain: gain * gain,
            zero: -self.input * self.zero,
            mean_deficit: self.mean_deficit,
        }
    }
}

impl FilterModes {
    fn denominator(&self, mode: &Mode, other: &Mode) -> f64 {
        let difference = mode.value - other.value;
        let numerator =
            mode.rise * other.fall + other.rise * mode.fall + self.spread * difference * difference;
        // 1 − ΔΔ' without cancellation.
        let memory = mode.loss + other.loss * (1.0 - mode.loss);
        let gain =
            self.gain * memory + self.zero * (other.loss * mode.at_one + mode.loss * other.at_one);
        numerator / gain + self.mean_deficit * mode.value * other.value
    }

    /// `d_kl` for all l ≥ `first`.
    pub(super) fn denominators(&self, k: usize, first: usize) -> impl Iterator<Item = f64> {
        let mode = self.modes[k];
        self.modes[first..].iter().map(move |other| self.denominator(&mode, other))
    }

    pub(super) fn diagonal(&self, k: usize) -> f64 {
        self.denominator(&self.modes[k], &self.modes[k])
    }

    /// `d` between mode k of these modes and mode l of `others`, at the same μ.
    pub(crate) fn between(&self, k: usize, others: &Self, l: usize) -> f64 {
        self.denominator(&self.modes[k], &others.modes[l])
    }
}

#[cfg(test)]
mod tests {
    use faer::Mat;
    use faer::linalg::solvers::Solve as _;

    use super::super::{Modes, Response};
    use crate::{Noise, Optimizer};

    /// `1/(η² W)` from the state space: `W = (c⊗c)ᵀ (I − L)⁻¹ (b⊗b)`.
    fn by_definition(optimizer: &Optimizer, rate: f64, values: [f64; 2], deficit: f64) -> f64 {
        let system = optimizer.state_space(rate);
        let (b, c, s) = (&system.input, &system.output, system.input.len());
        let step = |value: f64, i: usize, j: usize| {
            system.transition.row(i)[j] - rate * value * b[i] * c[j]
        };
        let fed_back = deficit * rate * rate * values[0] * values[1];
        let matrix = Mat::from_fn(s * s, s * s, |x, y| {
            let (i, j, k, l) = (x / s, x % s, y / s, y % s);
            let identity = if x == y { 1.0 } else { 0.0 };
            let [first, second] = [step(values[0], i, k), step(values[1], j, l)];
            identity - first * second + fed_back * b[i] * c[k] * b[j] * c[l]
        });
        let noise = Mat::from_fn(s * s, 1, |x, _| b[x / s] * b[x % s]);
        // c picks the first entry.
        1.0 / (rate * rate * matrix.partial_piv_lu().solve(noise)[(0, 0)])
    }

    #[test]
    fn the_closed_form_is_the_covariance_of_the_state_space() {
        let sgd = Optimizer::sgd();
        let heavy = sgd.momentum(0.7).unwrap();
        let nesterov = heavy.nesterov().unwrap();
        let plain = [sgd, heavy, nesterov];
        let mut all: Vec<Optimizer> = plain.map(|o| o.weight_decay(0.3).unwrap()).to_vec();
        all.extend(plain.map(|o| o.decoupled_weight_decay(0.3).unwrap()));
        all.push(nesterov);
        let values = [0.4, 1.0];
        for optimizer in all {
            for mean_deficit in [0.0, 0.3, 1.0] {
                let noise = Noise { coefficient: 0.3, mean_deficit };
                let response = Response::new(&values, noise, &optimizer);
                let limit = response.descent_limit();
                for mu in [1.02 * limit, 2.0 * limit, 30.0 * limit] {
                    let nu = mu - response.pole();
                    let Modes::Filter(modes) = response.modes(nu) else { panic!("{optimizer}") };
                    for (k, l) in [(0, 0), (0, 1), (1, 1)] {
                        let pair = [values[k], values[l]];
                        let expected = by_definition(&optimizer, 2.0 / mu, pair, mean_deficit);
                        let found = modes.between(k, &modes, l);
                        let error = (found / expected - 1.0).abs();
                        assert!(error < 1e-9, "{optimizer}, μ = {mu}, ({k}, {l}): {error}");
                    }
                }
            }
        }
    }

    /// `N/D = φ(x) + φ(x') − xx' − β⁴(1−β²)(xx'/uu')[1 + (1+z)(1+z')/(1−zz')]`, from which
    /// `docs/threshold.md` proves that W is positive semidefinite for Nesterov momentum.
    #[test]
    fn the_denominator_of_nesterov_is_conditionally_negative_definite() {
        for beta in [0.1, 0.5, 0.9, 0.99] {
            let optimizer = Optimizer::sgd().momentum(beta).unwrap().nesterov().unwrap();
            let noise = Noise { coefficient: 1.0, mean_deficit: 0.0 };
            // λ = 0 gives φ; μ = 2 makes η = 1.
            let values = [0.0, 0.3, 0.7, 1.0];
            let response = Response::new(&values, noise, &optimizer);
            let Modes::Filter(modes) = response.modes(2.0 - response.pole()) else { panic!() };
            let d = |k: usize, l: usize| modes.between(k, &modes, l);
            let square = beta * beta;
            let u = |x: f64| 1.0 - square + beta * (1.0 + beta - square) * x;
            let z = |x: f64| square * beta * x / u(x);
            for k in 1..4 {
                for l in 1..4 {
                    let (x, y) = (values[k], values[l]);
                    let series = (1.0 + z(x)) * (1.0 + z(y)) / (1.0 - z(x) * z(y));
                    let kernel = square * square * (1.0 - square) * x * y / (u(x) * u(y));
                    let expected = d(k, 0) + d(0, l) - x * y - kernel * (1.0 + series);
                    let error = (d(k, l) - expected).abs();
                    assert!(error < 1e-12 * (1.0 + d(k, k)), "β = {beta}: {error}");
                }
            }
        }
    }
}
