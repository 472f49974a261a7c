//! Products of a few long vectors as inner products in lanes.

#![expect(
    clippy::needless_range_loop,
    reason = "registers are picked by constant indices, as the compiler needs them"
)]

use faer::Accum;
use pulp::{Simd, WithSimd};

use super::job::{Gemm, MAX_LANE_CHAIN};
use crate::simd::{LANES, Lanes};

/// The product of a matrix A with contiguous rows and a matrix B with contiguous columns.
pub(super) struct LaneDots<'a>(pub(super) Gemm<'a>);

/// The proof that rows of A and columns of B are slices.
const CHECKED: &str = "the caller has seen that rows of A and columns of B are contiguous";

/// The largest number of rows, and of columns, of a tile of inner products.
const MAX_SIDE: usize = 8;

/// The vectors of one side of a tile: the first ones of the array, and their number.
type Vectors<'a> = ([&'a [f64]; MAX_SIDE], usize);

impl WithSimd for LaneDots<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let job = if self.0.b.ncols() > self.0.a.nrows() { self.0.transposed() } else { self.0 };
        let Gemm { mut c, accumulate, a, b, factor, part, .. } = job;
        let (m, n, k) = (a.nrows(), b.ncols(), a.ncols());
        let (most_rows, most_columns) = if n == 1 { (8, 1) } else { (4, 4) };
        for first in (0..k).step_by(MAX_LANE_CHAIN) {
            let depth = MAX_LANE_CHAIN.min(k - first);
            let rows = a.subcols(first, depth).transpose();
            let columns = b.subrows(first, depth);
            let rows = rows.try_as_col_major().expect(CHECKED);
            let columns = columns.try_as_col_major().expect(CHECKED);
            let is_replaced = first == 0 && accumulate == Accum::Replace;
            for i in (0..m).step_by(most_rows) {
                let height = most_rows.min(m - i);
                let mut vectors_a: Vectors<'_> = ([&[]; MAX_SIDE], height);
                for s in 0..height {
                    vectors_a.0[s] = rows.col(i + s).as_slice();
                }
                for j in (0..n).step_by(most_columns) {
                    let width = most_columns.min(n - j);
                    let mut vectors_b: Vectors<'_> = ([&[]; MAX_SIDE], width);
                    for s in 0..width {
                        vectors_b.0[s] = columns.col(j + s).as_slice();
                    }
                    let sums = if most_columns == 1 {
                        dot_tile::<S, 8, 1>(simd, depth, vectors_a, vectors_b)
                    } else {
                        dot_tile::<S, 4, 4>(simd, depth, vectors_a, vectors_b)
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

/// The inner products of `M` vectors of length `len` with `N` others. A missing vector is replaced
/// by the first one, and the caller ignores its sums.
#[inline(always)]
fn dot_tile<S: Simd, const M: usize, const N: usize>(
    simd: S,
    len: usize,
    vectors_a: Vectors<'_>,
    vectors_b: Vectors<'_>,
) -> [[f64; MAX_SIDE]; MAX_SIDE] {
    let whole = len / LANES * LANES;
    let per_group = LANES / S::F64_LANES;
    let registers = whole / LANES * per_group;
    let mut a = [&[][..]; M];
    let mut b = [&[][..]; N];
    for i in 0..M {
        let vector = vectors_a.0[if i < vectors_a.1 { i } else { 0 }];
        a[i] = &S::as_simd_f64s(&vector[..whole]).0[..registers];
    }
    for j in 0..N {
        let vector = vectors_b.0[if j < vectors_b.1 { j } else { 0 }];
        b[j] = &S::as_simd_f64s(&vector[..whole]).0[..registers];
    }
    let mut lanes = [[Lanes::splat(simd, 0.0); N]; M];
    // One register of every lane group after another: all of them at once would not fit.
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
        let rest = |vector: &[f64]| {
            let mut rest = [0.0; LANES];
            rest[..len - whole].copy_from_slice(&vector[whole..]);
            rest
        };
        let mut rests_b = [[0.0; LANES]; N];
        for j in 0..vectors_b.1 {
            rests_b[j] = rest(vectors_b.0[j]);
        }
        for i in 0..vectors_a.1 {
            let rest_a = rest(vectors_a.0[i]);
            for j in 0..N {
                for part in 0..per_group {
                    let a = S::as_simd_f64s(&rest_a).0[part];
                    let b = S::as_simd_f64s(&rests_b[j]).0[part];
                    lanes[i][j].accumulate(simd, part, a, b);
                }
            }
        }
    }
    let mut out = [[0.0; MAX_SIDE]; MAX_SIDE];
    for i in 0..M {
        for j in 0..N {
            out[i][j] = lanes[i][j].sum(simd);
        }
    }
    out
}
