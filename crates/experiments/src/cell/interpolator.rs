//! Reference interpolators of a diagonal problem.

use faer::Mat;
use faer::prelude::Solve as _;
use serde::{Deserialize, Serialize};

use super::train::CUBE_VARIANCE;
use super::{CellError, DiagonalProblem};
use flatmin_models::data;

/// The minimum-ℓ2-norm interpolator of the data of a diagonal problem.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct InterpolatorSpec {
    /// The problem; its initial parameters play no part.
    pub problem: DiagonalProblem,
    /// Fixes the data.
    pub seed: u64,
}

/// What the interpolator is like.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct InterpolatorResult {
    /// `‖β̂ − β*‖²`.
    pub coefficient_error: f64,
    /// `‖β̂‖_1`.
    pub l1_norm: f64,
    /// `‖β̂‖_∞`.
    pub max_norm: f64,
    /// Largest |residual|: it interpolates.
    pub largest_residual: f64,
    /// `‖β*‖²`.
    pub target_norm_squared: f64,
    /// `‖β*‖_1`.
    pub target_l1_norm: f64,
    /// Variance s² of an input coordinate.
    pub input_variance: f64,
}

impl InterpolatorSpec {
    pub(super) fn run(&self) -> Result<InterpolatorResult, CellError> {
        let problem = self.problem;
        // The training data of the runs with the same seed.
        let dataset =
            problem.dataset(problem.sample_count, self.seed, "diagonal training inputs")?;
        let inputs = dataset.inputs();
        let n = inputs.rows();
        let x = inputs.as_mat();
        let gram = x * x.transpose();
        let y = Mat::from_fn(n, 1, |i, _| dataset.targets()[i]);
        // β̂ = Xᵀ (X Xᵀ)⁻¹ y; with pivoting, so that dependent rows are no special case.
        let dual = gram.full_piv_lu().solve(&y);
        let beta = x.transpose() * &dual;
        let residuals = x * &beta - &y;
        let target = data::sparse_coefficients(problem.input_dim, problem.nonzero);
        let beta: Vec<f64> = (0..problem.input_dim).map(|j| beta[(j, 0)]).collect();
        Ok(InterpolatorResult {
            coefficient_error: beta.iter().zip(&target).map(|(b, t)| (b - t).powi(2)).sum(),
            l1_norm: beta.iter().map(|b| b.abs()).sum(),
            max_norm: beta.iter().fold(0.0, |m, b| b.abs().max(m)),
            largest_residual: (0..n).fold(0.0, |m, i| residuals[(i, 0)].abs().max(m)),
            target_norm_squared: target.iter().map(|t| t * t).sum(),
            target_l1_norm: target.iter().sum(),
            input_variance: CUBE_VARIANCE,
        })
    }

    pub(super) fn label(&self) -> String {
        format!("minimum-norm interpolator seed {}", self.seed)
    }
}
