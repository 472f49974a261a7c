//! The reading of the input in words.
//!
//! Nothing in the numbers tells some wrong inputs from right ones: gradients of the loss at large
//! residuals from those of an output without biases, a mean over outputs from a single output, or
//! the sum of an exact and a rounded matrix from an exact one. An answer therefore always says what
//! the array was read as.

use super::doubts::Evidence;

/// One sentence: what the array was read as, with n and k.
pub(super) fn sentence(evidence: &Evidence, has_residuals: bool) -> String {
    let reading = &evidence.reading;
    let (n, k) = (reading.samples, reading.outputs);
    let what = match (reading.is_gram, &evidence.rounding) {
        (true, None) => {
            "exact products of gradients of the outputs, not of the loss, and not as a mean over \
             outputs"
        }
        (true, Some(_)) => {
            "rounded products of gradients of the outputs, not of the loss, and not as a mean over \
             outputs"
        }
        (false, _) => "the Jacobian of the outputs, not of the loss",
    };
    let s = |count| if count == 1 { "" } else { "s" };
    // With so many outputs, the order of the axes may be another one.
    let axes = reading.axes.as_deref().filter(|_| reading.shape.len() > 2 && k >= n && k > 1);
    let axes = axes.map_or(String::new(), |axes| format!(" in the order {axes}"));
    let check = if has_residuals { "" } else { "; --residuals checks it" };
    format!("Read as {what}: {n} sample{}, {k} output{} each{axes}{check}", s(n), s(k))
}
