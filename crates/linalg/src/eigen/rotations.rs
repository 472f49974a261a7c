//! Rotations of columns, applied many sweeps at a time.

use pulp::{Simd, WithSimd};

use crate::Parallelism;
use crate::RowMatrix;
use crate::simd::{self, AlignedVec, LANES};

/// The number of sweeps of rotations that are applied together.
const WAVE_SWEEPS: usize = 4;

/// The number of waves that are applied together to a matrix of fewer than [`LARGE_MATRIX_ROWS`]
/// rows.
const SLAB_WAVES: usize = 16;

/// The number of rows from which four times as many waves are applied together.
const LARGE_MATRIX_ROWS: usize = 512;

/// Up to [`WAVE_SWEEPS`] sweeps of rotations. Missing rotations are identities.
struct Wave {
    /// Rotation i of sweep w, at the index i − w + `WAVE_SWEEPS` that column i − w has in a slab of
    /// all columns.
    rotations: Vec<[(f64, f64); WAVE_SWEEPS]>,
    count: usize,
    /// The first rotated column.
    first: usize,
    /// The last rotated column.
    last: usize,
}

impl Wave {
    fn new(columns: usize) -> Self {
        let rotations = vec![[(1.0, 0.0); WAVE_SWEEPS]; columns + 2 * WAVE_SWEEPS];
        Self { rotations, count: 0, first: columns, last: 0 }
    }

    /// Adds a sweep. Its rotations begin with the last column and end with column `first`.
    fn push(&mut self, first: usize, rotations: &[(f64, f64)]) {
        let last = first + rotations.len();
        for (i, rotation) in (first..last).rev().zip(rotations) {
            self.rotations[i + WAVE_SWEEPS - self.count][self.count] = *rotation;
        }
        self.first = self.first.min(first);
        self.last = self.last.max(last);
        self.count += 1;
    }
}

/// A square matrix with pending rotations of its columns.
pub(super) struct Sweeps {
    matrix: RowMatrix,
    waves: Vec<Wave>,
    /// The number of waves that are applied to a slab of rows while it is in the cache.
    max_waves: usize,
    parallelism: Parallelism,
}

/// The largest number of rows of a slab.
const MAX_SLAB_ROWS: usize = 4 * LANES;

/// The number of `f64` values that the nearer caches hold.
const CACHED_NUMBERS: usize = 1 << 17;

impl Sweeps {
    pub(super) fn new(matrix: RowMatrix, parallelism: Parallelism) -> Self {
        // Each application copies the whole matrix to slabs and back.
        let max_waves = if matrix.rows() < LARGE_MATRIX_ROWS { SLAB_WAVES } else { 4 * SLAB_WAVES };
        Self { matrix, waves: Vec::new(), max_waves, parallelism }
    }

    /// Records a sweep of rotations in the order of [`Wave::push`].
    pub(super) fn sweep(&mut self, first: usize, rotations: &[(f64, f64)]) {
        if rotations.is_empty() {
            return;
        }
        if self.waves.last().is_none_or(|wave| wave.count == WAVE_SWEEPS) {
            if self.waves.len() == self.max_waves {
                self.apply();
            }
            self.waves.push(Wave::new(self.matrix.columns()));
        }
        if let Some(wave) = self.waves.last_mut() {
            wave.push(first, rotations);
        }
    }

    fn apply(&mut self) {
        let n = self.matrix.columns();
        let first = self.waves.iter().map(|wave| wave.first).min().unwrap_or(0);
        let last = self.waves.iter().map(|wave| wave.last).max().unwrap_or(0);
        if first < last {
            let waves = &self.waves;
            // As many lane groups of rows as the cache holds: one, two or four, which fill
            // registers.
            let groups = (CACHED_NUMBERS / n / LANES).clamp(1, MAX_SLAB_ROWS / LANES);
            let rows = LANES << groups.ilog2();
            let slab = || AlignedVec::zeros(rows * (last - first + 1 + 2 * WAVE_SWEEPS));
            let rotate = |slab: &mut AlignedVec, rows: &mut [f64]| {
                simd::arch().dispatch(Rotate { rows, n, waves, first, last, slab });
            };
            let values = self.matrix.values_mut();
            self.parallelism.for_each_chunk_with(values, rows * n, slab, rotate);
        }
        self.waves.clear();
    }

    /// The matrix with its columns in this order.
    pub(super) fn in_order(mut self, order: &[usize]) -> RowMatrix {
        self.apply();
        let mut line = vec![0.0; order.len()];
        for i in 0..self.matrix.rows() {
            let row = self.matrix.row_mut(i);
            for (out, k) in line.iter_mut().zip(order) {
                *out = row[*k];
            }
            row.copy_from_slice(&line);
        }
        self.matrix
    }
}

/// Rotates the columns `first..=last` of some rows of length `n`.
struct Rotate<'a> {
    rows: &'a mut [f64],
    n: usize,
    waves: &'a [Wave],
    first: usize,
    last: usize,
    /// Memory for the columns, one after another.
    slab: &'a mut [f64],
}

impl WithSimd for Rotate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // One column for each sweep must fit into the registers.
        match S::F64_LANES {
            8 if self.rows.len() > 2 * LANES * self.n => self.slab::<S, 4>(simd),
            8 if self.rows.len() > LANES * self.n => self.slab::<S, 2>(simd),
            4 => self.slab::<S, 2>(simd),
            _ => self.slab::<S, 1>(simd),
        }
    }
}

