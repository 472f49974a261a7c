//! Ranges and ticks.

use crate::figure::{Axis, Scale};
use crate::text::{Weight, text_width};

/// Font size of tick labels.
pub(crate) const TICK_SIZE: f64 = 12.0;

/// Number of decades from which on only decades are labelled; below it, labels are at 1, 2 and 5.
const DECADES_FOR_DECADE_LABELS: usize = 3;

/// Span, in decades, under which an axis without round labels counts as nearly linear.
const NEARLY_LINEAR: f64 = 0.5;

/// Limit on the number of ticks, more than any axis has room for. It bounds the loops for every
/// range.
const MAX_TICKS: u32 = 60;

/// The part of an axis that is shown, in transformed coordinates (log10 on a log axis).
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    scale: Scale,
    low: f64,
    high: f64,
}

/// A tick: its place along the axis, from 0 to 1, and its label, empty for a minor tick.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tick {
    pub(crate) at: f64,
    pub(crate) label: String,
}

/// The direction of an axis, on which the spacing of its labels depends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Horizontal,
    Vertical,
}

impl Scale {
    /// True if the axis has a position for `value`, inside or outside of its range.
    pub(crate) fn can_draw(self, value: f64) -> bool {
        self.transform(value).is_some()
    }

    /// The coordinate of `value` in which the axis is linear; `None` if `value` cannot be drawn.
    fn transform(self, value: f64) -> Option<f64> {
        match self {
            // The limit keeps differences of two values finite.
            Self::Linear | Self::Categories(_) => (value.abs() <= 1e300).then_some(value),
            Self::Log => (value.is_finite() && value > 0.0).then(|| libm::log10(value)),
        }
    }
}

impl View {
    /// The range that shows all of `data` with a little padding, and those `wishes` (values of
    /// references) that do not compress it too much: they must lie within ¾ of the data's span of
    /// the data, or within one decade on a log axis, or within a tenth of the largest value on a
    /// linear one. A valid explicit range is used unchanged.
    pub(crate) fn fit(axis: &Axis, data: &[f64], wishes: &[f64]) -> Self {
        let scale = axis.scale;
        let transform = |values: &[f64]| -> Vec<f64> {
            values.iter().filter_map(|&value| scale.transform(value)).collect()
        };
        if let Some((low, high)) = axis.range
            && let (Some(low), Some(high)) = (scale.transform(low), scale.transform(high))
            && low < high
        {
            return Self { scale, low, high };
        }
        let (data, wishes) = (transform(data), transform(wishes));
        let Some((mut low, mut high)) = extent(&data).or_else(|| extent(&wishes)) else {
            return Self { scale, low: 0.0, high: 1.0 };
        };
        let magnitude = low.abs().max(high.abs());
        let (reach, least_span) = match scale {
            Scale::Linear | Scale::Categories(_) => (0.1 * magnitude, 1e-4 * magnitude),
            Scale::Log => (1.0, 0.3),
        };
        let reach = reach.max(0.75 * (high - low));
        let near = (low - reach)..=(high + reach);
        for wish in wishes.into_iter().filter(|wish| near.contains(wish)) {
            (low, high) = (low.min(wish), high.max(wish));
        }
        if high - low <= least_span {
            let middle = f64::midpoint(low, high);
            let half = match scale {
                Scale::Linear | Scale::Categories(_) if magnitude > 0.0 => 0.1 * magnitude,
                Scale::Linear | Scale::Categories(_) => 1.0,
                Scale::Log => 0.15,
            };
            (low, high) = (middle - half, middle + half);
        }
        let padding = 0.05 * (high - low);
        Self { scale, low: low - padding, high: high + padding }
    }

    /// The position of `value`: 0 at the start of the axis, 1 at its end, `None` if it cannot be
    /// drawn.
    pub(crate) fn fraction(&self, value: f64) -> Option<f64> {
        self.scale.transform(value).map(|value| self.position(value))
    }

    fn position(&self, transformed: f64) -> f64 {
        (transformed - self.low) / (self.high - self.low)
    }

    fn shows(&self, transformed: f64) -> bool {
        let slack = 1e-9 * (self.high - self.low);
        self.low - slack <= transformed && transformed <= self.high + slack
    }

