//! Times and sizes for a reader, with three digits.

/// Seconds with three digits: `1.24 µs`, `243 µs`, `3.81 s`.
pub(super) fn time(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s < 1e-6 => (1e9 * s, "ns"),
        s if s < 1e-3 => (1e6 * s, "µs"),
        s if s < 1.0 => (1e3 * s, "ms"),
        s => (s, "s"),
    };
    format!("{} {unit}", digits(value))
}

/// A number with three digits, or with all digits before the point.
pub(super) fn digits(value: f64) -> String {
    let decimals = match value {
        v if v < 10.0 => 2,
        v if v < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

/// Megabytes with three digits.
pub(super) fn memory(bytes: Option<u64>) -> String {
    bytes.map_or_else(String::new, |bytes| format!("{} MB", digits(bytes as f64 / 1e6)))
}

#[cfg(test)]
mod tests {
    use super::{digits, time};

    #[test]
    fn times_have_three_digits() {
        let check = |seconds, text: &str| assert_eq!(time(seconds), text);
        check(3.5e-8, "35.0 ns");
        check(1.2449e-6, "1.24 µs");
        check(2.43e-4, "243 µs");
        check(0.0442, "44.2 ms");
        check(3.8, "3.80 s");
        check(211.0, "211 s");
        assert_eq!(digits(1234.4), "1234");
    }
}
