//! Steps on several samples.

use std::ops::Range;

use flatmin_linalg::simd::{self, AlignedVec, padded};
use flatmin_models::Dataset;
use pulp::{Simd, WithSimd};

use super::dense::{self, Dense};
use super::network::{Layer, MlpNetwork, Neurons};
use super::sums::{Gradient, add_rows_to};
use super::sweep::Sweeps;
use crate::kernel::step::{Samples, Step, Update};

/// Number of samples that go through the network together: their neurons stay in the second-level
/// cache.
const BLOCK_SAMPLES: usize = 128;

/// From this number of samples on, dense products are faster than sweeps: for 4, 6 and 11 samples
/// of widths 64-64-64-1 they take 5.2, 5.8 and 8.2 µs (AMD EPYC), and sweeps 4.2, 6.4 and 9.8 µs.
const DENSE_SAMPLES: usize = 6;

/// Buffers for steps on several samples.
#[derive(Debug)]
pub(super) struct MlpBatchBuffers {
    /// Largest number of samples that go through the network together.
    capacity: usize,
    /// The inputs of these samples, unless the step is on the whole data set.
    inputs: AlignedVec,
    neurons: Vec<Neurons>,
    gradients: Vec<Gradient>,
    /// The weights of each layer with a row for each of its inputs.
    transposed: Vec<AlignedVec>,
}

impl MlpBatchBuffers {
    pub(super) fn new(layers: &[Layer], stride: usize, count: usize) -> Self {
        let capacity = count.min(BLOCK_SAMPLES);
        Self {
            capacity,
            inputs: AlignedVec::zeros(capacity * stride),
            neurons: layers.iter().map(|layer| Neurons::new(layer, capacity)).collect(),
            gradients: layers.iter().map(Gradient::new).collect(),
            transposed: layers.iter().map(dense::room_for_transposed).collect(),
        }
    }

    pub(super) fn fits(&self, count: usize) -> bool {
        self.capacity >= count.min(BLOCK_SAMPLES)
    }
}

/// One step on `count` samples.
pub(super) struct MlpBatchStep<'k, 'a> {
    pub(super) network: &'k mut MlpNetwork<'a>,
    pub(super) buffers: &'k mut MlpBatchBuffers,
    pub(super) samples: Samples<'k>,
    pub(super) count: usize,
    pub(super) update: Update,
}

impl WithSimd for MlpBatchStep<'_, '_> {
    type Output = Step;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Step {
        let Self { network, buffers, samples, count: total, update } = self;
        let is_dense = total >= DENSE_SAMPLES;
        if is_dense {
            for (layer, out) in network.layers.iter().zip(&mut buffers.transposed) {
                if layer.outputs > 1 {
                    dense::transpose(layer, out);
                }
            }
            for gradient in &mut buffers.gradients {
                gradient.biases.fill(0.0);
            }
        }
        let scale = samples.scale(network.data);
        let (mut loss, mut squares) = (0.0, 0.0);
        let mut start = 0;
        while start < total {
            let count = BLOCK_SAMPLES.min(total - start);
            let MlpBatchBuffers { inputs, neurons, gradients, transposed, .. } = &mut *buffers;
            let inputs = block_inputs(network, samples, start, count, inputs);
            let block = Block { network, inputs, count, is_dense };
            block.forward(simd, transposed, neurons);
            if let Some(top) = neurons.last_mut() {
                loss += residuals(network.data, samples, start..start + count, scale, top);
            }
            squares += block.backward(simd, start > 0, neurons, gradients);
            start += count;
        }
        if is_dense {
            for (layer, gradient) in network.layers.iter().zip(&buffers.gradients) {
                squares += dense::norm_squared(simd, &gradient.weights, gradient.biases_of(layer));
            }
        }
        let gradient_norm = squares.sqrt();
        let (factor, clipped) = update.factor(gradient_norm);
        for (layer, gradient) in network.layers.iter_mut().zip(&buffers.gradients) {
            simd::axpy(-factor, &gradient.weights, &mut layer.weights);
            if layer.has_biases {
                simd::axpy(-factor, &gradient.biases, &mut layer.biases);
            }
        }
        Step { loss, gradient_norm, clipped }
    }
}

