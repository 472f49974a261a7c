//! A matrix whose rows are parameters.

use super::facts::{Doubt, Facts};

pub(super) fn doubt(facts: &Facts<'_>) -> Option<Doubt> {
    let evidence = facts.evidence;
    let (reading, columns) = (&evidence.reading, evidence.columns.as_ref()?);
    // Whole numbers are data, such as answers to questions, and some answer alike.
    if !columns.has_constant_row || columns.constant > 0 || columns.is_design {
        return None;
    }
    let remedy = match reading.shape.len() {
        2 => "give --axes pn",
        _ => "give the order of the axes, such as --axes pkn",
    };
    let text = format!(
        "a row is the same number in all {} columns, as a bias is in all samples: are the rows \
         parameters and the columns samples? Then {remedy}",
        reading.columns
    );
    Some(Doubt { kind: "transposed", text })
}
