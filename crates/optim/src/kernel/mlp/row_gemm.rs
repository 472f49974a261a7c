//! The dense products of a layer, tile by tile.
//!
//! A row of the result is a sum of rows of whole registers, each times a number:
//! `C_i = Σ_k f_ik A_k`. With samples as rows, all three products of a layer have this form: values
//! times transposed weights, deltas times weights, and transposed deltas times values. Operands are
//! read in place, and an *epilogue* (a shift, a mask, a sum) is applied while the sums are in
//! registers. An entry is one chain of fused operations over k, in order, which neither the shape
//! of tiles nor the width of registers changes.

use pulp::{NullaryFnOnce, Simd};

/// `C_i = Σ_k f_ik A_k` for `count` rows.
#[derive(Debug)]
pub(super) struct RowGemm<'a, S: Simd> {
    /// The rows `A_k`.
    pub(super) rows: &'a [S::f64s],
    /// Registers from one row of A to the next.
    pub(super) pitch: usize,
    /// Registers in a row of C.
    pub(super) registers: usize,
    pub(super) factors: Factors<'a>,
    /// Number of rows of C.
    pub(super) count: usize,
    pub(super) out: &'a mut [S::f64s],
    pub(super) epilogue: Epilogue<'a, S>,
}

/// The numbers `f_ik`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Factors<'a> {
    pub(super) values: &'a [f64],
    /// Entries from one line of factors to the next.
    pub(super) stride: usize,
    /// The layout of the lines.
    pub(super) lines: Lines,
    /// The number of rows of A.
    pub(super) terms: usize,
}

/// The layout of the factors: a line is a contiguous run of factors.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lines {
    /// A line holds the factors of a row of C.
    Rows,
    /// A line holds the factors of a row of A.
    Columns,
}

/// The operation on the sums before they are stored.
#[derive(Debug)]
pub(super) enum Epilogue<'a, S: Simd> {
    /// The sums replace the stored values.
    Replace,
    /// The sums are added to the stored values.
    Add,
    /// This row is added to each row of sums.
    Shift(&'a [S::f64s]),
    /// This row is added to each row of sums, and negative results become zero.
    Rectify(&'a [S::f64s]),
    /// The sums become zero where the first slice is not positive, and each row is added to the
    /// second.
    Mask(&'a [S::f64s], &'a mut [S::f64s]),
    /// The sums are multiplied by the first slice, and each row is added to the second.
    Scale(&'a [S::f64s], &'a mut [S::f64s]),
}

impl<S: Simd> RowGemm<'_, S> {
    /// Computes the product.
    #[inline(always)]
    pub(super) fn run(mut self, simd: S) {
        // The widest tile has as many accumulators as fit into 32 or 16 registers, beside a row of
        // A and a factor.
        let widest = if S::F64_LANES == 8 { 4 } else { 3 };
        let mut first = 0;
        while first < self.registers {
            let left = self.registers - first;
            let width = left.div_ceil(left.div_ceil(widest));
            match (width, S::F64_LANES) {
                (4, _) => self.strip::<4, 6>(simd, first),
                (3, 8) => self.strip::<3, 8>(simd, first),
                (3, _) => self.strip::<3, 4>(simd, first),
                (2, _) => self.strip::<2, 6>(simd, first),
                _ => self.strip::<1, 8>(simd, first),
            }
            first += width;
        }
    }

    /// Computes `R` registers of every row, from `first` on, in tiles of `N` rows.
    #[inline(always)]
    fn strip<const R: usize, const N: usize>(&mut self, simd: S, first: usize) {
        let mut row = 0;
        while row + N <= self.count {
            self.tile::<R, N>(simd, first, row);
            row += N;
        }
        while row + 2 <= self.count {
            self.tile::<R, 2>(simd, first, row);
            row += 2;
        }
        if row < self.count {
            self.tile::<R, 1>(simd, first, row);
        }
    }

    /// Computes `R` registers, from `first` on, of `N` rows, from `row` on.
    #[inline(always)]
    fn tile<const R: usize, const N: usize>(&mut self, simd: S, first: usize, row: usize) {
        let Self { rows, pitch, registers, factors, out, epilogue, .. } = self;
        let Factors { values, stride, lines, .. } = *factors;
        let (pitch, registers) = (*pitch, *registers);
        let start = row * registers + first;
        let target = Target { out: &mut out[start..], registers, start, first, epilogue };
        let rows = &rows[first..];
        // A separate function hides from the compiler how far apart the lines of factors are.
        // Otherwise it would keep few addresses and spend its registers on computing the others.
        match lines {
            Lines::Rows => {
                let factors = Factors { values: &values[row * stride..], ..*factors };
                simd.vectorize(RowTile::<S, R, N, true> { simd, rows, pitch, factors, target });
            }
            Lines::Columns => {
                let factors = Factors { values: &values[row..], ..*factors };
                simd.vectorize(RowTile::<S, R, N, false> { simd, rows, pitch, factors, target });
            }
        }
    }
}

