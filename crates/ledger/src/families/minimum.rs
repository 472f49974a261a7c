//! Minima, each with a sampling of its batches.

use flatmin_theory::Sampling;

use super::trained::trained_jacobian;
use crate::prelude::*;

/// Hypotheses of the statements about mean-square stability.
pub(crate) const ZERO_LOSS: &str = "a zero-loss minimum, linearised; batches drawn independently, \
                                    with or without replacement (not reshuffled by epoch)";

/// A minimum, with a sampling of its batches.
#[derive(Debug, Clone, PartialEq)]
pub struct MinimumInstance {
    /// The Jacobian, n × p.
    pub jacobian: RowMatrix,
    /// The batch size and the sampling.
    pub batch: Batch,
}

impl Instance for MinimumInstance {
    fn sizes(&self) -> String {
        let Self { jacobian, batch } = self;
        format!("n = {}, p = {}, {}", jacobian.rows(), jacobian.columns(), batch_words(*batch))
    }
}

/// A batch in words, as in `B = 1 with replacement`.
pub(crate) fn batch_words(batch: Batch) -> String {
    format!("B = {} {}", batch.size(), batch.sampling().name().replace('-', " "))
}

impl MinimumInstance {
    /// A minimum with at most 7 parameters and 14 samples (16 parameters and 5 samples where a
    /// network was trained), from one of several deliberately hard families.
    pub fn random(rng: &mut dyn Rng) -> Self {
        let (rows, columns) = (size(rng), size(rng));
        let mut jacobian = normal_matrix(rows, columns, rng);
        match rng.random_range(0..11) {
            // Generic rows without further structure.
            0 => {}
            // Heavy-tailed row norms.
            1 => scale_rows_heavily(&mut jacobian, rng),
            2 => make_nearly_equal(&mut jacobian),
            // Some rows are zero, or all of them.
            3 => {
                for i in 0..rows {
                    scale_row(&mut jacobian, i, if rng.random_bool(0.5) { 0.0 } else { 1.0 });
                }
            }
            // Repeated rows; one distinct row makes all equal.
            4 => {
                let distinct = rng.random_range(1..=rows);
                let source = jacobian.clone();
                jacobian = RowMatrix::from_fn(rows, columns, |i, j| source.row(i % distinct)[j]);
            }
            // Low rank.
            5 => {
                let rank = rng.random_range(1..=rows.min(columns));
                let left = normal_matrix(rows, rank, rng);
                let right = normal_matrix(columns, rank, rng);
                let entry = |i, j| simd::dot(left.row(i), right.row(j));
                jacobian = RowMatrix::from_fn(rows, columns, entry);
            }
            // Scales that differ by column.
            6 => {
                let scales: Vec<f64> = (0..columns).map(|_| power_of_ten(rng, 2.0)).collect();
                jacobian = RowMatrix::from_fn(rows, columns, |i, j| scales[j] * jacobian.row(i)[j]);
            }
            // Orthogonal rows of unequal norm.
            7 => {
                jacobian = orthonormal_rows(rows.min(columns), columns, rng);
                for i in 0..jacobian.rows() {
                    scale_row(&mut jacobian, i, power_of_ten(rng, 1.0));
                }
            }
            // Networks fitted by SGD.
            8 => jacobian = trained_jacobian(rng),
            // Equal-norm tight frames: copies of an orthonormal basis of a subspace.
            _ => return Self::random_frame(rng),
        }
        let scale = power_of_ten(rng, 3.0);
        for i in 0..jacobian.rows() {
            scale_row(&mut jacobian, i, scale);
        }
        let batch = random_batch(jacobian.rows(), rng);
        Self { jacobian, batch }
    }

    /// An equal-norm tight frame, half of the time with p = 1/(rank + 1), where the sharp form of
    /// S3 is attained.
    fn random_frame(rng: &mut dyn Rng) -> Self {
        let columns = size(rng);
        let rank = rng.random_range(1..=columns);
        let copies = rng.random_range(1..=1 + MAX_SIZE / rank);
        let basis = orthonormal_rows(rank, columns, rng);
        let scale = power_of_ten(rng, 3.0);
        let jacobian =
            RowMatrix::from_fn(rank * copies, columns, |i, j| scale * basis.row(i % rank)[j]);
        let batch = if rng.random_bool(0.5) {
            checked_batch(rank + 1, Sampling::WithReplacement)
        } else {
            random_batch(jacobian.rows(), rng)
        };
        Self { jacobian, batch }
    }
}

/// A batch of `sample_count` samples. Its size is 1, or any number that the sampling allows.
pub(crate) fn random_batch(sample_count: usize, rng: &mut dyn Rng) -> Batch {
    if rng.random_bool(0.4) {
        return checked_batch(1, Sampling::WithoutReplacement);
    }
    if rng.random_bool(0.5) {
        checked_batch(rng.random_range(1..=sample_count), Sampling::WithoutReplacement)
    } else {
        checked_batch(rng.random_range(1..=2 * sample_count), Sampling::WithReplacement)
    }
}

fn checked_batch(size: usize, sampling: Sampling) -> Batch {
    Batch::new(size, sampling).expect("sizes are drawn from 1 on")
}
