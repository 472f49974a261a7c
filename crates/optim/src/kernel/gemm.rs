//! Products of matrices whose rows lie in groups of L, the number of lanes: 8 for float64, 16 for
//! float32.
//!
//! [`Gemm`] is `C = A B` or `C + A B`, [`RankK`] is `A + C Bᵀ`. Entry (j, k) of a [`Grouped`]
//! matrix A is lane j mod L of column k of group j / L: registers run over rows, nothing is summed
//! across lanes, and a group is contiguous for any number of columns. The other factor B is a
//! *block* of L interleaved vectors: entry k of vector c is `block[L k + c]`.
//!
//! Every sum is one chain of fused multiply-adds in the order of the terms, so that neither the
//! instruction set nor the cut into tiles can change a bit. The operands are read in place, from
//! the first-level cache, once per tile.

#![expect(
    clippy::needless_range_loop,
    reason = "registers are picked by constant indices, as the compiler needs them"
)]

use flatmin_linalg::simd::{AlignedVec, Lanes, Real, padded_for};
use pulp::{NullaryFnOnce, Simd};

/// A matrix whose rows lie in groups; the last group is filled up with zeros.
#[derive(Debug)]
pub(super) struct Grouped<E = f64> {
    /// The entries group by group, each group column by column.
    pub(super) values: AlignedVec<E>,
    rows: usize,
    pub(super) columns: usize,
}

impl<E: Real> Grouped<E> {
    pub(super) fn zeros(rows: usize, columns: usize) -> Self {
        Self { values: AlignedVec::zeros(padded_for::<E>(rows) * columns), rows, columns }
    }

    /// The matrix with these values, row by row, rounded to this type.
    pub(super) fn from_rows(values: &[f64], rows: usize, columns: usize) -> Self {
        let mut grouped = Self::zeros(rows, columns);
        grouped.load_rows(values, columns);
        grouped
    }

    /// Replaces all values. Those of row j start at `values[stride · j]`.
    pub(super) fn load_rows(&mut self, values: &[f64], stride: usize) {
        let len = E::LANES * self.columns;
        for (j, row) in values.chunks(stride).take(self.rows).enumerate() {
            let group = &mut self.values[j / E::LANES * len..][..len];
            for (column, value) in E::arrays_mut(group).iter_mut().zip(row) {
                column[j % E::LANES] = E::from_f64(*value);
            }
        }
    }

    /// Writes all values in the layout that [`load_rows`](Self::load_rows) reads.
    pub(super) fn store_rows(&self, values: &mut [f64], stride: usize) {
        let len = E::LANES * self.columns;
        for (j, row) in values.chunks_mut(stride).take(self.rows).enumerate() {
            for (value, column) in
                row.iter_mut().zip(E::arrays(&self.values[j / E::LANES * len..][..len]))
            {
                *value = column[j % E::LANES].to_f64();
            }
        }
    }
}

/// Interleaves at most L vectors of the same length; missing ones are zero.
pub(super) fn interleave<'v, E: Real>(block: &mut [E], vectors: impl Iterator<Item = &'v [E]>) {
    let entries = E::arrays_mut(block);
    let mut count = 0;
    for vector in vectors {
        for (entry, value) in entries.iter_mut().zip(vector) {
            entry[count] = *value;
        }
        count += 1;
    }
    if count < E::LANES {
        for entry in entries {
            entry.as_mut()[count..].fill(E::ZERO);
        }
    }
}

/// The layout of a result: entry (j, c) is lane j mod L of the element at
/// `group · (j / L) + column · c`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strides {
    pub(super) group: usize,
    pub(super) column: usize,
}

/// `C = A B`, or `C + A B`, for some groups of rows A with `depth` columns and a block B of vectors
/// with `depth` entries.
#[derive(Debug)]
pub(super) struct Gemm<'a, E = f64> {
    pub(super) rows: &'a [E],
    pub(super) depth: usize,
    pub(super) block: &'a [E],
    pub(super) out: &'a mut [E],
    pub(super) strides: Strides,
    /// Number of vectors of the block that are multiplied, from the first one on.
    pub(super) columns: usize,
    pub(super) is_added: bool,
}

impl<E: Real> Gemm<'_, E> {
    #[inline(always)]
    pub(super) fn run<S: Simd>(self, simd: S) {
        let Self { rows, depth, block, out, strides, columns, is_added } = self;
        let panel = depth * E::LANES;
        let mut cut = Tiles::new::<S>(rows.len() / panel);
        while let Some((first, count)) = cut.next() {
            let rows = &rows[first * panel..][..count * panel];
            let out = &mut out[first * strides.group..];
            let gemm = Gemm { rows, depth, block, out, strides, columns, is_added };
            on_tile::<S, E, _>(simd, count, gemm);
        }
    }
}

/// `A += C Bᵀ` for groups of rows A with `depth` columns and a block B of vectors with `depth`
/// entries.
///
/// C holds a coefficient for each row of A and vector of B: those of vector c start at
/// `coefficients[stride · c]`.
#[derive(Debug)]
pub(super) struct RankK<'a, E = f64> {
    pub(super) rows: &'a mut [E],
    pub(super) depth: usize,
    pub(super) coefficients: &'a [E],
    pub(super) stride: usize,
    pub(super) block: &'a [E],
}

