//! The kernel of quadratic forms of many vectors, whose images are never stored.

#![expect(
    clippy::needless_range_loop,
    reason = "registers are picked by constant indices, as the compiler needs them"
)]

use std::ops::Range;

use faer::MatRef;
use pulp::{NullaryFnOnce, Simd, WithSimd};

use super::pack::{PackBuffers, pack_rows};
use crate::simd;

/// The number of registers of vectors in a tile.
const TILE_REGISTERS: usize = 3;

/// Writes `Σ_{k ≥ l} x_k L_kl x_l` to `values` for every column x of `vectors` (m × n), with `L` m
/// × m, zero above its diagonal, and its columns contiguous.
///
/// Rows and columns of L are cut into blocks of length `chain`. In each square block, chains of
/// fused operations over k give `(Lᵀx)_l`, and one chain over l multiplies by `x_l`. The blocks of
/// the same columns are added first, then the sums of all columns. An entry passes through at most
/// `2 (min(m, chain) + ⌈m/chain⌉)` roundings.
///
/// # Panics
/// When the shapes do not fit, or columns of L are not contiguous.
pub(crate) fn lower_forms(
    lower: MatRef<'_, f64>,
    vectors: MatRef<'_, f64>,
    chain: usize,
    values: &mut [f64],
) {
    let (m, n) = (vectors.nrows(), vectors.ncols());
    assert_eq!((m, m), (lower.nrows(), lower.ncols()), "shapes of quadratic forms");
    assert_eq!(n, values.len(), "number of quadratic forms");
    assert!(lower.try_as_col_major().is_some(), "storage of a triangle");
    simd::arch().dispatch(LowerForms { lower, vectors, chain, values });
}

struct LowerForms<'a> {
    lower: MatRef<'a, f64>,
    vectors: MatRef<'a, f64>,
    chain: usize,
    values: &'a mut [f64],
}

impl WithSimd for LowerForms<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // As many accumulators as the registers allow, beside the registers of a row of vectors and
        // an entry of L.
        if S::F64_LANES == 8 { self.run::<S, 8>(simd) } else { self.run::<S, 4>(simd) }
    }
}

impl LowerForms<'_> {
    #[inline(always)]
    fn run<S: Simd, const N: usize>(self, simd: S) {
        let Self { lower, vectors, chain, values } = self;
        let (m, n) = (vectors.nrows(), vectors.ncols());
        let height = TILE_REGISTERS * S::F64_LANES;
        let whole = n.next_multiple_of(S::F64_LANES);
        let mut buffers = PackBuffers::take(whole * m, 2 * whole);
        let (packed, sums) = buffers.split();
        pack_rows::<S, TILE_REGISTERS>(simd, packed, vectors.transpose());
        let (totals, parts) = sums[..2 * whole].split_at_mut(whole);
        totals.fill(0.0);
        for first in (0..m).step_by(chain) {
            let columns = first..(first + chain).min(m);
            parts.fill(0.0);
            for start in (first..m).step_by(chain) {
                let rows = start..(start + chain).min(m);
                let square = SquareBlock::<N> { lower, rows, columns: columns.clone() };
                for at in (0..whole).step_by(height) {
                    let count = height.min(whole - at);
                    let vectors = &packed[at * m..][..count * m];
                    let parts = &mut parts[at..][..count];
                    // One function for each size keeps the inlined code small.
                    macro_rules! add_forms {
                        ($registers:expr) => {
                            simd.vectorize(FormTile::<S, { $registers }, N> {
                                simd,
                                square: &square,
                                vectors,
                                parts,
                            })
                        };
                    }
                    match count / S::F64_LANES {
                        1 => add_forms!(1),
                        2 => add_forms!(2),
                        _ => add_forms!(TILE_REGISTERS),
                    }
                }
            }
            for (total, part) in totals.iter_mut().zip(&*parts) {
                *total += part;
            }
        }
        values.copy_from_slice(&totals[..n]);
        buffers.release();
    }
}

/// A square block of L.
struct SquareBlock<'a, const N: usize> {
    lower: MatRef<'a, f64>,
    rows: Range<usize>,
    columns: Range<usize>,
}

