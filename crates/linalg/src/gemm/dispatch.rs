//! The choice of the kernel for a product, by its shapes and storage alone.

use faer::{Accum, MatRef};
use pulp::{Simd, WithSimd};

use super::job::{Gemm, MAX_CHAIN};
use super::lane_dots::LaneDots;
use super::tile::multiply_tiles;
use crate::simd;

/// The largest number of rows of A, or of columns of B, in a product of inner products in lanes.
pub(super) const MAX_LANE_SIDE: usize = 32;

/// The smallest number of terms of inner products in lanes: the sum over lanes at their end costs
/// as much as 64 terms.
pub(super) const MIN_LANE_TERMS: usize = 128;

/// Computes a product on the best instruction set of this processor.
pub(super) fn run(job: Gemm<'_>) {
    run_on(simd::arch(), job);
}

/// Like [`run`], on a given instruction set.
pub(super) fn run_on(arch: pulp::Arch, job: Gemm<'_>) {
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
    if job.chain == MAX_CHAIN && uses_lane_dots(m, n, k, job.a, job.b) {
        arch.dispatch(LaneDots(job));
        return;
    }
    // Registers run over the longer of two short sides, or else over the contiguous one.
    let is_transposed = if m.min(n) < simd::LANES { n > m } else { job.c.row_stride() != 1 };
    arch.dispatch(Tiles(if is_transposed { job.transposed() } else { job }));
}

/// Computes a product as one product after another of `chain` terms each, to the bit.
///
/// That means few roundings: an entry passes through at most `min(k, chain) + ⌈k/chain⌉`. It is
/// faster than separate products, because the operands are packed for longer sums and entries of C
/// stay in the nearest cache.
///
/// # Panics
/// When the shapes do not fit, or `chain` is not among 1..=[`MAX_CHAIN`].
pub(super) fn run_in_chains(job: Gemm<'_>) {
    let Gemm { mut c, mut accumulate, a, b, factor, part, chain } = job;
    assert!((1..=MAX_CHAIN).contains(&chain), "length of a chain");
    let (m, n, k) = (a.nrows(), b.ncols(), a.ncols());
    if k == 0 || !uses_lane_dots(m, n, chain, a, b) {
        run(Gemm { c, accumulate, a, b, factor, part, chain });
        return;
    }
    for first in (0..k).step_by(chain) {
        let terms = chain.min(k - first);
        let (a, b) = (a.subcols(first, terms), b.subrows(first, terms));
        run(Gemm { c: c.as_mut(), accumulate, a, b, factor, part, chain: MAX_CHAIN });
        accumulate = Accum::Add;
    }
}

/// Decides whether a product with m × n entries of k terms consists of inner products in lanes.
fn uses_lane_dots(m: usize, n: usize, k: usize, a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> bool {
    let is_contiguous =
        || a.transpose().try_as_col_major().is_some() && b.try_as_col_major().is_some();
    m.min(n) <= MAX_LANE_SIDE && k >= MIN_LANE_TERMS && is_contiguous()
}

/// The general case, in tiles with registers over the rows of C.
struct Tiles<'a>(Gemm<'a>);

impl WithSimd for Tiles<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // As many accumulators as the registers allow, beside the registers of a column of A and an
        // entry of B.
        if S::F64_LANES == 8 {
            multiply_tiles::<S, 8>(simd, self.0);
        } else {
            multiply_tiles::<S, 4>(simd, self.0);
        }
    }
}
