//! Products as chains of fused operations, tile by tile.

#![expect(
    clippy::needless_range_loop,
    reason = "registers are picked by constant indices, as the compiler needs them"
)]

use faer::{Accum, ContiguousFwd, MatMut, MatRef};
use pulp::{NullaryFnOnce, Simd};

use super::pack::{Buffers, pack};
use super::{DEPTH, Job, Part};

/// Rows of A that are packed together: they stay in the second-level cache.
const ROWS: usize = 192;

/// Columns of B that are packed together: they stay in the third-level cache.
const COLUMNS: usize = 2048;

/// Entries of A, stored by columns, that are read where they lie: packing them would take a good part
/// of the time of the product.
const SMALL: usize = 128 * 128;

/// Rows of A up to which B is read where it lies, if it can be: an entry of B is used once for every
/// tile of rows, and packing it pays for many only.
const FEW_ROWS: usize = 256;

/// Most rows of a tile.
const MOST: usize = 32;

/// The product in tiles of three registers by `N` columns.
#[inline(always)]
pub(super) fn chains<S: Simd, const N: usize>(simd: S, job: Job<'_>) {
    let (m, n, k) = (job.a.nrows(), job.b.ncols(), job.a.ncols());
    let is_direct = job.a.row_stride() == 1 && (n <= 2 * N || m * k <= SMALL);
    match n {
        1 if is_direct => direct::<S, 4, 1>(simd, job),
        2 if is_direct => direct::<S, 4, 2>(simd, job),
        _ if is_direct => direct::<S, 3, N>(simd, job),
        _ => packed::<S, 3, N>(simd, job),
    }
}

/// A product with both operands packed.
#[inline(always)]
fn packed<S: Simd, const R: usize, const N: usize>(simd: S, job: Job<'_>) {
    let height = R * S::F64_LANES;
    let Job { c, accumulate, a, b, factor, part, chain } = job;
    let (m, n, k) = (a.nrows(), b.ncols(), a.ncols());
    let mut target = Target { c, accumulate, factor, part, chain };
    // Whole chains.
    let packed_depth = DEPTH / chain * chain;
    let deepest = packed_depth.min(k);
    let len_a = ROWS.min(m).next_multiple_of(height) * deepest;
    let len_b = COLUMNS.min(n).next_multiple_of(N) * deepest;
    let mut buffers = Buffers::take(len_a, len_b);
    let (packed_a, packed_b) = buffers.split();
    for first_column in (0..n).step_by(COLUMNS) {
        let columns = COLUMNS.min(n - first_column);
        target.accumulate = accumulate;
        for first in (0..k).step_by(packed_depth) {
            let depth = packed_depth.min(k - first);
            let block = b.submatrix(first, first_column, depth, columns);
            let panels = Panels::<N>::new(simd, m, packed_b, block);
            for first_row in (0..m).step_by(ROWS) {
                let rows = ROWS.min(m - first_row);
                pack_rows::<S, R>(simd, packed_a, a.submatrix(first_row, first, rows, depth));
                for column in (0..columns).step_by(N) {
                    let b = panels.panel(column);
                    for row in (0..rows).step_by(height) {
                        let place = Place {
                            row: first_row + row,
                            rows: height.min(rows - row),
                            column: first_column + column,
                            columns: N.min(columns - column),
                        };
                        let rows = place.rows.next_multiple_of(S::F64_LANES);
                        let a = Rows::Packed(&packed_a[row * depth..][..rows * depth]);
                        target.tile::<S, R, N>(simd, place, a, b);
                    }
                }
            }
            target.accumulate = Accum::Add;
        }
    }
    buffers.keep();
}

