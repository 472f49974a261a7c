//! Fused steps of the diagonal linear network, `f(x) = Σ_j a_j b_j x_j`.
//!
//! With residuals r and `c = (1/B) Σ r_i x_i`, the gradient is `(c ⊙ b, c ⊙ a)`.
//!
//! Batch size 1: one sweep over the coordinates updates both layers for step t and accumulates the
//! output and the gradient norm of step t + 1, `‖∇‖² = r² Σ_j x_j²(a_j² + b_j²)`.
//!
//! Larger batches: one pass over the inputs gives c, see [`correlation`](super::correlation).

use flatmin_linalg::simd::{self, AlignedVec, Groups, GroupsMut, Lanes, Real, padded_for};
use flatmin_models::{Dataset, DiagonalLinear, Model as _};
use pulp::{Arch, Simd, WithSimd};

use super::correlation::Rows;
use super::step::{Kernel, Samples, Segment, Step, Update};

/// The fused kernel of [`DiagonalLinear`], in arithmetic of type `E`.
#[derive(Debug)]
pub struct DiagonalKernel<'a, E = f64> {
    arch: Arch,
    data: &'a Dataset,
    input_dim: usize,
    stride: usize,
    /// Inputs, rows padded with zeros.
    inputs: AlignedVec<E>,
    a: AlignedVec<E>,
    b: AlignedVec<E>,
    /// `β = a ⊙ b`, for batches; `correlation` is c.
    coefficients: AlignedVec<E>,
    correlation: AlignedVec<E>,
}

impl<'a, E: Real> DiagonalKernel<'a, E> {
    /// A kernel that starts from `parameters`.
    ///
    /// # Panics
    /// When the parameters or the inputs do not fit the model.
    pub fn new(model: DiagonalLinear, data: &'a Dataset, parameters: &[f64]) -> Self {
        Self::with_arch(simd::arch(), model, data, parameters)
    }

    /// Like [`new`](Self::new), on a chosen instruction set.
    ///
    /// # Panics
    /// See [`new`](Self::new).
    pub fn with_arch(
        arch: Arch,
        model: DiagonalLinear,
        data: &'a Dataset,
        parameters: &[f64],
    ) -> Self {
        let input_dim = model.input_dim();
        assert_eq!(data.inputs().columns(), input_dim, "dimension of the inputs");
        assert_eq!(data.output_dim(), model.output_dim(), "number of outputs");
        let stride = padded_for::<E>(input_dim);
        let (a, b) = model.split(parameters);
        Self {
            arch,
            data,
            input_dim,
            stride,
            inputs: AlignedVec::from_rows(data.inputs().values(), input_dim, stride),
            a: AlignedVec::from_rows(a, input_dim, stride),
            b: AlignedVec::from_rows(b, input_dim, stride),
            coefficients: AlignedVec::zeros(stride),
            correlation: AlignedVec::zeros(stride),
        }
    }
}

impl<E: Real> Kernel for DiagonalKernel<'_, E> {
    fn single_steps(&mut self, order: &[u32], learning_rates: &[f64], clip_norm: f64) -> Segment {
        assert_eq!(order.len(), learning_rates.len(), "one learning rate for each step");
        self.arch.dispatch(DiagonalSingleSteps { kernel: self, order, learning_rates, clip_norm })
    }

    fn step(&mut self, samples: Samples<'_>, update: Update) -> Step {
        if samples.len(self.data) == 0 {
            return Step::default();
        }
        self.arch.dispatch(DiagonalBatchStep { kernel: self, samples, update })
    }

    fn parameters(&self) -> Vec<f64> {
        let layers = [&self.a, &self.b].into_iter().flat_map(|layer| &layer[..self.input_dim]);
        layers.map(|value| value.to_f64()).collect()
    }
}

struct DiagonalSingleSteps<'k, 'a, E> {
    kernel: &'k mut DiagonalKernel<'a, E>,
    order: &'k [u32],
    learning_rates: &'k [f64],
    clip_norm: f64,
}