    fn tick(&self, transformed: f64, label: String) -> Option<Tick> {
        self.shows(transformed).then(|| Tick { at: self.position(transformed), label })
    }

    /// Ticks for an axis of `length` pixels.
    pub(crate) fn ticks(&self, length: f64, direction: Direction) -> Vec<Tick> {
        match self.scale {
            Scale::Linear => self.linear_ticks(self.low, self.high, length, direction),
            Scale::Log => self.log_ticks(length, direction),
            Scale::Categories(words) => {
                let ticks = words.iter().enumerate();
                ticks.filter_map(|(k, word)| self.tick(k as f64, (*word).to_owned())).collect()
            }
        }
    }

    fn log_ticks(&self, length: f64, direction: Direction) -> Vec<Tick> {
        let (first, last) = (whole(self.low.floor()), whole(self.high.ceil()));
        let decades = (first..=last).filter(|&exponent| self.shows(f64::from(exponent))).count();
        if decades >= DECADES_FOR_DECADE_LABELS {
            return self.decade_ticks(first, last, length, direction);
        }
        for labelled in [&[1, 2, 5][..], &[1, 3], &[1]] {
            let ticks = self.mantissa_ticks(first, last, labelled);
            let labels = ticks.iter().filter(|tick| !tick.label.is_empty()).count();
            if labels >= 2 && labels_fit(&ticks, length, direction) {
                return ticks;
            }
        }
        if self.high - self.low > NEARLY_LINEAR {
            return self.mantissa_ticks(first, last, &[1, 3]);
        }
        let (low, high) = (decimal_power(self.low), decimal_power(self.high));
        self.linear_ticks(low, high, length, direction)
    }

    /// Labels at decades; if they do not fit, at every second, third, … decade.
    fn decade_ticks(&self, first: i32, last: i32, length: f64, direction: Direction) -> Vec<Tick> {
        let mut ticks = Vec::new();
        for stride in [1, 2, 3, 4, 5, 10, 20, 50, 100, 200] {
            ticks = (first..=last)
                .filter_map(|exponent| {
                    let labelled = exponent.rem_euclid(stride) == 0;
                    let label = if labelled { power_of_ten(exponent) } else { String::new() };
                    self.tick(f64::from(exponent), label)
                })
                .collect();
            if labels_fit(&ticks, length, direction) {
                if stride == 1 {
                    ticks.extend(self.mantissa_ticks(first, last, &[]));
                }
                break;
            }
        }
        ticks
    }

    /// Ticks at 1, 2, …, 9 times each power of ten; those in `labelled` have labels.
    fn mantissa_ticks(&self, first: i32, last: i32, labelled: &[u32]) -> Vec<Tick> {
        let each = |exponent: i32| {
            (1..=9_u32).filter_map(move |mantissa| {
                let label = if labelled.contains(&mantissa) {
                    short_number(mantissa, exponent)
                } else {
                    String::new()
                };
                self.tick(libm::log10(f64::from(mantissa)) + f64::from(exponent), label)
            })
        };
        (first..=last).flat_map(each).collect()
    }

    /// Labels at multiples of 1, 2 or 5 times a power of ten between the *values* `low` and `high`.
    fn linear_ticks(&self, low: f64, high: f64, length: f64, direction: Direction) -> Vec<Tick> {
        let mut ticks = Vec::new();
        for spacing in match direction {
            Direction::Horizontal => [56.0, 80.0, 120.0, 160.0],
            Direction::Vertical => [36.0, 48.0, 64.0, 80.0],
        } {
            let Some((step, decimals)) = nice_step((high - low) * spacing / length) else {
                return Vec::new();
            };
            let start = (low / step - 1e-9).ceil();
            let values: Vec<f64> = (0..MAX_TICKS)
                .map(|index| (start + f64::from(index)) * step)
                .take_while(|&value| value <= high + 1e-9 * step)
                .collect();
            ticks = linear_labels(&values, decimals)
                .into_iter()
                .zip(&values)
                .filter_map(|(label, &value)| self.tick(self.scale.transform(value)?, label))
                .collect();
            if labels_fit(&ticks, length, direction) {
                break;
            }
        }
        ticks
    }
}

