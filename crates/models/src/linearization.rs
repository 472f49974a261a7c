//! The derivatives of a model at fixed parameters, as products with vectors.

use crate::loss::OutputLoss;

/// The derivatives of a model at fixed parameters θ on s samples, with the loss `ℓ_i` of each.
///
/// `r_i = ∇ℓ_i ∈ R^k` and `S_i = ∇²ℓ_i` are the derivatives of the losses in the outputs. For the
/// squared loss these are the residuals `f(x_i; θ) − y_i` and the identity.
///
/// `J` is the Jacobian of these samples, sk × p. Products are exact and sums over the samples, not
/// means. Every method panics if a slice does not have the stated length.
pub trait Linearization: Send + Sync {
    /// The losses of the samples and their derivatives in the outputs.
    fn output_loss(&self) -> &OutputLoss;

    /// The residuals r, s × k row by row.
    fn residuals(&self) -> &[f64] {
        self.output_loss().residuals()
    }

    /// Writes the Jacobian–vector product `J v`, s × k row by row, to `product`.
    fn jvp(&self, vector: &[f64], product: &mut [f64]);

    /// Adds the vector–Jacobian product `Jᵀ u`, of length p, to `product`; u is s × k row by row.
    fn add_vjp(&self, weights: &[f64], product: &mut [f64]);

    /// Adds the gradient of `Σ_i ℓ_i`, `Jᵀ r`, to `gradient`.
    fn add_gradient(&self, gradient: &mut [f64]) {
        self.add_vjp(self.residuals(), gradient);
    }

    /// Adds `Σ_i J_iᵀ S_i J_i v`, the product with the Gauss–Newton matrix of `Σ_i ℓ_i`, to
    /// `product`.
    fn add_gauss_newton_vector_product(&self, vector: &[f64], product: &mut [f64]) {
        let mut outputs = vec![0.0; self.residuals().len()];
        self.jvp(vector, &mut outputs);
        self.output_loss().multiply(&mut outputs);
        self.add_vjp(&outputs, product);
    }

    /// Adds `Σ_i J_iᵀ S_i J_i v + Σ_io r_io ∇²f_o(x_i; θ) v`, the product with the Hessian of
    /// `Σ_i ℓ_i`, to `product`.
    fn add_hessian_vector_product(&self, vector: &[f64], product: &mut [f64]);
}
