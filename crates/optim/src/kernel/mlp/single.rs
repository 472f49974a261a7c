//! Steps on single samples. The input layer takes `LANES` steps in a sweep ([`InputLayer`]).

use flatmin_linalg::simd::{AlignedVec, Groups, GroupsMut, LANES, Lanes, dot_lanes, padded};
use flatmin_models::Activation;
use pulp::{Simd, WithSimd};

use super::network::{Layer, MlpNetwork, Neurons};
use super::sums::mask;
use super::sweep::Sweeps;
use crate::kernel::gemm::Grouped;
use crate::kernel::input_layer::InputLayer;
use crate::kernel::rows::{TILE_ROWS, read_rows, sort_rows, update_rows};
use crate::kernel::step::{Segment, Step, Update};

/// The current sample and the next one, layer by layer.
#[derive(Debug)]
pub(super) struct MlpSingleBuffers {
    here: Vec<Neurons>,
    next: Vec<Neurons>,
    /// The rows of every layer except the first.
    lists: Vec<Rows>,
    /// The updates of the rows of a layer, as multiples of its input. There are as many as the
    /// widest layer has rows.
    coefficients: AlignedVec,
    /// The weights of the input layer in groups of rows, for the duration of a call.
    first: Grouped,
    input_layer: InputLayer,
}

/// The rows of a layer: the active ones, ascending, then the others.
#[derive(Debug)]
struct Rows {
    rows: Vec<u32>,
    active: usize,
}

impl MlpSingleBuffers {
    pub(super) fn new(layers: &[Layer]) -> Self {
        let neurons = || layers.iter().map(|layer| Neurons::new(layer, 1)).collect();
        let list = |layer: &Layer| Rows {
            rows: (0..).take(layer.outputs).collect(),
            active: layer.outputs,
        };
        let (width, input_dim) = (layers[0].outputs, layers[0].inputs);
        let widest = layers.iter().map(|layer| layer.outputs).max().unwrap_or(0);
        Self {
            here: neurons(),
            next: neurons(),
            lists: layers[1..].iter().map(list).collect(),
            coefficients: AlignedVec::zeros(padded(widest)),
            first: Grouped::zeros(width, input_dim),
            input_layer: InputLayer::new(width, input_dim),
        }
    }
}

/// Steps on the samples of `order`, one after the other.
pub(super) struct MlpSingleSteps<'k, 'a> {
    pub(super) network: &'k mut MlpNetwork<'a>,
    pub(super) buffers: &'k mut MlpSingleBuffers,
    pub(super) order: &'k [u32],
    pub(super) learning_rates: &'k [f64],
    pub(super) clip_norm: f64,
}

impl WithSimd for MlpSingleSteps<'_, '_> {
    type Output = Segment;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Segment {
        let Self { network, buffers, order, learning_rates, clip_norm } = self;
        let mut segment = Segment::default();
        let MlpNetwork { data, activation, layers, .. } = network;
        let inputs = data.inputs().values();
        let MlpSingleBuffers { here, next, lists, coefficients, first, input_layer } = buffers;
        let (activation, last) = (*activation, layers.len() - 1);
        let activation_of = |l| (l < last).then_some(activation);
        // Before the first step no row is updated.
        let Some(block) = order.chunks(LANES).next() else { return segment };
        first.load_rows(&layers[0].weights, layers[0].stride);
        input_layer.begin(simd, first, inputs, block);
        multiply(simd, input_layer, 0, &mut here[0].values);
        for (l, layer) in layers.iter().enumerate() {
            let (below, neurons) = here.split_at_mut(l);
            if let Some(below) = below.last() {
                let weights = S::as_simd_f64s(&layer.weights).0;
                let below = S::as_simd_f64s(&below.values).0;
                let values = &mut neurons[0].values;
                read_rows(simd, weights, &lists[l - 1].rows, below, values);
            }
            Sweeps { layer, count: 1 }.finish_forward(simd, activation_of(l), &mut neurons[0]);
        }
        for (t, (&sample, &learning_rate)) in order.iter().zip(learning_rates).enumerate() {
            let targets = data.targets_of(sample as usize..sample as usize + 1);
            let mut loss = 0.0;
            let Neurons { values, deltas, .. } = &mut here[last];
            let (k, function) = (targets.len(), data.loss_function());
            deltas[..k].copy_from_slice(&values[..k]);
            function.differentiate(1.0, &mut deltas[..k], targets, &mut loss);
            let mut squares = 0.0;
            for (l, layer) in layers.iter().enumerate().rev() {
                if activation == Activation::Relu && 0 < l && l < last {
                    let list = &mut lists[l - 1];
                    list.active = sort_rows(&mut list.rows, &here[l].slopes[..layer.outputs]);
                }
                let (below, neurons) = here.split_at_mut(l);
                let deltas = &neurons[0].deltas;
                let input_squares = match below.last_mut() {
                    None => network.input_norms_squared[sample as usize],
                    Some(below) => {
                        let active = &lists[l - 1].rows[..lists[l - 1].active];
                        pull(simd, &layer.weights, active, deltas, &mut below.deltas);
                        mask(simd, &below.slopes, &mut below.deltas);
                        norm_squared(simd, &below.values)
                    }
                };
                let bias = if layer.has_biases { 1.0 } else { 0.0 };
                squares += norm_squared(simd, deltas) * (input_squares + bias);
            }
            let gradient_norm = squares.sqrt();
            let (factor, clipped) = Update { learning_rate, clip_norm }.factor(gradient_norm);
            segment.add(Step { loss, gradient_norm, clipped });
            // The products after the last step are not used.
            let following = &order[t + 1..];
            for (l, layer) in layers.iter_mut().enumerate() {
                let deltas = Groups::<S>::new(&here[l].deltas);
                let (below, neurons) = next.split_at_mut(l);
                let Some(below) = below.last() else {
                    let mut moves = input_layer.step::<S>(t % LANES).coefficients;
                    take_moves(simd, deltas, -factor, &mut moves, layer);
                    if (t + 1) % LANES == 0 && !following.is_empty() {
                        let samples = &following[..LANES.min(following.len())];
                        input_layer.begin(simd, first, inputs, samples);
                    }
                    multiply(simd, input_layer, (t + 1) % LANES, &mut neurons[0].values);
                    Sweeps { layer, count: 1 }.finish_forward(
                        simd,
                        activation_of(l),
                        &mut neurons[0],
                    );
                    continue;
                };
                let len = deltas.len() * LANES;
                let mut moves = GroupsMut::<S>::new(&mut coefficients[..len]);
                take_moves(simd, deltas, -factor, &mut moves, layer);
                let weights = S::as_mut_simd_f64s(&mut layer.weights).0;
                let previous = S::as_simd_f64s(&here[l - 1].values).0;
                let below = S::as_simd_f64s(&below.values).0;
                let (active, idle) = lists[l - 1].rows.split_at(lists[l - 1].active);
                let z = &mut neurons[0].values;
                update_rows(simd, weights, active, [previous, below], coefficients, z);
                read_rows(simd, weights, idle, below, z);
                Sweeps { layer, count: 1 }.finish_forward(simd, activation_of(l), &mut neurons[0]);
            }
            std::mem::swap(here, next);
        }
        input_layer.finish(simd, first);
        let stride = layers[0].stride;
        first.store_rows(&mut layers[0].weights, stride);
        segment
    }
}

