//! Operands of a product, packed into panels that a tile reads from front to back.

#![expect(
    clippy::needless_range_loop,
    reason = "registers are picked by constant indices, as the compiler needs them"
)]

use std::cell::Cell;

use faer::MatRef;
use pulp::{NullaryFnOnce, Simd};

use crate::simd::AlignedVec;

thread_local! {
    /// Buffers that a thread reuses: a product that allocates megabytes every time spends its time
    /// on page faults.
    static BUFFERS: Cell<Option<[AlignedVec; 2]>> = const { Cell::new(None) };
}

/// Memory for the packed panels of A and of B.
pub(super) struct PackBuffers([AlignedVec; 2]);

impl PackBuffers {
    /// Takes the buffers of this thread, with at least the given lengths and arbitrary contents.
    pub(super) fn take(len_a: usize, len_b: usize) -> Self {
        let kept = BUFFERS.take().filter(|[a, b]| a.len() >= len_a && b.len() >= len_b);
        Self(kept.unwrap_or_else(|| {
            [len_a, len_b].map(|len| AlignedVec::zeros(len.next_power_of_two()))
        }))
    }

    /// The buffers for A and for B.
    pub(super) fn split(&mut self) -> (&mut [f64], &mut [f64]) {
        let [a, b] = &mut self.0;
        (a, b)
    }

    /// Returns the buffers to the thread.
    pub(super) fn release(self) {
        BUFFERS.set(Some(self.0));
    }
}

/// Packs the rows of `source` in panels of `height` rows, one after another. A panel holds the
/// first column of its rows, then the second, and so on. Missing rows of the last panel are zero.
#[inline(always)]
pub(super) fn pack<S: Simd>(simd: S, height: usize, out: &mut [f64], source: MatRef<'_, f64>) {
    match height {
        1 => simd.vectorize(Pack::<1> { out, source }),
        2 => simd.vectorize(Pack::<2> { out, source }),
        3 => simd.vectorize(Pack::<3> { out, source }),
        4 => simd.vectorize(Pack::<4> { out, source }),
        8 => simd.vectorize(Pack::<8> { out, source }),
        12 => simd.vectorize(Pack::<12> { out, source }),
        16 => simd.vectorize(Pack::<16> { out, source }),
        24 => simd.vectorize(Pack::<24> { out, source }),
        _ => simd.vectorize(Pack::<32> { out, source }),
    }
}

/// Packs rows in panels of `R` registers. The last panel has as few registers as its rows need.
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

struct Pack<'a, const HEIGHT: usize> {
    out: &'a mut [f64],
    source: MatRef<'a, f64>,
}

impl<const HEIGHT: usize> NullaryFnOnce for Pack<'_, HEIGHT> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let (rows, depth) = (self.source.nrows(), self.source.ncols());
        let panels = self.out.chunks_exact_mut(HEIGHT * depth).take(rows.div_ceil(HEIGHT));
        for (p, panel) in panels.enumerate() {
            let first = p * HEIGHT;
            let count = HEIGHT.min(rows - first);
            let rows = self.source.subrows(first, count);
            if count < HEIGHT {
                panel.fill(0.0);
            }
            if let Some(rows) = rows.try_as_col_major() {
                for (out, column) in panel.chunks_exact_mut(HEIGHT).zip(rows.col_iter()) {
                    let column = column.as_slice();
                    if let Ok(whole) = <&[f64; HEIGHT]>::try_from(column) {
                        out.copy_from_slice(whole);
                    } else {
                        out[..count].copy_from_slice(column);
                    }
                }
            } else if let Some(columns) = rows.transpose().try_as_col_major() {
                let mut i = 0;
                while i + TRANSPOSED_ROWS <= count {
                    let mut lines = [&[][..]; TRANSPOSED_ROWS];
                    for r in 0..TRANSPOSED_ROWS {
                        lines[r] = columns.col(i + r).as_slice();
                    }
                    transpose_into::<HEIGHT>(panel, i, lines, depth);
                    i += TRANSPOSED_ROWS;
                }
                for i in i..count {
                    let line = columns.col(i).as_slice();
                    for (out, value) in panel.chunks_exact_mut(HEIGHT).zip(line) {
                        out[i] = *value;
                    }
                }
            } else {
                for (k, out) in panel.chunks_exact_mut(HEIGHT).enumerate() {
                    for i in 0..count {
                        out[i] = rows[(i, k)];
                    }
                }
            }
        }
    }
}

/// The number of rows that are transposed together.
const TRANSPOSED_ROWS: usize = 4;

/// Writes rows of length `depth` into the columns of a panel that begin at `first`.
#[inline(always)]
fn transpose_into<const HEIGHT: usize>(
    panel: &mut [f64],
    first: usize,
    lines: [&[f64]; TRANSPOSED_ROWS],
    depth: usize,
) {
    let mut blocks = panel.chunks_exact_mut(TRANSPOSED_ROWS * HEIGHT);
    let whole = depth / TRANSPOSED_ROWS;
    for b in 0..whole {
        let Some(block) = blocks.next() else { break };
        let mut square = [[0.0; TRANSPOSED_ROWS]; TRANSPOSED_ROWS];
        for r in 0..TRANSPOSED_ROWS {
            square[r].copy_from_slice(&lines[r][b * TRANSPOSED_ROWS..][..TRANSPOSED_ROWS]);
        }
        for c in 0..TRANSPOSED_ROWS {
            let mut column = [0.0; TRANSPOSED_ROWS];
            for r in 0..TRANSPOSED_ROWS {
                column[r] = square[r][c];
            }
            block[c * HEIGHT + first..][..TRANSPOSED_ROWS].copy_from_slice(&column);
        }
    }
    for (k, out) in panel.chunks_exact_mut(HEIGHT).enumerate().skip(whole * TRANSPOSED_ROWS) {
        for r in 0..TRANSPOSED_ROWS {
            out[first + r] = lines[r][k];
        }
    }
}
