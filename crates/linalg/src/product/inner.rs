//! Products as inner products in lanes.

#![expect(
    clippy::needless_range_loop,
    reason = "registers are picked by constant indices, as the compiler needs them"
)]

use faer::Accum;
use pulp::{Simd, WithSimd};

use super::{Job, LONG_DEPTH};
use crate::simd::{LANES, Lanes};

/// The inner products of contiguous rows of A and contiguous columns of B.
pub(super) struct Inner<'a>(pub(super) Job<'a>);

/// Of rows of A and columns of B; who asks for inner products has seen it.
const CONTIGUOUS: &str = "lines are contiguous";

/// Most rows, and most columns, of a tile.
const SIDE: usize = 8;

/// Lines of a tile, and how many of them there are.
type Lines<'a> = ([&'a [f64]; SIDE], usize);

impl WithSimd for Inner<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let job = if self.0.b.ncols() > self.0.a.nrows() { self.0.transposed() } else { self.0 };
        let Job { mut c, accumulate, a, b, factor, part, .. } = job;
        let (m, n, k) = (a.nrows(), b.ncols(), a.ncols());
        let (most_rows, most_columns) = if n == 1 { (8, 1) } else { (4, 4) };
        for first in (0..k).step_by(LONG_DEPTH) {
            let depth = LONG_DEPTH.min(k - first);
            let rows = a.subcols(first, depth).transpose();
            let columns = b.subrows(first, depth);
            let rows = rows.try_as_col_major().expect(CONTIGUOUS);
            let columns = columns.try_as_col_major().expect(CONTIGUOUS);
            let is_replaced = first == 0 && accumulate == Accum::Replace;
            for i in (0..m).step_by(most_rows) {
                let height = most_rows.min(m - i);
                let mut lines_a: Lines<'_> = ([&[]; SIDE], height);
                for s in 0..height {
                    lines_a.0[s] = rows.col(i + s).as_slice();
                }
                for j in (0..n).step_by(most_columns) {
                    let width = most_columns.min(n - j);
                    let mut lines_b: Lines<'_> = ([&[]; SIDE], width);
                    for s in 0..width {
                        lines_b.0[s] = columns.col(j + s).as_slice();
                    }
                    let sums = if most_columns == 1 {
                        square::<S, 8, 1>(simd, depth, lines_a, lines_b)
                    } else {
                        square::<S, 4, 4>(simd, depth, lines_a, lines_b)
                    };
                    for s in 0..width {
                        let wanted = part.rows(j + s, m);
                        for r in 0..height {
                            if wanted.contains(&(i + r)) {
                                let out = &mut c[(i + r, j + s)];
                                let sum = sums[r][s];
                                *out = if is_replaced {
                                    factor * sum
                                } else {
                                    factor.mul_add(sum, *out)
                                };
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The inner products of `M` lines of length `len` with `N` others. Lines that are missing repeat the
/// first one, and nobody reads their sums.
#[inline(always)]
fn square<S: Simd, const M: usize, const N: usize>(
    simd: S,
    len: usize,
    lines_a: Lines<'_>,
    lines_b: Lines<'_>,
) -> [[f64; SIDE]; SIDE] {
    let whole = len / LANES * LANES;
    let per_group = LANES / S::F64_LANES;
    let registers = whole / LANES * per_group;
    let mut a = [&[][..]; M];
    let mut b = [&[][..]; N];
    for i in 0..M {
        let line = lines_a.0[if i < lines_a.1 { i } else { 0 }];
        a[i] = &S::as_simd_f64s(&line[..whole]).0[..registers];
    }
    for j in 0..N {
        let line = lines_b.0[if j < lines_b.1 { j } else { 0 }];
        b[j] = &S::as_simd_f64s(&line[..whole]).0[..registers];
    }
    let mut lanes = [[Lanes::splat(simd, 0.0); N]; M];
    // Registers of a group one after another: all of them at once would not fit.
    for part in 0..per_group {
        let mut sums = [[simd.splat_f64s(0.0); N]; M];
        let mut k = part;
        while k < registers {
            for i in 0..M {
                for j in 0..N {
                    sums[i][j] = simd.mul_add_f64s(a[i][k], b[j][k], sums[i][j]);
                }
            }
            k += per_group;
        }
        for i in 0..M {
            for j in 0..N {
                lanes[i][j].set_register(part, sums[i][j]);
            }
        }
    }
    if whole < len {
        let rest = |line: &[f64]| {
            let mut rest = [0.0; LANES];
            rest[..len - whole].copy_from_slice(&line[whole..]);
            rest
        };
        let mut rests_b = [[0.0; LANES]; N];
        for j in 0..lines_b.1 {
            rests_b[j] = rest(lines_b.0[j]);
        }
        for i in 0..lines_a.1 {
            let rest_a = rest(lines_a.0[i]);
            for j in 0..N {
                for part in 0..per_group {
                    let a = S::as_simd_f64s(&rest_a).0[part];
                    let b = S::as_simd_f64s(&rests_b[j]).0[part];
                    lanes[i][j].accumulate(simd, part, a, b);
                }
            }
        }
    }
    let mut out = [[0.0; SIDE]; SIDE];
    for i in 0..M {
        for j in 0..N {
            out[i][j] = lanes[i][j].sum(simd);
        }
    }
    out
}
