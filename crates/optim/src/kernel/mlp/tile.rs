//! The dense products of a layer, tile by tile.
//!
//! A row of the result is a sum of rows of whole registers, each times a number: `C_i = Σ_k f_ik A_k`. With samples
//! as rows all three products of a layer are of this kind: of values with the transposed weights, of deltas with
//! the weights, and of the transposed deltas with values. Operands are read where they lie, and what becomes of the
//! sums is done while they are in registers. An entry is one chain of fused operations over k, in order, which
//! the shape of tiles and the width of registers do not change.

use pulp::{NullaryFnOnce, Simd};

/// `C_i = Σ_k f_ik A_k` for `count` rows.
#[derive(Debug)]
pub(super) struct Product<'a, S: Simd> {
    /// The rows `A_k`.
    pub(super) rows: &'a [S::f64s],
    /// Registers from one of them to the next.
    pub(super) pitch: usize,
    /// Registers of a row of C.
    pub(super) registers: usize,
    pub(super) factors: Factors<'a>,
    /// Rows of C.
    pub(super) count: usize,
    pub(super) out: &'a mut [S::f64s],
    pub(super) end: End<'a, S>,
}

/// The numbers `f_ik`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Factors<'a> {
    pub(super) values: &'a [f64],
    /// From one line of them to the next.
    pub(super) stride: usize,
    /// Which of them make a line.
    pub(super) lines: Lines,
    /// The number of rows of A.
    pub(super) terms: usize,
}

/// Which of the factors lie together.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lines {
    /// Those of a row of C.
    Rows,
    /// Those of a row of A.
    Columns,
}

/// What becomes of the sums.
#[derive(Debug)]
pub(super) enum End<'a, S: Simd> {
    /// They take the place of what was there.
    Replace,
    /// They are added to what is there.
    Add,
    /// This row is added.
    Shift(&'a [S::f64s]),
    /// This row is added, and what is not positive becomes zero.
    Rectify(&'a [S::f64s]),
    /// They become zero where the first is not positive, and each row is added to the second.
    Mask(&'a [S::f64s], &'a mut [S::f64s]),
    /// They are multiplied by the first, and each row is added to the second.
    Scale(&'a [S::f64s], &'a mut [S::f64s]),
}

impl<S: Simd> Product<'_, S> {
    /// Computes it.
    #[inline(always)]
    pub(super) fn run(mut self, simd: S) {
        // As many accumulators as there is room for beside a row of A and a factor: of 32 registers, or of 16.
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

    /// `R` registers of every row, from `first` on, in tiles of `N` rows.
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

    /// `R` registers from `first` on of `N` rows from `row` on.
    #[inline(always)]
    fn tile<const R: usize, const N: usize>(&mut self, simd: S, first: usize, row: usize) {
        let Self { rows, pitch, registers, factors, out, end, .. } = self;
        let Factors { values, stride, lines, terms } = *factors;
        let (pitch, registers) = (*pitch, *registers);
        let start = row * registers + first;
        let target = Target { out: &mut out[start..], registers, start, first, end };
        let rows = &rows[first..];
        // Functions of their own: how lines of factors follow each other is then unknown to the compiler, which
        // would else keep few addresses and spend its registers on computing the others.
        match lines {
            Lines::Rows => {
                let mut picked = [&values[..0]; N];
                for j in 0..N {
                    picked[j] = &values[(row + j) * stride..][..terms];
                }
                simd.vectorize(ByRows::<S, R, N> { simd, rows, pitch, lines: picked, target });
            }
            Lines::Columns => {
                let values = &values[row..];
                simd.vectorize(ByColumns::<S, R, N> {
                    simd,
                    rows,
                    pitch,
                    values,
                    stride,
                    terms,
                    target,
                });
            }
        }
    }
}

/// A tile with a line of factors for each of its rows.
struct ByRows<'t, 'a, S: Simd, const R: usize, const N: usize> {
    simd: S,
    rows: &'t [S::f64s],
    pitch: usize,
    lines: [&'t [f64]; N],
    target: Target<'t, 'a, S>,
}

impl<S: Simd, const R: usize, const N: usize> NullaryFnOnce for ByRows<'_, '_, S, R, N> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { simd, rows, pitch, lines, target } = self;
        // Cut to the same length, for the compiler to see.
        let terms = lines[0].len();
        let mut same = [&lines[0][..terms]; N];
        for j in 0..N {
            same[j] = &lines[j][..terms];
        }
        let mut sums = [[simd.splat_f64s(0.0); R]; N];
        for (k, row) in rows.chunks(pitch).take(terms).enumerate() {
            let mut factors = [0.0; N];
            for j in 0..N {
                factors[j] = same[j][k];
            }
            add_row(simd, &row[..R], &factors, &mut sums);
        }
        target.write(simd, sums);
    }
}

