//! Reading a minimum from a file.

pub(crate) mod axes;
mod kernel;
pub(crate) mod known;
mod open;
mod source;
mod stream;

use std::ops::Range;

use flatmin_linalg::Sharpness;
use flatmin_theory::Minimum;

pub(super) use self::open::Input;
use super::doubts::Evidence;
use super::training::Residuals;

/// The minimum in a file.
#[derive(Debug)]
pub(super) struct FileMinimum {
    pub(super) minimum: Minimum,
    /// The name of the array, if it has one.
    pub(super) array: Option<String>,
    /// The number of columns of a Jacobian.
    pub(super) parameters: Option<usize>,
    /// The blocks of parameters.
    pub(super) blocks: Option<Vec<Block>>,
    /// The residuals, if they were given.
    pub(super) residuals: Option<Residuals>,
    /// What was seen of the input.
    pub(super) evidence: Evidence,
    /// The type of the numbers.
    pub(super) element: &'static str,
    /// True if the numbers were formed in a lower precision than the interval is computed in.
    pub(super) is_rounded: bool,
}

/// A block of parameters.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) name: String,
    /// Its columns; those of the rest may have gaps, which these are around.
    pub(super) range: Range<usize>,
    /// The number of its columns.
    pub(super) columns: usize,
    pub(super) sharpness: Sharpness,
}
