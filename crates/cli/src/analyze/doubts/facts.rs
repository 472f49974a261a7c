//! The facts that doubts rest on.

use serde::Serialize;

use super::columns::ColumnSummary;
use super::products::ProductFacts;
use super::rounding::Rounding;
use crate::analyze::blocks::Blocks;
use crate::analyze::point::{Point, Residuals};
use crate::words::shape_words;

/// Something that looks wrong about the input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Doubt {
    /// The name of the kind, in snake case.
    pub(crate) kind: &'static str,
    /// One line: what looks wrong, with the numbers, and the way out.
    pub(crate) text: String,
}

/// The shape of the input and how it is read.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a claim of its own, or a switch")]
pub(crate) struct Reading {
    pub(crate) is_gram: bool,
    pub(crate) samples: usize,
    pub(crate) outputs: usize,
    /// Columns of the Jacobian.
    pub(crate) columns: usize,
    pub(crate) shape: Vec<usize>,
    /// The order of the axes, where there is one array.
    pub(crate) axes: Option<String>,
    pub(crate) are_axes_given: bool,
    /// True if options or other arrays tell n.
    pub(crate) are_samples_known: bool,
    /// True if options or other arrays tell k.
    pub(crate) are_outputs_known: bool,
}

impl Reading {
    /// The shape and its reading in words.
    pub(crate) fn words(&self) -> String {
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

    /// True for a Jacobian with several samples for each column, as regressions have; a network that
    /// fits its data has about as many parameters as samples, or more.
    pub(crate) fn has_many_samples(&self) -> bool {
        !self.is_gram && 3 * self.columns < self.samples
    }

    /// The reading of several outputs, with the way out, for a message about too few samples. It
    /// is empty for one output, and for several arrays, whose axes cannot be in another order.
    pub(crate) fn of_few_samples(&self) -> String {
        let Self { samples, outputs, .. } = self;
        if *outputs < 2 || self.axes.is_none() {
            return String::new();
        }
        let rows = samples * outputs;
        let s = if *samples == 1 { "" } else { "s" };
        let remedy = match (self.is_gram, self.shape.len()) {
            (true, 2) => format!(
                "if its {rows} rows are samples, it is a kernel of one output, to be read without \
                 --outputs, or a mean over outputs, which does not determine the threshold: take \
                 trace_axes=() in neural-tangents and pass n × n × k × k"
            ),
            (false, 2) => format!("if its {rows} rows are samples, leave out --outputs"),
            _ => "if its axes are in another order, give --axes".to_owned(),
        };
        format!(
            "the array is read as {samples} sample{s} with {outputs} outputs; {remedy}; otherwise "
        )
    }
}

/// The place of blocks among the columns.
#[derive(Debug, Clone, Default)]
pub(crate) struct BlockFacts {
    /// The number of columns without a block, and the first of them.
    pub(crate) uncovered: Option<(usize, usize)>,
    /// Two blocks that share columns.
    pub(crate) overlap: Option<(String, String)>,
}

impl BlockFacts {
    pub(crate) fn new(blocks: &Blocks, columns: usize) -> Self {
        let gaps = blocks.uncovered(columns);
        let count = gaps.iter().map(std::ops::Range::len).sum();
        let first = gaps.first().filter(|_| !blocks.has_rest).map(|gap| gap.start);
        Self {
            uncovered: first.map(|first| (count, first)),
            overlap: blocks.overlap().map(|(a, b)| (a.to_owned(), b.to_owned())),
        }
    }
}

/// The facts that were noted while the input was read.
#[derive(Debug, Clone)]
pub(crate) struct Evidence {
    pub(crate) reading: Reading,
    /// `None` for a Gram matrix.
    pub(crate) columns: Option<ColumnSummary>,
    pub(crate) products: ProductFacts,
    pub(crate) blocks: BlockFacts,
    /// The precision of a Gram matrix, if it is lower than float64.
    pub(crate) rounding: Option<Rounding>,
}

/// All that doubts are about.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) evidence: &'a Evidence,
    pub(crate) residuals: Option<&'a Residuals>,
    pub(crate) point: Option<Point>,
    /// The largest threshold over a learning rate that was asked about.
    pub(crate) margin: Option<f64>,
}
