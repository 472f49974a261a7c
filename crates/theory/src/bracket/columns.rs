//! Tall matrices in blocks of columns, and their products.

use faer::{Accum, Mat, MatMut, MatRef};
use flatmin_linalg::{Parallelism, RowMatrix, matmul, product};

/// The number of rows that a task works on. Sums over rows are cut here too, so that their order
/// does not depend on the number of threads.
const TASK_ROWS: usize = 2048;

/// A dense matrix stored column by column, which can be serialised.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Columns {
    rows: usize,
    values: Vec<f64>,
}

impl Columns {
    pub(super) fn from_mat(matrix: MatRef<'_, f64>) -> Self {
        let columns = matrix.col_iter();
        Self {
            rows: matrix.nrows(),
            values: columns.flat_map(faer::ColRef::iter).copied().collect(),
        }
    }

    /// The number of rows, and the values column by column.
    pub(super) fn parts(&self) -> (usize, &[f64]) {
        (self.rows, &self.values)
    }

    pub(super) fn of_parts(rows: usize, values: Vec<f64>) -> Self {
        Self { rows, values }
    }

    pub(super) fn count(&self) -> usize {
        self.values.len().checked_div(self.rows).unwrap_or(0)
    }

    /// True without any number, unlike a damaged matrix whose numbers make no whole column.
    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub(super) fn as_mat(&self) -> MatRef<'_, f64> {
        MatRef::from_column_major_slice(&self.values, self.rows, self.count())
    }

    fn as_mat_mut(&mut self) -> MatMut<'_, f64> {
        let count = self.count();
        MatMut::from_column_major_slice_mut(&mut self.values, self.rows, count)
    }

    /// True for a matrix of whole columns, all of finite numbers.
    pub(super) fn is_valid(&self, rows: usize) -> bool {
        self.rows == rows
            && self.values.len().is_multiple_of(rows.max(1))
            && self.values.iter().all(|value| value.is_finite())
    }
}

/// A tall matrix with few columns, in blocks of them.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct TallMatrix {
    rows: usize,
    blocks: Vec<Columns>,
}

impl TallMatrix {
    pub(super) fn new(rows: usize) -> Self {
        Self { rows, blocks: Vec::new() }
    }

