//! The input layer, updated for a block of `LANES` single-sample steps at once.
//!
//! A step moves the weights of neuron j by a multiple `c_j` of its input. Within a block of steps
//! the products with the inputs are therefore known without moving the weights:
//! `w_j(t)·x_t = w_j·x_t + Σ_{s<t} c_j(s) x_s·x_t`. The weights are read and written once per
//! block: moved along the inputs of the last block (`rank_k`) and multiplied with those of the next
//! one (`gemm`), at the speed of dense products. A sweep for every step would have to wait for the
//! second-level cache.

use flatmin_linalg::simd::{AlignedVec, Groups, GroupsMut, Lanes, Real, padded_for};
use pulp::Simd;

use super::gemm::{Gemm, Grouped, RankK, Strides, Tiles, interleave};

/// A block of inputs, with the weight updates of the steps on them.
#[derive(Debug)]
pub(super) struct InputLayer<E: Real = f64> {
    /// Number of neurons, filled up to whole groups.
    stride: usize,
    /// The inputs of the current block and of the block before, interleaved.
    inputs: AlignedVec<E>,
    previous_inputs: AlignedVec<E>,
    /// `x_s·x_t` for the steps of the current block.
    gram: AlignedVec<E>,
    /// A row of neurons for each step: products with the weights at the start of the block.
    products: AlignedVec<E>,
    /// A row of neurons for each step: the multiple of the input that their weights move by.
    coefficients: AlignedVec<E>,
    /// True while these coefficients have not been applied to the weights.
    is_pending: bool,
}

/// One step of a block.
pub(super) struct InputLayerStep<'b, S: Simd, E: Real = f64> {
    /// `x_s·x_t` for this step t; entry t is the squared norm of its input.
    pub(super) gram: &'b [E],
    /// Products with the weights at the start of the block.
    pub(super) products: GroupsMut<'b, S, E>,
    /// The coefficients of the earlier steps of the block, row by row.
    before: Groups<'b, S, E>,
    /// The coefficients of this step, to be set.
    pub(super) coefficients: GroupsMut<'b, S, E>,
}

impl<E: Real> InputLayer<E> {
    pub(super) fn new(width: usize, input_dim: usize) -> Self {
        let stride = padded_for::<E>(width);
        let inputs = || AlignedVec::zeros(input_dim * E::LANES);
        let neurons = || AlignedVec::zeros(stride * E::LANES);
        Self {
            stride,
            inputs: inputs(),
            previous_inputs: inputs(),
            gram: AlignedVec::zeros(E::LANES * E::LANES),
            products: neurons(),
            coefficients: neurons(),
            is_pending: false,
        }
    }

    /// Applies the updates of the last block to the weights, and starts a block of the listed
    /// samples.
    ///
    /// `inputs` are the inputs of all samples, row by row.
    #[inline(always)]
    pub(super) fn begin<S: Simd>(
        &mut self,
        simd: S,
        weights: &mut Grouped<E>,
        inputs: &[E],
        samples: &[u32],
    ) {
        let (stride, depth) = (self.stride, weights.columns);
        std::mem::swap(&mut self.inputs, &mut self.previous_inputs);
        let rows = samples.iter().map(|&sample| &inputs[sample as usize * depth..][..depth]);
        interleave(&mut self.inputs, rows);
        let mut tiles = Tiles::new::<S>(stride / E::LANES);
        while let Some((first, count)) = tiles.next() {
            let panel = E::LANES * depth;
            let rows = &mut weights.values[first * panel..][..count * panel];
            if self.is_pending {
                let coefficients = &self.coefficients[first * E::LANES..];
                let block = &self.previous_inputs;
                RankK { rows, depth, coefficients, stride, block }.run(simd);
            }
            Gemm {
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
        let strides = Strides { group: E::LANES, column: E::LANES };
        let (rows, block, out) = (&*self.inputs, &*self.inputs, &mut *self.gram);
        Gemm { rows, depth, block, out, strides, columns: E::LANES, is_added: false }.run(simd);
        // Steps beyond the end of the order move nothing.
        self.coefficients.fill(E::ZERO);
        self.is_pending = true;
    }

    /// Step `t` of the block.
    #[inline(always)]
    pub(super) fn step<S: Simd>(&mut self, t: usize) -> InputLayerStep<'_, S, E> {
        let (before, rest) = self.coefficients.split_at_mut(t * self.stride);
        InputLayerStep {
            gram: &self.gram[t * E::LANES..][..E::LANES],
            products: GroupsMut::new(&mut self.products[t * self.stride..][..self.stride]),
            before: Groups::new(before),
            coefficients: GroupsMut::new(&mut rest[..self.stride]),
        }
    }

    /// Applies the updates of the last block to the weights.
    #[inline(always)]
    pub(super) fn finish<S: Simd>(&mut self, simd: S, weights: &mut Grouped<E>) {
        if self.is_pending {
            let (depth, stride) = (weights.columns, self.stride);
            let (coefficients, block) = (&*self.coefficients, &*self.inputs);
            RankK { rows: &mut weights.values, depth, coefficients, stride, block }.run(simd);
            self.is_pending = false;
        }
    }
}

impl<S: Simd, E: Real> InputLayerStep<'_, S, E> {
    /// The products of the input of step `t` with group `k` of the weights as updated by the
    /// earlier steps.
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