/// One tile. A line of factors belongs to a row of C if `BY_ROWS`, else to a row of A.
struct RowTile<'t, 'a, S: Simd, const R: usize, const N: usize, const BY_ROWS: bool> {
    simd: S,
    rows: &'t [S::f64s],
    pitch: usize,
    factors: Factors<'t>,
    target: Target<'t, 'a, S>,
}

impl<S: Simd, const R: usize, const N: usize, const BY_ROWS: bool> NullaryFnOnce
    for RowTile<'_, '_, S, R, N, BY_ROWS>
{
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { simd, rows, pitch, factors, target } = self;
        let Factors { values, stride, terms, .. } = factors;
        let mut sums = [[simd.splat_f64s(0.0); R]; N];
        let rows = rows.chunks(pitch).take(terms);
        if BY_ROWS {
            // Slices of one length let the compiler drop the bounds checks.
            let mut lines = [&values[..0]; N];
            for j in 0..N {
                lines[j] = &values[j * stride..][..terms];
            }
            for (k, row) in rows.enumerate() {
                let mut factors = [0.0; N];
                for j in 0..N {
                    factors[j] = lines[j][k];
                }
                add_row(simd, &row[..R], &factors, &mut sums);
            }
        } else {
            for (row, factors) in rows.zip(values.chunks(stride)) {
                add_row(simd, &row[..R], &factors[..N], &mut sums);
            }
        }
        target.write(simd, sums);
    }
}

/// Adds a row of A to the sums of a tile.
#[inline(always)]
fn add_row<S: Simd, const R: usize, const N: usize>(
    simd: S,
    row: &[S::f64s],
    factors: &[f64],
    sums: &mut [[S::f64s; R]; N],
) {
    for j in 0..N {
        let factor = simd.splat_f64s(factors[j]);
        for r in 0..R {
            sums[j][r] = simd.mul_add_f64s(factor, row[r], sums[j][r]);
        }
    }
}

/// The place in C that a tile is written to.
struct Target<'t, 'a, S: Simd> {
    /// C from the first entry of the tile on.
    out: &'t mut [S::f64s],
    /// Registers in a row of C.
    registers: usize,
    /// The first entry of the tile in C.
    start: usize,
    /// The first register of the tile in a row of C.
    first: usize,
    epilogue: &'t mut Epilogue<'a, S>,
}

