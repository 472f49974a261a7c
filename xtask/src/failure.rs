//! Why a task could not be done, and the exit status that says so.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use flatmin_book::BookError;
use flatmin_experiments::MissingCell;
use flatmin_experiments::cell::{CellError, CellKeyError};
use flatmin_host::shown;
use flatmin_ledger::LedgerError;
use flatmin_linalg::simd::InstructionSetError;

/// Why a task could not be done. The message is one line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A file or folder could not be read or written.
    #[error("{}: {source}", shown(path))]
    File { path: PathBuf, source: io::Error },
    /// A file could not be written.
    #[error(transparent)]
    Written(#[from] flatmin_host::FileError),
    /// A stored cell is in a format of a later version.
    #[error(
        "{}: its format {schema} is newer than {known}, which this version reads; use a newer \
         flatmin, another --out, or --fresh to replace it",
        shown(path)
    )]
    NewerSchema { path: PathBuf, schema: String, known: &'static str },
    /// A cell could not be computed.
    #[error("{}: cell cannot be computed ({label}): {source}", shown(path))]
    Cell { path: PathBuf, label: String, source: CellError },
    /// A result does not survive being stored.
    #[error("{}: result cannot be stored ({label}): {reason}", shown(path))]
    Unreadable { path: PathBuf, label: String, reason: String },
    /// A table could not be made.
    #[error("{}: {reason}", shown(path))]
    Table { path: PathBuf, reason: String },
    /// A presentation wants a cell that its experiment did not name: a defect of this program.
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
    /// The environment asks for an instruction set that cannot be had.
    #[error("FLATMIN_SIMD: {0}")]
    InstructionSet(#[from] InstructionSetError),
    /// Stopped on request while another process wrote.
    #[error(
        "interrupted: all cells are stored, and another process was writing into {}; the same command \
         goes on from there",
        folder.display()
    )]
    Waiting { folder: PathBuf },
    /// The text given to `--cell` is not a hash.
    #[error("--cell: {0}")]
    NotAHash(#[from] CellKeyError),
    /// The book cannot be read.
    #[error(transparent)]
    Book(#[from] BookError),
    /// mdBook cannot be started.
    #[error("mdbook: {source}; install it with `{remedy}`")]
    MdBook { source: io::Error, remedy: &'static str },
    /// Valgrind cannot be started.
    #[error("valgrind: {0}; install it, on Debian with `apt-get install valgrind`")]
    Valgrind(io::Error),
    /// Instructions cannot be counted, or not be compared.
    #[error("{0}")]
    Instructions(String),
    /// mdBook could not build the book.
    #[error("mdbook: {status}{}{output}", if output.is_empty() { "" } else { ": " })]
    Build { status: ExitStatus, output: String },
    /// A benchmark could not be built or run.
    #[error("{0}")]
    Bench(String),
    /// The hash given to `--cell` belongs to no cell of this reproduction.
    #[error(
        "--cell: no cell {0} with this profile, seeds and experiments; --plan lists those to do"
    )]
    UnknownCell(String),
}

impl Failure {
    /// An input or output error at a path.
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}

/// The exit statuses; 2 is also clap's own for wrong usage.
pub(crate) mod exit {
    use super::{Failure, InstructionSetError};

    /// Done, and everything that was asked holds or is undecided.
    pub(crate) const DONE: u8 = 0;
    /// A claim or a statement fails; everything was still written.
    pub(crate) const FAILS: u8 = 1;
    /// Wrong usage.
    pub(crate) const USAGE: u8 = 2;
    /// Could not run.
    pub(crate) const COULD_NOT_RUN: u8 = 3;

    /// The status of a failure.
    pub(crate) fn of(failure: &Failure) -> u8 {
        match failure {
            Failure::NotAHash(_)
            | Failure::UnknownCell(_)
            | Failure::InstructionSet(InstructionSetError::Unknown(_)) => USAGE,
            _ => COULD_NOT_RUN,
        }
    }
}
