//! The matrix products of a layer on many samples.

#![expect(
    clippy::needless_range_loop,
    reason = "registers are picked by constant indices, as the compiler needs them"
)]

use flatmin_linalg::simd::{AlignedVec, Groups, LANES, Lanes, dot_lanes, padded};
use flatmin_models::Activation;
use pulp::Simd;

use super::network::{Layer, Neurons};
use super::row_gemm::{Epilogue, Factors, Lines, RowGemm};
use crate::kernel::rows::{TILE_ROWS, products, rows_of};

/// A layer on `count` samples. Padding consists of zeros and takes part in the products.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dense<'l> {
    pub(super) layer: &'l Layer,
    pub(super) count: usize,
    /// The activation of the hidden layers.
    pub(super) activation: Activation,
    /// True for the last layer, which has no activation.
    pub(super) is_last: bool,
}

impl Dense<'_> {
    /// Computes values and slopes from the values of the layer below. For ReLU it computes no
    /// slopes, because the values determine them.
    #[inline(always)]
    pub(super) fn forward<S: Simd>(
        self,
        simd: S,
        transposed: &[f64],
        below: &[f64],
        neurons: &mut Neurons,
    ) {
        let Self { layer, count, .. } = self;
        let activation = (!self.is_last).then_some(self.activation);
        let rows = padded(layer.outputs);
        let used = count * rows;
        if layer.outputs == 1 {
            self.forward_to_one(simd, below, &mut neurons.values[..used]);
        } else {
            let biases = S::as_simd_f64s(&layer.biases).0;
            let gemm = RowGemm {
                rows: S::as_simd_f64s(transposed).0,
                pitch: pitch(layer) / S::F64_LANES,
                registers: rows / S::F64_LANES,
                factors: Factors {
                    values: below,
                    stride: layer.stride,
                    lines: Lines::Rows,
                    terms: layer.inputs,
                },
                count,
                out: S::as_mut_simd_f64s(&mut neurons.values[..used]).0,
                epilogue: match activation {
                    Some(Activation::Relu) => Epilogue::Rectify(biases),
                    _ => Epilogue::Shift(biases),
                },
            };
            gemm.run(simd);
        }
        match activation {
            None => {}
            Some(Activation::Relu) if layer.outputs > 1 => {}
            Some(activation) => {
                activation.activate(&mut neurons.values[..used], &mut neurons.slopes[..used]);
            }
        }
    }

    /// Computes the pre-activations of a single neuron. A dense product would use only one entry of
    /// each padded row of the transposed weights.
    #[inline(always)]
    fn forward_to_one<S: Simd>(self, simd: S, below: &[f64], values: &mut [f64]) {
        let Self { layer, count, .. } = self;
        let registers = layer.stride / S::F64_LANES;
        let below = &S::as_simd_f64s(below).0[..count * registers];
        let weights = &S::as_simd_f64s(&layer.weights).0[..registers];
        let bias = layer.biases[0];
        let mut values = values.chunks_exact_mut(LANES);
        let mut blocks = below.chunks_exact(TILE_ROWS * registers);
        for block in &mut blocks {
            let sums = products(simd, rows_of(block, registers), weights);
            for (sum, value) in sums.into_iter().zip(&mut values) {
                value[0] = sum.sum(simd) + bias;
            }
        }
        let rest = blocks.remainder().chunks_exact(registers);
        for (row, value) in rest.zip(values) {
            let [sum] = products(simd, [row], weights);
            value[0] = sum.sum(simd) + bias;
        }
    }

    /// Computes the deltas of the layer below, and adds their sums over the samples to `biases`.
    #[inline(always)]
    pub(super) fn pull<S: Simd>(
        self,
        simd: S,
        deltas: &[f64],
        below: &mut Neurons,
        biases: &mut [f64],
    ) {
        let Self { layer, count, .. } = self;
        let used = count * layer.stride;
        let biases = S::as_mut_simd_f64s(biases).0;
        let gemm = RowGemm {
            rows: S::as_simd_f64s(&layer.weights).0,
            pitch: layer.stride / S::F64_LANES,
            registers: layer.stride / S::F64_LANES,
            factors: Factors {
                values: deltas,
                stride: padded(layer.outputs),
                lines: Lines::Rows,
                terms: layer.outputs,
            },
            count,
            out: S::as_mut_simd_f64s(&mut below.deltas[..used]).0,
            epilogue: match self.activation {
                Activation::Relu => {
                    Epilogue::Mask(S::as_simd_f64s(&below.values[..used]).0, biases)
                }
                _ => Epilogue::Scale(S::as_simd_f64s(&below.slopes[..used]).0, biases),
            },
        };
        gemm.run(simd);
    }

    /// Computes the gradient with respect to the weights, or adds to it if `is_added` is true.
    #[inline(always)]
    pub(super) fn gradient<S: Simd>(
        self,
        simd: S,
        [deltas, below]: [&[f64]; 2],
        is_added: bool,
        gradient: &mut [f64],
    ) {
        let Self { layer, count, .. } = self;
        let gemm = RowGemm {
            rows: S::as_simd_f64s(&below[..count * layer.stride]).0,
            pitch: layer.stride / S::F64_LANES,
            registers: layer.stride / S::F64_LANES,
            factors: Factors {
                values: deltas,
                stride: padded(layer.outputs),
                lines: Lines::Columns,
                terms: count,
            },
            count: layer.outputs,
            out: S::as_mut_simd_f64s(gradient).0,
            epilogue: if is_added { Epilogue::Add } else { Epilogue::Replace },
        };
        gemm.run(simd);
    }
}

