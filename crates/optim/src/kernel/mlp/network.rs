//! The perceptron in the layout of its kernels.

use flatmin_linalg::simd::{AlignedVec, padded};
use flatmin_models::{Activation, Dataset};

/// A perceptron on a data set, with padded parameters and inputs.
#[derive(Debug)]
pub(super) struct MlpNetwork<'a> {
    pub(super) data: &'a Dataset,
    pub(super) activation: Activation,
    pub(super) layers: Vec<Layer>,
    /// Inputs, rows padded with zeros.
    pub(super) inputs: AlignedVec,
    /// Length of a padded input.
    pub(super) stride: usize,
    /// `‖x_i‖²`.
    pub(super) input_norms_squared: Vec<f64>,
}

/// An affine map with its parameters, padded with zeros in both directions.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    /// Length of a padded row of the weights.
    pub(super) stride: usize,
    pub(super) has_biases: bool,
    pub(super) weights: AlignedVec,
    pub(super) biases: AlignedVec,
}

impl Layer {
    pub(super) fn new(inputs: usize, outputs: usize, weights: &[f64], biases: &[f64]) -> Self {
        let (stride, rows) = (padded(inputs), padded(outputs));
        let mut layer = Self {
            inputs,
            outputs,
            stride,
            has_biases: !biases.is_empty(),
            weights: AlignedVec::zeros(rows * stride),
            biases: AlignedVec::zeros(rows),
        };
        let rows = layer.weights.chunks_exact_mut(stride);
        for (row, source) in rows.zip(weights.chunks_exact(inputs)) {
            row[..inputs].copy_from_slice(source);
        }
        layer.biases[..biases.len()].copy_from_slice(biases);
        layer
    }
}

/// The neurons of a layer on one or several samples, a padded row for each sample.
#[derive(Debug)]
pub(super) struct Neurons {
    /// `h_l`, or the outputs of the last layer.
    pub(super) values: AlignedVec,
    /// σ'; unused for the last layer.
    pub(super) slopes: AlignedVec,
    /// `δ_l`, the gradient of the loss with respect to the pre-activations.
    pub(super) deltas: AlignedVec,
}

impl Neurons {
    pub(super) fn new(layer: &Layer, samples: usize) -> Self {
        let len = samples * padded(layer.outputs);
        let zeros = || AlignedVec::zeros(len);
        Self { values: zeros(), slopes: zeros(), deltas: zeros() }
    }
}