/// Smallest and largest of the values; `None` if there are none.
pub(crate) fn extent(values: &[f64]) -> Option<(f64, f64)> {
    let (first, rest) = values.split_first()?;
    Some(rest.iter().fold((*first, *first), |(low, high), &v| (low.min(v), high.max(v))))
}

/// True if no two neighbouring labels touch on an axis of `length` pixels.
fn labels_fit(ticks: &[Tick], length: f64, direction: Direction) -> bool {
    let labelled: Vec<&Tick> = ticks.iter().filter(|tick| !tick.label.is_empty()).collect();
    labelled.windows(2).all(|pair| {
        let room = (pair[1].at - pair[0].at) * length;
        let need = match direction {
            Direction::Vertical => 1.7 * TICK_SIZE,
            Direction::Horizontal => {
                let width = |tick: &Tick| text_width(&tick.label, TICK_SIZE, Weight::Normal);
                f64::midpoint(width(pair[0]), width(pair[1])) + 10.0
            }
        };
        room >= need
    })
}

/// The next of 1, 2, 5 times a power of ten above `raw`, with the decimals its multiples need.
fn nice_step(raw: f64) -> Option<(f64, i32)> {
    if !(raw.is_finite() && raw > 1e-300) {
        return None;
    }
    let exponent = whole(libm::log10(raw).floor());
    let unit = 10.0_f64.powi(exponent);
    let step = [1.0, 2.0, 5.0].into_iter().map(|m| m * unit).find(|&step| step >= raw);
    Some(step.map_or((10.0 * unit, -exponent - 1), |step| (step, -exponent)))
}

/// Labels of evenly spaced values: plain numbers if these are short, otherwise multiples of one
/// power of ten.
fn linear_labels(values: &[f64], decimals: i32) -> Vec<String> {
    let largest = values.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
    let plain = largest < 1e5 && (largest >= 1e-3 || largest <= 0.0) && decimals <= 8;
    let exponent = if plain { 0 } else { whole(libm::log10(largest).floor()) };
    let digits = usize::try_from(decimals + exponent).unwrap_or(0).min(17);
    let label = |&value: &f64| {
        let text = format!("{:.digits$}", value / 10.0_f64.powi(exponent));
        let zero = !text.contains(|c: char| ('1'..='9').contains(&c));
        let (sign, size) = match text.strip_prefix('-') {
            Some(size) if !zero => ("−", size),
            Some(size) => ("", size),
            None => ("", text.as_str()),
        };
        match exponent {
            0 => format!("{sign}{}", group_thousands(size)),
            _ if zero => "0".to_owned(),
            _ => format!("{sign}{size}·{}", power_of_ten(exponent)),
        }
    };
    values.iter().map(label).collect()
}

/// Thin space before the last three digits of a whole number of five.
fn group_thousands(digits: &str) -> String {
    match digits.split_at_checked(2) {
        Some((head, tail)) if digits.len() == 5 && !digits.contains('.') => {
            format!("{head}\u{2009}{tail}")
        }
        _ => digits.to_owned(),
    }
}

/// `mantissa · 10^exponent` in its shortest readable form: `0.002`, `50`, `2·10⁻⁶`.
fn short_number(mantissa: u32, exponent: i32) -> String {
    match (mantissa, usize::try_from(exponent), usize::try_from(-exponent)) {
        (_, Ok(zeros @ 0..=3), _) => format!("{mantissa}{}", "0".repeat(zeros)),
        (_, _, Ok(places @ 1..=4)) => format!("0.{}{mantissa}", "0".repeat(places - 1)),
        (1, ..) => power_of_ten(exponent),
        _ => format!("{mantissa}·{}", power_of_ten(exponent)),
    }
}

/// `10ⁿ` with the exponent in superscript digits.
fn power_of_ten(exponent: i32) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let superscript =
        |character: char| character.to_digit(10).map_or('⁻', |d| DIGITS[d as usize]);
    format!("10{}", exponent.to_string().chars().map(superscript).collect::<String>())
}

/// `10^x` to the few digits that a tick needs; used only for less than a decade.
fn decimal_power(x: f64) -> f64 {
    let exponent = whole(x.floor());
    // Bisection of log10 on [1, 10]: 10^x without a function that differs between platforms.
    let (fraction, mut low, mut high) = (x - x.floor(), 1.0_f64, 10.0_f64);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if libm::log10(middle) < fraction { low = middle } else { high = middle }
    }
    low * 10.0_f64.powi(exponent)
}

