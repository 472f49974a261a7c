//! Fused steps of the two-layer ReLU network.
//!
//! Batch size 1: the update of step t and the forward pass of step t + 1 are one sweep over the
//! hidden weights. A row whose neuron was active is read, updated, stored and multiplied with the
//! next input; an inactive one is only read. The gradient norm needs no pass of its own:
//! `‖∇‖² = r² Σ_active (z_j² + a_j²‖x‖²)`. Active and inactive rows are first sorted into two lists,
//! because a branch on a random half of the neurons would cost more than the arithmetic.
//!
//! Larger batches: two dense products with the residual and the ReLU mask fused between
//! them, working on columns of samples.

use faer::{Accum, Mat, MatMut, MatRef};
use flatmin_linalg::matmul;
use flatmin_linalg::simd::{self, AlignedVec, Groups, GroupsMut, Lanes, padded};
use flatmin_models::{Dataset, Model as _, TwoLayerRelu};
use pulp::{Arch, Simd, WithSimd};

use super::sweep::{read_rows, sort_rows, update_rows};
use super::{Kernel, Segment, Step, Update};

/// The fused kernel of [`TwoLayerRelu`].
#[derive(Debug)]
pub struct ReluKernel<'a> {
    arch: Arch,
    data: &'a Dataset,
    width: usize,
    input_dim: usize,
    /// Length of a padded row.
    stride: usize,
    /// Inputs, rows padded with zeros.
    inputs: AlignedVec,
    /// `‖x_i‖²`.
    input_norms_squared: Vec<f64>,
    /// Hidden weights, rows padded with zeros.
    hidden: AlignedVec,
    neurons: Neurons,
    batch: Option<BatchBuffers>,
}

/// One number per neuron, padded with zeros to whole lane groups.
#[derive(Debug)]
struct Neurons {
    output: AlignedVec,
    /// Pre-activations `w_jᵀx` of the sample in hand.
    preactivations: AlignedVec,
    /// The multiple of the input to add to each row; zero for inactive neurons.
    coefficients: AlignedVec,
    /// Active neurons from the front, inactive ones from the back.
    rows: Vec<u32>,
}

impl<'a> ReluKernel<'a> {
    /// A kernel that starts from `parameters`.
    ///
    /// # Panics
    /// When the parameters or the inputs do not fit the model, or a size exceeds 2³².
    pub fn new(model: TwoLayerRelu, data: &'a Dataset, parameters: &[f64]) -> Self {
        Self::with_arch(simd::arch(), model, data, parameters)
    }

    /// As [`new`](Self::new), on a chosen instruction set.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn with_arch(
        arch: Arch,
        model: TwoLayerRelu,
        data: &'a Dataset,
        parameters: &[f64],
    ) -> Self {
        let (width, input_dim) = (model.width(), model.input_dim());
        assert_eq!(data.inputs().columns(), input_dim, "dimension of the inputs");
        assert!(u32::try_from(width).is_ok(), "neurons are indexed by u32");
        let (hidden, output) = model.split(parameters);
        let stride = padded(input_dim);
        let inputs = AlignedVec::from_rows(data.inputs().values(), input_dim, stride);
        let pad_neurons = |values: &[f64]| AlignedVec::from_rows(values, width, padded(width));
        Self {
            arch,
            data,
            width,
            input_dim,
            stride,
            input_norms_squared: inputs.chunks_exact(stride).map(simd::norm_squared).collect(),
            inputs,
            hidden: AlignedVec::from_rows(hidden, input_dim, stride),
            neurons: Neurons {
                output: pad_neurons(output),
                preactivations: AlignedVec::zeros(padded(width)),
                coefficients: AlignedVec::zeros(padded(width)),
                rows: vec![0; width],
            },
            batch: None,
        }
    }

    fn dense_step(&mut self, samples: Samples<'_>, update: Update) -> Step {
        let count = samples.len(self.data);
        let mut batch = match self.batch.take() {
            Some(batch) if batch.count == count => batch,
            _ => BatchBuffers::new(count, self.width, self.input_dim, self.stride),
        };
        batch.load(samples, self.data, &self.inputs, self.stride);
        let step = self.arch.dispatch(DenseStep { kernel: self, batch: &mut batch, update });
        self.batch = Some(batch);
        step
    }
}

impl Kernel for ReluKernel<'_> {
    fn single_steps(&mut self, order: &[u32], learning_rates: &[f64], clip_norm: f64) -> Segment {
        assert_eq!(order.len(), learning_rates.len(), "one learning rate for each step");
        self.arch.dispatch(SingleSteps { kernel: self, order, learning_rates, clip_norm })
    }

    fn batch_step(&mut self, batch: &[u32], update: Update) -> Step {
        self.dense_step(Samples::Batch(batch), update)
    }

    fn full_step(&mut self, update: Update) -> Step {
        self.dense_step(Samples::All, update)
    }

    fn parameters(&self) -> Vec<f64> {
        let rows = self.hidden.chunks_exact(self.stride);
        let mut parameters: Vec<f64> =
            rows.flat_map(|row| &row[..self.input_dim]).copied().collect();
        parameters.extend_from_slice(&self.neurons.output[..self.width]);
        parameters
    }
}

