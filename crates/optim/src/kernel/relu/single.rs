//! Steps on single samples, eight at a time.
//!
//! A step moves neuron j by a multiple `c_j` of its input, so that within a block of steps the pre-activations
//! are known without the moved weights: `w_j(t)·x_t = w_j·x_t + Σ_{s<t} c_j(s) x_s·x_t`. The
//! weights are therefore read and written once a block: moved along the eight inputs of the last block, and
//! multiplied with the eight of the next one, at the speed of dense products. Between two sweeps the steps
//! themselves work on vectors of the size of the width. A sweep a step would have to wait for the second-level
//! cache.
//!
//! The gradient norm needs no pass over the weights: `‖∇‖² = r² Σ_active (z_j² + a_j²‖x‖²)`.

use flatmin_linalg::simd::{AlignedVec, Groups, GroupsMut, LANES, Lanes, padded};
use pulp::{Simd, WithSimd};

use super::ReluKernel;
use crate::kernel::grouped::{self, BLOCK, Product, Strides};
use crate::kernel::{Segment, Step, Update};

/// Eight samples, and what their steps do.
#[derive(Debug)]
pub(super) struct SingleBuffers {
    /// The inputs of the steps in hand and of those before, interleaved.
    inputs: AlignedVec,
    previous_inputs: AlignedVec,
    /// `x_s·x_t` of the steps in hand.
    gram: [[f64; BLOCK]; BLOCK],
    /// A padded row of neurons for each step: products with the weights of the block, then
    /// pre-activations.
    preactivations: AlignedVec,
    /// The multiple of the input that each row moves by; zero for inactive neurons.
    coefficients: AlignedVec,
}

impl SingleBuffers {
    pub(super) fn new(width: usize, input_dim: usize) -> Self {
        let inputs = || AlignedVec::zeros(input_dim * BLOCK);
        let neurons = || AlignedVec::zeros(padded(width) * BLOCK);
        Self {
            inputs: inputs(),
            previous_inputs: inputs(),
            gram: [[0.0; BLOCK]; BLOCK],
            preactivations: neurons(),
            coefficients: neurons(),
        }
    }
}

pub(super) struct SingleSteps<'k, 'a> {
    pub(super) kernel: &'k mut ReluKernel<'a>,
    pub(super) order: &'k [u32],
    pub(super) learning_rates: &'k [f64],
    pub(super) clip_norm: f64,
}

impl WithSimd for SingleSteps<'_, '_> {
    type Output = Segment;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Segment {
        let Self { kernel, order, learning_rates, clip_norm } = self;
        let ReluKernel { data, hidden, output, single, .. } = kernel;
        let (stride, depth) = (output.len(), hidden.columns());
        let mut segment = Segment::default();
        let blocks = order.chunks(BLOCK).zip(learning_rates.chunks(BLOCK));
        for (b, (samples, learning_rates)) in blocks.enumerate() {
            std::mem::swap(&mut single.inputs, &mut single.previous_inputs);
            let inputs = samples.iter().map(|&sample| data.inputs().row(sample as usize));
            grouped::interleave(&mut single.inputs, inputs);
            let mut tiles = grouped::Tiles::new::<S>(stride / LANES);
            while let Some((first, count)) = tiles.next() {
                let rows =
                    &mut hidden.values_mut()[first * LANES * depth..][..count * LANES * depth];
                if b > 0 {
                    let coefficients = &single.coefficients[first * LANES..];
                    let block = &single.previous_inputs;
                    grouped::Update { rows, depth, coefficients, stride, block }.run(simd);
                }
                Product {
                    rows,
                    depth,
                    block: &single.inputs,
                    out: &mut single.preactivations[first * LANES..],
                    strides: Strides { group: LANES, column: stride },
                    columns: BLOCK,
                    is_added: false,
                }
                .run(simd);
            }
            single.gram = gram(simd, &single.inputs);
            for (t, (&sample, &learning_rate)) in samples.iter().zip(learning_rates).enumerate() {
                let target = data.targets()[sample as usize];
                let update = Update { learning_rate, clip_norm };
                segment.add(single.step(simd, t, output, target, update));
            }
            single.coefficients[samples.len() * stride..].fill(0.0);
        }
        if !order.is_empty() {
            let (coefficients, block) = (&*single.coefficients, &*single.inputs);
            let rows = hidden.values_mut();
            grouped::Update { rows, depth, coefficients, stride, block }.run(simd);
        }
        segment
    }
}

impl SingleBuffers {
    /// Step `t` of the block: output, gradient norm, clipping, update of the output weights, and the
    /// coefficients for the hidden ones.
    #[inline(always)]
    fn step<S: Simd>(
        &mut self,
        simd: S,
        t: usize,
        output: &mut AlignedVec,
        target: f64,
        update: Update,
    ) -> Step {
        let stride = output.len();
        let products = self.gram[t];
        let (before, coefficients) = self.coefficients.split_at_mut(t * stride);
        let before = Groups::<S>::new(before);
        let mut coefficients = GroupsMut::<S>::new(&mut coefficients[..stride]);
        let mut z = GroupsMut::<S>::new(&mut self.preactivations[t * stride..][..stride]);
        let mut output = GroupsMut::<S>::new(output);
        let groups = stride / LANES;
        let zero = Lanes::splat(simd, 0.0);
        let (mut out, mut z_squares, mut a_squares) = (zero, zero, zero);
        for k in 0..groups {
            let mut value = z.get(simd, k);
            for (s, product) in products[..t].iter().enumerate() {
                value = before.get(simd, s * groups + k).mul_add(
                    simd,
                    Lanes::splat(simd, *product),
                    value,
                );
            }
            z.set(k, value);
            let active_z = value.where_positive(simd, value);
            let active_a = value.where_positive(simd, output.get(simd, k));
            out = active_a.mul_add(simd, active_z, out);
            z_squares = active_z.mul_add(simd, active_z, z_squares);
            a_squares = active_a.mul_add(simd, active_a, a_squares);
        }
        let residual = out.sum(simd) - target;
        let squares = a_squares.mul_add(simd, Lanes::splat(simd, products[t]), z_squares);
        let gradient_norm = residual.abs() * squares.sum(simd).sqrt();
        let (factor, clipped) = update.factor(gradient_norm);
        let multiple = Lanes::splat(simd, -(factor * residual));
        for k in 0..groups {
            let z = z.get(simd, k);
            let active_z = z.where_positive(simd, z);
            let a = output.get(simd, k);
            coefficients.set(k, z.where_positive(simd, a.mul(simd, multiple)));
            output.set(k, active_z.mul_add(simd, multiple, a));
        }
        Step { loss: 0.5 * residual * residual, gradient_norm, clipped }
    }
}

/// The Gram matrix of a block.
#[inline(always)]
fn gram<S: Simd>(simd: S, block: &[f64]) -> [[f64; BLOCK]; BLOCK] {
    let entries = block.as_chunks::<BLOCK>().0;
    let groups = Groups::<S>::new(block);
    let mut sums = [Lanes::splat(simd, 0.0); BLOCK];
    for (k, entry) in entries.iter().enumerate() {
        let lanes = groups.get(simd, k);
        for (sum, value) in sums.iter_mut().zip(entry) {
            *sum = lanes.mul_add(simd, Lanes::splat(simd, *value), *sum);
        }
    }
    let mut gram = [[0.0; BLOCK]; BLOCK];
    for (row, sum) in gram.iter_mut().zip(sums) {
        GroupsMut::<S>::new(row).set(0, sum);
    }
    gram
}
