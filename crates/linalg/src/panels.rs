//! Large dense products with a fixed order of summation and few roundings.
//!
//! Inner products are summed panel by panel ([`rounding_terms`] says how many roundings a term
//! passes through: about `2√len`, not `len`), which is what makes rigorous error bounds useful at
//! sizes in the thousands. Work is cut into blocks that depend on the sizes only, so that the
//! result has the same bits for any number of threads.

use std::ops::Range;

use faer::{Accum, ColRef, Mat, MatMut, MatRef};
use rayon::prelude::*;

use crate::product::{LONGEST_CHAIN, Part, lower_forms, matmul_in_chains};
use crate::simd;

/// Whether one large problem may use several cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Parallelism {
    /// On the calling thread.
    #[default]
    Sequential,
    /// On the current rayon thread pool. The result is the same to the bit.
    Rayon,
}

/// Terms of an inner product that are summed before they join the rest.
const PANEL: usize = 64;

/// Output columns of one task. Smaller products are one task.
const BLOCK: usize = 128;

/// Output columns of one task where matrices are large: what it packs is used more often.
const LARGE_BLOCK: usize = 256;

/// From so many rows on matrices are large.
const LARGE: usize = 2048;

/// Quadratic forms of one task: whole tiles on every machine.
const FORMS_AT_ONCE: usize = 120;

/// Rows of a product of which the forms are taken at once, about: its other operand is packed as often.
const STRIP: usize = 384;

fn panel(len: usize) -> usize {
    // Near √len the number of roundings, panel + len/panel, is least.
    (len.isqrt().div_ceil(PANEL).max(1) * PANEL).min(LONGEST_CHAIN)
}

/// Width of the blocks that an m × m matrix is cut into.
fn block(m: usize) -> usize {
    match m {
        _ if m <= 4 * BLOCK => m.max(1),
        _ if m < LARGE => BLOCK,
        _ => LARGE_BLOCK,
    }
}

/// The largest number of rounded operations that a term of an inner product of `len` terms passes
/// through in the products of this module, its own multiplication included.
///
/// With u = 2⁻⁵³ and `γ = k u / (1 − k u)` for this number k, the error of a computed inner product
/// is at most `γ Σ |a_i b_i|`, whatever the order inside a panel and with or without fused
/// operations (Higham 2002, section 3.1).
pub fn rounding_terms(len: usize) -> usize {
    let panel = panel(len);
    panel.min(len) + len.div_ceil(panel)
}

/// The lower triangle of `A Bᵀ` for `A`, `B` both m × k, where that product is symmetric; above the
/// diagonal zeros.
///
/// Costs m²k operations. Blocks of columns may run in parallel.
///
/// # Panics
/// When the shapes differ.
pub fn symmetric_product(
    a: MatRef<'_, f64>,
    b: MatRef<'_, f64>,
    parallelism: Parallelism,
) -> Mat<f64> {
    let mut product = Mat::zeros(a.nrows(), a.nrows());
    add_symmetric_product(product.as_mut(), a, b, parallelism);
    product
}

/// Adds what [`symmetric_product`] makes to `sum`, m × m.
///
/// # Panics
/// When the shapes do not fit.
pub fn add_symmetric_product(
    sum: MatMut<'_, f64>,
    a: MatRef<'_, f64>,
    b: MatRef<'_, f64>,
    parallelism: Parallelism,
) {
    let m = a.nrows();
    assert_eq!((m, a.ncols()), (b.nrows(), b.ncols()), "shapes of a symmetric product");
    assert_eq!((m, m), (sum.nrows(), sum.ncols()), "shape of a sum of symmetric products");
    let blocks = column_blocks(sum, block(m));
    let add = |(first, out): (usize, MatMut<'_, f64>)| {
        add_columns(a, b, first, out.subrows_mut(first, m - first));
    };
    match parallelism {
        Parallelism::Sequential => blocks.into_iter().for_each(add),
        Parallelism::Rayon => blocks.into_par_iter().with_max_len(1).for_each(add),
    }
}