/// Distance between the rows of transposed weights: an odd number of cache lines, so that rows do
/// not compete for the same few sets of a cache.
fn pitch(layer: &Layer) -> usize {
    ((padded(layer.outputs) / LANES) | 1) * LANES
}

/// A buffer of zeros for the transposed weights of a layer.
pub(super) fn room_for_transposed(layer: &Layer) -> AlignedVec {
    AlignedVec::zeros(layer.stride * pitch(layer))
}

/// Writes the transposed weights of a layer: one row for each of its inputs.
#[inline(always)]
pub(super) fn transpose(layer: &Layer, out: &mut [f64]) {
    const SIDE: usize = TILE_ROWS;
    let (stride, pitch) = (layer.stride, pitch(layer));
    let (outputs, inputs) = (layer.outputs.div_ceil(SIDE), layer.inputs.div_ceil(SIDE));
    // Rows and columns beyond these are zero.
    let blocks = layer.weights.chunks_exact(SIDE * stride).take(outputs);
    for (b, block) in blocks.enumerate() {
        let lines = rows_of(block, stride);
        for (k, out) in out.chunks_exact_mut(SIDE * pitch).take(inputs).enumerate() {
            let mut square = [[0.0; SIDE]; SIDE];
            for r in 0..SIDE {
                square[r].copy_from_slice(&lines[r][k * SIDE..][..SIDE]);
            }
            for c in 0..SIDE {
                let mut column = [0.0; SIDE];
                for r in 0..SIDE {
                    column[r] = square[r][c];
                }
                out[c * pitch + b * SIDE..][..SIDE].copy_from_slice(&column);
            }
        }
    }
}

/// The squared norm of the gradient with respect to the parameters of a layer.
#[inline(always)]
pub(super) fn norm_squared<S: Simd>(simd: S, weights: &[f64], biases: &[f64]) -> f64 {
    // With four independent sums, no addition waits for the previous one. Rows and columns are
    // padded to whole blocks.
    const SUMS: usize = 4;
    let weights = Groups::<S>::new(weights);
    let mut sums = [Lanes::splat(simd, 0.0); SUMS];
    let mut k = 0;
    while k + SUMS <= weights.len() {
        for s in 0..SUMS {
            let group = weights.get(simd, k + s);
            sums[s] = group.mul_add(simd, group, sums[s]);
        }
        k += SUMS;
    }
    let biases = Groups::<S>::new(biases);
    let mut total = dot_lanes(simd, biases, biases).sum(simd);
    for sum in sums {
        total += sum.sum(simd);
    }
    total
}
