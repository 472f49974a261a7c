//! The distance of a point from a stationary point of the Gauss–Newton model.

use faer::Mat;
use flatmin_linalg::{JacobianError, JacobianProducts, simd};

use crate::Minimum;

/// Modes of G with smaller eigenvalues than this, relative to the largest, do not count in a
/// [`decrement`](ResidualGradients::decrement): gradient descent at its largest stable rate needs
/// more than 10⁵ steps for them.
const SLOWEST: f64 = 1e-6;

/// Where weight decay w balances the mean gradient, it holds the outputs back by w/λ of themselves
/// in a mode with the eigenvalue λ of G. A mode with a smaller eigenvalue than this multiple of w
/// does not count.
const DECAY_FACTOR: f64 = 30.0;

/// Steps of conjugate gradients for the decrement of a Jacobian that is known by products.
const STEPS: usize = 5;

/// The gradients that residuals leave at a point, see [`Minimum::residual_gradients`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct ResidualGradients {
    /// The norm of the mean gradient.
    pub mean: f64,
    /// The root of the mean squared norm of the gradients.
    pub root_mean_square: f64,
    /// The Gauss–Newton decrement `½ gᵀG⁺g` of the mean gradient g: the amount by which a step
    /// `−G⁺g` lowers the quadratic model of the loss. It is zero at a stationary point. For the
    /// squared loss it is the whole loss where the linearised network can fit the residuals. `None`
    /// where weight decay moves every mode.
    pub decrement: Option<f64>,
}

impl Minimum {
    /// The gradients `J_iᵀr_i` that residuals leave: the norm of their mean, which vanishes at a
    /// stationary point, the root of their mean squared norm, and the Gauss–Newton decrement, from
    /// the modes of `G` whose eigenvalues are at least 1e-6 of the largest. `None` unless there are
    /// nk residuals.
    ///
    /// With a `weight_decay`, which must not be negative, the gradient does not vanish at the
    /// minimum. Then the decrement is that of the modes with eigenvalues of at least 30 times the
    /// decay, which the decay hardly moves.
    ///
    /// ```
    /// use flatmin_linalg::RowMatrix;
    /// use flatmin_theory::Minimum;
    /// // Two parameters fit the outputs of two samples, and not that of the third.
    /// let jacobian = RowMatrix::new(3, 2, vec![1.0, 0.0, 0.0, 2.0, 0.0, 0.0])?;
    /// let minimum = Minimum::new(&jacobian)?;
    /// let found = minimum.residual_gradients(&[1.0, 1.0, 1.0], 0.0).expect("three residuals");
    /// // Of the loss (1² + 1² + 1²)/(2 · 3), the third term stays.
    /// assert!(found.decrement.is_some_and(|decrement| (decrement - 1.0 / 3.0).abs() < 1e-14));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn residual_gradients(
        &self,
        residuals: &[f64],
        weight_decay: f64,
    ) -> Option<ResidualGradients> {
        let ((exponent, eigenvalues, rows), n) = (self.scaled(), self.sample_count());
        if residuals.len() != rows.rows() {
            return None;
        }
        let outputs = self.output_count();
        let mut mean = vec![0.0; rows.columns()];
        let mut gradient = mean.clone();
        let mut squares = 0.0;
        for (sample, residuals) in residuals.chunks(outputs).enumerate() {
            gradient.fill(0.0);
            for (output, residual) in residuals.iter().enumerate() {
                simd::axpy(*residual, rows.row(sample * outputs + output), &mut gradient);
            }
            squares += simd::norm_squared(&gradient);
            simd::axpy(1.0 / n as f64, &gradient, &mut mean);
        }
        let held = libm::ldexp(DECAY_FACTOR * weight_decay, -2 * exponent);
        let least = held.max(SLOWEST * eigenvalues.last().copied().unwrap_or(0.0));
        // The coordinates of the mean are those in the eigenbasis of G, at the same scale.
        let modes = mean.iter().zip(eigenvalues).filter(|(_, eigenvalue)| **eigenvalue >= least);
        let terms = modes.map(|(g, eigenvalue)| 0.5 * g / eigenvalue * g);
        let is_held = eigenvalues.last().is_some_and(|largest| *largest < held);
        let decrement = (!is_held).then(|| terms.fold(0.0, |sum, term| sum + term));
        let norm = |square: f64| libm::ldexp(square.sqrt(), exponent);
        Some(ResidualGradients {
            mean: norm(simd::norm_squared(&mean)),
            root_mean_square: norm(squares / n as f64),
            decrement,
        })
    }
}

