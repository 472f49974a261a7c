//! Jacobians that are known by their products.

mod closures;
mod dense;
mod probe;

use faer::{Mat, MatMut, MatRef};

pub use self::closures::FnJacobian;
pub use self::dense::DenseJacobian;
pub use self::probe::{JacobianProbe, probe_jacobian};
use crate::estimate::products::first_not_finite;

/// The Jacobian `J` of the outputs of n samples, known by its products. It is never formed.
///
/// A sample has k outputs and the model p parameters. Row `i·k + a` of J (nk × p) is the gradient
/// of output a at sample i. The block `J_i` of sample i is k × p.
///
/// A product must have the same bits every time, and a block of vectors must give the products of
/// its vectors one by one, to rounding. [`probe_jacobian`] checks this, and that the three methods
/// describe one matrix. Since products are sums over samples, samples may be held by several
/// processes.
pub trait JacobianProducts: Sync {
    /// The number n of samples.
    fn sample_count(&self) -> usize;

    /// The number k of outputs of each sample.
    fn output_count(&self) -> usize;

    /// The number p of parameters.
    fn parameter_count(&self) -> usize;

    /// Writes `J V` to `images` (nk × b) for the columns of `vectors` (p × b). Columns of both are
    /// contiguous.
    ///
    /// # Errors
    /// [`JacobianError::Failed`] when the product cannot be computed.
    fn jvp(&self, vectors: MatRef<'_, f64>, images: MatMut<'_, f64>) -> Result<(), JacobianError>;

    /// Writes `Jᵀ U` to `images` (p × b) for the columns of `vectors` (nk × b). Columns of both are
    /// contiguous.
    ///
    /// # Errors
    /// [`JacobianError::Failed`] when the product cannot be computed.
    fn vjp(&self, vectors: MatRef<'_, f64>, images: MatMut<'_, f64>) -> Result<(), JacobianError>;

    /// Writes the k × k matrices `J_i J_iᵀ` of all samples to `grams`, one after the other, row by
    /// row: nk² numbers.
    ///
    /// # Errors
    /// [`JacobianError::Failed`] when they cannot be computed.
    fn sample_grams(&self, grams: &mut [f64]) -> Result<(), JacobianError>;

    /// Writes `J Jᵀ U` to `images` (nk × b) for the columns of `vectors` (nk × b). Columns of both
    /// are contiguous. The products `Jᵀ U` must be finite.
    ///
    /// The default multiplies with the transpose and then with J. Where J is read in blocks of
    /// columns, one reading serves both: the product is the sum of `C (CᵀU)` over the blocks C.
    ///
    /// # Errors
    /// [`JacobianError::NotFinite`], and the errors of [`vjp`](Self::vjp) and [`jvp`](Self::jvp).
    fn gram_product(
        &self,
        vectors: MatRef<'_, f64>,
        images: MatMut<'_, f64>,
    ) -> Result<(), JacobianError> {
        let mut back = Mat::zeros(self.parameter_count(), vectors.ncols());
        self.finite_vjp(vectors, back.as_mut())?;
        self.jvp(back.as_ref(), images)
    }

    /// The number nk of rows of J.
    fn row_count(&self) -> usize {
        self.sample_count() * self.output_count()
    }

    /// [`jvp`](Self::jvp), with every entry checked.
    ///
    /// # Errors
    /// [`JacobianError::NotFinite`] for NaN or infinity, and the errors of [`jvp`](Self::jvp).
    fn finite_jvp(
        &self,
        vectors: MatRef<'_, f64>,
        mut images: MatMut<'_, f64>,
    ) -> Result<(), JacobianError> {
        self.jvp(vectors, images.as_mut())?;
        check_finite(JacobianProduct::Jvp, images.as_ref())
    }

    /// [`gram_product`](Self::gram_product), with every entry checked.
    ///
    /// # Errors
    /// [`JacobianError::NotFinite`] for NaN or infinity, and the errors of
    /// [`gram_product`](Self::gram_product).
    fn finite_gram_product(
        &self,
        vectors: MatRef<'_, f64>,
        mut images: MatMut<'_, f64>,
    ) -> Result<(), JacobianError> {
        self.gram_product(vectors, images.as_mut())?;
        check_finite(JacobianProduct::Jvp, images.as_ref())
    }

    /// [`vjp`](Self::vjp), with every entry checked.
    ///
    /// # Errors
    /// [`JacobianError::NotFinite`] for NaN or infinity, and the errors of [`vjp`](Self::vjp).
    fn finite_vjp(
        &self,
        vectors: MatRef<'_, f64>,
        mut images: MatMut<'_, f64>,
    ) -> Result<(), JacobianError> {
        self.vjp(vectors, images.as_mut())?;
        check_finite(JacobianProduct::Vjp, images.as_ref())
    }
}

/// Passes every product on to the Jacobian behind a pointer.
macro_rules! jacobian_behind {
    ($pointer:ty) => {
        impl<J: JacobianProducts + ?Sized> JacobianProducts for $pointer {
            fn sample_count(&self) -> usize {
                (**self).sample_count()
            }

            fn output_count(&self) -> usize {
                (**self).output_count()
            }

            fn parameter_count(&self) -> usize {
                (**self).parameter_count()
            }

            fn jvp(
                &self,
                vectors: MatRef<'_, f64>,
                images: MatMut<'_, f64>,
            ) -> Result<(), JacobianError> {
                (**self).jvp(vectors, images)
            }

            fn vjp(
                &self,
                vectors: MatRef<'_, f64>,
                images: MatMut<'_, f64>,
            ) -> Result<(), JacobianError> {
                (**self).vjp(vectors, images)
            }

            fn gram_product(
                &self,
                vectors: MatRef<'_, f64>,
                images: MatMut<'_, f64>,
            ) -> Result<(), JacobianError> {
                (**self).gram_product(vectors, images)
            }

            fn sample_grams(&self, grams: &mut [f64]) -> Result<(), JacobianError> {
                (**self).sample_grams(grams)
            }
        }
    };
}

