//! What can go wrong, and the exit status that says so.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use flatmin_arrays::ArrayError;
pub(crate) use flatmin_host::shown;
use flatmin_linalg::simd::InstructionSetError;
use flatmin_theory::ThresholdError;

/// The exit statuses of `flatmin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Done, and with `--check` a given learning rate is unstable.
    Unstable = 1,
    /// Wrong usage; also clap's own.
    Usage = 2,
    /// Bad input, or it could not run.
    Failed = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command could not be done. The message is one line that starts with the file it is about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// An array file, or an array in it.
    #[error(transparent)]
    Array(#[from] ArrayError),
    /// The numbers of a file are not what they should be.
    #[error("{}: {source}", shown(path))]
    Theory { path: PathBuf, source: ThresholdError },
    /// Something else is wrong with a file.
    #[error("{}: {reason}", shown(path))]
    Input { path: PathBuf, reason: String },
    /// The environment asks for an instruction set that cannot be had.
    #[error("FLATMIN_SIMD: {0}")]
    InstructionSet(#[from] InstructionSetError),
    /// A file could not be read or written.
    #[error("{}: {source}", shown(path))]
    File { path: PathBuf, source: io::Error },
}

impl From<flatmin_host::FileError> for Failure {
    fn from(error: flatmin_host::FileError) -> Self {
        Self::File { path: error.path, source: error.source }
    }
}

impl Failure {
    /// The status of a program that ends with it.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::InstructionSet(InstructionSetError::Unknown(_)) => Exit::Usage,
            _ => Exit::Failed,
        }
    }

    /// Something wrong with a file, in words.
    pub(crate) fn input(path: &Path, reason: impl Into<String>) -> Self {
        Self::Input { path: path.into(), reason: reason.into() }
    }

    /// An input or output error at a path.
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }

    /// What theory has against the numbers of a file.
    pub(crate) fn theory<E: Into<ThresholdError>>(path: &Path) -> impl Fn(E) -> Self + use<E> {
        let path = path.to_owned();
        move |error| Self::Theory { path: path.clone(), source: error.into() }
    }
}
