//! Steps on single samples, a block of them in one sweep over the hidden weights ([`InputLayer`]).
//!
//! Between two sweeps the steps work on vectors of the size of the width. The gradient norm needs
//! no pass over the weights: `‖∇‖² = r² Σ_active (z_j² + a_j²‖x‖²)`.

use flatmin_linalg::simd::{GroupsMut, Lanes, Real};
use pulp::{Simd, WithSimd};

use super::network::ReluNetwork;
use crate::kernel::input_layer::InputLayer;
use crate::kernel::step::{Segment, Step, Update};

pub(super) struct ReluSingleSteps<'k, 'a, E: Real> {
    pub(super) network: &'k mut ReluNetwork<'a, E>,
    pub(super) input_layer: &'k mut InputLayer<E>,
    pub(super) order: &'k [u32],
    pub(super) learning_rates: &'k [f64],
    pub(super) clip_norm: f64,
}

impl<E: Real> WithSimd for ReluSingleSteps<'_, '_, E> {
    type Output = Segment;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Segment {
        let Self { network, input_layer, order, learning_rates, clip_norm } = self;
        let ReluNetwork { data, inputs, hidden, output } = network;
        let mut segment = Segment::default();
        for (samples, rates) in order.chunks(E::LANES).zip(learning_rates.chunks(E::LANES)) {
            input_layer.begin(simd, hidden, inputs, samples);
            for (t, (&sample, &learning_rate)) in samples.iter().zip(rates).enumerate() {
                let target = data.targets()[sample as usize];
                let update = Update { learning_rate, clip_norm };
                segment.add(step(simd, (input_layer, output), t, target, update));
            }
        }
        input_layer.finish(simd, hidden);
        segment
    }
}

/// Step `t` of the block: computes the output, the gradient norm and the clipping, updates the
/// output weights, and sets the coefficients of the hidden weights. These are zero for inactive
/// neurons.
#[inline(always)]
fn step<S: Simd, E: Real>(
    simd: S,
    (input_layer, output): (&mut InputLayer<E>, &mut [E]),
    t: usize,
    target: f64,
    update: Update,
) -> Step {
    let mut step = input_layer.step::<S>(t);
    let mut output = GroupsMut::<S, E>::new(output);
    let zero = Lanes::splat(simd, E::ZERO);
    let (mut out, mut z_squares, mut a_squares) = (zero, zero, zero);
    for k in 0..output.len() {
        let z = step.product(simd, t, k);
        step.products.set(k, z);
        let (a, active_z) = (output.get(simd, k), z.where_positive(simd, z));
        let active_a = z.where_positive(simd, a);
        // Uses `a` and not `active_a`: a NaN must reach the loss.
        out = a.mul_add(simd, active_z, out);
        z_squares = active_z.mul_add(simd, active_z, z_squares);
        a_squares = active_a.mul_add(simd, active_a, a_squares);
    }
    let residual = out.sum(simd).to_f64() - target;
    let input_squares = Lanes::splat(simd, step.gram[t]);
    let squares = a_squares.mul_add(simd, input_squares, z_squares);
    let gradient_norm = residual.abs() * squares.sum(simd).to_f64().sqrt();
    let (factor, clipped) = update.factor(gradient_norm);
    let multiple = Lanes::splat(simd, E::from_f64(-(factor * residual)));
    for k in 0..output.len() {
        let z = step.products.get(simd, k);
        let active_z = z.where_positive(simd, z);
        let a = output.get(simd, k);
        step.coefficients.set(k, z.where_positive(simd, a.mul(simd, multiple)));
        output.set(k, active_z.mul_add(simd, multiple, a));
    }
    Step { loss: 0.5 * residual * residual, gradient_norm, clipped }
}
