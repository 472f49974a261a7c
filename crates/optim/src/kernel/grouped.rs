//! Products with matrices whose rows lie in groups of eight.
//!
//! Entry (j, k) of a [`Grouped`] matrix is lane j mod 8 of column k of group j / 8: registers run over
//! rows, nothing is summed across lanes, and a group is contiguous however many columns there are.
//! The other factor comes as a *block* of eight vectors, interleaved: entry k of vector c is
//! `block[8 k + c]`.
//!
//! Every entry of a result is one chain of fused multiply-adds in the order of the terms, so that neither the
//! instruction set nor the cut into tiles can change a bit. A tile has as many rows as there are registers for
//! its eight columns: the operands are read where they lie, from the first-level cache, once a tile.

#![expect(
    clippy::needless_range_loop,
    reason = "registers are picked by constant indices, as the compiler needs them"
)]

use flatmin_linalg::simd::{AlignedVec, LANES, padded};
use pulp::{NullaryFnOnce, Simd};

/// Vectors in a block.
pub(super) const BLOCK: usize = LANES;

/// A matrix with its rows in groups of eight, the last group filled up with zeros.
#[derive(Debug)]
pub(super) struct Grouped {
    values: AlignedVec,
    rows: usize,
    columns: usize,
}

impl Grouped {
    pub(super) fn zeros(rows: usize, columns: usize) -> Self {
        Self { values: AlignedVec::zeros(padded(rows) * columns), rows, columns }
    }

    /// From values row by row.
    pub(super) fn from_rows(values: &[f64], rows: usize, columns: usize) -> Self {
        let mut grouped = Self::zeros(rows, columns);
        grouped.load_rows(values, columns);
        grouped
    }

    /// Takes values row by row, from one start of a row to the next `stride` entries.
    pub(super) fn load_rows(&mut self, values: &[f64], stride: usize) {
        let columns = self.columns;
        for (j, row) in values.chunks(stride).take(self.rows).enumerate() {
            let group = &mut self.values[j / LANES * LANES * columns..][..LANES * columns];
            for (column, value) in group.as_chunks_mut::<LANES>().0.iter_mut().zip(row) {
                column[j % LANES] = *value;
            }
        }
    }

    /// Gives the values row by row, as [`load_rows`](Self::load_rows) takes them.
    pub(super) fn store_rows(&self, values: &mut [f64], stride: usize) {
        for (j, row) in values.chunks_mut(stride).take(self.rows).enumerate() {
            for (value, column) in row.iter_mut().zip(self.group(j / LANES).as_chunks::<LANES>().0)
            {
                *value = column[j % LANES];
            }
        }
    }

    fn group(&self, group: usize) -> &[f64] {
        &self.values[group * LANES * self.columns..][..LANES * self.columns]
    }

    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// Group by group, each column by column.
    pub(super) fn values(&self) -> &[f64] {
        &self.values
    }

    pub(super) fn values_mut(&mut self) -> &mut [f64] {
        &mut self.values
    }
}

/// Interleaves up to eight vectors of the same length; missing ones are zero.
pub(super) fn interleave<'v>(block: &mut [f64], vectors: impl Iterator<Item = &'v [f64]>) {
    let entries = block.as_chunks_mut::<BLOCK>().0;
    let mut count = 0;
    for vector in vectors {
        for (entry, value) in entries.iter_mut().zip(vector) {
            entry[count] = *value;
        }
        count += 1;
    }
    if count < BLOCK {
        for entry in entries {
            entry[count..].fill(0.0);
        }
    }
}

/// Where the columns of a result go: entry (j, c) to lane j mod 8 at `group · (j / 8) + column · c`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strides {
    pub(super) group: usize,
    pub(super) column: usize,
}

/// `A B`, or `C + A B`, for some groups of rows A of `depth` columns and a block B of as many entries.
#[derive(Debug)]
pub(super) struct Product<'a> {
    pub(super) rows: &'a [f64],
    pub(super) depth: usize,
    pub(super) block: &'a [f64],
    pub(super) out: &'a mut [f64],
    pub(super) strides: Strides,
    /// Vectors of the block that are wanted, from the first one on.
    pub(super) columns: usize,
    pub(super) is_added: bool,
}

impl Product<'_> {
    #[inline(always)]
    pub(super) fn run<S: Simd>(self, simd: S) {
        let Self { rows, depth, block, out, strides, columns, is_added } = self;
        let panel = depth * LANES;
        let mut cut = Tiles::new::<S>(rows.len() / panel);
        while let Some((first, count)) = cut.next() {
            let rows = &rows[first * panel..][..count * panel];
            let out = &mut out[first * strides.group..];
            let product = Product { rows, depth, block, out, strides, columns, is_added };
            match (S::F64_LANES, count) {
                (8, 1) => simd.vectorize(Multiply::<S, 1, 1, 8> { simd, product }),
                (8, 2) => simd.vectorize(Multiply::<S, 2, 2, 8> { simd, product }),
                (8, _) => simd.vectorize(Multiply::<S, 3, 3, 8> { simd, product }),
                (4, _) => simd.vectorize(Multiply::<S, 1, 2, 4> { simd, product }),
                (2, _) => simd.vectorize(Multiply::<S, 1, 4, 2> { simd, product }),
                _ => simd.vectorize(Multiply::<S, 1, 8, 1> { simd, product }),
            }
        }
    }
}

/// `A += C Bᵀ` for groups of rows A of `depth` columns, a block B of as many entries, and the coefficients C of
/// its vectors: of vector c, one for each row, from `c · stride` on.
#[derive(Debug)]
pub(super) struct Update<'a> {
    pub(super) rows: &'a mut [f64],
    pub(super) depth: usize,
    pub(super) coefficients: &'a [f64],
    pub(super) stride: usize,
    pub(super) block: &'a [f64],
}

