//! A Jacobian that is zero, or so small that no learning rate is too large.

use flatmin_host::significant;

use super::facts::{Doubt, Facts};

/// A trace below this lets plain SGD stay at learning rates that nobody uses. The bias of an output
/// alone makes a trace of 1.
const VANISHING: f64 = 1e-5;

/// The trace below which a threshold far beyond the learning rate of the training is suspicious.
const SMALL: f64 = 1e-2;

/// A threshold so many times the learning rate is far beyond it.
const FAR: f64 = 1e4;

pub(super) fn doubt(facts: &Facts<'_>) -> Option<Doubt> {
    let trace = facts.evidence.products.trace;
    let margin = facts.margin.filter(|margin| *margin > FAR && trace < SMALL);
    if trace >= VANISHING && margin.is_none() {
        return None;
    }
    let what = if trace > 0.0 {
        let beyond = margin.map_or(String::new(), |margin| {
            format!(", with a threshold {} times the learning rate", significant(margin, 2))
        });
        format!("the trace of JᵀJ/n is {}{beyond}", significant(trace, 3))
    } else if facts.evidence.products.nonzero_rows > 0 {
        "entries are so small that the trace of JᵀJ/n is below 1e-300".to_owned()
    } else {
        "every entry is zero".to_owned()
    };
    let text = format!(
        "{what}: is this the Jacobian of the loss, which vanishes at a minimum? The Jacobian of the \
         network's outputs is needed: differentiate the output, not the loss"
    );
    Some(Doubt { kind: "vanishing_jacobian", text })
}
