//! Comparison of decimal numbers with more digits than `f64` has.

/// A nonnegative number, given by its decimal exponent and its digits, the first of which is not
/// zero. Ordered by value.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Decimal {
    exponent: i32,
    digits: String,
}

impl Decimal {
    /// Reads a decimal number of up to 60 digits.
    pub(crate) fn parse(text: &str) -> Self {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        let significant = digits.trim_start_matches('0');
        if significant.is_empty() {
            return Self { exponent: i32::MIN, digits: String::new() };
        }
        let point = i32::try_from(whole.len()).unwrap();
        let zeros = i32::try_from(digits.len() - significant.len()).unwrap();
        let exponent = exponent.parse::<i32>().unwrap() + point - 1 - zeros;
        Self { exponent, digits: format!("{significant:0<60}") }
    }

    /// Converts an `f64` to 60 digits; infinity is larger than every other number.
    pub(crate) fn of(value: f64) -> Self {
        if value.is_infinite() {
            return Self { exponent: i32::MAX, digits: String::new() };
        }
        Self::parse(&format!("{value:.59e}"))
    }
}