/// A product with A, stored by columns, read where it lies.
#[inline(always)]
fn direct<S: Simd, const R: usize, const N: usize>(simd: S, job: Job<'_>) {
    let height = R * S::F64_LANES;
    let Job { c, accumulate, a, b, factor, part, chain } = job;
    let (m, n, k) = (a.nrows(), b.ncols(), a.ncols());
    let mut target = Target { c, accumulate, factor, part, chain };
    // Whole chains.
    let packed_depth = DEPTH / chain * chain;
    let deepest = packed_depth.min(k);
    let mut buffers = Buffers::take(height * deepest, n.next_multiple_of(N) * deepest);
    let (packed_a, packed_b) = buffers.split();
    for first in (0..k).step_by(packed_depth) {
        let depth = packed_depth.min(k - first);
        let panels = Panels::<N>::new(simd, m, packed_b, b.subrows(first, depth));
        let mut row = 0;
        while row < m {
            // Tiles as even as possible: one of a single register waits for its sums.
            let registers = (m - row).div_ceil(S::F64_LANES);
            let rows = (registers.div_ceil(registers.div_ceil(R)) * S::F64_LANES).min(m - row);
            let panel = a.submatrix(row, first, rows, depth);
            let is_whole = rows.is_multiple_of(S::F64_LANES);
            let a = match panel.try_as_col_major() {
                Some(panel) if is_whole => Rows::InPlace(panel),
                _ => {
                    pack_rows::<S, R>(simd, packed_a, panel);
                    Rows::Packed(&packed_a[..rows.next_multiple_of(S::F64_LANES) * depth])
                }
            };
            for column in (0..n).step_by(N) {
                let b = panels.panel(column);
                let place = Place { row, rows, column, columns: N.min(n - column) };
                target.tile::<S, R, N>(simd, place, a, b);
            }
            row += rows;
        }
        target.accumulate = Accum::Add;
    }
    buffers.keep();
}

/// Packs in panels of `R` registers; the last one has as few as its rows need.
#[inline(always)]
pub(super) fn pack_rows<S: Simd, const R: usize>(
    simd: S,
    out: &mut [f64],
    source: MatRef<'_, f64>,
) {
    let height = R * S::F64_LANES;
    let whole = source.nrows() / height * height;
    if whole > 0 {
        pack(simd, height, out, source.subrows(0, whole));
    }
    let rest = source.nrows() - whole;
    if rest > 0 {
        let out = &mut out[whole * source.ncols()..];
        let height = rest.next_multiple_of(S::F64_LANES);
        pack(simd, height, out, source.subrows(whole, rest));
    }
}

/// Some rows of A.
#[derive(Debug, Clone, Copy)]
enum Rows<'a> {
    /// A panel, filled up to whole registers.
    Packed(&'a [f64]),
    /// Whole registers where they lie.
    InPlace(MatRef<'a, f64, usize, usize, ContiguousFwd>),
}

impl Rows<'_> {
    /// Their terms, of `R` registers each where they are packed.
    #[inline(always)]
    fn depth<S: Simd, const R: usize>(self) -> usize {
        match self {
            Self::Packed(panel) => panel.len() / (R * S::F64_LANES),
            Self::InPlace(panel) => panel.ncols(),
        }
    }
}

