//! SGD linearised at a minimum.

use flatmin_linalg::{PowerOfTwo, simd};

use crate::{Batch, Minimum, Noise, Optimizer, Sampling, SimulationError, StateSpace};

/// The largest `η max_i ‖g_i‖²` that is simulated: several steps in a row cannot overflow then.
const MAX_STEP: f64 = 1e30;

/// SGD linearised at a zero-loss minimum, with any [`Optimizer`] and any sampling.
///
/// With `δ = θ − θ*`, `z = (δ, v)` the numbers that the optimizer keeps per parameter, learning
/// rate η and the Gauss–Newton matrix `H_I = (1/B) Σ_{i∈I} g_i g_iᵀ` of the batch I of a step,
///
/// ```text
/// z' = A z − η b · H_I δ,        A, b of Optimizer::state_space,
/// ```
///
/// which for plain SGD is `δ' = (I − ηH_I) δ`. A short batch at the end of a reshuffled epoch
/// counts with its own size; the sum over a Poisson batch is divided by B. On ker G every step is
/// the same, `z' = A z`, and nothing grows where range(G) is stable; the functions of this crate
/// look at range(G), in the eigenbasis of G. Source: theory, section 1, S15, S16 and S21.
#[derive(Debug, Clone, Copy)]
pub struct LinearisedSgd<'a> {
    minimum: &'a Minimum,
    optimizer: Optimizer,
    batch: Batch,
    learning_rate: f64,
    /// `None` for dependent batches.
    pub(crate) noise: Option<Noise>,
    /// The number of steps of an epoch of dependent batches, and 1 for independent batches.
    pub(crate) period: usize,
    scaled_learning_rate: f64,
}

/// The step of an optimizer, for the Jacobian scaled by `2^−e`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Law {
    /// `v' = β v − κ Hδ, δ' = δ + v'`; β = 0 is plain SGD.
    HeavyBall {
        /// β.
        momentum: f64,
        /// κ, which is `η' = 4^e η` without dampening.
        rate: f64,
    },
    /// Any linear optimizer.
    Linear(System),
}

/// The linear system `z' = A z − η' b · Hδ`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct System {
    /// A. With one state per parameter, all entries but the first are 0.
    pub(crate) transition: [[f64; 2]; 2],
    /// b, likewise.
    pub(crate) input: [f64; 2],
    /// `η' = 4^e η`.
    pub(crate) rate: f64,
    /// True for two states per parameter.
    pub(crate) has_velocity: bool,
}

impl Law {
    /// True if a state has a velocity beside its position.
    pub(crate) fn has_velocity(&self) -> bool {
        match self {
            Self::HeavyBall { momentum, .. } => *momentum > 0.0,
            Self::Linear(system) => system.has_velocity,
        }
    }

    /// The learning rate that multiplies Hδ.
    pub(crate) fn rate(&self) -> f64 {
        match self {
            Self::HeavyBall { rate, .. } => *rate,
            Self::Linear(system) => system.rate,
        }
    }
}

impl System {
    /// The system of `optimizer` at η, with `rate` = η' instead of η before Hδ.
    fn new(optimizer: &Optimizer, learning_rate: f64, rate: f64) -> Self {
        // A depends on the decay ηw, which scaling the Jacobian leaves as it is.
        let StateSpace { transition, input, .. } = optimizer.state_space(learning_rate);
        let has_velocity = input.len() > 1;
        let entry =
            |i: usize, j: usize| if i.max(j) < input.len() { transition.row(i)[j] } else { 0.0 };
        Self {
            transition: [[entry(0, 0), entry(0, 1)], [entry(1, 0), entry(1, 1)]],
            input: [input[0], input.get(1).copied().unwrap_or(0.0)],
            rate,
            has_velocity,
        }
    }

    /// `F = A − x b cᵀ`, the step of a mode with `x = η'λ`.
    pub(crate) fn mode(&self, x: f64) -> [[f64; 2]; 2] {
        let [[a, b], [c, d]] = self.transition;
        [[a - x * self.input[0], b], [c - x * self.input[1], d]]
    }
}

impl<'a> LinearisedSgd<'a> {
    /// The dynamics of `optimizer` at `minimum`, with batches and a learning rate η.
    ///
    /// # Errors
    /// [`SimulationError::SeveralOutputs`] unless there is one output;
    /// [`SimulationError::LearningRate`] unless `0 ≤ η`, `η max_i ‖g_i‖² ≤ 1e30` and `ηw ≤ 1e30`
    /// for the weight decay w; [`SimulationError::Batch`] for the errors of [`Batch::noise`] and
    /// [`Batch::period`].
    pub fn new(
        minimum: &'a Minimum,
        optimizer: &Optimizer,
        batch: &Batch,
        learning_rate: f64,
    ) -> Result<Self, SimulationError> {
        let (optimizer, batch) = (*optimizer, *batch);
        let output_count = minimum.output_count();
        if output_count > 1 {
            return Err(SimulationError::SeveralOutputs { output_count });
        }
        let period = batch.period(minimum.sample_count())?;
        let noise = match batch.sampling() {
            Sampling::Reshuffling => None,
            _ => Some(batch.noise(minimum.sample_count())?),
        };
        let (exponent, _, rows) = minimum.scaled();
        // G = 4^exponent G', so that ηG = η'G' with η' = 4^exponent η.
        let scaled_learning_rate = PowerOfTwo::new(2 * exponent).times(learning_rate);
        let largest = (0..rows.rows()).map(|i| simd::norm_squared(rows.row(i))).fold(0.0, f64::max);
        let decay = optimizer.coupled_decay() + optimizer.decoupled_decay();
        let fits = learning_rate.is_finite()
            && scaled_learning_rate * largest <= MAX_STEP
            && learning_rate * decay <= MAX_STEP;
        if learning_rate < 0.0 || !fits {
            return Err(SimulationError::LearningRate { value: learning_rate });
        }
        Ok(Self { minimum, optimizer, batch, learning_rate, noise, period, scaled_learning_rate })
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

    /// The step, for the Jacobian scaled by `2^−e`.
    pub(crate) fn law(&self) -> Law {
        let (undamped, factor) = self.optimizer.undamped();
        match undamped.heavy_ball() {
            Some(momentum) => Law::HeavyBall { momentum, rate: self.scaled_learning_rate * factor },
            None => Law::Linear(System::new(
                &self.optimizer,
                self.learning_rate,
                self.scaled_learning_rate,
            )),
        }
    }

    /// `ηw`, for the sum w of both weight decays.
    pub(crate) fn decay(&self) -> f64 {
        self.learning_rate * (self.optimizer.coupled_decay() + self.optimizer.decoupled_decay())
    }

    /// True if every batch gives the same step.
    pub(crate) fn is_deterministic(&self) -> bool {
        let sample_count = self.minimum.sample_count();
        let has_one_batch = match self.noise {
            Some(noise) => noise.coefficient <= 0.0,
            None => self.batch.size() >= sample_count,
        };
        has_one_batch || sample_count == 1
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
        let decayed = optimizer.weight_decay(1e30).unwrap();
        assert!(LinearisedSgd::new(&minimum, &decayed, &batch, 1.0).is_ok());
        let error = LinearisedSgd::new(&minimum, &decayed, &batch, 2.0).unwrap_err();
        assert_eq!(error, SimulationError::LearningRate { value: 2.0 });
    }
}
