//! Steps on several samples, or all.
//!
//! Samples go through the network a block at a time, as many as there are lanes, and their residuals, the mask and the gradient of the output
//! weights are taken while their pre-activations are in the first-level cache. The second product sums up the
//! gradient over a chunk of them. Both read inputs that were interleaved beforehand, for the whole data once:
//! nothing is packed or transposed in a step.

use flatmin_linalg::simd::{self, AlignedVec, Groups, GroupsMut, Lanes, Real, padded_for};
use flatmin_models::Dataset;
use pulp::{Simd, WithSimd};

use super::ReluKernel;
use crate::kernel::grouped::{self, Product, Strides, Tiles};
use crate::kernel::step::{Step, Update};

/// Most samples in a chunk: the gradients of three groups of neurons stay in the first-level cache.
const CHUNK: usize = 128;

/// The samples of a step.
#[derive(Clone, Copy)]
pub(super) enum Samples<'b> {
    All,
    Batch(&'b [u32]),
}

impl Samples<'_> {
    pub(super) fn len(self, data: &Dataset) -> usize {
        match self {
            Self::All => data.sample_count(),
            Self::Batch(batch) => batch.len(),
        }
    }

    fn get(self, position: usize) -> usize {
        match self {
            Self::All => position,
            Self::Batch(batch) => batch[position] as usize,
        }
    }
}

/// Buffers for steps with `count` samples.
#[derive(Debug)]
pub(super) struct BatchBuffers<E> {
    count: usize,
    /// Whether the inputs are the whole data set.
    whole: bool,
    /// Blocks of inputs, interleaved; the last one filled up with zeros.
    inputs: AlignedVec<E>,
    /// Blocks of coordinates of all inputs, interleaved; samples filled up to whole blocks of
    /// `inputs`.
    coordinates: AlignedVec<E>,
    /// Filled up with zeros too.
    targets: AlignedVec,
    /// Pre-activations: a padded row of neurons for each sample of a block.
    z: AlignedVec<E>,
    /// Their gradients, for a chunk of samples: groups of neurons, sample by sample.
    deltas: AlignedVec<E>,
    /// Laid out like the weights.
    hidden_gradient: AlignedVec<E>,
    output_gradient: AlignedVec<E>,
}

impl<E: Real> BatchBuffers<E> {
    pub(super) fn new(count: usize, width: usize, input_dim: usize) -> Self {
        let (samples, neurons) = (padded_for::<E>(count), padded_for::<E>(width));
        Self {
            count,
            whole: false,
            inputs: AlignedVec::zeros(samples * input_dim),
            coordinates: AlignedVec::zeros(padded_for::<E>(input_dim) * samples),
            targets: AlignedVec::zeros(samples),
            z: AlignedVec::zeros(E::LANES * neurons),
            deltas: AlignedVec::zeros(neurons * CHUNK.min(samples)),
            hidden_gradient: AlignedVec::zeros(neurons * input_dim),
            output_gradient: AlignedVec::zeros(neurons),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Gathers the samples; the whole data set only once.
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
            grouped::interleave(block, rows.map(row));
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

pub(super) struct BatchStep<'k, 'a, E: Real> {
    pub(super) kernel: &'k mut ReluKernel<'a, E>,
    pub(super) batch: &'k mut BatchBuffers<E>,
    pub(super) update: Update,
}

impl<E: Real> WithSimd for BatchStep<'_, '_, E> {
    type Output = Step;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Step {
        let Self { kernel, batch, update } = self;
        let blocks = batch.targets.len() / E::LANES;
        batch.output_gradient.fill(E::ZERO);
        let mut loss = 0.0;
        let mut first = 0;
        while first < blocks {
            // Chunks as even as possible, of whole blocks.
            let rest = blocks - first;
            let chunk = rest.div_ceil(rest.div_ceil(CHUNK / E::LANES));
            for b in 0..chunk {
                batch.multiply(simd, kernel, first + b);
                loss += batch.backward(simd, &kernel.output, first + b, [b, chunk]);
            }
            batch.sum_gradient(simd, kernel.hidden.columns(), first, chunk);
            first += chunk;
        }
        let squares = [&batch.hidden_gradient, &batch.output_gradient]
            .map(|gradient| simd::norm_squared(gradient).to_f64());
        let gradient_norm = (squares[0] + squares[1]).sqrt();
        let (factor, clipped) = update.factor(gradient_norm);
        let multiple = E::from_f64(-factor);
        simd::axpy(multiple, &batch.hidden_gradient, kernel.hidden.values_mut());
        simd::axpy(multiple, &batch.output_gradient, &mut kernel.output);
        Step { loss, gradient_norm, clipped }
    }
}

impl<E: Real> BatchBuffers<E> {
    /// Pre-activations of block `block` of the samples.
    #[inline(always)]
    fn multiply<S: Simd>(&mut self, simd: S, kernel: &ReluKernel<'_, E>, block: usize) {
        let depth = kernel.hidden.columns();
        Product {
            rows: kernel.hidden.values(),
            depth,
            block: &self.inputs[block * E::LANES * depth..][..E::LANES * depth],
            strides: Strides { group: E::LANES, column: self.z.len() / E::LANES },
            out: &mut self.z,
            columns: E::LANES,
            is_added: false,
        }
        .run(simd);
    }

    /// Residuals `r = Σ_j a_j σ(z_j) − y` of block `block` of the samples, the `b`-th of `chunk` blocks; its share of
    /// `∂a_j = (1/n) Σ_i σ(z_ij) r_i`, and `δ_ij = (1/n) a_j r_i 1(z_ij > 0)`. Returns its share of the loss.
    #[inline(always)]
    fn backward<S: Simd>(
        &mut self,
        simd: S,
        output: &[E],
        block: usize,
        [b, chunk]: [usize; 2],
    ) -> f64 {
        let groups = output.len() / E::LANES;
        let output = Groups::<S, E>::new(output);
        let mut output_gradient = GroupsMut::<S, E>::new(&mut self.output_gradient);
        let mut deltas = GroupsMut::<S, E>::new(&mut self.deltas);
        let scale = 1.0 / self.count as f64;
        let targets = &self.targets[block * E::LANES..][..E::LANES];
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

    /// Adds `Δᵀ X` over `chunk` blocks of samples from block `first` on to the gradient of the hidden
    /// weights, or starts it.
    #[inline(always)]
    fn sum_gradient<S: Simd>(&mut self, simd: S, input_dim: usize, first: usize, chunk: usize) {
        let (depth, samples) = (chunk * E::LANES, self.targets.len());
        let mut tiles = Tiles::new::<S>(self.output_gradient.len() / E::LANES);
        while let Some((group, count)) = tiles.next() {
            let coordinates = self.coordinates.chunks_exact(E::LANES * samples);
            for (c, block) in coordinates.enumerate() {
                Product {
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
