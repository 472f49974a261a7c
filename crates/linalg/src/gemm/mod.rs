//! Dense matrix products with the same bits on every machine, for any number of threads.
//!
//! Libraries choose the order of summation of a product by the vector width and the caches of the
//! processor. Here it depends on shapes and storage alone:
//!
//! - **Chains**, the general case: an entry of `A B` is a chain of fused multiply-adds over k in
//!   order, in blocks of 256 terms that are summed apart. Vector registers run over rows, so that
//!   neither their width nor the cut of rows and columns into tiles can change a bit.
//! - **Inner products in lanes**, where the rows of A and the columns of B are contiguous and one
//!   of the two is at most 32: eight lanes over k, as in [`simd::dot`](crate::simd::dot), in blocks
//!   of 1024 terms. Nothing is packed; for a few long vectors packing would take longer than the
//!   product.
//!
//! The functions that take a [`Parallelism`](crate::Parallelism) are for large symmetric results.
//! Their chains are shorter: a term passes through about `2√len` roundings instead of `len`
//! ([`rounding_terms`]), which keeps rigorous error bounds useful at sizes in the thousands. Their
//! work is cut into blocks that depend on the sizes only.
//!
//! The tests of this module compare every kernel with its plain definition, bit by bit.

#![expect(
    clippy::inline_always,
    reason = "a kernel that is not inlined loses the instruction set it was dispatched to"
)]

mod dispatch;
mod form_tile;
mod job;
mod lane_dots;
mod moments;
mod pack;
mod quadratic;
mod rank_k;
mod tile;

use faer::{Accum, Mat, MatMut, MatRef};

use dispatch::run;
use job::{Gemm, MAX_CHAIN, Part};

pub use moments::weighted_moments;
pub use quadratic::{quadratic_blocks, quadratic_forms, quadratic_rounding_terms};
pub use rank_k::{
    add_symmetric_product, rounding_terms, summarize_symmetric_product, symmetric_product,
};

/// The product `A B` of an m × k and a k × n matrix.
///
/// ```
/// use faer::mat;
/// let a = mat![[1.0, 2.0], [3.0, 4.0]];
/// let product = flatmin_linalg::product(a.as_ref(), mat![[1.0], [-1.0]].as_ref());
/// assert_eq!(product, mat![[-1.0], [-1.0]]);
/// ```
///
/// # Panics
/// When the shapes do not fit.
pub fn product(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    let mut out = Mat::zeros(a.nrows(), b.ncols());
    matmul(out.as_mut(), Accum::Replace, a, b, 1.0);
    out
}

/// Writes `factor · A B` to C, or adds it, for `C` m × n, `A` m × k, `B` k × n in any storage.
///
/// Costs mnk fused operations. An entry passes through at most `min(k, 1024) + ⌈k/256⌉ + 1`
/// roundings.
///
/// # Panics
/// When the shapes do not fit.
pub fn matmul(
    c: MatMut<'_, f64>,
    accumulate: Accum,
    a: MatRef<'_, f64>,
    b: MatRef<'_, f64>,
    factor: f64,
) {
    run(Gemm { c, accumulate, a, b, factor, part: Part::Whole, chain: MAX_CHAIN });
}

/// Computes and writes the lower triangle of C, the diagonal included, as [`matmul`] does.
///
/// Entries above the diagonal keep their values. Costs about half of [`matmul`].
///
/// # Panics
/// When the shapes do not fit, or C is not square.
pub fn matmul_lower(
    c: MatMut<'_, f64>,
    accumulate: Accum,
    a: MatRef<'_, f64>,
    b: MatRef<'_, f64>,
    factor: f64,
) {
    assert_eq!(c.nrows(), c.ncols(), "shape of a triangle");
    run(Gemm { c, accumulate, a, b, factor, part: Part::Lower, chain: MAX_CHAIN });
}

#[cfg(test)]
mod tests {
    use faer::{Accum, Mat, MatMut, MatRef};

