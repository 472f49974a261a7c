//! How a step of SGD draws its samples, and how much noise that makes.

use crate::TheoryError;

/// How the samples of a batch are drawn, independently from step to step.
///
/// Reshuffling once per epoch is a third way to train. Its batches depend on each other, so none of
/// the closed forms of this crate covers it: it has no value here on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampling {
    /// Every sample independently uniform; a batch may hold one twice.
    WithReplacement,
    /// A uniform subset of distinct samples.
    WithoutReplacement,
}

/// A batch size with the way the batch is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    size: usize,
    sampling: Sampling,
}

impl Batch {
    /// Batches of `size` samples.
    ///
    /// # Errors
    /// [`TheoryError::EmptyBatch`] when `size` is zero.
    pub fn new(size: usize, sampling: Sampling) -> Result<Self, TheoryError> {
        if size == 0 { Err(TheoryError::EmptyBatch) } else { Ok(Self { size, sampling }) }
    }

    /// Number B of samples in a batch.
    pub fn size(self) -> usize {
        self.size
    }

    /// How they are drawn.
    pub fn sampling(self) -> Sampling {
        self.sampling
    }

    /// The noise coefficient p in the second moment `E[A P A]` of the batch matrix
    /// `A = (1/B) Σ_{i∈I} g_i g_iᵀ`: `(1−p) G P G + p (1/n) Σ (g_iᵀP g_i) g_i g_iᵀ`.
    ///
    /// `1/B` with replacement, `(n−B)/(B(n−1))` without; 1 for B = 1, 0 for B = n without
    /// replacement (gradient descent). One sample without replacement is gradient descent too: p is
    /// 0/0 there and taken as 0. The exact threshold does not depend on that choice. Theory,
    /// section 1.
    ///
    /// # Errors
    /// [`TheoryError::NoSamples`] when `sample_count` is zero, [`TheoryError::BatchTooLarge`] when
    /// it is below the batch size and sampling is without replacement.
    pub fn noise_coefficient(self, sample_count: usize) -> Result<f64, TheoryError> {
        let Self { size, sampling } = self;
        match sampling {
            _ if sample_count == 0 => Err(TheoryError::NoSamples),
            Sampling::WithReplacement => Ok(1.0 / size as f64),
            Sampling::WithoutReplacement if size > sample_count => {
                Err(TheoryError::BatchTooLarge { batch_size: size, sample_count })
            }
            Sampling::WithoutReplacement if sample_count == 1 => Ok(0.0),
            Sampling::WithoutReplacement => {
                // The differences are taken of integers: beyond 2⁵³ numbers do not tell n from n − 1.
                let (unused, others) = (sample_count - size, sample_count - 1);
                Ok(unused as f64 / (size as f64 * others as f64))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Batch, Sampling};
    use crate::TheoryError;

    fn check(size: usize, sampling: Sampling, sample_count: usize, expected: f64) {
        let batch = Batch::new(size, sampling).unwrap();
        let noise = batch.noise_coefficient(sample_count).unwrap();
        assert!((noise - expected).abs() <= 1e-16, "{batch:?}, n = {sample_count}: {noise}");
    }

    #[test]
    fn noise_goes_from_one_to_zero() {
        check(1, Sampling::WithoutReplacement, 7, 1.0);
        check(3, Sampling::WithoutReplacement, 7, 4.0 / 18.0);
        check(7, Sampling::WithoutReplacement, 7, 0.0);
        check(1, Sampling::WithoutReplacement, 1, 0.0);
        check(1, Sampling::WithReplacement, 1, 1.0);
        check(10, Sampling::WithReplacement, 7, 0.1);
    }

    /// By the exact quotient of integers, which fit 128 bits.
    fn check_rounding(sample_count: usize, size: usize) {
        let (n, b) = (sample_count as u128, size as u128);
        let batch = |sampling| Batch::new(size, sampling).unwrap();
        let expected = (n - b) as f64 / (b * (n - 1)) as f64;
        let noise = batch(Sampling::WithoutReplacement).noise_coefficient(sample_count).unwrap();
        // Three roundings there, five here.
        let error = (noise - expected).abs();
        assert!(error <= 4.0 * f64::EPSILON * expected, "n = {n}, B = {b}: {noise:e}");
        assert!((0.0..=1.0).contains(&noise), "n = {n}, B = {b}: {noise:e}");
        let noise = batch(Sampling::WithReplacement).noise_coefficient(sample_count).unwrap();
        assert!((noise * b as f64 - 1.0).abs() <= f64::EPSILON, "B = {b}: {noise:e}");
    }

    #[test]
    fn counts_that_numbers_cannot_tell_apart_keep_every_digit() {
        for n in [(1 << 53) - 1, 1 << 53, (1 << 53) + 1, (1 << 53) + 3, usize::MAX - 1, usize::MAX]
        {
            for b in [1, 2, 3, n / 3, n / 2, n / 2 + 1, n - 3, n - 2, n - 1, n] {
                check_rounding(n, b);
            }
        }
        let all_but_one = Batch::new(1 << 53, Sampling::WithoutReplacement).unwrap();
        assert!(all_but_one.noise_coefficient((1 << 53) + 1).unwrap() > 0.0);
        let single = Batch::new(1, Sampling::WithoutReplacement).unwrap();
        let noise = single.noise_coefficient(usize::MAX).unwrap();
        assert_eq!(noise.to_bits(), 1.0_f64.to_bits());
    }

    proptest::proptest! {
        #[test]
        fn the_noise_coefficient_is_right_to_the_last_digits(n in 2..=usize::MAX, b in 1..=usize::MAX) {
            check_rounding(n, 1 + (b - 1) % n);
            check_rounding((n >> (b % 62)).max(2), 1);
        }
    }

    #[test]
    fn impossible_batches_are_refused() {
        assert_eq!(Batch::new(0, Sampling::WithReplacement), Err(TheoryError::EmptyBatch));
        let batch = Batch::new(3, Sampling::WithoutReplacement).unwrap();
        let error = batch.noise_coefficient(2).unwrap_err();
        assert_eq!(error.to_string(), "cannot draw 3 of 2 samples without replacement");
        assert_eq!(batch.noise_coefficient(0), Err(TheoryError::NoSamples));
    }
}
