//! Two-layer ReLU networks, `f(x) = Σ_j a_j σ(w_jᵀx)`.

mod population;

use faer::{Mat, MatRef};
use flatmin_linalg::{RowMatrix, product, simd};
use rand::Rng;
use rand_distr::{Distribution as _, StandardNormal};

pub use self::population::PopulationGaussNewton;
use crate::activation::rectified;
use crate::model::{Model, fill_upper, scaled_gram};
use crate::size::SizeError;

/// A two-layer ReLU network without biases: `f(x; θ) = Σ_{j≤m} a_j max(w_jᵀx, 0)`.
///
/// Parameters: the hidden weights `W` (m × d, row by row: neuron j's `w_j`), then the output
/// weights `a` (m). The derivative of the ReLU at zero is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TwoLayerRelu {
    width: usize,
    input_dim: usize,
}

impl TwoLayerRelu {
    /// A network with `width` neurons on inputs of dimension `input_dim`.
    ///
    /// # Errors
    /// [`SizeError`] when either is zero.
    pub fn new(width: usize, input_dim: usize) -> Result<Self, SizeError> {
        if width == 0 {
            return Err(SizeError { what: "the width" });
        }
        if input_dim == 0 {
            return Err(SizeError { what: "the input dimension" });
        }
        Ok(Self { width, input_dim })
    }

    /// Number m of neurons.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The hidden weights (m × d, row by row) and the output weights (m).
    ///
    /// # Panics
    /// When `parameters` does not have m(d + 1) entries.
    pub fn split<'a>(&self, parameters: &'a [f64]) -> (&'a [f64], &'a [f64]) {
        assert_eq!(parameters.len(), self.parameter_count(), "number of parameters");
        parameters.split_at(self.width * self.input_dim)
    }

    /// Random initial parameters: `w_j ~ N(0, I_d/√d)` (standard deviation d^(−1/4)) and
    /// `a_j ~ N(0, 1)`, so that hidden weights are on the scale `‖w_j‖ ≈ d^(1/4)`.
    pub fn initial_parameters(&self, rng: &mut impl Rng) -> Vec<f64> {
        let deviation = 1.0 / (self.input_dim as f64).sqrt().sqrt();
        let hidden = self.width * self.input_dim;
        (0..self.parameter_count())
            .map(|k| {
                let normal: f64 = StandardNormal.sample(rng);
                if k < hidden { deviation * normal } else { normal }
            })
            .collect()
    }

    /// The path norm `‖θ‖_P = Σ_j |a_j| ‖w_j‖`.
    pub fn path_norm(&self, parameters: &[f64]) -> f64 {
        let (hidden, output) = self.split(parameters);
        hidden
            .chunks_exact(self.input_dim)
            .zip(output)
            .map(|(w, a)| a.abs() * simd::norm_squared(w).sqrt())
            .sum()
    }

    /// `‖W‖_F²`, the squared norm of the hidden weights.
    pub fn hidden_norm_squared(&self, parameters: &[f64]) -> f64 {
        simd::norm_squared(self.split(parameters).0)
    }

    /// `‖a‖²`, the squared norm of the output weights.
    pub fn output_norm_squared(&self, parameters: &[f64]) -> f64 {
        simd::norm_squared(self.split(parameters).1)
    }

    /// The population Gauss–Newton matrix for `x ~ N(0, I_d)` or `x ~ Unif(√d S^{d−1})`.
    pub fn population(&self, parameters: &[f64]) -> PopulationGaussNewton {
        let (hidden, output) = self.split(parameters);
        PopulationGaussNewton::new(self.input_dim, hidden, output)
    }

    /// Pre-activations `z_ij = w_jᵀx_i`, n × m.
    fn preactivations(&self, hidden: &[f64], inputs: &RowMatrix) -> Mat<f64> {
        let weights = MatRef::from_row_major_slice(hidden, self.width, self.input_dim);
        product(inputs.as_mat(), weights.transpose())
    }
}

impl Model for TwoLayerRelu {
    fn input_dim(&self) -> usize {
        self.input_dim
    }

