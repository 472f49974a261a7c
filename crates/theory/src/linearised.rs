//! SGD linearised at a minimum, and its random step.

use flatmin_linalg::simd::{self, AlignedVec};
use rand::{Rng, RngExt as _};

use crate::{Batch, Minimum, Sampling, TheoryError};

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
    /// [`TheoryError::Momentum`] unless `0 ≤ β < 1`.
    pub fn with_momentum(self, momentum: f64) -> Result<Self, TheoryError> {
        if (0.0..1.0).contains(&momentum) {
            Ok(Self { momentum, ..self })
        } else {
            Err(TheoryError::Momentum { value: momentum })
        }
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

/// A point of the dynamics.
#[derive(Debug)]
pub(crate) struct State {
    /// δ, filled up with zeros to whole lane groups.
    pub(crate) position: AlignedVec,
    /// v, of the same length; empty without momentum.
    pub(crate) velocity: AlignedVec,
}

/// The random step, in any orthonormal basis of range(G).
#[derive(Debug)]
pub(crate) struct Stepper {
    rows: AlignedVec,
    width: usize,
    /// −η'/B.
    factor: f64,
    momentum: f64,
    sampler: Sampler,
    /// The batch at hand: sample and `−(η'/B) g_iᵀδ`.
    batch: Vec<(usize, f64)>,
}

impl Stepper {
    /// The step of `sgd` for rows `g_i` given in some orthonormal basis of range(G), row by row.
    pub(crate) fn new(sgd: &LinearisedSgd<'_>, rows: &[f64], rank: usize) -> Self {
        let width = simd::padded(rank);
        let rows =
            if rank == 0 { AlignedVec::zeros(0) } else { AlignedVec::from_rows(rows, rank, width) };
        Self {
            rows,
            width,
            factor: -sgd.scaled_learning_rate() / sgd.batch().size() as f64,
            momentum: sgd.momentum(),
            sampler: Sampler::new(sgd.batch(), sgd.minimum().sample_count()),
            batch: Vec::with_capacity(sgd.batch().size()),
        }
    }

    /// A state at rest at the origin.
    pub(crate) fn state(&self) -> State {
        let velocity = if self.momentum > 0.0 { self.width } else { 0 };
        State { position: AlignedVec::zeros(self.width), velocity: AlignedVec::zeros(velocity) }
    }

    /// One step with a fresh batch, O(B r).
    pub(crate) fn step(&mut self, state: &mut State, rng: &mut impl Rng) {
        let Self { rows, width, factor, sampler, batch, .. } = self;
        let row = |i: usize| &rows[i * *width..][..*width];
        batch.clear();
        // All products before the first update: the gradient is that of one point.
        sampler.draw(rng, |i| batch.push((i, *factor * simd::dot(row(i), &state.position))));
        if state.velocity.is_empty() {
            for &(i, scale) in &*batch {
                simd::axpy(scale, row(i), &mut state.position);
            }
        } else {
            for v in &mut *state.velocity {
                *v *= self.momentum;
            }
            for &(i, scale) in &*batch {
                simd::axpy(scale, row(i), &mut state.velocity);
            }
            simd::axpy(1.0, &state.velocity, &mut state.position);
        }
    }
}

/// Draws the samples of one batch after another.
#[derive(Debug)]
struct Sampler {
    batch: Batch,
    sample_count: u32,
    /// A permutation of the samples, where distinct ones are needed.
    order: Vec<u32>,
}

impl Sampler {
    fn new(batch: Batch, sample_count: usize) -> Self {
        // Always fits: a minimum has an n × n Gram matrix in memory.
        let sample_count = u32::try_from(sample_count).unwrap_or(u32::MAX);
        let distinct = batch.sampling() == Sampling::WithoutReplacement && batch.size() > 1;
        let order = if distinct { (0..sample_count).collect() } else { Vec::new() };
        Self { batch, sample_count, order }
    }

    fn draw(&mut self, rng: &mut impl Rng, mut take: impl FnMut(usize)) {
        let n = self.sample_count;
        if self.order.is_empty() {
            for _ in 0..self.batch.size() {
                take(rng.random_range(0..n) as usize);
            }
            return;
        }
        // The first B places of a Fisher–Yates shuffle are a uniform subset whatever order it
        // starts from, so the order left by the last batch will do.
        for k in 0..self.batch.size() {
            #[expect(clippy::cast_possible_truncation, reason = "B ≤ n, which is a u32")]
            let other = rng.random_range(k as u32..n) as usize;
            self.order.swap(k, other);
            take(self.order[k] as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::{RowMatrix, stream};

    use super::{LinearisedSgd, Sampler, Stepper};
    use crate::{Batch, Minimum, Sampling, TheoryError};

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
            assert_eq!(sgd.with_momentum(value).unwrap_err(), TheoryError::Momentum { value });
        }
        assert!(sgd.with_momentum(f64::NAN).is_err());
        let three = Batch::new(3, Sampling::WithoutReplacement).unwrap();
        assert!(LinearisedSgd::new(&minimum, three, 0.1).is_err());
    }

    /// Steps of full batches on rows (1, 0), (0, 2): G = diag(1/2, 2).
    fn check(sampling: Sampling, momentum: f64, steps: usize, expected: [f64; 2]) {
        let minimum = minimum();
        let sgd = LinearisedSgd::new(&minimum, Batch::new(2, sampling).unwrap(), 0.25).unwrap();
        let sgd = sgd.with_momentum(momentum).unwrap();
        // The Jacobian is scaled by ½ inside.
        let mut stepper = Stepper::new(&sgd, &[0.5, 0.0, 0.0, 1.0], 2);
        let mut state = stepper.state();
        state.position[..2].copy_from_slice(&[1.0, 1.0]);
        let mut rng = stream(0, "stepper test", 0);
        for _ in 0..steps {
            stepper.step(&mut state, &mut rng);
        }
        for (got, expected) in state.position.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-15, "{:?}", &state.position[..2]);
        }
    }

    #[test]
    fn a_full_batch_makes_the_step_of_gradient_descent() {
        check(Sampling::WithoutReplacement, 0.0, 1, [0.875, 0.5]);
        check(Sampling::WithoutReplacement, 0.0, 2, [0.875 * 0.875, 0.25]);
        // v = −(0.125, 0.5), then v = v/2 − (0.125·0.875, 0.5·0.5).
        check(Sampling::WithoutReplacement, 0.5, 2, [0.875 - 0.0625 - 0.109_375, 0.0]);
    }

    #[test]
    fn subsets_are_uniform_and_distinct() {
        let batch = Batch::new(3, Sampling::WithoutReplacement).unwrap();
        let mut sampler = Sampler::new(batch, 5);
        let mut rng = stream(0, "sampler test", 0);
        let mut counts = [0_i32; 32];
        for _ in 0..10_000 {
            let mut subset = 0_usize;
            sampler.draw(&mut rng, |i| subset |= 1 << i);
            assert_eq!(subset.count_ones(), 3);
            counts[subset] += 1;
        }
        // Ten subsets, 1000 each with standard deviation 30: six of them are exceeded by chance
        // about once in 10⁷ runs.
        let all = counts.iter().enumerate().filter(|(subset, _)| subset.count_ones() == 3);
        assert!(all.into_iter().all(|(_, count)| (count - 1000).abs() < 180), "{counts:?}");
    }
}
