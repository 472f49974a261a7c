//! What is said on standard output and standard error.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::Path;

use clap::ValueEnum;
use serde::{Serialize, Serializer};

use crate::failure::Failure;

/// Format of standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For a reader.
    Text,
    /// For a program.
    Json,
}

/// A line on standard error. If nobody can read it, there is nobody to tell.
pub(crate) fn note(line: &dyn Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// A line on standard error that starts with the program's name.
pub(crate) fn warn(message: &dyn Display) {
    note(&format_args!("flatmin: {message}"));
}

/// Text on standard output. A closed pipe is not an error: the reader had enough.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(failed(error)),
        _ => Ok(()),
    }
}

/// A value as JSON on standard output.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| failed(error.into()))?;
    print(&(text + "\n"))
}

fn failed(error: io::Error) -> Failure {
    Failure::file(Path::new("standard output"))(error)
}

/// A number in JSON, with the fewest digits that give it back; infinity is the word `"inf"`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Number(pub(crate) f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            value if value.is_finite() => serializer.serialize_f64(value),
            value if value.is_nan() => serializer.serialize_none(),
            value if value > 0.0 => serializer.serialize_str("inf"),
            _ => serializer.serialize_str("-inf"),
        }
    }
}
