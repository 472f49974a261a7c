//! The layer that inputs go into, a block of steps of batch size 1 at a time: as many as there are lanes.
//!
//! A step moves the weights of neuron j by a multiple `c_j` of its input, so that within a block of steps
//! the products with the inputs are known without the moved weights:
//! `w_j(t)·x_t = w_j·x_t + Σ_{s<t} c_j(s) x_s·x_t`. The weights are therefore read and written once a block:
//! moved along the inputs of the last block, and multiplied with those of the next one, at the speed of
//! dense products. A sweep a step would have to wait for the second-level cache.

use flatmin_linalg::simd::{AlignedVec, Groups, GroupsMut, Lanes, Real, padded_for};
use pulp::Simd;

use super::grouped::{self, Grouped, Product, Strides, Tiles, Update};

/// A block of inputs, and what their steps do to the layer.
#[derive(Debug)]
pub(super) struct Blocked<E: Real = f64> {
    /// Neurons, filled up to whole groups.
    stride: usize,
    /// The inputs of the steps in hand and of those before, interleaved.
    inputs: AlignedVec<E>,
    previous_inputs: AlignedVec<E>,
    /// `x_s·x_t` of the steps in hand.
    gram: Vec<E::Array>,
    /// A row of neurons for each step: products with the weights at the start of the block.
    products: AlignedVec<E>,
    /// A row of neurons for each step: the multiple of the input that their weights move by.
    coefficients: AlignedVec<E>,
    /// Whether they have not been moved yet.
    is_pending: bool,
}

/// One step of a block.
pub(super) struct BlockedStep<'b, S: Simd, E: Real = f64> {
    /// `x_s·x_t` for this step t; at t the squared norm of its input.
    pub(super) gram: &'b [E],
    /// Products with the weights at the start of the block.
    pub(super) products: GroupsMut<'b, S, E>,
    /// The coefficients of the steps before, row by row.
    before: Groups<'b, S, E>,
    /// Those of this step, to be set.
    pub(super) coefficients: GroupsMut<'b, S, E>,
}

impl<E: Real> Blocked<E> {
    pub(super) fn new(width: usize, input_dim: usize) -> Self {
        let stride = padded_for::<E>(width);
        let inputs = || AlignedVec::zeros(input_dim * E::LANES);
        let neurons = || AlignedVec::zeros(stride * E::LANES);
        Self {
            stride,
            inputs: inputs(),
            previous_inputs: inputs(),
            gram: vec![E::Array::default(); E::LANES],
            products: neurons(),
            coefficients: neurons(),
            is_pending: false,
        }
    }

    /// Moves the weights by the steps of the last block, and starts one of the listed samples; `inputs`
    /// are those of all, row by row.
    #[inline(always)]
    pub(super) fn begin<S: Simd>(
        &mut self,
        simd: S,
        weights: &mut Grouped<E>,
        inputs: &[E],
        samples: &[u32],
    ) {
        let (stride, depth) = (self.stride, weights.columns());
        std::mem::swap(&mut self.inputs, &mut self.previous_inputs);
        let rows = samples.iter().map(|&sample| &inputs[sample as usize * depth..][..depth]);
        grouped::interleave(&mut self.inputs, rows);
        let mut tiles = Tiles::new::<S>(stride / E::LANES);
        while let Some((first, count)) = tiles.next() {
            let panel = E::LANES * depth;
            let rows = &mut weights.values_mut()[first * panel..][..count * panel];
            if self.is_pending {
                let coefficients = &self.coefficients[first * E::LANES..];
                let block = &self.previous_inputs;
                Update { rows, depth, coefficients, stride, block }.run(simd);
            }
            Product {
                rows,
                depth,
                block: &self.inputs,
                out: &mut self.products[first * E::LANES..],
                strides: Strides { group: E::LANES, column: stride },
                columns: E::LANES,
                is_added: false,
            }
            .run(simd);
        }
        gram(simd, &self.inputs, &mut self.gram);
        // Steps that are missing in the block move nothing.
        self.coefficients.fill(E::ZERO);
        self.is_pending = true;
    }

    /// Step `t` of the block.
    #[inline(always)]
    pub(super) fn step<S: Simd>(&mut self, t: usize) -> BlockedStep<'_, S, E> {
        let (before, rest) = self.coefficients.split_at_mut(t * self.stride);
        BlockedStep {
            gram: self.gram[t].as_ref(),
            products: GroupsMut::new(&mut self.products[t * self.stride..][..self.stride]),
            before: Groups::new(before),
            coefficients: GroupsMut::new(&mut rest[..self.stride]),
        }
    }

    /// Moves the weights by the steps of the last block.
    #[inline(always)]
    pub(super) fn finish<S: Simd>(&mut self, simd: S, weights: &mut Grouped<E>) {
        if self.is_pending {
            let (depth, stride) = (weights.columns(), self.stride);
            let (coefficients, block) = (&*self.coefficients, &*self.inputs);
            Update { rows: weights.values_mut(), depth, coefficients, stride, block }.run(simd);
            self.is_pending = false;
        }
    }
}

impl<S: Simd, E: Real> BlockedStep<'_, S, E> {
    /// Products of the inputs of step `t` with group `k` of the moved weights.
    #[inline(always)]
    pub(super) fn product(&self, simd: S, t: usize, k: usize) -> Lanes<S, E> {
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
fn gram<S: Simd, E: Real>(simd: S, block: &[E], gram: &mut [E::Array]) {
    /// Rows that are summed up together.
    const ROWS: usize = 8;
    let entries = E::arrays(block);
    let groups = Groups::<S, E>::new(block);
    let mut first = 0;
    while first < E::LANES {
        let mut sums = [Lanes::splat(simd, E::ZERO); ROWS];
        for (k, entry) in entries.iter().enumerate() {
            let lanes = groups.get(simd, k);
            for r in 0..ROWS {
                sums[r] = lanes.mul_add(simd, Lanes::splat(simd, entry[first + r]), sums[r]);
            }
        }
        for r in 0..ROWS {
            GroupsMut::<S, E>::new(gram[first + r].as_mut()).set(0, sums[r]);
        }
        first += ROWS;
    }
}
