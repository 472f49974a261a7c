//! Blocks of parameters that do not cover all columns.

use super::facts::{Doubt, Facts};

pub(super) fn doubt(facts: &Facts<'_>) -> Option<Doubt> {
    let (count, first) = facts.evidence.blocks.uncovered?;
    let columns = facts.evidence.reading.columns;
    let text = format!(
        "{count} of {columns} columns, from column {first} on, are in no block: are the blocks those \
         of this array? Add \"rest\": true to the blocks to have them as a block of their own"
    );
    Some(Doubt { kind: "incomplete_blocks", text })
}
