//! Sweeps over the padded rows of a weight matrix, [`TILE_ROWS`] rows at a time.

use flatmin_linalg::simd::{self, Lanes};
use pulp::Simd;

/// Number of rows that a sweep handles together: enough independent sums to hide the latency of a
/// fused multiply-add, and each load of an input serves all of them.
pub(super) const TILE_ROWS: usize = 4;

/// The rows of a tile, of length `len` each.
#[inline(always)]
pub(super) fn rows_of<V>(tile: &[V], len: usize) -> [&[V]; TILE_ROWS] {
    let mut rows = [&tile[..0]; TILE_ROWS];
    for r in 0..TILE_ROWS {
        rows[r] = &tile[r * len..][..len];
    }
    rows
}

/// Sorts the rows: active ones in ascending order from the front, idle ones from the back. Returns
/// the number of active ones.
///
/// A row is active where `activity` is positive. There is no branch on the activity, which is
/// random, and there are fewer than 2³² rows.
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
pub(super) fn read_rows<S: Simd>(
    simd: S,
    hidden: &[S::f64s],
    rows: &[u32],
    next: &[S::f64s],
    preactivations: &mut [f64],
) {
    let mut tiles = rows.chunks_exact(TILE_ROWS);
    for tile in &mut tiles {
        read_tile::<S, TILE_ROWS>(simd, hidden, tile, next, preactivations);
    }
    for row in tiles.remainder().chunks_exact(1) {
        read_tile::<S, 1>(simd, hidden, row, next, preactivations);
    }
}

#[inline(always)]
fn read_tile<S: Simd, const R: usize>(
    simd: S,
    hidden: &[S::f64s],
    rows: &[u32],
    next: &[S::f64s],
    preactivations: &mut [f64],
) {
    let mut weights = [&hidden[..0]; R];
    for r in 0..R {
        weights[r] = &hidden[rows[r] as usize * next.len()..][..next.len()];
    }
    let sums = products(simd, weights, next);
    for r in 0..R {
        preactivations[rows[r] as usize] = sums[r].sum(simd);
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

/// Adds `coefficient · previous` to each listed row, then sets the pre-activation of its neuron to
/// the product of the row with `next`. The rows are in ascending order.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "slices of one layer, inlined into its step")]
pub(super) fn update_rows<S: Simd>(
    simd: S,
    hidden: &mut [S::f64s],
    rows: &[u32],
    inputs: [&[S::f64s]; 2],
    coefficients: &[f64],
    preactivations: &mut [f64],
) {
    let mut rest = Rest { registers: hidden, taken: 0 };
    let mut tiles = rows.chunks_exact(TILE_ROWS);
    for tile in &mut tiles {
        update_tile::<S, TILE_ROWS>(simd, &mut rest, tile, inputs, coefficients, preactivations);
    }
    for row in tiles.remainder().chunks_exact(1) {
        update_tile::<S, 1>(simd, &mut rest, row, inputs, coefficients, preactivations);
    }
}

/// The rows that have not been taken yet. Ascending rows are cut off the front one by one: they are
/// disjoint without a check of every pair.
struct Rest<'h, V> {
    registers: &'h mut [V],
    /// Number of registers before these.
    taken: usize,
}

impl<'h, V> Rest<'h, V> {
    #[inline(always)]
    fn take(&mut self, row: usize, len: usize) -> &'h mut [V] {
        let rest = std::mem::take(&mut self.registers).split_at_mut(row * len - self.taken).1;
        let (taken, rest) = rest.split_at_mut(len);
        (self.registers, self.taken) = (rest, (row + 1) * len);
        taken
    }
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "slices of one layer, inlined into its step")]
fn update_tile<S: Simd, const R: usize>(
    simd: S,
    rest: &mut Rest<'_, S::f64s>,
    rows: &[u32],
    [previous, next]: [&[S::f64s]; 2],
    coefficients: &[f64],
    preactivations: &mut [f64],
) {
    let mut weights: [&mut [S::f64s]; R] = std::array::from_fn(|_| Default::default());
    let mut factors = [simd.splat_f64s(0.0); R];
    for r in 0..R {
        let row = rows[r] as usize;
        factors[r] = simd.splat_f64s(coefficients[row]);
        weights[r] = rest.take(row, next.len());
    }
    let sums = updates(simd, &mut weights, factors, previous, next);
    for r in 0..R {
        preactivations[rows[r] as usize] = sums[r].sum(simd);
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
    // Loops instead of closures: a closure is compiled without the instruction set of its
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
