//! The list of all batches of a small sample.

use flatmin_theory::Sampling;

use crate::prelude::*;

/// Largest number of batches that are listed.
const MAX_BATCHES: usize = 500;

/// A batch with the number of copies of each sample and its probability.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WeightedBatch {
    pub(crate) counts: Vec<usize>,
    pub(crate) probability: f64,
}

/// Every batch of `sample_count` samples, up to the order of its samples. `None` if there are more
/// than 500 batches or none, and for samplings whose batches depend on each other.
pub(crate) fn batches(sample_count: usize, batch: Batch) -> Option<Vec<WeightedBatch>> {
    if batch.sampling() == Sampling::Poisson {
        return poisson_batches(sample_count, batch.size());
    }
    let most_copies = match batch.sampling() {
        Sampling::WithReplacement => batch.size(),
        Sampling::WithoutReplacement => 1,
        Sampling::Poisson | Sampling::Reshuffling => return None,
    };
    let mut listed = Vec::new();
    let mut counts = Vec::with_capacity(sample_count);
    list(sample_count, batch.size(), most_copies, &mut counts, &mut listed)?;
    // The probability is proportional to the number of orders of a batch, hence to 1/Π c_i!.
    let weight = |counts: &Vec<usize>| -> f64 {
        counts.iter().map(|c| 1.0 / (1..=*c).map(|k| k as f64).product::<f64>()).product()
    };
    let total: f64 = listed.iter().map(weight).sum();
    let with_probability = |counts: Vec<usize>| {
        let probability = weight(&counts) / total;
        WeightedBatch { counts, probability }
    };
    (!listed.is_empty()).then(|| listed.into_iter().map(with_probability).collect())
}

/// All subsets of the samples, with their probabilities if every sample joins with probability B/n.
fn poisson_batches(sample_count: usize, batch_size: usize) -> Option<Vec<WeightedBatch>> {
    let subsets = u32::try_from(sample_count).ok().and_then(|n| 1_usize.checked_shl(n))?;
    let share = batch_size as f64 / sample_count as f64;
    let batch = |subset: usize| {
        let counts: Vec<usize> = (0..sample_count).map(|i| subset >> i & 1).collect();
        let chance = |count: &usize| if *count == 1 { share } else { 1.0 - share };
        WeightedBatch { probability: counts.iter().map(chance).product(), counts }
    };
    (subsets <= MAX_BATCHES && share <= 1.0).then(|| (0..subsets).map(batch).collect())
}

/// Extends `counts` in all ways that place `left` samples; `None` if the list gets too long.
fn list(
    sample_count: usize,
    left: usize,
    most_copies: usize,
    counts: &mut Vec<usize>,
    listed: &mut Vec<Vec<usize>>,
) -> Option<()> {
    if counts.len() == sample_count {
        if left == 0 {
            listed.push(counts.clone());
        }
        return (listed.len() <= MAX_BATCHES).then_some(());
    }
    for copies in 0..=left.min(most_copies) {
        // The remaining samples must be able to take the rest.
        if left - copies <= most_copies * (sample_count - counts.len() - 1) {
            counts.push(copies);
            list(sample_count, left - copies, most_copies, counts, listed)?;
            counts.pop();
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::batches;
    use flatmin_theory::{Batch, Sampling};

    fn check(samples: usize, size: usize, sampling: Sampling, expected: usize) {
        let listed = batches(samples, Batch::new(size, sampling).unwrap()).unwrap();
        assert_eq!(listed.len(), expected);
        let total: f64 = listed.iter().map(|batch| batch.probability).sum();
        assert!((total - 1.0).abs() < 1e-14);
        for batch in listed {
            assert_eq!(batch.counts.len(), samples);
            assert_eq!(batch.counts.iter().sum::<usize>(), size);
        }
    }

    #[test]
    fn subsets_and_multisets_are_counted() {
        check(5, 2, Sampling::WithoutReplacement, 10);
        check(4, 4, Sampling::WithoutReplacement, 1);
        check(3, 2, Sampling::WithReplacement, 6);
        check(1, 7, Sampling::WithReplacement, 1);
    }

    #[test]
    fn a_pair_of_different_samples_is_twice_as_likely_as_a_double() {
        let listed = batches(2, Batch::new(2, Sampling::WithReplacement).unwrap()).unwrap();
        for batch in listed {
            let expected = if batch.counts == [1, 1] { 0.5 } else { 0.25 };
            assert!((batch.probability - expected).abs() < 1e-15);
        }
    }

    #[test]
    fn too_many_or_impossible_batches_are_not_listed() {
        let batch = |size, sampling| Batch::new(size, sampling).unwrap();
        assert!(batches(7, batch(14, Sampling::WithReplacement)).is_none());
        assert!(batches(2, batch(3, Sampling::WithoutReplacement)).is_none());
    }
}
