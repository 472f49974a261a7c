//! SGD linearised at a minimum.

use flatmin_linalg::{PowerOfTwo, simd};

use crate::{Batch, Minimum, Noise, Optimizer, SimulationError};

/// The largest `η max_i ‖g_i‖²` that is simulated: several steps in a row cannot overflow then.
const MAX_STEP: f64 = 1e30;

/// SGD linearised at a zero-loss minimum, with or without heavy-ball momentum.
///
/// With `δ = θ − θ*`, learning rate η, momentum β and a fresh batch I of size B every step,
///
/// ```text
/// v' = β v − (η/B) Σ_{i∈I} g_i (g_iᵀδ),    δ' = δ + v',
/// ```
///
/// which for β = 0 is `δ' = (I − (η/B) Σ_{i∈I} g_i g_iᵀ) δ`. On ker G, δ does not change (with
/// momentum it moves at a decaying velocity); the functions of this crate look at range(G), in the
/// eigenbasis of G. Source: theory, section 1 and S12.
#[derive(Debug, Clone, Copy)]
pub struct LinearisedSgd<'a> {
    minimum: &'a Minimum,
    optimizer: Optimizer,
    momentum: f64,
    batch: Batch,
    learning_rate: f64,
    noise: Noise,
    scaled_learning_rate: f64,
}

impl<'a> LinearisedSgd<'a> {
    /// The dynamics of `optimizer` at `minimum`, with batches and a learning rate η.
    ///
    /// # Errors
    /// [`SimulationError::Unsupported`] unless the optimizer is SGD with or without heavy-ball
    /// momentum; [`SimulationError::SeveralOutputs`] unless there is one output;
    /// [`SimulationError::LearningRate`] unless `0 ≤ η` and `η max_i ‖g_i‖² ≤ 1e30`;
    /// [`SimulationError::Batch`] for the errors of [`Batch::noise`].
    pub fn new(
        minimum: &'a Minimum,
        optimizer: &Optimizer,
        batch: &Batch,
        learning_rate: f64,
    ) -> Result<Self, SimulationError> {
        let (optimizer, batch) = (*optimizer, *batch);
        let momentum = optimizer.heavy_ball().ok_or(SimulationError::Unsupported { optimizer })?;
        let output_count = minimum.output_count();
        if output_count > 1 {
            return Err(SimulationError::SeveralOutputs { output_count });
        }
        let noise = batch.noise(minimum.sample_count())?;
        let (exponent, _, rows) = minimum.scaled();
        // G = 4^exponent G', so that ηG = η'G' with η' = 4^exponent η.
        let scaled_learning_rate = PowerOfTwo::new(2 * exponent).times(learning_rate);
        let largest = (0..rows.rows()).map(|i| simd::norm_squared(rows.row(i))).fold(0.0, f64::max);
        let fits = learning_rate.is_finite() && scaled_learning_rate * largest <= MAX_STEP;
        if learning_rate < 0.0 || !fits {
            return Err(SimulationError::LearningRate { value: learning_rate });
        }
        Ok(Self { minimum, optimizer, momentum, batch, learning_rate, noise, scaled_learning_rate })
    }

    /// These dynamics at another learning rate.
    ///
    /// # Errors
    /// See [`new`](Self::new).
    pub fn with_learning_rate(self, learning_rate: f64) -> Result<Self, SimulationError> {
        Self::new(self.minimum, &self.optimizer, &self.batch, learning_rate)
    }

    /// The minimum.
    pub fn minimum(&self) -> &'a Minimum {
        self.minimum
    }

    /// The optimizer.
    pub fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    /// The batch size and the sampling.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// The learning rate η.
    pub fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    /// The momentum β.
    pub(crate) fn momentum(&self) -> f64 {
        self.momentum
    }

    /// The noise coefficient p.
    pub(crate) fn noise(&self) -> Noise {
        self.noise
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
    use crate::{Batch, Minimum, Optimizer, Sampling, SimulationError};

    #[test]
    fn impossible_settings_are_refused() {
        let jacobian = RowMatrix::new(2, 2, vec![1.0, 0.0, 0.0, 2.0]).unwrap();
        let minimum = Minimum::new(&jacobian).unwrap();
        let optimizer = Optimizer::sgd().momentum(0.5).unwrap();
        let batch = Batch::new(1, Sampling::WithReplacement).unwrap();
        let at = |rate| LinearisedSgd::new(&minimum, &optimizer, &batch, rate);
        for value in [-0.1, f64::INFINITY, 1e31, f64::MAX] {
            assert_eq!(at(value).unwrap_err(), SimulationError::LearningRate { value });
        }
        assert!(at(f64::NAN).is_err() && at(0.0).is_ok());
        let three = Batch::new(3, Sampling::WithoutReplacement).unwrap();
        assert!(LinearisedSgd::new(&minimum, &optimizer, &three, 0.1).is_err());
        let optimizer = optimizer.nesterov().unwrap();
        let error = LinearisedSgd::new(&minimum, &optimizer, &batch, 0.1).unwrap_err();
        assert_eq!(error, SimulationError::Unsupported { optimizer });
    }
}
