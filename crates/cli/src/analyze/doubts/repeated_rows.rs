//! Rows that occur several times, all equally often.

use super::facts::{Doubt, Facts};
use super::products::Repeats;

pub(super) fn doubt(facts: &Facts<'_>) -> Option<Doubt> {
    let evidence = facts.evidence;
    let reading = &evidence.reading;
    let Repeats { times, period } = evidence.products.repeats?;
    let rows = reading.samples * reading.outputs;
    // The rows of a design, such as indicators of categories, do repeat.
    let is_design = evidence.columns.as_ref().is_some_and(|columns| columns.is_design);
    if is_design || rows < 4 || (!reading.is_gram && reading.columns < 2) {
        return None;
    }
    // A data set may be given twice; with several outputs, samples are repeated and not outputs.
    let is_data_set = period.is_some_and(|period| {
        times == 2 || (reading.outputs > 1 && period.is_multiple_of(reading.outputs))
    });
    if is_data_set {
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
