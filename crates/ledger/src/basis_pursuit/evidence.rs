//! Solutions of basis pursuit with the evidence for them.

use flatmin_linalg::rounding::gamma;
use flatmin_linalg::{RowMatrix, simd};

/// Largest `‖Xβ − y‖_∞ / ‖y‖_∞` and `|‖β‖_1 − yᵀν| / ‖β‖_1` of an accepted solution.
pub const BASIS_PURSUIT_TOLERANCE: f64 = 1e-9;

/// The reason why a problem has no certified interpolator of minimum ℓ1 norm.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BasisPursuitError {
    /// The number of targets is not the number of inputs.
    #[error("the vector of targets has {got} values, expected {expected}")]
    Length {
        /// Number of targets.
        got: usize,
        /// Number of inputs.
        expected: usize,
    },
    /// An entry of the inputs or the targets is NaN or infinite.
    #[error("entry ({row}, {column}) of {matrix} is {value}, expected a finite number")]
    NotFinite {
        /// The matrix, in words.
        matrix: &'static str,
        /// Row of the first such entry.
        row: usize,
        /// Its column.
        column: usize,
        /// Its value.
        value: f64,
    },
    /// No coefficients interpolate the targets.
    #[error("no coefficients interpolate the targets")]
    NoInterpolator,
    /// The linear-programming solver gave up.
    #[error("the linear-programming solver stopped without a solution")]
    LinearProgram,
    /// The residual or the gap of the solver's answer is too large to accept it.
    #[error(
        "the interpolator has a relative residual of {residual:e} and a relative duality gap of \
         {gap:e}, expected at most {BASIS_PURSUIT_TOLERANCE:e}"
    )]
    NotCertified {
        /// `‖Xβ − y‖_∞ / ‖y‖_∞`.
        residual: f64,
        /// `(‖β‖_1 − yᵀν) / ‖β‖_1`.
        gap: f64,
    },
}

/// A solution β of `min ‖β‖_1` subject to `Xβ = y`, with the evidence for it.
///
/// The dual vector ν proves it: `‖Xᵀν‖_∞ ≤ 1` implies `‖β'‖_1 ≥ (Xβ')ᵀν = yᵀν` for every
/// interpolator β', so that no interpolator has an ℓ1 norm smaller than `l1_norm − gap`.
#[derive(Debug, Clone, PartialEq)]
pub struct BasisPursuit {
    /// The coefficients β, d.
    pub coefficients: Vec<f64>,
    /// `‖β‖_1`.
    pub l1_norm: f64,
    /// The feasibility residual `‖Xβ − y‖_∞`.
    pub residual: f64,
    /// The dual certificate ν, n.
    pub dual: Vec<f64>,
    /// An upper bound on `‖Xᵀν‖_∞`, rounding included: at most 1.
    pub dual_norm: f64,
    /// The duality gap `‖β‖_1 − yᵀν`.
    pub gap: f64,
}

impl BasisPursuit {
    /// Measures the residual, the dual norm and the gap of a primal and a dual candidate. The dual
    /// one is shrunk until it is feasible.
    pub(super) fn new(
        inputs: &RowMatrix,
        targets: &[f64],
        coefficients: Vec<f64>,
        dual: Vec<f64>,
    ) -> Self {
        let residuals = (0..inputs.rows())
            .map(|i| (simd::dot(inputs.row(i), &coefficients) - targets[i]).abs());
        let residual = largest(residuals);
        // The bound leaves room for the division below, which rounds every entry of ν once.
        let size = largest_correlation(inputs, &dual, 8) * (1.0 + gamma(8));
        let dual: Vec<f64> =
            if size <= 1.0 { dual } else { dual.iter().map(|v| v / size).collect() };
        let l1_norm = coefficients.iter().map(|b| b.abs()).sum();
        Self {
            l1_norm,
            residual,
            dual_norm: largest_correlation(inputs, &dual, 0),
            gap: l1_norm - simd::dot(targets, &dual),
            coefficients,
            dual,
        }
    }

    /// Refuses a residual or a gap above [`BASIS_PURSUIT_TOLERANCE`].
    pub(super) fn accept(&self, targets: &[f64]) -> Result<(), BasisPursuitError> {
        let size = targets.iter().fold(0.0_f64, |m, y| m.max(y.abs()));
        let (residual, gap) = (self.residual / size, self.gap / self.l1_norm);
        // These comparisons are false for a NaN. A negative gap means that β is not feasible.
        if residual <= BASIS_PURSUIT_TOLERANCE && gap.abs() <= BASIS_PURSUIT_TOLERANCE {
            Ok(())
        } else {
            Err(BasisPursuitError::NotCertified { residual, gap })
        }
    }
}

/// `Xᵀν`.
pub(super) fn correlations(inputs: &RowMatrix, dual: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0; inputs.columns()];
    for (i, weight) in dual.iter().enumerate() {
        simd::axpy(*weight, inputs.row(i), &mut sums);
    }
    sums
}

/// An upper bound on `‖Xᵀν‖_∞`, rounding included.
///
/// A computed sum of n terms is off by at most `γ_n Σ_i |x_ij ν_i|`, which matters where the
/// columns or the entries of ν differ much in size. The bound allows for `more` further roundings
/// of each term.
fn largest_correlation(inputs: &RowMatrix, dual: &[f64], more: usize) -> f64 {
    let mut sizes = vec![0.0; inputs.columns()];
    for (i, weight) in dual.iter().enumerate() {
        for (size, value) in sizes.iter_mut().zip(inputs.row(i)) {
            *size += (weight * value).abs();
        }
    }
    // The sizes and the bound are rounded too.
    let bound = gamma(2 * inputs.rows() + 8 + more);
    let sums = correlations(inputs, dual);
    largest(sums.iter().zip(sizes).map(|(sum, size)| sum.abs() + bound * size))
}

/// The largest of numbers that are not negative, or NaN when one of them is NaN.
pub(super) fn largest(values: impl Iterator<Item = f64>) -> f64 {
    // A NaN is never `<=`, so the fold takes it, and keeps it from then on.
    values
        .fold(0.0, |largest, value| if value <= largest { largest } else { value + 0.0 * largest })
}
