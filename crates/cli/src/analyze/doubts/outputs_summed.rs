//! Derivatives of the sum or the mean over several outputs.

use super::facts::{Doubt, Facts};

pub(super) fn doubt(facts: &Facts<'_>) -> Option<Doubt> {
    let evidence = facts.evidence;
    if evidence.reading.outputs > 1 {
        return None;
    }
    let columns = evidence.columns.as_ref()?;
    let (k, why) = match (columns.summed, columns.summed_without_bias) {
        (Some(k), _) => {
            let why = format!(
                "{k} columns are one and the same number, and other columns occur {k} times, as the \
                 biases and weights of {k} outputs do"
            );
            (k, why)
        }
        (None, Some(k)) => {
            let why = format!(
                "columns occur {k} times at one distance, as the weights of {k} outputs without biases \
                 do"
            );
            (k, why)
        }
        (None, None) => return None,
    };
    let text = format!(
        "{why} in the derivatives of their sum or mean, which do not determine the threshold: take the \
         Jacobian of each output, n × k × p with k = {k} (see docs/guide/analyze.md#several-outputs)"
    );
    Some(Doubt { kind: "outputs_summed", text })
}
