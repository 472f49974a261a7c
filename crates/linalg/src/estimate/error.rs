//! Errors of all estimates.

/// The reason why there is no estimate.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EstimateError {
    /// The operator has dimension zero.
    #[error("the dimension of the operator is 0, expected at least 1")]
    Empty,
    /// No product is allowed.
    #[error("the budget of operator products is 0, expected at least 1")]
    NoProducts,
    /// A product is not finite.
    #[error("entry {row} of product {product} is {value}, expected a finite number")]
    NotFinite {
        /// Index of the product, from 0.
        product: usize,
        /// Row of the first such entry.
        row: usize,
        /// Its value.
        value: f64,
    },
    /// The operator is not positive semidefinite, as the method requires.
    #[error(
        "the operator is not positive semidefinite, as XNysTrace requires: vᵀAv = {form} for some \
         vector v"
    )]
    NotPositive {
        /// A negative value of the quadratic form.
        form: f64,
    },
    /// The target of an estimate is outside its range.
    #[error("the {what} is {value}, expected {expected}")]
    Target {
        /// The part of the target.
        what: &'static str,
        /// Its value.
        value: f64,
        /// The values it may have.
        expected: &'static str,
    },
    /// The result is beyond the range of `f64`.
    #[error("the result is beyond the range of f64: scale the operator")]
    OutOfRange,
}
