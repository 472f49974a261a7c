//! Fused steps of the ReLU network on one input, `f(x) = Σ_j a_j max(w_j x + b_j, 0) + c`.
//!
//! The lanes run over the neurons. With `z = wx + b` and the indicator `1 = 1(z > 0)`, the gradient
//! is `(a 1 x, a 1, max(z, 0), 1)`.
//!
//! Batch size 1: one sweep over the neurons updates them for step t and accumulates the output and
//! the gradient norm of step t + 1.

use flatmin_linalg::simd::{self, AlignedVec, GroupsMut, Lanes, Real, padded_for};
use flatmin_models::{Dataset, Model as _, UnivariateParameters, UnivariateRelu};
use pulp::{Arch, Simd, WithSimd};

use super::step::{Kernel, Samples, Segment, Step, Update};

/// The fused kernel of [`UnivariateRelu`], in arithmetic of type `E`.
#[derive(Debug)]
pub struct UnivariateKernel<'a, E = f64> {
    arch: Arch,
    data: &'a Dataset,
    width: usize,
    /// w, b and a, padded with silent neurons.
    layers: [AlignedVec<E>; 3],
    output_bias: E,
    /// The sums of gradients of a batch, laid out like the layers.
    sums: [AlignedVec<E>; 3],
}

impl<'a, E: Real> UnivariateKernel<'a, E> {
    /// A kernel that starts from `parameters`.
    ///
    /// # Panics
    /// When the parameters or the inputs do not fit the model.
    pub fn new(model: UnivariateRelu, data: &'a Dataset, parameters: &[f64]) -> Self {
        Self::with_arch(simd::arch(), model, data, parameters)
    }

    /// Like [`new`](Self::new), on a chosen instruction set.
    ///
    /// # Panics
    /// See [`new`](Self::new).
    pub fn with_arch(
        arch: Arch,
        model: UnivariateRelu,
        data: &'a Dataset,
        parameters: &[f64],
    ) -> Self {
        assert_eq!(data.inputs().columns(), model.input_dim(), "dimension of the inputs");
        assert_eq!(data.output_dim(), model.output_dim(), "number of outputs");
        let (width, stride) = (model.width(), padded_for::<E>(model.width()));
        let UnivariateParameters { input_weights, biases, output_weights, output_bias } =
            model.split(parameters);
        Self {
            arch,
            data,
            width,
            layers: [input_weights, biases, output_weights]
                .map(|layer| AlignedVec::from_rows(layer, width, stride)),
            output_bias: E::from_f64(output_bias),
            sums: [(); 3].map(|()| AlignedVec::zeros(stride)),
        }
    }
}

impl<E: Real> Kernel for UnivariateKernel<'_, E> {
    fn single_steps(&mut self, order: &[u32], learning_rates: &[f64], clip_norm: f64) -> Segment {
        assert_eq!(order.len(), learning_rates.len(), "one learning rate for each step");
        self.arch.dispatch(UnivariateSingleSteps { kernel: self, order, learning_rates, clip_norm })
    }

    fn step(&mut self, samples: Samples<'_>, update: Update) -> Step {
        if samples.len(self.data) == 0 {
            return Step::default();
        }
        self.arch.dispatch(UnivariateBatchStep { kernel: self, samples, update })
    }

    fn parameters(&self) -> Vec<f64> {
        let layers = self.layers.iter().flat_map(|layer| &layer[..self.width]);
        layers.chain([&self.output_bias]).map(|value| value.to_f64()).collect()
    }
}

/// The layers of neurons as groups of lanes.
struct Neurons<'k, S: Simd, E: Real>([GroupsMut<'k, S, E>; 3]);

/// The output without its bias, and the squared norm of the gradient without that of the bias.
#[derive(Clone, Copy)]
struct Seen {
    output: f64,
    squares: f64,
}

impl<'k, S: Simd, E: Real> Neurons<'k, S, E> {
    #[inline(always)]
    fn new(layers: &'k mut [AlignedVec<E>; 3]) -> Self {
        let [w, b, a] = layers;
        Self([GroupsMut::new(w), GroupsMut::new(b), GroupsMut::new(a)])
    }

    /// Adds `multiple` times the gradient at `input` to the layers; returns what the next input
    /// gives.
    #[inline(always)]
    fn sweep(&mut self, simd: S, [input, next]: [E; 2], multiple: E) -> Seen {
        let [w, b, a] = &mut self.0;
        let zero = Lanes::<S, E>::splat(simd, E::ZERO);
        let (input, next) = (Lanes::splat(simd, input), Lanes::splat(simd, next));
        let multiple = Lanes::splat(simd, multiple);
        let along = multiple.mul(simd, input);
        let one_and_square = next.mul_add(simd, next, Lanes::splat(simd, E::from_f64(1.0)));
        let (mut output, mut squares) = (zero, zero);
        for k in 0..w.len() {
            let (old_w, old_b, old_a) = (w.get(simd, k), b.get(simd, k), a.get(simd, k));
            let z = old_w.mul_add(simd, input, old_b);
            let slope = z.where_positive(simd, old_a);
            let new_w = slope.mul_add(simd, along, old_w);
            let new_b = slope.mul_add(simd, multiple, old_b);
            let new_a = z.where_positive(simd, z).mul_add(simd, multiple, old_a);
            w.set(k, new_w);
            b.set(k, new_b);
            a.set(k, new_a);
            let z = new_w.mul_add(simd, next, new_b);
            let active = z.where_positive(simd, z);
            let slope = z.where_positive(simd, new_a);
            output = active.mul_add(simd, new_a, output);
            squares = active.mul_add(simd, active, squares);
            squares = slope.mul(simd, slope).mul_add(simd, one_and_square, squares);
        }
        Seen { output: output.sum(simd).to_f64(), squares: squares.sum(simd).to_f64() }
    }

