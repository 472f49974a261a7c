//! Fused steps of the multilayer perceptron, `h_0 = x`, `h_l = σ(W_l h_{l−1} + b_l)`.
//!
//! With `δ_L` the residuals (or the gradient of another loss in the outputs) and
//! `δ_l = σ'(z_l) ∘ W_{l+1}ᵀ δ_{l+1}`, the gradient with respect to `W_l` is `δ_l h_{l−1}ᵀ`, and
//! with respect to `b_l` it is `δ_l`.
//!
//! Batch size 1 ([`single`]): the input layer, which is the largest where inputs are long, takes
//! `LANES` steps in a sweep over its weights. In the other layers the update of step t and the
//! forward pass of step t + 1 are one sweep; their weights are read only once more, for the
//! pull-back `W_lᵀ δ_l`. The gradient norm needs no extra pass, because the norm of `δ_l h_{l−1}ᵀ`
//! is `‖δ_l‖ ‖h_{l−1}‖`. Neurons of a ReLU layer that are off have `δ = 0`: their weights are
//! neither pulled back nor updated.
//!
//! Larger batches ([`batch`]): the gradient is summed up, by such sweeps for a few samples and by
//! dense products ([`dense`]) for more.

mod batch;
mod dense;
mod network;
mod row_gemm;
mod single;
mod sums;
mod sweep;

use flatmin_linalg::simd::{self, AlignedVec, padded};
use flatmin_models::{Dataset, Mlp, Model as _};
use pulp::Arch;

use self::batch::{MlpBatchBuffers, MlpBatchStep};
use self::network::{Layer, MlpNetwork};
use self::single::{MlpSingleBuffers, MlpSingleSteps};
use super::step::{Kernel, Samples, Segment, Step, Update};

/// The fused kernel of [`Mlp`].
#[derive(Debug)]
pub struct MlpKernel<'a> {
    arch: Arch,
    network: MlpNetwork<'a>,
    /// Allocated at the first single-sample steps; `batch` is allocated at the first larger batch.
    single: Option<MlpSingleBuffers>,
    batch: Option<MlpBatchBuffers>,
}

impl<'a> MlpKernel<'a> {
    /// A kernel that starts from `parameters`.
    ///
    /// # Panics
    /// When the parameters or the data do not fit the model, or a width exceeds 2³².
    pub fn new(model: &Mlp, data: &'a Dataset, parameters: &[f64]) -> Self {
        Self::with_arch(simd::arch(), model, data, parameters)
    }

    /// A kernel that starts from `parameters`, on a chosen instruction set.
    ///
    /// # Panics
    /// See [`new`](Self::new).
    pub fn with_arch(arch: Arch, model: &Mlp, data: &'a Dataset, parameters: &[f64]) -> Self {
        let input_dim = model.input_dim();
        assert_eq!(parameters.len(), model.parameter_count(), "number of parameters");
        assert_eq!(data.inputs().columns(), input_dim, "dimension of the inputs");
        assert_eq!(data.output_dim(), model.output_dim(), "number of outputs");
        let widths = model.widths();
        let pairs = widths.windows(2).zip(model.parameter_ranges());
        let layers = pairs.map(|(pair, (weights, biases))| {
            assert!(u32::try_from(pair[1]).is_ok(), "neurons are indexed by u32");
            Layer::new(pair[0], pair[1], &parameters[weights], &parameters[biases])
        });
        let stride = padded(input_dim);
        let inputs = AlignedVec::from_rows(data.inputs().values(), input_dim, stride);
        let network = MlpNetwork {
            data,
            activation: model.activation(),
            layers: layers.collect(),
            input_norms_squared: inputs.chunks_exact(stride).map(simd::norm_squared).collect(),
            inputs,
            stride,
        };
        Self { arch, network, single: None, batch: None }
    }
}

impl Kernel for MlpKernel<'_> {
    fn single_steps(&mut self, order: &[u32], learning_rates: &[f64], clip_norm: f64) -> Segment {
        assert_eq!(order.len(), learning_rates.len(), "one learning rate for each step");
        let Self { arch, network, single, .. } = self;
        let buffers = single.get_or_insert_with(|| MlpSingleBuffers::new(&network.layers));
        arch.dispatch(MlpSingleSteps { network, buffers, order, learning_rates, clip_norm })
    }

    fn step(&mut self, samples: Samples<'_>, update: Update) -> Step {
        let Self { arch, network, batch, .. } = self;
        let count = samples.len(network.data);
        if count == 0 {
            return Step::default();
        }
        let buffers = batch.take().filter(|buffers| buffers.fits(count));
        let make = || MlpBatchBuffers::new(&network.layers, network.stride, count);
        let buffers = batch.insert(buffers.unwrap_or_else(make));
        arch.dispatch(MlpBatchStep { network, buffers, samples, count, update })
    }

    fn parameters(&self) -> Vec<f64> {
        let mut parameters = Vec::new();
        for layer in &self.network.layers {
            for row in layer.weights.chunks_exact(layer.stride).take(layer.outputs) {
                parameters.extend_from_slice(&row[..layer.inputs]);
            }
            if layer.has_biases {
                parameters.extend_from_slice(&layer.biases[..layer.outputs]);
            }
        }
        parameters
    }
}
