//! Errors of all estimates.

/// The reason why there is no estimate.
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
    /// The target of an estimate is outside its range.
    #[error("reach a {what} of {value}: expected {expected}")]
    Target {
        /// The part of the target.
        what: &'static str,
        /// Its value.
        value: f64,
        /// The values it may have.
        expected: &'static str,
    },
    /// The result is beyond the range of `f64`.
    #[error("represent the result, which is beyond the range of f64")]
    OutOfRange,
}
