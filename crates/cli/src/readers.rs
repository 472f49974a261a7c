//! The readers of the command's own files by themselves, for tests that feed them anything.
//!
//! Each returns what a user would read after the name of the file when it is wrong, and nothing of
//! what it has read.

use std::ffi::OsStr;
use std::path::Path;

use flatmin_models::{Activation, LabelSmoothing, Loss, Mlp};

use crate::analyze::{Blocks, answer_about_file};
use crate::config::LossConfig;
use crate::{config, data, train};

/// The name of the file in messages.
const NAME: &str = "file";

/// Reads a configuration of `flatmin train`.
///
/// # Errors
/// When it is not one.
pub fn config(bytes: &[u8]) -> Result<(), String> {
    let config = config::config(Path::new(NAME), Some(bytes.to_vec()));
    config.map(drop).map_err(|failure| failure.to_string())
}

/// Reads a model of `flatmin metrics`.
///
/// # Errors
/// When it is not one.
pub fn model(bytes: &[u8]) -> Result<(), String> {
    let model = config::model(Path::new(NAME), Some(bytes.to_vec()));
    model.map(drop).map_err(|failure| failure.to_string())
}

/// Reads blocks of parameters of `flatmin analyze`.
///
/// # Errors
/// When they are not those of a Jacobian with ten columns.
pub fn blocks(bytes: &[u8]) -> Result<(), String> {
    let blocks = Blocks::parse(bytes, Path::new(NAME));
    blocks.and_then(|blocks| blocks.check(10)).map_err(|failure| failure.to_string())
}

/// Reads a checkpoint of `flatmin train --resume`, whatever its checksum, and goes on with a small
/// run from there.
///
/// # Errors
/// When it is not one, or is of another run.
pub fn checkpoint(bytes: &[u8]) -> Result<(), String> {
    train::readers::checkpoint(bytes).map_err(|error| error.to_string())
}

/// Reads the summary of a run that has ended, and returns it in words.
///
/// # Errors
/// When it is not one.
pub fn summary(bytes: &[u8]) -> Result<String, String> {
    train::readers::summary(bytes)
}

/// Reads data or an order of samples from an array file.
///
/// # Errors
/// When it holds neither.
pub fn data(path: &Path) -> Result<(), String> {
    let data = data::dataset(path, LossConfig::default()).map(drop);
    let data = data.or_else(|_| data::order(path, 3).map(drop));
    data.map_err(|failure| failure.to_string())
}

/// Reads data with classes from an array file.
///
/// # Errors
/// When it holds none.
pub fn classes(path: &Path) -> Result<(), String> {
    let loss = LossConfig { loss: Loss::CrossEntropy(LabelSmoothing::default()), classes: None };
    data::dataset(path, loss).map(drop).map_err(|failure| failure.to_string())
}

/// Reads the parameters of a small perceptron from an array file.
///
/// # Errors
/// When it does not hold them.
pub fn parameters(path: &Path) -> Result<(), String> {
    let perceptron =
        Mlp::new(&[2, 3, 2], Activation::Tanh, true).map_err(|error| error.to_string())?;
    data::parameters(path, &perceptron).map(drop).map_err(|failure| failure.to_string())
}

/// Answers `flatmin analyze FILE OPTIONS`, in text and JSON.
///
/// # Errors
/// When the file cannot be analysed in this way.
pub fn analysis(path: &Path, options: &[&str]) -> Result<[String; 2], String> {
    let options = options.iter().map(OsStr::new);
    let words: Vec<&OsStr> = [path.as_os_str()].into_iter().chain(options).collect();
    answer_about_file(&words).map_err(|refusal| refusal.to_string())
}