    /// Adds `multiple` times the gradient at `input` to `sums`.
    #[inline(always)]
    fn add_gradient(&self, simd: S, input: E, multiple: E, sums: &mut Self) {
        let [w, b, a] = &self.0;
        let [d_w, d_b, d_a] = &mut sums.0;
        let (input, multiple) = (Lanes::splat(simd, input), Lanes::splat(simd, multiple));
        let along = multiple.mul(simd, input);
        for k in 0..w.len() {
            let z = w.get(simd, k).mul_add(simd, input, b.get(simd, k));
            let slope = z.where_positive(simd, a.get(simd, k));
            d_w.set(k, slope.mul_add(simd, along, d_w.get(simd, k)));
            d_b.set(k, slope.mul_add(simd, multiple, d_b.get(simd, k)));
            d_a.set(k, z.where_positive(simd, z).mul_add(simd, multiple, d_a.get(simd, k)));
        }
    }
}

struct UnivariateSingleSteps<'k, 'a, E> {
    kernel: &'k mut UnivariateKernel<'a, E>,
    order: &'k [u32],
    learning_rates: &'k [f64],
    clip_norm: f64,
}

impl<E: Real> WithSimd for UnivariateSingleSteps<'_, '_, E> {
    type Output = Segment;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Segment {
        let Self { kernel, order, learning_rates, clip_norm } = self;
        let mut segment = Segment::default();
        let Some(&first) = order.first() else { return segment };
        let (inputs, targets) = (kernel.data.inputs().values(), kernel.data.targets());
        let mut neurons = Neurons::<S, E>::new(&mut kernel.layers);
        let input = E::from_f64(inputs[first as usize]);
        // With a multiple of zero the sweep computes the first output and leaves the layers
        // unchanged.
        let mut seen = neurons.sweep(simd, [input, input], E::ZERO);
        for (t, (&sample, &learning_rate)) in order.iter().zip(learning_rates).enumerate() {
            let target = targets[sample as usize];
            let residual = seen.output + kernel.output_bias.to_f64() - target;
            let gradient_norm = residual.abs() * (seen.squares + 1.0).sqrt();
            let (factor, clipped) = Update { learning_rate, clip_norm }.factor(gradient_norm);
            segment.add(Step { loss: 0.5 * residual * residual, gradient_norm, clipped });
            let multiple = E::from_f64(-(factor * residual));
            let next = order.get(t + 1).copied().unwrap_or(sample);
            let pair = [sample, next].map(|sample| E::from_f64(inputs[sample as usize]));
            seen = neurons.sweep(simd, pair, multiple);
            kernel.output_bias = multiple.mul_add(E::from_f64(1.0), kernel.output_bias);
        }
        segment
    }
}

struct UnivariateBatchStep<'k, 'a, E> {
    kernel: &'k mut UnivariateKernel<'a, E>,
    samples: Samples<'k>,
    update: Update,
}

impl<E: Real> WithSimd for UnivariateBatchStep<'_, '_, E> {
    type Output = Step;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Step {
        let Self { kernel, samples, update } = self;
        let UnivariateKernel { data, layers, output_bias, sums, .. } = kernel;
        let (count, scale) = (samples.len(data), samples.scale(data));
        let mut neurons = Neurons::<S, E>::new(layers);
        for sum in sums.iter_mut() {
            sum.fill(E::ZERO);
        }
        let mut gradients = Neurons::<S, E>::new(sums);
        let (mut loss, mut bias_gradient) = (0.0, 0.0);
        for position in 0..count {
            let sample = samples.get(position);
            let input = E::from_f64(data.inputs().values()[sample]);
            let seen = neurons.sweep(simd, [input, input], E::ZERO);
            let residual = seen.output + output_bias.to_f64() - data.targets()[sample];
            loss += 0.5 * scale * residual * residual;
            bias_gradient += scale * residual;
            neurons.add_gradient(simd, input, E::from_f64(scale * residual), &mut gradients);
        }
        let mut squares = Lanes::<S, E>::splat(simd, E::ZERO);
        for sum in &gradients.0 {
            for k in 0..sum.len() {
                let value = sum.get(simd, k);
                squares = value.mul_add(simd, value, squares);
            }
        }
        let squares = squares.sum(simd).to_f64() + bias_gradient * bias_gradient;
        let gradient_norm = squares.sqrt();
        let (factor, clipped) = update.factor(gradient_norm);
        let multiple = E::from_f64(-factor);
        let lanes = Lanes::splat(simd, multiple);
        for (layer, sum) in neurons.0.iter_mut().zip(&gradients.0) {
            for k in 0..sum.len() {
                layer.set(k, sum.get(simd, k).mul_add(simd, lanes, layer.get(simd, k)));
            }
        }
        *output_bias = multiple.mul_add(E::from_f64(bias_gradient), *output_bias);
        Step { loss, gradient_norm, clipped }
    }
}
