//! What is said on standard output and standard error.

use std::fmt::Display;
use std::io::{self, Write as _};

use clap::ValueEnum;

/// Format of standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For a reader.
    Text,
    /// For a program.
    Json,
}

/// Most characters of a line on standard error.
const LONGEST: usize = 4000;

/// A line on standard error, without control characters. If nobody can read it, there is nobody to tell.
pub(crate) fn note(line: &dyn Display) {
    let line = flatmin_host::shortened(&line.to_string(), LONGEST);
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// A line on standard error that starts with the program's name.
pub(crate) fn warn(message: &dyn Display) {
    note(&format_args!("xtask: {message}"));
}

/// Text on standard output. A closed pipe is not an error: the reader had enough.
pub(crate) fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
