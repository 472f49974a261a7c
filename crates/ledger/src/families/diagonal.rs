//! Diagonal linear networks.

use flatmin_linalg::Sharpness;
use flatmin_models::{DiagonalLinear, Model as _};

use crate::prelude::*;

/// Hypothesis of the statements about the population.
pub(crate) const DIAGONAL_INPUTS: &str =
    "inputs with independent coordinates of mean 0 and variance s²";

/// The parameters of a network with `dim` inputs, from one of several deliberately hard families.
pub(crate) fn random_parameters(dim: usize, rng: &mut dyn Rng) -> Vec<f64> {
    let mut a: Vec<f64> = (0..dim).map(|_| normal(rng)).collect();
    let mut b: Vec<f64> = (0..dim).map(|_| normal(rng)).collect();
    match rng.random_range(0..5) {
        // Generic.
        0 => {}
        // Balanced.
        1 => {
            for (a, b) in a.iter().zip(&mut b) {
                *b = a.copysign(*b);
            }
        }
        // Heavy-tailed and unbalanced.
        2 => {
            for (a, b) in a.iter_mut().zip(&mut b) {
                *a *= heavy_tailed(rng);
                *b *= power_of_ten(rng, 4.0);
            }
        }
        // Sparse, with coordinates whose layers vanish together or one by one.
        3 => {
            for value in a.iter_mut().chain(&mut b) {
                if rng.random_bool(0.4) {
                    *value = 0.0;
                }
            }
        }
        // Nearly balanced.
        _ => {
            for (a, b) in a.iter().zip(&mut b) {
                *b = a + 1e-8 * *b;
            }
        }
    }
    [a, b].concat()
}

/// A network and the variance s² of the coordinates of its inputs, which are independent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Population<'a> {
    pub(crate) model: DiagonalLinear,
    pub(crate) parameters: &'a [f64],
    pub(crate) input_variance: f64,
}

impl Population<'_> {
    /// The Jacobian at the d points `s√d e_j`. The entries of the population matrix are second
    /// moments of the inputs, so the mean of `∇f ∇fᵀ` over these points, whose covariance is
    /// `s² I`, is exact.
    fn jacobian(&self) -> RowMatrix {
        let d = self.model.input_dim();
        let radius = (self.input_variance * d as f64).sqrt();
        let points = RowMatrix::from_fn(d, d, |i, j| if i == j { radius } else { 0.0 });
        self.model.jacobian(self.parameters, &points)
    }

    /// The trace of the population matrix.
    pub(crate) fn trace(&self) -> f64 {
        let jacobian = self.jacobian();
        jacobian.values().iter().map(|g| g * g).sum::<f64>() / self.model.input_dim() as f64
    }

    /// The sharpness of the dense population matrix.
    pub(crate) fn sharpness(&self) -> Result<Sharpness, LedgerError> {
        let jacobian = self.jacobian();
        let product = jacobian.as_mat().transpose() * jacobian.as_mat();
        let matrix: Mat<f64> = faer::Scale(1.0 / self.model.input_dim() as f64) * product;
        let values = symmetric_eigenvalues(matrix.as_ref())?;
        Ok(Sharpness {
            trace: (0..matrix.nrows()).map(|k| matrix[(k, k)]).sum(),
            frobenius_norm: matrix.norm_l2(),
            lambda_max: values.last().copied().unwrap_or(0.0),
        })
    }
}
