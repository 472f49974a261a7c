//! The gradient of a layer, and sums over samples.

use flatmin_linalg::simd::{self, AlignedVec, Groups, GroupsMut, Lanes};
use pulp::Simd;

use super::network::Layer;

/// The gradient with respect to the parameters of a layer, padded like them. It has entries for
/// biases even if the layer has none.
#[derive(Debug)]
pub(super) struct Gradient {
    pub(super) weights: AlignedVec,
    pub(super) biases: AlignedVec,
}

impl Gradient {
    pub(super) fn new(layer: &Layer) -> Self {
        Self {
            weights: AlignedVec::zeros(layer.weights.len()),
            biases: AlignedVec::zeros(layer.biases.len()),
        }
    }

    /// The gradient with respect to the biases of `layer`; empty if it has none, although the sums
    /// have a place for it.
    pub(super) fn biases_of(&self, layer: &Layer) -> &[f64] {
        if layer.has_biases { &self.biases } else { &[] }
    }
}

/// Adds the rows to `sum`, one by one.
#[inline(always)]
pub(super) fn add_rows_to<S: Simd>(simd: S, rows: &[f64], sum: &mut [f64]) {
    let mut sum = GroupsMut::<S>::new(sum);
    let one = Lanes::splat(simd, 1.0);
    for row in rows.chunks_exact(sum.len() * simd::LANES) {
        let row = Groups::<S>::new(row);
        for k in 0..row.len() {
            sum.set(k, row.get(simd, k).mul_add(simd, one, sum.get(simd, k)));
        }
    }
}

/// `δ ∘= σ'`.
#[inline(always)]
pub(super) fn mask<S: Simd>(simd: S, slopes: &[f64], deltas: &mut [f64]) {
    let slopes = Groups::<S>::new(slopes);
    let mut deltas = GroupsMut::<S>::new(deltas);
    for k in 0..slopes.len() {
        deltas.set(k, deltas.get(simd, k).mul(simd, slopes.get(simd, k)));
    }
}
