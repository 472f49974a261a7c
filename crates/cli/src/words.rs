//! Words that several commands share: tables, shapes, intervals, and numbers in JSON.

use flatmin_host::{Align, Program, aligned, significant};
use flatmin_linalg::Sharpness;
use flatmin_theory::Threshold;
use serde::{Serialize, Serializer};

/// This program.
pub(crate) const PROGRAM: Program = Program::new("flatmin");

/// Digits of measured quantities.
pub(crate) const DIGITS: usize = 6;

/// Digits of the ends of an interval.
const INTERVAL_DIGITS: usize = 13;

/// An indented table: the first column flush left, the others flush right. Without `names` it has
/// no header.
pub(crate) fn table(names: &[&str], rows: &[Vec<String>]) -> String {
    let header = names.iter().map(|name| (*name).to_owned()).collect();
    let header = (!names.is_empty()).then_some(&header);
    let lines: Vec<&[String]> = header.into_iter().chain(rows).map(Vec::as_slice).collect();
    let align = |column| if column == 0 { Align::Left } else { Align::Right };
    let lines = aligned(&lines, align);
    lines.lines().fold(String::new(), |text, line| text + "  " + line + "\n")
}

/// Batch sizes in words.
pub(crate) fn size_words(sizes: &[usize]) -> String {
    let list: Vec<String> = sizes.iter().map(ToString::to_string).collect();
    match list.as_slice() {
        [one] => format!("batch size {one}"),
        [most @ .., last] => format!("batch sizes {} and {last}", most.join(", ")),
        [] => "no batch size".to_owned(),
    }
}

/// A shape, as in `20 × 10`.
pub(crate) fn shape_words(shape: &[usize]) -> String {
    if shape.is_empty() {
        return "a single number".to_owned();
    }
    shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(" × ")
}

/// The number as an integer, if it is one.
pub(crate) fn whole(value: f64) -> Option<u32> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "compared")]
    let whole = value as u32;
    f64::from(whole).total_cmp(&(value + 0.0)).is_eq().then_some(whole)
}

/// A number in JSON, with the fewest digits that give it back. An infinity is `"inf"` or `"-inf"`,
/// NaN is `null`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Number(pub(crate) f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            value if value.is_finite() => serializer.serialize_f64(value),
            value if value.is_nan() => serializer.serialize_none(),
            value if value > 0.0 => serializer.serialize_str("inf"),
            _ => serializer.serialize_str("-inf"),
        }
    }
}

/// The ends of the interval for a threshold.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Interval {
    lower: Number,
    upper: Number,
}

impl From<Threshold> for Interval {
    fn from(threshold: Threshold) -> Self {
        Self::new(threshold.lower, threshold.upper)
    }
}

impl Interval {
    /// The interval with these ends.
    pub(crate) fn new(lower: f64, upper: f64) -> Self {
        Self { lower: Number(lower), upper: Number(upper) }
    }

    /// The interval for a reader.
    pub(crate) fn text(self) -> String {
        let [lower, upper] =
            [self.lower, self.upper].map(|end| significant(end.0, INTERVAL_DIGITS));
        format!("[{lower}, {upper}]")
    }
}

/// The three measures of sharpness.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Measures {
    pub(crate) trace: Number,
    pub(crate) frobenius_norm: Number,
    pub(crate) lambda_max: Number,
}

impl From<Sharpness> for Measures {
    fn from(sharpness: Sharpness) -> Self {
        let Sharpness { trace, frobenius_norm, lambda_max } = sharpness;
        Self {
            trace: Number(trace),
            frobenius_norm: Number(frobenius_norm),
            lambda_max: Number(lambda_max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn tables_are_aligned_and_indented() {
        let rows = [vec!["1".to_owned(), "0.5".to_owned()], vec!["64".to_owned(), "∞".to_owned()]];
        assert_eq!(table(&["B", "η*"], &rows), "  B    η*\n  1   0.5\n  64    ∞\n");
        assert_eq!(table(&[], &rows[..1]), "  1  0.5\n");
        assert_eq!(table(&[], &[]), "");
    }
}