    fn parameter_count(&self) -> usize {
        self.width * (self.input_dim + 1)
    }

    fn output(&self, parameters: &[f64], input: &[f64], output: &mut [f64]) {
        let (hidden, weights) = self.split(parameters);
        assert_eq!((input.len(), output.len()), (self.input_dim, 1), "dimensions");
        let neurons = hidden.chunks_exact(self.input_dim).zip(weights);
        output[0] = neurons.map(|(w, a)| a * rectified(simd::dot(w, input))).sum();
    }

    fn gradient(&self, parameters: &[f64], input: &[f64], gradient: &mut [f64]) {
        let (hidden, output) = self.split(parameters);
        assert_eq!(input.len(), self.input_dim, "dimension of the input");
        assert_eq!(gradient.len(), self.parameter_count(), "entries of the gradient");
        let (d_hidden, d_output) = gradient.split_at_mut(hidden.len());
        for (j, w) in hidden.chunks_exact(self.input_dim).enumerate() {
            let z = simd::dot(w, input);
            let slope = if z > 0.0 { output[j] } else { 0.0 };
            d_output[j] = rectified(z);
            for (d, x) in d_hidden[j * self.input_dim..][..self.input_dim].iter_mut().zip(input) {
                *d = slope * x;
            }
        }
    }

    /// The only second derivatives are `∂²f/∂a_j∂w_j = 1(w_jᵀx > 0) x`, away from the kinks.
    fn add_second_derivative(
        &self,
        parameters: &[f64],
        input: &[f64],
        weights: &[f64],
        vector: &[f64],
        product: &mut [f64],
    ) {
        let (hidden, _) = self.split(parameters);
        let (v_hidden, v_output) = self.split(vector);
        assert_eq!((input.len(), weights.len()), (self.input_dim, 1), "dimensions");
        assert_eq!(product.len(), self.parameter_count(), "entries of the product");
        let (d_hidden, d_output) = product.split_at_mut(hidden.len());
        for (j, w) in hidden.chunks_exact(self.input_dim).enumerate() {
            if simd::dot(w, input) > 0.0 {
                let row = j * self.input_dim..(j + 1) * self.input_dim;
                simd::axpy(weights[0] * v_output[j], input, &mut d_hidden[row.clone()]);
                d_output[j] += weights[0] * simd::dot(input, &v_hidden[row]);
            }
        }
    }

    fn outputs(&self, parameters: &[f64], inputs: &RowMatrix) -> Vec<f64> {
        let (hidden, output) = self.split(parameters);
        let z = self.preactivations(hidden, inputs);
        let mut outputs = vec![0.0; inputs.rows()];
        for (column, a) in z.col_iter().zip(output) {
            for (f, z) in outputs.iter_mut().zip(column.iter()) {
                *f += a * rectified(*z);
            }
        }
        outputs
    }

    /// `K_ij = (1/n) [Σ_k σ(z_ik)σ(z_jk) + (x_i·x_j) Σ_k a_k² 1(z_ik>0) 1(z_jk>0)]`: three small
    /// products, O(n²(2m + d)) instead of O(n²md).
    fn gram(&self, parameters: &[f64], inputs: &RowMatrix) -> Mat<f64> {
        let n = inputs.rows();
        let (hidden, output) = self.split(parameters);
        let z = self.preactivations(hidden, inputs);
        // Row-major copies: row i holds sample i's activations, and its masked output weights.
        let activations = RowMatrix::from_fn(n, self.width, |i, k| rectified(z[(i, k)]));
        let slopes =
            RowMatrix::from_fn(n, self.width, |i, k| if z[(i, k)] > 0.0 { output[k] } else { 0.0 });
        let scale = 1.0 / n as f64;
        let mut gram = scaled_gram(&activations, scale);
        let slopes = scaled_gram(&slopes, scale);
        let products = scaled_gram(inputs, 1.0);
        for j in 0..n {
            for i in j..n {
                gram[(i, j)] += slopes[(i, j)] * products[(i, j)];
            }
        }
        fill_upper(&mut gram);
        gram
    }
}
