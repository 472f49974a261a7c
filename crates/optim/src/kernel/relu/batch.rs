//! Steps on several samples.
//!
//! Samples go through the network in blocks of `LANES`. Their residuals, the mask and the gradient
//! of the output weights are computed while their pre-activations are in the first-level cache. The
//! second product sums the gradient over a chunk of blocks. Both products read inputs that were
//! interleaved beforehand (once, for the whole data set), so that nothing is packed or transposed
//! in a step.

use flatmin_linalg::simd::{self, AlignedVec, Groups, GroupsMut, Lanes, Real, padded_for};
use pulp::{Simd, WithSimd};

use super::network::ReluNetwork;
use crate::kernel::gemm::{Gemm, Strides, Tiles, interleave};
use crate::kernel::step::{Samples, Step, Update};

/// Largest number of samples in a chunk: the gradients of three groups of neurons stay in the
/// first-level cache.
const CHUNK_SAMPLES: usize = 128;

/// Buffers for steps with `count` samples.
#[derive(Debug)]
pub(super) struct ReluBatchBuffers<E> {
    pub(super) count: usize,
    /// True if the samples are the whole data set.
    whole: bool,
    /// Blocks of inputs, interleaved; the last one filled up with zeros.
    inputs: AlignedVec<E>,
    /// Interleaved blocks of coordinates of all inputs. Zeros fill up the samples to whole blocks
    /// of `inputs`.
    coordinates: AlignedVec<E>,
    /// The targets, filled up with zeros.
    targets: AlignedVec,
    /// Pre-activations: a padded row of neurons for each sample of a block.
    z: AlignedVec<E>,
    /// Gradients with respect to the pre-activations, for a chunk of samples: groups of neurons,
    /// sample by sample.
    deltas: AlignedVec<E>,
    /// The gradients, laid out like the weights.
    hidden_gradient: AlignedVec<E>,
    output_gradient: AlignedVec<E>,
}

impl<E: Real> ReluBatchBuffers<E> {
    pub(super) fn new(count: usize, width: usize, input_dim: usize) -> Self {
        let (samples, neurons) = (padded_for::<E>(count), padded_for::<E>(width));
        Self {
            count,
            whole: false,
            inputs: AlignedVec::zeros(samples * input_dim),
            coordinates: AlignedVec::zeros(padded_for::<E>(input_dim) * samples),
            targets: AlignedVec::zeros(samples),
            z: AlignedVec::zeros(E::LANES * neurons),
            deltas: AlignedVec::zeros(neurons * CHUNK_SAMPLES.min(samples)),
            hidden_gradient: AlignedVec::zeros(neurons * input_dim),
            output_gradient: AlignedVec::zeros(neurons),
        }
    }

    /// Gathers the samples; the whole data set is gathered only once.
    pub(super) fn load(&mut self, samples: Samples<'_>, targets: &[f64], inputs: &[E]) {
        let whole = matches!(samples, Samples::All);
        if whole && self.whole {
            return;
        }
        self.whole = whole;
        let input_dim = self.hidden_gradient.len() / self.output_gradient.len();
        let row = |position| &inputs[samples.get(position) * input_dim..][..input_dim];
        let blocks = self.inputs.chunks_exact_mut(E::LANES * input_dim);
        for (b, block) in blocks.enumerate() {
            let rows = b * E::LANES..self.count.min((b + 1) * E::LANES);
            interleave(block, rows.map(row));
        }
        let rows = self.targets.len();
        for position in 0..self.count {
            self.targets[position] = targets[samples.get(position)];
            let blocks = self.coordinates.chunks_exact_mut(E::LANES * rows);
            for (block, values) in blocks.zip(row(position).chunks(E::LANES)) {
                block[position * E::LANES..][..values.len()].copy_from_slice(values);
            }
        }
    }
}

pub(super) struct ReluBatchStep<'k, 'a, E: Real> {
    pub(super) network: &'k mut ReluNetwork<'a, E>,
    pub(super) buffers: &'k mut ReluBatchBuffers<E>,
    /// The factor of the sums over the samples.
    pub(super) scale: f64,
    pub(super) update: Update,
}

