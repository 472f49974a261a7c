//! A Jacobian that is held in memory.

use faer::{Accum, MatMut, MatRef};

use super::{JacobianError, JacobianProducts};
use crate::{Parallelism, RowMatrix, matmul, simd};

/// The number of rows of images that a task computes.
const TASK_ROWS: usize = 512;

/// A Jacobian held in memory, nk × p, row by row and sample by sample.
///
/// ```
/// use faer::{Mat, mat};
/// use flatmin_linalg::{DenseJacobian, JacobianProducts as _, Parallelism, RowMatrix};
/// let matrix = RowMatrix::new(2, 3, vec![1.0, 0.0, 2.0, 0.0, 1.0, 0.0])?;
/// let jacobian = DenseJacobian::new(&matrix, 1, Parallelism::Sequential)?;
/// let mut image = Mat::zeros(2, 1);
/// jacobian.jvp(mat![[1.0], [2.0], [3.0]].as_ref(), image.as_mut())?;
/// assert_eq!(image, mat![[7.0], [2.0]]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct DenseJacobian<'a> {
    matrix: &'a RowMatrix,
    outputs: usize,
    parallelism: Parallelism,
}

impl<'a> DenseJacobian<'a> {
    /// The Jacobian with these rows, `outputs` of them for each sample. Products may use several
    /// cores.
    ///
    /// # Errors
    /// [`JacobianError::Rows`] unless the rows make whole samples; [`JacobianError::Empty`] without
    /// entries.
    pub fn new(
        matrix: &'a RowMatrix,
        outputs: usize,
        parallelism: Parallelism,
    ) -> Result<Self, JacobianError> {
        let (rows, parameters) = (matrix.rows(), matrix.columns());
        if rows == 0 || outputs == 0 || parameters == 0 {
            return Err(JacobianError::Empty { samples: rows, outputs, parameters });
        }
        if !rows.is_multiple_of(outputs) {
            return Err(JacobianError::Rows { rows, outputs });
        }
        Ok(Self { matrix, outputs, parallelism })
    }

    /// Writes `A V` to `images`, in tasks of some rows of A.
    fn multiply(self, a: MatRef<'_, f64>, vectors: MatRef<'_, f64>, images: MatMut<'_, f64>) {
        let mut tasks = Vec::new();
        let (mut rest, mut first) = (images, 0);
        while rest.nrows() > 0 {
            let count = TASK_ROWS.min(rest.nrows());
            let (task, below) = rest.split_at_row_mut(count);
            tasks.push((first, task));
            (rest, first) = (below, first + count);
        }
        self.parallelism.for_each(tasks, |(first, task)| {
            let rows = a.subrows(first, task.nrows());
            matmul(task, Accum::Replace, rows, vectors, 1.0);
        });
    }
}

impl JacobianProducts for DenseJacobian<'_> {
    fn sample_count(&self) -> usize {
        self.matrix.rows() / self.outputs
    }

    fn output_count(&self) -> usize {
        self.outputs
    }

    fn parameter_count(&self) -> usize {
        self.matrix.columns()
    }

    fn jvp(&self, vectors: MatRef<'_, f64>, images: MatMut<'_, f64>) -> Result<(), JacobianError> {
        self.multiply(self.matrix.as_mat(), vectors, images);
        Ok(())
    }

    fn vjp(&self, vectors: MatRef<'_, f64>, images: MatMut<'_, f64>) -> Result<(), JacobianError> {
        self.multiply(self.matrix.as_mat().transpose(), vectors, images);
        Ok(())
    }

    fn sample_grams(&self, grams: &mut [f64]) -> Result<(), JacobianError> {
        let k = self.outputs;
        self.parallelism.for_each_chunk(grams, k * k, |sample, gram| {
            for a in 0..k {
                for b in 0..=a {
                    let row = |output| self.matrix.row(sample * k + output);
                    let value = simd::dot(row(a), row(b));
                    gram[a * k + b] = value;
                    gram[b * k + a] = value;
                }
            }
        });
        Ok(())
    }
}
