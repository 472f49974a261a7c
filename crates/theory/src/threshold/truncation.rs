//! Truncation of the smallest eigenvalues of G, with a bound on its effect on the threshold.

use std::borrow::Cow;

use flatmin_linalg::RowMatrix;
use flatmin_linalg::rounding::gamma;

use super::interval::ThresholdOptions;
use super::response::Response;
use super::search::Bracket;
use crate::Minimum;

/// The fraction of the requested width that truncation may use up.
const WIDTH_SHARE: f64 = 0.05;

/// Below this many rows, truncation saves nothing.
const MIN_ROWS: usize = 512;

/// Truncation saves time if it drops at least one in this many eigenvalues.
const MIN_FRACTION: usize = 8;

/// The modes of G that truncation keeps: all except the smallest ones.
pub(super) struct LeadingModes<'a> {
    pub(super) eigenvalues: &'a [f64],
    pub(super) rows: Cow<'a, RowMatrix>,
    /// `max_i Σ ĝ_ik²` over the modes k that are left out, and with several outputs over the rows
    /// of sample i.
    heaviest: f64,
    /// The largest eigenvalue that is left out.
    largest: f64,
    orthogonality: f64,
}

impl<'a> LeadingModes<'a> {
    /// All modes but the `count` smallest.
    pub(super) fn without(minimum: &'a Minimum, count: usize) -> Self {
        let (_, all, rows) = minimum.scaled();
        let (left_out, eigenvalues) = all.split_at(count);
        let heaviest = lightest_modes(minimum, count, f64::INFINITY).1;
        let rows = match count {
            0 => Cow::Borrowed(rows),
            _ => Cow::Owned(RowMatrix::from_fn(rows.rows(), eigenvalues.len(), |i, k| {
                rows.row(i)[count + k]
            })),
        };
        let largest = left_out.last().copied().unwrap_or(0.0);
        let orthogonality = minimum.accuracy.orthogonality;
        Self { eigenvalues, rows, heaviest, largest, orthogonality }
    }

    /// All modes except the smallest ones that can be dropped within a small fraction of the
    /// requested width, if dropping them saves time. With momentum or weight decay no modes are
    /// dropped.
    pub(super) fn affordable(
        minimum: &'a Minimum,
        response: &Response<'_>,
        options: &ThresholdOptions,
    ) -> Self {
        let (_, eigenvalues, rows) = minimum.scaled();
        let is_small = rows.rows() < MIN_ROWS || eigenvalues.len() < MIN_FRACTION;
        let law = match response.plain() {
            Some(law) if !is_small && response.noise > 0.0 => law,
            _ => return Self::without(minimum, 0),
        };
        let lower = response.pole() + response.spectral_root(minimum.output_count());
        let allowance =
            WIDTH_SHARE * options.relative_width.min(1.0) * lower / (4.0 * response.noise);
        // The mean sample gives a first guess. It is no heavier than the heaviest sample.
        let mut count = 0;
        let mut mean = 0.0;
        // Dropped eigenvalues must be far below μ, so that the denominator of δ is close to μ.
        let small = lower / 16.0;
        let curvature = law.curvature.max(0.0);
        let fits = |mean: f64, next: f64| mean + next <= allowance && curvature * next <= small;
        while count < eigenvalues.len() - 1 && fits(mean, eigenvalues[count]) {
            mean += eigenvalues[count];
            count += 1;
        }
        let worth_it = |count: usize| count >= eigenvalues.len() / MIN_FRACTION;
        if worth_it(count) {
            count = lightest_modes(minimum, count, 0.9 * allowance).0;
        }
        Self::without(minimum, if worth_it(count) { count } else { 0 })
    }

    pub(super) fn is_all(&self) -> bool {
        self.largest <= 0.0
    }

    /// The options of the search, with the rest of the requested width after truncation.
    pub(super) fn remaining_options(&self, options: &ThresholdOptions) -> ThresholdOptions {
        let share = if self.is_all() { 1.0 } else { 1.0 - WIDTH_SHARE };
        ThresholdOptions { relative_width: share * options.relative_width, ..*options }
    }

    /// Widens an interval for the μ* of the kept modes to one for the μ* of all modes.
    ///
    /// With the modes t left out, `ρ(M) ≤ ρ(M_kept) + δ` at every μ from the upper end on, where
    /// `δ = 4P(1+ω) max_i Σ_{k∈t} ĝ_ik² / (μ − κλ_t)`, and `ρ(M_kept)` falls at least like 1/μ. So
    /// μ* is at most 1/(1 − δ) times the upper end. The lower end needs no change, because μ* is a
    /// maximum over X.
    pub(super) fn widen(&self, bracket: &mut Bracket, response: &Response<'_>) {
        let Some(law) = response.plain().filter(|_| !self.is_all()) else { return };
        let distance = bracket.upper - law.curvature.max(0.0) * self.largest;
        let factor = 4.0 * response.noise * (1.0 + self.orthogonality);
        let share = factor * self.heaviest / distance * (1.0 + gamma(16));
        bracket.upper = if share < 1.0 {
            bracket.upper / (1.0 - share) * (1.0 + gamma(8))
        } else {
            f64::INFINITY
        };
    }
}

