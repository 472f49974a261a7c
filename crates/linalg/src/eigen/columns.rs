//! Kernels on the columns of a symmetric matrix.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::Parallelism;
use crate::simd::{self, AlignedVec, Groups, GroupsMut, LANES, Lanes};

/// The number of columns that are read together.
const GROUPED_COLUMNS: usize = 4;

/// The largest size of a matrix whose product with a vector is one sum over columns.
pub(super) const MAX_WHOLE_SIZE: usize = 1024;

/// The number of sums over columns for a larger matrix, for any number of threads.
const SPLIT_SUMS: usize = 8;

/// The padded columns of a matrix.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a> {
    pub(super) values: &'a [f64],
    /// The distance between the starts of two columns.
    pub(super) stride: usize,
}

/// Computes [`symmetric_image`] as [`SPLIT_SUMS`] sums over columns, possibly at the same time.
pub(super) fn split_symmetric_image(
    matrix: Columns<'_>,
    vector: &[f64],
    image: &mut [f64],
    from: usize,
    parallelism: Parallelism,
) {
    let (len, groups) = (vector.len(), vector.len() / LANES);
    // Parts of about the same area. The area to the right of a fraction x of the columns is
    // proportional to (1 − x)².
    let area = (groups - from) * (groups - from);
    let bound = |part: usize| groups - (area * (SPLIT_SUMS - part) / SPLIT_SUMS).isqrt();
    let mut sums = AlignedVec::zeros(SPLIT_SUMS * len);
    parallelism.for_each_chunk(&mut sums, len, |part, image| {
        let blocks = bound(part)..bound(part + 1);
        simd::arch().dispatch(SymmetricImage { matrix, vector, image, blocks });
    });
    image[from * LANES..].fill(0.0);
    for sum in sums.chunks_exact(len) {
        for (image, sum) in image[from * LANES..].iter_mut().zip(&sum[from * LANES..]) {
            *image += sum;
        }
    }
}

/// A dispatched [`symmetric_image`].
struct SymmetricImage<'a> {
    matrix: Columns<'a>,
    vector: &'a [f64],
    image: &'a mut [f64],
    blocks: Range<usize>,
}

impl WithSimd for SymmetricImage<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        symmetric_image(simd, self.matrix, self.vector, self.image, self.blocks);
    }
}

/// Adds `Σ_i weight_i · column i` to `out`, from lane group `from` on, in the order of the columns.
#[inline(always)]
pub(super) fn add_columns<S: Simd>(
    simd: S,
    columns: Columns<'_>,
    weights: &[f64],
    out: &mut [f64],
    from: usize,
) {
    let len = out.len();
    let mut out = GroupsMut::<S>::new(out);
    let mut i = 0;
    while i < weights.len() {
        let width = GROUPED_COLUMNS.min(weights.len() - i);
        // A missing column is replaced by the last one with weight zero.
        let mut picked = [Groups::<S>::new(&columns.values[..0]); GROUPED_COLUMNS];
        let mut factors = [Lanes::splat(simd, 0.0); GROUPED_COLUMNS];
        for c in 0..GROUPED_COLUMNS {
            let column = i + if c < width { c } else { width - 1 };
            picked[c] = Groups::new(&columns.values[column * columns.stride..][..len]);
            if c < width {
                factors[c] = Lanes::splat(simd, weights[i + c]);
            }
        }
        for g in from..len / LANES {
            let mut sum = out.get(simd, g);
            for c in 0..GROUPED_COLUMNS {
                sum = picked[c].get(simd, g).mul_add(simd, factors[c], sum);
            }
            out.set(g, sum);
        }
        i += GROUPED_COLUMNS;
    }
}

/// Computes the contribution of some blocks of eight columns of A, with the rows beside them, to
/// the image `A v`, from the first of those lane groups on. Entries of v before that group are
/// zero.
///
/// Reads A from the blocks of eight on its diagonal down.
#[inline(always)]
pub(super) fn symmetric_image<S: Simd>(
    simd: S,
    matrix: Columns<'_>,
    vector: &[f64],
    image: &mut [f64],
    blocks: Range<usize>,
) {
    let len = vector.len();
    image[blocks.start * LANES..].fill(0.0);
    let v = Groups::<S>::new(vector);
    for block in blocks {
        for half in [0, GROUPED_COLUMNS] {
            let start = block * LANES + half;
            let mut columns = [Groups::<S>::new(&matrix.values[..0]); GROUPED_COLUMNS];
            let mut weights = [Lanes::splat(simd, 0.0); GROUPED_COLUMNS];
            let mut sums = [Lanes::splat(simd, 0.0); GROUPED_COLUMNS];
            for c in 0..GROUPED_COLUMNS {
                columns[c] = Groups::new(&matrix.values[(start + c) * matrix.stride..][..len]);
                weights[c] = Lanes::splat(simd, vector[start + c]);
            }
            let mut out = GroupsMut::<S>::new(image);
            let mut sum = out.get(simd, block);
            for c in 0..GROUPED_COLUMNS {
                sum = columns[c].get(simd, block).mul_add(simd, weights[c], sum);
            }
            out.set(block, sum);
            for g in block + 1..len / LANES {
                let mut sum = out.get(simd, g);
                let below = v.get(simd, g);
                for c in 0..GROUPED_COLUMNS {
                    let entries = columns[c].get(simd, g);
                    sum = entries.mul_add(simd, weights[c], sum);
                    sums[c] = entries.mul_add(simd, below, sums[c]);
                }
                out.set(g, sum);
            }
            for c in 0..GROUPED_COLUMNS {
                image[start + c] += sums[c].sum(simd);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With small integers every sum is exact in every order.
    #[test]
    fn sums_over_parts_of_the_columns_make_the_image() {
        for len in [8, 40, 200] {
            let entry = |i: usize, j: usize| ((7 * (i + j) + i * j) % 11) as f64 - 5.0;
            let stride = len + LANES;
            let mut values = vec![f64::NAN; len * stride];
            for j in 0..len {
                // Blocks above the diagonal are not read.
                for i in j / LANES * LANES..len {
                    values[j * stride + i] = entry(i, j);
                }
            }
            let matrix = Columns { values: &values, stride };
            for from in [0, len / LANES / 2, len / LANES - 1] {
                let weight = |j| if j < from * LANES { 0.0 } else { (j % 7) as f64 - 3.0 };
                let vector: Vec<f64> = (0..len).map(weight).collect();
                let mut image = vec![9.0; len];
                split_symmetric_image(matrix, &vector, &mut image, from, Parallelism::Rayon);
                for (i, found) in image.iter().enumerate().skip(from * LANES) {
                    let expected: f64 = (0..len).map(|j| entry(i, j) * weight(j)).sum();
                    assert!(
                        (found - expected).abs() <= 0.0,
                        "{len} {from} {i}: {found} {expected}"
                    );
                }
            }
        }
    }
}
