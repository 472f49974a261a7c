//! Lines on standard error, text and JSON on standard output.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::Path;

use serde::Serialize;

use crate::{FileError, is_printable, shortened};

/// Most characters of a line on standard error.
const MAX_LINE: usize = 4000;

/// Writes a line to standard error, with control characters escaped. Ignores a closed standard
/// error, since nobody is left to tell.
pub fn note(line: &dyn Display) {
    let line = shortened(&line.to_string(), MAX_LINE);
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Writes text to standard output. A closed pipe is not an error: its reader had enough.
///
/// # Errors
/// [`FileError`] for every other failure, such as a full disk.
pub fn print(text: &str) -> Result<(), FileError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(FileError::at(Path::new("standard output"))(error))
        }
        _ => Ok(()),
    }
}

/// Writes a value as the JSON of [`to_json`] to standard output.
///
/// # Errors
/// The errors of [`print()`], and one when the value has no JSON form.
pub fn print_json(value: &impl Serialize) -> Result<(), FileError> {
    print(&to_json(Path::new("standard output"), value)?)
}

/// A value as the indented JSON text of the file at `path`, with a line end. Characters that a
/// terminal would act on are escaped.
///
/// # Errors
/// [`FileError`] at `path` when the value has no JSON form.
pub fn to_json(path: &Path, value: &impl Serialize) -> Result<String, FileError> {
    let text = serde_json::to_string_pretty(value);
    let text = text.map_err(|error| FileError::at(path)(error.into()))?;
    Ok(harmless(&text) + "\n")
}

/// JSON with the same meaning, in which characters that a terminal would act on are escaped.
fn harmless(json: &str) -> String {
    // Characters below U+0020 are escaped already, or are line ends between the values.
    let unit = |unit: &mut u16| format!("\\u{unit:04x}");
    let harmless = |character: char| match character {
        safe if safe == '\n' || is_printable(safe) => safe.to_string(),
        other => other.encode_utf16(&mut [0; 2]).iter_mut().map(unit).collect(),
    };
    json.chars().map(harmless).collect()
}

#[cfg(test)]
mod tests {
    use super::to_json;
    use crate::is_printable;

    #[test]
    fn json_means_the_same_without_what_a_terminal_would_act_on() {
        let value = serde_json::json!({"a\u{1b}\u{9b}\u{7f}": ["\u{202e}é\n", "\u{e0041}"]});
        let text = to_json("file".as_ref(), &value).unwrap();
        assert!(text.chars().all(|c| c == '\n' || is_printable(c)), "{text}");
        assert!(text.contains("\\u009b\\u007f") && text.contains("\\udb40\\udc41"), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
