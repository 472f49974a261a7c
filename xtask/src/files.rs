//! JSON files; [`flatmin_host`] writes them whole or not at all.

use std::path::Path;

use flatmin_host::FileError;
use serde::Serialize;

pub(crate) use flatmin_host::{is_sealed, make_writable, seal, sweep, write};

use crate::failure::Failure;

/// Writes a file of a reproduction. A link in its place is refused: the folder may have come from
/// elsewhere.
///
/// # Errors
/// [`FileError`].
pub(crate) fn write_own(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    flatmin_host::refuse_link(path)?;
    flatmin_host::write(path, bytes)
}

/// Writes a value as JSON.
///
/// # Errors
/// As [`write_own`] and [`json`].
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Failure> {
    Ok(write_own(path, json(path, value)?.as_bytes())?)
}

/// A value as the JSON text of the file at `path`.
///
/// # Errors
/// [`Failure::File`] when the value has no JSON form.
pub(crate) fn json(path: &Path, value: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value);
    let text = text.map_err(|error| Failure::file(path)(error.into()))?;
    Ok(text + "\n")
}
