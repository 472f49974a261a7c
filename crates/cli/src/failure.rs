//! The failures of a command, and the exit status of each.

use std::fmt::Display;
use std::path::Path;

use flatmin_arrays::ArrayError;
use flatmin_host::{Exit, FileError};
use flatmin_linalg::simd::InstructionSetError;

/// The reason why a command failed. The message is one line, which starts with the file it is
/// about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// An array file cannot be used.
    #[error(transparent)]
    Array(#[from] ArrayError),
    /// A file cannot be read or written, or its content is wrong.
    #[error(transparent)]
    File(#[from] FileError),
    /// Options that do not fit each other.
    #[error("{0}")]
    Usage(String),
    /// The environment asks for an instruction set that is unknown or that the processor does not
    /// have.
    #[error("FLATMIN_SIMD: {0}")]
    InstructionSet(#[from] InstructionSetError),
}

impl Failure {
    /// The status of a program that ends with this failure.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) | Self::InstructionSet(InstructionSetError::Unknown(_)) => Exit::Usage,
            _ => Exit::Failed,
        }
    }

    /// An error in the content of a file, in words.
    pub(crate) fn input(path: &Path, reason: impl Into<String>) -> Self {
        FileError::content(path, reason).into()
    }

    /// Adds a path to an error about the content of the file, for `map_err`.
    pub(crate) fn at<E: Display>(path: &Path) -> impl Fn(E) -> Self + use<E> {
        let path = path.to_owned();
        move |error| Self::input(&path, error.to_string())
    }
}
