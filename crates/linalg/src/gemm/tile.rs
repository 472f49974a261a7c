//! Products as chains of fused operations, tile by tile: the general kernel.

#![expect(
    clippy::needless_range_loop,
    reason = "registers are picked by constant indices, as the compiler needs them"
)]

use faer::{Accum, ContiguousFwd, MatMut, MatRef};
use pulp::{NullaryFnOnce, Simd};

use super::job::{Gemm, MAX_CHAIN, Part};
use super::pack::{PackBuffers, pack, pack_rows};

/// The number of rows of A that are packed together: they stay in the second-level cache.
const PACKED_ROWS: usize = 192;

/// The number of columns of B that are packed together: they stay in the third-level cache.
const PACKED_COLUMNS: usize = 2048;

/// The largest number of entries of an A stored by columns that is not packed: packing it would
/// take a good part of the time of the product.
const MAX_UNPACKED_ENTRIES: usize = 128 * 128;

/// The largest number of rows of A for which a contiguous B is not packed. An entry of B is used
/// once for every tile of rows, and packing pays only for many tiles.
const MAX_UNPACKED_ROWS: usize = 256;

/// The largest number of rows of a tile.
const MAX_TILE_ROWS: usize = 32;

/// Computes a product in tiles of three registers by `N` columns.
#[inline(always)]
pub(super) fn multiply_tiles<S: Simd, const N: usize>(simd: S, job: Gemm<'_>) {
    let (m, n, k) = (job.a.nrows(), job.b.ncols(), job.a.ncols());
    let is_direct = job.a.row_stride() == 1 && (n <= 2 * N || m * k <= MAX_UNPACKED_ENTRIES);
    match n {
        1 if is_direct => direct::<S, 4, 1>(simd, job),
        2 if is_direct => direct::<S, 4, 2>(simd, job),
        _ if is_direct => direct::<S, 3, N>(simd, job),
        _ => packed::<S, 3, N>(simd, job),
    }
}

/// Computes a product with both operands packed.
#[inline(always)]
fn packed<S: Simd, const R: usize, const N: usize>(simd: S, job: Gemm<'_>) {
    let height = R * S::F64_LANES;
    let Gemm { c, accumulate, a, b, factor, part, chain } = job;
    let (m, n, k) = (a.nrows(), b.ncols(), a.ncols());
    let mut output = Destination { c, accumulate, factor, part, chain };
    // A whole number of chains.
    let packed_depth = MAX_CHAIN / chain * chain;
    let deepest = packed_depth.min(k);
    let len_a = PACKED_ROWS.min(m).next_multiple_of(height) * deepest;
    let len_b = PACKED_COLUMNS.min(n).next_multiple_of(N) * deepest;
    let mut buffers = PackBuffers::take(len_a, len_b);
    let (packed_a, packed_b) = buffers.split();
    for first_column in (0..n).step_by(PACKED_COLUMNS) {
        let columns = PACKED_COLUMNS.min(n - first_column);
        output.accumulate = accumulate;
        for first in (0..k).step_by(packed_depth) {
            let depth = packed_depth.min(k - first);
            let block = b.submatrix(first, first_column, depth, columns);
            let panels = ColumnPanels::<N>::new(simd, m, packed_b, block);
            for first_row in (0..m).step_by(PACKED_ROWS) {
                let rows = PACKED_ROWS.min(m - first_row);
                pack_rows::<S, R>(simd, packed_a, a.submatrix(first_row, first, rows, depth));
                for column in (0..columns).step_by(N) {
                    let b = panels.panel(column);
                    for row in (0..rows).step_by(height) {
                        let bounds = TileBounds {
                            row: first_row + row,
                            rows: height.min(rows - row),
                            column: first_column + column,
                            columns: N.min(columns - column),
                        };
                        let rows = bounds.rows.next_multiple_of(S::F64_LANES);
                        let a = TileRows::Packed(&packed_a[row * depth..][..rows * depth]);
                        output.add_tile::<S, R, N>(simd, bounds, a, b);
                    }
                }
            }
            output.accumulate = Accum::Add;
        }
    }
    buffers.release();
}

