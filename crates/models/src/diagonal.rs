//! Diagonal linear networks, `f(x) = ⟨a ⊙ b, x⟩`.

use flatmin_linalg::{RowMatrix, Sharpness, simd};
use rand::{Rng, RngExt as _};
use rand_distr::{Distribution as _, StandardNormal};

use crate::model::{Model, scaled_gram};
use crate::size::SizeError;

/// A two-layer diagonal linear network: `f(x; θ) = Σ_j a_j b_j x_j`, linear in x with the
/// coefficients `β = a ⊙ b`.
///
/// Parameters: `a` (d), then `b` (d).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiagonalLinear {
    input_dim: usize,
}

impl DiagonalLinear {
    /// A network on inputs of dimension `input_dim`.
    ///
    /// # Errors
    /// [`SizeError`] when it is zero.
    pub fn new(input_dim: usize) -> Result<Self, SizeError> {
        if input_dim == 0 {
            return Err(SizeError { what: "the input dimension" });
        }
        Ok(Self { input_dim })
    }

    /// The layers `a` and `b`.
    ///
    /// # Panics
    /// When `parameters` does not have 2d entries.
    pub fn split<'a>(&self, parameters: &'a [f64]) -> (&'a [f64], &'a [f64]) {
        assert_eq!(parameters.len(), self.parameter_count(), "number of parameters");
        parameters.split_at(self.input_dim)
    }

    /// Random initial parameters: `a_j, b_j ~ N(0, 1)`.
    pub fn initial_parameters(&self, rng: &mut impl Rng) -> Vec<f64> {
        (0..self.parameter_count()).map(|_| StandardNormal.sample(rng)).collect()
    }

    /// Random initial parameters with the balance ratio `balance_ratio` = r ≥ 1 in every
    /// coordinate: `a_j ~ N(0, 0.1)` (variance) and `b_j = ±c |a_j|` with `c = r + √(r² − 1)`, so
    /// that `(1 + c²)/2c = r`.
    pub fn unbalanced_parameters(&self, balance_ratio: f64, rng: &mut impl Rng) -> Vec<f64> {
        let c = balance_ratio + (balance_ratio * balance_ratio - 1.0).max(0.0).sqrt();
        let a: Vec<f64> = (0..self.input_dim)
            .map(|_| {
                let normal: f64 = StandardNormal.sample(rng);
                normal * 0.1_f64.sqrt()
            })
            .collect();
        let b = a.iter().map(|a| c * a.abs() * if rng.random() { 1.0 } else { -1.0 });
        let b: Vec<f64> = b.collect();
        [a, b].concat()
    }

    /// The balanced network with the coefficients `coefficients`: `a_j = √|β_j|` and
    /// `b_j = sign(β_j)√|β_j|`. Of all networks with these coefficients it has the smallest
    /// sharpness (D1).
    ///
    /// # Panics
    /// When the number of coefficients is not d.
    pub fn balanced_parameters(&self, coefficients: &[f64]) -> Vec<f64> {
        assert_eq!(coefficients.len(), self.input_dim, "number of coefficients");
        let a = coefficients.iter().map(|beta| beta.abs().sqrt());
        let b = coefficients.iter().map(|beta| beta.abs().sqrt().copysign(*beta));
        a.chain(b).collect()
    }

    /// The coefficients `β = a ⊙ b` of the linear function.
    pub fn coefficients(&self, parameters: &[f64]) -> Vec<f64> {
        let (a, b) = self.split(parameters);
        a.iter().zip(b).map(|(a, b)| a * b).collect()
    }

    /// `‖β‖_1 = Σ_j |a_j b_j|`.
    pub fn l1_norm(&self, parameters: &[f64]) -> f64 {
        let (a, b) = self.split(parameters);
        a.iter().zip(b).map(|(a, b)| (a * b).abs()).sum()
    }

    /// The balance ratio `r(θ) = Σ_j (a_j² + b_j²) / (2 Σ_j |a_j b_j|) ≥ 1`; 1 iff every pair of
    /// layers is balanced, `|a_j| = |b_j|`. Infinite when β = 0 but θ ≠ 0, NaN when θ = 0.
    pub fn balance_ratio(&self, parameters: &[f64]) -> f64 {
        simd::norm_squared(parameters) / (2.0 * self.l1_norm(parameters))
    }

    /// Sharpness of the population matrix `Ḡ = E[∇f(x)∇f(x)ᵀ]` for inputs with independent
    /// coordinates of mean zero and variance `input_variance` = s².
    ///
    /// Its nonzero eigenvalues are `s²(a_j² + b_j²)`, one per coordinate (D1).
    pub fn population_sharpness(&self, parameters: &[f64], input_variance: f64) -> Sharpness {
        let (a, b) = self.split(parameters);
        let (mut trace, mut squares, mut lambda_max) = (0.0, 0.0, 0.0_f64);
        for (a, b) in a.iter().zip(b) {
            let eigenvalue = input_variance * a.mul_add(*a, b * b);
            trace += eigenvalue;
            squares += eigenvalue * eigenvalue;
            lambda_max = lambda_max.max(eigenvalue);
        }
        Sharpness { trace, frobenius_norm: squares.sqrt(), lambda_max }
    }
}

