//! What is said on standard output and standard error.

use std::fmt::{Display, Write as _};
use std::io::{self, Write as _};
use std::path::Path;

use clap::ValueEnum;
use flatmin_host::is_printable;
use flatmin_linalg::Sharpness;
use flatmin_theory::Threshold;
use serde::{Serialize, Serializer};

use crate::failure::{Exit, Failure};
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

/// Most characters of a line on standard error.
const LONGEST: usize = 4000;

/// A line on standard error. If nobody can read it, there is nobody to tell.
///
/// Messages escape the names that they hold; here it is seen to for all of them.
pub(crate) fn note(line: &dyn Display) {
    let line = flatmin_host::shortened(&line.to_string(), LONGEST);
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// A line on standard error that starts with the program's name.
pub(crate) fn warn(message: &dyn Display) {
    note(&format_args!("flatmin: {message}"));
}

/// Says what is wrong with the arguments, or what was asked for instead, and ends the program. An
/// argument may be the name of a file, put there by a shell.
pub(crate) fn usage(error: &clap::Error) -> ! {
    let text = error.render().to_string();
    if text.chars().all(|character| character == '\n' || is_printable(character)) {
        error.exit();
    }
    text.lines().for_each(|line| note(&line));
    std::process::exit(i32::from(Exit::Usage as u8));
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
    print(&(harmless(&text) + "\n"))
}

/// JSON in which the characters of names that a terminal would act on are escaped; it means the same.
fn harmless(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        // Those below U+0020 are escaped already, or are line ends between the values.
        if character == '\n' || is_printable(character) {
            text.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(text, "\\u{unit:04x}");
            }
        }
    }
    text
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

#[cfg(test)]
mod tests {
    use super::harmless;

    #[test]
    fn json_means_the_same_without_what_a_terminal_would_act_on() {
        let value = serde_json::json!({"a\u{1b}\u{9b}\u{7f}": ["\u{202e}é\n", "\u{e0041}"]});
        let text = harmless(&format!("{value:#}"));
        assert!(text.chars().all(|c| c == '\n' || flatmin_host::is_printable(c)), "{text}");
        assert!(text.contains("\\u009b\\u007f") && text.contains("\\udb40\\udc41"), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
