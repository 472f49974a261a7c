//! Names of cells by content.

use std::fmt;
use std::str::FromStr;

/// The name of a cell by content, written as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CellKey(u128);

impl CellKey {
    /// The first 16 bytes of the BLAKE3 digest of `parts`, one after the other.
    pub(super) fn of(parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(part);
        }
        let digest: u128 = hasher.finalize().as_bytes()[..16]
            .iter()
            .fold(0, |digest, byte| digest << 8 | u128::from(*byte));
        Self(digest)
    }
}

impl fmt::Display for CellKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Text that is not the name of a cell.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a cell hash: expected 32 hexadecimal digits")]
pub struct CellKeyError(String);

impl FromStr for CellKey {
    type Err = CellKeyError;

    fn from_str(text: &str) -> Result<Self, CellKeyError> {
        let digits = Some(text).filter(|text| text.len() == 32 && !text.starts_with('+'));
        let key = digits.and_then(|digits| u128::from_str_radix(digits, 16).ok());
        key.map(Self).ok_or_else(|| CellKeyError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::CellKey;

    #[test]
    fn a_key_is_32_digits_and_reads_back() {
        let key = CellKey::of(&[b"a", b"b"]);
        let text = key.to_string();
        assert_eq!((text.len(), text.parse()), (32, Ok(key)));
        assert!(blake3::hash(b"ab").to_hex().starts_with(&text));
        for text in ["", "0", "+0000000000000000000000000000000", &"g".repeat(32), &"0".repeat(33)]
        {
            assert!(text.parse::<CellKey>().is_err(), "{text}");
        }
    }
}
