//! Quantiles of the distributions behind the intervals.
//!
//! Both distribution functions are monotone, so that bisection cannot fail. The intervals need a
//! few digits; the quantiles have about ten.

use crate::Bisection;

/// Beyond this number of degrees of freedom the normal quantile has a relative error below 1e-6.
const MAX_STUDENT_DEGREES: f64 = 1e6;

/// The `probability`-quantile of Student's t with `degrees` of freedom.
///
/// `probability` lies strictly between 0 and 1, and `degrees` is at least about 0.5.
pub(crate) fn student(probability: f64, degrees: f64) -> f64 {
    let upper = probability.max(1.0 - probability);
    let quantile = if degrees > MAX_STUDENT_DEGREES {
        quantile_root(|t| 1.0 - 0.5 * libm::erfc(t / std::f64::consts::SQRT_2) - upper)
    } else {
        // P(|T| > t) = I_{ν/(ν+t²)}(ν/2, 1/2).
        let beta = IncompleteBeta::new(0.5 * degrees, 0.5);
        quantile_root(|t| 1.0 - 0.5 * beta.at(degrees / (degrees + t * t)) - upper)
    };
    if probability < 0.5 { -quantile } else { quantile }
}

/// The `probability`-quantile of χ² with `degrees` of freedom, divided by `degrees`.
///
/// `probability` lies strictly between 0 and 1, and `degrees` is at least about 0.5.
pub(super) fn mean_chi_square(probability: f64, degrees: f64) -> f64 {
    if degrees > 1e4 {
        // Wilson & Hilferty (1931): the cube root is nearly normal.
        let variance = 2.0 / (9.0 * degrees);
        let root = 1.0 - variance + student(probability, f64::INFINITY) * variance.sqrt();
        return root * root * root;
    }
    quantile_root(|c| incomplete_gamma(0.5 * degrees, 0.5 * degrees * c) - probability)
}

/// The positive number at which the increasing function `excess` ceases to be negative.
fn quantile_root(excess: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    let (mut at_low, mut at_high) = (excess(low), excess(high));
    while at_high < 0.0 && high < 1e12 {
        (low, at_low) = (high, at_high);
        high *= 4.0;
        at_high = excess(high);
    }
    // The bisection has its own points, but a few steps of a faster method decide most of them.
    let (mut below, mut above) = narrow(&excess, (low, at_low), (high, at_high));
    let search = Bisection::between(low, high).to_relative_width(1e-12).max_steps(60);
    let (low, high) = search.run(|middle| {
        let is_below = middle <= below || (middle < above && excess(middle) < 0.0);
        if is_below {
            below = below.max(middle);
        } else {
            above = above.min(middle);
        }
        is_below
    });
    0.5 * (low + high)
}

/// Two nearby numbers, `excess` being negative at the first and not at the second, between two such
/// numbers that are given with their values.
///
/// This is the rule of false position with the weights of the Illinois method (Dowell & Jarratt
/// 1971), which bisects when it keeps moving one end only.
fn narrow(
    excess: &impl Fn(f64) -> f64,
    (mut below, mut at_below): (f64, f64),
    (mut above, mut at_above): (f64, f64),
) -> (f64, f64) {
    // The number of consecutive moves of the upper end, or, as a negative number, of the lower end.
    let mut moves = 0_i32;
    for _ in 0..25 {
        // As far from either end as the bisection can resolve, so that the other end moves too.
        let least = 4e-13 * above;
        // Stops when `excess` has no sign change.
        if !(above - below > 2.0 * least && at_below < 0.0 && at_above >= 0.0) {
            break;
        }
        let next = if moves.abs() < 3 {
            (below * at_above - above * at_below) / (at_above - at_below)
        } else {
            0.5 * (below + above)
        };
        let next = next.clamp(below + least, above - least);
        let value = excess(next);
        if value < 0.0 {
            moves = moves.min(0) - 1;
            (below, at_below) = (next, value);
            at_above *= if moves < -1 { 0.5 } else { 1.0 };
        } else {
            moves = moves.max(0) + 1;
            (above, at_above) = (next, value);
            at_below *= if moves > 1 { 0.5 } else { 1.0 };
        }
    }
    (below, above)
}

/// The regularised lower incomplete gamma function `P(a, x)`.
///
/// The power series below `a + 1`, the continued fraction of the complement above (Abramowitz &
/// Stegun 1964, 6.5.29 and 6.5.31).
fn incomplete_gamma(a: f64, x: f64) -> f64 {
    if !(x > 0.0) {
        return 0.0;
    }
    let front = libm::exp(a * libm::log(x) - x - libm::lgamma(a));
    if x < a + 1.0 {
        let (mut term, mut sum) = (1.0 / a, 1.0 / a);
        let mut k = 0.0;
        while term > 1e-15 * sum && k < 1e5 {
            k += 1.0;
            term *= x / (a + k);
            sum += term;
        }
        return front * sum;
    }
    // x + 1 − a − 1(1 − a)/(x + 3 − a − 2(2 − a)/(x + 5 − a − …)).
    let fraction = continued_fraction(x + 1.0 - a, |k| {
        let k = f64::from(k);
        (k * (a - k), x + 1.0 - a + 2.0 * k)
    });
    1.0 - front / fraction
}

/// The regularised incomplete beta function `I_x(a, b)` (Abramowitz & Stegun 1964, 26.5.8).
#[derive(Debug, Clone, Copy)]
struct IncompleteBeta {
    a: f64,
    b: f64,
    /// The values of `ln Γ` at `a`, `b` and `a + b`, which every x needs.
    log_gamma: [f64; 3],
}

