//! The precision in which a Gram matrix was formed.

use flatmin_arrays::Element;
use flatmin_linalg::PowerOfTwo;

/// The number of bits of the significand of each format, its name, and by how many units of
/// 2^−bits of the norms an entry may be off.
///
/// In float32 the products of long rows are summed in the same format, in blocks, and the roundings
/// add up. Processors sum products of the shorter formats in float32 and round once.
const FORMATS: [(i32, &str, f64); 3] =
    [(8, "bfloat16", 1.0), (11, "float16", 1.0), (24, "float32", 8.0)];

/// A Gram matrix that was formed in a lower precision than float64.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rounding {
    bits: i32,
    /// The name of the format.
    pub(crate) name: &'static str,
    units: f64,
}

impl Rounding {
    /// The precision of numbers of this type; for float64 that of the numbers themselves.
    pub(crate) fn of(element: Element, values: &[f64]) -> Option<Self> {
        // The numbers may have been formed in a shorter format than they are stored in.
        let stored = FORMATS.iter().find(|(_, name, _)| *name == element.name());
        if stored.is_none() && element != Element::Float64 {
            // Integers are exact.
            return None;
        }
        let most = stored.map_or(53, |(bits, ..)| *bits);
        let fits = |bits: i32| values.iter().all(|value| significand_bits(*value) <= bits);
        let found = FORMATS.iter().find(|(bits, ..)| *bits <= most && fits(*bits))?;
        let &(bits, name, units) = found;
        (!is_exact(values, bits)).then_some(Self { bits, name, units })
    }

    /// The error of an entry relative to the norms of its rows.
    pub(crate) fn entry(self) -> f64 {
        PowerOfTwo::new(-self.bits).times(self.units)
    }
}

/// True if the numbers are multiples of a step that is as large as exact sums of such numbers
/// have. The entries of a rounded matrix are as fine as their own size allows.
fn is_exact(values: &[f64], bits: i32) -> bool {
    let nonzero = || values.iter().filter(|value| **value != 0.0 && value.is_finite());
    let finest = nonzero().map(|value| exponent(*value) - significand_bits(*value)).min();
    let largest = nonzero().map(|value| exponent(*value)).max();
    // Numbers of one size, such as 1.0 to 1.9, use all bits when they are rounded, and whole numbers
    // may use them too.
    let most = if nonzero().all(|value| value.fract() == 0.0) { bits } else { bits - 1 };
    finest.zip(largest).is_none_or(|(finest, largest)| largest - finest <= most)
}

/// The number of bits from the first to the last one of the significand.
fn significand_bits(value: f64) -> i32 {
    let mantissa = value.to_bits() & ((1 << 52) - 1);
    if mantissa == 0 { 1 } else { 53 - mantissa.trailing_zeros().cast_signed() }
}

/// The exponent of a number.
fn exponent(value: f64) -> i32 {
    i32::try_from(value.to_bits() >> 52 & 0x7ff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::Rounding;
    use flatmin_arrays::Element;

    #[test]
    fn lower_precision_is_seen_in_the_numbers() {
        let values: Vec<f64> = (0..40).map(|i| 3.7 / f64::from(2 * i + 1)).collect();
        let name = |element, values: &[f64]| Rounding::of(element, values).map(|r| r.name);
        assert_eq!(name(Element::Float64, &values), None);
        #[expect(clippy::cast_possible_truncation, reason = "that is the point")]
        let single: Vec<f64> = values.iter().map(|v| f64::from(*v as f32)).collect();
        assert_eq!(name(Element::Float64, &single), Some("float32"));
        assert_eq!(name(Element::Float32, &single), Some("float32"));
        let keep = |bits: u32, v: &f64| f64::from_bits(v.to_bits() & (u64::MAX << (53 - bits)));
        let half: Vec<f64> = values.iter().map(|v| keep(8, v)).collect();
        assert_eq!(name(Element::Float64, &half), Some("bfloat16"));
        assert_eq!(name(Element::BFloat16, &half), Some("bfloat16"));
        // Products of integers are exact in any format.
        let integers: Vec<f64> = (0..40).map(f64::from).collect();
        assert_eq!(name(Element::Float64, &integers), None);
        assert_eq!(name(Element::Float32, &integers), None);
        assert!((Rounding::of(Element::Float32, &single).unwrap().entry() - 4.8e-7).abs() < 1e-8);
    }
}
