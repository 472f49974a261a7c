//! Random batches of sample indices.

use rand::seq::{SliceRandom as _, index};
use rand::{Rng, RngExt as _};

pub use flatmin_theory::Sampling;

/// A batch size that the data set cannot fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the batch size is {batch_size}, expected a number from 1 to {sample_count}")]
pub struct SamplingError {
    batch_size: usize,
    sample_count: usize,
}

/// The state of a [`BatchSampler`] between two batches. For reshuffling it is the order of the
/// current epoch and the position in it; for the other samplings it is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct SamplerState {
    order: Vec<u32>,
    position: usize,
}

/// Draws batches of sample indices.
#[derive(Debug, Clone)]
pub struct BatchSampler {
    sampling: Sampling,
    batch_size: usize,
    sample_count: usize,
    state: SamplerState,
}

impl BatchSampler {
    /// A sampler of `batch_size` out of `sample_count` indices.
    ///
    /// # Errors
    /// [`SamplingError`] when the batch size is zero, or larger than the number of samples unless
    /// sampling is with replacement.
    pub fn new(
        sampling: Sampling,
        batch_size: usize,
        sample_count: usize,
    ) -> Result<Self, SamplingError> {
        let fits = batch_size <= sample_count || sampling == Sampling::WithReplacement;
        if batch_size == 0 || sample_count == 0 || !fits || u32::try_from(sample_count).is_err() {
            return Err(SamplingError { batch_size, sample_count });
        }
        Ok(Self { sampling, batch_size, sample_count, state: SamplerState::default() })
    }

    /// How the samples of a batch are drawn.
    pub fn sampling(&self) -> Sampling {
        self.sampling
    }

    /// The state of the sampler between two batches.
    pub fn state(&self) -> &SamplerState {
        &self.state
    }

    /// Resumes from the state of a sampler with the same settings.
    ///
    /// Returns `false` and changes nothing if no such sampler can be in that state. For reshuffling
    /// that means an order of other samples, or a position beyond it; for the other samplings it
    /// means any order.
    #[must_use]
    pub fn restore(&mut self, state: &SamplerState) -> bool {
        let mut seen = vec![false; self.sample_count];
        let is_permutation = state.order.len() == self.sample_count
            && state.order.iter().all(|i| {
                seen.get_mut(*i as usize).is_some_and(|seen| !std::mem::replace(seen, true))
            });
        let is_begun = self.sampling == Sampling::Reshuffling && is_permutation;
        let fits = is_begun || state.order.is_empty();
        let fits = fits && state.position <= state.order.len();
        if fits {
            self.state.clone_from(state);
        }
        fits
    }

