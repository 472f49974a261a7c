//! The three sharpness measures of one matrix.

/// Trace, Frobenius norm and largest eigenvalue of one positive semidefinite matrix.
///
/// Which matrix (empirical or population Gauss–Newton) is said where it is made. The loss carries
/// the factor ½: `R(θ) = (1/2n) Σ (f(x_i;θ) − y_i)²`, so the Gauss–Newton matrix has no factor 2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sharpness {
    /// `tr G`.
    pub trace: f64,
    /// `‖G‖_F`.
    pub frobenius_norm: f64,
    /// `λ_max(G)`.
    pub lambda_max: f64,
}
