//! Interpolators that matrix sensing is compared with.

use faer::{Accum, Mat, MatRef};
use flatmin_linalg::{
    EigenError, RowMatrix, cholesky, divide_by_lower, divide_by_transposed_lower, matmul_lower,
    product, simd, symmetric_eigen,
};
use flatmin_models::{Dataset, singular_values};
use serde::{Deserialize, Serialize};

use super::error::CellError;
use super::linearised::LinearisedPoint;
use super::sensing::{
    InputRoots, SensingProblem, nuclear_norm, of_eigen, relative_error, sandwich,
};
use crate::protocol::SGD;

/// The interpolators of least Frobenius and least nuclear norm of one problem.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SensingReferenceSpec {
    /// The problem.
    pub problem: SensingProblem,
    /// True to compute the stability of balanced factors and the least weighted norm too.
    pub with_stability: bool,
    /// Seed of the target and the measurements.
    pub seed: u64,
}

/// The properties of the interpolators.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SensingReferenceResult {
    /// `‖W − M*‖² / ‖M*‖²` of the interpolator of least Frobenius norm.
    pub frobenius_error: f64,
    /// `‖W − M*‖² / ‖M*‖²` of the interpolator of least nuclear norm.
    pub nuclear_error: f64,
    /// The nuclear norm of the latter over a proved lower bound for all interpolators, less 1.
    pub nuclear_gap: f64,
    /// The answers of stability theory; absent unless asked for.
    pub stability: Option<ReferenceStability>,
}

/// Stability at the balanced factors of two matrices, and the least weighted norm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ReferenceStability {
    /// At M*.
    pub target: BalancedPoint,
    /// At the interpolator of least Frobenius norm.
    pub frobenius: BalancedPoint,
    /// A proved lower bound on `‖A^½WB^½‖_*` over all interpolators W.
    pub least_weighted_norm: f64,
}

/// The stability of balanced factors of a matrix W, with the empirical matrix.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BalancedPoint {
    /// `‖A^½WB^½‖_*`.
    pub weighted_norm: f64,
    /// `λ_max(G)`.
    pub lambda_max: f64,
    /// The exact threshold η* of SGD (B = 1), to 1e-6; absent where infinite.
    pub threshold: Option<f64>,
}

impl SensingReferenceSpec {
    pub(super) fn run(&self) -> Result<SensingReferenceResult, CellError> {
        let problem = self.problem;
        let data = problem.dataset(self.seed)?;
        let target = problem.target(self.seed);
        let measurements = Measurements::new(problem.dim, data.inputs(), data.targets())?;
        let frobenius = measurements.least_frobenius();
        let nuclear = least_nuclear(&measurements)?;
        let stability = if self.with_stability {
            let roots = InputRoots::new(problem, data.inputs())?;
            // With Z = A^½WB^½ the measurements of Z are A^{-½}X_iB^{-½}.
            let d = problem.dim;
            let mut weighted = data.inputs().clone();
            for i in 0..weighted.rows() {
                let x = MatRef::from_row_major_slice(data.inputs().row(i), d, d);
                let x = sandwich(&roots.inverse_roots, x);
                weighted.row_mut(i).copy_from_slice(x.values());
            }
            let least = least_nuclear(&Measurements::new(d, &weighted, data.targets())?)?;
            Some(ReferenceStability {
                target: balanced_point(problem, &data, &roots, &target)?,
                frobenius: balanced_point(problem, &data, &roots, &frobenius)?,
                least_weighted_norm: least.lower,
            })
        } else {
            None
        };
        Ok(SensingReferenceResult {
            frobenius_error: relative_error(&frobenius, &target),
            nuclear_error: relative_error(&nuclear.matrix, &target),
            nuclear_gap: nuclear.gap,
            stability,
        })
    }

    pub(super) fn label(&self) -> String {
        let Self { problem: SensingProblem { dim, sample_count }, seed, .. } = self;
        format!("matrix interpolators d={dim} n={sample_count} seed {seed}")
    }
}

