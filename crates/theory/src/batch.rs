//! The sampling of the batches of SGD, and the strength of the noise that it causes.

use flatmin_linalg::named;

use crate::BatchError;

/// The way in which the samples of a batch are drawn.
///
/// On the command line and in settings a sampling is called `with-replacement`,
/// `without-replacement`, `poisson` or `reshuffling`; that is what [`Display`](std::fmt::Display)
/// writes and [`FromStr`](std::str::FromStr) reads. The feature `serde` stores the same words with
/// underscores.
///
/// ```
/// use flatmin_theory::Sampling;
/// let sampling: Sampling = "without-replacement".parse()?;
/// assert_eq!(sampling, Sampling::WithoutReplacement);
/// assert_eq!(Sampling::Reshuffling.to_string(), "reshuffling");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Sampling {
    /// Every sample is drawn independently and uniformly; a batch may hold a sample twice.
    WithReplacement,
    /// A batch is a uniform subset of distinct samples, drawn anew at every step.
    WithoutReplacement,
    /// Every sample joins a batch with probability B/n, independently of the others, and the sum
    /// over the batch is divided by B. Libraries for differential privacy draw in this way.
    Poisson,
    /// A new random order of all samples every epoch, cut into batches; the last batch may be short
    /// ([`Batch::dropping_last`]). The batches of an epoch depend on each other, so that no closed
    /// form of this crate covers them: functions that need one return [`BatchError::Dependent`].
    /// The random dynamics of [`LinearisedSgd`](crate::LinearisedSgd) do.
    Reshuffling,
}

named!("sampling", Sampling, [
    "with-replacement" => WithReplacement,
    "without-replacement" => WithoutReplacement,
    "poisson" => Poisson,
    "reshuffling" => Reshuffling,
]);

/// A batch size with the way the batch is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    size: usize,
    sampling: Sampling,
    drops_last: bool,
}

impl Batch {
    /// Batches of `size` samples.
    ///
    /// # Errors
    /// [`BatchError::Empty`] when `size` is zero.
    pub fn new(size: usize, sampling: Sampling) -> Result<Self, BatchError> {
        if size == 0 {
            return Err(BatchError::Empty);
        }
        Ok(Self { size, sampling, drops_last: false })
    }

    /// These batches without the short one at the end of an epoch, like `drop_last=True` of a
    /// PyTorch `DataLoader`. It matters for [`Sampling::Reshuffling`] only.
    ///
    /// Without this setting an epoch whose n samples are no multiple of B ends with a batch of the
    /// n mod B samples that are left. Its gradient is the mean over these few samples, so that one
    /// short batch an epoch may add more noise than all others.
    ///
    /// ```
    /// use flatmin_theory::{Batch, Sampling};
    /// let batch = Batch::new(32, Sampling::Reshuffling)?;
    /// assert_eq!(batch.period(33)?, 2);
    /// assert_eq!(batch.dropping_last().period(33)?, 1);
    /// # Ok::<(), flatmin_theory::BatchError>(())
    /// ```
    #[must_use]
    pub fn dropping_last(self) -> Self {
        Self { drops_last: true, ..self }
    }

    /// True if a short batch at the end of an epoch is left out.
    pub fn drops_last(&self) -> bool {
        self.drops_last
    }

    /// The number B of samples in a batch.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The way in which the samples of a batch are drawn.
    pub fn sampling(&self) -> Sampling {
        self.sampling
    }

    /// The sizes of the batches of an epoch of `sample_count` samples: full batches, and what is
    /// left unless it is dropped.
    pub fn epoch_sizes(&self, sample_count: usize) -> impl Iterator<Item = usize> {
        let (full, rest) = (sample_count / self.size, sample_count % self.size);
        let last = (rest > 0 && !self.drops_last).then_some(rest);
        std::iter::repeat_n(self.size, full).chain(last)
    }

    /// The number of steps after which batches no longer depend on those before: for reshuffling an
    /// epoch of `⌈n/B⌉` steps, or `⌊n/B⌋` without the short batch, and 1 for every other sampling.
    ///
    /// # Errors
    /// [`BatchError::NoSamples`] when `sample_count` is zero; [`BatchError::NoWholeBatch`] when an
    /// epoch without its short batch has no batch at all.
    pub fn period(&self, sample_count: usize) -> Result<usize, BatchError> {
        let Self { size, sampling, drops_last } = *self;
        if sample_count == 0 {
            return Err(BatchError::NoSamples);
        }
        match (sampling, drops_last) {
            (Sampling::Reshuffling, true) if size > sample_count => {
                Err(BatchError::NoWholeBatch { batch_size: size, sample_count })
            }
            (Sampling::Reshuffling, true) => Ok(sample_count / size),
            (Sampling::Reshuffling, false) => Ok(sample_count.div_ceil(size)),
            _ => Ok(1),
        }
    }