    use super::dispatch::{MAX_LANE_SIDE, MIN_LANE_TERMS, run_in_chains, run_on};
    use super::job::{Gemm, MAX_CHAIN, MAX_LANE_CHAIN, Part};
    use super::{matmul, matmul_lower, product};
    use crate::simd::{InstructionSet, LANES};

    pub(super) fn matrix(rows: usize, columns: usize) -> Mat<f64> {
        let value = |i: usize, j: usize| ((i * 7919 + j * 104_729) % 1009) as f64 / 504.3 - 1.0;
        Mat::from_fn(rows, columns, value)
    }

    /// The definition of a chain, in plain scalars.
    fn chain(a: MatRef<'_, f64>, b: MatRef<'_, f64>, i: usize, j: usize, old: Option<f64>) -> f64 {
        let mut sum = old;
        for first in (0..a.ncols()).step_by(MAX_CHAIN) {
            let block = first..(first + MAX_CHAIN).min(a.ncols());
            let block = block.fold(0.0, |sum, k| f64::mul_add(a[(i, k)], b[(k, j)], sum));
            sum = Some(sum.map_or(0.7 * block, |sum| f64::mul_add(0.7, block, sum)));
        }
        sum.unwrap_or(0.0)
    }

    /// The definition of an inner product in lanes.
    fn inner(a: MatRef<'_, f64>, b: MatRef<'_, f64>, i: usize, j: usize, old: Option<f64>) -> f64 {
        let mut sum = old;
        for first in (0..a.ncols()).step_by(MAX_LANE_CHAIN) {
            let mut lanes = [0.0_f64; LANES];
            for k in first..(first + MAX_LANE_CHAIN).min(a.ncols()) {
                let lane = &mut lanes[(k - first) % LANES];
                *lane = f64::mul_add(a[(i, k)], b[(k, j)], *lane);
            }
            let [a, b, c, d, e, f, g, h] = lanes;
            let block = ((a + e) + (c + g)) + ((b + f) + (d + h));
            sum = Some(sum.map_or(0.7 * block, |sum| f64::mul_add(0.7, block, sum)));
        }
        sum.unwrap_or(0.0)
    }

    /// Every instruction set, storage and part against the definition, bit by bit.
    fn check(m: usize, n: usize, k: usize) {
        let (a, b, old) = (matrix(m, k), matrix(k, n), matrix(m, n));
        let (a_rows, b_rows) = (a.transpose().to_owned(), b.transpose().to_owned());
        let sets = InstructionSet::ALL.into_iter().filter_map(InstructionSet::arch);
        for (arch, case) in sets.flat_map(|arch| (0..16).map(move |case| (arch, case))) {
            let bit = |index: u32| case >> index & 1 == 1;
            let a = if bit(0) { a.as_ref() } else { a_rows.transpose() };
            let b = if bit(1) { b.as_ref() } else { b_rows.transpose() };
            let accumulate = if bit(2) { Accum::Replace } else { Accum::Add };
            let part = if bit(3) || m != n { Part::Whole } else { Part::Lower };
            let by_columns = old.clone();
            let mut by_rows = old.transpose().to_owned();
            let mut columns = by_columns.clone();
            for c in [columns.as_mut(), by_rows.as_mut().transpose_mut()] {
                run_on(arch, Gemm { c, accumulate, a, b, factor: 0.7, part, chain: MAX_CHAIN });
            }
            let is_inner = !bit(0) && bit(1) && m.min(n) <= MAX_LANE_SIDE && k >= MIN_LANE_TERMS;
            for j in 0..n {
                for i in 0..m {
                    let before = by_columns[(i, j)];
                    let kept = (accumulate == Accum::Add).then_some(before);
                    let expected = match part {
                        Part::Lower if i < j => before,
                        _ if is_inner => inner(a, b, i, j, kept),
                        _ => chain(a, b, i, j, kept),
                    };
                    let found = [columns[(i, j)], by_rows[(j, i)]];
                    let is_same = found.iter().all(|v| v.to_bits() == expected.to_bits());
                    assert!(is_same, "{m}×{n}×{k} {case} ({i}, {j}): {found:?} {expected}");
                }
            }
        }
    }

