//! Brackets in words.

use std::fmt::Write as _;

use flatmin_host::significant;
use flatmin_theory::{BracketStop, Optimizer};

use super::BatchBracket;
use crate::words::{DIGITS, table};

/// The ends of all brackets and what they leave open.
pub(crate) fn ends_text(batches: &[BatchBracket], optimizer: &Optimizer) -> String {
    let row = |batch: &BatchBracket| {
        let bracket = &batch.bracket;
        let [lower, upper] = [bracket.lower, bracket.upper].map(|end| significant(end, 5));
        vec![
            batch.batch_size.to_string(),
            significant(bracket.estimate, 5),
            format!("[{lower}, {upper}]"),
            format!("{} %", significant(100.0 * bracket.relative_width(), 2)),
            bracket.rank.to_string(),
            reason(bracket.stop).to_owned(),
        ]
    };
    let rows: Vec<Vec<String>> = batches.iter().map(row).collect();
    let names = ["batch size", "estimate of η*", "bracket", "width", "modes", "ended because"];
    let mut text = table(&names, &rows);
    let Some(batch) = batches.last() else { return text };
    let bracket = &batch.bracket;
    let percent = |part: f64| significant(100.0 * part, 2);
    let _ = writeln!(
        text,
        "The modes leave {} % of the trace and {} % of the heaviest sample to the bracket.",
        percent(bracket.rest_of_trace.max(0.0)),
        percent(bracket.rest_of_heaviest.max(0.0))
    );
    if let Some(rank) = bracket.rank_for_one_percent.filter(|rank| *rank > bracket.rank) {
        let _ = writeln!(text, "A width of 1 % may be expected of about {rank} modes.");
    }
    let failure = significant(bracket.failure_probability, 1);
    let _ = writeln!(
        text,
        "The lower end holds but for a probability of {failure} in the choice of random vectors."
    );
    if optimizer.momentum_coefficient() > 0.0 {
        text.push_str(
            "With momentum the lower end leaves out a term that helps (Nesterov: there is none).\n",
        );
        if bracket.stop == BracketStop::Complete {
            text.push_str("All modes are found: nothing else keeps the bracket open.\n");
        }
    }
    text
}

/// The end of a bracket in words.
fn reason(stop: BracketStop) -> &'static str {
    match stop {
        BracketStop::Width => "narrow enough",
        BracketStop::Complete => "all modes found",
        BracketStop::Products => "products spent",
        BracketStop::Rank => "rank reached",
        BracketStop::Memory => "memory spent",
        BracketStop::Caller => "interrupted",
    }
}

/// Simpler conditions, as far as the modes decide them.
pub(crate) fn bounds_text(batches: &[BatchBracket]) -> String {
    let digits = |rate: f64| significant(rate, DIGITS);
    let row = |batch: &BatchBracket| {
        let bounds = batch.bracket.bounds;
        vec![
            batch.batch_size.to_string(),
            digits(bounds.sufficient),
            digits(bounds.contraction),
            digits(bounds.spectral),
            digits(bounds.trace),
            digits(bounds.lambda_max),
        ]
    };
    let rows: Vec<Vec<String>> = batches.iter().map(row).collect();
    let names =
        ["batch size", "S7", "S19 contraction", "S6 spectrum", "S2 trace", "S5 2/λ_max (GD)"];
    let title = "\nSimple bounds: stable up to S7 and S19, unstable beyond S6, S2 and S5\n";
    format!("{title}{}", table(&names, &rows))
}