impl Update<'_> {
    #[inline(always)]
    pub(super) fn run<S: Simd>(self, simd: S) {
        let Self { rows, depth, coefficients, stride, block } = self;
        let panel = depth * LANES;
        let mut cut = Tiles::new::<S>(rows.len() / panel);
        while let Some((first, count)) = cut.next() {
            let rows = &mut rows[first * panel..][..count * panel];
            let coefficients = &coefficients[first * LANES..];
            Update { rows, depth, coefficients, stride, block }.tile(simd, count);
        }
    }

    /// The update of a tile of so many groups.
    #[inline(always)]
    fn tile<S: Simd>(self, simd: S, count: usize) {
        let update = self;
        match (S::F64_LANES, count) {
            (8, 1) => simd.vectorize(Move::<S, 1, 1, 8> { simd, update }),
            (8, 2) => simd.vectorize(Move::<S, 2, 2, 8> { simd, update }),
            (8, _) => simd.vectorize(Move::<S, 3, 3, 8> { simd, update }),
            (4, _) => simd.vectorize(Move::<S, 1, 2, 4> { simd, update }),
            (2, _) => simd.vectorize(Move::<S, 1, 4, 2> { simd, update }),
            _ => simd.vectorize(Move::<S, 1, 8, 1> { simd, update }),
        }
    }
}

/// Cuts groups into tiles: at most three where a register holds a group, else single ones.
#[derive(Debug)]
pub(super) struct Tiles {
    first: usize,
    end: usize,
    highest: usize,
}

impl Tiles {
    #[inline(always)]
    pub(super) fn new<S: Simd>(groups: usize) -> Self {
        Self { first: 0, end: groups, highest: if S::F64_LANES == LANES { 3 } else { 1 } }
    }

    /// The first group of the next tile, and their number: as even as possible.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Option<(usize, usize)> {
        let (first, rest) = (self.first, self.end - self.first);
        if rest == 0 {
            return None;
        }
        let count = rest.div_ceil(rest.div_ceil(self.highest));
        self.first += count;
        Some((first, count))
    }
}

/// A tile of `G` groups in `R` registers, `C` columns at a time.
struct Multiply<'a, S, const G: usize, const R: usize, const C: usize> {
    simd: S,
    product: Product<'a>,
}

impl<S: Simd, const G: usize, const R: usize, const C: usize> NullaryFnOnce
    for Multiply<'_, S, G, R, C>
{
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { simd, product } = self;
        let Product { rows, depth, block, out, strides, columns, is_added } = product;
        let registers = R / G;
        let rows = S::as_simd_f64s(rows).0;
        let len = depth * registers;
        let mut groups = [&rows[..0]; G];
        for g in 0..G {
            groups[g] = &rows[g * len..][..len];
        }
        let block = &block.as_chunks::<BLOCK>().0[..depth];
        let mut first = 0;
        while first < columns {
            let mut sums = [[simd.splat_f64s(0.0); R]; C];
            for k in 0..depth {
                let entries = &block[k];
                let mut a = [simd.splat_f64s(0.0); R];
                for r in 0..R {
                    a[r] = groups[r / registers][k * registers + r % registers];
                }
                for c in 0..C {
                    let b = simd.splat_f64s(entries[first + c]);
                    for r in 0..R {
                        sums[c][r] = simd.mul_add_f64s(a[r], b, sums[c][r]);
                    }
                }
            }
            for c in 0..C {
                if first + c == columns {
                    break;
                }
                for g in 0..G {
                    let start = g * strides.group + (first + c) * strides.column;
                    let out = S::as_mut_simd_f64s(&mut out[start..][..LANES]).0;
                    for r in 0..registers {
                        let sum = sums[c][g * registers + r];
                        out[r] = if is_added { simd.add_f64s(out[r], sum) } else { sum };
                    }
                }
            }
            first += C;
        }
    }
}

/// A tile of `G` groups in `R` registers, moved along `C` vectors at a time.
struct Move<'a, S, const G: usize, const R: usize, const C: usize> {
    simd: S,
    update: Update<'a>,
}

impl<S: Simd, const G: usize, const R: usize, const C: usize> NullaryFnOnce
    for Move<'_, S, G, R, C>
{
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { simd, update } = self;
        let Update { rows, depth, coefficients, stride, block } = update;
        let registers = R / G;
        let len = depth * registers;
        let mut rest = S::as_mut_simd_f64s(rows).0;
        let mut groups: [&mut [S::f64s]; G] = std::array::from_fn(|_| Default::default());
        for g in 0..G {
            let (group, others) = rest.split_at_mut(len);
            groups[g] = group;
            rest = others;
        }
        let block = &block.as_chunks::<BLOCK>().0[..depth];
        let mut first = 0;
        while first < BLOCK {
            let mut factors = [[simd.splat_f64s(0.0); R]; C];
            for c in 0..C {
                let row = &coefficients[(first + c) * stride..][..G * LANES];
                factors[c].copy_from_slice(S::as_simd_f64s(row).0);
            }
            for k in 0..depth {
                let entries = &block[k];
                let mut a = [simd.splat_f64s(0.0); R];
                for r in 0..R {
                    a[r] = groups[r / registers][k * registers + r % registers];
                }
                for c in 0..C {
                    let b = simd.splat_f64s(entries[first + c]);
                    for r in 0..R {
                        a[r] = simd.mul_add_f64s(factors[c][r], b, a[r]);
                    }
                }
                for r in 0..R {
                    groups[r / registers][k * registers + r % registers] = a[r];
                }
            }
            first += C;
        }
    }
}