/// Columns of B, `N` at a time.
#[derive(Debug, Clone, Copy)]
enum Panels<'a, const N: usize> {
    /// Panels of so many rows.
    Packed(&'a [f64], usize),
    /// Contiguous columns where they lie.
    InPlace(MatRef<'a, f64, usize, usize, ContiguousFwd>),
    /// Contiguous rows, as columns, where they lie; columns that are left over, fewer than `N`, packed.
    Across(MatRef<'a, f64, usize, usize, ContiguousFwd>, &'a [f64]),
}

impl<'a, const N: usize> Panels<'a, N> {
    /// For the products with `rows` rows of A.
    #[inline(always)]
    fn new<S: Simd>(simd: S, rows: usize, room: &'a mut [f64], b: MatRef<'a, f64>) -> Self {
        if N > 1 && rows <= FEW_ROWS {
            if let Some(b) = b.try_as_col_major() {
                return Self::InPlace(b);
            }
            if let Some(across) = b.transpose().try_as_col_major() {
                let whole = b.ncols() / N * N;
                if whole < b.ncols() {
                    pack(simd, N, room, b.transpose().subrows(whole, b.ncols() - whole));
                }
                return Self::Across(across, room);
            }
        }
        pack(simd, N, room, b.transpose());
        Self::Packed(room, b.nrows())
    }

    /// `N` columns, or those that are left, from `first` on.
    #[inline(always)]
    fn panel(self, first: usize) -> Columns<'a, N> {
        match self {
            Self::Packed(b, depth) => Columns::Packed(&b[first * depth..][..N * depth]),
            Self::InPlace(b) => {
                let mut columns = [&[][..]; N];
                for j in 0..N {
                    // Sums of columns that are missing are thrown away.
                    columns[j] = b.col((first + j).min(b.ncols() - 1)).as_slice();
                }
                Columns::InPlace(columns)
            }
            Self::Across(rows, _) if first + N <= rows.nrows() => {
                Columns::Across(rows.subrows(first, N))
            }
            Self::Across(rows, rest) => Columns::Packed(&rest[..N * rows.ncols()]),
        }
    }
}

/// Some columns of B.
#[derive(Debug, Clone, Copy)]
enum Columns<'a, const N: usize> {
    /// A panel: a row of `N` entries after the other.
    Packed(&'a [f64]),
    /// Where they lie, column by column.
    InPlace([&'a [f64]; N]),
    /// Where they lie, row by row.
    Across(MatRef<'a, f64, usize, usize, ContiguousFwd>),
}

impl<const N: usize> Columns<'_, N> {
    /// Their terms `start..start + terms`.
    #[inline(always)]
    fn terms(self, start: usize, terms: usize) -> Self {
        match self {
            Self::Packed(b) => Self::Packed(&b[start * N..][..terms * N]),
            Self::InPlace(mut columns) => {
                for j in 0..N {
                    columns[j] = &columns[j][start..][..terms];
                }
                Self::InPlace(columns)
            }
            Self::Across(rows) => Self::Across(rows.subcols(start, terms)),
        }
    }
}

/// Where a tile lies in C.
#[derive(Debug, Clone, Copy)]
struct Place {
    row: usize,
    rows: usize,
    column: usize,
    columns: usize,
}

impl Part {
    /// Whether all of a tile is wanted.
    #[inline(always)]
    fn has_all(self, place: Place) -> bool {
        match self {
            Self::Whole => true,
            Self::Lower => place.column + place.columns <= place.row + 1,
            Self::Upper => place.row + place.rows <= place.column + 1,
        }
    }
}

/// What is written to.
struct Target<'a> {
    c: MatMut<'a, f64>,
    accumulate: Accum,
    factor: f64,
    part: Part,
    chain: usize,
}

impl Target<'_> {
    /// A tile of `R` registers by `N` columns, or of as few registers as its rows need.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const N: usize>(
        &mut self,
        simd: S,
        place: Place,
        a: Rows<'_>,
        b: Columns<'_, N>,
    ) {
        let is_wanted = match self.part {
            Part::Whole => true,
            Part::Lower => place.row + place.rows > place.column,
            Part::Upper => place.column + place.columns > place.row,
        };
        if !is_wanted {
            return;
        }
        // A function for each size, so that what is inlined does not grow beyond all bounds.
        let target = self.rest();
        match place.rows.div_ceil(S::F64_LANES) {
            1 => simd.vectorize(Tile::<S, 1, N> { simd, target, place, a, b }),
            2 => simd.vectorize(Tile::<S, 2, N> { simd, target, place, a, b }),
            3 => simd.vectorize(Tile::<S, 3, N> { simd, target, place, a, b }),
            _ => simd.vectorize(Tile::<S, R, N> { simd, target, place, a, b }),
        }
    }

    #[inline(always)]
    fn rest(&mut self) -> Target<'_> {
        let Self { c, accumulate, factor, part, chain } = self;
        Target {
            c: c.as_mut(),
            accumulate: *accumulate,
            factor: *factor,
            part: *part,
            chain: *chain,
        }
    }

    /// Writes the sums of a tile.
    #[inline(always)]
    fn write<S: Simd, const R: usize, const N: usize>(
        &mut self,
        simd: S,
        place: Place,
        sums: [[S::f64s; R]; N],
    ) {
        let Place { row, rows, column: first, columns } = place;
        let is_replaced = self.accumulate == Accum::Replace;
        let factor = self.factor;
        let is_high = rows == R * S::F64_LANES;
        if is_high && columns == N && self.part.has_all(place) {
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
            let mut values = [0.0; MOST];
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
    target: Target<'a>,
    place: Place,
    a: Rows<'a>,
    b: Columns<'a, N>,
}

impl<S: Simd, const R: usize, const N: usize> NullaryFnOnce for Tile<'_, S, R, N> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { simd, mut target, place, a, b } = self;
        let (chain, depth) = (target.chain, a.depth::<S, R>());
        let mut start = 0;
        while start < depth {
            let terms = chain.min(depth - start);
            let b = b.terms(start, terms);
            let mut sums = [[simd.splat_f64s(0.0); R]; N];
            match a {
                Rows::Packed(panel) => {
                    let columns = &S::as_simd_f64s(panel).0[start * R..][..terms * R];
                    add_columns(simd, columns.chunks_exact(R), b, &mut sums);
                }
                Rows::InPlace(panel) => {
                    add_columns_in_place(simd, panel.subcols(start, terms), b, &mut sums);
                }
            }
            target.write(simd, place, sums);
            target.accumulate = Accum::Add;
            start += terms;
        }
    }
}

