//! Brackets in words.

use std::fmt::Write as _;

use flatmin_host::{short, shown, significant};
use flatmin_theory::BracketStop;

use super::{BatchBracket, BracketAnalysis};
use crate::analyze::analysis::Model;
use crate::analyze::arguments::AnalyzeArguments;
use crate::analyze::text::{count, doubts, loss_words};
use crate::edge::margin;
use crate::words::{DIGITS, table};

/// The whole answer.
pub(crate) fn render(arguments: &AnalyzeArguments, analysis: &BracketAnalysis) -> String {
    let mut text = String::new();
    header(&mut text, arguments, analysis);
    doubts(&mut text, arguments, &analysis.doubts);
    sharpness(&mut text, arguments, analysis);
    brackets(&mut text, arguments, analysis);
    bounds(&mut text, analysis);
    learning_rates(&mut text, arguments, analysis);
    text
}

fn header(text: &mut String, arguments: &AnalyzeArguments, analysis: &BracketAnalysis) {
    let (n, k) = (analysis.samples, analysis.outputs);
    let element = analysis.element.as_deref().filter(|element| *element != "float64");
    let element = element.map_or(String::new(), |element| format!(", {element}"));
    let array = analysis.array.as_deref().map(short);
    let array = array.map_or(String::new(), |name| format!(", array \"{name}\""));
    let outputs = if k > 1 { format!(" × {}", count(k, "output")) } else { String::new() };
    let _ = writeln!(
        text,
        "{}{array}: {}{outputs} × {}{element}",
        shown(&arguments.file),
        count(n, "sample"),
        count(analysis.parameters, "parameter"),
    );
    loss_words(text, arguments, k);
    if analysis.model == Model::GaussNewton {
        text.push_str(
            "Gauss–Newton model of the loss: the point is taken to be stationary, and the curvature\n\
             Σ ∂ℓ·∇²f of the network is left out.\n",
        );
    }
}

fn sharpness(text: &mut String, arguments: &AnalyzeArguments, analysis: &BracketAnalysis) {
    let Some(batch) = analysis.batches.last() else { return };
    let (bracket, scale) = (&batch.bracket, arguments.loss_scale);
    let digits = |value: f64| significant(scale * value, DIGITS);
    let (lower, upper) = bracket.lambda_max;
    let rows = [
        ("trace", digits(bracket.trace)),
        ("largest eigenvalue", format!("{} to {}", digits(lower), digits(upper))),
        (
            if analysis.outputs > 1 { "largest λ_max(J_iJ_iᵀ)" } else { "largest ‖g_i‖²" },
            digits(analysis.largest_own),
        ),
    ];
    text.push_str("\nSharpness of the Gauss–Newton matrix G\n");
    text.push_str(&table(&[], &rows.map(|(name, value)| vec![name.to_owned(), value])));
}

fn brackets(text: &mut String, arguments: &AnalyzeArguments, analysis: &BracketAnalysis) {
    let _ = writeln!(
        text,
        "\nLargest stable learning rate η* of {} (mean square), bracketed by leading modes, batches drawn {}",
        analysis.optimizer,
        arguments.batches.sampling_words()
    );
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
    let rows: Vec<Vec<String>> = analysis.batches.iter().map(row).collect();
    let names = ["batch size", "estimate of η*", "bracket", "width", "modes", "ended because"];
    text.push_str(&table(&names, &rows));
    let Some(batch) = analysis.batches.last() else { return };
    let bracket = &batch.bracket;
    let percent = |part: f64| significant(100.0 * part, 2);
    let _ = writeln!(
        text,
        "The modes leave {} % of the trace and {} % of the heaviest sample to the bracket.",
        percent((bracket.rest_of_trace / bracket.trace.max(f64::MIN_POSITIVE)).max(0.0)),
        percent(bracket.rest_of_heaviest)
    );
    if let Some(rank) = bracket.rank_for_one_percent.filter(|rank| *rank > bracket.rank) {
        let _ = writeln!(text, "A width of 1 % may be expected of about {rank} modes.");
    }
    let failure = significant(bracket.failure_probability, 1);
    let _ = writeln!(
        text,
        "The lower end holds but for a probability of {failure} in the choice of random vectors."
    );
    if analysis.optimizer.momentum_coefficient() > 0.0 {
        text.push_str(
            "With momentum the lower end leaves out a term that helps (Nesterov: there is none).\n",
        );
    }
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

fn bounds(text: &mut String, analysis: &BracketAnalysis) {
    text.push_str("\nSimple bounds: stable up to S7 and S19, unstable beyond S6, S2 and S5\n");
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
    let rows: Vec<Vec<String>> = analysis.batches.iter().map(row).collect();
    let names =
        ["batch size", "S7", "S19 contraction", "S6 spectrum", "S2 trace", "S5 2/λ_max (GD)"];
    text.push_str(&table(&names, &rows));
}

fn learning_rates(text: &mut String, arguments: &AnalyzeArguments, analysis: &BracketAnalysis) {
    let rates = &arguments.batches.learning_rate;
    if rates.is_empty() {
        return;
    }
    text.push_str("\nThe learning rates asked about, beside the estimate\n");
    let mut rows = Vec::new();
    for batch in &analysis.batches {
        for rate in rates {
            rows.push(vec![
                batch.batch_size.to_string(),
                significant(*rate, DIGITS),
                batch.verdict(*rate).0.to_owned(),
                margin(batch.bracket.estimate, *rate),
            ]);
        }
    }
    text.push_str(&table(&["batch size", "η", "verdict", "margin"], &rows));
}
