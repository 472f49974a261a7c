//! Reference interpolators of a diagonal problem.

use faer::Mat;
use flatmin_ledger::basis_pursuit;
use flatmin_linalg::{EigenError, Sharpness, product, simd, symmetric_eigen};
use flatmin_models::data::{self, Split};
use flatmin_models::{Dataset, DiagonalLinear};
use serde::{Deserialize, Serialize};

use super::error::CellError;
use super::linearised::LinearisedPoint;
use super::problem::{CUBE_VARIANCE, DiagonalProblem};
use crate::protocol::SGD;

/// The norm that an interpolator minimises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MinimizedNorm {
    /// ℓ1: basis pursuit.
    L1,
    /// ℓ2.
    L2,
}

/// The interpolator of minimum norm of the data of a diagonal problem.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct InterpolatorSpec {
    /// The problem; its initial parameters and test data play no part.
    pub problem: DiagonalProblem,
    /// The norm.
    pub minimizes: MinimizedNorm,
    /// True to compute the exact thresholds too, which takes eigenproblems of size n.
    pub with_thresholds: bool,
    /// Seed of the data.
    pub seed: u64,
}

/// The properties of an interpolator.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct InterpolatorResult {
    /// `‖β̂ − β*‖²`.
    pub coefficient_error: f64,
    /// `‖β̂‖_1`.
    pub l1_norm: f64,
    /// `‖β̂‖_∞`.
    pub max_norm: f64,
    /// Sharpness of the population Gauss–Newton matrix at the balanced network of β̂.
    pub population: Sharpness,
    /// Largest |residual|, which shows that it interpolates.
    pub largest_residual: f64,
    /// The proof that the norm is the smallest one.
    pub evidence: Evidence,
    /// `‖β*‖²`.
    pub target_norm_squared: f64,
    /// `‖β*‖_1`.
    pub target_l1_norm: f64,
    /// `‖β*‖_∞`.
    pub target_max_norm: f64,
    /// Variance s² of an input coordinate.
    pub input_variance: f64,
    /// Exact thresholds; absent unless asked for.
    pub thresholds: Option<BalancedThresholds>,
}

/// Exact mean-square thresholds η* of SGD (B = 1) at balanced networks, with the empirical matrix
/// of the data: the middle of the interval, to a relative 1e-6. Absent where infinite.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BalancedThresholds {
    /// At the interpolator β̂.
    pub interpolator: Option<f64>,
    /// At the target β*.
    pub target: Option<f64>,
}

/// The proof that no interpolator has a smaller norm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// ℓ2: it lies in the row space of the inputs.
    RowSpace {
        /// Rank of the inputs.
        rank: usize,
    },
    /// ℓ1: a dual vector ν.
    Dual {
        /// An upper bound on `‖Xᵀν‖_∞`: at most 1.
        dual_norm: f64,
        /// `‖β̂‖_1 − yᵀν`.
        gap: f64,
    },
}

impl InterpolatorSpec {
    pub(super) fn run(&self) -> Result<InterpolatorResult, CellError> {
        let problem = self.problem;
        // The training data of the runs with the same seed.
        let dataset = problem.dataset(problem.sample_count, Split::Training, self.seed)?;
        let (beta, evidence) = match self.minimizes {
            MinimizedNorm::L1 => {
                let found = basis_pursuit(dataset.inputs(), dataset.targets())?;
                let evidence = Evidence::Dual { dual_norm: found.dual_norm, gap: found.gap };
                (found.coefficients, evidence)
            }
            MinimizedNorm::L2 => minimum_l2(&dataset)?,
        };
        let model = DiagonalLinear::new(problem.input_dim)?;
        let balanced = model.balanced_parameters(&beta);
        let residuals = (0..dataset.sample_count())
            .map(|i| (simd::dot(dataset.inputs().row(i), &beta) - dataset.targets()[i]).abs());
        let target = data::sparse_coefficients(problem.input_dim, problem.nonzero);
        // With one sample a step all samplings of the closed forms are the same.
        let threshold = |parameters: &[f64]| {
            LinearisedPoint::new(&model, parameters, dataset.inputs()).threshold(SGD)
        };
        let thresholds = if self.with_thresholds {
            Some(BalancedThresholds {
                interpolator: threshold(&balanced)?,
                target: threshold(&model.balanced_parameters(&target))?,
            })
        } else {
            None
        };
        let l1 = |values: &[f64]| values.iter().map(|v| v.abs()).sum();
        let max = |values: &[f64]| values.iter().fold(0.0, |m: f64, v| v.abs().max(m));
        Ok(InterpolatorResult {
            coefficient_error: beta.iter().zip(&target).map(|(b, t)| (b - t).powi(2)).sum(),
            l1_norm: l1(&beta),
            max_norm: max(&beta),
            population: model.population_sharpness(&balanced, CUBE_VARIANCE),
            largest_residual: residuals.fold(0.0, f64::max),
            evidence,
            target_norm_squared: simd::norm_squared(&target),
            target_l1_norm: l1(&target),
            target_max_norm: max(&target),
            input_variance: CUBE_VARIANCE,
            thresholds,
        })
    }

    pub(super) fn label(&self) -> String {
        let name = match self.minimizes {
            MinimizedNorm::L1 => "basis pursuit",
            MinimizedNorm::L2 => "minimum-ℓ2 interpolator",
        };
        format!("{name} n={} seed {}", self.problem.sample_count, self.seed)
    }
}

/// `β̂ = Xᵀ(XXᵀ)⁺y`, and the rank of X. Eigenvalues at most `n·ε` times the largest one are
/// rounding of zero.
fn minimum_l2(dataset: &Dataset) -> Result<(Vec<f64>, Evidence), EigenError> {
    let x = dataset.inputs().as_mat();
    let n = dataset.sample_count();
    let eigen = symmetric_eigen(product(x, x.transpose()).as_ref())?;
    let largest = eigen.values.last().copied().unwrap_or(0.0);
    let cutoff = n as f64 * f64::EPSILON * largest;
    let zeros = eigen.values.iter().filter(|v| **v <= cutoff).count();
    let y = Mat::from_fn(n, 1, |i, _| dataset.targets()[i]);
    let mut dual = product(eigen.vectors.transpose(), y.as_ref());
    for (k, value) in eigen.values.iter().enumerate() {
        dual[(k, 0)] = if k < zeros { 0.0 } else { dual[(k, 0)] / value };
    }
    let dual = product(eigen.vectors.as_ref(), dual.as_ref());
    let beta = product(x.transpose(), dual.as_ref());
    let coefficients = (0..beta.nrows()).map(|j| beta[(j, 0)]).collect();
    Ok((coefficients, Evidence::RowSpace { rank: n - zeros }))
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::RowMatrix;
    use flatmin_models::Dataset;

    use super::{Evidence, minimum_l2};

    #[test]
    fn repeated_inputs_lower_the_rank_and_are_no_special_case() {
        let inputs = RowMatrix::new(3, 2, vec![3.0, 4.0, 3.0, 4.0, 0.0, 0.0]).unwrap();
        let dataset = Dataset::new(inputs, vec![25.0, 25.0, 0.0]).unwrap();
        let (beta, evidence) = minimum_l2(&dataset).unwrap();
        assert_eq!(evidence, Evidence::RowSpace { rank: 1 });
        assert!((beta[0] - 3.0).abs() < 1e-14 && (beta[1] - 4.0).abs() < 1e-14, "{beta:?}");
    }
}
