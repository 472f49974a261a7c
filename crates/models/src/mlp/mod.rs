//! Multilayer perceptrons of any depth.

mod activation;
mod linearization;
mod sample;

use std::ops::Range;

use faer::{Mat, MatRef};
use flatmin_linalg::RowMatrix;
use rand::Rng;
use rand_distr::{Distribution as _, StandardNormal};

pub(crate) use self::activation::rectified;
pub use self::activation::{Activation, UnknownActivation};
use self::linearization::MlpLinearization;
use crate::{Dataset, Linearization, Model, SizeError};

/// A multilayer perceptron: `h_0 = x`, `h_l = σ(W_l h_{l−1} + b_l)` for l < L, `f(x; θ) = W_L h_{L−1} + b_L`.
///
/// Parameters: layer by layer `W_l` (`m_l` × `m_{l−1}`, row by row), then `b_l` (`m_l`) if there are biases:
/// the order of PyTorch's `parameters()` of a `Sequential` of `Linear` layers.
///
/// ```
/// use flatmin_models::{Activation, Mlp, Model as _};
/// let model = Mlp::new(&[784, 256, 256, 10], Activation::Relu, true)?;
/// assert_eq!(model.parameter_count(), 269_322);
/// assert_eq!(model.output_dim(), 10);
/// # Ok::<(), flatmin_models::SizeError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mlp {
    layers: Vec<Layer>,
    activation: Activation,
    parameter_count: usize,
}

/// An affine map between two layers, and where its parameters are.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Layer {
    inputs: usize,
    outputs: usize,
    weights: Range<usize>,
    /// Empty without biases.
    biases: Range<usize>,
}

impl Mlp {
    /// A network with these widths, from the input dimension d over those of the hidden layers to the
    /// number k of outputs; two widths make a linear model.
    ///
    /// # Errors
    /// [`SizeError`] when a width is zero, there are fewer than two, or there are more parameters than
    /// a machine can count.
    pub fn new(
        widths: &[usize],
        activation: Activation,
        has_biases: bool,
    ) -> Result<Self, SizeError> {
        if widths.len() < 2 {
            return Err(SizeError { what: "the number of layers" });
        }
        if widths.contains(&0) {
            return Err(SizeError { what: "every width of a network" });
        }
        let mut layers = Vec::with_capacity(widths.len() - 1);
        let mut end = 0_usize;
        for pair in widths.windows(2) {
            let (inputs, outputs) = (pair[0], pair[1]);
            let too_many =
                SizeError { what: "the number of bytes left for a network's parameters" };
            let weights_end = inputs.checked_mul(outputs).and_then(|count| count.checked_add(end));
            let weights = end..weights_end.ok_or(too_many)?;
            let bias_count = if has_biases { outputs } else { 0 };
            let biases = weights.end..weights.end.checked_add(bias_count).ok_or(too_many)?;
            end = biases.end;
            if end > isize::MAX as usize / size_of::<f64>() {
                return Err(too_many);
            }
            layers.push(Layer { inputs, outputs, weights, biases });
        }
        Ok(Self { layers, activation, parameter_count: end })
    }

    /// Number L of affine layers.
    pub fn depth(&self) -> usize {
        self.layers.len()
    }

    /// The widths, from the input dimension to the number of outputs.
    pub fn widths(&self) -> Vec<usize> {
        let first = self.layers.first().map(|layer| layer.inputs);
        first.into_iter().chain(self.layers.iter().map(|layer| layer.outputs)).collect()
    }

    /// The activation function of the hidden layers.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// Whether the layers have biases.
    pub fn has_biases(&self) -> bool {
        self.layers.iter().any(|layer| !layer.biases.is_empty())
    }

    /// Where the weights and the biases of every layer are among the parameters; without biases the
    /// second range is empty.
    pub fn parameter_ranges(&self) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        self.layers.iter().map(|layer| (layer.weights.clone(), layer.biases.clone()))
    }

    /// Random initial parameters: weights `N(0, g/m_{l−1})` with the gain g = 2 for ReLU and GELU (He et
    /// al. 2015) and 1 else, and for the last layer; biases zero.
    pub fn initial_parameters(&self, rng: &mut impl Rng) -> Vec<f64> {
        let mut parameters = vec![0.0; self.parameter_count];
        for (l, layer) in self.layers.iter().enumerate() {
            let is_rectifier = matches!(self.activation, Activation::Relu | Activation::Gelu);
            let gain = if is_rectifier && l + 1 < self.depth() { 2.0 } else { 1.0 };
            let deviation = f64::sqrt(gain / layer.inputs as f64);
            for weight in &mut parameters[layer.weights.clone()] {
                let normal: f64 = StandardNormal.sample(rng);
                *weight = deviation * normal;
            }
        }
        parameters
    }

    fn check(&self, parameters: &[f64]) {
        assert_eq!(parameters.len(), self.parameter_count, "number of parameters");
    }
}

impl Layer {
    /// `W_lᵀ`, inputs × outputs, in columns.
    fn weights<'a>(&self, parameters: &'a [f64]) -> MatRef<'a, f64> {
        let weights = &parameters[self.weights.clone()];
        MatRef::from_column_major_slice(weights, self.inputs, self.outputs)
    }

    fn biases<'a>(&self, parameters: &'a [f64]) -> &'a [f64] {
        &parameters[self.biases.clone()]
    }
}

impl Model for Mlp {
    fn input_dim(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.inputs)
    }

    fn output_dim(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.outputs)
    }

    fn parameter_count(&self) -> usize {
        self.parameter_count
    }

    fn output(&self, parameters: &[f64], input: &[f64], output: &mut [f64]) {
        self.sample(parameters, input).write_output(output);
    }

    fn gradient(&self, parameters: &[f64], input: &[f64], gradients: &mut [f64]) {
        let entries = self.output_dim() * self.parameter_count;
        assert_eq!(gradients.len(), entries, "entries of the gradients");
        let sample = self.sample(parameters, input);
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
        self.sample(parameters, input).add_second_derivative(weights, vector, product);
    }

    fn outputs(&self, parameters: &[f64], inputs: &RowMatrix) -> Vec<f64> {
        self.check(parameters);
        linearization::outputs(self, parameters, inputs)
    }

    /// `K = (1/n) Σ_l (Δ_l Δ_lᵀ) ∘ ((H_{l−1} H_{l−1}ᵀ + [biases]) ⊗ 1 1ᵀ)`, where row `i·k + o` of
    /// `Δ_l` is the gradient of output o of sample i by the pre-activations of layer l: products over
    /// widths instead of parameters.
    fn gram(&self, parameters: &[f64], inputs: &RowMatrix) -> Mat<f64> {
        self.check(parameters);
        linearization::gram(self, parameters, inputs)
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

    /// Activations, slopes and gradients of every hidden neuron, bends too where there are any.
    fn linearization_bytes(&self) -> usize {
        let matrices = if self.activation.is_piecewise_linear() { 3 } else { 4 };
        let hidden: usize = self.layers[1..].iter().map(|layer| layer.inputs).sum();
        (matrices * hidden + 2 * self.output_dim()) * size_of::<f64>()
    }
}

/// The entries of a matrix row by row.
fn row_by_row(matrix: MatRef<'_, f64>) -> Vec<f64> {
    let mut values = vec![0.0; matrix.nrows() * matrix.ncols()];
    for (j, column) in matrix.col_iter().enumerate() {
        for (i, value) in column.iter().enumerate() {
            values[i * matrix.ncols() + j] = *value;
        }
    }
    values
}
