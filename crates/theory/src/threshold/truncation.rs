//! Leaving out the smallest eigenvalues of G, with a bound on what that does to the threshold.

use std::borrow::Cow;

use flatmin_linalg::RowMatrix;

use super::{Bracket, ThresholdOptions};
use crate::Minimum;
use crate::minimum::rounding;
use crate::threshold::response::Response;

/// The part of the requested width that leaving out eigenvalues may take.
const SHARE: f64 = 0.05;

/// Fewer rows are not worth it.
const LEAST_ROWS: usize = 512;

/// Nor is it to leave out less than one in so many eigenvalues.
const LEAST_PART: usize = 8;

/// The modes that are kept: all but the first few.
pub(super) struct Kept<'a> {
    pub(super) eigenvalues: &'a [f64],
    pub(super) rows: Cow<'a, RowMatrix>,
    /// `max_i Σ ĝ_ik²` over the modes k (and with several outputs the rows of a sample) that are left out.
    heaviest: f64,
    /// The largest eigenvalue that is left out.
    largest: f64,
    orthogonality: f64,
}

impl<'a> Kept<'a> {
    /// All but the `count` smallest.
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
        let orthogonality = minimum.accuracy().orthogonality;
        Self { eigenvalues, rows, heaviest, largest, orthogonality }
    }

    /// All but those that a small part of the requested width allows to leave out, where that pays. Only for
    /// plain SGD: with momentum none are left out.
    pub(super) fn affordable(
        minimum: &'a Minimum,
        response: &Response<'_>,
        options: &ThresholdOptions,
    ) -> Self {
        let (_, eigenvalues, rows) = minimum.scaled();
        let is_small = rows.rows() < LEAST_ROWS || eigenvalues.len() < LEAST_PART;
        if is_small || response.coupling > 0.0 || response.noise <= 0.0 {
            return Self::without(minimum, 0);
        }
        let lower = response.pole() + response.spectral_root(minimum.output_count());
        let room = SHARE * options.relative_width.min(1.0) * lower / (4.0 * response.noise);
        // The heaviest sample is at least as heavy as the mean one.
        let mut count = 0;
        let mut mean = 0.0;
        // Far below μ, where the denominator of δ is about μ: what is spent is then what was counted on.
        let small = lower / 16.0;
        let curvature = response.curvature.max(0.0);
        let fits = |mean: f64, next: f64| mean + next <= room && curvature * next <= small;
        while count < eigenvalues.len() - 1 && fits(mean, eigenvalues[count]) {
            mean += eigenvalues[count];
            count += 1;
        }
        let worth_it = |count: usize| count >= eigenvalues.len() / LEAST_PART;
        if worth_it(count) {
            count = lightest_modes(minimum, count, 0.9 * room).0;
        }
        Self::without(minimum, if worth_it(count) { count } else { 0 })
    }

    pub(super) fn is_all(&self) -> bool {
        self.largest <= 0.0
    }

    /// The part of the requested width that is left for the search.
    pub(super) fn options(&self, options: &ThresholdOptions) -> ThresholdOptions {
        let share = if self.is_all() { 1.0 } else { 1.0 - SHARE };
        ThresholdOptions { relative_width: share * options.relative_width, ..*options }
    }

    /// Makes an interval for the μ* of the modes that are kept one for that of all of them.
    ///
    /// With the modes t left out, `ρ(M) ≤ ρ(M_kept) + δ` at every μ not below the upper end, where
    /// `δ = 4P(1+ω) max_i Σ_{k∈t} ĝ_ik² / (μ − κλ_t)`; and `ρ(M_kept)` falls at least like 1/μ. So μ* is at most
    /// 1/(1 − δ) times the upper end. The lower end needs no change: (1) of the docs is a maximum over X.
    pub(super) fn widen(&self, bracket: &mut Bracket, response: &Response<'_>) {
        if self.is_all() {
            return;
        }
        let distance = bracket.upper - response.curvature.max(0.0) * self.largest;
        let factor = 4.0 * response.noise * (1.0 + self.orthogonality);
        let share = factor * self.heaviest / distance * (1.0 + rounding(16));
        bracket.upper = if share < 1.0 {
            bracket.upper / (1.0 - share) * (1.0 + rounding(8))
        } else {
            f64::INFINITY
        };
    }
}