/// What `summary` makes of blocks of columns of [`symmetric_product`]`(a, a)`, from its first column on; that
/// matrix itself is never held. It is given the index of the first column of a block, and the block from that
/// row on: on and below the diagonal what the product has, above it zeros.
///
/// Costs m²k operations. Blocks may run in parallel.
pub fn summarize_symmetric_product<T: Send>(
    a: MatRef<'_, f64>,
    parallelism: Parallelism,
    summary: impl Fn(usize, MatRef<'_, f64>) -> T + Sync,
) -> Vec<T> {
    let m = a.nrows();
    let width = block(m);
    let summarize = |first: usize| {
        let mut columns = Mat::zeros(m - first, width.min(m - first));
        add_columns(a, a, first, columns.as_mut());
        summary(first, columns.as_ref())
    };
    let blocks: Vec<usize> = (0..m).step_by(width).collect();
    match parallelism {
        Parallelism::Sequential => blocks.into_iter().map(summarize).collect(),
        Parallelism::Rayon => blocks.into_par_iter().with_max_len(1).map(summarize).collect(),
    }
}

/// Adds columns of `A Bᵀ` from `first` on to `out`, which starts at their diagonal.
fn add_columns(a: MatRef<'_, f64>, b: MatRef<'_, f64>, first: usize, mut out: MatMut<'_, f64>) {
    let (m, columns, panel) = (a.nrows(), out.ncols(), panel(a.ncols()));
    let end = first + columns;
    let right = b.get(first..end, ..).transpose();
    let diagonal = out.as_mut().subrows_mut(0, columns);
    let left = a.get(first..end, ..);
    matmul_in_chains(diagonal, Accum::Add, left, right, Part::Lower, panel);
    if end < m {
        let below = out.subrows_mut(columns, m - end);
        matmul_in_chains(below, Accum::Add, a.get(end.., ..), right, Part::Whole, panel);
    }
}

/// Cuts a matrix into blocks of `width` columns, each with the index of its first one.
fn column_blocks(mut matrix: MatMut<'_, f64>, width: usize) -> Vec<(usize, MatMut<'_, f64>)> {
    let mut blocks = Vec::new();
    let mut first = 0;
    while matrix.ncols() > 0 {
        let columns = width.min(matrix.ncols());
        let (block, rest) = matrix.split_at_col_mut(columns);
        blocks.push((first, block));
        matrix = rest;
        first += columns;
    }
    blocks
}

/// The m × m moments `Σ_i y_i x_iᵀ` of rows `x_i` (of `rows`, n × m) and `y_i`, where they are symmetric: their lower
/// triangle is written to `moments`, and what is above it is left alone.
///
/// The y are never held as a whole: `weigh(samples, columns, out)` writes those columns of those y to `out`, row
/// by row. `finish(first, block)` is called for each block of rows of the moments as soon as it is summed: the
/// rows from `first` on, up to their last diagonal entry.
///
/// Costs nm² operations. An entry passes through at most [`rounding_terms`]`(n)` roundings, those of the y apart.
/// Blocks may run in parallel.
///
/// # Panics
/// When the shapes do not fit.
pub fn weighted_moments(
    moments: MatMut<'_, f64>,
    rows: MatRef<'_, f64>,
    weigh: impl Fn(Range<usize>, Range<usize>, &mut [f64]) + Sync,
    finish: impl Fn(usize, MatMut<'_, f64>) + Sync,
    parallelism: Parallelism,
) {
    let (n, m) = (rows.nrows(), rows.ncols());
    assert_eq!((m, m), (moments.nrows(), moments.ncols()), "shape of moments");
    let panel = panel(n);
    let depth = LONGEST_CHAIN / panel * panel;
    let fill = |(first, mut out): (usize, MatMut<'_, f64>)| {
        let count = out.nrows();
        let mut weighted = vec![0.0; depth.min(n) * count];
        let mut accumulate = Accum::Replace;
        for start in (0..n).step_by(depth) {
            let stop = (start + depth).min(n);
            let weighted = &mut weighted[..(stop - start) * count];
            weigh(start..stop, first..first + count, weighted);
            let left = MatRef::from_column_major_slice(weighted, count, stop - start);
            let right = rows.get(start..stop, ..);
            let (before, diagonal) =
                out.as_mut().subcols_mut(0, first + count).split_at_col_mut(first);
            let own = right.get(.., first..first + count);
            matmul_in_chains(diagonal, accumulate, left, own, Part::Lower, panel);
            if first > 0 {
                let right = right.get(.., ..first);
                matmul_in_chains(before, accumulate, left, right, Part::Whole, panel);
            }
            accumulate = Accum::Add;
        }
        finish(first, out.subcols_mut(0, first + count));
    };
    let blocks = column_blocks(moments.transpose_mut(), block(m));
    let mut blocks: Vec<_> =
        blocks.into_iter().map(|(first, block)| (first, block.transpose_mut())).collect();
    // The longest ones first: the last ones to be taken up should be short.
    blocks.reverse();
    match parallelism {
        Parallelism::Sequential => blocks.into_iter().for_each(fill),
        Parallelism::Rayon => blocks.into_par_iter().with_max_len(1).for_each(fill),
    }
}

/// `xᵀ (L + Lᵀ) x` for every column x of `vectors` (m × n), with `L` m × m lower triangular and zero above
/// its diagonal.
///
/// Costs m²n operations. An entry passes through at most [`quadratic_rounding_terms`] roundings.
///
/// # Panics
/// When the shapes do not fit.
pub fn quadratic_forms(
    lower: MatRef<'_, f64>,
    vectors: MatRef<'_, f64>,
    parallelism: Parallelism,
) -> Vec<f64> {
    let m = lower.nrows();
    assert_eq!((m, m), (lower.ncols(), vectors.nrows()), "shapes of a quadratic form");
    if m == 0 {
        return vec![0.0; vectors.ncols()];
    }
    let by_columns;
    let lower = if lower.try_as_col_major().is_some() {
        lower
    } else {
        by_columns = lower.to_owned();
        by_columns.as_ref()
    };
    let task = FORMS_AT_ONCE * if m < LARGE { 1 } else { 2 };
    let some = |(index, values): (usize, &mut [f64])| {
        let columns = vectors.subcols(index * task, values.len());
        lower_forms(lower, columns, panel(m), values);
        for value in values {
            *value *= 2.0;
        }
    };
    let mut values = vec![0.0; vectors.ncols()];
    match parallelism {
        Parallelism::Sequential => values.chunks_mut(task).enumerate().for_each(some),
        Parallelism::Rayon => {
            values.par_chunks_mut(task).enumerate().with_max_len(1).for_each(some);
        }
    }
    values
}

/// The lower triangle of `Xᵀ (L + Lᵀ) X` for every group X of `group` columns of `vectors` (m × n), row by
/// row and group by group; `L` as in [`quadratic_forms`], to which groups of one go.
///
/// Costs m²n + mn·`group` operations. An entry passes through at most [`quadratic_rounding_terms`]
/// roundings.
///
/// # Panics
/// When the shapes do not fit, or the columns do not make whole groups.
pub fn quadratic_blocks(
    lower: MatRef<'_, f64>,
    vectors: MatRef<'_, f64>,
    group: usize,
    parallelism: Parallelism,
) -> Vec<f64> {
    let m = lower.nrows();
    assert_eq!((m, m), (lower.ncols(), vectors.nrows()), "shapes of a quadratic form");
    assert!(group > 0 && vectors.ncols().is_multiple_of(group), "columns in groups");
    if group == 1 {
        return quadratic_forms(lower, vectors, parallelism);
    }
    let entries = group * (group + 1) / 2;
    let task = ((if m < LARGE { BLOCK } else { LARGE_BLOCK }) / group).max(1);
    let block = |(index, values): (usize, &mut [f64])| {
        let count = values.len() / entries * group;
        let columns = vectors.subcols(index * task * group, count);
        block_forms(lower, columns, group, values);
    };
    let mut values = vec![0.0; vectors.ncols() / group * entries];
    match parallelism {
        Parallelism::Sequential => {
            values.chunks_mut(task * entries).enumerate().for_each(block);
        }
        Parallelism::Rayon => {
            let chunks = values.par_chunks_mut(task * entries).enumerate();
            chunks.with_max_len(1).for_each(block);
        }
    }
    values
}

/// One task of [`quadratic_blocks`]: strips of rows of `Lᵀ X`, each of which joins the forms at once.
fn block_forms(lower: MatRef<'_, f64>, columns: MatRef<'_, f64>, group: usize, values: &mut [f64]) {
    let (m, count) = (lower.nrows(), columns.ncols());
    let panel = panel(m);
    let strip = (STRIP / panel).max(1) * panel;
    let mut images = Mat::zeros(strip.min(m), count);
    // image_aᵀ x_b for the columns a, b of each group.
    let mut dots = vec![0.0; count * group];
    for start in (0..m).step_by(strip) {
        let stop = (start + strip).min(m);
        let mut images = images.as_mut().subrows_mut(0, stop - start);
        images.fill(0.0);
        // On the diagonal, rows first..last of L end at it: Lᵀx gets nothing below it from them.
        for first in (start..stop).step_by(panel) {
            let last = (first + panel).min(stop);
            let right = columns.get(first..last, ..);
            let left = lower.get(first..last, start..last).transpose();
            let image = images.as_mut().subrows_mut(0, last - start);
            matmul_in_chains(image, Accum::Add, left, right, Part::Whole, panel);
        }
        if stop < m {
            let left = lower.get(stop.., start..stop).transpose();
            let right = columns.get(stop.., ..);
            matmul_in_chains(images.as_mut(), Accum::Add, left, right, Part::Whole, panel);
        }
        for (index, dots) in dots.chunks_mut(group).enumerate() {
            let image = images.as_ref().col(index);
            for (b, dot) in dots.iter_mut().enumerate() {
                let column = columns.col(index / group * group + b);
                for first in (start..stop).step_by(panel) {
                    let last = (first + panel).min(stop);
                    let image = image.get(first - start..last - start);
                    *dot += inner_product(image, column.get(first..last));
                }
            }
        }
    }
    let mut values = values.iter_mut();
    for first in (0..count).step_by(group) {
        let dot = |a: usize, b: usize| dots[(first + a) * group + b];
        for a in 0..group {
            for b in 0..=a {
                let Some(value) = values.next() else { return };
                *value = if a == b { 2.0 * dot(a, a) } else { dot(a, b) + dot(b, a) };
            }
        }
    }
}

fn inner_product(a: ColRef<'_, f64>, b: ColRef<'_, f64>) -> f64 {
    match (a.try_as_col_major(), b.try_as_col_major()) {
        (Some(a), Some(b)) => simd::dot(a.as_slice(), b.as_slice()),
        _ => a.iter().zip(b.iter()).map(|(a, b)| a * b).sum(),
    }
}

/// As [`rounding_terms`], for [`quadratic_forms`] with m × m matrices.
pub fn quadratic_rounding_terms(m: usize) -> usize {
    2 * rounding_terms(m)
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use faer::{Mat, MatMut};

    use super::{
        FORMS_AT_ONCE, LARGE, Parallelism, panel, quadratic_blocks, quadratic_forms,
        rounding_terms, summarize_symmetric_product, symmetric_product, weighted_moments,
    };

    fn matrix(rows: usize, columns: usize) -> Mat<f64> {
        let value = |i: usize, j: usize| ((i * 7919 + j * 104_729) % 1009) as f64 / 504.5 - 1.0;
        Mat::from_fn(rows, columns, value)
    }

    #[test]
    fn products_agree_with_their_definition_and_threads_change_no_bit() {
        for (m, terms) in [(1, 1), (3, 200), (130, 7), (600, 70)] {
            let a = matrix(m, terms);
            let product = symmetric_product(a.as_ref(), a.as_ref(), Parallelism::Sequential);
            let threaded = symmetric_product(a.as_ref(), a.as_ref(), Parallelism::Rayon);
            for j in 0..m {
                for i in 0..m {
                    let expected: f64 =
                        if i < j { 0.0 } else { (0..terms).map(|k| a[(i, k)] * a[(j, k)]).sum() };
                    assert!((product[(i, j)] - expected).abs() <= 1e-13 * terms as f64);
                    assert_eq!(product[(i, j)].to_bits(), threaded[(i, j)].to_bits());
                }
            }
        }
    }

    #[test]
    fn quadratic_forms_agree_with_their_definition() {
        // The last one in several tasks of a large matrix.
        for (m, n) in [(0, 2), (1, 3), (5, 300), (150, 131), (LARGE, 2 * FORMS_AT_ONCE + 1)] {
            let full = matrix(m, m);
            let lower = Mat::from_fn(m, m, |i, j| if i < j { 0.0 } else { full[(i, j)] });
            let vectors = matrix(m, n);
            let forms = quadratic_forms(lower.as_ref(), vectors.as_ref(), Parallelism::Sequential);
            let by_rows = lower.transpose().to_owned();
            let (lower_by_rows, sequential) = (by_rows.transpose(), Parallelism::Sequential);
            assert_eq!(forms, quadratic_forms(lower_by_rows, vectors.as_ref(), sequential));
            let threaded = quadratic_forms(lower.as_ref(), vectors.as_ref(), Parallelism::Rayon);
            for j in 0..n {
                let mut expected = 0.0;
                for k in 0..m {
                    for l in 0..=k {
                        expected += 2.0 * vectors[(k, j)] * lower[(k, l)] * vectors[(l, j)];
                    }
                }
                assert!((forms[j] - expected).abs() <= 1e-13 * (m * m) as f64);
                assert_eq!(forms[j].to_bits(), threaded[j].to_bits());
            }
        }
    }

    #[test]
    fn summaries_see_every_column_once() {
        for (m, terms) in [(1, 3), (130, 7), (600, 70)] {
            let a = matrix(m, terms);
            let whole = symmetric_product(a.as_ref(), a.as_ref(), Parallelism::Sequential);
            for parallelism in [Parallelism::Sequential, Parallelism::Rayon] {
                let mut next = 0;
                let blocks =
                    summarize_symmetric_product(a.as_ref(), parallelism, |first, columns| {
                        (first, columns.to_owned())
                    });
                for (first, columns) in blocks {
                    assert_eq!(first, next);
                    assert_eq!(columns, whole.get(first.., first..first + columns.ncols()));
                    next += columns.ncols();
                }
                assert_eq!(next, m);
            }
        }
    }

    #[test]
    fn moments_agree_with_the_product_of_weighted_rows() {
        for (n, m) in [(1, 1), (300, 5), (70, 600), (700, 530)] {
            let (rows, weights) = (matrix(m, n), matrix(n, 1));
            let rows = rows.transpose();
            let weighted = Mat::from_fn(m, n, |k, i| weights[(i, 0)] * rows[(i, k)]);
            let mut expected =
                symmetric_product(weighted.as_ref(), rows.transpose(), Parallelism::Sequential);
            for k in 0..m {
                for l in 0..=k {
                    expected[(k, l)] *= (k + 2 * l) as f64;
                }
            }
            let weigh = |samples: Range<usize>, columns: Range<usize>, out: &mut [f64]| {
                for (i, out) in samples.zip(out.chunks_mut(columns.len())) {
                    for (k, out) in columns.clone().zip(out) {
                        *out = weights[(i, 0)] * rows[(i, k)];
                    }
                }
            };
            let finish = |first: usize, mut block: MatMut<'_, f64>| {
                for k in 0..block.nrows() {
                    for l in 0..=first + k {
                        block[(k, l)] *= (first + k + 2 * l) as f64;
                    }
                }
            };
            for parallelism in [Parallelism::Sequential, Parallelism::Rayon] {
                let mut moments = Mat::zeros(m, m);
                weighted_moments(moments.as_mut(), rows, weigh, finish, parallelism);
                assert_eq!(moments, expected, "{n} {m}");
            }
        }
    }

    #[test]
    fn groups_of_columns_make_blocks() {
        for (m, groups, group) in [(1, 2, 3), (5, 60, 5), (70, 3, 130)] {
            let full = matrix(m, m);
            let lower = Mat::from_fn(m, m, |i, j| if i < j { 0.0 } else { full[(i, j)] });
            let symmetric = &lower + lower.transpose();
            let vectors = matrix(m, groups * group);
            let sequential = Parallelism::Sequential;
            let blocks = quadratic_blocks(lower.as_ref(), vectors.as_ref(), group, sequential);
            let threaded =
                quadratic_blocks(lower.as_ref(), vectors.as_ref(), group, Parallelism::Rayon);
            let mut found = blocks.iter();
            for index in 0..groups {
                let x = vectors.get(.., index * group..(index + 1) * group);
                let expected = x.transpose() * &symmetric * x;
                for a in 0..group {
                    for b in 0..=a {
                        let error = found.next().unwrap() - expected[(a, b)];
                        assert!(error.abs() <= 1e-13 * (m * m) as f64, "{m} {a} {b}: {error}");
                    }
                }
            }
            assert_eq!(found.next(), None);
            assert_eq!(blocks, threaded);
        }
    }

    #[test]
    fn long_sums_have_few_roundings() {
        assert_eq!((panel(1), panel(2000), panel(10_000)), (64, 64, 128));
        assert_eq!(rounding_terms(5), 6);
        assert_eq!(rounding_terms(2000), 64 + 32);
        // No chain is longer than those that products are made of.
        assert_eq!(rounding_terms(1_000_000), 256 + 3907);
    }
}
