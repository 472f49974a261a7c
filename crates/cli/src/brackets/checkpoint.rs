//! The modes of a bracket in a file, from which a long run goes on.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use flatmin_host::write_with;
use flatmin_theory::Subspace;

use crate::failure::Failure;
use crate::words::PROGRAM;

/// The time between two writes, at least, also relative to the time that a write takes.
const WRITE_TIME: Duration = Duration::from_mins(1);
const WRITES: u32 = 20;

/// A file with a subspace.
#[derive(Debug)]
pub(super) struct Checkpoint<'a> {
    path: &'a Path,
    /// The time of the last write, and how long it took.
    last: Cell<(Instant, Duration)>,
    /// True after a write that failed: it is said once.
    has_failed: Cell<bool>,
}

impl<'a> Checkpoint<'a> {
    pub(super) fn new(path: &'a Path) -> Self {
        let last = Cell::new((Instant::now(), Duration::ZERO));
        Self { path, last, has_failed: Cell::new(false) }
    }

    /// The subspace in the file; `None` if there is no file.
    pub(super) fn read(&self) -> Result<Option<Subspace>, Failure> {
        let file = match File::open(self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::at(self.path)(error)),
        };
        match Subspace::read_from(&mut BufReader::with_capacity(1 << 20, file)) {
            Ok(subspace) => Ok(Some(subspace)),
            Err(error) => {
                let reason = match error.kind() {
                    io::ErrorKind::UnexpectedEof => "ends early".to_owned(),
                    _ => error.to_string(),
                };
                Err(Failure::input(self.path, format!("is no checkpoint of a bracket: {reason}")))
            }
        }
    }

    /// Writes the subspace if the last write was long ago.
    pub(super) fn write_if_due(&self, subspace: &Subspace) {
        let (last, took) = self.last.get();
        if last.elapsed() >= WRITE_TIME.max(took * WRITES) {
            self.write(subspace);
        }
    }

    /// Writes the subspace. A failure is a warning: the bracket itself goes on.
    pub(super) fn write(&self, subspace: &Subspace) {
        let started = Instant::now();
        let written = write_with(self.path, &|writer| subspace.write_to(writer));
        self.last.set((Instant::now(), started.elapsed()));
        if let Err(error) = written
            && !self.has_failed.replace(true)
        {
            PROGRAM.warn(&format_args!("the checkpoint was not written: {error}"));
        }
    }
}
