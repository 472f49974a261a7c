//! Claims and their verdicts.

use flatmin_linalg::named;
use serde::Serialize;

use crate::statistics::median;
use crate::table::short_number;

/// The verdict of the measurements on a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The predicate is true of everything measured.
    Holds,
    /// The predicate is false of something measured.
    Fails,
    /// The runs are too few, too short or too small to tell.
    Undecided,
}

named!(Verdict, ["holds" => Holds, "fails" => Fails, "undecided" => Undecided]);

/// One measured quantity of a claim, over its runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// The quantity, in words.
    pub quantity: String,
    /// Median over the runs; `null` without runs.
    pub median: Option<f64>,
    /// 95 % bootstrap interval of the median over the seeds, see [`add_intervals`]; `null` where it
    /// was not computed, or where the seeds do not say how certain the median is.
    ///
    /// [`add_intervals`]: crate::add_intervals
    pub interval: Option<[f64; 2]>,
    /// Smallest value.
    pub minimum: Option<f64>,
    /// Largest value.
    pub maximum: Option<f64>,
    /// Number of runs.
    pub runs: usize,
}

impl Measured {
    /// Summarises values. Those that are not finite count as runs and make the summary `null`.
    pub fn new(quantity: impl Into<String>, values: &[f64]) -> Self {
        let finite = !values.is_empty() && values.iter().all(|v| v.is_finite());
        let some = |value: f64| finite.then_some(value);
        Self {
            quantity: quantity.into(),
            median: some(median(values)),
            interval: None,
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

    /// The interval as short text for a reader.
    pub fn display_interval(&self) -> String {
        let words =
            |[low, high]: [f64; 2]| format!("[{}, {}]", short_number(low), short_number(high));
        self.interval.map_or_else(|| "–".to_owned(), words)
    }
}

/// How near a measured value came to the limit of a claim.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Margin {
    /// The value, in words.
    pub quantity: String,
    /// The value.
    pub value: f64,
    /// The limit.
    pub limit: f64,
    /// The distance from the limit over the limit; negative beyond it.
    pub relative: f64,
}

/// A claim, judged.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Claim {
    /// Its number in the list of claims.
    pub id: String,
    /// The experiment whose figure shows it.
    pub experiment: String,
    /// The sentence.
    pub sentence: String,
    /// The statements or papers it rests on.
    pub source: String,
    /// The predicate, in words.
    pub predicate: String,
    /// The measured quantities.
    pub measured: Vec<Measured>,
    /// The narrowest margin of a value that is compared with a limit; `null` if none is.
    pub margin: Option<Margin>,
    /// Number of training runs (or networks) behind it.
    pub runs: usize,
    /// The verdict.
    pub verdict: Verdict,
    /// The reason why it is undecided, or a remark on the verdict; may be empty.
    pub note: String,
}

#[cfg(test)]
mod tests {
    use super::Measured;

    #[test]
    fn a_run_without_a_number_is_not_dropped_in_silence() {
        let measured = Measured::new("x", &[1.0, f64::NAN]);
        assert_eq!((measured.runs, measured.median), (2, None));
    }
}
