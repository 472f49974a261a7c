//! What can be wrong with an array file.

use std::fmt::{self, Write as _};
use std::io;
use std::path::{Path, PathBuf};

use flatmin_host::{short, shown};

/// Why numbers could not be had from a file. The message is one line, `FILE: reason`.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}{reason}", shown(path), Inside(array.as_deref()))]
pub struct ArrayError {
    /// The file.
    pub path: PathBuf,
    /// The array in it, where one was chosen by name.
    pub array: Option<String>,
    /// What is wrong.
    pub reason: Reason,
}

impl ArrayError {
    /// An error about the file as a whole.
    pub(crate) fn file(path: &Path, reason: Reason) -> Self {
        Self { path: path.to_owned(), array: None, reason }
    }
}

/// What is wrong with a file or an array in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// There is no such file.
    #[error("no such file")]
    Missing,
    /// The path is a folder.
    #[error("is a folder, expected a .npy, .npz, .safetensors or IDX file")]
    Folder,
    /// The path is a pipe or a device.
    #[error("is not a regular file; write the array to a file first")]
    NotAFile,
    /// The operating system refuses.
    #[error("cannot be read: {0}")]
    Io(io::Error),
    /// There is nothing in it.
    #[error("is empty")]
    Empty,
    /// None of the formats.
    #[error("is not a .npy, .npz, .safetensors or IDX file: it starts with {start}")]
    Format {
        /// The first bytes, escaped.
        start: String,
    },
    /// The header of an .npy file or array makes no sense.
    #[error("its .npy header {0}")]
    Header(String),
    /// A zip archive that cannot be read.
    #[error("its zip archive cannot be read: {0}")]
    Archive(String),
    /// A file without arrays that could hold some.
    #[error("holds no array")]
    NoArray,
    /// A zip archive without arrays.
    #[error(
        "is a zip archive without .npy arrays{}",
        if *.pickle {
            "; it looks like one written by torch.save: save the array with numpy.save instead"
        } else {
            ""
        }
    )]
    NoArrays {
        /// Whether it holds pickled objects, as files of PyTorch do.
        pickle: bool,
    },
    /// A safetensors header that makes no sense.
    #[error("its safetensors header {0}")]
    SafeTensors(String),
    /// An IDX header that makes no sense.
    #[error("its IDX header {0}")]
    Idx(String),
    /// A gzip file that cannot be expanded, or holds something else.
    #[error("its gzip data {0}")]
    Gzip(String),
    /// Several arrays, and none was chosen.
    #[error("holds several arrays, name one of them: {}", list(names))]
    Ambiguous {
        /// Their names.
        names: Vec<String>,
    },
    /// No array has the chosen name.
    #[error("has no array \"{}\"; it has: {}", short(name), list(names))]
    NoSuchArray {
        /// The chosen name.
        name: String,
        /// The names there are.
        names: Vec<String>,
    },
    /// A name was given for an array of a file with only one, which has none.
    #[error("holds one array, which has no name; ask for it without \"{}\"", short(name))]
    Unnamed {
        /// The given name.
        name: String,
    },
    /// More axes than any array has.
    #[error("has {axes} axes, expected at most {limit}")]
    Axes {
        /// Number of lengths.
        axes: usize,
        /// The limit.
        limit: usize,
    },
    /// An array without numbers whose other lengths are too large.
    #[error("has lengths whose product is out of range")]
    Lengths,
    /// Fewer bytes than the header promises.
    #[error("is truncated: {promised} bytes of numbers promised, {found} there")]
    Truncated {
        /// Bytes that shape and type need.
        promised: u128,
        /// Bytes that there are.
        found: u64,
    },
    /// More bytes than the header promises.
    #[error("has {found} bytes of numbers, {promised} promised by its header")]
    TooLong {
        /// Bytes that shape and type need.
        promised: u128,
        /// Bytes that there are.
        found: u64,
    },
    /// A compressed array that is too large to be held in memory.
    #[error(
        "is compressed and expands to {size} bytes, more than the {limit} that are read into \
         memory; save it uncompressed ({remedy})"
    )]
    TooLarge {
        /// Bytes when expanded.
        size: u128,
        /// The limit.
        limit: u64,
        /// What does that.
        remedy: &'static str,
    },
    /// More numbers than are held in memory.
    #[error("has {count} numbers, more than the {limit} that are held in memory{remedy}")]
    TooMany {
        /// How many.
        count: usize,
        /// The limit.
        limit: usize,
        /// What to do, where there is something.
        remedy: &'static str,
    },
    /// Numbers of a type that is not read.
    #[error("holds {what}; {remedy}")]
    Element {
        /// The type, in words, with its code.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// An integer that is no `f64`.
    #[error("entry {index} is the integer {value}, which float64 cannot hold exactly")]
    Inexact {
        /// Where, as `[row, column]`.
        index: String,
        /// The integer.
        value: i128,
    },
}

/// The first names of a list.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 20;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| short(name)).collect();
    let mut text = shown.join(", ");
    if names.len() > SHOWN {
        let _ = write!(text, " and {} more", names.len() - SHOWN);
    }
    text
}

/// `array "name": `, or nothing.
struct Inside<'a>(Option<&'a str>);

impl fmt::Display for Inside<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |name| write!(f, "array \"{}\": ", short(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::{ArrayError, Reason};

    #[test]
    fn names_are_escaped_once_and_shortened() {
        let reason = Reason::NoSuchArray { name: "a\nb".into(), names: vec!["x".repeat(60_000)] };
        let text = ArrayError::file("a.npz".as_ref(), reason).to_string();
        let expected = format!("a.npz: has no array \"a\\u{{a}}b\"; it has: {}…", "x".repeat(100));
        assert_eq!(text, expected);
    }

    #[test]
    fn messages_are_one_line_and_lists_are_short() {
        let names = (0..30).map(|k| format!("layer\n{k}")).collect();
        let reason = Reason::NoSuchArray { name: "x".into(), names };
        let text = ArrayError::file("a\nb.npz".as_ref(), reason).to_string();
        assert!(text.starts_with("a\\u{a}b.npz: has no array \"x\"; it has: layer\\u{a}0, "));
        assert!(text.ends_with("layer\\u{a}19 and 10 more"), "{text}");
    }
}