impl<E: Real> WithSimd for DiagonalSingleSteps<'_, '_, E> {
    type Output = Segment;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Segment {
        let Self { kernel, order, learning_rates, clip_norm } = self;
        let mut segment = Segment::default();
        let Some(&first) = order.first() else { return segment };
        let stride = kernel.stride;
        let inputs = &kernel.inputs;
        let input =
            |sample: u32| Groups::<S, E>::new(&inputs[sample as usize * stride..][..stride]);
        let mut a = GroupsMut::<S, E>::new(&mut kernel.a);
        let mut b = GroupsMut::<S, E>::new(&mut kernel.b);
        let zero = Lanes::splat(simd, E::ZERO);
        // With a multiple of zero the sweep computes the first output and leaves the layers
        // unchanged.
        let start = [input(first), input(first)];
        let (mut out, mut squares) = sweep(simd, [&mut a, &mut b], start, zero);
        for (t, (&sample, &learning_rate)) in order.iter().zip(learning_rates).enumerate() {
            let residual = out - kernel.data.targets()[sample as usize];
            let gradient_norm = residual.abs() * squares.sqrt();
            let (factor, clipped) = Update { learning_rate, clip_norm }.factor(gradient_norm);
            segment.add(Step { loss: 0.5 * residual * residual, gradient_norm, clipped });
            let multiple = Lanes::splat(simd, E::from_f64(-(factor * residual)));
            let next = order.get(t + 1).copied().unwrap_or(sample);
            let inputs = [input(sample), input(next)];
            (out, squares) = sweep(simd, [&mut a, &mut b], inputs, multiple);
        }
        segment
    }
}

/// Adds `multiple · x ⊙ (b, a)` to the layers (a, b). Returns the output `Σ a_j b_j x'_j` and
/// `Σ x'_j²(a_j² + b_j²)` at the next input x'.
#[inline(always)]
fn sweep<S: Simd, E: Real>(
    simd: S,
    [a, b]: [&mut GroupsMut<'_, S, E>; 2],
    [x, next]: [Groups<'_, S, E>; 2],
    multiple: Lanes<S, E>,
) -> (f64, f64) {
    let zero = Lanes::splat(simd, E::ZERO);
    let (mut out, mut squares) = (zero, zero);
    for k in 0..x.len() {
        let (old_a, old_b) = (a.get(simd, k), b.get(simd, k));
        let step = x.get(simd, k).mul(simd, multiple);
        let new_a = old_b.mul_add(simd, step, old_a);
        let new_b = old_a.mul_add(simd, step, old_b);
        a.set(k, new_a);
        b.set(k, new_b);
        let x = next.get(simd, k);
        out = new_a.mul(simd, new_b).mul_add(simd, x, out);
        let eigenvalue = new_a.mul_add(simd, new_a, new_b.mul(simd, new_b));
        squares = eigenvalue.mul_add(simd, x.mul(simd, x), squares);
    }
    (out.sum(simd).to_f64(), squares.sum(simd).to_f64())
}

struct DiagonalBatchStep<'k, 'a, E> {
    kernel: &'k mut DiagonalKernel<'a, E>,
    samples: Samples<'k>,
    update: Update,
}

impl<E: Real> WithSimd for DiagonalBatchStep<'_, '_, E> {
    type Output = Step;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Step {
        let Self { kernel, samples, update } = self;
        let DiagonalKernel { data, inputs, stride, .. } = kernel;
        let rows = Rows { data, inputs, stride: *stride, samples };
        let mut a = GroupsMut::<S, E>::new(&mut kernel.a);
        let mut b = GroupsMut::<S, E>::new(&mut kernel.b);
        let mut coefficients = GroupsMut::<S, E>::new(&mut kernel.coefficients);
        let mut correlation = GroupsMut::<S, E>::new(&mut kernel.correlation);
        let groups = *stride / E::LANES;
        let zero = Lanes::splat(simd, E::ZERO);
        for k in 0..groups {
            coefficients.set(k, a.get(simd, k).mul(simd, b.get(simd, k)));
        }
        let coefficients = Groups::<S, E>::new(&kernel.coefficients);
        let loss = rows.correlate(simd, coefficients, &mut correlation);
        let mut squares = zero;
        for k in 0..groups {
            let (a, b, c) = (a.get(simd, k), b.get(simd, k), correlation.get(simd, k));
            let eigenvalue = a.mul_add(simd, a, b.mul(simd, b));
            squares = eigenvalue.mul_add(simd, c.mul(simd, c), squares);
        }
        let gradient_norm = squares.sum(simd).to_f64().sqrt();
        let (factor, clipped) = update.factor(gradient_norm);
        let factor = Lanes::splat(simd, E::from_f64(-factor));
        for k in 0..groups {
            let step = correlation.get(simd, k).mul(simd, factor);
            let (old_a, old_b) = (a.get(simd, k), b.get(simd, k));
            a.set(k, old_b.mul_add(simd, step, old_a));
            b.set(k, old_a.mul_add(simd, step, old_b));
        }
        Step { loss, gradient_norm, clipped }
    }
}