fn balanced_point(
    problem: SensingProblem,
    data: &Dataset,
    roots: &InputRoots,
    matrix: &RowMatrix,
) -> Result<BalancedPoint, CellError> {
    let model = problem.model()?;
    let parameters = model.balanced_parameters(matrix)?;
    let point = LinearisedPoint::new(&model, &parameters, data.inputs());
    Ok(BalancedPoint {
        weighted_norm: nuclear_norm(&roots.weight(matrix))?,
        lambda_max: point.curvature(&model, &parameters, data)?.sharpness.lambda_max,
        threshold: point.threshold(SGD)?,
    })
}

/// Measurements of d × d matrices, with the Cholesky factor of the Gram matrix `XXᵀ` of the
/// measurements, fewer than entries.
struct Measurements<'m> {
    dim: usize,
    inputs: &'m RowMatrix,
    targets: &'m [f64],
    lower: Mat<f64>,
}

impl<'m> Measurements<'m> {
    fn new(dim: usize, inputs: &'m RowMatrix, targets: &'m [f64]) -> Result<Self, CellError> {
        let mut gram = Mat::zeros(inputs.rows(), inputs.rows());
        let rows = inputs.as_mat();
        matmul_lower(gram.as_mut(), Accum::Replace, rows, rows.transpose(), 1.0);
        let lower = cholesky(gram.as_ref()).ok_or(CellError::DependentMeasurements)?;
        Ok(Self { dim, inputs, targets, lower })
    }

    /// `(XXᵀ)⁻¹ b`.
    fn solve(&self, right: &[f64]) -> Vec<f64> {
        let mut solution = Mat::from_fn(1, right.len(), |_, i| right[i]);
        divide_by_transposed_lower(self.lower.as_ref(), solution.as_mut());
        divide_by_lower(self.lower.as_ref(), solution.as_mut());
        (0..right.len()).map(|i| solution[(0, i)]).collect()
    }

    /// `⟨X_i, W⟩` for all measurements.
    fn measure(&self, matrix: &RowMatrix) -> Vec<f64> {
        let rows = 0..self.inputs.rows();
        rows.map(|i| simd::dot(self.inputs.row(i), matrix.values())).collect()
    }

    /// `Σ ν_i X_i`.
    fn combine(&self, dual: &[f64]) -> RowMatrix {
        let mut sum = RowMatrix::zeros(self.dim, self.dim);
        for (i, weight) in dual.iter().enumerate() {
            simd::axpy(*weight, self.inputs.row(i), sum.values_mut());
        }
        sum
    }

    /// The interpolator of least Frobenius norm.
    fn least_frobenius(&self) -> RowMatrix {
        self.combine(&self.solve(self.targets))
    }

    /// The interpolator that is nearest to `matrix`.
    fn nearest(&self, mut matrix: RowMatrix) -> RowMatrix {
        let deviations: Vec<f64> =
            self.measure(&matrix).iter().zip(self.targets).map(|(a, y)| y - a).collect();
        let correction = self.combine(&self.solve(&deviations));
        simd::axpy(1.0, correction.values(), matrix.values_mut());
        matrix
    }
}

/// An interpolator of nearly least nuclear norm.
struct LeastNuclear {
    matrix: RowMatrix,
    /// A lower bound on the nuclear norm of every interpolator: `yᵀν/‖Σ ν_iX_i‖₂` for some ν.
    lower: f64,
    /// The nuclear norm of `matrix` over `lower`, less 1.
    gap: f64,
}

/// Most iterations; a few hundred are enough.
const MAX_ITERATIONS: usize = 1000;
/// The gap is computed after every so many iterations.
const CHECK_EVERY: usize = 50;
/// The gap at which the iteration stops.
const SMALL_GAP: f64 = 1e-9;