/// The number of modes, the smallest `count` at most, whose part `Σ ĝ_ik²` in every sample is at most `most`; and
/// the largest such part, rounded up.
fn lightest_modes(minimum: &Minimum, mut count: usize, most: f64) -> (usize, f64) {
    let outputs = minimum.output_count();
    let (_, _, rows) = minimum.scaled();
    let part = |sample: usize, k: usize| -> f64 {
        let rows = (sample * outputs..(sample + 1) * outputs).map(|row| rows.row(row));
        rows.map(|row| row[k] * row[k]).sum()
    };
    for sample in 0..minimum.sample_count() {
        let mut sum = 0.0;
        for k in 0..count {
            sum += part(sample, k);
            if sum > most {
                count = k;
                break;
            }
        }
    }
    let parts = |sample: usize| (0..count).map(|k| part(sample, k)).sum::<f64>();
    let heaviest = (0..minimum.sample_count()).map(parts).fold(0.0, f64::max);
    (count, heaviest * (1.0 + rounding(count + outputs + 4)))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use flatmin_linalg::{Parallelism, RowMatrix};

    use super::Kept;
    use crate::threshold::perron::Operator;
    use crate::threshold::response::Response;
    use crate::threshold::{ThresholdOptions, search, threshold_with};
    use crate::{Batch, Minimum, Optimizer, Sampling};

    /// Columns that shrink by `ratio`.
    fn minimum(samples: usize, outputs: usize, parameters: usize, ratio: f64) -> Minimum {
        let jacobian = RowMatrix::from_fn(samples * outputs, parameters, |i, j| {
            let entry = ((i * 7919 + j * 104_729 + i * i * j) % 1009) as f64 / 504.5 - 1.0;
            entry * ratio.powi(i32::try_from(j).unwrap())
        });
        Minimum::with_outputs(&jacobian, outputs).unwrap()
    }

    /// What is left out must be accounted for: without that the upper end lies below μ*.
    #[test]
    fn the_interval_without_some_modes_is_widened_to_that_of_all() {
        for (outputs, batch_size) in [(1, 1), (1, 4), (2, 1), (2, 4)] {
            let minimum = minimum(40, outputs, 30, 0.8);
            let batch = Batch::new(batch_size, Sampling::WithReplacement).unwrap();
            let p = batch.noise_coefficient(40).unwrap();
            let options = ThresholdOptions::default();
            let exact = threshold_with(&minimum, &Optimizer::sgd(), &batch, &options).unwrap();
            let unit = libm::scalbn(1.0, -2 * minimum.scaled().0);
            let [lower, upper] = [exact.upper, exact.lower].map(|rate| 2.0 * unit / rate);
            for count in [5, 10, 20] {
                let kept = Kept::without(&minimum, count);
                let response = Response::new(kept.eigenvalues, p, 0.0);
                let parallelism = Parallelism::Sequential;
                let mut operator = Operator::new(response, &kept.rows, outputs, parallelism);
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
                let p = batch.noise_coefficient(520).unwrap();
                let (_, eigenvalues, _) = minimum.scaled();
                let response = Response::new(eigenvalues, p, 0.0);
                let options = ThresholdOptions { relative_width: 1e-3, ..Default::default() };
                Kept::affordable(minimum, &response, &options).eigenvalues.len()
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
        for (momentum, relative_width) in [(0.0, 1e-10), (0.9, 1e-3)] {
            let response = Response::new(eigenvalues, 1.0, momentum);
            let options = ThresholdOptions { relative_width, ..Default::default() };
            let kept = Kept::affordable(&minimum, &response, &options);
            assert!(matches!(kept.rows, Cow::Borrowed(same) if std::ptr::eq(same, rows)));
            assert_eq!(kept.options(&options), options);
        }
    }
}
