//! Symmetric products of rank k whose left factor is never stored.

use std::ops::Range;

use faer::{Accum, MatMut, MatRef};

use super::dispatch::run_in_chains;
use super::job::{Gemm, MAX_CHAIN, Part};
use super::rank_k::{block_columns, chain_length, column_blocks};
use crate::Parallelism;

/// Writes the lower triangle of the m × m moments `Σ_i y_i x_iᵀ` to `moments`, where they are
/// symmetric. Entries above the diagonal keep their values.
///
/// The `x_i` are the rows of `rows`, n × m. The `y_i` are never stored as a whole:
/// `weigh(samples, columns, out)` writes those columns of those `y_i` to `out`, row by row.
/// `finish(first, block)` is called for each block of rows of the moments as soon as it is summed.
/// The block begins at row `first` and ends, in each row, at the diagonal.
///
/// Costs nm² operations. An entry passes through at most
/// [`rounding_terms`](super::rounding_terms)`(n)` roundings, not counting the roundings in the
/// `y_i`. Blocks may run in parallel.
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
    let (factor, chain) = (1.0, chain_length(n));
    // A whole number of chains, whose weighted rows are stored at once.
    let depth = MAX_CHAIN / chain * chain;
    let fill = |(first, mut out): (usize, MatMut<'_, f64>)| {
        let count = out.nrows();
        let mut weighted = vec![0.0; depth.min(n) * count];
        let mut accumulate = Accum::Replace;
        for start in (0..n).step_by(depth) {
            let stop = (start + depth).min(n);
            let weighted = &mut weighted[..(stop - start) * count];
            weigh(start..stop, first..first + count, weighted);
            let a = MatRef::from_column_major_slice(weighted, count, stop - start);
            let right = rows.get(start..stop, ..first + count);
            let (before, diagonal) =
                out.as_mut().subcols_mut(0, first + count).split_at_col_mut(first);
            let (right_before, right_diagonal) = right.split_at_col(first);
            for (c, b, part) in
                [(diagonal, right_diagonal, Part::Lower), (before, right_before, Part::Whole)]
            {
                run_in_chains(Gemm { c, accumulate, a, b, factor, part, chain });
            }
            accumulate = Accum::Add;
        }
        finish(first, out.subcols_mut(0, first + count));
    };
    let blocks = column_blocks(moments.transpose_mut(), block_columns(m)).into_iter();
    // The longest blocks come first, so that the last ones to start are short.
    let blocks = blocks.rev().map(|(first, block)| (first, block.transpose_mut()));
    parallelism.for_each(blocks.collect(), fill);
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use faer::{Mat, MatMut};

    use super::weighted_moments;
    use crate::Parallelism;
    use crate::gemm::symmetric_product;
    use crate::gemm::tests::matrix;

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
}
