//! Rows of several outputs that are read as samples of one output.

use super::facts::{Doubt, Facts};

pub(super) fn doubt(facts: &Facts<'_>) -> Option<Doubt> {
    let evidence = facts.evidence;
    let reading = &evidence.reading;
    if reading.outputs > 1 {
        return None;
    }
    let (columns, products) = (evidence.columns.as_ref(), &evidence.products);
    // Products of whole numbers, as in difference operators, are regular without outputs.
    // A constant column is the bias of the one output that all rows share.
    let is_other = columns.is_some_and(|c| c.is_design || c.constant > 0);
    let [alternating, stacked] =
        [products.alternating, products.stacked].map(|s| Some(s.filter(|_| !is_other)?.outputs));
    let alternating = columns.and_then(|c| c.alternating).or(alternating);
    let stacked = columns.and_then(|c| c.stacked).or(stacked);
    let rows = reading.samples;
    let (outputs, order, remedy) = match (alternating, stacked) {
        (Some(k), other) if other.is_none_or(|other| other <= k) => {
            (k, "one after the other for each sample", format!("--outputs {k}"))
        }
        (_, Some(k)) => {
            let axes = if reading.is_gram { "kn" } else { "kn,p" };
            (k, "output by output", format!("--outputs {k} --axes {axes}"))
        }
        _ => return None,
    };
    let text = format!(
        "{rows} rows look like {outputs} outputs of {} samples, {order}: a batch draws samples with \
         all their outputs; give {remedy}",
        rows / outputs
    );
    Some(Doubt { kind: "outputs_as_samples", text })
}