/// Adds the products of the columns of a packed tile of A with the rows of a tile of B.
#[inline(always)]
fn add_columns<S: Simd, const R: usize, const N: usize>(
    simd: S,
    columns: std::slice::ChunksExact<'_, S::f64s>,
    b: Columns<'_, N>,
    sums: &mut [[S::f64s; R]; N],
) {
    match b {
        Columns::Packed(b) => {
            for (a, b) in columns.zip(b.chunks_exact(N)) {
                add_column(simd, a, b, sums);
            }
        }
        Columns::InPlace(b) => {
            let b = same_lengths(b, columns.len());
            for (k, a) in columns.enumerate() {
                add_column(simd, a, &row(b, k), sums);
            }
        }
        Columns::Across(b) => {
            for (a, b) in columns.zip(b.col_iter()) {
                add_column(simd, a, &b.as_slice()[..N], sums);
            }
        }
    }
}

/// As [`add_columns`], for a tile of A where it lies.
#[inline(always)]
fn add_columns_in_place<S: Simd, const R: usize, const N: usize>(
    simd: S,
    columns: MatRef<'_, f64, usize, usize, ContiguousFwd>,
    b: Columns<'_, N>,
    sums: &mut [[S::f64s; R]; N],
) {
    match b {
        Columns::Packed(b) => {
            for (a, b) in columns.col_iter().zip(b.chunks_exact(N)) {
                add_column(simd, &S::as_simd_f64s(a.as_slice()).0[..R], b, sums);
            }
        }
        Columns::InPlace(b) => {
            let b = same_lengths(b, columns.ncols());
            for (k, a) in columns.col_iter().enumerate() {
                add_column(simd, &S::as_simd_f64s(a.as_slice()).0[..R], &row(b, k), sums);
            }
        }
        Columns::Across(b) => {
            for (a, b) in columns.col_iter().zip(b.col_iter()) {
                let a = &S::as_simd_f64s(a.as_slice()).0[..R];
                add_column(simd, a, &b.as_slice()[..N], sums);
            }
        }
    }
}

/// Cut to the same length, for the compiler to see.
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

/// Adds the products of a column of a tile of A with a row of a tile of B.
#[inline(always)]
fn add_column<S: Simd, const R: usize, const N: usize>(
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