/// Computes the products of the input layer for step `t` of a block.
#[inline(always)]
fn multiply<S: Simd>(simd: S, input_layer: &mut InputLayer, t: usize, values: &mut [f64]) {
    let step = input_layer.step::<S>(t);
    let mut values = GroupsMut::<S>::new(values);
    for k in 0..values.len() {
        values.set(k, step.product(simd, t, k));
    }
}

/// Sets the row updates `scale · δ`, as multiples of the layer's input, and updates the biases.
#[inline(always)]
fn take_moves<S: Simd>(
    simd: S,
    deltas: Groups<'_, S>,
    scale: f64,
    moves: &mut GroupsMut<'_, S>,
    layer: &mut Layer,
) {
    let scale = Lanes::splat(simd, scale);
    for k in 0..deltas.len() {
        moves.set(k, deltas.get(simd, k).mul(simd, scale));
    }
    if layer.has_biases {
        let mut biases = GroupsMut::<S>::new(&mut layer.biases);
        let one = Lanes::splat(simd, 1.0);
        for k in 0..deltas.len() {
            biases.set(k, moves.get(simd, k).mul_add(simd, one, biases.get(simd, k)));
        }
    }
}

/// `Σ_j δ_j w_j` over the listed rows.
#[inline(always)]
fn pull<S: Simd>(simd: S, weights: &[f64], rows: &[u32], deltas: &[f64], pulled: &mut [f64]) {
    pulled.fill(0.0);
    let weights = S::as_simd_f64s(weights).0;
    let pulled = S::as_mut_simd_f64s(pulled).0;
    let registers = pulled.len();
    let mut blocks = rows.chunks_exact(TILE_ROWS);
    for block in &mut blocks {
        let mut picked = [&weights[..0]; TILE_ROWS];
        let mut factors = [simd.splat_f64s(0.0); TILE_ROWS];
        for r in 0..TILE_ROWS {
            picked[r] = &weights[block[r] as usize * registers..][..registers];
            factors[r] = simd.splat_f64s(deltas[block[r] as usize]);
        }
        for k in 0..registers {
            let mut sum = pulled[k];
            for r in 0..TILE_ROWS {
                sum = simd.mul_add_f64s(factors[r], picked[r][k], sum);
            }
            pulled[k] = sum;
        }
    }
    for &j in blocks.remainder() {
        let row = &weights[j as usize * registers..][..registers];
        let factor = simd.splat_f64s(deltas[j as usize]);
        for k in 0..registers {
            pulled[k] = simd.mul_add_f64s(factor, row[k], pulled[k]);
        }
    }
}

#[inline(always)]
fn norm_squared<S: Simd>(simd: S, values: &[f64]) -> f64 {
    let values = Groups::<S>::new(values);
    dot_lanes(simd, values, values).sum(simd)
}
