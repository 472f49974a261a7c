//! Counted and checked products of an operator, and the random vectors they are asked for.

use faer::{Accum, ColRef, Mat, MatMut, MatRef};
use rand::Rng;
use rand_distr::{Distribution as _, StandardNormal};

use super::EstimateError;
use crate::{Operator, PowerOfTwo, columns, columns_mut, matmul, product, simd, thin_qr};

/// Vectors of one call of [`Operator::apply`] at most, which bounds the memory an operator needs.
pub(crate) const BLOCK: usize = 32;

/// The products of `2^{−e} A`, with e chosen at the first product so that images are near one and
/// their squares and fourth powers can neither overflow nor vanish. The scaling is exact.
#[derive(Debug)]
pub(crate) struct Products<'a, O: ?Sized> {
    operator: &'a O,
    unit: Option<PowerOfTwo>,
    used: usize,
}

impl<'a, O: Operator + ?Sized> Products<'a, O> {
    pub(crate) fn new(operator: &'a O) -> Self {
        Self { operator, unit: None, used: 0 }
    }

    pub(crate) fn dim(&self) -> usize {
        self.operator.dim()
    }

    /// Products used so far.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// The power of two 2^e by which results that are linear in A are multiplied at the end.
    pub(crate) fn unit(&self) -> PowerOfTwo {
        self.unit.unwrap_or_default()
    }

    /// The images of the columns of `vectors`.
    pub(crate) fn of(&mut self, vectors: MatRef<'_, f64>) -> Result<Mat<f64>, EstimateError> {
        let mut images = Mat::zeros(vectors.nrows(), vectors.ncols());
        for first in (0..vectors.ncols()).step_by(BLOCK) {
            let width = BLOCK.min(vectors.ncols() - first);
            let mut block = images.as_mut().subcols_mut(first, width);
            self.operator.apply(vectors.subcols(first, width), block.as_mut());
            for (j, column) in columns(block.as_ref()).into_iter().enumerate() {
                // Nearly always, and without branches.
                if column.iter().fold(true, |all, v| all & v.is_finite()) {
                    continue;
                }
                if let Some((row, &value)) = column.iter().enumerate().find(|(_, v)| !v.is_finite())
                {
                    return Err(EstimateError::NotFinite { product: self.used + j, row, value });
                }
            }
            self.used += width;
        }
        if self.unit.is_none() {
            self.unit = PowerOfTwo::of_largest(images.col_iter().flat_map(ColRef::iter));
        }
        if self.unit().exponent() != 0 {
            let inverse = self.unit().inverse();
            for value in columns_mut(images.as_mut()).into_iter().flatten() {
                *value = inverse.times(*value);
            }
        }
        Ok(images)
    }

    /// The images of the unit vectors `first..first + count`.
    pub(crate) fn of_axes(
        &mut self,
        first: usize,
        count: usize,
    ) -> Result<Mat<f64>, EstimateError> {
        let axis = |i: usize, j: usize| if i == first + j { 1.0 } else { 0.0 };
        self.of(Mat::from_fn(self.dim(), count, axis).as_ref())
    }
}

/// `dim × count` independent standard normal numbers, drawn vector by vector.
pub(crate) fn gaussian(dim: usize, count: usize, rng: &mut impl Rng) -> Mat<f64> {
    let mut vectors = Mat::zeros(dim, count);
    for column in columns_mut(vectors.as_mut()) {
        for value in column {
            *value = StandardNormal.sample(&mut *rng);
        }
    }
    vectors
}

/// `AᵀB`.
pub(crate) fn inner(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    product(a.transpose(), b)
}

/// Adds `factor · A B` to `sum`.
pub(crate) fn add_product(
    sum: MatMut<'_, f64>,
    factor: f64,
    a: MatRef<'_, f64>,
    b: MatRef<'_, f64>,
) {
    matmul(sum, Accum::Add, a, b, factor);
}

/// Takes the components along the orthonormal columns of `basis` out of `vectors`, twice, after
/// which they are orthogonal to rounding.
pub(crate) fn project_out(basis: MatRef<'_, f64>, mut vectors: MatMut<'_, f64>) {
    for _ in 0..2 {
        let components = inner(basis, vectors.as_ref());
        add_product(vectors.as_mut(), -1.0, basis, components.as_ref());
    }
}

/// The squared norm of column `j`.
pub(crate) fn norm_squared(matrix: MatRef<'_, f64>, j: usize) -> f64 {
    match matrix.col(j).try_as_col_major() {
        Some(column) => simd::norm_squared(column.as_slice()),
        None => matrix.col(j).iter().map(|v| v * v).sum(),
    }
}

/// The inner product of columns `j` of two matrices.
pub(crate) fn dot(a: MatRef<'_, f64>, b: MatRef<'_, f64>, j: usize) -> f64 {
    match (a.col(j).try_as_col_major(), b.col(j).try_as_col_major()) {
        (Some(a), Some(b)) => simd::dot(a.as_slice(), b.as_slice()),
        _ => a.col(j).iter().zip(b.col(j).iter()).map(|(a, b)| a * b).sum(),
    }
}

/// Multiplies column `j` by `factor`.
pub(crate) fn scale_column(mut matrix: MatMut<'_, f64>, j: usize, factor: f64) {
    for column in columns_mut(matrix.as_mut().subcols_mut(j, 1)) {
        for value in column {
            *value *= factor;
        }
    }
}

/// An orthonormal basis (thin, by Householder reflections) of a space that holds the columns of
/// `vectors`, with the triangular factor. Needs no more columns than rows.
pub(crate) fn orthonormal(vectors: MatRef<'_, f64>) -> (Mat<f64>, Mat<f64>) {
    thin_qr(vectors)
}
