//! What is said on standard output and standard error.

use std::fmt::Display;
use std::io::{self, Write as _};

use clap::ValueEnum;
use serde::{Serialize, Serializer};

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
pub(crate) fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// A value as JSON on standard output.
pub(crate) fn print_json(value: &impl Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => print(&(text + "\n")),
        // Plain data with text keys always has a JSON form.
        Err(error) => warn(&error),
    }
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
