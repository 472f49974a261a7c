//! Claims and their verdicts.

use serde::Serialize;

use crate::table::number;

/// What the measurements say of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The predicate is true of everything measured.
    Holds,
    /// It is false.
    Fails,
    /// Too few runs, or sizes too small, to say.
    Undecided,
}

impl Verdict {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Fails => "fails",
            Self::Undecided => "undecided",
        }
    }
}

/// One measured quantity of a claim, over its runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// What, in words.
    pub quantity: String,
    /// Median over the runs; `null` without runs.
    pub median: Option<f64>,
    /// Smallest value.
    pub minimum: Option<f64>,
    /// Largest value.
    pub maximum: Option<f64>,
    /// Number of runs.
    pub runs: usize,
}

impl Measured {
    /// Sums up values. Those that are not finite count as runs and make the summary `null`.
    pub fn new(quantity: impl Into<String>, values: &[f64]) -> Self {
        let finite = !values.is_empty() && values.iter().all(|v| v.is_finite());
        let some = |value: f64| finite.then_some(value);
        Self {
            quantity: quantity.into(),
            median: some(median(values)),
            minimum: some(values.iter().copied().fold(f64::INFINITY, f64::min)),
            maximum: some(values.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
            runs: values.len(),
        }
    }

    /// The three summary numbers as short text for a reader.
    pub fn display(&self) -> [String; 3] {
        [self.median, self.minimum, self.maximum]
            .map(|v| v.map_or_else(|| "–".to_owned(), short_number))
    }
}

/// A claim, judged.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Claim {
    /// Its number in the list of claims.
    pub id: String,
    /// The sentence.
    pub sentence: String,
    /// Statement ids it rests on.
    pub source: String,
    /// The predicate, in words.
    pub predicate: String,
    /// What was measured.
    pub measured: Vec<Measured>,
    /// Number of training runs (or networks) behind it.
    pub runs: usize,
    /// The verdict.
    pub verdict: Verdict,
    /// Why it is undecided, or what is true instead; may be empty.
    pub note: String,
}

/// Four significant digits, in scientific notation where that is shorter to read.
pub fn short_number(value: f64) -> String {
    if !value.is_finite() {
        return number(value);
    }
    let size = value.abs();
    if size <= 0.0 {
        return "0".to_owned();
    }
    if (1e-3..1e5).contains(&size) {
        // Digits after the point that leave four in all.
        let limits = [1e3, 1e2, 1e1, 1.0, 1e-1, 1e-2];
        let digits = limits.iter().position(|limit| size >= *limit).unwrap_or(limits.len());
        let text = format!("{value:.digits$}");
        if text.contains('.') {
            return text.trim_end_matches('0').trim_end_matches('.').to_owned();
        }
        return text;
    }
    format!("{value:.2e}")
}

/// The median; the mean of the middle two for an even count; NaN of nothing.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    match n {
        0 => f64::NAN,
        _ if n % 2 == 1 => sorted[n / 2],
        _ => 0.5 * (sorted[n / 2 - 1] + sorted[n / 2]),
    }
}

/// The mean and its standard error; NaN of nothing, and an error of NaN for a single value.
pub(crate) fn mean_and_standard_error(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (mean, (squares / (n - 1.0) / n).sqrt())
}

/// Spearman's rank correlation of the pairs; ties share their mean rank. NaN for fewer than two.
pub(crate) fn spearman(pairs: &[(f64, f64)]) -> f64 {
    let (x, y): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let (x, y) = (ranks(&x), ranks(&y));
    let mean = (pairs.len() as f64 + 1.0) / 2.0;
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(&y) {
        xy += (x - mean) * (y - mean);
        xx += (x - mean).powi(2);
        yy += (y - mean).powi(2);
    }
    xy / (xx * yy).sqrt()
}

fn ranks(values: &[f64]) -> Vec<f64> {
    values
        .iter()
        .map(|v| {
            let below = values.iter().filter(|w| *w < v).count() as f64;
            let same = values.iter().filter(|w| w.total_cmp(v).is_eq()).count() as f64;
            below + (same + 1.0) / 2.0
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Measured, mean_and_standard_error, median, short_number, spearman};

    #[test]
    fn medians_and_ranks_are_the_textbook_ones() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-15);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-15);
        let falling = [(1.0, 9.0), (2.0, 7.0), (3.0, 5.0), (4.0, 1.0)];
        assert!((spearman(&falling) + 1.0).abs() < 1e-15);
        // One swap among five: 1 − 6·2/(5·24) = 0.9.
        let swapped = [(1.0, 1.0), (2.0, 3.0), (3.0, 2.0), (4.0, 4.0), (5.0, 5.0)];
        assert!((spearman(&swapped) - 0.9).abs() < 1e-15);
    }

    #[test]
    fn the_standard_error_is_the_textbook_one() {
        // Variance 5/3 over n − 1, divided by n = 4.
        let (mean, error) = mean_and_standard_error(&[1.0, 2.0, 3.0, 4.0]);
        assert!((mean - 2.5).abs() < 1e-15 && (error - (5.0_f64 / 12.0).sqrt()).abs() < 1e-15);
        assert!(mean_and_standard_error(&[1.0]).1.is_nan());
    }

    #[test]
    fn a_run_without_a_number_is_not_dropped_in_silence() {
        let measured = Measured::new("x", &[1.0, f64::NAN]);
        assert_eq!((measured.runs, measured.median), (2, None));
    }

    #[test]
    fn short_numbers_have_four_digits() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.98765, "0.9877"),
            (123.456, "123.5"),
            (4491.2, "4491"),
            (1.23456e-7, "1.23e-7"),
            (2.0e6, "2.00e6"),
            (-0.5, "-0.5"),
        ] {
            assert_eq!(short_number(value), text);
        }
    }
}
