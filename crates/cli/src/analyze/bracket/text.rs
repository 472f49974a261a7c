//! Brackets in words.

use std::fmt::Write as _;

use flatmin_host::{short, shown, significant};

use super::BracketAnalysis;
use crate::analyze::analysis::Model;
use crate::analyze::arguments::AnalyzeArguments;
use crate::analyze::text::{count, doubts, loss_words, point_text};
use crate::brackets::{bounds_text, ends_text};
use crate::edge::margin;
use crate::words::{DIGITS, table};

/// The whole answer.
pub(crate) fn render(arguments: &AnalyzeArguments, analysis: &BracketAnalysis) -> String {
    let mut text = String::new();
    header(&mut text, arguments, analysis);
    doubts(&mut text, arguments, &analysis.doubts);
    sharpness(&mut text, arguments, analysis);
    brackets(&mut text, arguments, analysis);
    text.push_str(&bounds_text(&analysis.batches));
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
    if let Some(reading) = &analysis.reading {
        text.push_str(&reading.text);
    }
    if analysis.model == Model::GaussNewton {
        text.push_str(
            "Gauss–Newton model of the loss: the point is taken to be stationary, and the curvature\n\
             Σ ∂ℓ·∇²f of the network is left out.\n",
        );
    }
    point_text(text, arguments, analysis.point.as_ref());
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
    if arguments.sum_arrays || arguments.blocks.is_some() || arguments.blocks_in_memory.is_some() {
        text.push_str("The sharpness of single blocks of parameters needs an exact threshold.\n");
    }
}

fn brackets(text: &mut String, arguments: &AnalyzeArguments, analysis: &BracketAnalysis) {
    if let Some((reason, limits)) = &analysis.in_place_of_exact {
        let _ = writeln!(
            text,
            "\nNo exact thresholds: {reason}.\nBrackets from products take their place, {limits}; \
             --relative-width and --rank set other limits."
        );
    }
    let _ = writeln!(
        text,
        "\nLargest stable learning rate η* of {} (mean square), bracketed by leading modes, batches drawn {}",
        analysis.optimizer,
        arguments.batches.sampling_words()
    );
    text.push_str(&ends_text(&analysis.batches, &analysis.optimizer));
}

fn learning_rates(text: &mut String, arguments: &AnalyzeArguments, analysis: &BracketAnalysis) {
    let rates = &arguments.batches.learning_rate;
    if rates.is_empty() {
        return;
    }
    let reserve = if analysis.is_doubtful(arguments) { " (doubtful)" } else { "" };
    text.push_str("\nThe learning rates asked about, beside the estimate\n");
    let mut rows = Vec::new();
    for batch in &analysis.batches {
        for rate in rates {
            rows.push(vec![
                batch.batch_size.to_string(),
                significant(*rate, DIGITS),
                format!("{}{reserve}", batch.verdict(*rate).0),
                margin(batch.bracket.estimate, *rate),
            ]);
        }
    }
    text.push_str(&table(&["batch size", "η", "verdict", "margin"], &rows));
}