struct SingleSteps<'k, 'a> {
    kernel: &'k mut ReluKernel<'a>,
    order: &'k [u32],
    learning_rates: &'k [f64],
    clip_norm: f64,
}

impl WithSimd for SingleSteps<'_, '_> {
    type Output = Segment;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Segment {
        let Self { kernel, order, learning_rates, clip_norm } = self;
        let stride = kernel.stride;
        let mut segment = Segment::default();
        let Some(&first) = order.first() else { return segment };
        let hidden = S::as_mut_simd_f64s(&mut kernel.hidden).0;
        let inputs = S::as_simd_f64s(&kernel.inputs).0;
        let registers = stride / S::F64_LANES;
        let input = |sample: u32| &inputs[sample as usize * registers..][..registers];
        let neurons = &mut kernel.neurons;
        // Before the first step every row is only read.
        neurons.number_rows();
        let Neurons { rows, preactivations, .. } = &mut *neurons;
        read_rows(simd, hidden, registers, rows, input(first), preactivations);
        for (t, (&sample, &learning_rate)) in order.iter().zip(learning_rates).enumerate() {
            let x = input(sample);
            let target = kernel.data.targets()[sample as usize];
            let norm_squared = kernel.input_norms_squared[sample as usize];
            let update = Update { learning_rate, clip_norm };
            segment.add(neurons.step(simd, target, norm_squared, update));
            let Neurons { rows, coefficients, preactivations, .. } = &mut *neurons;
            let active = sort_rows(rows, &preactivations[..kernel.width]);
            let (active_rows, idle_rows) = rows.split_at(active);
            // After the last step the products are thrown away.
            let next = input(order.get(t + 1).copied().unwrap_or(sample));
            let z = preactivations;
            update_rows(simd, hidden, registers, active_rows, [x, next], coefficients, z);
            read_rows(simd, hidden, registers, idle_rows, next, z);
        }
        segment
    }
}

impl Neurons {
    /// Lists all rows in order.
    fn number_rows(&mut self) {
        for (j, row) in (0..).zip(&mut self.rows) {
            *row = j;
        }
    }

    /// Output, gradient norm, clipping, update of the output weights; leaves the coefficients for
    /// the update of the hidden weights.
    #[inline(always)]
    fn step<S: Simd>(
        &mut self,
        simd: S,
        target: f64,
        input_norm_squared: f64,
        update: Update,
    ) -> Step {
        let z = Groups::<S>::new(&self.preactivations);
        let zero = Lanes::splat(simd, 0.0);
        let (mut out, mut z_squares, mut a_squares) = (zero, zero, zero);
        let mut output = GroupsMut::<S>::new(&mut self.output);
        for k in 0..z.len() {
            let z = z.get(simd, k);
            let active_z = z.where_positive(simd, z);
            let active_a = z.where_positive(simd, output.get(simd, k));
            out = active_a.mul_add(simd, active_z, out);
            z_squares = active_z.mul_add(simd, active_z, z_squares);
            a_squares = active_a.mul_add(simd, active_a, a_squares);
        }
        let residual = out.sum(simd) - target;
        let squares = a_squares.sum(simd).mul_add(input_norm_squared, z_squares.sum(simd));
        let gradient_norm = residual.abs() * squares.sqrt();
        let (factor, clipped) = update.factor(gradient_norm);
        let multiple = Lanes::splat(simd, -(factor * residual));
        let mut coefficients = GroupsMut::<S>::new(&mut self.coefficients);
        for k in 0..z.len() {
            let z = z.get(simd, k);
            let active_z = z.where_positive(simd, z);
            let a = output.get(simd, k);
            coefficients.set(k, z.where_positive(simd, a.mul(simd, multiple)));
            output.set(k, active_z.mul_add(simd, multiple, a));
        }
        Step { loss: 0.5 * residual * residual, gradient_norm, clipped }
    }
}

/// The samples of a dense step.
#[derive(Clone, Copy)]
enum Samples<'b> {
    All,
    Batch(&'b [u32]),
}

impl Samples<'_> {
    fn len(self, data: &Dataset) -> usize {
        match self {
            Self::All => data.sample_count(),
            Self::Batch(batch) => batch.len(),
        }
    }
}

/// Buffers for steps with `count` samples.
#[derive(Debug)]
struct BatchBuffers {
    count: usize,
    /// Whether the inputs are the whole data set.
    whole: bool,
    /// Inputs by columns, d of them, padded with zeros: the layout the first product wants.
    columns: Mat<f64>,
    /// The same by padded rows: the layout the second product wants.
    rows: AlignedVec,
    /// Padded with zeros, like every vector over samples here.
    targets: AlignedVec,
    residuals: AlignedVec,
    /// Pre-activations, then their gradients: one padded column of samples per neuron.
    z: AlignedVec,
    hidden_gradient: AlignedVec,
    output_gradient: AlignedVec,
}

