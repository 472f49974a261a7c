//! Operands cut into panels that a tile reads from front to back.

#![expect(
    clippy::needless_range_loop,
    reason = "registers are picked by constant indices, as the compiler needs them"
)]

use std::cell::Cell;

use faer::MatRef;
use pulp::{NullaryFnOnce, Simd};

use crate::simd::AlignedVec;

thread_local! {
    /// Kept by the thread: a product that allocates megabytes anew spends its time on page faults.
    static BUFFERS: Cell<Option<[AlignedVec; 2]>> = const { Cell::new(None) };
}

/// Room for the panels of A and of B.
pub(super) struct Buffers([AlignedVec; 2]);

impl Buffers {
    /// Takes those of this thread, of at least the given lengths and with any contents.
    pub(super) fn take(len_a: usize, len_b: usize) -> Self {
        let kept = BUFFERS.take().filter(|[a, b]| a.len() >= len_a && b.len() >= len_b);
        Self(kept.unwrap_or_else(|| {
            [len_a, len_b].map(|len| AlignedVec::zeros(len.next_power_of_two()))
        }))
    }

    pub(super) fn split(&mut self) -> (&mut [f64], &mut [f64]) {
        let [a, b] = &mut self.0;
        (a, b)
    }

    /// Gives them back.
    pub(super) fn keep(self) {
        BUFFERS.set(Some(self.0));
    }
}

/// Rows of `source` in panels of `height`, one after another: a panel holds the first column of its
/// rows, then the second, and so on. Rows that are missing in the last panel are zero.
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
                while i + GROUP <= count {
                    let mut lines = [&[][..]; GROUP];
                    for r in 0..GROUP {
                        lines[r] = columns.col(i + r).as_slice();
                    }
                    transpose::<HEIGHT>(panel, i, lines, depth);
                    i += GROUP;
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

/// Rows that are transposed together.
const GROUP: usize = 4;

/// Writes `GROUP` rows of length `depth` into the columns `first..` of a panel.
#[inline(always)]
fn transpose<const HEIGHT: usize>(
    panel: &mut [f64],
    first: usize,
    lines: [&[f64]; GROUP],
    depth: usize,
) {
    let mut blocks = panel.chunks_exact_mut(GROUP * HEIGHT);
    let whole = depth / GROUP;
    for b in 0..whole {
        let Some(block) = blocks.next() else { break };
        let mut square = [[0.0; GROUP]; GROUP];
        for r in 0..GROUP {
            square[r].copy_from_slice(&lines[r][b * GROUP..][..GROUP]);
        }
        for c in 0..GROUP {
            let mut column = [0.0; GROUP];
            for r in 0..GROUP {
                column[r] = square[r][c];
            }
            block[c * HEIGHT + first..][..GROUP].copy_from_slice(&column);
        }
    }
    for (k, out) in panel.chunks_exact_mut(HEIGHT).enumerate().skip(whole * GROUP) {
        for r in 0..GROUP {
            out[first + r] = lines[r][k];
        }
    }
}
