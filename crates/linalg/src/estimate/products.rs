//! Counted and checked products of an operator, and the random vectors they are applied to.

use faer::{Accum, ColRef, Mat, MatMut, MatRef};
use rand::Rng;
use rand_distr::{Distribution as _, StandardNormal};

use super::error::EstimateError;
use crate::{Operator, PowerOfTwo, columns, columns_mut, matmul, product, simd, thin_qr};

/// The largest number of vectors in one call of [`Operator::apply`], which bounds the memory that
/// an operator needs.
pub(crate) const MAX_VECTORS: usize = 32;

/// The products of `2^{−e} A`. The exponent e is chosen at the first product so that images are
/// near one and their squares and fourth powers can neither overflow nor vanish. The scaling is
/// exact.
#[derive(Debug)]
pub(crate) struct Products<'a, O: ?Sized> {
    operator: &'a O,
    unit: Option<PowerOfTwo>,
    /// The number of products used so far.
    pub(crate) used: usize,
}

impl<'a, O: Operator + ?Sized> Products<'a, O> {
    /// The products of `operator`, of which at most `max_products` are going to be used.
    ///
    /// # Errors
    /// [`EstimateError`] when the dimension or `max_products` is zero.
    pub(crate) fn new(operator: &'a O, max_products: usize) -> Result<Self, EstimateError> {
        match (operator.dim(), max_products) {
            (0, _) => Err(EstimateError::Empty),
            (_, 0) => Err(EstimateError::NoProducts),
            _ => Ok(Self { operator, unit: None, used: 0 }),
        }
    }

    pub(crate) fn dim(&self) -> usize {
        self.operator.dim()
    }

    /// The power of two by which results that are linear in A are multiplied at the end.
    pub(crate) fn unit(&self) -> PowerOfTwo {
        self.unit.unwrap_or_default()
    }

    /// The images of the columns of `vectors`.
    pub(crate) fn of(&mut self, vectors: MatRef<'_, f64>) -> Result<Mat<f64>, EstimateError> {
        let mut images = Mat::zeros(vectors.nrows(), vectors.ncols());
        for first in (0..vectors.ncols()).step_by(MAX_VECTORS) {
            let width = MAX_VECTORS.min(vectors.ncols() - first);
            let mut block = images.as_mut().subcols_mut(first, width);
            self.operator.apply(vectors.subcols(first, width), block.as_mut());
            for (j, column) in columns(block.as_ref()).into_iter().enumerate() {
                if let Some((row, value)) = first_not_finite(column) {
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

    /// Writes the image of one vector to `image`.
    pub(crate) fn apply(&mut self, vector: &[f64], image: &mut [f64]) -> Result<(), EstimateError> {
        let images = self.of(MatRef::from_column_major_slice(vector, vector.len(), 1))?;
        image.copy_from_slice(images.col_as_slice(0));
        Ok(())
    }

    /// The sum of `term(i, A e_i)` over all unit vectors `e_i`.
    pub(super) fn sum_over_axes(
        &mut self,
        term: impl Fn(usize, &[f64]) -> f64,
    ) -> Result<f64, EstimateError> {
        let dim = self.dim();
        let mut sum = 0.0;
        for first in (0..dim).step_by(MAX_VECTORS) {
            let count = MAX_VECTORS.min(dim - first);
            let axis = |i: usize, j: usize| if i == first + j { 1.0 } else { 0.0 };
            let images = self.of(Mat::from_fn(dim, count, axis).as_ref())?;
            sum += (0..count).map(|j| term(first + j, images.col_as_slice(j))).sum::<f64>();
        }
        Ok(sum)
    }

    /// An orthonormal basis of the images of `count` random vectors, dim × `count`.
    pub(super) fn random_range(
        &mut self,
        count: usize,
        rng: &mut impl Rng,
    ) -> Result<Mat<f64>, EstimateError> {
        if count == 0 {
            return Ok(Mat::zeros(self.dim(), 0));
        }
        let images = self.of(gaussian(self.dim(), count, rng).as_ref())?;
        Ok(thin_qr(images.as_ref()).0)
    }
}

/// The first entry that is not finite, with its index.
pub(crate) fn first_not_finite(values: &[f64]) -> Option<(usize, f64)> {
    // Nearly always true, and without branches.
    if values.iter().fold(true, |all, v| all & v.is_finite()) {
        return None;
    }
    values.iter().copied().enumerate().find(|(_, v)| !v.is_finite())
}

/// A `dim × count` matrix of independent standard normal numbers, drawn vector by vector.
pub(crate) fn gaussian(dim: usize, count: usize, rng: &mut impl Rng) -> Mat<f64> {
    let mut vectors = Mat::zeros(dim, count);
    for value in columns_mut(vectors.as_mut()).into_iter().flatten() {
        *value = StandardNormal.sample(&mut *rng);
    }
    vectors
}

/// Independent random vectors, uniform on the sphere of radius √d in the complement of the
/// orthonormal columns of `basis`, which has dimension d.
pub(super) fn spherical(basis: MatRef<'_, f64>, count: usize, rng: &mut impl Rng) -> Mat<f64> {
    let mut vectors = gaussian(basis.nrows(), count, rng);
    project_out(basis, vectors.as_mut());
    let radius = ((basis.nrows() - basis.ncols()) as f64).sqrt();
    for column in columns_mut(vectors.as_mut()) {
        scale(radius / simd::norm_squared(column).sqrt(), column);
    }
    vectors
}

/// The product `AᵀB`.
pub(crate) fn inner(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    product(a.transpose(), b)
}

/// Removes the components along the orthonormal columns of `basis` from `vectors`. Two passes make
/// them orthogonal to rounding.
pub(super) fn project_out(basis: MatRef<'_, f64>, mut vectors: MatMut<'_, f64>) {
    for _ in 0..2 {
        let components = inner(basis, vectors.as_ref());
        matmul(vectors.as_mut(), Accum::Add, basis, components.as_ref(), -1.0);
    }
}

/// The squared norms of the columns, in order.
pub(super) fn norms_squared(matrix: MatRef<'_, f64>) -> impl Iterator<Item = f64> {
    columns(matrix).into_iter().map(simd::norm_squared)
}

/// The inner products of the columns of two matrices, pair by pair.
pub(super) fn dots(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> impl Iterator<Item = f64> {
    columns(a).into_iter().zip(columns(b)).map(|(a, b)| simd::dot(a, b))
}

/// Multiplies a vector by `factor`.
pub(super) fn scale(factor: f64, vector: &mut [f64]) {
    for value in vector {
        *value *= factor;
    }
}
