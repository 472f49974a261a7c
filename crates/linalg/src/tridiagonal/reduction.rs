//! The reduction to tridiagonal form, a panel of columns at a time.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::Tridiagonal;
use crate::Parallelism;
use crate::householder::{PANEL, reflect};
use crate::simd::{self, AlignedVec, Groups, GroupsMut, LANES, Lanes, padded};

/// Columns that are read together.
const TOGETHER: usize = 4;

/// A larger matrix is multiplied with a vector in parts.
const PARTED: usize = 1024;

/// So many, for any number of threads.
const PARTS: usize = 8;

/// The reduction of the columns of a panel; `images` takes their W, with stride like A.
pub(super) struct Panel<'a, 'b> {
    pub(super) form: &'a mut Tridiagonal<'b>,
    pub(super) images: &'a mut [f64],
    pub(super) first: usize,
    pub(super) width: usize,
}

impl WithSimd for Panel<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { form, images, first, width } = self;
        let (n, stride) = (form.work.n, form.work.stride);
        let len = padded(n);
        for j in 0..width {
            let k = first + j;
            let (before, column) = form.work.values.split_at_mut(k * stride);
            let before = &before[first * stride..];
            let column = &mut column[..len];
            // What the reflections before it in the panel have left of column k.
            let from = k / LANES;
            let mut weights = [[0.0; PANEL]; 2];
            for i in 0..j {
                weights[0][i] = -images[i * stride + k];
                weights[1][i] = -before[i * stride + k];
            }
            add_columns(simd, before, stride, &weights[0][..j], column, from);
            add_columns(simd, images, stride, &weights[1][..j], column, from);
            form.diagonal[k] = column[k];
            // Above its panel the column belongs to the matrix as it was.
            column[first..=k].fill(0.0);
            column[n..].fill(0.0);
            if k + 1 == n {
                break;
            }
            let (factor, beta) = reflect(&mut column[k + 1..n]);
            form.off_diagonal[k] = beta;
            form.factors[k] = factor;
            if factor == 0.0 {
                continue;
            }
            let from = (k + 1) / LANES;
            let (done, image) = images.split_at_mut(j * stride);
            let image = &mut image[..len];
            let vectors = &form.work.values[first * stride..];
            let vector = &form.work.values[k * stride..][..len];
            if n - k <= PARTED {
                symmetric_image(simd, &form.work.values, stride, vector, image, from, len / LANES);
            } else {
                parted_image(&form.work.values, stride, vector, image, from, form.parallelism);
            }
            let mut sums = [[0.0; PANEL]; 2];
            for i in 0..j {
                let dot = |lines: &[f64]| {
                    simd::dot(&lines[i * stride..][from * LANES..len], &vector[from * LANES..])
                };
                sums[0][i] = -dot(done);
                sums[1][i] = -dot(vectors);
            }
            add_columns(simd, vectors, stride, &sums[0][..j], image, from);
            add_columns(simd, done, stride, &sums[1][..j], image, from);
            image[..=k].fill(0.0);
            for v in &mut *image {
                *v *= factor;
            }
            let component = simd::dot(&image[from * LANES..], &vector[from * LANES..]);
            let weight = [-0.5 * factor * component];
            add_columns(simd, vector, stride, &weight, image, from);
        }
    }
}

/// [`symmetric_image`] in [`PARTS`] sums over columns, one after the other or at the same time.
fn parted_image(
    matrix: &[f64],
    stride: usize,
    vector: &[f64],
    image: &mut [f64],
    from: usize,
    parallelism: Parallelism,
) {
    let (len, groups) = (vector.len(), vector.len() / LANES);
    // Parts of about the same area: what is left to the right of fraction x of the columns is (1 − x)².
    let area = (groups - from) * (groups - from);
    let bound = |part: usize| groups - (area * (PARTS - part) / PARTS).isqrt();
    let mut sums = AlignedVec::zeros(PARTS * len);
    let part = |(part, image): (usize, &mut [f64])| {
        let (from, to) = (bound(part), bound(part + 1));
        simd::arch().dispatch(Part { matrix, stride, vector, image, from, to });
    };
    match parallelism {
        Parallelism::Sequential => sums.chunks_exact_mut(len).enumerate().for_each(part),
        Parallelism::Rayon => {
            sums.par_chunks_exact_mut(len).with_max_len(1).enumerate().for_each(part);
        }
    }
    image[from * LANES..].fill(0.0);
    for sum in sums.chunks_exact(len) {
        for (image, sum) in image[from * LANES..].iter_mut().zip(&sum[from * LANES..]) {
            *image += sum;
        }
    }
}