impl ResidualGradients {
    /// The gradients that nk residuals leave, from products with the Jacobian. The decrement comes
    /// from five steps of conjugate gradients. It is a lower bound of the exact one, in which slow
    /// modes count too. `grams` are the matrices `J_iJ_iᵀ`, see
    /// [`sample_grams`](JacobianProducts::sample_grams).
    ///
    /// # Errors
    /// The errors of [`gram_product`](JacobianProducts::gram_product).
    ///
    /// # Panics
    /// Unless there are nk residuals and nk² numbers in `grams`.
    pub fn from_products(
        jacobian: &dyn JacobianProducts,
        residuals: &[f64],
        grams: &[f64],
    ) -> Result<Self, JacobianError> {
        let (rows, k) = (jacobian.row_count(), jacobian.output_count());
        assert!(residuals.len() == rows && grams.len() == rows * k, "one residual for each row");
        let n = jacobian.sample_count() as f64;
        let squares = residuals.chunks(k).zip(grams.chunks(k * k)).map(|(r, gram)| {
            let pairs = gram.iter().enumerate();
            pairs.map(|(place, entry)| r[place / k] * entry * r[place % k]).sum::<f64>()
        });
        let mean_square = squares.sum::<f64>() / n;
        // Conjugate gradients for the least ‖r − Jd‖², with d = Jᵀy and all vectors in the space of
        // the rows, so that a step takes one product with JJᵀ.
        let mut left = Mat::from_fn(rows, 1, |row, _| residuals[row]);
        let (mut image, mut direction) = (Mat::zeros(rows, 1), Mat::<f64>::zeros(rows, 1));
        let (mut mean, mut lowered, mut before) = (0.0, 0.0, f64::INFINITY);
        for step in 0..STEPS {
            jacobian.gram_product(left.as_ref(), image.as_mut())?;
            let (r, image) = (left.col_as_slice_mut(0), image.col_as_slice(0));
            let square = simd::dot(r, image).max(0.0);
            if step == 0 {
                mean = square.sqrt() / n;
            }
            let direction = direction.col_as_slice_mut(0);
            for value in &mut *direction {
                *value *= square / before;
            }
            simd::axpy(1.0, image, direction);
            let length = square / simd::norm_squared(direction);
            if !(length * square).is_finite() || length == 0.0 {
                break;
            }
            simd::axpy(-length, direction, r);
            lowered += length * square;
            before = square;
        }
        Ok(Self {
            mean,
            root_mean_square: mean_square.max(0.0).sqrt(),
            decrement: Some(0.5 * lowered / n),
        })
    }
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::{DenseJacobian, JacobianProducts as _, Parallelism, RowMatrix};

    use super::ResidualGradients;
    use crate::Minimum;

    /// The gradients by both routes.
    fn both(jacobian: &RowMatrix, outputs: usize, residuals: &[f64]) -> [ResidualGradients; 2] {
        let minimum = Minimum::with_outputs(jacobian, outputs).unwrap();
        let products = DenseJacobian::new(jacobian, outputs, Parallelism::Sequential).unwrap();
        let mut grams = vec![0.0; residuals.len() * outputs];
        products.sample_grams(&mut grams).unwrap();
        let found = ResidualGradients::from_products(&products, residuals, &grams).unwrap();
        [minimum.residual_gradients(residuals, 0.0).unwrap(), found]
    }