impl BatchBuffers {
    fn new(count: usize, width: usize, input_dim: usize, stride: usize) -> Self {
        let padded_count = padded(count);
        Self {
            count,
            whole: false,
            columns: Mat::zeros(padded_count, input_dim),
            rows: AlignedVec::zeros(count * stride),
            targets: AlignedVec::zeros(padded_count),
            residuals: AlignedVec::zeros(padded_count),
            z: AlignedVec::zeros(padded_count * width),
            hidden_gradient: AlignedVec::zeros(width * stride),
            output_gradient: AlignedVec::zeros(padded(width)),
        }
    }

    /// Gathers the samples; the whole data set only once.
    fn load(&mut self, samples: Samples<'_>, data: &Dataset, inputs: &[f64], stride: usize) {
        let whole = matches!(samples, Samples::All);
        if whole && self.whole {
            return;
        }
        self.whole = whole;
        for position in 0..self.count {
            let sample = match samples {
                Samples::All => position,
                Samples::Batch(batch) => batch[position] as usize,
            };
            let row = &inputs[sample * stride..][..stride];
            self.rows[position * stride..][..stride].copy_from_slice(row);
            for (k, value) in row[..self.columns.ncols()].iter().enumerate() {
                self.columns[(position, k)] = *value;
            }
            self.targets[position] = data.targets()[sample];
        }
    }
}

struct DenseStep<'k, 'a> {
    kernel: &'k mut ReluKernel<'a>,
    batch: &'k mut BatchBuffers,
    update: Update,
}

impl WithSimd for DenseStep<'_, '_> {
    type Output = Step;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Step {
        let Self { kernel, batch, update } = self;
        let (count, width, d, stride) =
            (batch.count, kernel.width, kernel.input_dim, kernel.stride);
        let column = padded(count);
        let scale = 1.0 / count as f64;

        // Z = X Wᵀ. Both products take the padding along as zeros: whole registers are fastest.
        matmul(
            MatMut::from_column_major_slice_mut(&mut batch.z, column, width),
            Accum::Replace,
            batch.columns.as_ref(),
            MatRef::from_column_major_slice_with_stride(&kernel.hidden, d, width, stride),
            1.0,
        );

        // r = Σ_j a_j σ(z_j) − y
        let mut residuals = GroupsMut::<S>::new(&mut batch.residuals);
        let targets = Groups::<S>::new(&batch.targets);
        let minus_one = Lanes::splat(simd, -1.0);
        for k in 0..targets.len() {
            residuals.set(k, targets.get(simd, k).mul(simd, minus_one));
        }
        for (z, &a) in batch.z.chunks_exact(column).zip(kernel.neurons.output.iter()) {
            let (z, a) = (Groups::<S>::new(z), Lanes::splat(simd, a));
            for k in 0..z.len() {
                let z = z.get(simd, k);
                let active = z.where_positive(simd, z);
                residuals.set(k, active.mul_add(simd, a, residuals.get(simd, k)));
            }
        }
        let loss = 0.5 * scale * simd::norm_squared(&batch.residuals);

        // ∂a_j = (1/n) Σ_i σ(z_ij) r_i, and z_ij ← (1/n) a_j r_i 1(z_ij > 0)
        let residuals = Groups::<S>::new(&batch.residuals);
        let columns = batch.z.chunks_exact_mut(column);
        for (j, z) in columns.enumerate() {
            let mut z = GroupsMut::<S>::new(z);
            let a = Lanes::splat(simd, kernel.neurons.output[j] * scale);
            let mut sum = Lanes::splat(simd, 0.0);
            for k in 0..residuals.len() {
                let (value, r) = (z.get(simd, k), residuals.get(simd, k));
                sum = value.where_positive(simd, value).mul_add(simd, r, sum);
                z.set(k, value.where_positive(simd, r.mul(simd, a)));
            }
            batch.output_gradient[j] = scale * sum.sum(simd);
        }

        // ∂W = Δᵀ X
        matmul(
            MatMut::from_column_major_slice_mut(&mut batch.hidden_gradient, stride, width),
            Accum::Replace,
            MatRef::from_column_major_slice(&batch.rows, stride, count),
            MatRef::from_column_major_slice_with_stride(&batch.z, count, width, column),
            1.0,
        );

        let squares =
            simd::norm_squared(&batch.hidden_gradient) + simd::norm_squared(&batch.output_gradient);
        let gradient_norm = squares.sqrt();
        let (factor, clipped) = update.factor(gradient_norm);
        simd::axpy(-factor, &batch.hidden_gradient, &mut kernel.hidden);
        simd::axpy(-factor, &batch.output_gradient, &mut kernel.neurons.output);
        Step { loss, gradient_norm, clipped }
    }
}
