//! The archive of an analysis: a file, or arrays in the memory of the program that asks.

use std::path::Path;

use flatmin_arrays::{ArrayError, ArrayFile, ArraysInMemory};

/// The place of the Jacobian, and of the arrays beside it that are not in a file of their own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Archive<'a> {
    path: &'a Path,
    arrays: Option<&'a ArraysInMemory>,
}

impl<'a> Archive<'a> {
    /// The file at this path, or arrays in memory that messages call by the path.
    pub(crate) fn new(path: &'a Path, arrays: Option<&'a ArraysInMemory>) -> Self {
        Self { path, arrays }
    }

    /// Opens the archive. Only headers are read.
    pub(crate) fn open(&self) -> Result<ArrayFile, ArrayError> {
        self.arrays.map_or_else(|| ArrayFile::open(self.path), |arrays| Ok(arrays.open(self.path)))
    }

    /// True if there is no file.
    pub(crate) fn is_in_memory(&self) -> bool {
        self.arrays.is_some()
    }
}