impl<E: Real> WithSimd for ReluBatchStep<'_, '_, E> {
    type Output = Step;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Step {
        let Self { network, buffers: batch, scale, update } = self;
        let blocks = batch.targets.len() / E::LANES;
        batch.output_gradient.fill(E::ZERO);
        let mut loss = 0.0;
        let mut first = 0;
        while first < blocks {
            // Chunks consist of whole blocks and are as even as possible.
            let rest = blocks - first;
            let chunk = rest.div_ceil(rest.div_ceil(CHUNK_SAMPLES / E::LANES));
            for b in 0..chunk {
                batch.multiply(simd, network, first + b);
                let block = Block { first, b, chunk, scale };
                loss += batch.backward(simd, &network.output, block);
            }
            batch.sum_gradient(simd, network.hidden.columns, first, chunk);
            first += chunk;
        }
        let squares = [&batch.hidden_gradient, &batch.output_gradient]
            .map(|gradient| simd::norm_squared(gradient).to_f64());
        let gradient_norm = (squares[0] + squares[1]).sqrt();
        let (factor, clipped) = update.factor(gradient_norm);
        let multiple = E::from_f64(-factor);
        simd::axpy(multiple, &batch.hidden_gradient, &mut network.hidden.values);
        simd::axpy(multiple, &batch.output_gradient, &mut network.output);
        Step { loss, gradient_norm, clipped }
    }
}

/// The `b`-th of `chunk` blocks of samples from block `first` on, and the factor 1/B of sums.
#[derive(Debug, Clone, Copy)]
struct Block {
    first: usize,
    b: usize,
    chunk: usize,
    scale: f64,
}

impl<E: Real> ReluBatchBuffers<E> {
    /// Computes the pre-activations of block `block` of the samples.
    #[inline(always)]
    fn multiply<S: Simd>(&mut self, simd: S, network: &ReluNetwork<'_, E>, block: usize) {
        let depth = network.hidden.columns;
        Gemm {
            rows: &network.hidden.values,
            depth,
            block: &self.inputs[block * E::LANES * depth..][..E::LANES * depth],
            strides: Strides { group: E::LANES, column: self.z.len() / E::LANES },
            out: &mut self.z,
            columns: E::LANES,
            is_added: false,
        }
        .run(simd);
    }

    /// Runs the backward pass of a block of the samples.
    ///
    /// Computes the residuals `r = Σ_j a_j σ(z_j) − y`, adds the terms of the block to
    /// `∂a_j = (1/B) Σ_i σ(z_ij) r_i`, and writes `δ_ij = (1/B) a_j r_i 1(z_ij > 0)`. Returns the
    /// contribution of the block to the loss.
    #[inline(always)]
    fn backward<S: Simd>(&mut self, simd: S, output: &[E], block: Block) -> f64 {
        let Block { first, b, chunk, scale } = block;
        let groups = output.len() / E::LANES;
        let output = Groups::<S, E>::new(output);
        let mut output_gradient = GroupsMut::<S, E>::new(&mut self.output_gradient);
        let mut deltas = GroupsMut::<S, E>::new(&mut self.deltas);
        let targets = &self.targets[(first + b) * E::LANES..][..E::LANES];
        let rows = self.z.chunks_exact(output.len() * E::LANES);
        let mut loss = 0.0;
        for (position, (z, target)) in rows.zip(targets).enumerate() {
            let z = Groups::<S, E>::new(z);
            let mut out = Lanes::splat(simd, E::ZERO);
            for k in 0..groups {
                let z = z.get(simd, k);
                out = z.where_positive(simd, z).mul_add(simd, output.get(simd, k), out);
            }
            let residual = out.sum(simd).to_f64() - target;
            loss += 0.5 * scale * residual * residual;
            let multiple = Lanes::splat(simd, E::from_f64(scale * residual));
            for k in 0..groups {
                let z = z.get(simd, k);
                let sum = output_gradient.get(simd, k);
                let active = z.where_positive(simd, z);
                output_gradient.set(k, active.mul_add(simd, multiple, sum));
                let delta = z.where_positive(simd, output.get(simd, k).mul(simd, multiple));
                deltas.set((k * chunk + b) * E::LANES + position, delta);
            }
        }
        loss
    }

    /// Adds `Δᵀ X`, over `chunk` blocks of samples from block `first` on, to the gradient of the
    /// hidden weights; the first chunk overwrites it.
    #[inline(always)]
    fn sum_gradient<S: Simd>(&mut self, simd: S, input_dim: usize, first: usize, chunk: usize) {
        let (depth, samples) = (chunk * E::LANES, self.targets.len());
        let mut tiles = Tiles::new::<S>(self.output_gradient.len() / E::LANES);
        while let Some((group, count)) = tiles.next() {
            let coordinates = self.coordinates.chunks_exact(E::LANES * samples);
            for (c, block) in coordinates.enumerate() {
                Gemm {
                    rows: &self.deltas[group * E::LANES * depth..][..count * E::LANES * depth],
                    depth,
                    block: &block[first * E::LANES * E::LANES..][..depth * E::LANES],
                    out: &mut self.hidden_gradient[(group * input_dim + c * E::LANES) * E::LANES..],
                    strides: Strides { group: E::LANES * input_dim, column: E::LANES },
                    columns: E::LANES.min(input_dim - c * E::LANES),
                    is_added: first > 0,
                }
                .run(simd);
            }
        }
    }
}