    #[test]
    fn residuals_leave_the_gradients_of_their_samples() {
        let jacobian = RowMatrix::new(2, 2, vec![3.0, 4.0, 0.0, 2.0]).unwrap();
        let check = |outputs: usize, mean: f64, root_mean_square: f64, decrement: f64| {
            for found in both(&jacobian, outputs, &[1.0, -1.0]) {
                assert!((found.mean / mean - 1.0).abs() < 1e-14, "{found:?}");
                let ratio = found.root_mean_square / root_mean_square;
                assert!((ratio - 1.0).abs() < 1e-14, "{found:?}");
                assert!((found.decrement.unwrap() / decrement - 1.0).abs() < 1e-12, "{found:?}");
            }
            let minimum = Minimum::with_outputs(&jacobian, outputs).unwrap();
            assert!(minimum.residual_gradients(&[1.0], 0.0).is_none());
            assert!(minimum.residual_gradients(&[1.0, -1.0, 0.0], 0.0).is_none());
        };
        // The gradients (3, 4) and (0, −2) of two samples, with the mean (1.5, 1). Both residuals
        // can be fitted, so that the step takes all of (1² + 1²)/(2 · 2) away.
        check(1, 3.25_f64.sqrt(), 14.5_f64.sqrt(), 0.5);
        // One sample of two outputs has their sum (3, 2), and the loss (1² + 1²)/2.
        check(2, 13.0_f64.sqrt(), 13.0_f64.sqrt(), 1.0);
    }

    #[test]
    fn residuals_across_the_range_are_stationary() {
        // The columns are orthogonal to (1, −2, 1).
        let jacobian = RowMatrix::new(3, 2, vec![1.0, 1.0, 1.0, 0.0, 1.0, -1.0]).unwrap();
        for found in both(&jacobian, 1, &[1.0, -2.0, 1.0]) {
            assert!(found.mean < 1e-15 && found.decrement.unwrap() < 1e-15, "{found:?}");
            assert!((found.root_mean_square - (8.0_f64 / 3.0).sqrt()).abs() < 1e-14, "{found:?}");
        }
        // The projection of (2, −1, 0) on the columns has the square 1/3 + 2.
        for found in both(&jacobian, 1, &[2.0, -1.0, 0.0]) {
            assert!((found.decrement.unwrap() - 7.0 / 3.0 / 6.0).abs() < 1e-14, "{found:?}");
        }
    }

    #[test]
    fn slow_modes_do_not_count() {
        // The second mode has the eigenvalue 1e-8 of the first.
        let jacobian = RowMatrix::new(2, 2, vec![1.0, 0.0, 0.0, 1e-4]).unwrap();
        let minimum = Minimum::new(&jacobian).unwrap();
        let found = minimum.residual_gradients(&[1.0, 1.0], 0.0).unwrap();
        assert!((found.decrement.unwrap() - 0.25).abs() < 1e-14, "{found:?}");
    }

    #[test]
    fn modes_that_weight_decay_holds_back_do_not_count() {
        // Eigenvalues 8 and ½ of G, also where the entries are scaled before they are squared.
        for scale in [1.0, 1024.0] {
            let jacobian = RowMatrix::new(2, 2, vec![4.0 * scale, 0.0, 0.0, scale]).unwrap();
            let minimum = Minimum::new(&jacobian).unwrap();
            for (decay, expected) in [(0.0, 0.5), (0.016, 0.5), (0.017, 0.25), (0.26, 0.25)] {
                let decay = decay * scale * scale;
                let found = minimum.residual_gradients(&[1.0, 1.0], decay).unwrap();
                assert!((found.decrement.unwrap() - expected).abs() < 1e-14, "{decay}: {found:?}");
            }
            let found = minimum.residual_gradients(&[1.0, 1.0], 0.27 * scale * scale).unwrap();
            assert_eq!(found.decrement, None);
        }
    }

    #[test]
    fn products_bound_the_decrement_from_below() {
        // 40 modes with eigenvalues 1 to 1e-4. Five steps reach what the vectors A, A², …, A⁵ times
        // the residuals, with A = JJᵀ, have of the loss: .2487059 by a QR decomposition in numpy.
        let jacobian = RowMatrix::from_fn(40, 40, |row, column| {
            if row == column { libm::pow(10.0, -2.0 * row as f64 / 39.0) } else { 0.0 }
        });
        let [exact, bound] = both(&jacobian, 1, &[1.0; 40]);
        assert!((exact.decrement.unwrap() - 0.5).abs() < 1e-12, "{exact:?}");
        assert!((bound.decrement.unwrap() - 0.248_705_900_196).abs() < 1e-9, "{bound:?}");
        assert!((bound.mean / exact.mean - 1.0).abs() < 1e-12, "{bound:?}");
    }
}