struct Part<'a> {
    matrix: &'a [f64],
    stride: usize,
    vector: &'a [f64],
    image: &'a mut [f64],
    from: usize,
    to: usize,
}

impl WithSimd for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { matrix, stride, vector, image, from, to } = self;
        symmetric_image(simd, matrix, stride, vector, image, from, to);
    }
}

/// `out += Σ_i weight_i · column i`, from group `from` on, in the order of the columns.
#[inline(always)]
fn add_columns<S: Simd>(
    simd: S,
    columns: &[f64],
    stride: usize,
    weights: &[f64],
    out: &mut [f64],
    from: usize,
) {
    let len = out.len();
    let mut out = GroupsMut::<S>::new(out);
    let mut i = 0;
    while i < weights.len() {
        let width = TOGETHER.min(weights.len() - i);
        // Columns that are missing repeat the last one with weight zero.
        let mut picked = [Groups::<S>::new(&columns[..0]); TOGETHER];
        let mut factors = [Lanes::splat(simd, 0.0); TOGETHER];
        for c in 0..TOGETHER {
            let column = i + if c < width { c } else { width - 1 };
            picked[c] = Groups::new(&columns[column * stride..][..len]);
            if c < width {
                factors[c] = Lanes::splat(simd, weights[i + c]);
            }
        }
        for g in from..len / LANES {
            let mut sum = out.get(simd, g);
            for c in 0..TOGETHER {
                sum = picked[c].get(simd, g).mul_add(simd, factors[c], sum);
            }
            out.set(g, sum);
        }
        i += TOGETHER;
    }
}

/// `image = A v` from group `from` on, where v is zero before: what the blocks of eight columns `from..to` add to
/// it, and the rows beside them. Reads A from the blocks of eight on its diagonal down.
#[inline(always)]
fn symmetric_image<S: Simd>(
    simd: S,
    matrix: &[f64],
    stride: usize,
    vector: &[f64],
    image: &mut [f64],
    from: usize,
    to: usize,
) {
    let len = vector.len();
    image[from * LANES..].fill(0.0);
    let v = Groups::<S>::new(vector);
    for block in from..to {
        for half in [0, TOGETHER] {
            let start = block * LANES + half;
            let mut columns = [Groups::<S>::new(&matrix[..0]); TOGETHER];
            let mut weights = [Lanes::splat(simd, 0.0); TOGETHER];
            let mut sums = [Lanes::splat(simd, 0.0); TOGETHER];
            for c in 0..TOGETHER {
                columns[c] = Groups::new(&matrix[(start + c) * stride..][..len]);
                weights[c] = Lanes::splat(simd, vector[start + c]);
            }
            let mut out = GroupsMut::<S>::new(image);
            let mut sum = out.get(simd, block);
            for c in 0..TOGETHER {
                sum = columns[c].get(simd, block).mul_add(simd, weights[c], sum);
            }
            out.set(block, sum);
            for g in block + 1..len / LANES {
                let mut sum = out.get(simd, g);
                let below = v.get(simd, g);
                for c in 0..TOGETHER {
                    let entries = columns[c].get(simd, g);
                    sum = entries.mul_add(simd, weights[c], sum);
                    sums[c] = entries.mul_add(simd, below, sums[c]);
                }
                out.set(g, sum);
            }
            for c in 0..TOGETHER {
                image[start + c] += sums[c].sum(simd);
            }
        }
    }
}
