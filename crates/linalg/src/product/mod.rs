//! Dense matrix products with the same bits on every machine.
//!
//! Libraries choose the order of summation of a product by the vector width and the caches of the
//! processor. Here it depends on shapes and storage alone:
//!
//! - **Chains**, the general case: an entry of `A B` is a chain of fused multiply-adds over k in
//!   order, in blocks of [`DEPTH`] terms that are summed apart. Vector registers run over rows, so
//!   that neither their width nor how rows and columns are cut into tiles can change a bit.
//! - **Inner products**, where the rows of A and the columns of B are contiguous and one of the two is
//!   few: eight lanes over k, as in [`simd::dot`], in blocks of [`LONG_DEPTH`] terms. Nothing is
//!   packed, which for a few long vectors would take longer than the product.
//!
//! Sequential: parallelism is over products.

#![expect(
    clippy::inline_always,
    reason = "a kernel that is not inlined loses the instruction set it was dispatched to"
)]

mod forms;
mod inner;
mod pack;
mod tile;

use faer::{Accum, Mat, MatMut, MatRef};
use pulp::{Simd, WithSimd};

use crate::simd;

pub(crate) use forms::lower_forms;

/// Terms of a chain, unless fewer are asked for.
const DEPTH: usize = 256;

/// The most that can be asked for.
pub(crate) const LONGEST_CHAIN: usize = DEPTH;

/// Terms of an inner product in lanes that are summed before they join the rest.
const LONG_DEPTH: usize = 1024;

/// At most so many rows of A, or columns of B, make inner products.
const FEW: usize = 32;

/// Inner products have at least so many terms: a sum over lanes at the end costs as much as 64.
const LONG: usize = 128;

/// `A B`.
///
/// # Panics
/// When the shapes do not fit.
pub fn product(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    let mut out = Mat::zeros(a.nrows(), b.ncols());
    matmul(out.as_mut(), Accum::Replace, a, b, 1.0);
    out
}

/// `C = factor · A B`, or `C += factor · A B`, for `C` m × n, `A` m × k, `B` k × n in any storage.
///
/// Costs mnk fused operations. An entry passes through at most `min(k, 1024) + ⌈k/256⌉ + 1` roundings.
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
    run(simd::arch(), Job { c, accumulate, a, b, factor, part: Part::Whole, chain: DEPTH });
}

/// As [`matmul`], but only the entries of the lower triangle of `C`, the diagonal included, are
/// computed and written.
///
/// Costs about half.
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
    run(simd::arch(), Job { c, accumulate, a, b, factor, part: Part::Lower, chain: DEPTH });
}

/// As one [`matmul`] (or [`matmul_lower`]) after another for every `chain` terms, with factor 1, to the bit: few
/// roundings, but the operands are packed for longer sums and entries of C stay in the nearest cache.
///
/// An entry passes through at most `min(k, chain) + ⌈k/chain⌉` roundings.
///
/// # Panics
/// When the shapes do not fit, or `chain` is not among 1..=[`LONGEST_CHAIN`].
pub(crate) fn matmul_in_chains(
    mut c: MatMut<'_, f64>,
    mut accumulate: Accum,
    a: MatRef<'_, f64>,
    b: MatRef<'_, f64>,
    part: Part,
    chain: usize,
) {
    assert!((1..=LONGEST_CHAIN).contains(&chain), "length of a chain");
    let (m, n, k) = (a.nrows(), b.ncols(), a.ncols());
    let (arch, factor) = (simd::arch(), 1.0);
    if k == 0 || !is_inner(m, n, chain, a, b) {
        run(arch, Job { c, accumulate, a, b, factor, part, chain });
        return;
    }
    for first in (0..k).step_by(chain) {
        let terms = chain.min(k - first);
        let (a, b) = (a.subcols(first, terms), b.subrows(first, terms));
        run(arch, Job { c: c.as_mut(), accumulate, a, b, factor, part, chain: DEPTH });
        accumulate = Accum::Add;
    }
}

/// Which entries are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of them.
    Whole,
    /// Those on the diagonal and below.
    Lower,
    /// Those on the diagonal and above.
    Upper,
}

impl Part {
    fn transposed(self) -> Self {
        match self {
            Self::Whole => Self::Whole,
            Self::Lower => Self::Upper,
            Self::Upper => Self::Lower,
        }
    }

    /// Of the rows `0..rows`, those wanted in column `column`.
    #[inline(always)]
    fn rows(self, column: usize, rows: usize) -> std::ops::Range<usize> {
        match self {
            Self::Whole => 0..rows,
            Self::Lower => column.min(rows)..rows,
            Self::Upper => 0..(column + 1).min(rows),
        }
    }
}

