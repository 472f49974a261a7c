//! A model near one point, as its derivatives see it.

use std::fmt::{self, Debug};
use std::ops::Range;

use flatmin_linalg::{RowMatrix, simd};

use crate::{Dataset, Model};

/// The derivatives of a model at fixed parameters θ on s samples, with the residuals
/// `r_i = f(x_i; θ) − y_i ∈ R^k` in one flat slice of length sk.
///
/// `J` is the Jacobian of these samples, sk × p. Products are exact and sums over the samples, not means.
/// Every method panics when a slice has another length than said.
pub trait Linearization: Send + Sync {
    /// The residuals, s × k row by row.
    fn residuals(&self) -> &[f64];

    /// Writes the Jacobian–vector product `J v`, s × k row by row, to `product`.
    fn jvp(&self, vector: &[f64], product: &mut [f64]);

    /// Adds the vector–Jacobian product `Jᵀ u`, of length p, to `product`; u is s × k row by row.
    fn add_vjp(&self, weights: &[f64], product: &mut [f64]);

    /// Adds the gradient of `½ Σ_i ‖r_i‖²`, `Jᵀ r`, to `gradient`.
    fn add_gradient(&self, gradient: &mut [f64]) {
        self.add_vjp(self.residuals(), gradient);
    }

    /// Adds `Jᵀ J v`, the product with the Gauss–Newton matrix of `½ Σ_i ‖r_i‖²`, to `product`.
    fn add_gauss_newton_vector_product(&self, vector: &[f64], product: &mut [f64]) {
        let mut outputs = vec![0.0; self.residuals().len()];
        self.jvp(vector, &mut outputs);
        self.add_vjp(&outputs, product);
    }

    /// Adds `Jᵀ J v + Σ_io r_io ∇²f_o(x_i; θ) v`, the product with the Hessian of `½ Σ_i ‖r_i‖²`, to
    /// `product`.
    fn add_hessian_vector_product(&self, vector: &[f64], product: &mut [f64]);
}

/// A linearization that holds its Jacobian: sk × p numbers.
pub(crate) struct DenseLinearization<'a, M: ?Sized> {
    model: &'a M,
    parameters: &'a [f64],
    data: &'a Dataset,
    samples: Range<usize>,
    jacobian: RowMatrix,
    residuals: Vec<f64>,
}

impl<'a, M: Model + ?Sized> DenseLinearization<'a, M> {
    pub(crate) fn new(
        model: &'a M,
        parameters: &'a [f64],
        data: &'a Dataset,
        samples: Range<usize>,
    ) -> Self {
        let inputs = data.inputs_of(samples.clone());
        let jacobian = model.jacobian(parameters, &inputs);
        let mut residuals = model.outputs(parameters, &inputs);
        subtract(&mut residuals, data.targets_of(samples.clone()));
        Self { model, parameters, data, samples, jacobian, residuals }
    }
}

/// Makes residuals of outputs.
pub(crate) fn subtract(outputs: &mut [f64], targets: &[f64]) {
    assert_eq!(outputs.len(), targets.len(), "number of outputs");
    for (output, target) in outputs.iter_mut().zip(targets) {
        *output -= target;
    }
}

impl<M: Model + ?Sized> Debug for DenseLinearization<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DenseLinearization")
            .field("model", &self.model)
            .field("samples", &self.samples)
            .finish_non_exhaustive()
    }
}

impl<M: Model + ?Sized> Linearization for DenseLinearization<'_, M> {
    fn residuals(&self) -> &[f64] {
        &self.residuals
    }

    fn jvp(&self, vector: &[f64], product: &mut [f64]) {
        assert_eq!(product.len(), self.jacobian.rows(), "number of outputs");
        for (row, product) in product.iter_mut().enumerate() {
            *product = simd::dot(self.jacobian.row(row), vector);
        }
    }

    fn add_vjp(&self, weights: &[f64], product: &mut [f64]) {
        assert_eq!(weights.len(), self.jacobian.rows(), "number of outputs");
        for (row, weight) in weights.iter().enumerate() {
            simd::axpy(*weight, self.jacobian.row(row), product);
        }
    }

    fn add_hessian_vector_product(&self, vector: &[f64], product: &mut [f64]) {
        self.add_gauss_newton_vector_product(vector, product);
        let weights = self.residuals.chunks_exact(self.model.output_dim());
        for (sample, weights) in self.samples.clone().zip(weights) {
            let input = self.data.inputs().row(sample);
            self.model.add_second_derivative(self.parameters, input, weights, vector, product);
        }
    }
}