    /// Appends the indices of the next batch to `batch`: `batch_size` of them, except with
    /// [`Sampling::Poisson`], where that is their mean number and there may be none.
    pub fn draw(&mut self, rng: &mut impl Rng, batch: &mut Vec<u32>) {
        #[expect(clippy::cast_possible_truncation, reason = "the constructor checked the count")]
        let count = self.sample_count as u32;
        match self.sampling {
            Sampling::WithReplacement => {
                batch.extend((0..self.batch_size).map(|_| rng.random_range(0..count)));
            }
            Sampling::WithoutReplacement if self.batch_size == 1 => {
                batch.push(rng.random_range(0..count));
            }
            Sampling::WithoutReplacement => {
                let subset = index::sample(rng, self.sample_count, self.batch_size);
                #[expect(clippy::cast_possible_truncation, reason = "indices are below count")]
                batch.extend(subset.into_iter().map(|i| i as u32));
            }
            Sampling::Poisson => {
                let probability = self.batch_size as f64 / self.sample_count as f64;
                batch.extend((0..count).filter(|_| rng.random_bool(probability)));
            }
            Sampling::Reshuffling => {
                let SamplerState { order, position } = &mut self.state;
                if *position + self.batch_size > order.len() {
                    if order.is_empty() {
                        *order = (0..count).collect();
                    }
                    order.shuffle(rng);
                    *position = 0;
                }
                batch.extend_from_slice(&order[*position..][..self.batch_size]);
                *position += self.batch_size;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::stream;

    use super::{BatchSampler, SamplerState, Sampling};

    fn batches(sampling: Sampling, batch_size: usize, n: usize, count: usize) -> Vec<Vec<u32>> {
        let mut sampler = BatchSampler::new(sampling, batch_size, n).unwrap();
        let mut rng = stream(7, "sampling test", 0);
        (0..count)
            .map(|_| {
                let mut batch = Vec::new();
                sampler.draw(&mut rng, &mut batch);
                batch
            })
            .collect()
    }

    #[test]
    fn every_sampling_is_uniform() {
        // 30 000 indices over 10 samples: counts have standard deviation below √2700 = 52; five of
        // them are exceeded by chance less than once in 10⁵ runs over the 30 counts tried.
        for sampling in
            [Sampling::WithReplacement, Sampling::WithoutReplacement, Sampling::Reshuffling]
        {
            let mut counts = [0_i32; 10];
            for i in batches(sampling, 3, 10, 10_000).into_iter().flatten() {
                counts[i as usize] += 1;
            }
            for count in counts {
                assert!((count - 3000).abs() < 260, "{sampling:?}: {counts:?}");
            }
        }
    }

    #[test]
    fn without_replacement_a_batch_is_distinct() {
        for mut batch in batches(Sampling::WithoutReplacement, 6, 8, 500) {
            batch.sort_unstable();
            batch.dedup();
            assert_eq!(batch.len(), 6);
        }
    }

    #[test]
    fn a_poisson_batch_holds_each_sample_independently() {
        // The number of samples is binomial with mean 3 and variance 2.1. Over 10 000 batches the
        // mean has standard deviation 0.0145 and the variance 0.03; the bounds are more than five
        // of them.
        let drawn = batches(Sampling::Poisson, 3, 10, 10_000);
        assert!(drawn.iter().all(|batch| batch.is_sorted_by(|a, b| a < b)));
        let sizes: Vec<f64> = drawn.iter().map(|batch| batch.len() as f64).collect();
        let mean = sizes.iter().sum::<f64>() / 1e4;
        let variance = sizes.iter().map(|size| (size - mean).powi(2)).sum::<f64>() / 1e4;
        assert!((mean - 3.0).abs() < 0.08 && (variance - 2.1).abs() < 0.16, "{mean} {variance}");
        assert!(batches(Sampling::Poisson, 4, 4, 9).iter().all(|batch| *batch == [0, 1, 2, 3]));
    }

    #[test]
    fn an_epoch_of_reshuffling_sees_every_sample_once() {
        for epoch in batches(Sampling::Reshuffling, 4, 12, 30).chunks(3) {
            let mut seen: Vec<u32> = epoch.iter().flatten().copied().collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..12).collect::<Vec<u32>>());
        }
    }

    #[test]
    fn a_sampler_goes_on_from_its_state_and_from_no_other() {
        let mut sampler = BatchSampler::new(Sampling::Reshuffling, 2, 7).unwrap();
        let mut rng = stream(7, "sampling test", 1);
        let mut batch = Vec::new();
        for _ in 0..5 {
            sampler.draw(&mut rng, &mut batch);
        }
        let mut second = BatchSampler::new(Sampling::Reshuffling, 2, 7).unwrap();
        assert!(second.restore(sampler.state()));
        let (mut expected, mut actual, mut second_rng) = (Vec::new(), Vec::new(), rng.clone());
        for _ in 0..5 {
            sampler.draw(&mut rng, &mut expected);
            second.draw(&mut second_rng, &mut actual);
        }
        assert_eq!(actual, expected);

        let mut smaller = BatchSampler::new(Sampling::Reshuffling, 2, 6).unwrap();
        assert!(!smaller.restore(sampler.state()));
        let mut twice = sampler.state().clone();
        twice.order[0] = twice.order[1];
        assert!(!second.restore(&twice));
        assert!(!second.restore(&SamplerState { order: Vec::new(), position: 1 }));
        let mut other = BatchSampler::new(Sampling::WithReplacement, 2, 7).unwrap();
        assert!(!other.restore(sampler.state()));
    }

    #[test]
    fn impossible_batches_are_refused() {
        assert!(BatchSampler::new(Sampling::WithoutReplacement, 9, 8).is_err());
        assert!(BatchSampler::new(Sampling::Poisson, 9, 8).is_err());
        assert!(BatchSampler::new(Sampling::WithReplacement, 9, 8).is_ok());
        let error = BatchSampler::new(Sampling::Reshuffling, 0, 8).unwrap_err();
        assert_eq!(error.to_string(), "the batch size is 0, expected a number from 1 to 8");
    }
}
