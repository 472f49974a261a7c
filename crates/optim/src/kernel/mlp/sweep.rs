//! The products of a layer with a few samples, by sweeps over its weights.

use flatmin_linalg::simd::{self, Groups, GroupsMut, Lanes, padded};
use flatmin_models::Activation;
use pulp::Simd;

use super::network::{Layer, Neurons};
use super::sums::{Gradient, add_rows_to, mask};
use crate::kernel::rows::{TILE_ROWS, products, rows_of};

/// A layer on `count` samples, too few for dense products. Padding consists of zeros and takes part
/// in the products, because whole registers are fastest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sweeps<'l> {
    pub(super) layer: &'l Layer,
    pub(super) count: usize,
}

impl Sweeps<'_> {
    /// Computes values and slopes from the values below. The last layer has no activation.
    #[inline(always)]
    pub(super) fn forward<S: Simd>(
        self,
        simd: S,
        activation: Option<Activation>,
        below: &[f64],
        neurons: &mut Neurons,
    ) {
        self.multiply(simd, below, &mut neurons.values);
        self.finish_forward(simd, activation, neurons);
    }

    /// `Z = H Wᵀ`.
    #[inline(always)]
    fn multiply<S: Simd>(self, simd: S, below: &[f64], values: &mut [f64]) {
        let Self { layer, count } = self;
        let (stride, rows) = (layer.stride, padded(layer.outputs));
        let weights = S::as_simd_f64s(&layer.weights).0;
        let below = S::as_simd_f64s(below).0;
        let registers = stride / S::F64_LANES;
        // Blocks of rows are whole: the rows beyond the outputs are zero.
        let blocks =
            weights.chunks_exact(TILE_ROWS * registers).take(layer.outputs.div_ceil(TILE_ROWS));
        for (b, block) in blocks.enumerate() {
            let picked = rows_of(block, registers);
            for i in 0..count {
                let sums = products(simd, picked, &below[i * registers..][..registers]);
                for r in 0..TILE_ROWS {
                    values[i * rows + b * TILE_ROWS + r] = sums[r].sum(simd);
                }
            }
        }
    }

    /// Replaces products with the weights by values, and sets the slopes.
    #[inline(always)]
    pub(super) fn finish_forward<S: Simd>(
        self,
        simd: S,
        activation: Option<Activation>,
        neurons: &mut Neurons,
    ) {
        let rows = padded(self.layer.outputs);
        let used = self.count * rows;
        if self.layer.has_biases {
            let biases = Groups::<S>::new(&self.layer.biases);
            let one = Lanes::splat(simd, 1.0);
            for values in neurons.values[..used].chunks_exact_mut(rows) {
                let mut values = GroupsMut::<S>::new(values);
                for k in 0..biases.len() {
                    values.set(k, biases.get(simd, k).mul_add(simd, one, values.get(simd, k)));
                }
            }
        }
        if let Some(activation) = activation {
            activation.activate(&mut neurons.values[..used], &mut neurons.slopes[..used]);
        }
    }

    /// Computes the deltas of the layer below, `P = Δ W` times the slopes.
    #[inline(always)]
    pub(super) fn pull<S: Simd>(self, simd: S, deltas: &[f64], below: &mut Neurons) {
        let used = self.count * self.layer.stride;
        self.pull_back(simd, deltas, &mut below.deltas[..used]);
        mask(simd, &below.slopes[..used], &mut below.deltas[..used]);
    }

    /// `P = Δ W`.
    #[inline(always)]
    fn pull_back<S: Simd>(self, simd: S, deltas: &[f64], pulled: &mut [f64]) {
        let Self { layer, count } = self;
        let (stride, rows) = (layer.stride, padded(layer.outputs));
        pulled.fill(0.0);
        let weights = S::as_simd_f64s(&layer.weights).0;
        let pulled = S::as_mut_simd_f64s(pulled).0;
        let registers = stride / S::F64_LANES;
        let blocks =
            weights.chunks_exact(TILE_ROWS * registers).take(layer.outputs.div_ceil(TILE_ROWS));
        for (b, block) in blocks.enumerate() {
            let picked = rows_of(block, registers);
            for i in 0..count {
                let mut factors = [simd.splat_f64s(0.0); TILE_ROWS];
                for r in 0..TILE_ROWS {
                    factors[r] = simd.splat_f64s(deltas[i * rows + b * TILE_ROWS + r]);
                }
                let pulled = &mut pulled[i * registers..][..registers];
                for k in 0..registers {
                    let mut sum = pulled[k];
                    for r in 0..TILE_ROWS {
                        sum = simd.mul_add_f64s(factors[r], picked[r][k], sum);
                    }
                    pulled[k] = sum;
                }
            }
        }
    }

    /// Computes the gradient: `Δᵀ H`, and the sums of the rows of Δ. Returns its squared norm.
    #[inline(always)]
    pub(super) fn gradient<S: Simd>(
        self,
        simd: S,
        deltas: &[f64],
        input: &[f64],
        gradient: &mut Gradient,
    ) -> f64 {
        let Self { layer, count } = self;
        let (stride, rows) = (layer.stride, padded(layer.outputs));
        if layer.has_biases {
            gradient.biases.fill(0.0);
            add_rows_to(simd, &deltas[..count * rows], &mut gradient.biases);
        }
        // So few samples are a single block, which overwrites the old gradient.
        let mut squares = Lanes::splat(simd, 0.0);
        let registers = stride / S::F64_LANES;
        let input = S::as_simd_f64s(input).0;
        let sums = S::as_mut_simd_f64s(&mut gradient.weights).0;
        let rows_of_sums = sums.chunks_exact_mut(registers).take(layer.outputs);
        for (j, sum) in rows_of_sums.enumerate() {
            let mut start = 0;
            while start < count {
                // Short blocks repeat their first row with a factor of zero.
                let mut picked = [&input[start * registers..][..registers]; TILE_ROWS];
                let mut factors = [simd.splat_f64s(0.0); TILE_ROWS];
                for r in 0..TILE_ROWS.min(count - start) {
                    picked[r] = &input[(start + r) * registers..][..registers];
                    factors[r] = simd.splat_f64s(deltas[(start + r) * rows + j]);
                }
                let (is_first, is_last) = (start == 0, start + TILE_ROWS >= count);
                add_rows(simd, sum, factors, picked, is_first);
                if is_last {
                    add_squares(simd, sum, &mut squares);
                }
                start += TILE_ROWS;
            }
        }
        let biases = Groups::<S>::new(gradient.biases_of(layer));
        for k in 0..biases.len() {
            let sum = biases.get(simd, k);
            squares = sum.mul_add(simd, sum, squares);
        }
        squares.sum(simd)
    }
}

/// `sum += Σ_r factor_r · row_r`, or `sum = Σ_r factor_r · row_r` for the first rows.
#[inline(always)]
fn add_rows<S: Simd>(
    simd: S,
    sum: &mut [S::f64s],
    factors: [S::f64s; TILE_ROWS],
    rows: [&[S::f64s]; TILE_ROWS],
    is_first: bool,
) {
    let len = sum.len();
    let mut same = [&rows[0][..len]; TILE_ROWS];
    for r in 0..TILE_ROWS {
        same[r] = &rows[r][..len];
    }
    let zero = simd.splat_f64s(0.0);
    for k in 0..len {
        let mut new = if is_first { zero } else { sum[k] };
        for r in 0..TILE_ROWS {
            new = simd.mul_add_f64s(factors[r], same[r][k], new);
        }
        sum[k] = new;
    }
}

/// Adds the squares of the values to `squares`.
#[inline(always)]
fn add_squares<S: Simd>(simd: S, values: &[S::f64s], squares: &mut Lanes<S>) {
    let groups = simd::LANES / S::F64_LANES;
    let mut k = 0;
    while k < values.len() {
        for g in 0..groups {
            squares.accumulate(simd, g, values[k + g], values[k + g]);
        }
        k += groups;
    }
}