/// Computes a product with an A that is stored by columns and not packed.
#[inline(always)]
fn direct<S: Simd, const R: usize, const N: usize>(simd: S, job: Gemm<'_>) {
    let height = R * S::F64_LANES;
    let Gemm { c, accumulate, a, b, factor, part, chain } = job;
    let (m, n, k) = (a.nrows(), b.ncols(), a.ncols());
    let mut output = Destination { c, accumulate, factor, part, chain };
    // A whole number of chains.
    let packed_depth = MAX_CHAIN / chain * chain;
    let deepest = packed_depth.min(k);
    let mut buffers = PackBuffers::take(height * deepest, n.next_multiple_of(N) * deepest);
    let (packed_a, packed_b) = buffers.split();
    for first in (0..k).step_by(packed_depth) {
        let depth = packed_depth.min(k - first);
        let panels = ColumnPanels::<N>::new(simd, m, packed_b, b.subrows(first, depth));
        let mut row = 0;
        while row < m {
            // Tiles are as even as possible: one of a single register waits for its sums.
            let registers = (m - row).div_ceil(S::F64_LANES);
            let rows = (registers.div_ceil(registers.div_ceil(R)) * S::F64_LANES).min(m - row);
            let panel = a.submatrix(row, first, rows, depth);
            let is_whole = rows.is_multiple_of(S::F64_LANES);
            let a = match panel.try_as_col_major() {
                Some(panel) if is_whole => TileRows::Unpacked(panel),
                _ => {
                    pack_rows::<S, R>(simd, packed_a, panel);
                    TileRows::Packed(&packed_a[..rows.next_multiple_of(S::F64_LANES) * depth])
                }
            };
            for column in (0..n).step_by(N) {
                let b = panels.panel(column);
                let bounds = TileBounds { row, rows, column, columns: N.min(n - column) };
                output.add_tile::<S, R, N>(simd, bounds, a, b);
            }
            row += rows;
        }
        output.accumulate = Accum::Add;
    }
    buffers.release();
}

/// The rows of A that a tile reads.
#[derive(Debug, Clone, Copy)]
enum TileRows<'a> {
    /// A packed panel, filled up to whole registers.
    Packed(&'a [f64]),
    /// Whole registers of the matrix itself.
    Unpacked(MatRef<'a, f64, usize, usize, ContiguousFwd>),
}

impl TileRows<'_> {
    /// The number of terms, of `R` registers each where they are packed.
    #[inline(always)]
    fn depth<S: Simd, const R: usize>(self) -> usize {
        match self {
            Self::Packed(panel) => panel.len() / (R * S::F64_LANES),
            Self::Unpacked(panel) => panel.ncols(),
        }
    }
}

/// The columns of B, `N` at a time.
#[derive(Debug, Clone, Copy)]
enum ColumnPanels<'a, const N: usize> {
    /// Packed panels, with their number of rows.
    Packed(&'a [f64], usize),
    /// Contiguous columns of the matrix itself.
    Unpacked(MatRef<'a, f64, usize, usize, ContiguousFwd>),
    /// Contiguous rows of the matrix itself, as columns; the last columns, fewer than `N`, are
    /// packed.
    UnpackedRows(MatRef<'a, f64, usize, usize, ContiguousFwd>, &'a [f64]),
}

impl<'a, const N: usize> ColumnPanels<'a, N> {
    /// The columns of `b` for products with `rows` rows of A, packed into `buffer` where that pays.
    #[inline(always)]
    fn new<S: Simd>(simd: S, rows: usize, buffer: &'a mut [f64], b: MatRef<'a, f64>) -> Self {
        if N > 1 && rows <= MAX_UNPACKED_ROWS {
            if let Some(b) = b.try_as_col_major() {
                return Self::Unpacked(b);
            }
            if let Some(across) = b.transpose().try_as_col_major() {
                let whole = b.ncols() / N * N;
                if whole < b.ncols() {
                    pack(simd, N, buffer, b.transpose().subrows(whole, b.ncols() - whole));
                }
                return Self::UnpackedRows(across, buffer);
            }
        }
        pack(simd, N, buffer, b.transpose());
        Self::Packed(buffer, b.nrows())
    }

    /// The `N` columns from `first` on, or those that are left.
    #[inline(always)]
    fn panel(self, first: usize) -> TileColumns<'a, N> {
        match self {
            Self::Packed(b, depth) => TileColumns::Packed(&b[first * depth..][..N * depth]),
            Self::Unpacked(b) => {
                let mut columns = [&[][..]; N];
                for j in 0..N {
                    // The sums of missing columns are never written.
                    columns[j] = b.col((first + j).min(b.ncols() - 1)).as_slice();
                }
                TileColumns::Unpacked(columns)
            }
            Self::UnpackedRows(rows, _) if first + N <= rows.nrows() => {
                TileColumns::UnpackedRows(rows.subrows(first, N))
            }
            Self::UnpackedRows(rows, rest) => TileColumns::Packed(&rest[..N * rows.ncols()]),
        }
    }
}

