//! The conclusion of an analysis, in a few plain sentences.

use std::fmt::Write as _;

use flatmin_host::{significant, times};
use flatmin_theory::{Bounds, Stability};

use super::analysis::{Analysis, BatchAnalysis, Verdict};
use super::arguments::AnalyzeArguments;
use super::doubts::are_about_the_point;
use crate::words::size_words;

/// The reserve of each verdict on an array that is doubted.
const DOUBTED_ARRAY: &str = "If the array is what it was read as (see the doubts above), ";

/// The reserve where only the point is doubted.
const DOUBTED_POINT: &str = "If the point is close to a minimum (see the doubt above), ";

/// Up to this multiple of η* a single run may stay; runs were seen to stay up to 22 % beyond it
/// (claim 7).
const SLIGHTLY_BEYOND: f64 = 1.3;

/// The conclusion in a few plain sentences.
pub(super) fn conclusion(arguments: &AnalyzeArguments, analysis: &Analysis) -> String {
    let batches = &analysis.batches;
    let lead = if !analysis.is_doubtful(arguments) {
        ""
    } else if are_about_the_point(&analysis.doubts) {
        DOUBTED_POINT
    } else {
        DOUBTED_ARRAY
    };
    if batches.iter().all(|batch| batch.threshold.interval.lower.is_infinite()) {
        let flat = "minimum is flat in every direction: SGD is stable at any learning rate.";
        return if lead.is_empty() { format!("The {flat}") } else { format!("{lead}the {flat}") };
    }
    let mut text = String::new();
    for (index, rate) in arguments.batches.learning_rate.iter().enumerate() {
        let sizes = |wanted: Stability| -> Vec<usize> {
            let same = batches.iter().filter(|b| b.learning_rates[index].stability == wanted);
            same.map(|batch| batch.batch_size).collect()
        };
        let stable = sizes(Stability::Stable);
        let (unstable, undecided) = (sizes(Stability::Unstable), sizes(Stability::Undecided));
        let verdict = match (stable.is_empty(), unstable.is_empty(), undecided.is_empty()) {
            (false, true, true) => format!("can stay at this minimum with {}", size_words(&stable)),
            (true, false, true) => {
                format!("cannot stay at this minimum with {}", size_words(&unstable))
            }
            (false, false, true) => {
                let (stays, leaves) = (size_words(&stable), size_words(&unstable));
                format!("can stay at this minimum with {stays}, and not with {leaves}")
            }
            _ => {
                let open = size_words(&undecided);
                format!("is too close to the edge to decide with {open} (see the verdicts above)")
            }
        };
        let _ =
            writeln!(text, "{lead}SGD with learning rate {} {verdict}.", significant(*rate, 15));
    }
    for batch in batches {
        text.push_str(&leaves_by_short_batch(batch, lead));
    }
    text.push_str(&slightly_beyond(arguments, batches));
    let Some(batch) = batches.first() else { return text };
    if arguments.batches.learning_rate.is_empty() {
        let (size, rate) = (batch.batch_size, significant(batch.threshold.estimate, 4));
        let _ = writeln!(
            text,
            "{lead}SGD with {} can stay at this minimum up to the learning rate {rate}.",
            size_words(&[size])
        );
    }
    if let Some(bounds) = batch.bounds {
        let _ = writeln!(text, "{}", compare(batch, &bounds.simple));
    }
    text.trim_end().to_owned()
}

/// A warning about the learning rates at which independent batches stay, and a data loader with a
/// short last batch does not.
fn leaves_by_short_batch(batch: &BatchAnalysis, lead: &str) -> String {
    let Some(edge) = batch.short_batch.and_then(|short| short.edge) else { return String::new() };
    let leaves = |verdict: &&Verdict| {
        verdict.stability != Stability::Unstable && verdict.learning_rate > edge.interval.upper
    };
    let rates: Vec<String> = batch
        .learning_rates
        .iter()
        .filter(leaves)
        .map(|verdict| significant(verdict.learning_rate, 15))
        .collect();
    if rates.is_empty() {
        return String::new();
    }
    let with = if lead.is_empty() { "With" } else { "with" };
    format!(
        "{lead}{with} {}, a data loader that keeps its short last batch cannot stay there at {}.\n",
        size_words(&[batch.batch_size]),
        rates.join(", ")
    )
}

/// Compares the simple bounds with the exact threshold.
fn compare(batch: &BatchAnalysis, bounds: &Bounds) -> String {
    let exact = batch.threshold.estimate;
    if !(exact.is_normal() && bounds.lambda_max.is_normal()) {
        return "Learning rates here are beyond the range of double precision, or near its end: \
                scale the array by a power\nof two, and the learning rates by its inverse square."
            .to_owned();
    }
    let upper = [
        ("the trace bound S2", bounds.trace),
        ("the Frobenius bound S3", bounds.frobenius_norm),
        ("the spectral bound S6", bounds.spectral),
        ("the alignment bound S4", bounds.centered_alignment),
    ];
    // Two bounds may agree up to rounding. The simpler one is named then.
    let (name, tightest) = upper.into_iter().fold(("2/λ_max", bounds.lambda_max), |best, next| {
        if next.1 < best.1 * (1.0 - 1e-9) { next } else { best }
    });
    let is_exact = |rate: f64| rate <= exact * (1.0 + 1e-6);
    let mut text = format!("With {}, {name} is ", size_words(&[batch.batch_size]));
    let _ = if is_exact(tightest) {
        write!(text, "exact.")
    } else {
        write!(text, "the tightest upper bound, {} η*.", times(tightest / exact))
    };
    if !is_exact(bounds.lambda_max) {
        let (rate, ratio) = (significant(bounds.lambda_max, 4), times(bounds.lambda_max / exact));
        let _ = write!(text, "\nGradient descent would be stable up to {rate}, {ratio} that η*.");
    }
    text
}

/// A note on learning rates that are just above the threshold, with noise: there rare runs may
/// dominate the mean square.
fn slightly_beyond(arguments: &AnalyzeArguments, batches: &[BatchAnalysis]) -> String {
    let near = |index: usize| -> Vec<usize> {
        let is_near = |batch: &&BatchAnalysis| {
            let Verdict { learning_rate, stability, .. } = batch.learning_rates[index];
            let has_noise = batch.noise.is_none_or(|noise| noise.coefficient > 0.0);
            let is_slight = learning_rate <= SLIGHTLY_BEYOND * batch.threshold.interval.upper;
            stability == Stability::Unstable && is_slight && has_noise
        };
        batches.iter().filter(is_near).map(|batch| batch.batch_size).collect()
    };
    let rates = arguments.batches.learning_rate.iter().enumerate();
    let list: Vec<String> = rates
        .map(|(index, rate)| (rate, near(index)))
        .filter(|(_, sizes)| !sizes.is_empty())
        .map(|(rate, sizes)| format!("{} with {}", significant(*rate, 15), size_words(&sizes)))
        .collect();
    if list.is_empty() {
        return String::new();
    }
    format!(
        "Slightly beyond η* ({}) a single run may still stay: it needs less than stability\n\
         in mean square. See Limits in docs/guide/analyze.md.\n",
        list.join("; ")
    )
}
