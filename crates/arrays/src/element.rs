//! The types of numbers, and their conversion to `f64`.

use flatmin_host::short;
use half::{bf16, f16};

use crate::Reason;

/// The type of the numbers in a file. Every number becomes an `f64` exactly, or is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// IEEE half precision.
    Float16,
    /// The upper half of an IEEE single-precision number (bfloat16).
    BFloat16,
    /// IEEE single precision.
    Float32,
    /// IEEE double precision.
    Float64,
    /// Signed integers of 8 bits.
    Int8,
    /// Signed integers of 16 bits.
    Int16,
    /// Signed integers of 32 bits.
    Int32,
    /// Signed integers of 64 bits.
    Int64,
    /// Unsigned integers of 8 bits.
    UInt8,
    /// Unsigned integers of 16 bits.
    UInt16,
    /// Unsigned integers of 32 bits.
    UInt32,
    /// Unsigned integers of 64 bits.
    UInt64,
}

/// The order of the bytes of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endianness {
    Little,
    Big,
}

impl Element {
    /// The name of the type, as `NumPy` writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float16 => "float16",
            Self::BFloat16 => "bfloat16",
            Self::Float32 => "float32",
            Self::Float64 => "float64",
            Self::Int8 => "int8",
            Self::Int16 => "int16",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::UInt8 => "uint8",
            Self::UInt16 => "uint16",
            Self::UInt32 => "uint32",
            Self::UInt64 => "uint64",
        }
    }

    /// The number of bytes of one number.
    pub fn size(self) -> usize {
        match self {
            Self::Int8 | Self::UInt8 => 1,
            Self::Float16 | Self::BFloat16 | Self::Int16 | Self::UInt16 => 2,
            Self::Float32 | Self::Int32 | Self::UInt32 => 4,
            Self::Float64 | Self::Int64 | Self::UInt64 => 8,
        }
    }

    /// Parses the type string of an `.npy` header, such as `<f4`.
    pub(crate) fn from_descr(descr: &str) -> Result<(Self, Endianness), Reason> {
        // NumPy has no name for the bfloat16 of the package ml_dtypes and writes two raw bytes.
        if ["<V2", "|V2", "bfloat16"].contains(&descr) {
            return Ok((Self::BFloat16, Endianness::Little));
        }
        let (order, code) = descr.split_at_checked(1).unwrap_or(("", descr));
        let element = match code {
            "f2" => Self::Float16,
            "f4" => Self::Float32,
            "f8" => Self::Float64,
            "i1" => Self::Int8,
            "i2" => Self::Int16,
            "i4" => Self::Int32,
            "i8" => Self::Int64,
            "u1" => Self::UInt8,
            "u2" => Self::UInt16,
            "u4" => Self::UInt32,
            "u8" => Self::UInt64,
            _ => return Err(refuse(descr, code)),
        };
        let endianness = match order {
            "<" => Endianness::Little,
            ">" => Endianness::Big,
            // Only types of a single byte have no byte order.
            "|" if code.ends_with('1') => Endianness::Little,
            _ => return Err(Reason::Header(format!("has the unknown type \"{}\"", short(descr)))),
        };
        Ok((element, endianness))
    }

    /// Converts the numbers in `bytes` into `values`, in order.
    ///
    /// # Errors
    /// The position and the value of the first integer that no `f64` equals.
    ///
    /// # Panics
    /// When `bytes` and `values` do not have the same number of entries.
    pub(crate) fn convert(
        self,
        endianness: Endianness,
        bytes: &[u8],
        values: &mut [f64],
    ) -> Result<(), (usize, i128)> {
        assert_eq!(bytes.len(), values.len() * self.size(), "bytes of the numbers");
        macro_rules! exact {
            ($number:ty) => {{
                let numbers = values.iter_mut().zip(bytes.as_chunks().0);
                match endianness {
                    Endianness::Little => numbers.for_each(|(value, chunk)| {
                        *value = f64::from(<$number>::from_le_bytes(*chunk));
                    }),
                    Endianness::Big => numbers.for_each(|(value, chunk)| {
                        *value = f64::from(<$number>::from_be_bytes(*chunk));
                    }),
                }
            }};
        }
        match self {
            Self::Float16 => exact!(f16),
            Self::BFloat16 => exact!(bf16),
            Self::Float32 => exact!(f32),
            Self::Float64 => exact!(f64),
            Self::Int8 => exact!(i8),
            Self::Int16 => exact!(i16),
            Self::Int32 => exact!(i32),
            Self::UInt8 => exact!(u8),
            Self::UInt16 => exact!(u16),
            Self::UInt32 => exact!(u32),
            Self::Int64 | Self::UInt64 => {
                for (index, (value, chunk)) in
                    values.iter_mut().zip(bytes.as_chunks().0).enumerate()
                {
                    let bits = match endianness {
                        Endianness::Little => u64::from_le_bytes(*chunk),
                        Endianness::Big => u64::from_be_bytes(*chunk),
                    };
                    let integer = match self {
                        Self::Int64 => i128::from(bits.cast_signed()),
                        _ => i128::from(bits),
                    };
                    *value = integer as f64;
                    #[expect(clippy::cast_possible_truncation, reason = "at most 2⁶⁴")]
                    if *value as i128 != integer {
                        return Err((index, integer));
                    }
                }
            }
        }
        Ok(())
    }
}

