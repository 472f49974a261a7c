//! Second moments as roots, side by side.

use faer::{Accum, Mat, MatRef};
use flatmin_linalg::{matmul, matmul_lower, symmetric_eigen};

use crate::ThresholdError;

/// The share of second moments that is left out of their roots.
const LEFT_OUT: f64 = 1e-7;

/// Several second moments, as roots side by side.
#[derive(Debug, Clone)]
pub(super) struct Blocks {
    pub(super) roots: Mat<f64>,
    /// The column at which each root ends.
    pub(super) ends: Vec<usize>,
}

impl Blocks {
    /// Blocks of `side` rows; roots of positions alone get velocities of zero.
    pub(super) fn new(side: usize, roots: &[Mat<f64>]) -> Self {
        let mut ends = Vec::new();
        let mut columns = 0;
        for root in roots {
            columns += root.ncols();
            ends.push(columns);
        }
        let mut all = Mat::zeros(side, columns);
        for (root, end) in roots.iter().zip(&ends) {
            all.get_mut(..root.nrows(), end - root.ncols()..*end).copy_from(root);
        }
        Self { roots: all, ends }
    }

    /// Adds the second moments of each block, times a weight, to the lower triangles of sums.
    pub(super) fn add_moments(&self, weight: f64, sums: &mut [Mat<f64>]) {
        for (sum, range) in sums.iter_mut().zip(self.ranges()) {
            let root = self.roots.get(.., range);
            matmul_lower(sum.as_mut(), Accum::Add, root, root.transpose(), weight);
        }
    }

    /// The columns of each root.
    pub(super) fn ranges(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| start..*end)
    }

    /// The inner products of these blocks with others, whose roots are `states`.
    pub(super) fn products(&self, states: MatRef<'_, f64>, ends: &[usize]) -> Mat<f64> {
        let mut all = Mat::zeros(self.roots.ncols(), states.ncols());
        matmul(all.as_mut(), Accum::Replace, self.roots.transpose(), states, 1.0);
        let mut products = Mat::zeros(self.ends.len(), ends.len());
        for (a, rows) in self.ranges().enumerate() {
            let mut start = 0;
            for (b, end) in ends.iter().enumerate() {
                products[(a, b)] = all.get(rows.clone(), start..*end).squared_norm_l2();
                start = *end;
            }
        }
        products
    }
}

/// Copies the lower triangle to the upper one.
pub(super) fn mirror(matrix: &mut Mat<f64>) {
    for column in 0..matrix.ncols() {
        for row in 0..column {
            matrix[(row, column)] = matrix[(column, row)];
        }
    }
}

/// A root of a matrix whose lower triangle is given, of trace 1.
pub(super) fn root_of(moments: &Mat<f64>) -> Result<Mat<f64>, ThresholdError> {
    let eigen = symmetric_eigen(moments.as_ref())?;
    let trace: f64 = eigen.values.iter().map(|value| value.max(0.0)).sum();
    let mut left_out = 0.0;
    let first = eigen.values.iter().position(|value| {
        left_out += value.max(0.0);
        left_out > LEFT_OUT * trace
    });
    let first = first.unwrap_or(0);
    Ok(Mat::from_fn(moments.nrows(), eigen.values.len() - first, |row, column| {
        let share = eigen.values[first + column].max(0.0) / trace;
        share.sqrt() * eigen.vectors[(row, first + column)]
    }))
}
