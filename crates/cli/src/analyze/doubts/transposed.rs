//! A matrix whose rows are parameters.

use super::facts::{Doubt, Facts};

pub(super) fn doubt(facts: &Facts<'_>) -> Option<Doubt> {
    let evidence = facts.evidence;
    let (reading, columns) = (&evidence.reading, evidence.columns.as_ref()?);
    // Whole numbers are data, such as answers to questions, and some answer alike.
    if columns.constant > 0 || columns.is_design {
        return None;
    }
    if let (Some(of), 2) = (columns.biases, reading.shape.len()) {
        let (k, order) = (of.outputs, if of.is_by_sample { "p,nk" } else { "p,kn" });
        let text = format!(
            "{k} rows are one number each, in the columns of one of {k} groups, as the biases of {k} \
             outputs are: are the rows parameters, and the columns samples × outputs? Then give \
             --axes {order} --outputs {k}"
        );
        return Some(Doubt { kind: "transposed", text });
    }
    if !columns.has_constant_row {
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
