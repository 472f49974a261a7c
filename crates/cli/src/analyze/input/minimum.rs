//! The minimum that was read from a file.

use std::ops::Range;

use flatmin_linalg::{JacobianProducts, Sharpness};
use flatmin_theory::Minimum;

use crate::analyze::doubts::Evidence;
use crate::analyze::point::Residuals;

/// The minimum in a file.
#[derive(Debug)]
pub(crate) struct FileMinimum {
    pub(crate) minimum: Minimum,
    /// The name of the array, if it has one.
    pub(crate) array: Option<String>,
    /// The number of columns of a Jacobian.
    pub(crate) parameters: Option<usize>,
    /// The blocks of parameters.
    pub(crate) blocks: Option<Vec<Block>>,
    /// The residuals, if they were given.
    pub(crate) residuals: Option<Residuals>,
    /// The facts about the input.
    pub(crate) evidence: Evidence,
    /// The types of the numbers, each once.
    pub(crate) element: String,
    /// True if the numbers were formed in a lower precision than the interval is computed in.
    pub(crate) is_rounded: bool,
}

/// A minimum that is known by products with its Jacobian, weighted by loss and preconditioner.
pub(crate) struct LargeMinimum<'a> {
    pub(crate) jacobian: Box<dyn JacobianProducts + 'a>,
    /// The name of the array, if it has one.
    pub(crate) array: Option<String>,
    /// The residuals, if they were given.
    pub(crate) residuals: Option<Residuals>,
    /// The facts about the input; `None` if there is no array.
    pub(crate) evidence: Option<Evidence>,
    /// The types of the numbers, each once.
    pub(crate) element: Option<String>,
}

/// A block of parameters.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) name: String,
    /// Its columns; those of the rest may have gaps, which these are around.
    pub(crate) range: Range<usize>,
    /// The number of its columns.
    pub(crate) columns: usize,
    pub(crate) sharpness: Sharpness,
}
