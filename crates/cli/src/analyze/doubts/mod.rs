//! What looks wrong about the input of an analysis.
//!
//! *Facts* are gathered while the numbers stream by, without a second pass. A *doubt* is a function
//! from the facts to words that name what looks wrong, with its numbers, and the way out. Doubts
//! rest on strong evidence only: a right input that is doubted teaches its owner to ignore doubts.

mod columns;
mod flattened_outputs;
mod incomplete_blocks;
mod layout;
mod loss_gradient;
mod mean_over_outputs;
mod not_stationary;
mod other_axes;
mod outputs_as_samples;
mod overlapping_blocks;
mod products;
mod repeated_rows;
mod rounding;
mod single_precision;
mod transposed;
mod vanishing;

use flatmin_theory::ResidualGradients;
use serde::Serialize;

pub(super) use self::columns::{ColumnFacts, ColumnSummary};
pub(super) use self::products::ProductFacts;
pub(super) use self::rounding::Rounding;
use super::blocks::Blocks;
use super::training::Residuals;
use crate::words::shape_words;

/// Something that looks wrong about the input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Doubt {
    /// The name of the kind, in snake case.
    pub(super) kind: &'static str,
    /// One line: what looks wrong, with the numbers, and the way out.
    pub(super) text: String,
}

/// The shape of the input and how it is read.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a claim of its own, or a switch")]
pub(super) struct Reading {
    pub(super) is_gram: bool,
    pub(super) samples: usize,
    pub(super) outputs: usize,
    /// Columns of the Jacobian.
    pub(super) columns: usize,
    pub(super) shape: Vec<usize>,
    /// The order of the axes, where there is one array.
    pub(super) axes: Option<String>,
    pub(super) are_axes_given: bool,
    /// True if options or other arrays tell n.
    pub(super) are_samples_known: bool,
    /// True if options or other arrays tell k.
    pub(super) are_outputs_known: bool,
}

impl Reading {
    /// The shape and its reading in words.
    pub(super) fn words(&self) -> String {
        let Self { samples, outputs, columns, .. } = self;
        let shape = shape_words(&self.shape);
        if self.is_gram {
            return format!("has shape ({shape}), read as {samples} samples × {outputs} outputs");
        }
        format!(
            "has shape ({shape}), read as {samples} samples × {outputs} outputs × {columns} \
             parameters"
        )
    }
}

/// How blocks lie in the columns.
#[derive(Debug, Clone, Default)]
pub(super) struct BlockFacts {
    /// The number of columns without a block, and the first of them.
    pub(super) uncovered: Option<(usize, usize)>,
    /// Two blocks that share columns.
    pub(super) overlap: Option<(String, String)>,
}

impl BlockFacts {
    pub(super) fn new(blocks: &Blocks, columns: usize) -> Self {
        let gaps = blocks.uncovered(columns);
        let count = gaps.iter().map(std::ops::Range::len).sum();
        let first = gaps.first().filter(|_| !blocks.has_rest).map(|gap| gap.start);
        Self {
            uncovered: first.map(|first| (count, first)),
            overlap: blocks.overlap().map(|(a, b)| (a.to_owned(), b.to_owned())),
        }
    }
}

/// What was seen of the input while it was read.
#[derive(Debug, Clone)]
pub(super) struct Evidence {
    pub(super) reading: Reading,
    /// `None` for a Gram matrix.
    pub(super) columns: Option<ColumnSummary>,
    pub(super) products: ProductFacts,
    pub(super) blocks: BlockFacts,
    /// The precision of a Gram matrix, if it is lower than float64.
    pub(super) rounding: Option<Rounding>,
}

/// All that doubts are about.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) evidence: &'a Evidence,
    pub(super) residuals: Option<&'a Residuals>,
    pub(super) gradients: Option<ResidualGradients>,
    /// True if weight decay moves the stationary point.
    pub(super) decays: bool,
    /// The largest threshold over a learning rate that was asked about.
    pub(super) margin: Option<f64>,
}

/// A doubt, if the facts raise it.
type Check = fn(&Facts<'_>) -> Option<Doubt>;

/// All doubts. The first of two about the same thing hides the second.
const CHECKS: [&[Check]; 6] = [
    &[vanishing::doubt, loss_gradient::doubt],
    &[
        transposed::doubt,
        other_axes::doubt,
        flattened_outputs::doubt,
        outputs_as_samples::doubt,
        mean_over_outputs::doubt,
        repeated_rows::doubt,
    ],
    &[not_stationary::doubt],
    &[incomplete_blocks::doubt],
    &[overlapping_blocks::doubt],
    &[single_precision::doubt],
];

/// What looks wrong.
pub(super) fn doubts(facts: &Facts<'_>) -> Vec<Doubt> {
    CHECKS.iter().filter_map(|checks| checks.iter().find_map(|check| check(facts))).collect()
}