    /// The matrix of one block.
    pub(super) fn of(block: Columns) -> Self {
        Self { rows: block.rows, blocks: vec![block] }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// The number of rows, and the blocks.
    pub(super) fn parts(&self) -> (usize, &[Columns]) {
        (self.rows, &self.blocks)
    }

    pub(super) fn count(&self) -> usize {
        self.blocks.iter().map(Columns::count).sum()
    }

    pub(super) fn push(&mut self, block: Columns) {
        self.blocks.push(block);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blocks.iter().all(Columns::is_empty)
    }

    pub(super) fn is_valid(&self) -> bool {
        self.blocks.iter().all(|block| block.is_valid(self.rows))
    }

    /// The blocks, each with the index of its first column.
    fn blocks(&self) -> impl Iterator<Item = (usize, MatRef<'_, f64>)> {
        let mut first = 0;
        self.blocks.iter().map(move |block| {
            let start = first;
            first += block.count();
            (start, block.as_mat())
        })
    }

    /// `Qᵀ V`, for V with as many rows.
    pub(super) fn transposed_times(
        &self,
        vectors: MatRef<'_, f64>,
        parallelism: Parallelism,
    ) -> Mat<f64> {
        let mut sum = Mat::zeros(self.count(), vectors.ncols());
        for (first, block) in self.blocks() {
            let part = inner_products(block, vectors, parallelism);
            sum.as_mut().subrows_mut(first, part.nrows()).copy_from(&part);
        }
        sum
    }

    /// Subtracts `Q C` from `vectors`.
    pub(super) fn subtract_from(
        &self,
        vectors: MatMut<'_, f64>,
        coefficients: MatRef<'_, f64>,
        parallelism: Parallelism,
    ) {
        parallelism.for_each(row_tasks(vectors), |(start, mut task)| {
            for (first, block) in self.blocks() {
                let a = block.subrows(start, task.nrows());
                let b = coefficients.subrows(first, block.ncols());
                matmul(task.as_mut(), Accum::Add, a, b, -1.0);
            }
        });
    }

    /// The rows of `Q C`, plus those of `N D` for one more block N.
    pub(super) fn combined_rows(
        &self,
        coefficients: MatRef<'_, f64>,
        extra: Option<(MatRef<'_, f64>, MatRef<'_, f64>)>,
        parallelism: Parallelism,
    ) -> RowMatrix {
        let width = coefficients.ncols();
        let mut out = RowMatrix::zeros(self.rows, width);
        if width == 0 {
            return out;
        }
        parallelism.for_each_chunk(out.values_mut(), TASK_ROWS * width, |index, values| {
            let (start, count) = (index * TASK_ROWS, values.len() / width);
            let mut task = MatMut::from_row_major_slice_mut(values, count, width);
            for (first, block) in self.blocks() {
                let a = block.subrows(start, count);
                let b = coefficients.subrows(first, block.ncols());
                matmul(task.as_mut(), Accum::Add, a, b, 1.0);
            }
            if let Some((block, coefficients)) = extra {
                matmul(task, Accum::Add, block.subrows(start, count), coefficients, 1.0);
            }
        });
        out
    }

    /// Replaces Q by `Q S`, with at most as many columns.
    pub(super) fn rotate(&mut self, rotation: MatRef<'_, f64>, parallelism: Parallelism) {
        let starts: Vec<usize> = self.blocks().map(|(first, _)| first).collect();
        let mut kept = rotation.ncols();
        let widths: Vec<usize> = self.blocks.iter().map(Columns::count).collect();
        // Every task owns the same rows of all blocks.
        let task_count = self.rows.div_ceil(TASK_ROWS);
        let mut tasks: Vec<Vec<MatMut<'_, f64>>> = (0..task_count).map(|_| Vec::new()).collect();
        for block in &mut self.blocks {
            for (task, (_, rows)) in tasks.iter_mut().zip(row_tasks(block.as_mat_mut())) {
                task.push(rows);
            }
        }
        parallelism.for_each(tasks, |mut task| {
            let count = task[0].nrows();
            let mut rotated = Mat::<f64>::zeros(count, rotation.ncols());
            for (first, block) in starts.iter().zip(&task) {
                let b = rotation.subrows(*first, block.ncols());
                matmul(rotated.as_mut(), Accum::Add, block.as_ref(), b, 1.0);
            }
            for (first, block) in starts.iter().zip(&mut task) {
                let width = block.ncols().min(rotation.ncols().saturating_sub(*first));
                let target = block.as_mut().subcols_mut(0, width);
                let first = (*first).min(rotation.ncols());
                { target }.copy_from(rotated.subcols(first, width));
            }
        });
        for (block, width) in self.blocks.iter_mut().zip(widths) {
            let left = width.min(kept);
            block.values.truncate(left * block.rows);
            block.values.shrink_to_fit();
            kept -= left;
        }
        self.blocks.retain(|block| !block.values.is_empty());
    }
}

/// `Aᵀ B` for two tall matrices, summed in tasks of rows in their order.
pub(super) fn inner_products(
    a: MatRef<'_, f64>,
    b: MatRef<'_, f64>,
    parallelism: Parallelism,
) -> Mat<f64> {
    let starts = (0..a.nrows()).step_by(TASK_ROWS).collect();
    let parts = parallelism.map(starts, |start| {
        let count = TASK_ROWS.min(a.nrows() - start);
        product(a.subrows(start, count).transpose(), b.subrows(start, count))
    });
    let mut sum = Mat::zeros(a.ncols(), b.ncols());
    for part in parts {
        sum += part;
    }
    sum
}

/// Cuts a matrix into tasks of rows, each with the index of its first row.
fn row_tasks(matrix: MatMut<'_, f64>) -> Vec<(usize, MatMut<'_, f64>)> {
    let (mut rest, mut first, mut tasks) = (matrix, 0, Vec::new());
    while rest.nrows() > 0 {
        let count = TASK_ROWS.min(rest.nrows());
        let (task, below) = rest.split_at_row_mut(count);
        tasks.push((first, task));
        (rest, first) = (below, first + count);
    }
    tasks
}

#[cfg(test)]
mod tests {
    use faer::Mat;
    use flatmin_linalg::{Parallelism, product};

    use super::{Columns, TallMatrix};

    fn entry(i: usize, j: usize) -> f64 {
        ((i * 7919 + j * 104_729) % 1009) as f64 / 504.3 - 1.0
    }

    #[test]
    fn blocks_act_as_one_matrix_on_any_number_of_threads() {
        let whole = Mat::from_fn(5000, 11, entry);
        let mut tall = TallMatrix::new(5000);
        for (first, width) in [(0, 4), (4, 2), (6, 5)] {
            tall.push(Columns::from_mat(whole.subcols(first, width)));
        }
        let vectors = Mat::from_fn(5000, 3, |i, j| entry(j, i + 1));
        let small = Mat::from_fn(11, 7, |i, j| entry(i + 3, j));
        let close = |a: &Mat<f64>, b: &Mat<f64>| (a - b).norm_max() < 1e-10;
        let mut results = Vec::new();
        for parallelism in [Parallelism::Sequential, Parallelism::Rayon] {
            let inner = tall.transposed_times(vectors.as_ref(), parallelism);
            assert!(close(&inner, &product(whole.transpose(), vectors.as_ref())));
            let mut rest = Mat::from_fn(5000, 7, |i, j| entry(i, j + 2));
            let expected = &rest - product(whole.as_ref(), small.as_ref());
            tall.subtract_from(rest.as_mut(), small.as_ref(), parallelism);
            assert!(close(&rest, &expected));
            let mut rotated = tall.clone();
            rotated.rotate(small.as_ref(), parallelism);
            assert_eq!(rotated.count(), 7);
            let identity = Mat::<f64>::identity(7, 7);
            let rows = rotated.combined_rows(identity.as_ref(), None, parallelism);
            assert!(close(&rows.as_mat().to_owned(), &product(whole.as_ref(), small.as_ref())));
            results.push((inner, rest, rotated));
        }
        assert_eq!(results[0], results[1]);
    }
}
