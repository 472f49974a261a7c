//! Rows that occur several times, all equally often.

use super::facts::{Doubt, Facts};

pub(super) fn doubt(facts: &Facts<'_>) -> Option<Doubt> {
    let evidence = facts.evidence;
    let reading = &evidence.reading;
    let times = evidence.products.repeats?;
    let rows = reading.samples * reading.outputs;
    // The rows of a design, such as indicators of categories, do repeat.
    let is_design = evidence.columns.as_ref().is_some_and(|columns| columns.is_design);
    if is_design || rows < 4 || (!reading.is_gram && reading.columns < 2) {
        return None;
    }
    let what = if times == rows {
        format!("all {rows} rows are equal")
    } else {
        format!("each row occurs {times} times, in a regular order")
    };
    let text = format!(
        "{what}: was one gradient taken for several samples or outputs? Take the gradient of each \
         output of each sample by itself, and each sample once"
    );
    Some(Doubt { kind: "repeated_rows", text })
}