/// The columns of B that a tile reads.
#[derive(Debug, Clone, Copy)]
enum TileColumns<'a, const N: usize> {
    /// A packed panel: one row of `N` entries after the other.
    Packed(&'a [f64]),
    /// Columns of the matrix itself.
    Unpacked([&'a [f64]; N]),
    /// Rows of the matrix itself.
    UnpackedRows(MatRef<'a, f64, usize, usize, ContiguousFwd>),
}

impl<const N: usize> TileColumns<'_, N> {
    /// The terms `start..start + terms` of these columns.
    #[inline(always)]
    fn terms(self, start: usize, terms: usize) -> Self {
        match self {
            Self::Packed(b) => Self::Packed(&b[start * N..][..terms * N]),
            Self::Unpacked(mut columns) => {
                for j in 0..N {
                    columns[j] = &columns[j][start..][..terms];
                }
                Self::Unpacked(columns)
            }
            Self::UnpackedRows(rows) => Self::UnpackedRows(rows.subcols(start, terms)),
        }
    }
}

/// The position and size of a tile in C.
#[derive(Debug, Clone, Copy)]
struct TileBounds {
    row: usize,
    rows: usize,
    column: usize,
    columns: usize,
}

impl Part {
    /// True if all entries of a tile are to be computed.
    #[inline(always)]
    fn has_all(self, bounds: TileBounds) -> bool {
        match self {
            Self::Whole => true,
            Self::Lower => bounds.column + bounds.columns <= bounds.row + 1,
            Self::Upper => bounds.row + bounds.rows <= bounds.column + 1,
        }
    }
}

/// The matrix C and how sums are written to it.
struct Destination<'a> {
    c: MatMut<'a, f64>,
    accumulate: Accum,
    factor: f64,
    part: Part,
    chain: usize,
}

impl Destination<'_> {
    /// Computes a tile of `R` registers by `N` columns, or of as few registers as its rows need.
    #[inline(always)]
    fn add_tile<S: Simd, const R: usize, const N: usize>(
        &mut self,
        simd: S,
        bounds: TileBounds,
        a: TileRows<'_>,
        b: TileColumns<'_, N>,
    ) {
        let is_wanted = match self.part {
            Part::Whole => true,
            Part::Lower => bounds.row + bounds.rows > bounds.column,
            Part::Upper => bounds.column + bounds.columns > bounds.row,
        };
        if !is_wanted {
            return;
        }
        // One function for each size keeps the inlined code small.
        let output = self.reborrow();
        match bounds.rows.div_ceil(S::F64_LANES) {
            1 => simd.vectorize(Tile::<S, 1, N> { simd, output, bounds, a, b }),
            2 => simd.vectorize(Tile::<S, 2, N> { simd, output, bounds, a, b }),
            3 => simd.vectorize(Tile::<S, 3, N> { simd, output, bounds, a, b }),
            _ => simd.vectorize(Tile::<S, R, N> { simd, output, bounds, a, b }),
        }
    }

    #[inline(always)]
    fn reborrow(&mut self) -> Destination<'_> {
        let Self { c, accumulate, factor, part, chain } = self;
        Destination {
            c: c.as_mut(),
            accumulate: *accumulate,
            factor: *factor,
            part: *part,
            chain: *chain,
        }
    }

    /// Writes the sums of a tile to C.
    #[inline(always)]
    fn write<S: Simd, const R: usize, const N: usize>(
        &mut self,
        simd: S,
        bounds: TileBounds,
        sums: [[S::f64s; R]; N],
    ) {
        let TileBounds { row, rows, column: first, columns } = bounds;
        let is_replaced = self.accumulate == Accum::Replace;
        let factor = self.factor;
        let is_high = rows == R * S::F64_LANES;
        if is_high && columns == N && self.part.has_all(bounds) {
            let tile = self.c.as_mut().submatrix_mut(row, first, rows, N);
            if let Some(mut tile) = tile.try_as_col_major_mut() {
                for j in 0..N {
                    let out = tile.as_mut().col_mut(j).as_slice_mut();
                    write_column(simd, out, is_replaced, factor, sums[j]);
                }
                return;
            }
        }
        for j in 0..N {
            if j == columns {
                break;
            }
            let wanted = self.part.rows(first + j, row + rows);
            let mut out = self.c.as_mut().col_mut(first + j).subrows_mut(row, rows);
            let is_whole = is_high && wanted.start <= row && wanted.end == row + rows;
            if is_whole && let Some(out) = out.as_mut().try_as_col_major_mut() {
                write_column(simd, out.as_slice_mut(), is_replaced, factor, sums[j]);
                continue;
            }
            let mut values = [0.0; MAX_TILE_ROWS];
            let values = &mut values[..R * S::F64_LANES];
            S::as_mut_simd_f64s(values).0.copy_from_slice(&sums[j]);
            for i in 0..rows {
                if wanted.contains(&(row + i)) {
                    let out = &mut out[i];
                    let sum = values[i];
                    *out = if is_replaced { factor * sum } else { factor.mul_add(sum, *out) };
                }
            }
        }
    }
}

