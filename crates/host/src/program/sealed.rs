//! JSON files with a schema name and a checksum.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{is_sealed, said, seal, short};

/// Where the schema name and the checksum stand in a [`SealedFile`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Indented JSON: the schema first, then the fields of the value, then the checksum of all
    /// bytes before its line.
    Lines,
    /// JSON on one line, in the same order. The checksum is of [`SealedFile::summed`].
    Line,
    /// One line with the keys `schema`, `checksum` and `content`; the content is the value. The
    /// checksum is of [`SealedFile::summed`].
    Envelope,
}

/// A value that is stored as a JSON file with its schema name and its checksum, both verified on
/// reading.
///
/// ```
/// use flatmin_host::{SealError, SealedFile};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Times {
///     seconds: Vec<f64>,
/// }
///
/// impl SealedFile for Times {
///     const SCHEMA: &'static str = "example.times/1";
/// }
///
/// let text = Times { seconds: vec![0.5, 2.0] }.to_sealed()?;
/// assert!(text.starts_with("{\n  \"schema\": \"example.times/1\",\n  \"seconds\": ["));
/// assert_eq!(Times::open(text.as_bytes())?.seconds, [0.5, 2.0]);
///
/// let changed = text.replace("0.5", "0.6");
/// assert!(matches!(Times::open(changed.as_bytes()), Err(SealError::Checksum)));
/// let newer = text.replace("times/1", "times/2");
/// let error = Times::open(newer.as_bytes()).err().map(|error| error.to_string());
/// let expected =
///     "its format example.times/2 is newer than example.times/1, which this version reads";
/// assert_eq!(error.as_deref(), Some(expected));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait SealedFile: Serialize + DeserializeOwned {
    /// Name and version of the format, as in `flatmin.cell/1`.
    const SCHEMA: &'static str;

    /// Where the schema name and the checksum stand.
    const LAYOUT: Layout = Layout::Lines;

    /// The bytes that the checksum is of, for layouts on one line: the compact JSON of the value.
    ///
    /// # Errors
    /// When the value has no JSON form.
    fn summed(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    /// The text of the file.
    ///
    /// # Errors
    /// When the value has no JSON form.
    fn to_sealed(&self) -> serde_json::Result<String> {
        let (schema, value) = (Self::SCHEMA, self);
        let checksum = || -> serde_json::Result<Option<String>> {
            Ok(Some(blake3::hash(&self.summed()?).to_hex().to_string()))
        };
        Ok(match Self::LAYOUT {
            Layout::Lines => {
                seal(&serde_json::to_string_pretty(&Flat { schema, value, checksum: None })?)
            }
            Layout::Line => {
                serde_json::to_string(&Flat { schema, value, checksum: checksum()? })? + "\n"
            }
            Layout::Envelope => {
                serde_json::to_string(&Envelope { schema, checksum: checksum()?, content: value })?
                    + "\n"
            }
        })
    }

    /// Reads a value whatever its checksum, for tests and before [`verify`](Self::verify).
    ///
    /// # Errors
    /// [`SealError::Json`] and, for another schema, [`SealError::Newer`] or [`SealError::Schema`].
    fn parse(bytes: &[u8]) -> Result<Self, SealError> {
        check_schema::<Self>(bytes)?;
        match Self::LAYOUT {
            Layout::Lines | Layout::Line => from_slice(bytes),
            Layout::Envelope => from_slice(bytes).map(|Opened { content }| content),
        }
    }

    /// Checks that `bytes`, which this value was parsed from, are those that [`to_sealed`] gave: no
    /// byte was changed.
    ///
    /// # Errors
    /// [`SealError::Checksum`] when the content was changed, [`SealError::Bytes`] when the text was
    /// changed and its content was not: such as a space, or a last digit that rounds to the same
    /// number.
    ///
    /// [`to_sealed`]: Self::to_sealed
    fn verify(&self, bytes: &[u8]) -> Result<(), SealError> {
        if Self::LAYOUT == Layout::Lines {
            // The value may be a part of what was written.
            return if is_sealed(bytes) { Ok(()) } else { Err(SealError::Checksum) };
        }
        let sealed = self.to_sealed().map_err(|error| SealError::Json(said(&error)))?;
        if sealed.as_bytes() == bytes {
            return Ok(());
        }
        let checksum = |bytes| from_slice(bytes).map(|header: Header| header.checksum);
        let same = checksum(sealed.as_bytes())? == checksum(bytes)?;
        Err(if same { SealError::Bytes } else { SealError::Checksum })
    }

    /// Reads a value and verifies its schema and its checksum.
    ///
    /// # Errors
    /// The errors of [`parse`](Self::parse) and [`verify`](Self::verify).
    fn open(bytes: &[u8]) -> Result<Self, SealError> {
        if Self::LAYOUT == Layout::Lines && !is_sealed(bytes) {
            // A later version may seal its files in another way.
            let newer = check_schema::<Self>(bytes).err();
            let newer = newer.filter(|error| matches!(error, SealError::Newer { .. }));
            return Err(newer.unwrap_or(SealError::Checksum));
        }
        let value = Self::parse(bytes)?;
        value.verify(bytes)?;
        Ok(value)
    }
}

