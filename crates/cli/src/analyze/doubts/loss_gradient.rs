//! Rows that are gradients `r_i g_i` of the loss in place of the gradients `g_i` of the outputs.

use flatmin_host::significant;

use super::columns::ColumnSummary;
use super::facts::{Doubt, Facts};
use super::products::spread;

/// Fewest rows and columns for which chance is excluded.
const FEWEST: usize = 6;

/// The trace of loss gradients is this small at a loss of 1e-3: it is twice the loss times the mean
/// squared norm of a gradient.
const SMALL: f64 = 0.5;

/// The bias of an output alone makes this trace.
const BELOW_BIAS: f64 = 1.0;

/// A trace that hardly another Jacobian has.
const TINY: f64 = 0.05;

pub(super) fn doubt(facts: &Facts<'_>) -> Option<Doubt> {
    let evidence = facts.evidence;
    let products = &evidence.products;
    let columns = evidence.columns.as_ref();
    let why = of_residuals(facts).or_else(|| {
        // The loss has one gradient for each sample.
        let is_one = evidence.reading.outputs == 1 && products.nonzero_rows >= FEWEST;
        if !is_one || !columns.is_none_or(has_no_output_columns) {
            return None;
        }
        let trace = significant(products.trace, 3);
        let ratio = significant(products.norm_ratio, 2);
        let (spread, norms) = (products.norm_spread, products.norm_ratio);
        let is_small = products.trace < SMALL;
        let signs = products.signs.filter(|_| products.effective_rank >= 1.5);
        // Data with one dominant direction have such signs too, but a larger trace.
        if let Some(signs) = signs.filter(|s| s.are_exact && products.trace < BELOW_BIAS)
            && ((norms >= 8.0 && spread >= 0.6) || (norms >= 4.0 && products.relative_sum < 0.3))
        {
            return Some(format!(
                "the products of rows have the signs of residuals ({} rows against the others), and \
                 norms differ {ratio} times (trace {trace})",
                signs.rarer
            ));
        }
        // Rows whose norms spread as the absolute values of residuals do. Without biases, those of
        // inputs with two coordinates or one do as well, but such rows span few directions.
        let is_tiny = products.trace < TINY;
        let is_broad = spread >= 0.55 && products.effective_rank >= 2.5 && columns.is_some();
        let is_spread = is_broad || is_tiny || signs.is_some();
        (is_small && is_spread && norms >= 4.0 && spread >= 0.45).then(|| {
            let bias = if columns.is_some() {
                ", and no column has one sign, as that of a bias of the output has"
            } else {
                ""
            };
            format!("the trace is only {trace}, the norms of rows differ {ratio} times{bias}")
        })
    })?;
    let text = format!(
        "{why}: are these gradients of the loss (residual times gradient)? The Jacobian of the \
         network's outputs is needed: differentiate the output, not the loss"
    );
    Some(Doubt { kind: "jacobian_of_the_loss", text })
}

/// True if no column is constant, and hardly one has a single sign: a bias of the output, or of the
/// last hidden layer, has such a column, and times residuals it has both signs.
fn has_no_output_columns(columns: &ColumnSummary) -> bool {
    columns.constant == 0
        && !columns.is_design
        && columns.dense >= FEWEST
        && 16 * columns.one_signed <= columns.dense
}

/// Compares the rows with the residuals that were given. Returns the evidence in words.
fn of_residuals(facts: &Facts<'_>) -> Option<String> {
    let residuals = &facts.residuals?.given;
    let evidence = facts.evidence;
    if let Some(column) = evidence.columns.as_ref().and_then(|columns| columns.residual_column) {
        return Some(format!("column {column} is proportional to the residuals that were given"));
    }
    let norms = &evidence.products.norms;
    let largest = residuals.iter().fold(0.0_f64, |m, r| m.max(r.abs()));
    if norms.len() != residuals.len() || norms.len() < 8 || !(largest > 0.0) {
        return None;
    }
    let pairs: Vec<(f64, f64)> = residuals
        .iter()
        .zip(norms)
        .filter(|(r, norm)| r.abs() > 1e-12 * largest && **norm > 0.0)
        .map(|(r, norm)| (libm::log(r.abs()), libm::log(*norm)))
        .collect();
    if pairs.len() < 8 {
        return None;
    }
    let of_residuals = spread(pairs.iter().map(|(r, _)| *r));
    let left = spread(pairs.iter().map(|(r, norm)| norm - r));
    (of_residuals > 0.4 && left < 0.4 * of_residuals).then(|| {
        "the norms of rows are proportional to the absolute residuals that were given".to_owned()
    })
}
