//! The network in the layout of its kernels.

use std::borrow::Cow;

use flatmin_linalg::simd::{AlignedVec, Real};
use flatmin_models::Dataset;

use crate::kernel::gemm::Grouped;

/// A two-layer ReLU network on a data set, with weights in groups of neurons.
#[derive(Debug)]
pub(super) struct ReluNetwork<'a, E: Real> {
    pub(super) data: &'a Dataset,
    /// The inputs of the data, row by row.
    pub(super) inputs: Cow<'a, [E]>,
    pub(super) hidden: Grouped<E>,
    /// Output weights, padded with zeros.
    pub(super) output: AlignedVec<E>,
}
