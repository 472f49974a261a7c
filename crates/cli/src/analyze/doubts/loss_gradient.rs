//! Rows that are gradients `r_i g_i` of the loss in place of the gradients `g_i` of the outputs.

use flatmin_host::significant;

use super::facts::{Doubt, Facts};
use super::products::spread;

/// Fewest rows and columns for which chance is excluded.
const FEWEST: usize = 6;

/// Norms of fewer rows spread as those of residuals do by chance.
const FEWEST_FOR_SPREAD: usize = 10;

/// The trace of loss gradients is this small at a loss of 1e-3: it is twice the loss times the mean
/// squared norm of a gradient.
const SMALL: f64 = 0.5;

/// The bias of an output alone makes this trace.
const BELOW_BIAS: f64 = 1.0;

/// A trace that hardly another Jacobian has.
const TINY: f64 = 0.05;

/// A trace that is evidence of its own, so that a smaller product of variance and effective rank is
/// enough. Networks without biases on small inputs had 0.7 to 0.8.
const TINIER: f64 = 0.025;
const BROAD_IF_TINIER: f64 = 0.85;

/// A trace that is doubted whatever the norms of rows are: residuals of 1e-3 leave 1e-6 times the
/// squared norm of a gradient, which is 1 or more with biases.
const NEGLIGIBLE: f64 = 3e-4;

/// The largest trace of residuals of 0.3.
const LARGEST: f64 = 2.0;

/// The variance of the logarithms of norms times the effective rank. For a network without biases,
/// norms vary as those of its inputs: with d coordinates they have the variance ψ'(d/2)/4 and rank
/// d, a product of 0.5 to 0.8, and up to 1.6 in samples of 10 to 20. For residuals of a normal
/// distribution the variance alone is 1.2.
const BROAD: f64 = 1.7;

/// The product that is enough where the trace is not small.
const BROADEST: f64 = 3.0;

/// The correlation of the logarithms of norms and residuals. By chance, one of 10 samples reaches it
/// with a probability of 0.002, and then hardly with a slope of 1.
const CORRELATED: f64 = 0.8;

pub(super) fn doubt(facts: &Facts<'_>) -> Option<Doubt> {
    let evidence = facts.evidence;
    let products = &evidence.products;
    let columns = evidence.columns.as_ref();
    let why = of_residuals(facts).or_else(|| of_last_layer(facts)).or_else(|| {
        // The loss has one gradient for each sample.
        let reading = &evidence.reading;
        let is_one = reading.outputs == 1 && products.nonzero_rows >= FEWEST;
        let is_right = columns.is_some_and(|c| c.shows_an_output() || c.dense < FEWEST);
        if !is_one || is_right || reading.has_many_samples() {
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
        // Rows whose norms spread as the absolute values of residuals do.
        let directions = spread * spread * products.effective_rank;
        let is_spread = spread >= 0.45
            && products.effective_rank >= 1.5
            && products.nonzero_rows >= FEWEST_FOR_SPREAD;
        let signs = signs.filter(|signs| signs.are_exact);
        let is_wide = columns.is_some() && reading.columns >= 3 * reading.samples;
        let is_residual = if products.trace < NEGLIGIBLE {
            true
        } else if products.trace < TINY {
            let broad = if products.trace < TINIER { BROAD_IF_TINIER } else { BROAD };
            norms >= 3.0 && ((is_spread && directions >= broad) || signs.is_some())
        } else if is_small {
            let is_broad = is_spread && directions >= BROAD && columns.is_some();
            norms >= 4.0 && (is_broad || (spread >= 0.45 && signs.is_some()))
        } else {
            norms >= 8.0 && is_wide && products.trace < LARGEST && directions >= BROADEST
        };
        is_residual.then(|| {
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

/// Looks for residuals among the columns of the last layer. Returns the evidence in words.
fn of_last_layer(facts: &Facts<'_>) -> Option<String> {
    let columns = facts.evidence.columns.as_ref()?;
    if columns.constant > 0 {
        return None;
    }
    if let Some(classes) = columns.classes {
        return Some(format!(
            "{classes} columns that follow each other sum to zero in every row, with one negative \
             number, as the residuals of a softmax with {classes} classes do"
        ));
    }
    columns.are_outputs_scaled.then(|| {
        "columns of each output are those of the first output times one number for each sample, \
         negative for some, as residuals are"
            .to_owned()
    })
}

fn square(value: f64) -> f64 {
    value * value
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
    // Where gradients differ much, too, norms still grow in proportion to residuals.
    let of_norms = spread(pairs.iter().map(|(_, norm)| *norm));
    let covariance = (square(of_residuals) + square(of_norms) - square(left)) / 2.0;
    let slope = covariance / square(of_residuals);
    let is_proportional = pairs.len() >= 10
        && covariance >= CORRELATED * of_residuals * of_norms
        && (0.6..=1.5).contains(&slope);
    (of_residuals > 0.4 && (left < 0.4 * of_residuals || is_proportional)).then(|| {
        "the norms of rows are proportional to the absolute residuals that were given".to_owned()
    })
}
