//! Blocks of parameters that share columns.

use flatmin_host::short;

use super::facts::{Doubt, Facts};

pub(super) fn doubt(facts: &Facts<'_>) -> Option<Doubt> {
    let (one, other) = facts.evidence.blocks.overlap.as_ref()?;
    let text = format!(
        "the blocks \"{}\" and \"{}\" share columns, so that traces do not add up: a block is [first, \
         end] with the end not included; give each column to one block",
        short(one),
        short(other)
    );
    Some(Doubt { kind: "overlapping_blocks", text })
}
