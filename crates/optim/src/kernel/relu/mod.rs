//! Fused steps of the two-layer ReLU network.
//!
//! Batch size 1 ([`single`]): as many steps a sweep over the hidden weights as there are lanes. Larger batches
//! ([`batch`]): two dense products with residuals, mask and gradient fused between them. Both keep the weights in
//! groups of neurons ([`grouped`](super::grouped)).

mod batch;
mod single;

use std::borrow::Cow;

use flatmin_linalg::simd::{self, AlignedVec, Real, padded_for};
use flatmin_models::{Dataset, Model as _, TwoLayerRelu};
use pulp::Arch;

use self::batch::{BatchBuffers, BatchStep, Samples};
use self::single::SingleSteps;
use super::blocked::Blocked;
use super::grouped::Grouped;
use super::step::{Kernel, Segment, Step, Update};

/// The fused kernel of [`TwoLayerRelu`], in arithmetic of type `E`.
#[derive(Debug)]
pub struct ReluKernel<'a, E: Real = f64> {
    arch: Arch,
    data: &'a Dataset,
    /// Those of the data, row by row.
    inputs: Cow<'a, [E]>,
    width: usize,
    hidden: Grouped<E>,
    /// Output weights, padded with zeros.
    output: AlignedVec<E>,
    blocked: Blocked<E>,
    batch: Option<BatchBuffers<E>>,
}

impl<'a, E: Real> ReluKernel<'a, E> {
    /// A kernel that starts from `parameters`.
    ///
    /// # Panics
    /// When the parameters or the inputs do not fit the model.
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
        let (hidden, output) = model.split(parameters);
        Self {
            arch,
            data,
            inputs: E::rounded(data.inputs().values()),
            width,
            hidden: Grouped::from_rows(hidden, width, input_dim),
            output: AlignedVec::from_rows(output, width, padded_for::<E>(width)),
            blocked: Blocked::new(width, input_dim),
            batch: None,
        }
    }

    fn dense_step(&mut self, samples: Samples<'_>, update: Update) -> Step {
        let count = samples.len(self.data);
        let mut batch = match self.batch.take() {
            Some(batch) if batch.count() == count => batch,
            _ => BatchBuffers::new(count, self.width, self.hidden.columns()),
        };
        batch.load(samples, self.data.targets(), &self.inputs);
        let step = self.arch.dispatch(BatchStep { kernel: self, batch: &mut batch, update });
        self.batch = Some(batch);
        step
    }
}

impl<E: Real> Kernel for ReluKernel<'_, E> {
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
        let input_dim = self.hidden.columns();
        let mut parameters = vec![0.0; self.width * input_dim];
        self.hidden.store_rows(&mut parameters, input_dim);
        parameters.extend(self.output[..self.width].iter().map(|value| value.to_f64()));
        parameters
    }
}