/// Writes the sums of a column of a tile.
#[inline(always)]
fn write_column<S: Simd, const R: usize>(
    simd: S,
    out: &mut [f64],
    is_replaced: bool,
    factor: f64,
    sums: [S::f64s; R],
) {
    let out = &mut S::as_mut_simd_f64s(out).0[..R];
    let factor = simd.splat_f64s(factor);
    for r in 0..R {
        out[r] = if is_replaced {
            simd.mul_f64s(factor, sums[r])
        } else {
            simd.mul_add_f64s(factor, sums[r], out[r])
        };
    }
}

struct Tile<'a, S, const R: usize, const N: usize> {
    simd: S,
    output: Destination<'a>,
    bounds: TileBounds,
    a: TileRows<'a>,
    b: TileColumns<'a, N>,
}

impl<S: Simd, const R: usize, const N: usize> NullaryFnOnce for Tile<'_, S, R, N> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { simd, mut output, bounds, a, b } = self;
        let (chain, depth) = (output.chain, a.depth::<S, R>());
        let mut start = 0;
        while start < depth {
            let terms = chain.min(depth - start);
            let b = b.terms(start, terms);
            let mut sums = [[simd.splat_f64s(0.0); R]; N];
            match a {
                TileRows::Packed(panel) => {
                    let columns = &S::as_simd_f64s(panel).0[start * R..][..terms * R];
                    accumulate_packed(simd, columns.chunks_exact(R), b, &mut sums);
                }
                TileRows::Unpacked(panel) => {
                    accumulate_unpacked(simd, panel.subcols(start, terms), b, &mut sums);
                }
            }
            output.write(simd, bounds, sums);
            output.accumulate = Accum::Add;
            start += terms;
        }
    }
}

/// Adds the products of the columns of a packed tile of A and the rows of a tile of B to the sums.
#[inline(always)]
fn accumulate_packed<S: Simd, const R: usize, const N: usize>(
    simd: S,
    columns: std::slice::ChunksExact<'_, S::f64s>,
    b: TileColumns<'_, N>,
    sums: &mut [[S::f64s; R]; N],
) {
    match b {
        TileColumns::Packed(b) => {
            for (a, b) in columns.zip(b.chunks_exact(N)) {
                accumulate_term(simd, a, b, sums);
            }
        }
        TileColumns::Unpacked(b) => {
            let b = same_lengths(b, columns.len());
            for (k, a) in columns.enumerate() {
                accumulate_term(simd, a, &row(b, k), sums);
            }
        }
        TileColumns::UnpackedRows(b) => {
            for (a, b) in columns.zip(b.col_iter()) {
                accumulate_term(simd, a, &b.as_slice()[..N], sums);
            }
        }
    }
}

/// Like [`accumulate_packed`], for a tile of A that is not packed.
#[inline(always)]
fn accumulate_unpacked<S: Simd, const R: usize, const N: usize>(
    simd: S,
    columns: MatRef<'_, f64, usize, usize, ContiguousFwd>,
    b: TileColumns<'_, N>,
    sums: &mut [[S::f64s; R]; N],
) {
    match b {
        TileColumns::Packed(b) => {
            for (a, b) in columns.col_iter().zip(b.chunks_exact(N)) {
                accumulate_term(simd, &S::as_simd_f64s(a.as_slice()).0[..R], b, sums);
            }
        }
        TileColumns::Unpacked(b) => {
            let b = same_lengths(b, columns.ncols());
            for (k, a) in columns.col_iter().enumerate() {
                accumulate_term(simd, &S::as_simd_f64s(a.as_slice()).0[..R], &row(b, k), sums);
            }
        }
        TileColumns::UnpackedRows(b) => {
            for (a, b) in columns.col_iter().zip(b.col_iter()) {
                let a = &S::as_simd_f64s(a.as_slice()).0[..R];
                accumulate_term(simd, a, &b.as_slice()[..N], sums);
            }
        }
    }
}

/// Cuts the columns to the same length, which removes bounds checks.
#[inline(always)]
fn same_lengths<const N: usize>(mut columns: [&[f64]; N], len: usize) -> [&[f64]; N] {
    for j in 0..N {
        columns[j] = &columns[j][..len];
    }
    columns
}

/// Row `k` of some columns.
#[inline(always)]
fn row<const N: usize>(columns: [&[f64]; N], k: usize) -> [f64; N] {
    let mut row = [0.0; N];
    for j in 0..N {
        row[j] = columns[j][k];
    }
    row
}

/// Adds the product of a column of a tile of A and a row of a tile of B to the sums.
#[inline(always)]
fn accumulate_term<S: Simd, const R: usize, const N: usize>(
    simd: S,
    a: &[S::f64s],
    b: &[f64],
    sums: &mut [[S::f64s; R]; N],
) {
    for j in 0..N {
        let b = simd.splat_f64s(b[j]);
        for r in 0..R {
            sums[j][r] = simd.mul_add_f64s(a[r], b, sums[j][r]);
        }
    }
}