impl<S: Simd> Target<'_, '_, S> {
    /// Writes the sums of a tile. The cases are outside of the loops, so that these are unrolled
    /// and the sums stay in registers.
    #[inline(always)]
    fn write<const R: usize, const N: usize>(self, simd: S, sums: [[S::f64s; R]; N]) {
        let Self { out, registers, start, first, epilogue } = self;
        let zero = simd.splat_f64s(0.0);
        // A macro: a closure would lose the instruction set.
        macro_rules! each {
            (|$j:ident, $r:ident, $old:ident| $new:expr) => {
                for $j in 0..N {
                    let row = &mut out[$j * registers..][..R];
                    for $r in 0..R {
                        let $old = row[$r];
                        row[$r] = $new;
                    }
                }
            };
        }
        match epilogue {
            Epilogue::Replace => each!(|j, r, _old| sums[j][r]),
            Epilogue::Add => each!(|j, r, old| simd.add_f64s(old, sums[j][r])),
            Epilogue::Shift(shift) => {
                let shift = &shift[first..][..R];
                each!(|j, r, _old| simd.add_f64s(shift[r], sums[j][r]));
            }
            Epilogue::Rectify(shift) => {
                let shift = &shift[first..][..R];
                each!(|j, r, _old| {
                    let value = simd.add_f64s(shift[r], sums[j][r]);
                    // Not `value > 0`: a NaN must reach the loss.
                    let is_off = simd.less_than_or_equal_f64s(value, zero);
                    simd.select_f64s(is_off, zero, value)
                });
            }
            Epilogue::Mask(values, total) => {
                let (values, total) = (&values[start..], &mut total[first..][..R]);
                each!(|j, r, _old| {
                    let is_positive = simd.greater_than_f64s(values[j * registers..][..R][r], zero);
                    let new = simd.select_f64s(is_positive, sums[j][r], zero);
                    total[r] = simd.add_f64s(total[r], new);
                    new
                });
            }
            Epilogue::Scale(slopes, total) => {
                let (slopes, total) = (&slopes[start..], &mut total[first..][..R]);
                each!(|j, r, _old| {
                    let new = simd.mul_f64s(sums[j][r], slopes[j * registers..][..R][r]);
                    total[r] = simd.add_f64s(total[r], new);
                    new
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::simd::{AlignedVec, InstructionSet};
    use pulp::{Simd, WithSimd};

    use super::{Epilogue, Factors, Lines, RowGemm};

    /// Names of the epilogues, in the order of their definition.
    const ENDS: [&str; 6] = ["replace", "add", "shift", "rectify", "mask", "scale"];

    /// Numbers of both signs.
    fn numbers(len: usize, seed: usize) -> AlignedVec {
        let value = |i: usize| ((i * 7919 + seed * 104_729) % 1009) as f64 / 504.3 - 1.0;
        let values: Vec<f64> = (0..len).map(value).collect();
        AlignedVec::from_rows(&values, len, len)
    }

    #[derive(Debug, Clone, Copy)]
    struct Case {
        count: usize,
        width: usize,
        terms: usize,
        lines: Lines,
        end: usize,
    }

    struct Operands {
        rows: AlignedVec,
        /// Entries from the start of one row to the start of the next.
        pitch: usize,
        factors: AlignedVec,
        stride: usize,
        out: AlignedVec,
        /// Values, slopes, or a row that is added.
        other: AlignedVec,
        total: AlignedVec,
    }

    impl Case {
        fn operands(self) -> Operands {
            let Self { count, width, terms, lines, .. } = self;
            let (pitch, stride) = match lines {
                Lines::Rows => (width + 8, terms + 3),
                Lines::Columns => (width, count + 3),
            };
            Operands {
                rows: numbers(terms * pitch, 1),
                pitch,
                factors: numbers(stride * terms.max(count), 2),
                stride,
                out: numbers(count * width, 3),
                other: numbers(count * width, 4),
                total: numbers(width, 5),
            }
        }

        /// C and the totals by their definition, in plain scalars.
        fn expected(self) -> (Vec<f64>, Vec<f64>) {
            let Self { width, terms, lines, end, .. } = self;
            let Operands { rows, pitch, factors, stride, out, other, total } = self.operands();
            let (mut out, mut total) = (out.to_vec(), total.to_vec());
            for (i, row) in out.chunks_mut(width).enumerate() {
                for (c, entry) in row.iter_mut().enumerate() {
                    let factor = |k: usize| match lines {
                        Lines::Rows => factors[i * stride + k],
                        Lines::Columns => factors[k * stride + i],
                    };
                    let chain = |sum: f64, k: usize| factor(k).mul_add(rows[k * pitch + c], sum);
                    let sum = (0..terms).fold(0.0, chain);
                    let own = other[i * width + c];
                    *entry = match ENDS[end] {
                        "replace" => sum,
                        "add" => *entry + sum,
                        "shift" => other[c] + sum,
                        "rectify" if other[c] + sum > 0.0 => other[c] + sum,
                        "mask" if own > 0.0 => sum,
                        "scale" => sum * own,
                        _ => 0.0,
                    };
                    if end >= 4 {
                        total[c] += *entry;
                    }
                }
            }
            (out, total)
        }
    }

    impl WithSimd for Case {
        type Output = (Vec<f64>, Vec<f64>);

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
            let Self { count, width, terms, lines, end } = self;
            let Operands { rows, pitch, factors, stride, mut out, other, mut total } =
                self.operands();
            let (other, sum) = (S::as_simd_f64s(&other).0, S::as_mut_simd_f64s(&mut total).0);
            let gemm = RowGemm {
                rows: S::as_simd_f64s(&rows).0,
                pitch: pitch / S::F64_LANES,
                registers: width / S::F64_LANES,
                factors: Factors { values: &factors, stride, lines, terms },
                count,
                out: S::as_mut_simd_f64s(&mut out).0,
                epilogue: match ENDS[end] {
                    "replace" => Epilogue::Replace,
                    "add" => Epilogue::Add,
                    "shift" => Epilogue::Shift(other),
                    "rectify" => Epilogue::Rectify(other),
                    "mask" => Epilogue::Mask(other, sum),
                    _ => Epilogue::Scale(other, sum),
                },
            };
            gemm.run(simd);
            (out.to_vec(), total.to_vec())
        }
    }

    #[test]
    fn products_have_the_bits_of_their_definition() {
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        // Widths from 1 to 8 registers of AVX-512, with whole tiles and every possible remainder.
        for (count, width, terms) in [
            (1, 8, 1),
            (3, 16, 5),
            (6, 32, 2),
            (13, 24, 9),
            (9, 40, 50),
            (50, 56, 33),
            (23, 64, 67),
            (2, 72, 300),
        ] {
            for (lines, end) in [Lines::Rows, Lines::Columns]
                .into_iter()
                .flat_map(|lines| (0..ENDS.len()).map(move |end| (lines, end)))
            {
                let case = Case { count, width, terms, lines, end };
                let (out, total) = case.expected();
                for arch in InstructionSet::ALL.into_iter().filter_map(InstructionSet::arch) {
                    let found = arch.dispatch(case);
                    let what = format!("{case:?} {} {arch:?}", ENDS[end]);
                    assert_eq!(bits(&found.0), bits(&out), "{what}");
                    assert_eq!(bits(&found.1), bits(&total), "{what}: sums of columns");
                }
            }
        }
    }
}
