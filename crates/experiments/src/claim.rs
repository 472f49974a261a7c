//! Claims and their verdicts.

use serde::Serialize;

use crate::statistics::median;
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

#[cfg(test)]
mod tests {
    use super::{Measured, short_number};

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