impl Rotate<'_> {
    /// Copies the columns to the slab, rotates them, and copies them back. Columns of zeros at both
    /// ends of the slab serve the sweeps that are behind or ahead.
    #[inline(always)]
    fn slab<S: Simd, const R: usize>(self, simd: S) {
        let Self { rows, n, waves, first, last, slab } = self;
        let height = (rows.len() / n).next_multiple_of(R.max(LANES / S::F64_LANES) * S::F64_LANES);
        let per_column = height / S::F64_LANES;
        let slab = &mut slab[..height * (last - first + 1 + 2 * WAVE_SWEEPS)];
        let inner = WAVE_SWEEPS * height;
        slab[..inner].fill(0.0);
        slab[inner + (last - first + 1) * height..].fill(0.0);
        let count = last - first + 1;
        for start in (0..count).step_by(LANES) {
            let columns = start..count.min(start + LANES);
            for (i, row) in rows.chunks_exact(n).enumerate() {
                for c in columns.clone() {
                    slab[inner + c * height + i] = row[first + c];
                }
            }
        }
        let registers = S::as_mut_simd_f64s(slab).0;
        for wave in waves {
            let mut offset = 0;
            while offset < per_column {
                rotate::<S, R>(simd, registers, SlabRows { per_column, offset }, first, wave);
                offset += R;
            }
        }
        for start in (0..count).step_by(LANES) {
            let columns = start..count.min(start + LANES);
            for (i, row) in rows.chunks_exact_mut(n).enumerate() {
                for c in columns.clone() {
                    row[first + c] = slab[inner + c * height + i];
                }
            }
        }
    }
}

/// The rows of a slab that are rotated together.
#[derive(Clone, Copy)]
struct SlabRows {
    /// The number of registers of a column of the slab.
    per_column: usize,
    /// The first register of these rows.
    offset: usize,
}

/// Applies the sweeps of a wave to `R` registers of every column of a slab.
///
/// A sweep rotates columns i and i + 1 for i from high to low. It finishes column i + 1, which the
/// next sweep needs to rotate columns i + 1 and i + 2. So each sweep is one column behind the sweep
/// before it, and a column is loaded and stored once for all of them.
#[inline(always)]
fn rotate<S: Simd, const R: usize>(
    simd: S,
    slab: &mut [S::f64s],
    SlabRows { per_column, offset }: SlabRows,
    first: usize,
    wave: &Wave,
) {
    // Column i of the matrix is column i − first + WAVE_SWEEPS of the slab.
    let mut column = wave.last - first + WAVE_SWEEPS;
    // The higher column of the pair that sweep w rotates next.
    let mut held = [[simd.splat_f64s(0.0); R]; WAVE_SWEEPS];
    for w in 0..WAVE_SWEEPS {
        held[w].copy_from_slice(&slab[(column + w) * per_column + offset..][..R]);
    }
    while column > wave.first - first + 1 {
        column -= 1;
        let rotations = &wave.rotations[column + first];
        let mut passing = [simd.splat_f64s(0.0); R];
        passing.copy_from_slice(&slab[column * per_column + offset..][..R]);
        for w in 0..WAVE_SWEEPS {
            let cosine = simd.splat_f64s(rotations[w].0);
            let sine = simd.splat_f64s(rotations[w].1);
            let minus = simd.splat_f64s(-rotations[w].1);
            for r in 0..R {
                let (low, high) = (passing[r], held[w][r]);
                passing[r] = simd.mul_add_f64s(sine, low, simd.mul_f64s(cosine, high));
                held[w][r] = simd.mul_add_f64s(cosine, low, simd.mul_f64s(minus, high));
            }
        }
        slab[(column + WAVE_SWEEPS) * per_column + offset..][..R].copy_from_slice(&passing);
    }
    for w in 0..WAVE_SWEEPS {
        slab[(column + w) * per_column + offset..][..R].copy_from_slice(&held[w]);
    }
}

#[cfg(test)]
mod tests {
    use super::{CACHED_NUMBERS, LANES, MAX_SLAB_ROWS, Sweeps};
    use crate::{Parallelism, RowMatrix};

    /// Some sweeps on rows of length `n`.
    fn swept(rows: &[usize], n: usize) -> Vec<f64> {
        let matrix = RowMatrix::from_fn(rows.len(), n, |i, j| {
            ((rows[i] * 7919 + j * 104_729) % 1009) as f64 / 504.5 - 1.0
        });
        let mut sweeps = Sweeps::new(matrix, Parallelism::Sequential);
        let (sine, cosine) = (0.6, 0.8);
        for sweep in 0..7 {
            sweeps.sweep(sweep * 3, &vec![(cosine, sine); n - 30]);
        }
        let order: Vec<usize> = (0..n).collect();
        sweeps.in_order(&order).values().to_vec()
    }

    /// At the last of these lengths three groups of rows fit into the cache, at the others one, two
    /// and four.
    #[test]
    fn rows_are_rotated_alike_in_slabs_of_every_height() {
        for fit in [1, 2, MAX_SLAB_ROWS / LANES, 3] {
            let n = CACHED_NUMBERS / (fit * LANES);
            let rows: Vec<usize> = (0..61).collect();
            let together = swept(&rows, n);
            for i in [0, 23, 24, 31, 32, 60] {
                let alone = swept(&[i], n);
                assert_eq!(alone, together[i * n..][..n], "row {i} of length {n}");
            }
        }
    }
}