    /// The number of samples in the smallest batch; B for independent batches, whose gradient is
    /// always a sum divided by B.
    pub(crate) fn smallest(&self, sample_count: usize) -> usize {
        let has_short_batch = self.sampling == Sampling::Reshuffling && !self.drops_last;
        let rest = sample_count % self.size;
        if has_short_batch && rest > 0 { rest } else { self.size }
    }

    /// The noise coefficient p of [`Noise`], for `sample_count` samples.
    ///
    /// # Errors
    /// As [`noise`](Self::noise).
    pub fn noise_coefficient(&self, sample_count: usize) -> Result<f64, BatchError> {
        Ok(self.noise(sample_count)?.coefficient)
    }

    /// The two numbers of the sampling that second moments depend on.
    ///
    /// | sampling | p | α |
    /// |---|---|---|
    /// | with replacement | 1/B | 1 − p |
    /// | without replacement | (n−B)/(B(n−1)) | 1 − p |
    /// | Poisson | (n−B)/(nB) | 1 |
    ///
    /// p = 0 is gradient descent: B = n without replacement or with Poisson sampling. So is n = 1
    /// without replacement, where the formula is 0/0 and p is taken as 0; the exact threshold does
    /// not depend on that choice. Source: theory, section 1 and S16.
    ///
    /// ```
    /// use flatmin_theory::{Batch, Sampling};
    /// let noise = Batch::new(4, Sampling::Poisson)?.noise(8)?;
    /// assert_eq!((noise.coefficient, noise.mean_weight()), (0.125, 1.0));
    /// # Ok::<(), flatmin_theory::BatchError>(())
    /// ```
    ///
    /// # Errors
    /// [`BatchError::NoSamples`] when `sample_count` is zero; [`BatchError::TooLarge`] and
    /// [`BatchError::PoissonTooLarge`] when it is below the batch size, unless sampling is with
    /// replacement; [`BatchError::Dependent`] for [`Sampling::Reshuffling`].
    pub fn noise(&self, sample_count: usize) -> Result<Noise, BatchError> {
        let Self { size, sampling, .. } = *self;
        let is_too_large = size > sample_count;
        // Subtracted as integers: beyond 2⁵³ an f64 cannot tell n from n − 1.
        let share = |others: usize| (sample_count - size) as f64 / (size as f64 * others as f64);
        let coefficient = match sampling {
            _ if sample_count == 0 => return Err(BatchError::NoSamples),
            Sampling::Reshuffling => return Err(BatchError::Dependent),
            Sampling::WithReplacement => 1.0 / size as f64,
            Sampling::Poisson if is_too_large => {
                return Err(BatchError::PoissonTooLarge { batch_size: size, sample_count });
            }
            Sampling::Poisson => share(sample_count),
            Sampling::WithoutReplacement if is_too_large => {
                return Err(BatchError::TooLarge { batch_size: size, sample_count });
            }
            Sampling::WithoutReplacement if sample_count == 1 => 0.0,
            Sampling::WithoutReplacement => share(sample_count - 1),
        };
        let is_poisson = sampling == Sampling::Poisson;
        Ok(Noise { coefficient, mean_deficit: if is_poisson { 0.0 } else { coefficient } })
    }
}

/// The scatter of the batch matrices `H_I = (1/B) Σ_{i∈I} H_i` of independent batches:
/// `E[H_I ⊗ H_I] = α G ⊗ G + p (1/n) Σ H_i ⊗ H_i` (S16), with `H_i = g_i g_iᵀ` for one output.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// The noise coefficient p, in [0, 1].
    pub coefficient: f64,
    /// 1 − α, in [0, 1]: p for batches of a fixed size, 0 for Poisson sampling.
    pub mean_deficit: f64,
}

impl Noise {
    /// The weight α of `G ⊗ G`.
    pub fn mean_weight(&self) -> f64 {
        1.0 - self.mean_deficit
    }
}

