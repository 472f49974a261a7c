//! Steps on several samples.

use faer::{Accum, MatMut, MatRef};
use flatmin_linalg::matmul;
use flatmin_linalg::simd::{self, AlignedVec, Groups, GroupsMut, Lanes, padded};
use flatmin_models::Activation;
use pulp::{Simd, WithSimd};

use super::activate::activate;
use super::single::mask;
use super::{Layer, MlpKernel, Neurons};
use crate::kernel::sweep::{ROWS, products};
use crate::kernel::{Step, Update};

/// Samples that go through the network together: their neurons stay in the second-level cache.
const BLOCK: usize = 256;

/// From this number of samples on dense products are about as fast as sweeps: 20 µs for 16 samples of
/// widths 64-64-64-1 (Intel Xeon), where sweeps take 7 µs for 4 and grow with the number.
const DENSE: usize = 12;

/// Buffers for steps on several samples.
#[derive(Debug)]
pub(super) struct BatchBuffers {
    /// Most samples at a time.
    capacity: usize,
    /// Their inputs, unless they are the whole data.
    inputs: AlignedVec,
    layers: Vec<Neurons>,
    gradients: Vec<Gradient>,
}

/// The gradient by the parameters of a layer, padded like them.
#[derive(Debug)]
struct Gradient {
    weights: AlignedVec,
    biases: AlignedVec,
}

impl BatchBuffers {
    pub(super) fn new(layers: &[Layer], stride: usize, count: usize) -> Self {
        let capacity = count.min(BLOCK);
        let gradient = |layer: &Layer| Gradient {
            weights: AlignedVec::zeros(layer.weights.len()),
            biases: AlignedVec::zeros(layer.biases.len()),
        };
        Self {
            capacity,
            inputs: AlignedVec::zeros(capacity * stride),
            layers: layers.iter().map(|layer| Neurons::new(layer, capacity)).collect(),
            gradients: layers.iter().map(gradient).collect(),
        }
    }

    pub(super) fn fits(&self, count: usize) -> bool {
        self.capacity >= count.min(BLOCK)
    }
}

pub(super) struct BatchStep<'k, 'a> {
    pub(super) kernel: &'k mut MlpKernel<'a>,
    pub(super) buffers: &'k mut BatchBuffers,
    /// All where there is no list.
    pub(super) samples: Option<&'k [u32]>,
    pub(super) count: usize,
    pub(super) update: Update,
}

impl WithSimd for BatchStep<'_, '_> {
    type Output = Step;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Step {
        let Self { kernel, buffers, samples, count: total, update } = self;
        let BatchBuffers { inputs: gathered, layers: neurons, gradients, .. } = buffers;
        let (stride, activation) = (kernel.stride, kernel.activation);
        let scale = 1.0 / total as f64;
        let last = kernel.layers.len() - 1;
        let (mut loss, mut squares) = (0.0, 0.0);
        let mut start = 0;
        while start < total {
            let count = BLOCK.min(total - start);
            let inputs = match samples {
                None => &kernel.inputs[start * stride..][..count * stride],
                Some(samples) => {
                    let rows = gathered.chunks_exact_mut(stride);
                    for (row, sample) in rows.zip(&samples[start..start + count]) {
                        let input = &kernel.inputs[*sample as usize * stride..][..stride];
                        row.copy_from_slice(input);
                    }
                    &gathered[..count * stride]
                }
            };
            for (l, layer) in kernel.layers.iter().enumerate() {
                let (below, neurons) = neurons.split_at_mut(l);
                let below = below.last().map_or(inputs, |below| &below.values);
                let of_layer = Products { layer, count, is_dense: total >= DENSE };
                of_layer.forward(simd, below, &mut neurons[0].values);
                of_layer.finish_forward(simd, activation, &mut neurons[0], l == last);
            }
            let outputs = kernel.layers[last].outputs;
            let top = &mut neurons[last];
            for position in 0..count {
                let sample = match samples {
                    None => start + position,
                    Some(samples) => samples[start + position] as usize,
                };
                let row = position * padded(outputs);
                let targets = kernel.data.targets_of(sample..sample + 1);
                for (o, target) in targets.iter().enumerate() {
                    let residual = top.values[row + o] - target;
                    loss += 0.5 * scale * residual * residual;
                    top.deltas[row + o] = scale * residual;
                }
            }
            for (l, layer) in kernel.layers.iter().enumerate().rev() {
                let of_layer = Products { layer, count, is_dense: total >= DENSE };
                let (below, neurons) = neurons.split_at_mut(l);
                let deltas = &neurons[0].deltas;
                let input = match below.last_mut() {
                    None => inputs,
                    Some(below) => {
                        of_layer.pull(simd, deltas, &mut below.deltas);
                        let used = count * layer.stride;
                        mask(simd, &below.slopes[..used], &mut below.deltas[..used]);
                        &below.values
                    }
                };
                squares += of_layer.gradient(simd, deltas, input, start > 0, &mut gradients[l]);
            }
            start += count;
        }
        if total >= DENSE {
            squares = 0.0;
            for gradient in &*gradients {
                squares += simd::norm_squared(&gradient.weights);
                squares += simd::norm_squared(&gradient.biases);
            }
        }
        let gradient_norm = squares.sqrt();
        let (factor, clipped) = update.factor(gradient_norm);
        for (layer, gradient) in kernel.layers.iter_mut().zip(&*gradients) {
            simd::axpy(-factor, &gradient.weights, &mut layer.weights);
            simd::axpy(-factor, &gradient.biases, &mut layer.biases);
        }
        Step { loss, gradient_norm, clipped }
    }
}

