//! A Gram matrix that was formed in a lower precision.

use flatmin_host::significant;

use super::facts::{Doubt, Facts};

pub(super) fn doubt(facts: &Facts<'_>) -> Option<Doubt> {
    let rounding = facts.evidence.rounding?;
    let text = format!(
        "the Gram matrix was formed in {}: entries are taken to be off by up to {} of the norms of \
         their rows, and intervals are widened by that and not certified; form JJᵀ in float64, or pass \
         the Jacobian",
        rounding.name,
        significant(rounding.entry(), 2)
    );
    Some(Doubt { kind: "single_precision_gram", text })
}
