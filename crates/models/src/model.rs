//! What every model offers.

use std::fmt::Debug;

use faer::linalg::matmul::triangular::{BlockStructure, matmul};
use faer::{Accum, Mat, Par};
use flatmin_linalg::RowMatrix;

/// A model has a size of zero somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be at least 1")]
pub struct SizeError {
    pub(crate) what: &'static str,
}

/// A scalar function `f(x; θ)` with parameters `θ ∈ R^p` in one flat slice.
///
/// Slices must have the lengths that [`input_dim`](Model::input_dim) and
/// [`parameter_count`](Model::parameter_count) say; every method panics otherwise.
pub trait Model: Debug + Send + Sync {
    /// Dimension d of an input.
    fn input_dim(&self) -> usize;

    /// Number p of parameters.
    fn parameter_count(&self) -> usize;

    /// The output `f(x; θ)`.
    fn output(&self, parameters: &[f64], input: &[f64]) -> f64;

    /// Writes the gradient `∇_θ f(x; θ)`, of length p, to `gradient`.
    fn gradient(&self, parameters: &[f64], input: &[f64], gradient: &mut [f64]);

    /// The outputs on every row of `inputs`.
    fn outputs(&self, parameters: &[f64], inputs: &RowMatrix) -> Vec<f64> {
        (0..inputs.rows()).map(|i| self.output(parameters, inputs.row(i))).collect()
    }

    /// The Jacobian `J`, n × p, with rows `g_i = ∇_θ f(x_i; θ)`.
    fn jacobian(&self, parameters: &[f64], inputs: &RowMatrix) -> RowMatrix {
        let mut jacobian = RowMatrix::zeros(inputs.rows(), self.parameter_count());
        for i in 0..inputs.rows() {
            self.gradient(parameters, inputs.row(i), jacobian.row_mut(i));
        }
        jacobian
    }

    /// The Gram matrix `K = J Jᵀ / n`, n × n, both triangles filled.
    ///
    /// `K` has the nonzero spectrum of the Gauss–Newton matrix `G = JᵀJ/n`. The default forms the
    /// Jacobian, O(n²p); models with structure do better.
    fn gram(&self, parameters: &[f64], inputs: &RowMatrix) -> Mat<f64> {
        let jacobian = self.jacobian(parameters, inputs);
        scaled_gram(&jacobian, 1.0 / inputs.rows() as f64)
    }
}

/// `scale · A Aᵀ` for a row-major `A`, both triangles filled.
pub(crate) fn scaled_gram(a: &RowMatrix, scale: f64) -> Mat<f64> {
    let n = a.rows();
    let mut gram = Mat::zeros(n, n);
    matmul(
        gram.as_mut(),
        BlockStructure::TriangularLower,
        Accum::Replace,
        a.as_mat(),
        BlockStructure::Rectangular,
        a.as_mat().transpose(),
        BlockStructure::Rectangular,
        scale,
        Par::Seq,
    );
    fill_upper(&mut gram);
    gram
}

/// Copies the lower triangle to the upper one.
pub(crate) fn fill_upper(matrix: &mut Mat<f64>) {
    for column in 1..matrix.ncols() {
        for row in 0..column {
            matrix[(row, column)] = matrix[(column, row)];
        }
    }
}
