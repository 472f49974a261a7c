//! The samples of the batches.

use rand::distr::{Distribution as _, OpenClosed01};
use rand::{Rng, RngExt as _};

use crate::{Batch, Sampling};

/// Draws the samples of one batch after another, for several replicas.
#[derive(Debug)]
pub(super) struct Sampler {
    size: usize,
    sample_count: u32,
    draws: Draws,
}

#[derive(Debug)]
enum Draws {
    /// Independent samples.
    Single,
    /// Subsets, with a permutation of the samples that all replicas share.
    Subset(Vec<u32>),
    /// Poisson batches, with `ln(1 − B/n)`.
    Poisson(f64),
    /// Epochs of `used` samples, one of each replica.
    Epochs { used: usize, epochs: Vec<Epoch> },
}

/// A shuffle that is under way: the samples before `next` are drawn.
#[derive(Debug)]
struct Epoch {
    order: Vec<u32>,
    next: usize,
}

impl Sampler {
    pub(super) fn new(batch: Batch, sample_count: usize) -> Self {
        let size = batch.size();
        // Fits, because a minimum has an n × n Gram matrix in memory.
        let count = u32::try_from(sample_count).unwrap_or(u32::MAX);
        let draws = match batch.sampling() {
            Sampling::WithoutReplacement if size > 1 => Draws::Subset((0..count).collect()),
            Sampling::WithReplacement | Sampling::WithoutReplacement => Draws::Single,
            Sampling::Poisson => Draws::Poisson(libm::log1p(-(size as f64 / sample_count as f64))),
            Sampling::Reshuffling => {
                let left_over = if batch.drops_last() { sample_count % size } else { 0 };
                Draws::Epochs { used: sample_count - left_over, epochs: Vec::new() }
            }
        };
        Self { size, sample_count: count, draws }
    }

    /// True if every batch has exactly one sample.
    pub(super) fn draws_single_samples(&self) -> bool {
        self.size == 1 && !matches!(self.draws, Draws::Poisson(_))
    }

    /// The number by which the sum over a batch of `len` samples is divided.
    pub(super) fn divisor(&self, len: usize) -> usize {
        if matches!(self.draws, Draws::Epochs { .. }) { len } else { self.size }
    }

    /// Lets every replica begin a new epoch.
    pub(super) fn restart(&mut self) {
        if let Draws::Epochs { epochs, .. } = &mut self.draws {
            for epoch in epochs {
                epoch.next = 0;
            }
        }
    }

    /// Appends the samples of a batch of the replica with this index.
    pub(super) fn draw(&mut self, replica: usize, rng: &mut impl Rng, samples: &mut Vec<u32>) {
        let (n, size) = (self.sample_count, self.size);
        match &mut self.draws {
            Draws::Single => samples.extend((0..size).map(|_| rng.random_range(0..n))),
            Draws::Subset(order) => {
                // The first B places of a Fisher–Yates shuffle are a uniform subset from any
                // initial order, so no new order is needed after the last batch.
                shuffle(order, 0, size, rng);
                samples.extend_from_slice(&order[..size]);
            }
            Draws::Poisson(log_miss) => poisson(n, *log_miss, rng, samples),
            Draws::Epochs { used, epochs } => {
                while epochs.len() <= replica {
                    epochs.push(Epoch { order: (0..n).collect(), next: 0 });
                }
                let Epoch { order, next } = &mut epochs[replica];
                let end = (*next + size).min(*used);
                shuffle(order, *next, end, rng);
                samples.extend_from_slice(&order[*next..end]);
                *next = if end == *used { 0 } else { end };
            }
        }
    }
}

/// Shuffles the places from `start` to `end`, by Fisher–Yates.
fn shuffle(order: &mut [u32], start: usize, end: usize, rng: &mut impl Rng) {
    let n = order.len();
    for k in start..end {
        #[expect(clippy::cast_possible_truncation, reason = "the samples are counted by a u32")]
        let other = rng.random_range(k as u32..n as u32) as usize;
        order.swap(k, other);
    }
}

