//! The pass over the inputs of a batch of a function that is linear in its input.

use flatmin_linalg::simd::{Groups, GroupsMut, Lanes, Real};
use flatmin_models::Dataset;
use pulp::Simd;

use super::step::Samples;

/// Inputs that the pass handles together.
const TILE_INPUTS: usize = 4;

/// The samples of a batch, with the inputs of the whole data set in rows padded with zeros.
pub(super) struct Rows<'k, E> {
    pub(super) data: &'k Dataset,
    pub(super) inputs: &'k [E],
    pub(super) stride: usize,
    pub(super) samples: Samples<'k>,
}

impl<E: Real> Rows<'_, E> {
    /// Sets `correlation` to `c = (1/B) Σ r_i x_i`, r the residuals of `f(x) = ⟨coefficients, x⟩`;
    /// returns the loss of the batch.
    ///
    /// One pass over the inputs: each row's residual is computed and its term is added to c while
    /// the row is still in the first-level cache.
    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "closures lose the instruction set")]
    pub(super) fn correlate<S: Simd>(
        &self,
        simd: S,
        coefficients: Groups<'_, S, E>,
        correlation: &mut GroupsMut<'_, S, E>,
    ) -> f64 {
        let Self { data, inputs, stride, samples } = *self;
        let count = samples.len(data);
        let scale = samples.scale(data);
        let groups = stride / E::LANES;
        let zero = Lanes::splat(simd, E::ZERO);
        for k in 0..groups {
            correlation.set(k, zero);
        }
        let row = |sample: usize| Groups::<S, E>::new(&inputs[sample * stride..][..stride]);
        let mut loss = 0.0;
        for first in (0..count).step_by(TILE_INPUTS) {
            let filled = TILE_INPUTS.min(count - first);
            // Short tiles repeat their first row with a residual of zero.
            let mut rows = [row(samples.get(first)); TILE_INPUTS];
            for r in 1..filled {
                rows[r] = row(samples.get(first + r));
            }
            let mut sums = [zero; TILE_INPUTS];
            for k in 0..groups {
                let coefficient = coefficients.get(simd, k);
                for r in 0..TILE_INPUTS {
                    sums[r] = coefficient.mul_add(simd, rows[r].get(simd, k), sums[r]);
                }
            }
            let mut factors = [zero; TILE_INPUTS];
            for r in 0..filled {
                let output = sums[r].sum(simd).to_f64();
                let residual = output - data.targets()[samples.get(first + r)];
                loss += 0.5 * scale * residual * residual;
                factors[r] = Lanes::splat(simd, E::from_f64(scale * residual));
            }
            for k in 0..groups {
                let mut sum = correlation.get(simd, k);
                for r in 0..TILE_INPUTS {
                    sum = rows[r].get(simd, k).mul_add(simd, factors[r], sum);
                }
                correlation.set(k, sum);
            }
        }
        loss
    }
}