impl IncompleteBeta {
    fn new(a: f64, b: f64) -> Self {
        Self { a, b, log_gamma: [a, b, a + b].map(libm::lgamma) }
    }

    fn at(self, x: f64) -> f64 {
        let Self { a, b, log_gamma: [log_a, log_b, log_sum] } = self;
        if !(x > 0.0) {
            return 0.0;
        }
        if x >= 1.0 {
            return 1.0;
        }
        if x > (a + 1.0) / (a + b + 2.0) {
            let mirrored = Self { a: b, b: a, log_gamma: [log_b, log_a, log_sum] };
            return 1.0 - mirrored.at(1.0 - x);
        }
        let logarithm = log_sum - log_a - log_b + a * libm::log(x) + b * libm::log1p(-x);
        let fraction = continued_fraction(1.0, |k| {
            let m = f64::from(k / 2);
            let numerator = if k.is_multiple_of(2) {
                m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m))
            } else {
                -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0))
            };
            (numerator, 1.0)
        });
        libm::exp(logarithm) / (a * fraction)
    }
}

/// The continued fraction `first + n_1/(d_1 + n_2/(d_2 + …))` for `term(k) = (n_k, d_k)`.
///
/// It is evaluated forwards, by the recurrence for the ratios of successive numerators and
/// denominators.
fn continued_fraction(first: f64, term: impl Fn(u32) -> (f64, f64)) -> f64 {
    let nonzero = |v: f64| if v.abs() < 1e-300 { 1e-300 } else { v };
    let mut value = nonzero(first);
    let (mut numerators, mut denominators) = (value, 0.0);
    for k in 1..=100_000 {
        let (numerator, denominator) = term(k);
        denominators = 1.0 / nonzero(denominator + numerator * denominators);
        numerators = nonzero(denominator + numerator / numerators);
        let ratio = numerators * denominators;
        value *= ratio;
        if (ratio - 1.0).abs() < 1e-15 {
            break;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::{
        Bisection, IncompleteBeta, incomplete_gamma, mean_chi_square, quantile_root, student,
    };

    fn close(value: f64, expected: f64) {
        assert!((value - expected).abs() <= 2e-6 * expected.abs(), "{value} {expected}");
    }

    #[test]
    fn student_quantiles_are_those_of_the_tables() {
        close(student(0.975, 1.0), 12.706_204_7);
        close(student(0.975, 2.0), 4.302_652_73);
        close(student(0.025, 9.0), -2.262_157_16);
        close(student(0.995, 30.0), 2.749_995_65);
        close(student(0.975, 1e7), 1.959_963_98);
        close(student(0.975, f64::INFINITY), 1.959_963_98);
        assert!(student(0.5, 3.0).abs() < 1e-9);
    }

    #[test]
    fn chi_square_quantiles_are_those_of_the_tables() {
        close(mean_chi_square(0.975, 1.0), 5.023_886_19);
        close(mean_chi_square(0.025, 1.0), 9.820_691_2e-4);
        close(10.0 * mean_chi_square(0.025, 10.0), 3.246_972_78);
        close(10.0 * mean_chi_square(0.975, 10.0), 20.483_177_35);
        close(100.0 * mean_chi_square(0.05, 100.0), 77.929_465_2);
        let (below, above) = (mean_chi_square(0.3, 9.999e3), mean_chi_square(0.3, 1.0001e4));
        assert!((below - above).abs() < 2e-6, "{below} {above}");
    }

    /// Like [`quantile_root`], but evaluates `excess` at every step of the bisection.
    fn plain_bisection(excess: impl Fn(f64) -> f64) -> f64 {
        let (mut low, mut high) = (0.0, 1.0);
        while excess(high) < 0.0 && high < 1e12 {
            low = high;
            high *= 4.0;
        }
        let search = Bisection::between(low, high).to_relative_width(1e-12).max_steps(60);
        let (low, high) = search.run(|middle| excess(middle) < 0.0);
        0.5 * (low + high)
    }

    #[test]
    fn narrowing_spares_values_and_changes_no_more_than_rounding() {
        for tail in [0.4, 0.16, 0.025, 0.005, 1e-6, 1e-12] {
            for degrees in [0.5, 0.9, 1.0, 3.7, 12.0, 99.0, 2.5e3, 9.9e3] {
                let beta = IncompleteBeta::new(0.5 * degrees, 0.5);
                let half = 0.5 * degrees;
                let t = |t: f64| 0.5 - 0.5 * beta.at(degrees / (degrees + t * t)) - (0.5 - tail);
                let low = |c: f64| incomplete_gamma(half, half * c) - tail;
                let high = |c: f64| incomplete_gamma(half, half * c) - (1.0 - tail);
                let excesses: [&dyn Fn(f64) -> f64; 3] = [&t, &low, &high];
                for excess in excesses {
                    let count = std::cell::Cell::new(0);
                    let counted = |x: f64| {
                        count.set(count.get() + 1);
                        excess(x)
                    };
                    let (got, expected) = (quantile_root(counted), plain_bisection(excess));
                    assert!((got - expected).abs() <= 2e-12 * expected, "{tail} {degrees}");
                    // Plain bisection needs about 44 values, and more in far tails, where this
                    // method needs more too.
                    assert!(tail < 0.001 || count.get() < 30, "{tail} {degrees}");
                }
            }
        }
    }

    #[test]
    fn a_quantile_that_is_zero_or_beyond_all_numbers_is_found_too() {
        assert!(quantile_root(|x| x) < 1e-12);
        assert!(quantile_root(|_| -1.0) > 1e11);
    }
}
