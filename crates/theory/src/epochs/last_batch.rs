//! The samples of a short last batch.

use faer::Mat;
use flatmin_linalg::{Stream, product};
use rand::RngExt as _;

use super::step::{Coefficients, Epoch};

/// The law by which samples are drawn into a short last batch. A few samples may carry the growth
/// there, and are drawn more often, with smaller weights.
pub(super) struct LastBatch {
    size: usize,
    /// Sums of the scores up to each sample.
    sums: Vec<f64>,
}

impl LastBatch {
    /// `None` if the last batch is as large as the others.
    pub(super) fn new(
        epoch: &Epoch<'_>,
        coefficients: &Coefficients,
        moments: &Mat<f64>,
    ) -> Option<Self> {
        let size = epoch.sizes.last().copied().filter(|size| *size < epoch.sizes[0])?;
        // ⟨Y, A Y Aᵀ⟩ for the A of a batch with one sample that counts 1/size.
        let rank = epoch.rank();
        let rows = epoch.rows.as_mat();
        let after = coefficients.without_gradient(moments, rank);
        let middle = product(moments.transpose(), after.as_ref());
        let all = middle.squared_norm_l2();
        let seen = product(rows, moments.get(..rank, ..));
        let moved = product(rows, coefficients.moved_by(moments, rank).as_ref());
        let both = product(moved.as_ref(), middle.as_ref());
        let mut sums = Vec::with_capacity(epoch.samples);
        let mut sum = 0.0;
        let dot = |a: &Mat<f64>, b: &Mat<f64>, row: usize| -> f64 {
            (0..a.ncols()).map(|k| a[(row, k)] * b[(row, k)]).sum()
        };
        for sample in 0..epoch.samples {
            let mut score = all;
            for row in sample * epoch.outputs..(sample + 1) * epoch.outputs {
                let share = 1.0 / size as f64;
                let square = dot(&seen, &seen, row) * dot(&moved, &moved, row) * share * share;
                score += square - 2.0 * share * dot(&both, &seen, row);
            }
            sum += score.max(0.0);
            sums.push(sum);
        }
        (sum.is_finite() && sum > 0.0).then_some(Self { size, sums })
    }

    /// Moves a sample into the last batch of an order for every other order, in proportion to its
    /// score. Returns the weight that makes up for it.
    pub(super) fn draw(&self, order: &mut [usize], rng: &mut Stream) -> f64 {
        let n = order.len();
        let total = self.sums[n - 1];
        let score = |sample: usize| {
            self.sums[sample] - if sample == 0 { 0.0 } else { self.sums[sample - 1] }
        };
        if rng.random::<bool>() {
            let at = rng.random::<f64>() * total;
            let sample = self.sums.partition_point(|sum| *sum <= at).min(n - 1);
            let place = order.iter().position(|other| *other == sample).unwrap_or(n - 1);
            order.swap(place, n - 1);
        }
        let last = &order[n - self.size..];
        let mean = last.iter().map(|&sample| score(sample)).sum::<f64>() / self.size as f64;
        2.0 / (1.0 + mean * n as f64 / total)
    }
}