#[cfg(test)]
mod tests {
    use super::{Batch, Sampling};
    use crate::BatchError;

    fn check(size: usize, sampling: Sampling, sample_count: usize, expected: f64) {
        let batch = Batch::new(size, sampling).unwrap();
        let noise = batch.noise_coefficient(sample_count).unwrap();
        assert!((noise - expected).abs() <= 1e-16, "{batch:?}, n = {sample_count}: {noise}");
    }

    #[test]
    fn noise_goes_from_one_to_zero() {
        check(1, Sampling::Poisson, 7, 6.0 / 7.0);
        check(7, Sampling::Poisson, 7, 0.0);
        check(1, Sampling::WithoutReplacement, 7, 1.0);
        check(3, Sampling::WithoutReplacement, 7, 4.0 / 18.0);
        check(7, Sampling::WithoutReplacement, 7, 0.0);
        check(1, Sampling::WithoutReplacement, 1, 0.0);
        check(1, Sampling::WithReplacement, 1, 1.0);
        check(10, Sampling::WithReplacement, 7, 0.1);
    }

    /// Compares with the exact quotient of integers, which fit 128 bits.
    fn check_rounding(sample_count: usize, size: usize) {
        let (n, b) = (sample_count as u128, size as u128);
        let batch = |sampling| Batch::new(size, sampling).unwrap();
        let expected = (n - b) as f64 / (b * (n - 1)) as f64;
        let noise = batch(Sampling::WithoutReplacement).noise_coefficient(sample_count).unwrap();
        // The expected value has three roundings, the computed one five.
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
    fn a_sampling_is_read_as_it_is_written() {
        for sampling in Sampling::ALL {
            assert_eq!(sampling.to_string(), sampling.name());
            assert_eq!(sampling.name().parse(), Ok(sampling));
        }
        let error = "shuffled".parse::<Sampling>().unwrap_err().to_string();
        assert!(error.contains("'shuffled'"), "{error}");
        assert!(Sampling::ALL.iter().all(|sampling| error.contains(sampling.name())), "{error}");
    }

    #[test]
    fn reshuffled_batches_have_no_noise_coefficient() {
        let error = Batch::new(1, Sampling::Reshuffling).unwrap().noise_coefficient(3).unwrap_err();
        assert!(error.to_string().contains("depend on each other"), "{error}");
    }

    #[test]
    fn an_epoch_ends_with_a_short_batch_unless_it_is_dropped() {
        let batch = |size| Batch::new(size, Sampling::Reshuffling).unwrap();
        for (size, n, [whole, all], smallest) in
            [(32, 33, [1, 2], 1), (1, 7, [7, 7], 1), (7, 7, [1, 1], 7), (3, 8, [2, 3], 2)]
        {
            let (kept, dropped) = (batch(size), batch(size).dropping_last());
            assert_eq!([dropped.period(n), kept.period(n)], [Ok(whole), Ok(all)]);
            assert_eq!((kept.smallest(n), dropped.smallest(n)), (smallest, size));
            assert!(dropped.drops_last() && !kept.drops_last());
        }
        assert_eq!((batch(9).period(8), batch(9).smallest(8)), (Ok(1), 8));
        let error = batch(9).dropping_last().period(8).unwrap_err();
        assert_eq!(error, BatchError::NoWholeBatch { batch_size: 9, sample_count: 8 });
        let independent = Batch::new(3, Sampling::WithoutReplacement).unwrap().dropping_last();
        assert_eq!((independent.period(8), independent.smallest(8)), (Ok(1), 3));
        assert_eq!(batch(1).period(0), Err(BatchError::NoSamples));
    }

    #[test]
    fn impossible_batches_are_refused() {
        assert_eq!(Batch::new(0, Sampling::WithReplacement), Err(BatchError::Empty));
        let batch = Batch::new(3, Sampling::WithoutReplacement).unwrap();
        let error = batch.noise_coefficient(2).unwrap_err();
        assert_eq!(error.to_string(), "cannot draw 3 of 2 samples without replacement");
        let batch = Batch::new(3, Sampling::Poisson).unwrap();
        let error = batch.noise_coefficient(2).unwrap_err().to_string();
        assert!(error.contains("batches of 3 samples on average from 2"), "{error}");
        assert_eq!(batch.noise_coefficient(0), Err(BatchError::NoSamples));
    }
}
