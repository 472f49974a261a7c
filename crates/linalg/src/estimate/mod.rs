//! Monte Carlo estimates for operators known by their products, with errors that can be believed.
//!
//! Each is a number that was computed plus the mean of quadratic forms of random vectors. `moments`
//! says how the error of such a mean is distributed, `leave_one_out` what changes when the forms are not
//! independent.

mod adaptive;
mod frobenius;
mod leave_one_out;
mod moments;
pub(crate) mod products;
mod quantile;
mod trace;

pub use adaptive::{TraceRun, TraceStatus, TraceTarget, estimate_trace};
pub use frobenius::{FrobeniusMethod, FrobeniusOptions, frobenius_norm_squared};
pub(crate) use quantile::student;
pub use trace::{TraceMethod, TraceOptions, trace};

use crate::{Operator, PowerOfTwo};

/// A Monte Carlo estimate with its uncertainty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The estimate, unbiased up to rounding.
    pub value: f64,
    /// Its standard deviation, estimated; rounding included. Zero when the value is exact.
    pub standard_error: f64,
    /// Operator products used.
    pub products: usize,
    shape: Shape,
}

/// Which law `(estimate − truth) / standard_error` follows, about.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Shape {
    /// Degrees of freedom ν of the sum of squares that is estimated.
    degrees: f64,
    /// From 0, where the law is Student's t, to ±1, where estimate and standard error come from the
    /// same χ² with ν degrees of freedom: when the estimate is `c = χ²_ν/ν` times the truth, the
    /// standard error is `c^coupling` times what it should be.
    skew: f64,
    coupling: f64,
    /// Degrees of freedom of what is random in the standard error besides.
    noise_degrees: f64,
}

/// An interval of confidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub lower: f64,
    /// Upper end.
    pub upper: f64,
}

impl Interval {
    /// Half its width.
    pub fn half_width(&self) -> f64 {
        0.5 * (self.upper - self.lower)
    }

    /// Whether it holds `value`.
    pub fn contains(&self, value: f64) -> bool {
        self.lower <= value && value <= self.upper
    }
}

/// Why there is no estimate.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EstimateError {
    /// The operator has dimension zero.
    #[error("estimate anything of an operator of dimension 0")]
    Empty,
    /// No product is allowed.
    #[error("estimate anything with a budget of no products")]
    NoProducts,
    /// A product is not finite.
    #[error("use product {product}: its entry {row} is {value}, expected a finite number")]
    NotFinite {
        /// Index of the product, from 0.
        product: usize,
        /// Row of the first such entry.
        row: usize,
        /// Its value.
        value: f64,
    },
    /// The operator is not positive semidefinite, as the method requires.
    #[error("treat the operator as positive semidefinite: vᵀAv = {form} for some vector v")]
    NotPositive {
        /// A negative value of the quadratic form.
        form: f64,
    },
    /// What is to be reached makes no sense.
    #[error("reach a {what} of {value}: expected {expected}")]
    Target {
        /// Which part of it.
        what: &'static str,
        /// Its value.
        value: f64,
        /// What it may be.
        expected: &'static str,
    },
    /// The result is beyond the range of `f64`.
    #[error("represent the result, which is beyond the range of f64")]
    OutOfRange,
}

impl Estimate {
    /// An estimate computed in units of `unit`.
    fn scaled(
        value: f64,
        standard_error: f64,
        shape: Shape,
        unit: PowerOfTwo,
        products: usize,
    ) -> Result<Self, EstimateError> {
        let back = unit.times(value);
        let standard_error = unit.times(standard_error);
        let vanished = value.abs() > 0.0 && !(back.abs() > 0.0);
        if vanished || !back.is_finite() || !standard_error.is_finite() {
            return Err(EstimateError::OutOfRange);
        }
        Ok(Self { value: back, standard_error, products, shape })
    }

    fn exact(value: f64, unit: PowerOfTwo, products: usize) -> Result<Self, EstimateError> {
        let degrees = f64::INFINITY;
        let shape = Shape { degrees, skew: 0.0, coupling: 0.5, noise_degrees: degrees };
        Self::scaled(value, 0.0, shape, unit, products)
    }

    /// The interval that covers the truth with probability `confidence`, as near as can be told.
    ///
    /// It reaches further to the side of the longer tail and takes into account how well the standard
    /// error is known: for the mean of forms with one large eigenvalue it is that of χ², for symmetric
    /// spectra that of Student's t. The value alone when that is exact or `confidence` is not positive;
    /// the whole line when `confidence` is 1 or more, or not a number.
    pub fn interval(&self, confidence: f64) -> Interval {
        if self.standard_error <= 0.0 || confidence <= 0.0 {
            return Interval { lower: self.value, upper: self.value };
        }
        if !(confidence < 1.0) {
            return Interval { lower: f64::NEG_INFINITY, upper: f64::INFINITY };
        }
        let [low, high] = self.shape.quantiles(0.5 * (1.0 - confidence));
        Interval {
            lower: self.value - self.standard_error * high,
            upper: self.value - self.standard_error * low,
        }
    }
}

impl Shape {
    /// The quantiles of `(estimate − truth) / standard_error` with probability `tail` below the first
    /// and above the second.
    fn quantiles(self, tail: f64) -> [f64; 2] {
        // Of symmetric distributions, so that the other one is the negative.
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
        // An equal eigenvalue λ h times over: the estimate is off by λh(c − 1), its standard
        // deviation is λh √(2/ν).
        let skewed = |probability| {
            let c = quantile::mean_chi_square(probability, self.degrees);
            let coupled = if self.coupling > 0.75 { c } else { c.sqrt() };
            (0.5 * self.degrees).sqrt() * (c - 1.0) / coupled
        };
        let [low, high] = if self.skew > 0.0 {
            [skewed(tail), skewed(1.0 - tail)]
        } else {
            // The second tail is that of 1 − tail, as rounded for the first.
            [-skewed(1.0 - tail), -skewed(1.0 - (1.0 - tail))]
        };
        let mixed = |student: f64, skewed: f64| noise * ((1.0 - share) * student + share * skewed);
        [mixed(-student, low), mixed(student, high)]
    }
}

/// What every estimate asks of its input.
pub(crate) fn check(
    operator: &(impl Operator + ?Sized),
    max_products: usize,
) -> Result<(), EstimateError> {
    if operator.dim() == 0 {
        Err(EstimateError::Empty)
    } else if max_products == 0 {
        Err(EstimateError::NoProducts)
    } else {
        Ok(())
    }
}
