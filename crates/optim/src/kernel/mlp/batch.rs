//! Steps on several samples.

use flatmin_linalg::simd::{self, AlignedVec, Groups, GroupsMut, Lanes, padded};
use flatmin_models::{Activation, Dataset};
use pulp::{Simd, WithSimd};

use super::dense::{self, Dense};
use super::single::mask;
use super::{Layer, MlpKernel, Neurons};
use crate::kernel::step::{Step, Update};
use crate::kernel::sweep::{ROWS, products};

/// Samples that go through the network together: their neurons stay in the second-level cache. What they add to the
/// gradient is summed apart.
const BLOCK: usize = 128;

/// From this number of samples on dense products are faster than sweeps: for 4, 6 and 11 samples of widths 64-64-64-1
/// they take 5.2, 5.8 and 8.2 µs (AMD EPYC), and sweeps 4.2, 6.4 and 9.8 µs.
const DENSE: usize = 6;

/// Buffers for steps on several samples.
#[derive(Debug)]
pub(super) struct BatchBuffers {
    /// Most samples at a time.
    capacity: usize,
    /// Their inputs, unless they are the whole data.
    inputs: AlignedVec,
    layers: Vec<Neurons>,
    gradients: Vec<Gradient>,
    /// The weights of each layer with a row for each of its inputs.
    transposed: Vec<AlignedVec>,
}

/// The gradient by the parameters of a layer, padded like them; by biases also where there are none.
#[derive(Debug)]
struct Gradient {
    weights: AlignedVec,
    biases: AlignedVec,
}

impl Gradient {
    /// The gradient by the biases that the layer has: of others the sums may be there, and are no part of it.
    fn biases_of(&self, layer: &Layer) -> &[f64] {
        if layer.has_biases { &self.biases } else { &[] }
    }
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
            transposed: layers.iter().map(dense::room_for_transposed).collect(),
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
        let (stride, is_dense) = (kernel.stride, total >= DENSE);
        if is_dense {
            for (layer, out) in kernel.layers.iter().zip(&mut buffers.transposed) {
                if layer.outputs > 1 {
                    dense::transpose(layer, out);
                }
            }
            for gradient in &mut buffers.gradients {
                gradient.biases.fill(0.0);
            }
        }
        let (mut loss, mut squares) = (0.0, 0.0);
        let mut start = 0;
        while start < total {
            let count = BLOCK.min(total - start);
            let block = match samples {
                None => Block::Range(start, count),
                Some(samples) => Block::List(&samples[start..start + count]),
            };
            let BatchBuffers { inputs: gathered, layers: neurons, gradients, transposed, .. } =
                &mut *buffers;
            let inputs = block.inputs(&kernel.inputs, stride, gathered);
            let passes = Passes { layers: &kernel.layers, activation: kernel.activation, count };
            if is_dense {
                passes.dense_forward(simd, inputs, transposed, neurons);
            } else {
                passes.forward(simd, inputs, neurons);
            }
            if let Some(top) = neurons.last_mut() {
                loss += residuals(kernel.data, block, 1.0 / total as f64, top);
            }
            if is_dense {
                passes.dense_backward(simd, inputs, start > 0, neurons, gradients);
            } else {
                squares += passes.backward(simd, inputs, neurons, gradients);
            }
            start += count;
        }
        if is_dense {
            for (layer, gradient) in kernel.layers.iter().zip(&buffers.gradients) {
                squares += dense::norm_squared(simd, &gradient.weights, gradient.biases_of(layer));
            }
        }
        let gradient_norm = squares.sqrt();
        let (factor, clipped) = update.factor(gradient_norm);
        for (layer, gradient) in kernel.layers.iter_mut().zip(&buffers.gradients) {
            simd::axpy(-factor, &gradient.weights, &mut layer.weights);
            if layer.has_biases {
                simd::axpy(-factor, &gradient.biases, &mut layer.biases);
            }
        }
        Step { loss, gradient_norm, clipped }
    }
}

/// Samples that go through the network together.
#[derive(Debug, Clone, Copy)]
enum Block<'s> {
    /// Their first one and their number.
    Range(usize, usize),
    List(&'s [u32]),
}

impl Block<'_> {
    /// Their padded inputs, gathered where they do not lie one after another.
    #[inline(always)]
    fn inputs<'b>(self, all: &'b [f64], stride: usize, gathered: &'b mut [f64]) -> &'b [f64] {
        match self {
            Self::Range(start, count) => &all[start * stride..][..count * stride],
            Self::List(samples) => {
                for (row, sample) in gathered.chunks_exact_mut(stride).zip(samples) {
                    row.copy_from_slice(&all[*sample as usize * stride..][..stride]);
                }
                &gathered[..samples.len() * stride]
            }
        }
    }
}

/// Writes the deltas of the last layer, `scale` times its residuals; returns the loss.
#[inline(always)]
fn residuals(data: &Dataset, block: Block<'_>, scale: f64, top: &mut Neurons) -> f64 {
    let outputs = data.output_dim();
    let Neurons { values, deltas, .. } = top;
    let rows = values.chunks_exact(padded(outputs)).zip(deltas.chunks_exact_mut(padded(outputs)));
    let mut loss = 0.0;
    match block {
        Block::Range(start, count) => {
            let targets = data.targets_of(start..start + count).chunks_exact(outputs);
            for ((values, deltas), targets) in rows.zip(targets) {
                residuals_of(values, targets, scale, deltas, &mut loss);
            }
        }
        Block::List(samples) => {
            for ((values, deltas), sample) in rows.zip(samples) {
                let sample = *sample as usize;
                let targets = data.targets_of(sample..sample + 1);
                residuals_of(values, targets, scale, deltas, &mut loss);
            }
        }
    }
    loss
}

