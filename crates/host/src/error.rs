//! The error of files, which every program shares.

use std::io;
use std::path::{Path, PathBuf};

use crate::shown;

/// A file or folder that could not be read or written. The message is one line, `PATH: reason`.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", shown(path))]
pub struct FileError {
    /// The file or folder.
    pub path: PathBuf,
    /// The reason.
    pub source: io::Error,
}

impl FileError {
    /// Adds a path to an input or output error, for `map_err`.
    ///
    /// ```
    /// use flatmin_host::FileError;
    ///
    /// let path = "no/such/file".as_ref();
    /// let error = std::fs::read(path).map_err(FileError::at(path)).unwrap_err();
    /// assert!(error.to_string().starts_with("no/such/file: "));
    /// ```
    pub fn at(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self { path, source }
    }

    /// An error in the content of a file, with the reason in words.
    pub fn content(path: &Path, reason: impl Into<String>) -> Self {
        Self::at(path)(io::Error::new(io::ErrorKind::InvalidData, reason.into()))
    }
}
