//! SGD linearised at a minimum.

use flatmin_linalg::simd;

use crate::{Batch, Minimum, Optimizer, TheoryError};

/// The largest `η max_i ‖g_i‖²` that is simulated: a step then grows by a factor that several steps
/// in a row cannot overflow.
const LARGEST_STEP: f64 = 1e30;

/// SGD linearised at a zero-loss minimum, with or without heavy-ball momentum.
///
/// With `δ = θ − θ*`, learning rate η, momentum β and a fresh batch I of size B every step,
///
/// ```text
/// v' = β v − (η/B) Σ_{i∈I} g_i (g_iᵀδ),    δ' = δ + v',
/// ```
///
/// which for β = 0 is `δ' = (I − (η/B) Σ_{i∈I} g_i g_iᵀ) δ`. On ker G nothing moves (or coasts, with
/// momentum); everything here is about range(G), in the eigenbasis of G. Theory, sections 1 and
/// S12.
#[derive(Debug, Clone, Copy)]
pub struct LinearisedSgd<'a> {
    minimum: &'a Minimum,
    batch: Batch,
    learning_rate: f64,
    momentum: f64,
    noise_coefficient: f64,
    scaled_learning_rate: f64,
}

impl<'a> LinearisedSgd<'a> {
    /// Plain SGD, β = 0.
    ///
    /// # Errors
    /// [`TheoryError::LearningRate`] unless `0 ≤ η` and `η max_i ‖g_i‖² ≤ 1e30`;
    /// [`TheoryError::SeveralOutputs`] unless there is one output; as [`Batch::noise_coefficient`].
    pub fn new(
        minimum: &'a Minimum,
        batch: Batch,
        learning_rate: f64,
    ) -> Result<Self, TheoryError> {
        let output_count = minimum.output_count();
        if output_count > 1 {
            return Err(TheoryError::SeveralOutputs { output_count });
        }
        let noise_coefficient = batch.noise_coefficient(minimum.sample_count())?;
        let (exponent, _, rows) = minimum.scaled();
        // G = 4^exponent G', so that ηG = η'G' with η' = 4^exponent η.
        let scaled_learning_rate = libm::scalbn(learning_rate, 2 * exponent);
        let largest = (0..rows.rows()).map(|i| simd::norm_squared(rows.row(i))).fold(0.0, f64::max);
        let fits = learning_rate.is_finite() && scaled_learning_rate * largest <= LARGEST_STEP;
        if learning_rate < 0.0 || !fits {
            return Err(TheoryError::LearningRate { value: learning_rate });
        }
        let momentum = 0.0;
        Ok(Self {
            minimum,
            batch,
            learning_rate,
            momentum,
            noise_coefficient,
            scaled_learning_rate,
        })
    }

    /// The same with heavy-ball momentum β.
    ///
    /// # Errors
    /// [`OptimizerError::Momentum`](crate::OptimizerError::Momentum) unless `0 ≤ β < 1`.
    pub fn with_momentum(self, momentum: f64) -> Result<Self, TheoryError> {
        Optimizer::sgd().momentum(momentum)?;
        Ok(Self { momentum, ..self })
    }

    /// The same with another learning rate.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_learning_rate(self, learning_rate: f64) -> Result<Self, TheoryError> {
        let Self { minimum, batch, momentum, .. } = self;
        Ok(Self { momentum, ..Self::new(minimum, batch, learning_rate)? })
    }

    /// The minimum.
    pub fn minimum(&self) -> &'a Minimum {
        self.minimum
    }

    /// How batches are drawn.
    pub fn batch(&self) -> Batch {
        self.batch
    }

    /// The learning rate η.
    pub fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    /// The momentum β.
    pub fn momentum(&self) -> f64 {
        self.momentum
    }

    /// The noise coefficient p.
    pub(crate) fn noise_coefficient(&self) -> f64 {
        self.noise_coefficient
    }

    /// `4^e η`, the learning rate that belongs to the Jacobian scaled by `2^−e`.
    pub(crate) fn scaled_learning_rate(&self) -> f64 {
        self.scaled_learning_rate
    }
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::RowMatrix;

    use super::LinearisedSgd;
    use crate::{Batch, Minimum, OptimizerError, Sampling, TheoryError};

    fn minimum() -> Minimum {
        Minimum::new(&RowMatrix::new(2, 2, vec![1.0, 0.0, 0.0, 2.0]).unwrap()).unwrap()
    }

    #[test]
    fn impossible_settings_are_refused() {
        let minimum = minimum();
        let batch = Batch::new(1, Sampling::WithReplacement).unwrap();
        for value in [-0.1, f64::INFINITY, 1e31, f64::MAX] {
            let error = LinearisedSgd::new(&minimum, batch, value).unwrap_err();
            assert_eq!(error, TheoryError::LearningRate { value });
        }
        assert!(LinearisedSgd::new(&minimum, batch, f64::NAN).is_err());
        let sgd = LinearisedSgd::new(&minimum, batch, 0.0).unwrap();
        for value in [-0.1, 1.0, f64::INFINITY] {
            let error = sgd.with_momentum(value).unwrap_err();
            assert_eq!(error, OptimizerError::Momentum { value }.into());
        }
        assert!(sgd.with_momentum(f64::NAN).is_err());
        let three = Batch::new(3, Sampling::WithoutReplacement).unwrap();
        assert!(LinearisedSgd::new(&minimum, three, 0.1).is_err());
    }
}
