//! The derivatives of a model at fixed parameters, as products with vectors.

/// The derivatives of a model at fixed parameters θ on s samples, with the residuals
/// `r_i = f(x_i; θ) − y_i ∈ R^k` in one flat slice of length sk.
///
/// `J` is the Jacobian of these samples, sk × p. Products are exact and sums over the samples, not
/// means. Every method panics if a slice does not have the stated length.
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

    /// Adds `Jᵀ J v + Σ_io r_io ∇²f_o(x_i; θ) v`, the product with the Hessian of `½ Σ_i ‖r_i‖²`,
    /// to `product`.
    fn add_hessian_vector_product(&self, vector: &[f64], product: &mut [f64]);
}
