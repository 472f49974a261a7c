//! `flatmin analyze`.
use std::path::PathBuf;

use clap::Args;

use crate::failure::{Exit, Failure};

/// Options.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// File.
    file: PathBuf,
}

pub(crate) fn analyze(options: &Options) -> Result<Exit, Failure> {
    flatmin_arrays::ArrayFile::open(&options.file)?;
    Ok(Exit::Done)
}
