//! A Gram matrix that is read as a Jacobian.

use super::facts::{Doubt, Facts};

/// Smaller matrices are symmetric by chance.
const FEWEST: usize = 3;

pub(super) fn doubt(facts: &Facts<'_>) -> Option<Doubt> {
    let evidence = facts.evidence;
    let (reading, columns) = (&evidence.reading, evidence.columns.as_ref()?);
    let rows = reading.samples * reading.outputs;
    let is_matrix = reading.shape.len() == 2 && reading.axes.is_some();
    // A few whole numbers are an operator or a design. A Gram matrix has no bias of an output.
    let is_other = (columns.is_design && columns.has_few_numbers) || columns.constant > 0;
    if !columns.is_gram || !is_matrix || is_other || rows < FEWEST {
        return None;
    }
    let remedy = match reading.outputs {
        1 => "give --gram (and --outputs k for k outputs)".to_owned(),
        k => format!("give --gram --outputs {k}"),
    };
    let text = format!(
        "the {rows} × {rows} array is symmetric and has no entry larger than its diagonal allows, as \
         a Gram matrix JJᵀ or tangent kernel has: was it to be read as one? Then {remedy}; if it is \
         a Jacobian, such as that of kernel regression or of a covariance design, give --trust-input"
    );
    Some(Doubt { kind: "gram_without_flag", text })
}