/// A float without a fractional part as an integer; exponents of floats are far inside the range.
fn whole(value: f64) -> i32 {
    #[expect(clippy::cast_possible_truncation, reason = "`as` saturates; exponents are below 400")]
    let integer = value as i32;
    integer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis, data: &[f64], length: f64) -> Vec<String> {
        let ticks = View::fit(axis, data, &[]).ticks(length, Direction::Horizontal);
        ticks.into_iter().map(|tick| tick.label).filter(|label| !label.is_empty()).collect()
    }

    #[test]
    fn log_labels_are_decades_or_1_2_5_or_even() {
        let check = |low, high, expected: &[&str]| {
            let axis = Axis::log("").with_range(low, high);
            assert_eq!(labels(&axis, &[], 300.0), expected, "{low} to {high}");
        };
        check(5e-4, 2e-1, &["10⁻³", "10⁻²", "10⁻¹"]);
        check(1e-14, 1e2, &["10⁻¹²", "10⁻⁹", "10⁻⁶", "10⁻³", "10⁰"]);
        check(1.5e-3, 2.5e-2, &["0.002", "0.005", "0.01", "0.02"]);
        check(1.5e-3, 8e-2, &["0.002", "0.005", "0.01", "0.02", "0.05"]);
        check(2.2e-7, 2.8e-6, &["5·10⁻⁷", "10⁻⁶", "2·10⁻⁶"]);
        check(0.9, 30.0, &["1", "2", "5", "10", "20"]);
        check(1.02, 1.18, &["1.05", "1.10", "1.15"]);
    }

    #[test]
    fn linear_labels_are_round_and_short() {
        let check = |low, high, expected: &[&str]| {
            let axis = Axis::linear("").with_range(low, high);
            assert_eq!(labels(&axis, &[], 300.0), expected, "{low} to {high}");
        };
        check(-1.0, 1.0, &["−1.0", "−0.5", "0.0", "0.5", "1.0"]);
        check(
            0.0,
            40_000.0,
            &["0", "10\u{2009}000", "20\u{2009}000", "30\u{2009}000", "40\u{2009}000"],
        );
        check(0.0, 400_000.0, &["0", "1·10⁵", "2·10⁵", "3·10⁵", "4·10⁵"]);
        check(0.0, 2e-5, &["0", "0.5·10⁻⁵", "1.0·10⁻⁵", "1.5·10⁻⁵", "2.0·10⁻⁵"]);
    }

    #[test]
    fn a_range_holds_its_data_and_only_near_references() {
        let view = View::fit(&Axis::log(""), &[10.0, 1e3], &[5e3, 1e9]);
        let inside = |value| view.fraction(value).is_some_and(|at| (0.0..=1.0).contains(&at));
        assert!(inside(10.0) && inside(1e3) && inside(5e3));
        assert!(!inside(1e9));
        assert_eq!(view.fraction(0.0), None);
        assert_eq!(view.fraction(f64::INFINITY), None);
    }

    #[test]
    fn every_category_is_labelled_in_its_place() {
        let axis = Axis::categories("", &["one", "two"]);
        let view = View::fit(&axis, &[], &[]);
        let ticks = view.ticks(300.0, Direction::Horizontal);
        let found: Vec<_> = ticks.iter().map(|tick| (tick.at, tick.label.as_str())).collect();
        assert_eq!(found, [(0.25, "one"), (0.75, "two")]);
    }

    #[test]
    fn degenerate_ranges_still_have_ticks() {
        let check = |axis: Axis, data: &[f64]| {
            assert!(!labels(&axis, data, 300.0).is_empty(), "{axis:?} {data:?}");
        };
        check(Axis::linear(""), &[]);
        check(Axis::linear(""), &[0.0]);
        check(Axis::linear(""), &[7.0, 7.0]);
        check(Axis::linear(""), &[-1e300, 1e300]);
        check(Axis::log(""), &[3.0]);
        check(Axis::log(""), &[f64::MIN_POSITIVE / 1e10, f64::MAX]);
        check(Axis::log("").with_range(1.0, -1.0), &[2.0]);
        check(Axis::linear("").with_range(2.0, 2.0), &[2.0]);
    }
}
