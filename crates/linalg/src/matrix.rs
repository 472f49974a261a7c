//! Row-major dense matrices.

use faer::MatRef;

/// A dense matrix stored row by row, such as inputs (one row per sample) or a Jacobian (one row per
/// gradient).
///
/// A matrix of ndarray, nalgebra or faer is copied with
/// `RowMatrix::from_fn(a.nrows(), a.ncols(), |i, j| a[(i, j)])`.
#[derive(Debug, Clone, PartialEq)]
pub struct RowMatrix {
    rows: usize,
    columns: usize,
    values: Vec<f64>,
}

/// The error for a number of values that does not fit the shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a {rows} × {columns} matrix needs {} values, got {values}", rows * columns)]
pub struct ShapeError {
    rows: usize,
    columns: usize,
    values: usize,
}

impl RowMatrix {
    /// A matrix from its values, row by row.
    ///
    /// # Errors
    /// [`ShapeError`] unless `values.len() == rows * columns`.
    pub fn new(rows: usize, columns: usize, values: Vec<f64>) -> Result<Self, ShapeError> {
        if rows.checked_mul(columns) == Some(values.len()) {
            Ok(Self { rows, columns, values })
        } else {
            Err(ShapeError { rows, columns, values: values.len() })
        }
    }

    /// The zero matrix.
    pub fn zeros(rows: usize, columns: usize) -> Self {
        Self { rows, columns, values: vec![0.0; rows * columns] }
    }

    /// The matrix with the entries `entry(i, j)`, which are computed row by row.
    pub fn from_fn(
        rows: usize,
        columns: usize,
        mut entry: impl FnMut(usize, usize) -> f64,
    ) -> Self {
        let mut values = Vec::with_capacity(rows * columns);
        for i in 0..rows {
            values.extend((0..columns).map(|j| entry(i, j)));
        }
        Self { rows, columns, values }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The row `i`.
    ///
    /// # Panics
    /// When `i` is not a row.
    pub fn row(&self, i: usize) -> &[f64] {
        &self.values[i * self.columns..][..self.columns]
    }

    /// The row `i`, mutable.
    ///
    /// # Panics
    /// When `i` is not a row.
    pub fn row_mut(&mut self, i: usize) -> &mut [f64] {
        &mut self.values[i * self.columns..][..self.columns]
    }

    /// All values, row by row.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// All values, row by row, mutable.
    pub fn values_mut(&mut self) -> &mut [f64] {
        &mut self.values
    }

    /// Takes all values, row by row, out of the matrix.
    pub fn into_values(self) -> Vec<f64> {
        self.values
    }

    /// A view as a faer matrix.
    pub fn as_mat(&self) -> MatRef<'_, f64> {
        MatRef::from_row_major_slice(&self.values, self.rows, self.columns)
    }
}

#[cfg(test)]
mod tests {
    use super::RowMatrix;

    #[test]
    fn a_wrong_number_of_values_is_refused() {
        assert!(RowMatrix::new(2, 3, vec![0.0; 6]).is_ok());
        let error = RowMatrix::new(2, 3, vec![0.0; 5]).unwrap_err();
        assert_eq!(error.to_string(), "a 2 × 3 matrix needs 6 values, got 5");
    }

    #[test]
    fn the_view_keeps_rows_as_rows() {
        let matrix = RowMatrix::from_fn(2, 3, |i, j| (10 * i + j) as f64);
        assert_eq!(matrix.row(1), [10.0, 11.0, 12.0]);
        assert_eq!(matrix.as_mat()[(1, 2)].to_bits(), 12.0_f64.to_bits());
    }
}
