//! The readers of the command's own files by themselves, for tests that feed them anything.
//!
//! Each gives what is wrong in the words that a user would see after the name of the file, and nothing
//! of what it has read.

use std::path::Path;

use crate::analyze::Blocks;
use crate::config::{Config, ModelConfig};
use crate::failure::Failure;
use crate::{load, train};

/// The file that messages name.
const NAME: &str = "file";

fn message(failure: &Failure) -> String {
    failure.to_string()
}

/// A configuration of `flatmin train`.
///
/// # Errors
/// When it is none.
pub fn config(bytes: &[u8]) -> Result<(), String> {
    Config::from_bytes(bytes.to_vec(), Path::new(NAME)).map(drop).map_err(|f| message(&f))
}

/// A model of `flatmin metrics`.
///
/// # Errors
/// When it is none.
pub fn model(bytes: &[u8]) -> Result<(), String> {
    ModelConfig::from_bytes(bytes.to_vec(), Path::new(NAME)).map(drop).map_err(|f| message(&f))
}

/// Blocks of parameters of `flatmin analyze`.
///
/// # Errors
/// When there are none for a Jacobian of ten columns.
pub fn blocks(bytes: &[u8]) -> Result<(), String> {
    let blocks = Blocks::parse(bytes, Path::new(NAME));
    blocks.and_then(|blocks| blocks.check(10)).map_err(|f| message(&f))
}

/// A checkpoint of `flatmin train --resume`, whatever its checksum; a small run goes on from there.
///
/// # Errors
/// When it is none, or one of another run.
pub fn checkpoint(bytes: &[u8]) -> Result<(), String> {
    train::readers::checkpoint(bytes)
}

/// The summary of a run that has ended, in words.
///
/// # Errors
/// When it is none.
pub fn summary(bytes: &[u8]) -> Result<String, String> {
    train::readers::summary(bytes)
}

/// Data and an order of samples from an array file.
///
/// # Errors
/// When it holds neither.
pub fn data(path: &Path) -> Result<(), String> {
    let data = load::dataset(path).map(drop);
    data.or_else(|_| load::order(path, 3).map(drop)).map_err(|f| message(&f))
}
