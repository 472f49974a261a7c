//! Exact scaling by powers of two.

/// The number `2^exponent`, by which any `f64` is multiplied without rounding unless the product is
/// subnormal or too large.
///
/// Computations that square their input divide it by [`PowerOfTwo::of_largest`] first, so that
/// nothing overflows or vanishes, and multiply their results afterwards.
///
/// ```
/// use flatmin_linalg::PowerOfTwo;
/// let values = [3e200, -5e200];
/// let unit = PowerOfTwo::of_largest(&values).unwrap_or_default();
/// let squares: f64 = values.iter().map(|v| unit.inverse().times(*v).powi(2)).sum();
/// let norm = unit.times(squares.sqrt());
/// assert!((norm / 5.830951894845301e200 - 1.0).abs() < 1e-15);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PowerOfTwo {
    factor: f64,
    exponent: i32,
}

impl Default for PowerOfTwo {
    /// The number 1.
    fn default() -> Self {
        Self::new(0)
    }
}

impl PowerOfTwo {
    /// `2^exponent`, which itself may be beyond the range of `f64`.
    pub fn new(exponent: i32) -> Self {
        Self { factor: libm::scalbn(1.0, exponent), exponent }
    }

    /// The largest power of two that is at most the largest `|value|`; `None` when that is zero or
    /// infinite. A NaN is ignored.
    pub fn of_largest<'a>(values: impl IntoIterator<Item = &'a f64>) -> Option<Self> {
        let largest = values.into_iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
        (largest > 0.0 && largest.is_finite()).then(|| Self::new(libm::ilogb(largest)))
    }

    /// The exponent.
    pub fn exponent(self) -> i32 {
        self.exponent
    }

    /// `2^(−exponent)`.
    #[must_use]
    pub fn inverse(self) -> Self {
        Self::new(-self.exponent)
    }

    /// The square, `2^(2 exponent)`.
    #[must_use]
    pub fn squared(self) -> Self {
        Self::new(2 * self.exponent)
    }

    /// `2^exponent · value`, rounded once.
    #[must_use]
    pub fn times(self, value: f64) -> f64 {
        // One multiplication rounds as scalbn does, as long as the factor is a normal number.
        if self.factor.is_normal() {
            value * self.factor
        } else {
            libm::scalbn(value, self.exponent)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::PowerOfTwo;

    #[test]
    fn products_round_once() {
        let values = [0.0, -1.0, 1.0 / 3.0, f64::MAX, 3e-310, -1.7 * f64::MIN_POSITIVE, 1e160];
        for exponent in [-2100, -1074, -1023, -1022, -500, -1, 0, 1, 500, 1023, 1024, 2000] {
            let power = PowerOfTwo::new(exponent);
            for value in values {
                let (found, expected) = (power.times(value), libm::scalbn(value, exponent));
                assert_eq!(found.to_bits(), expected.to_bits(), "{value} 2^{exponent}");
            }
        }
    }

    #[test]
    fn the_power_below_a_value_is_found() {
        let exponent = |values: &[f64]| PowerOfTwo::of_largest(values).map(PowerOfTwo::exponent);
        for (value, expected) in [(1.0, 0), (-7.9, 2), (0.49, -2), (3e-310, -1029), (1e308, 1023)] {
            assert_eq!(exponent(&[value]), Some(expected), "{value}");
        }
        assert_eq!(exponent(&[1.0, f64::NAN, -9.0]), Some(3));
        for values in [&[][..], &[0.0, -0.0], &[f64::NAN], &[1.0, f64::INFINITY]] {
            assert_eq!(exponent(values), None, "{values:?}");
        }
    }
}
