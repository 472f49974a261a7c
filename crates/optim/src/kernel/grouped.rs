//! Products with matrices whose rows lie in groups, as many to a group as there are lanes: L, eight of float64
//! numbers, sixteen of float32.
//!
//! Entry (j, k) of a [`Grouped`] matrix is lane j mod L of column k of group j / L: registers run over
//! rows, nothing is summed across lanes, and a group is contiguous however many columns there are.
//! The other factor comes as a *block* of L vectors, interleaved: entry k of vector c is
//! `block[L k + c]`.
//!
//! Every sum is one chain of fused multiply-adds in the order of the terms, so that neither the
//! instruction set nor the cut into tiles can change a bit. The operands are read where they lie, from the
//! first-level cache, once a tile.

#![expect(
    clippy::needless_range_loop,
    reason = "registers are picked by constant indices, as the compiler needs them"
)]

use flatmin_linalg::simd::{AlignedVec, Lanes, Real, padded_for};
use pulp::{NullaryFnOnce, Simd};

/// A matrix with its rows in groups, the last group filled up with zeros.
#[derive(Debug)]
pub(super) struct Grouped<E = f64> {
    values: AlignedVec<E>,
    rows: usize,
    columns: usize,
}

impl<E: Real> Grouped<E> {
    pub(super) fn zeros(rows: usize, columns: usize) -> Self {
        Self { values: AlignedVec::zeros(padded_for::<E>(rows) * columns), rows, columns }
    }

    /// From values row by row, rounded to this type.
    pub(super) fn from_rows(values: &[f64], rows: usize, columns: usize) -> Self {
        let mut grouped = Self::zeros(rows, columns);
        grouped.load_rows(values, columns);
        grouped
    }

    /// Takes values row by row, from one start of a row to the next `stride` entries.
    pub(super) fn load_rows(&mut self, values: &[f64], stride: usize) {
        let len = E::LANES * self.columns;
        for (j, row) in values.chunks(stride).take(self.rows).enumerate() {
            let group = &mut self.values[j / E::LANES * len..][..len];
            for (column, value) in E::arrays_mut(group).iter_mut().zip(row) {
                column[j % E::LANES] = E::from_f64(*value);
            }
        }
    }

    /// Gives the values row by row, as [`load_rows`](Self::load_rows) takes them.
    pub(super) fn store_rows(&self, values: &mut [f64], stride: usize) {
        for (j, row) in values.chunks_mut(stride).take(self.rows).enumerate() {
            for (value, column) in row.iter_mut().zip(E::arrays(self.group(j / E::LANES))) {
                *value = column[j % E::LANES].to_f64();
            }
        }
    }

    fn group(&self, group: usize) -> &[E] {
        let len = E::LANES * self.columns;
        &self.values[group * len..][..len]
    }

    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// Group by group, each column by column.
    pub(super) fn values(&self) -> &[E] {
        &self.values
    }

    pub(super) fn values_mut(&mut self) -> &mut [E] {
        &mut self.values
    }
}

/// Interleaves vectors of the same length, at most as many as there are lanes; missing ones are zero.
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

/// Where the columns of a result go: entry (j, c) to lane j mod L at `group · (j / L) + column · c`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strides {
    pub(super) group: usize,
    pub(super) column: usize,
}

/// `A B`, or `C + A B`, for some groups of rows A of `depth` columns and a block B of as many entries.
#[derive(Debug)]
pub(super) struct Product<'a, E = f64> {
    pub(super) rows: &'a [E],
    pub(super) depth: usize,
    pub(super) block: &'a [E],
    pub(super) out: &'a mut [E],
    pub(super) strides: Strides,
    /// Vectors of the block that are wanted, from the first one on.
    pub(super) columns: usize,
    pub(super) is_added: bool,
}

impl<E: Real> Product<'_, E> {
    #[inline(always)]
    pub(super) fn run<S: Simd>(self, simd: S) {
        let Self { rows, depth, block, out, strides, columns, is_added } = self;
        let panel = depth * E::LANES;
        let mut cut = Tiles::new::<S>(rows.len() / panel);
        while let Some((first, count)) = cut.next() {
            let rows = &rows[first * panel..][..count * panel];
            let out = &mut out[first * strides.group..];
            let product = Product { rows, depth, block, out, strides, columns, is_added };
            on_tile::<S, E, _>(simd, count, product);
        }
    }
}

/// `A += C Bᵀ` for groups of rows A of `depth` columns, a block B of as many entries, and the coefficients C of
/// its vectors: of vector c, one for each row, from `c · stride` on.
#[derive(Debug)]
pub(super) struct Update<'a, E = f64> {
    pub(super) rows: &'a mut [E],
    pub(super) depth: usize,
    pub(super) coefficients: &'a [E],
    pub(super) stride: usize,
    pub(super) block: &'a [E],
}

impl<E: Real> Update<'_, E> {
    #[inline(always)]
    pub(super) fn run<S: Simd>(self, simd: S) {
        let Self { rows, depth, coefficients, stride, block } = self;
        let panel = depth * E::LANES;
        let mut cut = Tiles::new::<S>(rows.len() / panel);
        while let Some((first, count)) = cut.next() {
            let rows = &mut rows[first * panel..][..count * panel];
            let coefficients = &coefficients[first * E::LANES..];
            let update = Update { rows, depth, coefficients, stride, block };
            on_tile::<S, E, _>(simd, count, update);
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
        Self { first: 0, end: groups, highest: if Lanes::<S>::REGISTERS == 1 { 3 } else { 1 } }
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

/// What is done with a tile.
trait OnTile<S: Simd> {
    /// On `G` groups in `R` registers, with `C` vectors of the block at a time.
    fn run_on<const G: usize, const R: usize, const C: usize>(self, simd: S);
}

/// Does it with a tile of `count` groups, in a function of its own for each size: what is inlined
/// would grow beyond all bounds. Tiles are as high, and take as many vectors at a time, as there are registers.
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

impl<S: Simd, E: Real> OnTile<S> for Product<'_, E> {
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

impl<S: Simd, E: Real> OnTile<S> for Update<'_, E> {
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
