//! What is said on standard output and standard error.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::Path;

use clap::ValueEnum;
use flatmin_linalg::Sharpness;
use flatmin_theory::Threshold;
use serde::{Serialize, Serializer};

use crate::failure::Failure;
use crate::number::significant;

/// Digits of the ends of an interval.
const INTERVAL_DIGITS: usize = 13;

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

/// The ends of a certified interval in JSON.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Interval {
    lower: Number,
    upper: Number,
}

impl From<Threshold> for Interval {
    fn from(threshold: Threshold) -> Self {
        Self { lower: Number(threshold.lower), upper: Number(threshold.upper) }
    }
}

impl Interval {
    /// As text says it.
    pub(crate) fn text(self) -> String {
        let [lower, upper] =
            [self.lower, self.upper].map(|end| significant(end.0, INTERVAL_DIGITS));
        format!("[{lower}, {upper}]")
    }
}

/// The three measures of sharpness in JSON.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Measures {
    pub(crate) trace: Number,
    pub(crate) frobenius_norm: Number,
    pub(crate) lambda_max: Number,
}

impl From<Sharpness> for Measures {
    fn from(sharpness: Sharpness) -> Self {
        let Sharpness { trace, frobenius_norm, lambda_max } = sharpness;
        Self {
            trace: Number(trace),
            frobenius_norm: Number(frobenius_norm),
            lambda_max: Number(lambda_max),
        }
    }
}
