//! Scaling by powers of two.

/// Multiplication by `2^exponent`, as `libm::scalbn` rounds it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PowerOfTwo {
    factor: f64,
    exponent: i32,
}

impl PowerOfTwo {
    pub(crate) fn new(exponent: i32) -> Self {
        Self { factor: libm::scalbn(1.0, exponent), exponent }
    }

    /// `2^exponent` times this.
    pub(crate) fn times(self, value: f64) -> f64 {
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
}