    #[test]
    fn products_have_the_bits_of_their_definition() {
        for (m, n, k) in [(1, 1, 1), (1, 9, 3), (5, 1, 300), (8, 8, 8), (25, 17, 40)] {
            check(m, n, k);
        }
        for (m, n, k) in [(3, 2, 1), (2, 3, 257), (33, 34, 257), (50, 50, 20), (200, 20, 90)] {
            check(m, n, k);
        }
    }

    #[test]
    fn long_inner_products_have_the_bits_of_their_definition() {
        for (m, n, k) in [(2, 2, 128), (9, 2, 1031), (4, 7, 2050), (13, 13, 513)] {
            check(m, n, k);
        }
    }

    #[test]
    fn shorter_chains_have_the_bits_of_as_many_products() {
        for (m, n, k, chain) in
            [(1, 1, 5, 2), (50, 40, 600, 64), (40, 40, 700, 192), (9, 33, 300, 256)]
        {
            let (a, b, old) = (matrix(m, k), matrix(k, n), matrix(m, n));
            let a_rows = a.transpose().to_owned();
            // With the second storage, long sums are computed as inner products in lanes.
            for a in [a.as_ref(), a_rows.transpose()] {
                for (accumulate, part) in [
                    (Accum::Add, Part::Whole),
                    (Accum::Replace, Part::Whole),
                    (Accum::Add, Part::Lower),
                ] {
                    if part == Part::Lower && m != n {
                        continue;
                    }
                    let mut expected = old.clone();
                    for first in (0..k).step_by(chain) {
                        let terms = chain.min(k - first);
                        let (a, b) = (a.subcols(first, terms), b.get(first..first + terms, ..));
                        let kept = if first == 0 { accumulate } else { Accum::Add };
                        match part {
                            Part::Lower => matmul_lower(expected.as_mut(), kept, a, b, 1.0),
                            _ => matmul(expected.as_mut(), kept, a, b, 1.0),
                        }
                    }
                    let mut found = old.clone();
                    let (c, b, factor) = (found.as_mut(), b.as_ref(), 1.0);
                    run_in_chains(Gemm { c, accumulate, a, b, factor, part, chain });
                    assert_eq!(found, expected, "{m} × {n} × {k} by {chain}");
                }
            }
        }
    }

    #[test]
    fn sums_over_nothing_are_zero() {
        let (a, b) = (Mat::<f64>::zeros(3, 0), Mat::<f64>::zeros(0, 2));
        assert_eq!(product(a.as_ref(), b.as_ref()), Mat::<f64>::zeros(3, 2));
        let mut sum = matrix(3, 2);
        matmul(sum.as_mut(), Accum::Add, a.as_ref(), b.as_ref(), 1.0);
        assert_eq!(sum, matrix(3, 2));
        matmul(sum.as_mut(), Accum::Replace, a.as_ref(), b.as_ref(), 1.0);
        assert_eq!(sum, Mat::<f64>::zeros(3, 2));
        assert_eq!(product(b.as_ref(), Mat::zeros(2, 5).as_ref()).nrows(), 0);
    }

    #[test]
    fn views_with_any_strides_are_products_too() {
        let (a, b) = (matrix(40, 30), matrix(30, 50));
        let expected = product(a.as_ref(), b.as_ref());
        let mut out = Mat::zeros(40, 50);
        let reversed: MatMut<'_, f64> = out.as_mut().reverse_rows_mut();
        matmul(reversed, Accum::Replace, a.as_ref().reverse_rows(), b.as_ref(), 1.0);
        assert_eq!(out, expected);
        let mut square = Mat::zeros(40, 40);
        let c = b.get(.., ..40);
        matmul_lower(square.as_mut(), Accum::Replace, a.as_ref(), c, 1.0);
        for j in 0..40 {
            for i in 0..40 {
                let wanted = if i < j { 0.0 } else { expected[(i, j)] };
                assert_eq!(square[(i, j)].to_bits(), wanted.to_bits());
            }
        }
    }
}
