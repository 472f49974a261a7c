//! Numbers in the arguments of a command.

/// Parses a number of samples, threads and so on.
pub(crate) fn positive_count(text: &str) -> Result<usize, String> {
    match text.trim().parse::<usize>() {
        Ok(0) => Err("expected at least 1".into()),
        Ok(count) => Ok(count),
        Err(error) => Err(format!("expected a whole number ({error})")),
    }
}

/// Parses a positive, finite number.
pub(crate) fn positive(text: &str) -> Result<f64, String> {
    number(text, |value| value > 0.0, "expected a number above 0")
}

/// Parses a positive, finite number that may be written as a fraction, such as 2/3.
pub(crate) fn positive_fraction(text: &str) -> Result<f64, String> {
    match text.split_once('/') {
        None => positive(text),
        Some((top, bottom)) => {
            let value = positive(top)? / positive(bottom)?;
            if value.is_normal() { Ok(value) } else { Err("expected a finite fraction".into()) }
        }
    }
}

/// Parses a finite number that is at least 0.
pub(crate) fn not_negative(text: &str) -> Result<f64, String> {
    number(text, |value| value >= 0.0, "expected a number of at least 0")
}

/// Parses a momentum.
pub(crate) fn momentum(text: &str) -> Result<f64, String> {
    let expected = "expected a number from 0 up to, and not including, 1";
    number(text, |value| (0.0..1.0).contains(&value), expected)
}

/// Parses a finite number that fits.
fn number(text: &str, fits: fn(f64) -> bool, expected: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(value) if !value.is_finite() => Err("expected a finite number".into()),
        Ok(value) if fits(value) => Ok(value),
        Ok(_) => Err(expected.into()),
        Err(error) => Err(format!("expected a number ({error})")),
    }
}

#[cfg(test)]
mod tests {
    use super::{momentum, positive, positive_count, positive_fraction};

    #[test]
    fn numbers_are_checked() {
        assert_eq!(positive_count("8"), Ok(8));
        assert!(positive_count("0").is_err() && positive_count("-1").is_err());
        assert_eq!(positive("1e-3"), Ok(1e-3));
        for wrong in ["0", "-0.1", "nan", "inf", "x", ""] {
            assert!(positive(wrong).is_err(), "{wrong}");
        }
        assert_eq!(positive_fraction("2/3"), Ok(2.0 / 3.0));
        assert_eq!(positive_fraction("0.5"), Ok(0.5));
        for wrong in ["2/0", "2/", "/3", "1/2/3", "1e308/1e-308", "-2/3"] {
            assert!(positive_fraction(wrong).is_err(), "{wrong}");
        }
        assert_eq!(momentum("0.9"), Ok(0.9));
        assert!(momentum("1").is_err() && momentum("-0.1").is_err());
    }
}
