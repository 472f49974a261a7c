//! A checksum as the last line of a JSON file.

const KEY: &str = "  \"checksum\": \"";
const END: &str = "\"\n}\n";

/// Adds a line `"checksum"` to the end of an indented JSON object: the BLAKE3 digest of all bytes
/// before that line. The object must have fields.
///
/// ```
/// use flatmin_host::{is_sealed, seal};
///
/// let sealed = seal("{\n  \"a\": 1\n}\n");
/// assert!(sealed.starts_with("{\n  \"a\": 1,\n  \"checksum\": \""));
/// assert!(is_sealed(sealed.as_bytes()));
/// assert!(!is_sealed(sealed.replace("1,", "2,").as_bytes()));
/// ```
pub fn seal(json: &str) -> String {
    let json = json.trim_end();
    let fields = json.strip_suffix('}').unwrap_or(json).trim_end();
    let mut text = format!("{fields},\n");
    let checksum = blake3::hash(text.as_bytes());
    text.extend([KEY, checksum.to_hex().as_str(), END]);
    text
}

/// True if these are the bytes that [`seal`] gave, none of them changed.
pub fn is_sealed(bytes: &[u8]) -> bool {
    let length = KEY.len() + 2 * blake3::OUT_LEN + END.len();
    let Some((before, line)) = bytes.split_at_checked(bytes.len().saturating_sub(length)) else {
        return false;
    };
    let checksum = line.strip_prefix(KEY.as_bytes()).and_then(|l| l.strip_suffix(END.as_bytes()));
    checksum == Some(blake3::hash(before).to_hex().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::{is_sealed, seal};

    #[test]
    fn every_changed_byte_is_seen() {
        let text = "{\n  \"a\": [\n    1.5\n  ],\n  \"b\": \"c\"\n}\n";
        let sealed = seal(text).into_bytes();
        assert!(is_sealed(&sealed));
        for position in 0..sealed.len() {
            for flip in 1..=255 {
                let mut changed = sealed.clone();
                changed[position] ^= flip;
                assert!(!is_sealed(&changed), "byte {position} with {flip:#x}");
            }
        }
        for length in 0..sealed.len() {
            assert!(!is_sealed(&sealed[..length]));
        }
        assert!(!is_sealed(&[&sealed[..], b"\n"].concat()));
        assert!(!is_sealed(text.as_bytes()));
    }
}
