//! Estimates with their confidence intervals.

use super::error::EstimateError;
use super::quantile;
use crate::PowerOfTwo;

/// A Monte Carlo estimate with its uncertainty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The estimate, unbiased up to rounding.
    pub value: f64,
    /// The estimated standard deviation of the value, rounding included. Zero when the value is
    /// exact.
    pub standard_error: f64,
    /// Operator products used.
    pub products: usize,
    law: ErrorLaw,
}

/// The approximate law of `(estimate − truth) / standard_error`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ErrorLaw {
    /// Degrees of freedom ν of the sum of squares that is estimated.
    pub(super) degrees: f64,
    /// A number from −1 to 1. At 0 the law is Student's t. At ±1 the estimate and its standard
    /// error come from the same χ² with ν degrees of freedom: when the estimate is `c = χ²_ν/ν`
    /// times the truth, the standard error is `c^coupling` times its correct value.
    pub(super) skew: f64,
    pub(super) coupling: f64,
    /// Degrees of freedom of the rest of the randomness in the standard error.
    pub(super) noise_degrees: f64,
}

/// A confidence interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub lower: f64,
    /// Upper end.
    pub upper: f64,
}

impl Interval {
    /// Half the width, `(upper − lower)/2`.
    pub fn half_width(&self) -> f64 {
        0.5 * (self.upper - self.lower)
    }

    /// True if `value` lies in the interval, ends included.
    pub fn contains(&self, value: f64) -> bool {
        self.lower <= value && value <= self.upper
    }
}

impl Estimate {
    /// An estimate computed in units of `unit`.
    pub(super) fn scaled(
        value: f64,
        standard_error: f64,
        law: ErrorLaw,
        unit: PowerOfTwo,
        products: usize,
    ) -> Result<Self, EstimateError> {
        let back = unit.times(value);
        let standard_error = unit.times(standard_error);
        let vanished = value.abs() > 0.0 && !(back.abs() > 0.0);
        if vanished || !back.is_finite() || !standard_error.is_finite() {
            return Err(EstimateError::OutOfRange);
        }
        Ok(Self { value: back, standard_error, products, law })
    }

    /// A value without statistical error, computed in units of `unit`.
    pub(super) fn exact(
        value: f64,
        unit: PowerOfTwo,
        products: usize,
    ) -> Result<Self, EstimateError> {
        let degrees = f64::INFINITY;
        let law = ErrorLaw { degrees, skew: 0.0, coupling: 0.5, noise_degrees: degrees };
        Self::scaled(value, 0.0, law, unit, products)
    }

    /// The interval that covers the truth with probability `confidence`, approximately.
    ///
    /// It is longer on the side of the longer tail, and it accounts for the uncertainty of the
    /// standard error: for the mean of forms with one large eigenvalue it is the interval of χ²,
    /// and for symmetric spectra the interval of Student's t. It is the value alone when the value
    /// is exact or `confidence` is not positive, and the whole line when `confidence` is 1 or more,
    /// or NaN.
    pub fn interval(&self, confidence: f64) -> Interval {
        if self.standard_error <= 0.0 || confidence <= 0.0 {
            return Interval { lower: self.value, upper: self.value };
        }
        if !(confidence < 1.0) {
            return Interval { lower: f64::NEG_INFINITY, upper: f64::INFINITY };
        }
        let [low, high] = self.law.quantiles(0.5 * (1.0 - confidence));
        Interval {
            lower: self.value - self.standard_error * high,
            upper: self.value - self.standard_error * low,
        }
    }
}

impl ErrorLaw {
    /// The quantiles of `(estimate − truth) / standard_error` with probability `tail` below the
    /// first and above the second.
    fn quantiles(self, tail: f64) -> [f64; 2] {
        // In symmetric distributions the lower quantile is the negative of the upper one.
        let normal = quantile::student(1.0 - tail, f64::INFINITY);
        let noise = if self.noise_degrees < 1e6 && normal.abs() > 0.0 {
            quantile::student(1.0 - tail, self.noise_degrees) / normal
        } else {
            1.0
        };
        let student = quantile::student(1.0 - tail, self.degrees);
        let share = self.skew.abs();
        if !(share > 0.0) {
            return [-noise * student, noise * student];
        }
        // For h equal eigenvalues λ the estimate is off by λh(c − 1), and its standard deviation is
        // λh √(2/ν).
        let skewed = |probability| {
            let c = quantile::mean_chi_square(probability, self.degrees);
            let coupled = if self.coupling > 0.75 { c } else { c.sqrt() };
            (0.5 * self.degrees).sqrt() * (c - 1.0) / coupled
        };
        let [low, high] = if self.skew > 0.0 {
            [skewed(tail), skewed(1.0 - tail)]
        } else {
            // The second probability is 1 − (1 − tail), so that its rounding agrees with that of
            // the first.
            [-skewed(1.0 - tail), -skewed(1.0 - (1.0 - tail))]
        };
        let mixed = |student: f64, skewed: f64| noise * ((1.0 - share) * student + share * skewed);
        [mixed(-student, low), mixed(student, high)]
    }
}