/// The padded inputs of `count` samples from position `start` on. They are copied to `gathered`
/// unless they are contiguous already.
#[inline(always)]
fn block_inputs<'b>(
    network: &'b MlpNetwork<'_>,
    samples: Samples<'_>,
    start: usize,
    count: usize,
    gathered: &'b mut [f64],
) -> &'b [f64] {
    let (all, stride) = (&network.inputs, network.stride);
    match samples {
        Samples::All => &all[start * stride..][..count * stride],
        Samples::Batch(batch) | Samples::Drawn { batch, .. } => {
            let rows = gathered.chunks_exact_mut(stride);
            for (row, sample) in rows.zip(&batch[start..start + count]) {
                row.copy_from_slice(&all[*sample as usize * stride..][..stride]);
            }
            &gathered[..count * stride]
        }
    }
}

/// Writes the deltas of the last layer, `scale` times its residuals, for the samples at these
/// positions; returns their loss.
#[inline(always)]
fn residuals(
    data: &Dataset,
    samples: Samples<'_>,
    positions: Range<usize>,
    scale: f64,
    top: &mut Neurons,
) -> f64 {
    let (k, stride) = (data.output_dim(), padded(data.output_dim()));
    let rows = top.values.chunks_exact(stride).zip(top.deltas.chunks_exact_mut(stride));
    let mut loss = 0.0;
    for (position, (values, deltas)) in positions.zip(rows) {
        let sample = samples.get(position);
        let targets = data.targets_of(sample..sample + 1);
        deltas[..k].copy_from_slice(&values[..k]);
        data.loss_function().differentiate(scale, &mut deltas[..k], targets, &mut loss);
    }
    loss
}

/// Samples that go through the network together, by dense products or by sweeps.
#[derive(Clone, Copy)]
struct Block<'b> {
    network: &'b MlpNetwork<'b>,
    inputs: &'b [f64],
    count: usize,
    is_dense: bool,
}

impl Block<'_> {
    #[inline(always)]
    fn forward<S: Simd>(self, simd: S, transposed: &[AlignedVec], neurons: &mut [Neurons]) {
        let Self { network: MlpNetwork { layers, activation, .. }, inputs, count, is_dense } = self;
        for (l, (layer, transposed)) in layers.iter().zip(transposed).enumerate() {
            let (below, neurons) = neurons.split_at_mut(l);
            let below = below.last().map_or(inputs, |below| &below.values);
            let is_last = l + 1 == layers.len();
            if is_dense {
                let layer = Dense { layer, count, activation: *activation, is_last };
                layer.forward(simd, transposed, below, &mut neurons[0]);
            } else {
                let activation = (!is_last).then_some(*activation);
                Sweeps { layer, count }.forward(simd, activation, below, &mut neurons[0]);
            }
        }
    }

    /// Computes the gradient, or adds to it if `is_added` is true. Returns its squared norm for
    /// sweeps, and 0 for dense products, because later blocks may still add to their gradient.
    #[inline(always)]
    fn backward<S: Simd>(
        self,
        simd: S,
        is_added: bool,
        neurons: &mut [Neurons],
        gradients: &mut [Gradient],
    ) -> f64 {
        let Self { network: MlpNetwork { layers, activation, .. }, inputs, count, is_dense } = self;
        let mut squares = 0.0;
        for (l, layer) in layers.iter().enumerate().rev() {
            let (below, neurons) = neurons.split_at_mut(l);
            let deltas = &neurons[0].deltas;
            let (gradients_below, gradients) = gradients.split_at_mut(l);
            let is_last = l + 1 == layers.len();
            let dense = Dense { layer, count, activation: *activation, is_last };
            let sweeps = Sweeps { layer, count };
            if is_dense && is_last {
                let used = count * padded(layer.outputs);
                add_rows_to(simd, &deltas[..used], &mut gradients[0].biases);
            }
            let input = match (below.last_mut(), gradients_below.last_mut()) {
                (Some(below), Some(gradient)) if is_dense => {
                    dense.pull(simd, deltas, below, &mut gradient.biases);
                    &below.values
                }
                (Some(below), _) => {
                    sweeps.pull(simd, deltas, below);
                    &below.values
                }
                _ => inputs,
            };
            if is_dense {
                dense.gradient(simd, [deltas, input], is_added, &mut gradients[0].weights);
            } else {
                squares += sweeps.gradient(simd, deltas, input, &mut gradients[0]);
            }
        }
        squares
    }
}
