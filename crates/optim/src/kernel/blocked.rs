//! The layer that inputs go into, eight steps of batch size 1 at a time.
//!
//! A step moves the weights of neuron j by a multiple `c_j` of its input, so that within a block of steps
//! the products with the inputs are known without the moved weights:
//! `w_j(t)·x_t = w_j·x_t + Σ_{s<t} c_j(s) x_s·x_t`. The weights are therefore read and written once a block:
//! moved along the eight inputs of the last block, and multiplied with the eight of the next one, at
//! the speed of dense products. A sweep a step would have to wait for the second-level cache.

use flatmin_linalg::simd::{AlignedVec, Groups, GroupsMut, LANES, Lanes, padded};
use flatmin_models::Dataset;
use pulp::Simd;

use super::grouped::{self, BLOCK, Grouped, Product, Strides, Tiles, Update};

/// Eight inputs, and what their steps do to the layer.
#[derive(Debug)]
pub(super) struct Blocked {
    /// Neurons, filled up to whole groups.
    stride: usize,
    /// The inputs of the steps in hand and of those before, interleaved.
    inputs: AlignedVec,
    previous_inputs: AlignedVec,
    /// `x_s·x_t` of the steps in hand.
    gram: [[f64; BLOCK]; BLOCK],
    /// A row of neurons for each step: products with the weights at the start of the block.
    products: AlignedVec,
    /// A row of neurons for each step: the multiple of the input that their weights move by.
    coefficients: AlignedVec,
    /// Whether they have not been moved yet.
    is_pending: bool,
}

/// One step of a block.
pub(super) struct BlockedStep<'b, S: Simd> {
    /// `x_s·x_t` for this step t; at t the squared norm of its input.
    pub(super) gram: [f64; BLOCK],
    /// Products with the weights at the start of the block.
    pub(super) products: GroupsMut<'b, S>,
    /// The coefficients of the steps before, row by row.
    pub(super) before: Groups<'b, S>,
    /// Those of this step, to be set.
    pub(super) coefficients: GroupsMut<'b, S>,
}

impl Blocked {
    pub(super) fn new(width: usize, input_dim: usize) -> Self {
        let inputs = || AlignedVec::zeros(input_dim * BLOCK);
        let neurons = || AlignedVec::zeros(padded(width) * BLOCK);
        Self {
            stride: padded(width),
            inputs: inputs(),
            previous_inputs: inputs(),
            gram: [[0.0; BLOCK]; BLOCK],
            products: neurons(),
            coefficients: neurons(),
            is_pending: false,
        }
    }

    /// Moves the weights by the steps of the last block, and starts one of at most eight samples.
    #[inline(always)]
    pub(super) fn begin<S: Simd>(
        &mut self,
        simd: S,
        weights: &mut Grouped,
        data: &Dataset,
        samples: &[u32],
    ) {
        std::mem::swap(&mut self.inputs, &mut self.previous_inputs);
        let inputs = samples.iter().map(|&sample| data.inputs().row(sample as usize));
        grouped::interleave(&mut self.inputs, inputs);
        let (stride, depth) = (self.stride, weights.columns());
        let mut tiles = Tiles::new::<S>(stride / LANES);
        while let Some((first, count)) = tiles.next() {
            let rows = &mut weights.values_mut()[first * LANES * depth..][..count * LANES * depth];
            if self.is_pending {
                let coefficients = &self.coefficients[first * LANES..];
                let block = &self.previous_inputs;
                Update { rows, depth, coefficients, stride, block }.run(simd);
            }
            Product {
                rows,
                depth,
                block: &self.inputs,
                out: &mut self.products[first * LANES..],
                strides: Strides { group: LANES, column: stride },
                columns: BLOCK,
                is_added: false,
            }
            .run(simd);
        }
        self.gram = gram(simd, &self.inputs);
        // Steps that are missing in the block move nothing.
        self.coefficients.fill(0.0);
        self.is_pending = true;
    }

    /// Step `t` of the block.
    #[inline(always)]
    pub(super) fn step<S: Simd>(&mut self, t: usize) -> BlockedStep<'_, S> {
        let (before, rest) = self.coefficients.split_at_mut(t * self.stride);
        BlockedStep {
            gram: self.gram[t],
            products: GroupsMut::new(&mut self.products[t * self.stride..][..self.stride]),
            before: Groups::new(before),
            coefficients: GroupsMut::new(&mut rest[..self.stride]),
        }
    }

    /// Moves the weights by the steps of the last block.
    #[inline(always)]
    pub(super) fn finish<S: Simd>(&mut self, simd: S, weights: &mut Grouped) {
        if self.is_pending {
            let (depth, stride) = (weights.columns(), self.stride);
            let (coefficients, block) = (&*self.coefficients, &*self.inputs);
            Update { rows: weights.values_mut(), depth, coefficients, stride, block }.run(simd);
            self.is_pending = false;
        }
    }
}

impl<S: Simd> BlockedStep<'_, S> {
    /// Products of the inputs of step `t` with group `k` of the moved weights.
    #[inline(always)]
    pub(super) fn product(&self, simd: S, t: usize, k: usize) -> Lanes<S> {
        let groups = self.coefficients.len();
        let mut product = self.products.get(simd, k);
        for (s, entry) in self.gram[..t].iter().enumerate() {
            let coefficient = self.before.get(simd, s * groups + k);
            product = coefficient.mul_add(simd, Lanes::splat(simd, *entry), product);
        }
        product
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
