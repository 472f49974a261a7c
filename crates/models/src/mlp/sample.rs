//! The pass of one input through a perceptron, by the plain definition.

use flatmin_linalg::simd;

use super::network::{Layer, Mlp};
use crate::activation::Activated;

/// One input, with the values of all layers.
pub(super) struct Sample<'a> {
    model: &'a Mlp,
    parameters: &'a [f64],
    input: &'a [f64],
    /// The hidden layers: σ and its derivatives at each neuron.
    hidden: Vec<Vec<Activated>>,
    /// `h_l` of the hidden layers.
    values: Vec<Vec<f64>>,
    output: Vec<f64>,
}

/// `W h + b`, for parameters or for a direction in parameter space.
fn affine(layer: &Layer, parameters: &[f64], input: &[f64]) -> Vec<f64> {
    let rows = parameters[layer.weights.clone()].chunks_exact(layer.inputs);
    let mut z: Vec<f64> = rows.map(|row| simd::dot(row, input)).collect();
    for (z, bias) in z.iter_mut().zip(layer.biases(parameters)) {
        *z += bias;
    }
    z
}

/// `Wᵀ δ`.
fn pull(layer: &Layer, parameters: &[f64], delta: &[f64]) -> Vec<f64> {
    let mut pulled = vec![0.0; layer.inputs];
    let rows = parameters[layer.weights.clone()].chunks_exact(layer.inputs);
    for (row, delta) in rows.zip(delta) {
        simd::axpy(*delta, row, &mut pulled);
    }
    pulled
}

/// Adds `δ hᵀ` to the weights.
fn add_outer(layer: &Layer, delta: &[f64], input: &[f64], gradient: &mut [f64]) {
    let rows = gradient[layer.weights.clone()].chunks_exact_mut(layer.inputs);
    for (row, delta) in rows.zip(delta) {
        simd::axpy(*delta, input, row);
    }
}

fn add_bias(layer: &Layer, delta: &[f64], gradient: &mut [f64]) {
    for (bias, delta) in gradient[layer.biases.clone()].iter_mut().zip(delta) {
        *bias += delta;
    }
}

impl<'a> Sample<'a> {
    pub(super) fn new(model: &'a Mlp, parameters: &'a [f64], input: &'a [f64]) -> Self {
        model.check(parameters);
        assert_eq!(input.len(), model.layers[0].inputs, "dimension of the input");
        let last = model.depth() - 1;
        let mut hidden: Vec<Vec<Activated>> = Vec::with_capacity(last);
        let mut values: Vec<Vec<f64>> = Vec::with_capacity(last);
        for layer in &model.layers[..last] {
            let z = affine(layer, parameters, values.last().map_or(input, Vec::as_slice));
            let activated: Vec<Activated> = z.into_iter().map(|z| model.activation.at(z)).collect();
            values.push(activated.iter().map(|a| a.value).collect());
            hidden.push(activated);
        }
        let top = values.last().map_or(input, Vec::as_slice);
        let output = affine(&model.layers[last], parameters, top);
        Self { model, parameters, input, hidden, values, output }
    }

    /// `h_{l−1}`, the input of layer l (from 0).
    fn input(&self, l: usize) -> &[f64] {
        if l == 0 { self.input } else { &self.values[l - 1] }
    }

    pub(super) fn write_output(&self, output: &mut [f64]) {
        output.copy_from_slice(&self.output);
    }

    /// Adds `Σ_o weights_o ∇f_o`.
    pub(super) fn add_gradient(&self, weights: &[f64], gradient: &mut [f64]) {
        let mut delta = weights.to_vec();
        for (l, layer) in self.model.layers.iter().enumerate().rev() {
            add_outer(layer, &delta, self.input(l), gradient);
            add_bias(layer, &delta, gradient);
            if l > 0 {
                let pulled = pull(layer, self.parameters, &delta);
                let pairs = self.hidden[l - 1].iter().zip(pulled);
                delta = pairs.map(|(a, pulled)| a.slope * pulled).collect();
            }
        }
    }

    /// Adds `Σ_o weights_o ∇²f_o v`: the derivative of [`add_gradient`](Self::add_gradient) along
    /// v.
    pub(super) fn add_second_derivative(
        &self,
        weights: &[f64],
        vector: &[f64],
        product: &mut [f64],
    ) {
        self.model.check(vector);
        self.model.check(product);
        assert_eq!(weights.len(), self.output.len(), "number of weights");
        let layers = &self.model.layers;
        // Forward: the derivatives of z_l and h_l along v.
        let (mut moved, mut moved_values) = (Vec::new(), Vec::<Vec<f64>>::new());
        for (l, layer) in layers[..layers.len() - 1].iter().enumerate() {
            let mut z = affine(layer, vector, self.input(l));
            if l > 0 {
                let rows = self.parameters[layer.weights.clone()].chunks_exact(layer.inputs);
                for (z, row) in z.iter_mut().zip(rows) {
                    *z += simd::dot(row, &moved_values[l - 1]);
                }
            }
            moved_values.push(z.iter().zip(&self.hidden[l]).map(|(z, a)| a.slope * z).collect());
            moved.push(z);
        }
        // Backward: δ and its derivative along v, which is zero at the outputs.
        let (mut delta, mut moved_delta) = (weights.to_vec(), vec![0.0; weights.len()]);
        for (l, layer) in layers.iter().enumerate().rev() {
            add_outer(layer, &moved_delta, self.input(l), product);
            add_bias(layer, &moved_delta, product);
            if l == 0 {
                break;
            }
            add_outer(layer, &delta, &moved_values[l - 1], product);
            let pulled = pull(layer, self.parameters, &delta);
            let mut moved_pulled = pull(layer, self.parameters, &moved_delta);
            for (sum, value) in moved_pulled.iter_mut().zip(pull(layer, vector, &delta)) {
                *sum += value;
            }
            let neurons = self.hidden[l - 1].iter().zip(&pulled);
            delta = neurons.clone().map(|(a, pulled)| a.slope * pulled).collect();
            moved_delta = neurons
                .zip(moved_pulled.iter().zip(&moved[l - 1]))
                .map(|((a, pulled), (moved, z))| a.slope * moved + a.bend * z * pulled)
                .collect();
        }
    }
}