/// The largest number of smallest modes, at most `count`, whose weight `Σ ĝ_ik²` in every sample is
/// at most `limit`; and the largest such weight, rounded up.
fn lightest_modes(minimum: &Minimum, mut count: usize, limit: f64) -> (usize, f64) {
    let outputs = minimum.output_count();
    let (_, _, rows) = minimum.scaled();
    let weight = |sample: usize, k: usize| -> f64 {
        let rows = (sample * outputs..(sample + 1) * outputs).map(|row| rows.row(row));
        rows.map(|row| row[k] * row[k]).sum()
    };
    for sample in 0..minimum.sample_count() {
        let mut sum = 0.0;
        for k in 0..count {
            sum += weight(sample, k);
            if sum > limit {
                count = k;
                break;
            }
        }
    }
    let total = |sample: usize| (0..count).map(|k| weight(sample, k)).sum::<f64>();
    let heaviest = (0..minimum.sample_count()).map(total).fold(0.0, f64::max);
    (count, heaviest * (1.0 + gamma(count + outputs + 4)))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use flatmin_linalg::{Parallelism, RowMatrix};

    use super::LeadingModes;
    use crate::threshold::perron::PerronOperator;
    use crate::threshold::response::Response;
    use crate::threshold::{ThresholdOptions, search, threshold_with};
    use crate::{Batch, Minimum, Noise, Optimizer, Sampling};

    /// A minimum whose Jacobian has columns that shrink by `ratio`.
    fn minimum(samples: usize, outputs: usize, parameters: usize, ratio: f64) -> Minimum {
        let jacobian = RowMatrix::from_fn(samples * outputs, parameters, |i, j| {
            let entry = ((i * 7919 + j * 104_729 + i * i * j) % 1009) as f64 / 504.5 - 1.0;
            entry * ratio.powi(i32::try_from(j).unwrap())
        });
        Minimum::with_outputs(&jacobian, outputs).unwrap()
    }

    /// Without widening, the upper end lies below μ*.
    #[test]
    fn the_interval_without_some_modes_is_widened_to_that_of_all() {
        for (outputs, batch_size) in [(1, 1), (1, 4), (2, 1), (2, 4)] {
            let minimum = minimum(40, outputs, 30, 0.8);
            let batch = Batch::new(batch_size, Sampling::WithReplacement).unwrap();
            let noise = batch.noise(40).unwrap();
            let options = ThresholdOptions::default();
            let exact = threshold_with(&minimum, &Optimizer::sgd(), &batch, &options).unwrap();
            let unit = libm::scalbn(1.0, -2 * minimum.scaled().0);
            let [lower, upper] = [exact.upper, exact.lower].map(|rate| 2.0 * unit / rate);
            for count in [5, 10, 20] {
                let kept = LeadingModes::without(&minimum, count);
                let response = Response::new(kept.eigenvalues, noise, &Optimizer::sgd());
                let parallelism = Parallelism::Sequential;
                let mut operator = PerronOperator::new(response, &kept.rows, outputs, parallelism);
                let mut bracket = search::bracket(&mut operator, &options).unwrap();
                assert!(bracket.upper < lower, "{outputs} {batch_size}: {}", bracket.upper / lower);
                kept.widen(&mut bracket, &response);
                assert!(bracket.lower <= lower && upper <= bracket.upper, "{outputs} {batch_size}");
            }
        }
    }

    #[test]
    fn a_wide_interval_affords_to_leave_modes_out_and_holds_the_narrow_one() {
        let minimum = minimum(520, 1, 100, 0.9);
        for batch_size in [1, 8] {
            let batch = Batch::new(batch_size, Sampling::WithReplacement).unwrap();
            let response = |minimum: &Minimum| -> usize {
                let noise = batch.noise(520).unwrap();
                let (_, eigenvalues, _) = minimum.scaled();
                let response = Response::new(eigenvalues, noise, &Optimizer::sgd());
                let options = ThresholdOptions { relative_width: 1e-3, ..Default::default() };
                LeadingModes::affordable(minimum, &response, &options).eigenvalues.len()
            };
            assert!((10..80).contains(&response(&minimum)), "{}", response(&minimum));
            let narrow =
                threshold_with(&minimum, &Optimizer::sgd(), &batch, &ThresholdOptions::default())
                    .unwrap();
            let options = ThresholdOptions { relative_width: 1e-3, ..Default::default() };
            let wide = threshold_with(&minimum, &Optimizer::sgd(), &batch, &options).unwrap();
            assert!(wide.lower <= narrow.lower && narrow.upper <= wide.upper);
            assert!(wide.relative_width() <= 1e-3, "{}", wide.relative_width());
        }
    }

    #[test]
    fn nothing_is_touched_where_nothing_can_be_left_out() {
        let minimum = minimum(520, 1, 100, 0.9);
        let (_, eigenvalues, rows) = minimum.scaled();
        let noise = Noise { coefficient: 1.0, mean_deficit: 1.0 };
        for (momentum, relative_width) in [(0.0, 1e-10), (0.9, 1e-3)] {
            let optimizer = Optimizer::sgd().momentum(momentum).unwrap();
            let response = Response::new(eigenvalues, noise, &optimizer);
            let options = ThresholdOptions { relative_width, ..Default::default() };
            let kept = LeadingModes::affordable(&minimum, &response, &options);
            assert!(matches!(kept.rows, Cow::Borrowed(same) if std::ptr::eq(same, rows)));
            assert_eq!(kept.remaining_options(&options), options);
        }
    }
}
