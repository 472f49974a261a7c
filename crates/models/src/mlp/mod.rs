//! Multilayer perceptrons of any depth.

mod linearization;
mod network;
mod sample;

use std::ops::Range;

use faer::Mat;
use flatmin_linalg::RowMatrix;

use self::linearization::MlpLinearization;
pub use self::network::Mlp;
use self::sample::Sample;
use crate::dataset::Dataset;
use crate::linearization::Linearization;
use crate::model::Model;

impl Model for Mlp {
    fn input_dim(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.inputs)
    }

    fn output_dim(&self) -> usize {
        self.output_count()
    }

    fn parameter_count(&self) -> usize {
        self.parameter_count
    }

    fn output(&self, parameters: &[f64], input: &[f64], output: &mut [f64]) {
        Sample::new(self, parameters, input).write_output(output);
    }

    fn gradient(&self, parameters: &[f64], input: &[f64], gradients: &mut [f64]) {
        let entries = self.output_dim() * self.parameter_count;
        assert_eq!(gradients.len(), entries, "entries of the gradients");
        let sample = Sample::new(self, parameters, input);
        let mut weights = vec![0.0; self.output_dim()];
        for (o, gradient) in gradients.chunks_exact_mut(self.parameter_count).enumerate() {
            gradient.fill(0.0);
            weights[o] = 1.0;
            sample.add_gradient(&weights, gradient);
            weights[o] = 0.0;
        }
    }

    fn add_second_derivative(
        &self,
        parameters: &[f64],
        input: &[f64],
        weights: &[f64],
        vector: &[f64],
        product: &mut [f64],
    ) {
        Sample::new(self, parameters, input).add_second_derivative(weights, vector, product);
    }

    fn outputs(&self, parameters: &[f64], inputs: &RowMatrix) -> Vec<f64> {
        self.check(parameters);
        linearization::outputs(self, parameters, inputs)
    }

    /// `K = (1/n) Σ_l (Δ_l Δ_lᵀ) ∘ ((H_{l−1} H_{l−1}ᵀ + [biases]) ⊗ 1 1ᵀ)`, where row `i·k + o` of
    /// `Δ_l` is the gradient of output o of sample i with respect to the pre-activations of layer
    /// l. The products run over widths instead of parameters.
    fn gram(&self, parameters: &[f64], inputs: &RowMatrix) -> Mat<f64> {
        self.check(parameters);
        linearization::gram(self, parameters, inputs)
    }

    /// As [`gram`](Self::gram), without the factor 1/n.
    fn cross_gram(&self, parameters: &[f64], left: &RowMatrix, right: &RowMatrix) -> Mat<f64> {
        self.check(parameters);
        linearization::cross_gram(self, parameters, left, right)
    }

    fn linearize<'a>(
        &'a self,
        parameters: &'a [f64],
        data: &'a Dataset,
        samples: Range<usize>,
    ) -> Box<dyn Linearization + 'a> {
        self.check(parameters);
        Box::new(MlpLinearization::new(self, parameters, data, samples))
    }

    /// Counts activations, slopes and gradients of every hidden neuron, and second derivatives if
    /// they do not vanish everywhere.
    fn linearization_bytes(&self) -> usize {
        let matrices = if self.activation.is_piecewise_linear() { 3 } else { 4 };
        let hidden: usize = self.layers[1..].iter().map(|layer| layer.inputs).sum();
        (matrices * hidden + 2 * self.output_dim()) * size_of::<f64>()
    }
}