/// The error for an `.npy` type that is not supported.
fn refuse(descr: &str, code: &str) -> Reason {
    let (what, remedy) = match code.as_bytes().first() {
        Some(b'c') => ("complex numbers", "save their real part if that is what is meant"),
        Some(b'b' | b'?') => ("booleans", "convert them to float64"),
        Some(b'O') => ("pickled Python objects", "save an array of float32 or float64"),
        Some(b'S' | b'U' | b'a' | b'V') => ("text or raw bytes", "save float32 or float64"),
        Some(b'M' | b'm') => ("dates or times", "save float32 or float64"),
        Some(b'f') => ("floating-point numbers of an unusual size", "convert them to float64"),
        _ => ("numbers of an unknown type", "convert them to float64"),
    };
    Reason::Element { what: format!("{what} (\"{}\")", short(descr)), remedy }
}

#[cfg(test)]
mod tests {
    use super::{Element, Endianness};
    use crate::Reason;

    #[test]
    fn numbers_are_widened_exactly() {
        let convert = |descr: &str, bytes: &[u8]| {
            let (element, endianness) = Element::from_descr(descr).unwrap();
            let mut values = vec![0.0; bytes.len() / element.size()];
            element.convert(endianness, bytes, &mut values).map(|()| values)
        };
        assert_eq!(convert("<f8", &1.1_f64.to_le_bytes()), Ok(vec![1.1]));
        assert_eq!(convert(">f4", &0.1_f32.to_be_bytes()), Ok(vec![f64::from(0.1_f32)]));
        assert_eq!(convert("<f2", &[0x00, 0x3c, 0x01, 0x00]), Ok(vec![1.0, 2.0_f64.powi(-24)]));
        assert_eq!(convert("|i1", &[0xff, 0x7f]), Ok(vec![-1.0, 127.0]));
        assert_eq!(convert(">u2", &[0x01, 0x00]), Ok(vec![256.0]));
        assert_eq!(convert("<i8", &(-(1_i64 << 53)).to_le_bytes()), Ok(vec![-(2.0_f64.powi(53))]));
        assert_eq!(convert(">u8", &u64::MAX.to_be_bytes()), Err((0, i128::from(u64::MAX))));
        let odd = (1_i64 << 53) + 1;
        let bytes = [0_i64.to_le_bytes(), odd.to_le_bytes()].concat();
        assert_eq!(convert("<i8", &bytes), Err((1, i128::from(odd))));
    }

    #[test]
    fn brain_floats_are_the_upper_half_of_single_precision() {
        let mut value = [0.0];
        Element::BFloat16.convert(Endianness::Little, &[0x80, 0x3f], &mut value).unwrap();
        assert!((value[0] - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn brain_floats_have_no_type_of_their_own_in_numpy() {
        for descr in ["<V2", "|V2", "bfloat16"] {
            let found = Element::from_descr(descr).unwrap();
            assert_eq!(found, (Element::BFloat16, Endianness::Little), "{descr}");
        }
        assert!(Element::from_descr("|V4").is_err() && Element::from_descr(">V2").is_err());
        assert_eq!(Element::BFloat16.name(), "bfloat16");
    }

    #[test]
    fn other_types_are_refused_by_name() {
        for (descr, word) in [
            ("<c16", "complex"),
            ("|b1", "booleans"),
            ("|O", "pickled"),
            ("|S4", "text"),
            ("<U3", "text"),
            ("<f16", "unusual size"),
            ("<M8[s]", "dates"),
            ("=f8", "unknown type"),
            ("|f8", "unknown type"),
            ("", "unknown type"),
            ("é", "unknown type"),
        ] {
            let error = Element::from_descr(descr).unwrap_err();
            let text = match &error {
                Reason::Element { what, .. } => what.clone(),
                other => other.to_string(),
            };
            assert!(text.contains(word), "{descr}: {text}");
        }
    }
}
