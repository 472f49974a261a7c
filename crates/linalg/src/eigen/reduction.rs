//! The reduction to tridiagonal form, a block of columns at a time.

use faer::{Accum, Mat, MatMut, MatRef};
use pulp::{Simd, WithSimd};

use super::columns::{
    Columns, MAX_WHOLE_SIZE, add_columns, split_symmetric_image, symmetric_image,
};
use super::work_matrix::WorkMatrix;
use crate::householder::{BLOCK_REFLECTIONS, apply_block, block_factor, reflect};
use crate::simd::{self, AlignedVec, LANES, padded};
use crate::{Parallelism, RowMatrix, matmul, matmul_lower};

/// The number of columns of a task, in the basis or in the rest of the matrix.
const TASK_COLUMNS: usize = 128;

/// The largest size of a matrix that is a single task.
const MAX_TASK_SIZE: usize = 512;

/// The decomposition `A = Q T Qᵀ` with a tridiagonal T.
pub(super) struct Tridiagonal<'a> {
    /// The diagonal of T.
    pub(super) diagonal: Vec<f64>,
    /// The entries of T beside the diagonal, followed by a zero.
    pub(super) off_diagonal: Vec<f64>,
    /// Column k holds the vector of reflection k below row k, and zeros above it within its block.
    work: &'a mut WorkMatrix,
    /// The factors τ of the reflections.
    factors: Vec<f64>,
    parallelism: Parallelism,
}

impl<'a> Tridiagonal<'a> {
    /// Reduces the lower triangle of `work`.
    pub(super) fn new(work: &'a mut WorkMatrix, parallelism: Parallelism) -> Self {
        let n = work.n;
        let zeros = || vec![0.0; n];
        let mut form =
            Self { diagonal: zeros(), off_diagonal: zeros(), work, factors: zeros(), parallelism };
        for first in (0..n).step_by(BLOCK_REFLECTIONS) {
            form.reduce(first, BLOCK_REFLECTIONS.min(n - first));
        }
        form
    }

    /// Reduces `width` columns and updates the rest of the matrix.
    fn reduce(&mut self, first: usize, width: usize) {
        let (n, stride) = (self.work.n, self.work.stride);
        let mut images = AlignedVec::zeros(stride * width);
        simd::arch().dispatch(BlockReduction { form: self, images: &mut images, first, width });
        let next = first + width;
        if next >= n {
            return;
        }
        // A ← A − [V W] [W V]ᵀ.
        let (vectors, rest) = self.work.values.split_at_mut(next * stride);
        let vectors = &vectors[first * stride..];
        let pick = |lines: &[f64], j: usize, i: usize| lines[j * stride + next + i];
        let factors = [false, true].map(|is_swapped| {
            Mat::from_fn(n - next, 2 * width, |i, j| {
                let lines = if (j < width) == is_swapped { &images } else { vectors };
                pick(lines, j % width, i)
            })
        });
        let [left, right] = factors.each_ref().map(Mat::as_ref);
        let task = if n - next <= MAX_TASK_SIZE { n - next } else { TASK_COLUMNS };
        self.parallelism.for_each_chunk(
            &mut rest[..(n - next) * stride],
            task * stride,
            |index, columns| {
                let start = index * task;
                let (count, below) = (columns.len() / stride, n - next - start);
                let columns =
                    MatMut::from_column_major_slice_with_stride_mut(columns, n, count, stride);
                let (mut diagonal, rest) =
                    columns.subrows_mut(next + start, below).split_at_row_mut(count);
                let right = right.subrows(start, count).transpose();
                let (add, upper) = (Accum::Add, left.subrows(start, count));
                matmul_lower(diagonal.as_mut(), add, upper, right, -1.0);
                matmul(rest, add, left.subrows(start + count, below - count), right, -1.0);
                // The kernels read blocks on the diagonal as a whole.
                for j in 0..count {
                    let end = ((next + start + j) / LANES + 1) * LANES - next - start;
                    for i in j + 1..end.min(count) {
                        diagonal[(j, i)] = diagonal[(i, j)];
                    }
                }
            },
        );
    }