fn check_schema<T: SealedFile>(bytes: &[u8]) -> Result<(), SealError> {
    let Header { schema, .. } = from_slice(bytes)?;
    let (found, known) = (short(&schema), T::SCHEMA);
    if schema == known {
        Ok(())
    } else if is_newer(&schema, known) {
        Err(SealError::Newer { found, known })
    } else {
        Err(SealError::Schema { found, known })
    }
}

/// Why the content of a sealed file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// It is not the JSON of the value.
    #[error("{0}")]
    Json(String),
    /// It has a later version of the format.
    #[error("its format {found} is newer than {known}, which this version reads")]
    Newer {
        /// The schema in the file.
        found: String,
        /// The schema that this version reads.
        known: &'static str,
    },
    /// It has another format.
    #[error("its format is \"{found}\", not {known}")]
    Schema {
        /// The schema in the file.
        found: String,
        /// The schema that this version reads.
        known: &'static str,
    },
    /// The content was changed after it was sealed.
    #[error("its checksum does not match its content")]
    Checksum,
    /// The bytes were changed in a way that leaves the content the same.
    #[error("its bytes are not those that were written")]
    Bytes,
}

#[derive(Serialize)]
struct Flat<'a, T> {
    schema: &'a str,
    #[serde(flatten)]
    value: &'a T,
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum: Option<String>,
}

#[derive(Serialize)]
struct Envelope<'a, T> {
    schema: &'a str,
    checksum: Option<String>,
    content: &'a T,
}

#[derive(Deserialize)]
struct Header {
    schema: String,
    #[serde(default)]
    checksum: Option<String>,
}

#[derive(Deserialize)]
struct Opened<T> {
    content: T,
}

fn from_slice<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, SealError> {
    serde_json::from_slice(bytes).map_err(|error| SealError::Json(said(&error)))
}

/// True if `found` is a later version of the same format.
fn is_newer(found: &str, known: &str) -> bool {
    let version = |schema: &str| schema.rsplit_once('/')?.1.parse::<u64>().ok();
    let name = |schema: &str| schema.rsplit_once('/').map(|(name, _)| name.to_owned());
    name(found) == name(known) && version(found) > version(known)
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::{Layout, SealError, SealedFile, is_newer};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Numbers {
        word: String,
        numbers: Vec<f64>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct OnOneLine(Numbers);
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct InEnvelope(Numbers);

    impl SealedFile for Numbers {
        const SCHEMA: &'static str = "test.numbers/2";
    }
    impl SealedFile for OnOneLine {
        const SCHEMA: &'static str = "test.numbers/2";
        const LAYOUT: Layout = Layout::Line;
    }
    impl SealedFile for InEnvelope {
        const SCHEMA: &'static str = "test.numbers/2";
        const LAYOUT: Layout = Layout::Envelope;
    }

    fn numbers() -> Numbers {
        Numbers { word: "a".to_owned(), numbers: vec![0.1 + 0.2, -0.5] }
    }

    fn check<T: SealedFile + PartialEq + std::fmt::Debug>(value: &T, begins: &str) {
        let bytes = value.to_sealed().unwrap().into_bytes();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with(begins), "{text}");
        assert_eq!(&T::open(&bytes).unwrap(), value);
        for position in 0..bytes.len() {
            for flip in (0..8).map(|bit| 1 << bit).chain([b'\n' ^ b' ', b'\n' ^ b'\t']) {
                let mut changed = bytes.clone();
                changed[position] ^= flip;
                assert!(T::open(&changed).is_err(), "byte {position} with {flip:#x}");
            }
        }
        assert!(T::open(&bytes[..bytes.len() / 2]).is_err());
        let changed = text.replace("-0.5", "-0.25");
        assert_eq!(T::open(changed.as_bytes()), Err(SealError::Checksum));
        assert!(T::parse(changed.as_bytes()).is_ok());
        let older = T::parse(text.replace("numbers/2", "numbers/1").as_bytes()).unwrap_err();
        assert_eq!(older.to_string(), "its format is \"test.numbers/1\", not test.numbers/2");
    }

    #[test]
    fn every_changed_byte_is_seen_in_every_layout() {
        check(&numbers(), "{\n  \"schema\": \"test.numbers/2\",\n  \"word\": \"a\",\n");
        check(&OnOneLine(numbers()), "{\"schema\":\"test.numbers/2\",\"word\":\"a\",");
        check(&InEnvelope(numbers()), "{\"schema\":\"test.numbers/2\",\"checksum\":\"");
    }

    #[test]
    fn a_space_leaves_the_content_the_same() {
        let text = OnOneLine(numbers()).to_sealed().unwrap().replace("\":[", "\": [");
        assert_eq!(OnOneLine::open(text.as_bytes()), Err(SealError::Bytes));
    }

    #[test]
    fn versions_are_compared_within_one_format() {
        assert!(is_newer("a/10", "a/9"));
        assert!(!is_newer("a/9", "a/9") && !is_newer("b/10", "a/9") && !is_newer("a/x", "a/9"));
    }
}
