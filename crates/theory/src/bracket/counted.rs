//! Products with a Jacobian that are checked, scaled and counted.

use faer::{Mat, MatRef};
use flatmin_linalg::{JacobianError, JacobianProducts, PowerOfTwo, columns_mut};

/// The largest exponent of the unit of J for which `JJᵀ` is far from overflow and underflow.
const MAX_EXPONENT: i32 = 300;

/// The Gram matrix `K = JJᵀ/n` of a Jacobian divided by a power of two, by products.
pub(super) struct CountedGram<'a> {
    jacobian: &'a dyn JacobianProducts,
    /// `J = unit · J'`; everything here describes J'.
    pub(super) unit: PowerOfTwo,
    /// Products with single vectors so far, with J or its transpose.
    pub(super) products: usize,
    /// The largest number of products.
    pub(super) max_products: usize,
    /// The `J_iJ_iᵀ` of all samples, row by row.
    pub(super) grams: Vec<f64>,
}

impl<'a> CountedGram<'a> {
    /// Reads the matrices of the samples. `products` is the number of products before these.
    pub(super) fn new(
        jacobian: &'a dyn JacobianProducts,
        products: usize,
        max_products: usize,
    ) -> Result<Self, JacobianError> {
        let (n, k) = (jacobian.sample_count(), jacobian.output_count());
        let parameters = jacobian.parameter_count();
        if n == 0 || k == 0 || parameters == 0 {
            return Err(JacobianError::Empty { samples: n, outputs: k, parameters });
        }
        let mut grams = vec![0.0; n * k * k];
        jacobian.sample_grams(&mut grams)?;
        if let Some(row) = grams.iter().position(|value| !value.is_finite()) {
            let product = flatmin_linalg::JacobianProduct::SampleGrams;
            return Err(JacobianError::NotFinite { product, row, value: grams[row] });
        }
        let diagonal = grams.chunks(k * k).flat_map(|gram| gram.iter().step_by(k + 1));
        let largest = diagonal.fold(0.0_f64, |m, value| m.max(*value)).sqrt();
        let unit = PowerOfTwo::of_largest(&[largest]).unwrap_or_default();
        let inverse = unit.inverse();
        for value in &mut grams {
            *value = inverse.times(inverse.times(*value));
        }
        Ok(Self { jacobian, unit, products, max_products, grams })
    }

    pub(super) fn samples(&self) -> usize {
        self.jacobian.sample_count()
    }

    pub(super) fn outputs(&self) -> usize {
        self.jacobian.output_count()
    }

    pub(super) fn rows(&self) -> usize {
        self.jacobian.row_count()
    }

    /// The largest possible rank of K.
    pub(super) fn max_rank(&self) -> usize {
        self.rows().min(self.jacobian.parameter_count())
    }

    /// True if K can be multiplied with this many vectors within the budget.
    pub(super) fn affords(&self, vectors: usize) -> bool {
        self.products + 2 * vectors <= self.max_products
    }

    /// The trace of K.
    pub(super) fn trace(&self) -> f64 {
        let k = self.outputs();
        let diagonal = self.grams.chunks(k * k).flat_map(|gram| gram.iter().step_by(k + 1));
        diagonal.sum::<f64>() / self.samples() as f64
    }

    /// `K V`.
    pub(super) fn multiply(&mut self, vectors: MatRef<'_, f64>) -> Result<Mat<f64>, JacobianError> {
        let count = vectors.ncols();
        let inverse = self.unit.inverse();
        let mut images = Mat::zeros(self.rows(), count);
        let scale = |matrix: &mut Mat<f64>, scaled: &dyn Fn(f64) -> f64| {
            for value in columns_mut(matrix.as_mut()).into_iter().flatten() {
                *value = scaled(*value);
            }
        };
        let samples = self.samples() as f64;
        if self.unit.exponent().abs() <= MAX_EXPONENT {
            self.jacobian.finite_gram_product(vectors, images.as_mut())?;
            scale(&mut images, &|value| inverse.times(inverse.times(value)) / samples);
        } else {
            let mut back = Mat::zeros(self.jacobian.parameter_count(), count);
            self.jacobian.finite_vjp(vectors, back.as_mut())?;
            scale(&mut back, &|value| inverse.times(value));
            self.jacobian.finite_jvp(back.as_ref(), images.as_mut())?;
            scale(&mut images, &|value| inverse.times(value) / samples);
        }
        self.products += 2 * count;
        Ok(images)
    }
}
