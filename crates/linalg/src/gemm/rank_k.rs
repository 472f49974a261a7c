//! Symmetric products of rank k: the lower triangle of `A Bᵀ` in blocks of columns.

use faer::{Accum, Mat, MatMut, MatRef};

use super::dispatch::run_in_chains;
use super::job::{Gemm, MAX_CHAIN, Part};
use crate::Parallelism;

/// The lengths of chains are multiples of this.
const CHAIN_UNIT: usize = 64;

/// The number of columns of a block.
const BLOCK_COLUMNS: usize = 128;

/// The number of columns of a block of a large matrix, where packed operands are used more often.
const LARGE_BLOCK_COLUMNS: usize = 256;

/// The number of rows from which a matrix is large.
pub(super) const LARGE_ROWS: usize = 2048;

/// The number of terms of an inner product that are summed before they join the rest.
pub(super) fn chain_length(len: usize) -> usize {
    // Near √len the number of roundings, chain + len/chain, is least.
    (len.isqrt().div_ceil(CHAIN_UNIT).max(1) * CHAIN_UNIT).min(MAX_CHAIN)
}

/// The number of columns of the blocks that an m × m matrix is cut into, each a task of its own. A
/// small matrix is one block.
pub(super) fn block_columns(m: usize) -> usize {
    if m <= 4 * BLOCK_COLUMNS { m.max(1) } else { large_block_columns(m) }
}

/// The number of columns of the blocks of a matrix that is cut even when it is small.
pub(super) fn large_block_columns(m: usize) -> usize {
    if m < LARGE_ROWS { BLOCK_COLUMNS } else { LARGE_BLOCK_COLUMNS }
}

/// The largest number of rounded operations that a term of an inner product of `len` terms passes
/// through in the symmetric products of this module, its own multiplication included.
///
/// The error of a computed inner product is at most [`gamma`](crate::rounding::gamma) of this
/// number times `Σ |a_i b_i|`, whatever the order inside a chain and with or without fused
/// operations (Higham 2002, section 3.1).
pub fn rounding_terms(len: usize) -> usize {
    let chain = chain_length(len);
    chain.min(len) + len.div_ceil(chain)
}

/// The lower triangle of `A Bᵀ` for m × k matrices A and B whose product is symmetric, with zeros
/// above the diagonal.
///
/// Costs m²k operations. An entry passes through at most [`rounding_terms`]`(k)` roundings. Blocks
/// of columns may run in parallel.
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

/// Adds [`symmetric_product`]`(a, b)` to `sum`, m × m.
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
    parallelism.for_each(column_blocks(sum, block_columns(m)), |(first, out)| {
        add_product_columns(a, b, first, out.subrows_mut(first, m - first));
    });
}

/// The values of `summary` at blocks of columns of [`symmetric_product`]`(a, a)`, in order. The
/// product itself is never stored.
///
/// `summary` is given the index of the first column of a block, and the rows of the block from that
/// index on: the entries of the product on and below its diagonal, zeros above.
///
/// Costs m²k operations. Blocks may run in parallel.
pub fn summarize_symmetric_product<T: Send>(
    a: MatRef<'_, f64>,
    parallelism: Parallelism,
    summary: impl Fn(usize, MatRef<'_, f64>) -> T + Sync,
) -> Vec<T> {
    let m = a.nrows();
    let width = block_columns(m);
    parallelism.map((0..m).step_by(width).collect(), |first| {
        let mut columns = Mat::zeros(m - first, width.min(m - first));
        add_product_columns(a, a, first, columns.as_mut());
        summary(first, columns.as_ref())
    })
}

/// Adds columns of `A Bᵀ` from `first` on to `out`, whose first row is row `first` of the product.
fn add_product_columns(a: MatRef<'_, f64>, b: MatRef<'_, f64>, first: usize, out: MatMut<'_, f64>) {
    let (m, columns) = (a.nrows(), out.ncols());
    let end = first + columns;
    let right = b.get(first..end, ..).transpose();
    let (diagonal, below) = out.split_at_row_mut(columns);
    let (accumulate, factor, chain) = (Accum::Add, 1.0, chain_length(a.ncols()));
    for (c, rows, part) in [(diagonal, first..end, Part::Lower), (below, end..m, Part::Whole)] {
        run_in_chains(Gemm { c, accumulate, a: a.get(rows, ..), b: right, factor, part, chain });
    }
}

/// Cuts a matrix into blocks of `width` columns, each with the index of its first column.
pub(super) fn column_blocks(
    mut matrix: MatMut<'_, f64>,
    width: usize,
) -> Vec<(usize, MatMut<'_, f64>)> {
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

#[cfg(test)]
mod tests {
    use super::{chain_length, rounding_terms, summarize_symmetric_product, symmetric_product};
    use crate::Parallelism;
    use crate::gemm::tests::matrix;

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
    fn long_sums_have_few_roundings() {
        assert_eq!((chain_length(1), chain_length(2000), chain_length(10_000)), (64, 64, 128));
        assert_eq!(rounding_terms(5), 6);
        assert_eq!(rounding_terms(2000), 64 + 32);
        // No chain is longer than those that products are made of.
        assert_eq!(rounding_terms(1_000_000), 256 + 3907);
    }
}
