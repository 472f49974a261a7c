//! A Jacobian that is zero, or so small that no learning rate is too large.

use flatmin_host::significant;

use super::columns::ColumnSummary;
use super::facts::{Doubt, Facts};

/// A trace below this lets plain SGD stay at learning rates that nobody uses. The bias of an output
/// alone makes a trace of 1.
const VANISHING: f64 = 1e-5;

/// The trace below which a threshold far beyond the learning rate of the training is suspicious.
const SMALL: f64 = 1e-2;

/// A threshold so many times the learning rate is far beyond it.
const FAR: f64 = 1e4;

/// The trace that is suspicious where no learning rate was given: learning rates up to 1000 would
/// be stable. Networks with so small outputs have no biases, and norms as their inputs have.
const UNLIKELY: f64 = 2e-3;

/// The standard deviation of the logarithms of norms. Residuals of a normal distribution have 1.1,
/// and small networks without biases on three inputs had 0.7, with few exceptions.
const SPREAD: f64 = 0.8;

/// Fewest rows that show such a spread.
const FEWEST: usize = 10;

/// The question that the message ends with, and the way out.
const QUESTION: &str = "is this the Jacobian of the loss, which vanishes at a minimum? The Jacobian \
                        of the network's outputs is needed: differentiate the output, not the loss";

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
    let text = format!("{what}: {QUESTION}");
    Some(Doubt { kind: "vanishing_jacobian", text })
}

/// A small trace of rows whose norms spread as residuals do, where no learning rate tells that it is
/// too small.
pub(super) fn doubt_without_rate(facts: &Facts<'_>) -> Option<Doubt> {
    let evidence = facts.evidence;
    let products = &evidence.products;
    let is_right = evidence.columns.as_ref().is_some_and(ColumnSummary::shows_an_output);
    let is_small = facts.margin.is_none() && products.trace < UNLIKELY;
    let is_spread = products.norm_spread >= SPREAD && products.nonzero_rows >= FEWEST;
    if !is_small || !is_spread || is_right || evidence.reading.has_many_samples() {
        return None;
    }
    let text = format!(
        "the trace of JᵀJ/n is only {}, so that batches of one would be stable at learning rates in \
         the hundreds, and the norms of rows differ {} times: {QUESTION}",
        significant(products.trace, 3),
        significant(products.norm_ratio, 2)
    );
    Some(Doubt { kind: "vanishing_jacobian", text })
}