impl<E: Real> RankK<'_, E> {
    #[inline(always)]
    pub(super) fn run<S: Simd>(self, simd: S) {
        let Self { rows, depth, coefficients, stride, block } = self;
        let panel = depth * E::LANES;
        let mut cut = Tiles::new::<S>(rows.len() / panel);
        while let Some((first, count)) = cut.next() {
            let rows = &mut rows[first * panel..][..count * panel];
            let coefficients = &coefficients[first * E::LANES..];
            let rank_k = RankK { rows, depth, coefficients, stride, block };
            on_tile::<S, E, _>(simd, count, rank_k);
        }
    }
}

/// Cuts groups into tiles. A tile has up to three groups if one register holds a group, and one
/// group otherwise.
#[derive(Debug)]
pub(super) struct Tiles {
    first: usize,
    end: usize,
    highest: usize,
}

impl Tiles {
    #[inline(always)]
    pub(super) fn new<S: Simd>(groups: usize) -> Self {
        Self { first: 0, end: groups, highest: if Lanes::<S>::REGISTERS == 1 { 3 } else { 1 } }
    }

    /// The first group of the next tile and its number of groups. Tiles are as even as possible.
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

/// A computation on one tile.
trait OnTile<S: Simd> {
    /// Runs on `G` groups held in `R` registers, with `C` vectors of the block at a time.
    fn run_on<const G: usize, const R: usize, const C: usize>(self, simd: S);
}

/// Runs a job on a tile of `count` groups, in a separate function for each size, because inlining
/// all of them would make the code too large. The height of a tile and the number of vectors it
/// takes at a time follow from the number of registers.
#[inline(always)]
fn on_tile<S: Simd, E: Real, T: OnTile<S>>(simd: S, count: usize, job: T) {
    match (Lanes::<S, E>::REGISTERS, count) {
        (1, 1) => simd.vectorize(Tile::<S, T, 1, 1, 8> { simd, job }),
        (1, 2) => simd.vectorize(Tile::<S, T, 2, 2, 8> { simd, job }),
        (1, _) => simd.vectorize(Tile::<S, T, 3, 3, 8> { simd, job }),
        (2, _) => simd.vectorize(Tile::<S, T, 1, 2, 4> { simd, job }),
        (4, _) => simd.vectorize(Tile::<S, T, 1, 4, 2> { simd, job }),
        (8, _) => simd.vectorize(Tile::<S, T, 1, 8, 1> { simd, job }),
        _ => simd.vectorize(Tile::<S, T, 1, 16, 1> { simd, job }),
    }
}

struct Tile<S, T, const G: usize, const R: usize, const C: usize> {
    simd: S,
    job: T,
}

impl<S: Simd, T: OnTile<S>, const G: usize, const R: usize, const C: usize> NullaryFnOnce
    for Tile<S, T, G, R, C>
{
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.job.run_on::<G, R, C>(self.simd);
    }
}

impl<S: Simd, E: Real> OnTile<S> for Gemm<'_, E> {
    #[inline(always)]
    fn run_on<const G: usize, const R: usize, const C: usize>(self, simd: S) {
        let Self { rows, depth, block, out, strides, columns, is_added } = self;
        let registers = R / G;
        let rows = E::registers::<S>(rows);
        let len = depth * registers;
        let mut groups = [&rows[..0]; G];
        for g in 0..G {
            groups[g] = &rows[g * len..][..len];
        }
        let block = &E::arrays(block)[..depth];
        let mut first = 0;
        while first < columns {
            let mut sums = [[E::splat(simd, E::ZERO); R]; C];
            for k in 0..depth {
                let entries = &block[k];
                let mut a = [E::splat(simd, E::ZERO); R];
                for r in 0..R {
                    a[r] = groups[r / registers][k * registers + r % registers];
                }
                for c in 0..C {
                    let b = E::splat(simd, entries[first + c]);
                    for r in 0..R {
                        sums[c][r] = E::mul_add_registers(simd, a[r], b, sums[c][r]);
                    }
                }
            }
            for c in 0..C {
                if first + c == columns {
                    break;
                }
                for g in 0..G {
                    let start = g * strides.group + (first + c) * strides.column;
                    let out = E::registers_mut::<S>(&mut out[start..][..E::LANES]);
                    for r in 0..registers {
                        let sum = sums[c][g * registers + r];
                        out[r] = if is_added { E::add_registers(simd, out[r], sum) } else { sum };
                    }
                }
            }
            first += C;
        }
    }
}

impl<S: Simd, E: Real> OnTile<S> for RankK<'_, E> {
    #[inline(always)]
    fn run_on<const G: usize, const R: usize, const C: usize>(self, simd: S) {
        let Self { rows, depth, coefficients, stride, block } = self;
        let registers = R / G;
        let len = depth * registers;
        let mut rest = E::registers_mut::<S>(rows);
        let mut groups: [&mut [E::Register<S>]; G] = std::array::from_fn(|_| Default::default());
        for g in 0..G {
            let (group, others) = rest.split_at_mut(len);
            groups[g] = group;
            rest = others;
        }
        let block = &E::arrays(block)[..depth];
        let mut first = 0;
        while first < E::LANES {
            let mut factors = [[E::splat(simd, E::ZERO); R]; C];
            for c in 0..C {
                let row = &coefficients[(first + c) * stride..][..G * E::LANES];
                factors[c].copy_from_slice(E::registers::<S>(row));
            }
            for k in 0..depth {
                let entries = &block[k];
                let mut a = [E::splat(simd, E::ZERO); R];
                for r in 0..R {
                    a[r] = groups[r / registers][k * registers + r % registers];
                }
                for c in 0..C {
                    let b = E::splat(simd, entries[first + c]);
                    for r in 0..R {
                        a[r] = E::mul_add_registers(simd, factors[c][r], b, a[r]);
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
