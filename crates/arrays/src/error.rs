//! Errors of array files.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use flatmin_host::{short, shown};

/// An array could not be read from a file. The message is one line, `FILE: reason`.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}{reason}", shown(path), inside(array.as_deref()))]
pub struct ArrayError {
    /// The path of the file.
    pub path: PathBuf,
    /// The name of the array, where one was chosen by name.
    pub array: Option<String>,
    /// The cause.
    pub reason: Reason,
}

impl ArrayError {
    /// Makes an error about the file as a whole.
    pub(crate) fn file(path: &Path, reason: Reason) -> Self {
        Self { path: path.to_owned(), array: None, reason }
    }
}

/// The cause of an [`ArrayError`].
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
    /// The operating system reported an error.
    #[error("cannot be read: {0}")]
    Io(io::Error),
    /// The file is empty.
    #[error("is empty")]
    Empty,
    /// The file has none of the supported formats.
    #[error("is not a .npy, .npz, .safetensors or IDX file: it starts with {start}")]
    Format {
        /// The first bytes, escaped.
        start: String,
    },
    /// The header of an `.npy` file or array is invalid.
    #[error("its .npy header {0}")]
    Header(String),
    /// A zip archive is invalid.
    #[error("its zip archive cannot be read: {0}")]
    Archive(String),
    /// The file holds no array.
    #[error("holds no array")]
    NoArray,
    /// A zip archive holds no `.npy` array.
    #[error(
        "is a zip archive without .npy arrays{}",
        if *.pickle {
            "; it looks like one written by torch.save: save the array with numpy.save instead"
        } else {
            ""
        }
    )]
    NoArrays {
        /// True for an archive with pickled objects, such as those of `torch.save`.
        pickle: bool,
    },
    /// The header of a safetensors file is invalid.
    #[error("its safetensors header {0}")]
    SafeTensors(String),
    /// The header of an IDX file is invalid.
    #[error("its IDX header {0}")]
    Idx(String),
    /// A gzip file cannot be expanded, or does not hold an IDX file.
    #[error("its gzip data {0}")]
    Gzip(String),
    /// The file holds several arrays, and none was chosen.
    #[error("holds several arrays, name one of them: {}", list(names))]
    Ambiguous {
        /// The names of the arrays.
        names: Vec<String>,
    },
    /// No array has the chosen name.
    #[error("has no array \"{}\"; it has: {}", short(name), list(names))]
    NoSuchArray {
        /// The chosen name.
        name: String,
        /// The names of the arrays in the file.
        names: Vec<String>,
    },
    /// A name was given, but the only array of the file has none.
    #[error("holds one array, which has no name; ask for it without \"{}\"", short(name))]
    Unnamed {
        /// The given name.
        name: String,
    },
    /// The array has more axes than are supported.
    #[error("has {axes} axes, expected at most {limit}")]
    Axes {
        /// The number of axes.
        axes: usize,
        /// The limit.
        limit: usize,
    },
    /// The array has an axis of length 0, and other lengths whose product is too large.
    #[error("has lengths whose product is out of range")]
    Lengths,
    /// The file holds fewer bytes than the header promises.
    #[error("is truncated: {promised} bytes of numbers promised, {found} there")]
    Truncated {
        /// The number of bytes that the shape and the type need.
        promised: u128,
        /// The number of bytes in the file.
        found: u64,
    },
    /// The file holds more bytes than the header promises.
    #[error("has {found} bytes of numbers, {promised} promised by its header")]
    TooLong {
        /// The number of bytes that the shape and the type need.
        promised: u128,
        /// The number of bytes in the file.
        found: u64,
    },
    /// An array in a zip archive has another size than the directory of the archive says.
    #[error(
        "has {found} bytes in its archive, but the directory of the archive promises {promised}"
    )]
    EntrySize {
        /// The size that the directory gives, in bytes.
        promised: u64,
        /// The size that was found, in bytes.
        found: u64,
    },
    /// A compressed array is too large to be held in memory.
    #[error(
        "is compressed and expands to {size} bytes, more than the {limit} that are read into \
         memory; save it uncompressed ({remedy})"
    )]
    TooLarge {
        /// The size of the expanded array in bytes.
        size: u128,
        /// The limit.
        limit: u64,
        /// A program or function that does that.
        remedy: &'static str,
    },
    /// The array has more numbers than are held in memory.
    #[error("has {count} numbers, more than the {limit} that are held in memory{remedy}")]
    TooMany {
        /// The number of numbers.
        count: usize,
        /// The limit.
        limit: usize,
        /// The rest of the sentence: a remedy, or nothing.
        remedy: &'static str,
    },
    /// The numbers have a type that is not supported.
    #[error("holds {what}; {remedy}")]
    Element {
        /// The type, in words, with its code.
        what: String,
        /// A remedy.
        remedy: &'static str,
    },
    /// No `f64` equals an integer of the array.
    #[error("entry {index} is the integer {value}, which float64 cannot hold exactly")]
    Inexact {
        /// The indices of the integer, as `[row, column]`.
        index: String,
        /// The integer.
        value: i128,
    },
}

/// Formats the first names of a list.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 20;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| short(name)).collect();
    let mut text = shown.join(", ");
    if names.len() > SHOWN {
        let _ = write!(text, " and {} more", names.len() - SHOWN);
    }
    text
}

/// Says `array "name": `, or nothing.
fn inside(array: Option<&str>) -> String {
    array.map_or_else(String::new, |name| format!("array \"{}\": ", short(name)))
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
