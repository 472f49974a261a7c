//! Fused steps of the multilayer perceptron.
//!
//! Batch size 1 ([`single`]): the first layer, which is the largest where inputs are long, takes eight
//! steps a sweep over its weights. In the others the update of step t and the forward pass of step t + 1 are one
//! sweep; the pull-back `W_lᵀ δ_l` is the only other time their weights are read. The
//! gradient norm needs no pass of its own: the gradient by `W_l` is `δ_l h_{l−1}ᵀ`, of norm
//! `‖δ_l‖ ‖h_{l−1}‖`. Neurons of a ReLU layer that are off have `δ = 0`: their weights are neither
//! pulled back nor updated.
//!
//! Larger batches ([`batch`]): the gradient is summed up, by sweeps like the above for a few samples and
//! by dense products ([`dense`]) for more.

mod batch;
mod dense;
mod single;
mod tile;

use flatmin_linalg::simd::{self, AlignedVec, padded};
use flatmin_models::{Activation, Dataset, Mlp, Model as _};
use pulp::Arch;

use self::batch::{BatchBuffers, BatchStep};
use self::single::{SingleBuffers, SingleSteps};
use super::step::{Kernel, Segment, Step, Update};

/// The fused kernel of [`Mlp`].
#[derive(Debug)]
pub struct MlpKernel<'a> {
    arch: Arch,
    data: &'a Dataset,
    activation: Activation,
    layers: Vec<Layer>,
    /// Inputs, rows padded with zeros.
    inputs: AlignedVec,
    /// Length of a padded input.
    stride: usize,
    /// `‖x_i‖²`.
    input_norms_squared: Vec<f64>,
    /// Made for the first steps of their kind, as below.
    single: Option<SingleBuffers>,
    batch: Option<BatchBuffers>,
}

/// An affine map with its parameters, padded with zeros in both directions.
#[derive(Debug)]
struct Layer {
    inputs: usize,
    outputs: usize,
    /// Length of a padded row of the weights.
    stride: usize,
    has_biases: bool,
    weights: AlignedVec,
    biases: AlignedVec,
}

/// The neurons of a layer on one or several samples, a padded row per sample.
#[derive(Debug)]
struct Neurons {
    /// `h_l`; of the last layer the outputs.
    values: AlignedVec,
    /// σ'; not used of the last layer.
    slopes: AlignedVec,
    /// `δ_l`, the gradient of the loss by the pre-activations.
    deltas: AlignedVec,
}

impl Neurons {
    fn new(layer: &Layer, samples: usize) -> Self {
        let len = samples * padded(layer.outputs);
        let zeros = || AlignedVec::zeros(len);
        Self { values: zeros(), slopes: zeros(), deltas: zeros() }
    }
}

impl<'a> MlpKernel<'a> {
    /// A kernel that starts from `parameters`.
    ///
    /// # Panics
    /// When the parameters or the data do not fit the model, or a width exceeds 2³².
    pub fn new(model: &Mlp, data: &'a Dataset, parameters: &[f64]) -> Self {
        Self::with_arch(simd::arch(), model, data, parameters)
    }

    /// As [`new`](Self::new), on a chosen instruction set.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn with_arch(arch: Arch, model: &Mlp, data: &'a Dataset, parameters: &[f64]) -> Self {
        let input_dim = model.input_dim();
        assert_eq!(parameters.len(), model.parameter_count(), "number of parameters");
        assert_eq!(data.inputs().columns(), input_dim, "dimension of the inputs");
        assert_eq!(data.output_dim(), model.output_dim(), "number of outputs");
        let widths = model.widths();
        let layers: Vec<Layer> = widths
            .windows(2)
            .zip(model.parameter_ranges())
            .map(|(pair, (weights, biases))| {
                let (inputs, outputs) = (pair[0], pair[1]);
                assert!(u32::try_from(outputs).is_ok(), "neurons are indexed by u32");
                Layer::new(inputs, outputs, &parameters[weights], &parameters[biases])
            })
            .collect();
        let stride = padded(input_dim);
        let inputs = AlignedVec::from_rows(data.inputs().values(), input_dim, stride);
        Self {
            arch,
            data,
            activation: model.activation(),
            layers,
            input_norms_squared: inputs.chunks_exact(stride).map(simd::norm_squared).collect(),
            inputs,
            stride,
            single: None,
            batch: None,
        }
    }

    fn step(&mut self, samples: Option<&[u32]>, update: Update) -> Step {
        let count = samples.map_or(self.data.sample_count(), <[u32]>::len);
        if count == 0 {
            return Step { loss: 0.0, gradient_norm: 0.0, clipped: false };
        }
        let mut buffers = match self.batch.take() {
            Some(buffers) if buffers.fits(count) => buffers,
            _ => BatchBuffers::new(&self.layers, self.stride, count),
        };
        let (arch, lent) = (self.arch, &mut buffers);
        let step = arch.dispatch(BatchStep { kernel: self, buffers: lent, samples, count, update });
        self.batch = Some(buffers);
        step
    }
}

impl Layer {
    fn new(inputs: usize, outputs: usize, weights: &[f64], biases: &[f64]) -> Self {
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

impl Kernel for MlpKernel<'_> {
    fn single_steps(&mut self, order: &[u32], learning_rates: &[f64], clip_norm: f64) -> Segment {
        assert_eq!(order.len(), learning_rates.len(), "one learning rate for each step");
        let mut buffers = self.single.take().unwrap_or_else(|| SingleBuffers::new(&self.layers));
        let (arch, lent) = (self.arch, &mut buffers);
        let steps = SingleSteps { kernel: self, buffers: lent, order, learning_rates, clip_norm };
        let segment = arch.dispatch(steps);
        self.single = Some(buffers);
        segment
    }

    fn batch_step(&mut self, batch: &[u32], update: Update) -> Step {
        self.step(Some(batch), update)
    }

    fn full_step(&mut self, update: Update) -> Step {
        self.step(None, update)
    }

    fn parameters(&self) -> Vec<f64> {
        let mut parameters = Vec::new();
        for layer in &self.layers {
            for row in layer.weights.chunks_exact(layer.stride).take(layer.outputs) {
                parameters.extend_from_slice(&row[..layer.inputs]);
            }
            if layer.has_biases {
                parameters.extend_from_slice(&layer.biases[..layer.outputs]);
            }
        }
        parameters
    }
}