/// `C (+)= factor · A B`.
#[derive(Debug)]
struct Job<'a> {
    c: MatMut<'a, f64>,
    accumulate: Accum,
    a: MatRef<'a, f64>,
    b: MatRef<'a, f64>,
    factor: f64,
    part: Part,
    /// Terms that are summed before they join the rest, at most [`DEPTH`].
    chain: usize,
}

impl<'a> Job<'a> {
    /// `Cᵀ (+)= factor · Bᵀ Aᵀ`: the same products in the same order.
    fn transposed(self) -> Job<'a> {
        Job {
            c: self.c.transpose_mut(),
            accumulate: self.accumulate,
            a: self.b.transpose(),
            b: self.a.transpose(),
            factor: self.factor,
            part: self.part.transposed(),
            chain: self.chain,
        }
    }
}

fn run(arch: pulp::Arch, job: Job<'_>) {
    let (m, n, k) = (job.a.nrows(), job.b.ncols(), job.a.ncols());
    assert_eq!(k, job.b.nrows(), "inner shapes of a product");
    assert_eq!((m, n), (job.c.nrows(), job.c.ncols()), "outer shapes of a product");
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        if job.accumulate == Accum::Replace {
            let mut c = job.c;
            for j in 0..n {
                for i in job.part.rows(j, m) {
                    c[(i, j)] = 0.0;
                }
            }
        }
        return;
    }
    if job.chain == DEPTH && is_inner(m, n, k, job.a, job.b) {
        arch.dispatch(inner::Inner(job));
        return;
    }
    // Registers run over the longer of short sides, else over what is contiguous.
    let is_transposed = if m.min(n) < simd::LANES { n > m } else { job.c.row_stride() != 1 };
    arch.dispatch(Chains(if is_transposed { job.transposed() } else { job }));
}

/// Whether a product with these outer shapes and k terms is one of inner products.
fn is_inner(m: usize, n: usize, k: usize, a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> bool {
    let is_contiguous =
        || a.transpose().try_as_col_major().is_some() && b.try_as_col_major().is_some();
    m.min(n) <= FEW && k >= LONG && is_contiguous()
}

/// The general case, with registers over the rows of C.
struct Chains<'a>(Job<'a>);

impl WithSimd for Chains<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // As many accumulators as the registers allow, beside those of a column of A and an entry
        // of B.
        if S::F64_LANES == 8 {
            tile::chains::<S, 8>(simd, self.0);
        } else {
            tile::chains::<S, 4>(simd, self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use faer::{Accum, Mat, MatMut, MatRef};

    use super::{
        DEPTH, FEW, Job, LONG, LONG_DEPTH, Part, matmul, matmul_in_chains, matmul_lower, product,
        run,
    };
    use crate::simd::{InstructionSet, LANES};

    fn matrix(rows: usize, columns: usize) -> Mat<f64> {
        let value = |i: usize, j: usize| ((i * 7919 + j * 104_729) % 1009) as f64 / 504.3 - 1.0;
        Mat::from_fn(rows, columns, value)
    }

    /// The definition of a chain, in plain scalars.
    fn chain(a: MatRef<'_, f64>, b: MatRef<'_, f64>, i: usize, j: usize, old: Option<f64>) -> f64 {
        let mut sum = old;
        for first in (0..a.ncols()).step_by(DEPTH) {
            let block = first..(first + DEPTH).min(a.ncols());
            let block = block.fold(0.0, |sum, k| f64::mul_add(a[(i, k)], b[(k, j)], sum));
            sum = Some(sum.map_or(0.7 * block, |sum| f64::mul_add(0.7, block, sum)));
        }
        sum.unwrap_or(0.0)
    }

    /// The definition of an inner product in lanes.
    fn inner(a: MatRef<'_, f64>, b: MatRef<'_, f64>, i: usize, j: usize, old: Option<f64>) -> f64 {
        let mut sum = old;
        for first in (0..a.ncols()).step_by(LONG_DEPTH) {
            let mut lanes = [0.0_f64; LANES];
            for k in first..(first + LONG_DEPTH).min(a.ncols()) {
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
                run(arch, Job { c, accumulate, a, b, factor: 0.7, part, chain: DEPTH });
            }
            let is_inner = !bit(0) && bit(1) && m.min(n) <= FEW && k >= LONG;
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
            // The second storage makes inner products where the sums are long.
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
                    matmul_in_chains(found.as_mut(), accumulate, a, b.as_ref(), part, chain);
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