/// The interpolator of least nuclear norm, by the alternating direction method of multipliers: in
/// turn the nearest interpolator and soft thresholding of singular values. The multiplier gives ν,
/// which proves its lower bound whatever the iteration did.
fn least_nuclear(measurements: &Measurements<'_>) -> Result<LeastNuclear, EigenError> {
    let dim = measurements.dim;
    let mut matrix = measurements.least_frobenius();
    let threshold = singular_values(&matrix)?.first().copied().unwrap_or(0.0);
    let (mut thresholded, mut multiplier) = (matrix.clone(), RowMatrix::zeros(dim, dim));
    let (mut lower, mut gap) = (0.0_f64, f64::INFINITY);
    for iteration in 1..=MAX_ITERATIONS {
        simd::axpy(-1.0, multiplier.values(), thresholded.values_mut());
        matrix = measurements.nearest(thresholded);
        simd::axpy(1.0, matrix.values(), multiplier.values_mut());
        thresholded = soft_thresholded(&multiplier, threshold)?;
        simd::axpy(-1.0, thresholded.values(), multiplier.values_mut());
        if iteration % CHECK_EVERY == 0 {
            let dual = measurements.solve(&measurements.measure(&multiplier));
            let norm = singular_values(&measurements.combine(&dual))?.first().copied();
            let value: f64 = dual.iter().zip(measurements.targets).map(|(v, y)| v * y).sum();
            lower = lower.max(value / norm.unwrap_or(f64::INFINITY));
            gap = nuclear_norm(&matrix)? / lower - 1.0;
            if gap <= SMALL_GAP {
                break;
            }
        }
    }
    Ok(LeastNuclear { matrix, lower, gap })
}

/// The matrix with every singular value σ replaced by `max(σ − threshold, 0)`.
fn soft_thresholded(matrix: &RowMatrix, threshold: f64) -> Result<RowMatrix, EigenError> {
    let squared = product(matrix.as_mat().transpose(), matrix.as_mat());
    let eigen = symmetric_eigen(squared.as_ref())?;
    let shrink = of_eigen(&eigen.values, eigen.vectors.as_ref(), |square| {
        let value = square.max(0.0).sqrt();
        if value > threshold { 1.0 - threshold / value } else { 0.0 }
    });
    let shrunk = product(matrix.as_mat(), shrink.as_ref());
    Ok(RowMatrix::from_fn(matrix.rows(), matrix.columns(), |i, j| shrunk[(i, j)]))
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::RowMatrix;

    use super::{Measurements, SensingProblem, SensingReferenceSpec, least_nuclear};

    #[test]
    fn a_matrix_of_rank_one_is_found_by_its_nuclear_norm_alone() {
        let problem = SensingProblem { dim: 6, sample_count: 30 };
        let result = SensingReferenceSpec { problem, with_stability: true, seed: 1 }.run().unwrap();
        assert!(result.nuclear_error < 1e-12, "{result:?}");
        assert!(result.nuclear_gap.abs() < 1e-6 && result.frobenius_error > 0.01, "{result:?}");
        let stability = result.stability.unwrap();
        let gap = stability.target.weighted_norm / stability.least_weighted_norm - 1.0;
        assert!(gap.abs() < 1e-6, "{stability:?}");
    }

    #[test]
    fn the_cheaper_entry_is_taken() {
        // 3W₁₁ + 4W₂₂ = 8: W₂₂ = 2 has the nuclear norm 2.
        let inputs = RowMatrix::new(1, 4, vec![3.0, 0.0, 0.0, 4.0]).unwrap();
        let found = least_nuclear(&Measurements::new(2, &inputs, &[8.0]).unwrap()).unwrap();
        for (value, expected) in found.matrix.values().iter().zip([0.0, 0.0, 0.0, 2.0]) {
            assert!((value - expected).abs() < 1e-6, "{:?}", found.matrix);
        }
        assert!((found.lower - 2.0).abs() < 1e-6);
    }
}
