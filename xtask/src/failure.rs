//! Why a task could not be done, and the exit status that says so.

use std::io;
use std::path::{Path, PathBuf};

use flatmin_book::BookError;
use flatmin_experiments::MissingCell;
use flatmin_experiments::cell::{CellError, CellKeyError};
use flatmin_host::{Exit, FileError, SealError, shown};
use flatmin_ledger::LedgerError;
use flatmin_linalg::simd::InstructionSetError;

/// Why a task could not be done. The message is one line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A file or folder could not be read or written, or a program could not be started.
    #[error(transparent)]
    File(#[from] FileError),
    /// A stored cell is in a format of a later version.
    #[error(
        "{}: {source}; use a newer flatmin, another --out, or --fresh to replace it",
        shown(path)
    )]
    NewerSchema { path: PathBuf, source: SealError },
    /// A cell could not be computed.
    #[error("{}: cell cannot be computed ({label}): {source}", shown(path))]
    Cell { path: PathBuf, label: String, source: CellError },
    /// A result cannot be read back after it was stored.
    #[error("{}: result cannot be stored ({label}): {reason}", shown(path))]
    Unreadable { path: PathBuf, label: String, reason: String },
    /// A presentation asks for a cell that its experiment did not name: a defect of this program.
    #[error(transparent)]
    MissingCell(#[from] MissingCell),
    /// A statement could not be tried.
    #[error("{statement} cannot be checked: {source}")]
    Statement { statement: &'static str, source: LedgerError },
    /// The worker threads could not be started.
    #[error("threads: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// Stopped on request.
    #[error(
        "interrupted: {stored} of the {total} cells to compute are done and stored in {}; the same \
         command goes on from there",
        shown(folder)
    )]
    Interrupted { stored: usize, total: usize, folder: PathBuf },
    /// Stopped on request while another process wrote.
    #[error(
        "interrupted: all cells are stored, and another process was writing into {}; the same command \
         goes on from there",
        shown(folder)
    )]
    Waiting { folder: PathBuf },
    /// The environment asks for an instruction set that is unknown or not there.
    #[error("FLATMIN_SIMD: {0}")]
    InstructionSet(#[from] InstructionSetError),
    /// The text given to `--cell` is not a hash.
    #[error("--cell: {0}")]
    NotAHash(#[from] CellKeyError),
    /// The hash given to `--cell` belongs to no cell of this reproduction.
    #[error(
        "--cell: no cell {0} with this profile, seeds and experiments; --plan lists those to do"
    )]
    UnknownCell(String),
    /// The book cannot be read.
    #[error(transparent)]
    Book(#[from] BookError),
    /// A program that a task needs is not installed.
    #[error("{error}; {remedy}")]
    NotInstalled { error: FileError, remedy: &'static str },
    /// A program failed, or printed something that is not understood.
    #[error("{0}")]
    Program(String),
}

impl Failure {
    /// An input or output error at a path, for `map_err`.
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let at = FileError::at(path);
        move |source| at(source).into()
    }

    /// The exit status.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::NotAHash(_)
            | Self::UnknownCell(_)
            | Self::InstructionSet(InstructionSetError::Unknown(_)) => Exit::Usage,
            _ => Exit::Failed,
        }
    }
}
