//! Fused steps of the two-layer ReLU network, `f(x) = Σ_j a_j max(w_j·x, 0)`.
//!
//! With `z_j = w_j·x` and the residual r, the gradient of `r²/2` with respect to `a_j` is
//! `r max(z_j, 0)`, and with respect to `w_j` it is `r a_j 1(z_j > 0) x`.
//!
//! Batch size 1 ([`single`]): `LANES` steps in a sweep over the hidden weights. Larger batches
//! ([`batch`]): two dense products with residuals, mask and gradient fused between them. Both keep
//! the weights in groups of neurons ([`gemm`](super::gemm)).

mod batch;
mod network;
mod single;

use flatmin_linalg::simd::{self, AlignedVec, Real, padded_for};
use flatmin_models::{Dataset, Model as _, TwoLayerRelu};
use pulp::Arch;

use self::batch::{ReluBatchBuffers, ReluBatchStep};
use self::network::ReluNetwork;
use self::single::ReluSingleSteps;
use super::gemm::Grouped;
use super::input_layer::InputLayer;
use super::step::{Kernel, Samples, Segment, Step, Update};

/// The fused kernel of [`TwoLayerRelu`], in arithmetic of type `E`.
#[derive(Debug)]
pub struct ReluKernel<'a, E: Real = f64> {
    arch: Arch,
    width: usize,
    network: ReluNetwork<'a, E>,
    input_layer: InputLayer<E>,
    /// Allocated at the first step on several samples, and again when their number changes.
    batch: Option<ReluBatchBuffers<E>>,
}

impl<'a, E: Real> ReluKernel<'a, E> {
    /// A kernel that starts from `parameters`.
    ///
    /// # Panics
    /// When the parameters or the inputs do not fit the model.
    pub fn new(model: TwoLayerRelu, data: &'a Dataset, parameters: &[f64]) -> Self {
        Self::with_arch(simd::arch(), model, data, parameters)
    }

    /// A kernel that starts from `parameters`, on a chosen instruction set.
    ///
    /// # Panics
    /// See [`new`](Self::new).
    pub fn with_arch(
        arch: Arch,
        model: TwoLayerRelu,
        data: &'a Dataset,
        parameters: &[f64],
    ) -> Self {
        let (width, input_dim) = (model.width(), model.input_dim());
        assert_eq!(data.inputs().columns(), input_dim, "dimension of the inputs");
        assert_eq!(data.output_dim(), model.output_dim(), "number of outputs");
        let (hidden, output) = model.split(parameters);
        let network = ReluNetwork {
            data,
            inputs: E::rounded(data.inputs().values()),
            hidden: Grouped::from_rows(hidden, width, input_dim),
            output: AlignedVec::from_rows(output, width, padded_for::<E>(width)),
        };
        let input_layer = InputLayer::new(width, input_dim);
        Self { arch, width, network, input_layer, batch: None }
    }
}

impl<E: Real> Kernel for ReluKernel<'_, E> {
    fn single_steps(&mut self, order: &[u32], learning_rates: &[f64], clip_norm: f64) -> Segment {
        assert_eq!(order.len(), learning_rates.len(), "one learning rate for each step");
        let Self { arch, network, input_layer, .. } = self;
        arch.dispatch(ReluSingleSteps { network, input_layer, order, learning_rates, clip_norm })
    }

    fn step(&mut self, samples: Samples<'_>, update: Update) -> Step {
        let Self { arch, width, network, batch, .. } = self;
        let count = samples.len(network.data);
        if count == 0 {
            return Step::default();
        }
        let scale = samples.scale(network.data);
        let buffers = batch.take().filter(|buffers| buffers.count == count);
        let buffers =
            buffers.unwrap_or_else(|| ReluBatchBuffers::new(count, *width, network.hidden.columns));
        let buffers = batch.insert(buffers);
        buffers.load(samples, network.data.targets(), &network.inputs);
        arch.dispatch(ReluBatchStep { network, buffers, scale, update })
    }

    fn parameters(&self) -> Vec<f64> {
        let ReluNetwork { hidden, output, .. } = &self.network;
        let mut parameters = vec![0.0; self.width * hidden.columns];
        hidden.store_rows(&mut parameters, hidden.columns);
        parameters.extend(output[..self.width].iter().map(|value| value.to_f64()));
        parameters
    }
}
