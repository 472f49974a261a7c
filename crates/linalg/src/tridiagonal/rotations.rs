//! Rotations of columns, many sweeps at a time.

use faer::{Mat, MatRef};
use pulp::{Simd, WithSimd};

use crate::simd::{self, AlignedVec, LANES};

/// Sweeps of rotations that are applied together.
const WAVE: usize = 4;

/// Waves that are applied to a slab of rows while it is in the cache.
const WAVES: usize = 16;

/// Up to [`WAVE`] sweeps of rotations. Those that a sweep does not have do nothing.
struct Wave {
    /// Rotation i of sweep w at i − w + `WAVE`: the place of column i − w in a slab.
    rotations: Vec<[(f64, f64); WAVE]>,
    count: usize,
    /// The columns that are touched.
    first: usize,
    last: usize,
}

impl Wave {
    fn new(columns: usize) -> Self {
        let rotations = vec![[(1.0, 0.0); WAVE]; columns + 2 * WAVE];
        Self { rotations, count: 0, first: columns, last: 0 }
    }

    /// Adds a sweep: of the last columns first, and that of `first` last.
    fn push(&mut self, first: usize, rotations: &[(f64, f64)]) {
        let last = first + rotations.len();
        for (i, rotation) in (first..last).rev().zip(rotations) {
            self.rotations[i + WAVE - self.count][self.count] = *rotation;
        }
        self.first = self.first.min(first);
        self.last = self.last.max(last);
        self.count += 1;
    }
}

/// A matrix in slabs of rows; in a slab one column after another.
pub(super) struct Columns {
    values: AlignedVec,
    rows: usize,
    /// Number of columns.
    count: usize,
    waves: Vec<Wave>,
}

/// Rows of a slab.
const SLAB: usize = 4 * LANES;

impl Columns {
    pub(super) fn new(matrix: MatRef<'_, f64>) -> Self {
        let (rows, columns) = (matrix.nrows(), matrix.ncols());
        // At both ends of a slab are columns of zeros, for sweeps that are behind or ahead.
        let per_slab = SLAB * (columns + 2 * WAVE);
        let mut values = AlignedVec::zeros(rows.div_ceil(SLAB) * per_slab);
        for (s, slab) in values.chunks_exact_mut(per_slab).enumerate() {
            let count = SLAB.min(rows - s * SLAB);
            for (j, out) in slab[WAVE * SLAB..].chunks_exact_mut(SLAB).take(columns).enumerate() {
                let column = matrix.col(j).subrows(s * SLAB, count);
                out[..count].iter_mut().zip(column.iter()).for_each(|(out, value)| *out = *value);
            }
        }
        Self { values, rows, count: columns, waves: Vec::new() }
    }

    /// Applies a sweep of rotations, as [`Wave::push`] has them, now or later.
    pub(super) fn sweep(&mut self, first: usize, rotations: &[(f64, f64)]) {
        if rotations.is_empty() {
            return;
        }
        if self.waves.last().is_none_or(|wave| wave.count == WAVE) {
            if self.waves.len() == WAVES {
                self.apply();
            }
            self.waves.push(Wave::new(self.count));
        }
        if let Some(wave) = self.waves.last_mut() {
            wave.push(first, rotations);
        }
    }

    fn apply(&mut self) {
        simd::arch().dispatch(Rotate(self));
        self.waves.clear();
    }

    /// The matrix with its columns in this order.
    pub(super) fn in_order(&mut self, order: &[usize]) -> Mat<f64> {
        self.apply();
        let per_slab = SLAB * (self.count + 2 * WAVE);
        let mut out = Mat::zeros(self.rows, self.count);
        for (j, k) in order.iter().enumerate() {
            for (s, rows) in out.col_as_slice_mut(j).chunks_mut(SLAB).enumerate() {
                let from = s * per_slab + (k + WAVE) * SLAB;
                rows.copy_from_slice(&self.values[from..][..rows.len()]);
            }
        }
        out
    }
}

struct Rotate<'a>(&'a mut Columns);

impl WithSimd for Rotate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // A column for each sweep must fit into the registers.
        match S::F64_LANES {
            8 => self.slabs::<S, 4>(simd),
            4 => self.slabs::<S, 2>(simd),
            _ => self.slabs::<S, 1>(simd),
        }
    }
}

impl Rotate<'_> {
    #[inline(always)]
    fn slabs<S: Simd, const R: usize>(self, simd: S) {
        let Columns { values, count, waves, .. } = self.0;
        let per_column = SLAB / S::F64_LANES;
        let values = S::as_mut_simd_f64s(values).0;
        for slab in values.chunks_exact_mut(per_column * (*count + 2 * WAVE)) {
            for wave in waves.iter() {
                let mut offset = 0;
                while offset < per_column {
                    rotate::<S, R>(simd, slab, per_column, offset, wave);
                    offset += R;
                }
            }
        }
    }
}

/// Applies the sweeps of a wave to `R` registers of every column of a slab.
///
/// A sweep turns columns i and i + 1 for i from high to low. What it leaves of i + 1 is what the next
/// sweep needs to turn i + 1 and i + 2, so that each is one column behind the one before it, and a column
/// is loaded and stored once for all of them.
#[inline(always)]
fn rotate<S: Simd, const R: usize>(
    simd: S,
    slab: &mut [S::f64s],
    per_column: usize,
    offset: usize,
    wave: &Wave,
) {
    // Column i of the matrix is column i + WAVE of the slab.
    let mut column = wave.last + WAVE;
    // The higher column of the pair that sweep w turns next.
    let mut held = [[simd.splat_f64s(0.0); R]; WAVE];
    for w in 0..WAVE {
        held[w].copy_from_slice(&slab[(column + w) * per_column + offset..][..R]);
    }
    while column > wave.first + 1 {
        column -= 1;
        let rotations = &wave.rotations[column];
        let mut passing = [simd.splat_f64s(0.0); R];
        passing.copy_from_slice(&slab[column * per_column + offset..][..R]);
        for w in 0..WAVE {
            let cosine = simd.splat_f64s(rotations[w].0);
            let sine = simd.splat_f64s(rotations[w].1);
            let minus = simd.splat_f64s(-rotations[w].1);
            for r in 0..R {
                let (low, high) = (passing[r], held[w][r]);
                passing[r] = simd.mul_add_f64s(sine, low, simd.mul_f64s(cosine, high));
                held[w][r] = simd.mul_add_f64s(cosine, low, simd.mul_f64s(minus, high));
            }
        }
        slab[(column + WAVE) * per_column + offset..][..R].copy_from_slice(&passing);
    }
    for w in 0..WAVE {
        slab[(column + w) * per_column + offset..][..R].copy_from_slice(&held[w]);
    }
}