impl Model for DiagonalLinear {
    fn input_dim(&self) -> usize {
        self.input_dim
    }

    fn parameter_count(&self) -> usize {
        2 * self.input_dim
    }

    fn output(&self, parameters: &[f64], input: &[f64], output: &mut [f64]) {
        let (a, b) = self.split(parameters);
        assert_eq!((input.len(), output.len()), (self.input_dim, 1), "dimensions");
        output[0] = a.iter().zip(b).zip(input).map(|((a, b), x)| a * b * x).sum();
    }

    fn gradient(&self, parameters: &[f64], input: &[f64], gradient: &mut [f64]) {
        let (a, b) = self.split(parameters);
        assert_eq!(input.len(), self.input_dim, "dimension of the input");
        assert_eq!(gradient.len(), 2 * self.input_dim, "entries of the gradient");
        let (d_a, d_b) = gradient.split_at_mut(self.input_dim);
        for (j, x) in input.iter().enumerate() {
            d_a[j] = b[j] * x;
            d_b[j] = a[j] * x;
        }
    }

    /// The only second derivatives are `∂²f/∂a_j∂b_j = x_j`.
    fn add_second_derivative(
        &self,
        _parameters: &[f64],
        input: &[f64],
        weights: &[f64],
        vector: &[f64],
        product: &mut [f64],
    ) {
        let (v_a, v_b) = self.split(vector);
        assert_eq!((input.len(), weights.len()), (self.input_dim, 1), "dimensions");
        assert_eq!(product.len(), 2 * self.input_dim, "entries of the product");
        let (d_a, d_b) = product.split_at_mut(self.input_dim);
        for (j, x) in input.iter().enumerate() {
            d_a[j] += weights[0] * x * v_b[j];
            d_b[j] += weights[0] * x * v_a[j];
        }
    }

    fn outputs(&self, parameters: &[f64], inputs: &RowMatrix) -> Vec<f64> {
        let coefficients = self.coefficients(parameters);
        (0..inputs.rows()).map(|i| simd::dot(&coefficients, inputs.row(i))).collect()
    }

    /// `K_ij = (1/n) Σ_k x_ik x_jk (a_k² + b_k²)`: a product over d instead of 2d columns.
    fn gram(&self, parameters: &[f64], inputs: &RowMatrix) -> faer::Mat<f64> {
        let (a, b) = self.split(parameters);
        let weights: Vec<f64> = a.iter().zip(b).map(|(a, b)| a.mul_add(*a, b * b).sqrt()).collect();
        let scaled =
            RowMatrix::from_fn(inputs.rows(), self.input_dim, |i, k| inputs.row(i)[k] * weights[k]);
        scaled_gram(&scaled, 1.0 / inputs.rows() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::DiagonalLinear;

    #[test]
    fn unbalanced_networks_have_their_ratio() {
        let model = DiagonalLinear::new(50).unwrap();
        for ratio in [1.0, 1.5, 20.0] {
            let mut rng = flatmin_linalg::stream(0, "unbalanced test", 0);
            let parameters = model.unbalanced_parameters(ratio, &mut rng);
            let measured = model.balance_ratio(&parameters);
            assert!((measured / ratio - 1.0).abs() < 1e-12, "{measured} against {ratio}");
        }
    }

    #[test]
    fn the_balanced_network_has_its_coefficients_and_attains_the_norms() {
        let model = DiagonalLinear::new(4).unwrap();
        let beta = [4.0, -9.0, 0.0, 0.25];
        let parameters = model.balanced_parameters(&beta);
        assert_eq!(model.coefficients(&parameters), beta);
        assert!((model.balance_ratio(&parameters) - 1.0).abs() < 1e-15);
        let sharpness = model.population_sharpness(&parameters, 0.5);
        assert!((sharpness.trace - 13.25).abs() < 1e-14);
        assert!((sharpness.lambda_max - 9.0).abs() < 1e-14);
    }
}
