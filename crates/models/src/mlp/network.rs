//! The layers of a perceptron, and the places of their parameters.

use std::ops::Range;

use faer::MatRef;
use rand::Rng;
use rand_distr::{Distribution as _, StandardNormal};

use crate::activation::Activation;
use crate::size::SizeError;

/// A multilayer perceptron: `h_0 = x`, `h_l = σ(W_l h_{l−1} + b_l)` for l < L,
/// `f(x; θ) = W_L h_{L−1} + b_L`.
///
/// Parameters: layer by layer `W_l` (`m_l` × `m_{l−1}`, row by row), then `b_l` (`m_l`) if there
/// are biases. This is the order of PyTorch's `parameters()` of a `Sequential` of `Linear` layers.
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
    pub(super) layers: Vec<Layer>,
    pub(super) activation: Activation,
    pub(super) parameter_count: usize,
}

/// An affine map between two layers, with the ranges of its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) weights: Range<usize>,
    /// Empty without biases.
    pub(super) biases: Range<usize>,
}

impl Mlp {
    /// A network with these widths: the input dimension d, the widths of the hidden layers, and the
    /// number k of outputs. Two widths make a linear model.
    ///
    /// # Errors
    /// [`SizeError`] when a width is zero, there are fewer than two, or the parameters would not
    /// fit into the address space.
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

    /// True if the layers have biases.
    pub fn has_biases(&self) -> bool {
        self.layers.iter().any(|layer| !layer.biases.is_empty())
    }

    /// The ranges of the weights and of the biases of every layer among the parameters; the second
    /// range is empty without biases.
    pub fn parameter_ranges(&self) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        self.layers.iter().map(|layer| (layer.weights.clone(), layer.biases.clone()))
    }

    /// Random initial parameters: weights `N(0, g/m_{l−1})` with the gain g = 2 for ReLU and GELU
    /// (He et al. 2015), and 1 for other activations and for the last layer; biases are zero.
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

    /// Number k of outputs.
    pub(super) fn output_count(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.outputs)
    }

    pub(super) fn check(&self, parameters: &[f64]) {
        assert_eq!(parameters.len(), self.parameter_count, "number of parameters");
    }
}

impl Layer {
    /// `W_lᵀ`, inputs × outputs, in columns.
    pub(super) fn weights<'a>(&self, parameters: &'a [f64]) -> MatRef<'a, f64> {
        let weights = &parameters[self.weights.clone()];
        MatRef::from_column_major_slice(weights, self.inputs, self.outputs)
    }

    pub(super) fn biases<'a>(&self, parameters: &'a [f64]) -> &'a [f64] {
        &parameters[self.biases.clone()]
    }
}