jacobian_behind!(&J);
jacobian_behind!(Box<J>);

/// The methods of [`JacobianProducts`] that compute numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JacobianProduct {
    /// The products `J V`.
    Jvp,
    /// The products `Jᵀ U`.
    Vjp,
    /// The matrices `J_i J_iᵀ`.
    SampleGrams,
}

impl std::fmt::Display for JacobianProduct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Jvp => "J v",
            Self::Vjp => "Jᵀ u",
            Self::SampleGrams => "J_i J_iᵀ",
        })
    }
}

/// The reason why products cannot be used as those of a Jacobian.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JacobianError {
    /// There are no samples, outputs or parameters.
    #[error(
        "a Jacobian of {samples} samples with {outputs} outputs and {parameters} parameters has no \
         entry"
    )]
    Empty {
        /// The number of samples.
        samples: usize,
        /// The number of outputs.
        outputs: usize,
        /// The number of parameters.
        parameters: usize,
    },
    /// The rows of a matrix cannot be divided evenly among the outputs of the samples.
    #[error("{rows} rows are not {outputs} outputs for every sample")]
    Rows {
        /// The number of rows.
        rows: usize,
        /// The number of outputs of each sample.
        outputs: usize,
    },
    /// A product failed.
    #[error("the product {product} failed")]
    Failed {
        /// The product.
        product: JacobianProduct,
        /// Its own error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An entry of a product is NaN or infinite.
    #[error("entry {row} of a product {product} is {value}, expected a finite number")]
    NotFinite {
        /// The product.
        product: JacobianProduct,
        /// The row of the first such entry; for the matrices of samples its index among all.
        row: usize,
        /// Its value.
        value: f64,
    },
    /// The product with a combination is not the combination of products.
    #[error("the product {product} is not linear: its relative defect is {defect:.1e}, expected at most {limit:e}", limit = probe::MAX_DEFECT)]
    NotLinear {
        /// The product.
        product: JacobianProduct,
        /// The relative defect.
        defect: f64,
    },
    /// The product with a block of vectors differs from the product with one of them.
    #[error("the product {product} with a block of vectors differs from that with one of them by a relative {defect:.1e}, expected at most {limit:e}", limit = probe::MAX_DEFECT)]
    BlockDiffers {
        /// The product.
        product: JacobianProduct,
        /// The relative difference.
        defect: f64,
    },
    /// The two products belong to different matrices.
    #[error(
        "the products J v and Jᵀ u are not adjoint: uᵀ(J v) is {forward:e} and (Jᵀu)ᵀv is \
         {backward:e}, a relative {defect:.1e} apart"
    )]
    NotAdjoint {
        /// `uᵀ(J v)`.
        forward: f64,
        /// `(Jᵀu)ᵀ v`.
        backward: f64,
        /// Their difference relative to the norms of the products.
        defect: f64,
    },
    /// A matrix `J_i J_iᵀ` is not the one that the products give.
    #[error(
        "entry ({row}, {column}) of J_i J_iᵀ of sample {sample} is {given:e}, and products with Jᵀ \
         give {expected:e}"
    )]
    GramDiffers {
        /// The sample i.
        sample: usize,
        /// The row of the entry that differs most.
        row: usize,
        /// Its column.
        column: usize,
        /// Its value.
        given: f64,
        /// The inner product of two rows of `J_i` according to products.
        expected: f64,
    },
}

/// Checks every entry of a block of images.
fn check_finite(product: JacobianProduct, images: MatRef<'_, f64>) -> Result<(), JacobianError> {
    for column in crate::columns(images) {
        if let Some((row, value)) = first_not_finite(column) {
            return Err(JacobianError::NotFinite { product, row, value });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Parallelism, RowMatrix};

    /// One sample with two outputs, whose gradients are (1, 2, 3) and (4, 5, 6). The products are
    /// calculated by hand.
    fn check(jacobian: &impl JacobianProducts) {
        assert_eq!((jacobian.sample_count(), jacobian.output_count()), (1, 2));
        assert_eq!((jacobian.parameter_count(), jacobian.row_count()), (3, 2));
        let vector = |values: &[f64]| Mat::from_fn(values.len(), 1, |i, _| values[i]);
        let mut image = Mat::zeros(2, 1);
        jacobian.jvp(vector(&[1.0, 0.0, -2.0]).as_ref(), image.as_mut()).unwrap();
        assert_eq!(image, vector(&[-5.0, -8.0]));
        jacobian.gram_product(vector(&[1.0, -1.0]).as_ref(), image.as_mut()).unwrap();
        assert_eq!(image, vector(&[-18.0, -45.0]));
        let mut back = Mat::zeros(3, 1);
        jacobian.vjp(vector(&[1.0, -1.0]).as_ref(), back.as_mut()).unwrap();
        assert_eq!(back, vector(&[-3.0, -3.0, -3.0]));
        let mut grams = vec![0.0; 4];
        jacobian.sample_grams(&mut grams).unwrap();
        assert_eq!(grams, [14.0, 32.0, 32.0, 77.0]);
    }

    #[test]
    fn a_jacobian_behind_a_pointer_has_its_sizes_and_products() {
        let matrix = RowMatrix::from_fn(2, 3, |i, j| (3 * i + j + 1) as f64);
        let dense = DenseJacobian::new(&matrix, 2, Parallelism::Sequential).unwrap();
        check(&dense);
        check(&&dense);
        let boxed: Box<dyn JacobianProducts + '_> = Box::new(dense);
        check(&boxed);
    }
}
