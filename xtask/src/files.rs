//! JSON files; [`flatmin_files`] writes them whole or not at all.

use std::path::Path;

use serde::Serialize;

pub(crate) use flatmin_files::{is_sealed, make_writable, seal, sweep, write};

use crate::failure::Failure;

/// Writes a value as JSON.
///
/// # Errors
/// As [`write()`] and [`json`].
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Failure> {
    Ok(write(path, json(path, value)?.as_bytes())?)
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