/// A tile with a line of factors for each row of A, of which it takes the first few.
struct ByColumns<'t, 'a, S: Simd, const R: usize, const N: usize> {
    simd: S,
    rows: &'t [S::f64s],
    pitch: usize,
    values: &'t [f64],
    stride: usize,
    terms: usize,
    target: Target<'t, 'a, S>,
}

impl<S: Simd, const R: usize, const N: usize> NullaryFnOnce for ByColumns<'_, '_, S, R, N> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { simd, rows, pitch, values, stride, terms, target } = self;
        let mut sums = [[simd.splat_f64s(0.0); R]; N];
        let rows = rows.chunks(pitch).take(terms);
        for (row, factors) in rows.zip(values.chunks(stride)) {
            add_row(simd, &row[..R], &factors[..N], &mut sums);
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

/// Where a tile is written to.
struct Target<'t, 'a, S: Simd> {
    /// C from the first entry of the tile on.
    out: &'t mut [S::f64s],
    /// Of a row of C.
    registers: usize,
    /// The first entry of the tile in C.
    start: usize,
    /// The first register of the tile in a row of C.
    first: usize,
    end: &'t mut End<'a, S>,
}

impl<S: Simd> Target<'_, '_, S> {
    /// Writes the sums of a tile. The cases are outside of the loops, which are then unrolled, so that sums stay in
    /// registers.
    #[inline(always)]
    fn write<const R: usize, const N: usize>(self, simd: S, sums: [[S::f64s; R]; N]) {
        let Self { out, registers, start, first, end } = self;
        let zero = simd.splat_f64s(0.0);
        match end {
            End::Replace => {
                for j in 0..N {
                    out[j * registers..][..R].copy_from_slice(&sums[j]);
                }
            }
            End::Add => {
                for j in 0..N {
                    let out = &mut out[j * registers..][..R];
                    for r in 0..R {
                        out[r] = simd.add_f64s(out[r], sums[j][r]);
                    }
                }
            }
            End::Shift(shift) => {
                let shift = &shift[first..][..R];
                for j in 0..N {
                    let out = &mut out[j * registers..][..R];
                    for r in 0..R {
                        out[r] = simd.add_f64s(shift[r], sums[j][r]);
                    }
                }
            }
            End::Rectify(shift) => {
                let shift = &shift[first..][..R];
                for j in 0..N {
                    let out = &mut out[j * registers..][..R];
                    for r in 0..R {
                        let value = simd.add_f64s(shift[r], sums[j][r]);
                        // Not `value > 0`: a NaN has to be seen in the loss.
                        let is_off = simd.less_than_or_equal_f64s(value, zero);
                        out[r] = simd.select_f64s(is_off, zero, value);
                    }
                }
            }
            End::Mask(values, total) => {
                let (values, total) = (&values[start..], &mut total[first..][..R]);
                for j in 0..N {
                    let out = &mut out[j * registers..][..R];
                    let values = &values[j * registers..][..R];
                    for r in 0..R {
                        let is_positive = simd.greater_than_f64s(values[r], zero);
                        out[r] = simd.select_f64s(is_positive, sums[j][r], zero);
                        total[r] = simd.add_f64s(total[r], out[r]);
                    }
                }
            }
            End::Scale(slopes, total) => {
                let (slopes, total) = (&slopes[start..], &mut total[first..][..R]);
                for j in 0..N {
                    let out = &mut out[j * registers..][..R];
                    let slopes = &slopes[j * registers..][..R];
                    for r in 0..R {
                        out[r] = simd.mul_f64s(sums[j][r], slopes[r]);
                        total[r] = simd.add_f64s(total[r], out[r]);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::simd::{AlignedVec, InstructionSet};
    use pulp::{Simd, WithSimd};

    use super::{End, Factors, Lines, Product};

    /// Names of the ends, in the order of their definition.
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
        /// Entries from one of them to the next.
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
            let product = Product {
                rows: S::as_simd_f64s(&rows).0,
                pitch: pitch / S::F64_LANES,
                registers: width / S::F64_LANES,
                factors: Factors { values: &factors, stride, lines, terms },
                count,
                out: S::as_mut_simd_f64s(&mut out).0,
                end: match ENDS[end] {
                    "replace" => End::Replace,
                    "add" => End::Add,
                    "shift" => End::Shift(other),
                    "rectify" => End::Rectify(other),
                    "mask" => End::Mask(other, sum),
                    _ => End::Scale(other, sum),
                },
            };
            product.run(simd);
            (out.to_vec(), total.to_vec())
        }
    }

    #[test]
    fn products_have_the_bits_of_their_definition() {
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        // From 1 register to 8 of AVX-512, whole tiles and all rests of them.
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