/// As [`residuals`], of a sample.
#[inline(always)]
fn residuals_of(values: &[f64], targets: &[f64], scale: f64, deltas: &mut [f64], loss: &mut f64) {
    for ((delta, value), target) in deltas.iter_mut().zip(values).zip(targets) {
        let residual = value - target;
        *loss += 0.5 * scale * residual * residual;
        *delta = scale * residual;
    }
}

/// Both passes of `count` samples through the layers.
#[derive(Clone, Copy)]
struct Passes<'l> {
    layers: &'l [Layer],
    activation: Activation,
    count: usize,
}

impl Passes<'_> {
    #[inline(always)]
    fn dense_forward<S: Simd>(
        self,
        simd: S,
        inputs: &[f64],
        transposed: &[AlignedVec],
        neurons: &mut [Neurons],
    ) {
        let Self { layers, activation, count } = self;
        for (l, (layer, transposed)) in layers.iter().zip(transposed).enumerate() {
            let (below, neurons) = neurons.split_at_mut(l);
            let below = below.last().map_or(inputs, |below| &below.values);
            let activation = (l + 1 < layers.len()).then_some(activation);
            let layer = Dense { layer, count };
            layer.forward(simd, activation, transposed, below, &mut neurons[0]);
        }
    }

    /// Adds to the gradients by the biases, and to those by the weights where `is_added`.
    #[inline(always)]
    fn dense_backward<S: Simd>(
        self,
        simd: S,
        inputs: &[f64],
        is_added: bool,
        neurons: &mut [Neurons],
        gradients: &mut [Gradient],
    ) {
        let Self { layers, activation, count } = self;
        for (l, layer) in layers.iter().enumerate().rev() {
            let (below, neurons) = neurons.split_at_mut(l);
            let deltas = &neurons[0].deltas;
            let (gradients_below, gradients) = gradients.split_at_mut(l);
            if l + 1 == layers.len() {
                let rows = padded(layer.outputs);
                add_rows_to(simd, &deltas[..count * rows], &mut gradients[0].biases);
            }
            let layer = Dense { layer, count };
            let input = match (below.last_mut(), gradients_below.last_mut()) {
                (Some(below), Some(gradient)) => {
                    layer.pull(simd, activation, deltas, below, &mut gradient.biases);
                    &below.values
                }
                _ => inputs,
            };
            layer.gradient(simd, deltas, input, is_added, &mut gradients[0].weights);
        }
    }

    #[inline(always)]
    fn forward<S: Simd>(self, simd: S, inputs: &[f64], neurons: &mut [Neurons]) {
        let Self { layers, activation, count } = self;
        for (l, layer) in layers.iter().enumerate() {
            let (below, neurons) = neurons.split_at_mut(l);
            let below = below.last().map_or(inputs, |below| &below.values);
            let of_layer = Products { layer, count };
            of_layer.forward(simd, below, &mut neurons[0].values);
            of_layer.finish_forward(simd, activation, &mut neurons[0], l + 1 == layers.len());
        }
    }

    /// Returns the squared norm of the gradient.
    #[inline(always)]
    fn backward<S: Simd>(
        self,
        simd: S,
        inputs: &[f64],
        neurons: &mut [Neurons],
        gradients: &mut [Gradient],
    ) -> f64 {
        let Self { layers, count, .. } = self;
        let mut squares = 0.0;
        for (l, layer) in layers.iter().enumerate().rev() {
            let of_layer = Products { layer, count };
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
            squares += of_layer.gradient(simd, deltas, input, &mut gradients[l]);
        }
        squares
    }
}

/// Adds the rows to `sum`, one by one.
#[inline(always)]
fn add_rows_to<S: Simd>(simd: S, rows: &[f64], sum: &mut [f64]) {
    let mut sum = GroupsMut::<S>::new(sum);
    let one = Lanes::splat(simd, 1.0);
    for row in rows.chunks_exact(sum.len() * simd::LANES) {
        let row = Groups::<S>::new(row);
        for k in 0..row.len() {
            sum.set(k, row.get(simd, k).mul_add(simd, one, sum.get(simd, k)));
        }
    }
}

/// The products of a layer with a few samples, by sweeps over its weights. Padding is taken along as zeros: whole
/// registers are fastest.
#[derive(Clone, Copy)]
struct Products<'l> {
    layer: &'l Layer,
    count: usize,
}

impl Products<'_> {
    /// `Z = H Wᵀ`.
    #[inline(always)]
    fn forward<S: Simd>(self, simd: S, below: &[f64], values: &mut [f64]) {
        let Self { layer, count } = self;
        let (stride, rows) = (layer.stride, padded(layer.outputs));
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
            activation.activate(&mut neurons.values[..used], &mut neurons.slopes[..used]);
        }
    }

    /// `P = Δ W`.
    #[inline(always)]
    fn pull<S: Simd>(self, simd: S, deltas: &[f64], pulled: &mut [f64]) {
        let Self { layer, count } = self;
        let (stride, rows) = (layer.stride, padded(layer.outputs));
        let pulled = &mut pulled[..count * stride];
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

    /// `Δᵀ H`, and the sums of the rows of Δ. Returns the squared norm.
    #[inline(always)]
    fn gradient<S: Simd>(
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
        let biases = Groups::<S>::new(gradient.biases_of(layer));
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
