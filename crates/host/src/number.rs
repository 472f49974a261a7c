//! Numbers for a reader.

use std::time::Duration;

/// A number to `digits` significant digits, without zeros at the end; `∞`, `−∞` and `—` where it is
/// not finite.
///
/// Numbers of seven digits or more before the point, and those below 1e-5, are in scientific
/// notation.
///
/// ```
/// use flatmin_host::significant;
///
/// assert_eq!(significant(0.012_345_678_9, 6), "0.0123457");
/// assert_eq!(significant(12_345_678.0, 6), "1.23457e7");
/// assert_eq!(significant(f64::INFINITY, 6), "∞");
/// ```
pub fn significant(value: f64, digits: usize) -> String {
    if !value.is_finite() {
        let word = match value {
            value if value.is_nan() => "—",
            value if value > 0.0 => "∞",
            _ => "−∞",
        };
        return word.to_owned();
    }
    // The exponent is taken after rounding: 9.9999997 to six digits is 10.
    let scientific = format!("{value:.*e}", digits.saturating_sub(1));
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let strip = |text: &str| {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text.to_owned()
        }
    };
    match usize::try_from(exponent) {
        Ok(large) if large >= digits.max(7) => format!("{}e{exponent}", strip(mantissa)),
        Ok(whole) => strip(&format!("{value:.*}", digits.saturating_sub(1).saturating_sub(whole))),
        Err(_) if exponent < -5 => format!("{}e{exponent}", strip(mantissa)),
        Err(_) => {
            let places = digits.saturating_sub(1) + exponent.unsigned_abs() as usize;
            strip(&format!("{value:.places$}"))
        }
    }
}

/// A ratio for a reader, as in `1.03 times`.
pub fn times(ratio: f64) -> String {
    format!("{} times", significant(ratio, if ratio < 100.0 { 3 } else { 4 }))
}

/// Seconds for a reader: `0.2 s`, `42 s`, `3 min 20 s`, `2 h 5 min`.
pub fn duration(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds).map_or(0, |duration| duration.as_secs());
    match whole {
        0..10 => format!("{seconds:.1} s"),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::{duration, significant};

    #[test]
    fn numbers_keep_their_digits() {
        let check = |value: f64, digits, text: &str| assert_eq!(significant(value, digits), text);
        check(0.012_345_678_9, 6, "0.0123457");
        check(9.999_999_7, 6, "10");
        check(123_456.7, 6, "123457");
        check(1_234_567.0, 6, "1234567");
        check(12_345_678.0, 6, "1.23457e7");
        check(1e-9, 6, "1e-9");
        check(0.000_012_3, 6, "0.0000123");
        check(-2.5, 6, "-2.5");
        check(0.0, 6, "0");
        check(100.0, 3, "100");
        check(f64::INFINITY, 6, "∞");
        check(f64::NEG_INFINITY, 6, "−∞");
        check(f64::NAN, 6, "—");
        check(0.1, 15, "0.1");
        check(5e-324, 6, "4.94066e-324");
        check(0.999_999_9, 6, "1");
    }

    #[test]
    fn durations_are_short() {
        let check = |seconds, text| assert_eq!(duration(seconds), text);
        check(0.25, "0.2 s");
        check(42.9, "42 s");
        check(200.0, "3 min 20 s");
        check(7500.0, "2 h 5 min");
        check(f64::NAN, "NaN s");
    }
}