/// The products of a layer with `count` samples. Both kinds take the padding along as zeros: whole
/// registers are fastest.
#[derive(Clone, Copy)]
struct Products<'l> {
    layer: &'l Layer,
    count: usize,
    is_dense: bool,
}

impl Products<'_> {
    /// `Z = H Wᵀ`.
    #[inline(always)]
    fn forward<S: Simd>(self, simd: S, below: &[f64], values: &mut [f64]) {
        let Self { layer, count, is_dense } = self;
        let (stride, rows) = (layer.stride, padded(layer.outputs));
        if is_dense {
            matmul(
                MatMut::from_column_major_slice_mut(&mut values[..count * rows], rows, count),
                Accum::Replace,
                MatRef::from_row_major_slice(&layer.weights, rows, stride),
                MatRef::from_column_major_slice(&below[..count * stride], stride, count),
                1.0,
            );
            return;
        }
        let weights = S::as_simd_f64s(&layer.weights).0;
        let below = S::as_simd_f64s(below).0;
        let registers = stride / S::F64_LANES;
        // Whole blocks of rows: those beyond the outputs are zero.
        let blocks = weights.chunks_exact(ROWS * registers).take(layer.outputs.div_ceil(ROWS));
        for (b, block) in blocks.enumerate() {
            let mut picked = [&block[..0]; ROWS];
            for r in 0..ROWS {
                picked[r] = &block[r * registers..][..registers];
            }
            for i in 0..count {
                let sums = products(simd, picked, &below[i * registers..][..registers]);
                for r in 0..ROWS {
                    values[i * rows + b * ROWS + r] = sums[r].sum(simd);
                }
            }
        }
    }

    /// From products with the weights to values and slopes.
    #[inline(always)]
    fn finish_forward<S: Simd>(
        self,
        simd: S,
        activation: Activation,
        neurons: &mut Neurons,
        is_last: bool,
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
        if !is_last {
            activate(activation, &mut neurons.values[..used], &mut neurons.slopes[..used]);
        }
    }

    /// `P = Δ W`.
    #[inline(always)]
    fn pull<S: Simd>(self, simd: S, deltas: &[f64], pulled: &mut [f64]) {
        let Self { layer, count, is_dense } = self;
        let (stride, rows) = (layer.stride, padded(layer.outputs));
        let pulled = &mut pulled[..count * stride];
        if is_dense {
            let (weights, outputs) = (&layer.weights[..layer.outputs * stride], layer.outputs);
            matmul(
                MatMut::from_column_major_slice_mut(pulled, stride, count),
                Accum::Replace,
                MatRef::from_column_major_slice(weights, stride, outputs),
                MatRef::from_column_major_slice_with_stride(deltas, outputs, count, rows),
                1.0,
            );
            return;
        }
        pulled.fill(0.0);
        let weights = S::as_simd_f64s(&layer.weights).0;
        let pulled = S::as_mut_simd_f64s(pulled).0;
        let registers = stride / S::F64_LANES;
        let blocks = weights.chunks_exact(ROWS * registers).take(layer.outputs.div_ceil(ROWS));
        for (b, block) in blocks.enumerate() {
            let mut picked = [&block[..0]; ROWS];
            for r in 0..ROWS {
                picked[r] = &block[r * registers..][..registers];
            }
            for i in 0..count {
                let mut factors = [simd.splat_f64s(0.0); ROWS];
                for r in 0..ROWS {
                    factors[r] = simd.splat_f64s(deltas[i * rows + b * ROWS + r]);
                }
                let pulled = &mut pulled[i * registers..][..registers];
                for k in 0..registers {
                    let mut sum = pulled[k];
                    for r in 0..ROWS {
                        sum = simd.mul_add_f64s(factors[r], picked[r][k], sum);
                    }
                    pulled[k] = sum;
                }
            }
        }
    }

    /// `Δᵀ H`, and the sums of the rows of Δ; added to the gradient where there is one already. Returns
    /// the squared norm of the sum, but not of dense products.
    #[inline(always)]
    fn gradient<S: Simd>(
        self,
        simd: S,
        deltas: &[f64],
        input: &[f64],
        is_added: bool,
        gradient: &mut Gradient,
    ) -> f64 {
        let Self { layer, count, is_dense } = self;
        let (stride, rows) = (layer.stride, padded(layer.outputs));
        if layer.has_biases {
            if !is_added {
                gradient.biases.fill(0.0);
            }
            let mut biases = GroupsMut::<S>::new(&mut gradient.biases);
            let one = Lanes::splat(simd, 1.0);
            for deltas in deltas[..count * rows].chunks_exact(rows) {
                let deltas = Groups::<S>::new(deltas);
                for k in 0..deltas.len() {
                    biases.set(k, deltas.get(simd, k).mul_add(simd, one, biases.get(simd, k)));
                }
            }
        }
        if is_dense {
            let outputs = layer.outputs;
            let sum = &mut gradient.weights[..outputs * stride];
            matmul(
                MatMut::from_column_major_slice_mut(sum, stride, outputs),
                if is_added { Accum::Add } else { Accum::Replace },
                MatRef::from_column_major_slice(&input[..count * stride], stride, count),
                MatRef::from_column_major_slice_with_stride(deltas, outputs, count, rows)
                    .transpose(),
                1.0,
            );
            return 0.0;
        }
        // Few samples are one block: nothing is added to.
        let mut squares = Lanes::splat(simd, 0.0);
        let registers = stride / S::F64_LANES;
        let input = S::as_simd_f64s(input).0;
        let sums = S::as_mut_simd_f64s(&mut gradient.weights).0;
        let rows_of_sums = sums.chunks_exact_mut(registers).take(layer.outputs);
        for (j, sum) in rows_of_sums.enumerate() {
            let mut start = 0;
            while start < count {
                // Short blocks repeat their first row with a factor of zero.
                let mut picked = [&input[start * registers..][..registers]; ROWS];
                let mut factors = [simd.splat_f64s(0.0); ROWS];
                for r in 0..ROWS.min(count - start) {
                    picked[r] = &input[(start + r) * registers..][..registers];
                    factors[r] = simd.splat_f64s(deltas[(start + r) * rows + j]);
                }
                let (is_first, is_last) = (start == 0, start + ROWS >= count);
                add_rows(simd, sum, factors, picked, is_first);
                if is_last {
                    add_squares(simd, sum, &mut squares);
                }
                start += ROWS;
            }
        }
        let biases = Groups::<S>::new(&gradient.biases);
        for k in 0..biases.len() {
            let sum = biases.get(simd, k);
            squares = sum.mul_add(simd, sum, squares);
        }
        squares.sum(simd)
    }
}

/// `sum += Σ_r factor_r · row_r`, or without the old sum.
#[inline(always)]
fn add_rows<S: Simd>(
    simd: S,
    sum: &mut [S::f64s],
    factors: [S::f64s; ROWS],
    rows: [&[S::f64s]; ROWS],
    is_first: bool,
) {
    let len = sum.len();
    let mut same = [&rows[0][..len]; ROWS];
    for r in 0..ROWS {
        same[r] = &rows[r][..len];
    }
    let zero = simd.splat_f64s(0.0);
    for k in 0..len {
        let mut new = if is_first { zero } else { sum[k] };
        for r in 0..ROWS {
            new = simd.mul_add_f64s(factors[r], same[r][k], new);
        }
        sum[k] = new;
    }
}

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
