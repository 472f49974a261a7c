//! Sweeps over the padded rows of a weight matrix, [`TILE_ROWS`] rows at a time.

use flatmin_linalg::simd::{self, Lanes};
use pulp::Simd;

/// Number of rows that a sweep handles together: enough independent sums to hide the latency of a fused
/// multiply-add, and each load of an input serves all of them.
pub(super) const TILE_ROWS: usize = 4;

/// Sorts the rows: active ones in ascending order from the front, idle ones from the back. Returns the
/// number of active ones.
///
/// A row is active where `activity` is positive. There is no branch on the activity, which is random,
/// and there are fewer than 2³² rows.
#[inline(always)]
pub(super) fn sort_rows(rows: &mut [u32], activity: &[f64]) -> usize {
    let rows = &mut rows[..activity.len()];
    let (mut front, mut back) = (0, rows.len());
    for (j, z) in activity.iter().enumerate() {
        let active = *z > 0.0;
        let position = if active { front } else { back - 1 };
        #[expect(clippy::cast_possible_truncation, reason = "fewer than 2³² rows")]
        {
            rows[position] = j as u32;
        }
        front += usize::from(active);
        back -= usize::from(!active);
    }
    front
}

/// Sets the pre-activation of each listed row's neuron to the product of the row with `next`.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "slices of one layer, inlined into its step")]
pub(super) fn read_rows<S: Simd>(
    simd: S,
    hidden: &[S::f64s],
    registers: usize,
    rows: &[u32],
    next: &[S::f64s],
    preactivations: &mut [f64],
) {
    let row = |j: u32| &hidden[j as usize * registers..][..registers];
    let mut blocks = rows.chunks_exact(TILE_ROWS);
    for block in &mut blocks {
        let mut weights = [&hidden[..0]; TILE_ROWS];
        for r in 0..TILE_ROWS {
            weights[r] = row(block[r]);
        }
        let sums = products(simd, weights, &next[..registers]);
        for r in 0..TILE_ROWS {
            preactivations[block[r] as usize] = sums[r].sum(simd);
        }
    }
    for &j in blocks.remainder() {
        let [sum] = products(simd, [row(j)], &next[..registers]);
        preactivations[j as usize] = sum.sum(simd);
    }
}

/// The partial sums of the products of `R` rows with `next`.
#[inline(always)]
pub(super) fn products<S: Simd, const R: usize>(
    simd: S,
    rows: [&[S::f64s]; R],
    next: &[S::f64s],
) -> [Lanes<S>; R] {
    let groups = simd::LANES / S::F64_LANES;
    let mut sums = [Lanes::splat(simd, 0.0); R];
    let mut k = 0;
    while k < next.len() {
        for g in 0..groups {
            let y = next[k + g];
            for r in 0..R {
                sums[r].accumulate(simd, g, rows[r][k + g], y);
            }
        }
        k += groups;
    }
    sums
}

/// Adds `coefficient · previous` to each listed row, then sets the pre-activation of its neuron to the
/// product of the row with `next`. The rows are in ascending order.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "slices of one layer, inlined into its step")]
pub(super) fn update_rows<S: Simd>(
    simd: S,
    hidden: &mut [S::f64s],
    registers: usize,
    rows: &[u32],
    [previous, next]: [&[S::f64s]; 2],
    coefficients: &[f64],
    preactivations: &mut [f64],
) {
    // Ascending rows are cut off the front one by one: disjoint without a check of every pair.
    let mut rest = hidden;
    let mut offset = 0;
    let (previous, next) = (&previous[..registers], &next[..registers]);
    let mut blocks = rows.chunks_exact(TILE_ROWS);
    for block in &mut blocks {
        let mut weights: [&mut [S::f64s]; TILE_ROWS] = std::array::from_fn(|_| Default::default());
        let mut factors = [simd.splat_f64s(0.0); TILE_ROWS];
        for r in 0..TILE_ROWS {
            let j = block[r] as usize;
            factors[r] = simd.splat_f64s(coefficients[j]);
            let tail = rest.split_at_mut(j * registers - offset).1;
            (weights[r], rest) = tail.split_at_mut(registers);
            offset = (j + 1) * registers;
        }
        let sums = updates(simd, &mut weights, factors, previous, next);
        for r in 0..TILE_ROWS {
            preactivations[block[r] as usize] = sums[r].sum(simd);
        }
    }
    for &j in blocks.remainder() {
        let j = j as usize;
        let tail = rest.split_at_mut(j * registers - offset).1;
        let row;
        (row, rest) = tail.split_at_mut(registers);
        offset = (j + 1) * registers;
        let factor = simd.splat_f64s(coefficients[j]);
        let [sum] = updates(simd, &mut [row], [factor], previous, next);
        preactivations[j] = sum.sum(simd);
    }
}

/// Adds `factor · previous` to `R` rows; returns the partial sums of their products with `next`.
#[inline(always)]
fn updates<S: Simd, const R: usize>(
    simd: S,
    rows: &mut [&mut [S::f64s]; R],
    factors: [S::f64s; R],
    previous: &[S::f64s],
    next: &[S::f64s],
) -> [Lanes<S>; R] {
    // Loops, not closures: what a closure computes is compiled without the instruction set of its
    // surroundings, and calls for every intrinsic made this sweep three times slower.
    let groups = simd::LANES / S::F64_LANES;
    let mut sums = [Lanes::splat(simd, 0.0); R];
    let mut k = 0;
    while k < next.len() {
        for g in 0..groups {
            let (x, y) = (previous[k + g], next[k + g]);
            for r in 0..R {
                let w = simd.mul_add_f64s(factors[r], x, rows[r][k + g]);
                rows[r][k + g] = w;
                sums[r].accumulate(simd, g, w, y);
            }
        }
        k += groups;
    }
    sums
}
