//! Outputs that were flattened into the columns, as `flatten(start_dim=1)` does.

use super::facts::{Doubt, Facts};
use super::layout::Way;

pub(super) fn doubt(facts: &Facts<'_>) -> Option<Doubt> {
    let evidence = facts.evidence;
    let found = evidence.columns.as_ref()?.flattened?;
    let k = found.outputs;
    if k < 2 {
        return None;
    }
    let is_sum = evidence.reading.axes.is_none();
    let how = match found.way {
        _ if is_sum => format!("give --outputs {k} for arrays n × k × (parameter)"),
        Way::Whole => format!("give --axes n,kp --outputs {k}"),
        Way::Inner => format!("give --axes n,pk --outputs {k}"),
        Way::ByParameter => format!(
            "save n × k × p (flatten each parameter with start_dim=2), or give --axes n,kp --outputs \
             {k} and the parameters as --blocks"
        ),
    };
    let columns = evidence.reading.columns * evidence.reading.outputs;
    let text = format!(
        "columns of a last layer occur {k} times with zero columns between them: {columns} columns \
         are those of {k} outputs × {} parameters, flattened; {how}",
        columns / k
    );
    Some(Doubt { kind: "flattened_outputs", text })
}