/// Appends each of n samples with the probability `1 − exp(log_miss)`.
fn poisson(n: u32, log_miss: f64, rng: &mut impl Rng, samples: &mut Vec<u32>) {
    let mut next = 0_u64;
    loop {
        // The number of samples between two members is geometric. U is above 0, so that its
        // logarithm is finite, and log_miss = −∞ (B = n) leaves out no sample.
        let uniform: f64 = OpenClosed01.sample(rng);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a quotient of two numbers that are not positive, and the cast saturates"
        )]
        let gap = (libm::log(uniform) / log_miss) as u64;
        next = next.saturating_add(gap);
        match u32::try_from(next) {
            Ok(sample) if sample < n => samples.push(sample),
            _ => return,
        }
        next += 1;
    }
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::stream;

    use super::Sampler;
    use crate::{Batch, Sampling};

    /// The batches of one replica after another.
    fn batches(batch: Batch, n: usize, count: usize, replicas: usize) -> Vec<Vec<u32>> {
        let mut sampler = Sampler::new(batch, n);
        let mut rng = stream(0, "sampler test", 0);
        let draw = |index: usize| {
            let mut samples = Vec::new();
            sampler.draw(index % replicas, &mut rng, &mut samples);
            samples
        };
        (0..count).map(draw).collect()
    }

    /// How often each subset of five samples was drawn.
    fn counts(batches: &[Vec<u32>]) -> [i32; 32] {
        let mut counts = [0; 32];
        for batch in batches {
            counts[batch.iter().fold(0_usize, |subset, i| subset | 1 << i)] += 1;
        }
        counts
    }

    #[test]
    fn subsets_are_uniform_and_distinct() {
        let batch = Batch::new(3, Sampling::WithoutReplacement).unwrap();
        let counts = counts(&batches(batch, 5, 10_000, 1));
        // Each of ten subsets is drawn 1000 times on average, with standard deviation 30. Six
        // standard deviations are exceeded by chance about once in 10⁷ runs.
        for (subset, count) in counts.iter().enumerate() {
            let expected = if subset.count_ones() == 3 { 1000 } else { 0 };
            assert!((count - expected).abs() <= 6 * expected * 3 / 100, "{counts:?}");
        }
    }

    #[test]
    fn every_sample_joins_a_poisson_batch_on_its_own() {
        for size in [1, 3, 5] {
            let batch = Batch::new(size, Sampling::Poisson).unwrap();
            let counts = counts(&batches(batch, 5, 10_000, 1));
            let join = size as f64 / 5.0;
            for (subset, count) in counts.iter().enumerate() {
                let joined = i32::try_from(subset.count_ones()).unwrap();
                let probability = join.powi(joined) * (1.0 - join).powi(5 - joined);
                let expected = 10_000.0 * probability;
                let deviation = (expected * (1.0 - probability)).sqrt();
                // 96 counts; six standard deviations, and a few more for rare subsets.
                let slack = 6.0 * deviation + if deviation > 0.0 { 5.0 } else { 1e-9 };
                assert!((f64::from(*count) - expected).abs() <= slack, "B = {size}: {counts:?}");
            }
        }
    }

    #[test]
    fn an_epoch_holds_every_sample_once_and_its_batches_are_uniform() {
        let batch = Batch::new(3, Sampling::Reshuffling).unwrap();
        // Three replicas take turns.
        let drawn = batches(batch, 5, 60_000, 3);
        let mut lasts = Vec::new();
        for six in drawn.chunks(6) {
            for replica in 0..3 {
                let (first, last) = (&six[replica], &six[replica + 3]);
                assert_eq!((first.len(), last.len()), (3, 2));
                let mut all = [first.as_slice(), last].concat();
                all.sort_unstable();
                assert_eq!(all, [0, 1, 2, 3, 4]);
                lasts.push(last.clone());
            }
        }
        // 30 000 last batches, ten pairs: mean 3000, standard deviation 52.
        let pairs = counts(&lasts);
        let drawn = pairs.iter().filter(|count| **count > 0);
        assert!(drawn.clone().count() == 10 && drawn.into_iter().all(|c| (c - 3000).abs() < 312));

        let kept = batches(batch.dropping_last(), 5, 10_000, 1);
        let counts = counts(&kept);
        assert!(kept.iter().all(|samples| samples.len() == 3));
        let drawn = counts.iter().filter(|count| **count > 0);
        assert!(drawn.clone().count() == 10 && drawn.into_iter().all(|c| (c - 1000).abs() < 180));
    }

    #[test]
    fn a_restart_begins_a_new_epoch() {
        let batch = Batch::new(3, Sampling::Reshuffling).unwrap();
        let mut sampler = Sampler::new(batch, 5);
        let mut rng = stream(0, "sampler test", 0);
        let mut samples = Vec::new();
        sampler.draw(0, &mut rng, &mut samples);
        sampler.restart();
        samples.clear();
        sampler.draw(0, &mut rng, &mut samples);
        assert_eq!(samples.len(), 3);
    }
}
