//! Constants of rounding error analysis (Higham 2002, chapter 3).

/// The unit roundoff u = 2⁻⁵³: the largest relative error of one rounding to nearest.
pub const UNIT_ROUNDOFF: f64 = f64::EPSILON / 2.0;

/// `γ_n = n u / (1 − n u)`: bounds the relative error of a product of `n` factors `1 + δ` or
/// `1/(1 + δ)` with `|δ| ≤ u`.
///
/// A computed sum of products is off by at most `γ_n Σ |a_i b_i|` when every term passes through at
/// most n rounded operations. [`rounding_terms`](crate::gemm::rounding_terms) counts them for the
/// products of this crate.
///
/// ```
/// use flatmin_linalg::rounding::{UNIT_ROUNDOFF, gamma};
/// assert!(gamma(1) > UNIT_ROUNDOFF && gamma(1) < 1.000_001 * UNIT_ROUNDOFF);
/// ```
pub fn gamma(terms: usize) -> f64 {
    let error = terms as f64 * UNIT_ROUNDOFF;
    error / (1.0 - error)
}
