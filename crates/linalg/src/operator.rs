//! Symmetric operators that are known by their products.

use std::fmt;

use faer::{MatMut, MatRef};

/// A symmetric linear operator `A` on `R^dim`, known by its products.
///
/// The product with a vector must have the same bits every time, and a block of vectors must give
/// the products of its vectors one by one, to rounding. [`probe`](crate::probe) checks both.
pub trait Operator: Sync {
    /// The dimension of the space.
    fn dim(&self) -> usize;

    /// Writes `A V` to `images`. Both matrices are dim × b; each column is contiguous and holds a
    /// vector.
    ///
    /// # Panics
    /// When the shapes do not fit.
    fn apply(&self, vectors: MatRef<'_, f64>, images: MatMut<'_, f64>);
}

/// An operator given by a closure that writes `A v` to its second argument.
///
/// ```
/// use faer::{Mat, mat};
/// use flatmin_linalg::{FnOperator, Operator as _};
/// let double = FnOperator::new(2, |v: &[f64], image: &mut [f64]| {
///     image.iter_mut().zip(v).for_each(|(image, v)| *image = 2.0 * v);
/// });
/// let mut images = Mat::zeros(2, 1);
/// double.apply(mat![[1.0], [3.0]].as_ref(), images.as_mut());
/// assert_eq!(images, mat![[2.0], [6.0]]);
/// ```
#[derive(Clone, Copy)]
pub struct FnOperator<F> {
    dim: usize,
    apply: F,
}

impl<F: Fn(&[f64], &mut [f64]) + Sync> FnOperator<F> {
    /// The operator on `R^dim` whose products `apply` computes.
    pub fn new(dim: usize, apply: F) -> Self {
        Self { dim, apply }
    }
}

impl<F> fmt::Debug for FnOperator<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnOperator").field("dim", &self.dim).finish_non_exhaustive()
    }
}

impl<F: Fn(&[f64], &mut [f64]) + Sync> Operator for FnOperator<F> {
    fn dim(&self) -> usize {
        self.dim
    }

    fn apply(&self, vectors: MatRef<'_, f64>, images: MatMut<'_, f64>) {
        assert_eq!((vectors.nrows(), images.nrows()), (self.dim, self.dim), "dimension");
        assert_eq!(vectors.ncols(), images.ncols(), "number of vectors");
        for (vector, image) in columns(vectors).into_iter().zip(columns_mut(images)) {
            (self.apply)(vector, image);
        }
    }
}

/// The requirement of [`Operator::apply`] on its matrices.
const CONTIGUOUS: &str = "vectors are contiguous columns";

/// The columns of a block of vectors, as slices.
///
/// # Panics
/// When a column is not contiguous.
pub fn columns(vectors: MatRef<'_, f64>) -> Vec<&[f64]> {
    let contiguous = vectors.col_iter().map(|vector| vector.try_as_col_major().expect(CONTIGUOUS));
    contiguous.map(faer::ColRef::as_slice).collect()
}

/// The columns of a block of images, as mutable slices.
///
/// # Panics
/// When a column is not contiguous.
pub fn columns_mut(images: MatMut<'_, f64>) -> Vec<&mut [f64]> {
    let contiguous =
        images.col_iter_mut().map(|image| image.try_as_col_major_mut().expect(CONTIGUOUS));
    contiguous.map(faer::ColMut::as_slice_mut).collect()
}