impl<const N: usize> SquareBlock<'_, N> {
    /// The `N` columns from `first` on, each from the first wanted row on, with the index of that
    /// row. Missing columns repeat the last one.
    #[inline(always)]
    fn columns_from(&self, first: usize) -> ([&[f64]; N], usize) {
        let start = self.rows.start.max(first);
        let mut block = [&[][..]; N];
        for j in 0..N {
            let column = self.lower.col((first + j).min(self.columns.end - 1));
            let column = column.try_as_col_major().map_or(&[][..], |column| column.as_slice());
            block[j] = &column[start..self.rows.end];
        }
        (block, start)
    }
}

/// Adds the contribution of a square block to the forms of `R` registers of vectors.
struct FormTile<'a, S, const R: usize, const N: usize> {
    simd: S,
    square: &'a SquareBlock<'a, N>,
    /// The vectors, entry by entry.
    vectors: &'a [f64],
    parts: &'a mut [f64],
}

impl<S: Simd, const R: usize, const N: usize> NullaryFnOnce for FormTile<'_, S, R, N> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { simd, square, vectors, parts } = self;
        let vectors = S::as_simd_f64s(vectors).0;
        let mut forms = [simd.splat_f64s(0.0); R];
        for first in square.columns.clone().step_by(N) {
            let (block, start) = square.columns_from(first);
            let mut sums = [[simd.splat_f64s(0.0); R]; N];
            let len = block[0].len();
            let entries = vectors[start * R..][..len * R].chunks_exact(R);
            for (k, x) in entries.enumerate() {
                for j in 0..N {
                    let entry = simd.splat_f64s(block[j][k]);
                    for r in 0..R {
                        sums[j][r] = simd.mul_add_f64s(x[r], entry, sums[j][r]);
                    }
                }
            }
            for j in 0..N.min(square.columns.end - first) {
                let x = &vectors[(first + j) * R..][..R];
                for r in 0..R {
                    forms[r] = simd.mul_add_f64s(sums[j][r], x[r], forms[r]);
                }
            }
        }
        let parts = S::as_mut_simd_f64s(parts).0;
        for r in 0..R {
            parts[r] = simd.add_f64s(parts[r], forms[r]);
        }
    }
}

#[cfg(test)]
mod tests {
    use faer::{Mat, MatRef};

    use super::LowerForms;
    use crate::simd::InstructionSet;

    /// The definition, in plain scalars.
    fn form(lower: MatRef<'_, f64>, x: &[f64], chain: usize) -> f64 {
        let m = x.len();
        let mut total = 0.0;
        for first in (0..m).step_by(chain) {
            let mut part = 0.0;
            for start in (first..m).step_by(chain) {
                let mut square = 0.0;
                for l in first..(first + chain).min(m) {
                    let rows = start.max(l)..(start + chain).min(m);
                    let image = rows.fold(0.0, |sum, k| f64::mul_add(x[k], lower[(k, l)], sum));
                    square = f64::mul_add(image, x[l], square);
                }
                part += square;
            }
            total += part;
        }
        total
    }

    #[test]
    fn forms_have_the_bits_of_their_definition() {
        let value = |i: usize, j: usize| ((i * 7919 + j * 104_729) % 1009) as f64 / 504.3 - 1.0;
        for (m, n, chain) in [(1, 1, 64), (7, 5, 3), (64, 24, 64), (150, 61, 64), (131, 20, 32)] {
            let lower = Mat::from_fn(m, m, |i, j| if i < j { 0.0 } else { value(i, j) });
            let vectors = Mat::from_fn(m, n, |i, j| value(j, i));
            let by_rows = vectors.transpose().to_owned();
            for arch in InstructionSet::ALL.into_iter().filter_map(InstructionSet::arch) {
                for vectors in [vectors.as_ref(), by_rows.transpose()] {
                    let mut values = vec![f64::NAN; n];
                    let lower = lower.as_ref();
                    arch.dispatch(LowerForms { lower, vectors, chain, values: &mut values });
                    for (j, found) in values.into_iter().enumerate() {
                        let x: Vec<f64> = vectors.col(j).iter().copied().collect();
                        let expected = form(lower, &x, chain);
                        assert_eq!(found.to_bits(), expected.to_bits(), "{m} {n} {chain} {j}");
                    }
                }
            }
        }
    }
}