    /// The matrix Q, n × n.
    pub(super) fn basis(&self) -> RowMatrix {
        let (n, stride) = (self.work.n, self.work.stride);
        let all = MatRef::from_column_major_slice_with_stride(
            &self.work.values[..n * stride],
            n,
            n,
            stride,
        );
        let blocks: Vec<_> = (0..n)
            .step_by(BLOCK_REFLECTIONS)
            .map(|first| {
                let width = BLOCK_REFLECTIONS.min(n - first);
                let vectors = all.get(first + 1..n, first..first + width);
                (first + 1, vectors, block_factor(vectors, &self.factors[first..first + width]))
            })
            .collect();
        let mut columns = vec![0.0; n * n];
        for diagonal in columns.iter_mut().step_by(n + 1) {
            *diagonal = 1.0;
        }
        let task = if n <= MAX_TASK_SIZE { n } else { TASK_COLUMNS };
        self.parallelism.for_each_chunk(&mut columns, task * n, |index, columns| {
            let start = index * task;
            let end = start + columns.len() / n;
            let mut block = MatMut::from_column_major_slice_mut(columns, n, end - start);
            for (below, vectors, triangle) in blocks.iter().rev() {
                // The columns before `first` are columns of the identity that stay as they are.
                let first = start.max(*below);
                if first < end {
                    let block = block.as_mut().get_mut(*below.., first - start..);
                    apply_block(*vectors, triangle.as_ref(), block);
                }
            }
        });
        transpose_square(&mut columns, n);
        RowMatrix::new(n, n, columns).expect("n columns of n numbers")
    }
}

/// The reduction of a block of columns. The images W of their reflections are written to `images`,
/// with the stride of A.
struct BlockReduction<'a, 'b> {
    form: &'a mut Tridiagonal<'b>,
    images: &'a mut [f64],
    first: usize,
    width: usize,
}

impl WithSimd for BlockReduction<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { form, images, first, width } = self;
        let (n, stride) = (form.work.n, form.work.stride);
        let len = padded(n);
        for j in 0..width {
            let k = first + j;
            let (before, column) = form.work.values.split_at_mut(k * stride);
            let before = &before[first * stride..];
            let column = &mut column[..len];
            // The earlier reflections of the block update column k.
            let from = k / LANES;
            let mut weights = [[0.0; BLOCK_REFLECTIONS]; 2];
            for i in 0..j {
                weights[0][i] = -images[i * stride + k];
                weights[1][i] = -before[i * stride + k];
            }
            add_columns(simd, Columns { values: before, stride }, &weights[0][..j], column, from);
            add_columns(simd, Columns { values: images, stride }, &weights[1][..j], column, from);
            form.diagonal[k] = column[k];
            // Above its block the column belongs to the original matrix.
            column[first..=k].fill(0.0);
            column[n..].fill(0.0);
            if k + 1 == n {
                break;
            }
            let (factor, beta) = reflect(&mut column[k + 1..n]);
            form.off_diagonal[k] = beta;
            form.factors[k] = factor;
            if factor == 0.0 {
                continue;
            }
            let from = (k + 1) / LANES;
            let (done, image) = images.split_at_mut(j * stride);
            let image = &mut image[..len];
            let vectors = &form.work.values[first * stride..];
            let vector = &form.work.values[k * stride..][..len];
            let matrix = Columns { values: &form.work.values, stride };
            if n - k <= MAX_WHOLE_SIZE {
                symmetric_image(simd, matrix, vector, image, from..len / LANES);
            } else {
                split_symmetric_image(matrix, vector, image, from, form.parallelism);
            }
            let mut sums = [[0.0; BLOCK_REFLECTIONS]; 2];
            for i in 0..j {
                let dot = |lines: &[f64]| {
                    simd::dot(&lines[i * stride..][from * LANES..len], &vector[from * LANES..])
                };
                sums[0][i] = -dot(done);
                sums[1][i] = -dot(vectors);
            }
            add_columns(simd, Columns { values: vectors, stride }, &sums[0][..j], image, from);
            add_columns(simd, Columns { values: done, stride }, &sums[1][..j], image, from);
            image[..=k].fill(0.0);
            for v in &mut *image {
                *v *= factor;
            }
            let component = simd::dot(&image[from * LANES..], &vector[from * LANES..]);
            let weight = [-0.5 * factor * component];
            add_columns(simd, Columns { values: vector, stride }, &weight, image, from);
        }
    }
}

/// The side of the squares that are transposed at once.
const TRANSPOSED_SQUARE: usize = 16;

/// Transposes an n × n matrix in place.
fn transpose_square(values: &mut [f64], n: usize) {
    for top in (0..n).step_by(TRANSPOSED_SQUARE) {
        for left in (top..n).step_by(TRANSPOSED_SQUARE) {
            for i in top..n.min(top + TRANSPOSED_SQUARE) {
                for j in left.max(i + 1)..n.min(left + TRANSPOSED_SQUARE) {
                    values.swap(i * n + j, j * n + i);
                }
            }
        }
    }
}
