//! The storage of a symmetric eigenproblem.

use faer::MatRef;

use crate::PowerOfTwo;
use crate::householder::BLOCK_REFLECTIONS;
use crate::simd::{AlignedVec, LANES, padded};

/// One square array that holds a symmetric matrix twice.
///
/// The upper triangle is the original matrix. The lower triangle is the matrix times a power of
/// two, and is overwritten by the decomposition.
#[derive(Debug)]
pub(crate) struct WorkMatrix {
    /// The columns, padded with zeros.
    pub(super) values: AlignedVec,
    pub(super) n: usize,
    /// The distance between the starts of two columns.
    pub(super) stride: usize,
    /// The blocks on the diagonal of the original matrix, [`BLOCK_REFLECTIONS`] wide, column by
    /// column. The decomposition overwrites both triangles of its own blocks.
    blocks: Vec<f64>,
    /// The trace `Σ a_ii` of the scaled matrix.
    pub(super) trace: f64,
    /// The squared Frobenius norm `Σ a_ij²` of the scaled matrix.
    pub(super) squares: f64,
}

impl WorkMatrix {
    /// Reads the lower triangle of `matrix` and multiplies it by `unit`.
    pub(super) fn new(matrix: MatRef<'_, f64>, unit: PowerOfTwo) -> Self {
        let n = matrix.nrows();
        // Columns whose distance is a power of two would evict each other from the caches.
        let stride = padded(n) + if padded(n).is_multiple_of(512) { LANES } else { 0 };
        let mut values = AlignedVec::zeros(stride * padded(n));
        let mut blocks = vec![0.0; n * BLOCK_REFLECTIONS];
        let (mut trace, mut squares) = (0.0, 0.0);
        for j in 0..n {
            let first = j / BLOCK_REFLECTIONS * BLOCK_REFLECTIONS;
            let end = (first + BLOCK_REFLECTIONS).min(n);
            let mut below = 0.0;
            for i in j..n {
                let value = matrix[(i, j)];
                let scaled = unit.times(value);
                if i == j {
                    trace += scaled;
                    squares += scaled * scaled;
                } else {
                    below += scaled * scaled;
                }
                values[j * stride + i] = scaled;
                if i < end {
                    // The block on the diagonal belongs to the decomposition.
                    values[i * stride + j] = scaled;
                    blocks[j * BLOCK_REFLECTIONS + i - first] = value;
                    blocks[i * BLOCK_REFLECTIONS + j - first] = value;
                } else {
                    values[i * stride + j] = value;
                }
            }
            squares += 2.0 * below;
        }
        Self { values, n, stride, blocks, trace, squares }
    }

    /// Ends the decomposition and completes the original matrix, see
    /// [`original_lower`](Self::original_lower).
    pub(super) fn restore(&mut self) {
        for (j, block) in self.blocks.chunks_exact(BLOCK_REFLECTIONS).enumerate() {
            let first = j / BLOCK_REFLECTIONS * BLOCK_REFLECTIONS;
            let rows = first..self.n.min(first + BLOCK_REFLECTIONS);
            let count = rows.len();
            self.values[j * self.stride..][rows].copy_from_slice(&block[..count]);
        }
    }

    /// The original matrix after [`restore`](Self::restore). Only its lower triangle is meaningful.
    pub(super) fn original_lower(&self) -> MatRef<'_, f64> {
        let values = &self.values[..self.n * self.stride];
        MatRef::from_column_major_slice_with_stride(values, self.n, self.n, self.stride).transpose()
    }
}
