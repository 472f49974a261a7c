//! The answer of `flatmin analyze` in words.

use std::fmt::Write as _;

use flatmin_host::{short, shown, significant, times};
use flatmin_theory::{NoiseFloor, Sampling, ThresholdStatus};

use super::analysis::{Analysis, BatchAnalysis, Model, SimpleBounds};
use super::arguments::AnalyzeArguments;
use super::conclusion::conclusion;
use super::doubts::{Doubt, Evidence};
use super::input::Block;
use super::point::Point;
use super::reading::sentence;
use super::training::Loss;
use crate::edge::{Edge, Kind, certainty, margin, verdict_word};
use crate::words::{DIGITS, Interval, size_words, table};

/// So many times more rows than columns are worth a line, although a regression has them.
const TALL: usize = 8;

/// The whole answer.
pub(crate) fn render(arguments: &AnalyzeArguments, analysis: &Analysis) -> String {
    let mut text = String::new();
    header(&mut text, arguments, analysis);
    model(&mut text, arguments, analysis);
    doubts(&mut text, arguments, &analysis.doubts);
    sharpness(&mut text, analysis);
    thresholds(&mut text, arguments, analysis);
    bounds(&mut text, analysis);
    learning_rates(&mut text, arguments, analysis);
    text.push_str(&subsets(arguments, analysis));
    text.push('\n');
    let _ = writeln!(text, "{}", conclusion(arguments, analysis));
    text
}

/// The thresholds of parts of the samples in words, and what they say about a file that is itself a
/// part.
fn subsets(arguments: &AnalyzeArguments, analysis: &Analysis) -> String {
    let n = analysis.source.minimum.sample_count();
    let mut text = String::new();
    let mut half = None;
    if arguments.subsets.is_some() {
        let mut rows = Vec::new();
        for batch in &analysis.batches {
            let whole = batch.threshold.estimate;
            let digits = |value: f64| significant(value, 5);
            for part in &batch.subsets {
                rows.push(vec![
                    batch.batch_size.to_string(),
                    part.samples.to_string(),
                    digits(part.mean.0),
                    format!("{} to {}", digits(part.least.0), digits(part.greatest.0)),
                    significant(part.mean.0 / whole, 3),
                ]);
            }
            rows.push(vec![
                batch.batch_size.to_string(),
                n.to_string(),
                digits(whole),
                String::new(),
                "1".to_owned(),
            ]);
            half = half.or(batch.subsets.last().map(|part| part.mean.0 / whole));
        }
        let draws = arguments.subsets.unwrap_or(0);
        let _ = writeln!(text, "\nη* of parts of the samples, {draws} random draws of each size");
        let names = ["batch size", "samples", "mean η*", "range", "relative to all"];
        text.push_str(&table(&names, &rows));
    }
    let Some(population) = arguments.population.filter(|population| *population > n) else {
        return text;
    };
    let _ = write!(
        text,
        "\nThe file holds {n} of {population} samples, and parts have another η* than the whole, mostly a \
         smaller\none for small batches"
    );
    let _ = match half {
        Some(half) => writeln!(
            text,
            " (half of these samples: {} times that of all of them).",
            significant(half, 3)
        ),
        None => writeln!(text, ": --subsets 5 shows how it depends on the number of samples."),
    };
    text
}

/// Writes each doubt about the input in a line.
pub(super) fn doubts(text: &mut String, arguments: &AnalyzeArguments, doubts: &[Doubt]) {
    for doubt in doubts {
        let _ = writeln!(text, "Doubt: {}.", doubt.text);
    }
    if !doubts.is_empty() && arguments.trust_input {
        text.push_str("The input is taken for what it seems (--trust-input).\n");
    }
}

fn header(text: &mut String, arguments: &AnalyzeArguments, analysis: &Analysis) {
    let minimum = &analysis.source.minimum;
    let (n, rank) = (minimum.sample_count(), minimum.eigenvalues().len());
    let k = minimum.output_count();
    let array = analysis.source.array.as_deref().map(short);
    let array = array.map_or(String::new(), |name| format!(", array \"{name}\""));
    let _ = write!(text, "{}{array}: {}", shown(&arguments.file), count(n, "sample"));
    if k > 1 {
        let _ = write!(text, " × {}", count(k, "output"));
    }
    let reading = &analysis.source.evidence.reading;
    if let Some(p) = analysis.source.parameters {
        let _ = write!(text, " × {}", count(p, "parameter"));
    }
    let _ = write!(text, ", {}rank {rank}", if reading.is_gram { "Gram matrix of " } else { "" });
    text.push_str(&number_words(analysis));
    loss_words(text, arguments, k);
    let has_residuals = analysis.source.residuals.is_some();
    text.push_str(&reading_text(arguments, &analysis.source.evidence, has_residuals));
}

/// The lines that say how the array was read, with hints about other readings.
pub(super) fn reading_text(
    arguments: &AnalyzeArguments,
    evidence: &Evidence,
    has_residuals: bool,
) -> String {
    let reading = &evidence.reading;
    let (n, k) = (reading.samples, reading.outputs);
    let mut text = format!("{}.\n", sentence(evidence, has_residuals));
    let is_known = reading.are_outputs_known || reading.are_axes_given;
    let is_one = k == 1 && !is_known && reading.shape.len() == 2;
    let is_squared = arguments.training.loss == Loss::Squared;
    text.push_str(match (is_one, is_squared) {
        (true, _) if reading.is_gram => {
            "Several outputs need the products of all of them, n × n × k × k.\n"
        }
        (true, true) => {
            "For several outputs give n × k × p, or --outputs and --axes; for cross-entropy --loss.\n"
        }
        (true, false) => "For several outputs give n × k × p, or --outputs and --axes.\n",
        (false, true) if k > 1 => "For cross-entropy give --loss cross-entropy and --logits.\n",
        _ => "",
    });
    let is_tall = n * k >= TALL * reading.columns;
    if is_tall && !reading.is_gram && !(reading.are_samples_known || reading.are_axes_given) {
        text.push_str(
            "There are many more rows than columns; if the rows are parameters, give --axes pn.\n",
        );
    }
    text
}

/// The loss in words.
pub(super) fn loss_words(text: &mut String, arguments: &AnalyzeArguments, k: usize) {
    let scale = arguments.loss_scale;
    if arguments.training.loss != Loss::Squared {
        text.push_str(&other_loss(arguments.training.loss, scale));
        return;
    }
    let half_mean = if k > 1 { "(1/2n) Σ ‖f − y‖²" } else { "(1/2n) Σ (f − y)²" };
    let _ = if scale.to_bits() == 1.0_f64.to_bits() && k > 1 {
        let mean = significant(2.0 / k as f64, 15);
        writeln!(
            text,
            "Loss {half_mean}, so that G = JᵀJ/n. For a mean squared error without the ½ give \
             --loss-scale 2;\nif it is also the mean over the {k} outputs, as that of \
             torch.nn.MSELoss, {mean}."
        )
    } else if scale.to_bits() == 1.0_f64.to_bits() {
        writeln!(
            text,
            "Loss {half_mean}, so that G = JᵀJ/n. For a mean squared error without the ½ give \
             --loss-scale 2."
        )
    } else {
        let scale = significant(scale, 15);
        writeln!(text, "Loss {scale} × {half_mean} (--loss-scale), so that G = {scale} JᵀJ/n.")
    };
}

/// The type of the numbers, unless it is float64, and the order of the axes, unless it is the usual
/// one.
fn number_words(analysis: &Analysis) -> String {
    let reading = &analysis.source.evidence.reading;
    let usual = ["np", "nkp", "nk,p", "nk"];
    let axes = reading.axes.as_deref().filter(|axes| !usual.contains(axes));
    let axes = axes.map_or(String::new(), |axes| format!(", axes {axes}"));
    match analysis.source.element.as_str() {
        "float64" => format!("{axes}\n"),
        element => format!(", {element}{axes}\n"),
    }
}

/// The loss in words, unless it is the squared one.
fn other_loss(loss: Loss, scale: f64) -> String {
    let name = match loss {
        Loss::Squared => "half the mean of ‖f − y‖²",
        Loss::CrossEntropy => "mean softmax cross-entropy at the given logits",
        Loss::BinaryCrossEntropy => "mean binary cross-entropy at the given logits",
        Loss::Custom => "mean of losses with the given output Hessians",
    };
    let factor = if scale.to_bits() == 1.0_f64.to_bits() {
        String::new()
    } else {
        format!("{} × (--loss-scale) the ", significant(scale, 15))
    };
    format!(
        "Loss: {factor}{name}, so that G = (1/n) Σ J_iᵀS_iJ_i, with S_i = ∇²ℓ_i in the outputs.\n"
    )
}

/// Says whether the answer is exact, and how far the point is from stationary.
fn model(text: &mut String, arguments: &AnalyzeArguments, analysis: &Analysis) {
    let training = &arguments.training;
    if analysis.model == Model::GaussNewton {
        let reason = match (&analysis.source.residuals, training.loss) {
            (Some(found), _) if found.largest > 0.0 => format!(
                "the derivatives of the loss in the outputs reach {}",
                significant(found.largest, 3)
            ),
            (None, loss) if loss != Loss::Squared => {
                "no --residuals show that the loss is at its minimum in every output".to_owned()
            }
            _ => "weight decay moves the stationary point off the minimum".to_owned(),
        };
        let _ = writeln!(
            text,
            "Gauss–Newton model of the loss: {reason}. The point is taken to be\n\
             stationary, and the curvature Σ ∂ℓ·∇²f of the network is left out."
        );
    }
    if analysis.is_preconditioned && analysis.optimizer.coupled_decay() > 0.0 {
        text.push_str(
            "Weight decay is added to the preconditioned gradient, D⁻¹g + wθ. torch.optim.Adam with\n\
             weight_decay divides it by D as well; no option here stands for that.\n",
        );
    }
    point_text(text, arguments, analysis.point.as_ref());
}

/// Says how near the point is to a minimum, where residuals tell.
pub(super) fn point_text(text: &mut String, arguments: &AnalyzeArguments, point: Option<&Point>) {
    let training = &arguments.training;
    if let Some(point) = point {
        point.write(text);
    } else if training.residuals.is_some() && training.loss == Loss::CrossEntropy {
        text.push_str(
            "The residuals of some samples do not add up to zero, as softmax(z) − q does, so that they do\n\
             not tell how near the minimum is.\n",
        );
    } else if training.residuals.is_some() {
        text.push_str(
            "The loss is linear in outputs of some samples, so that its model does not tell how near\n\
             the minimum is.\n",
        );
    }
}

fn sharpness(text: &mut String, analysis: &Analysis) {
    let sharpness = analysis.sharpness();
    text.push_str("\nSharpness of the Gauss–Newton matrix G\n");
    let rows = [
        ("trace", sharpness.trace),
        ("Frobenius norm", sharpness.frobenius_norm),
        ("largest eigenvalue", sharpness.lambda_max),
        (
            if analysis.source.minimum.output_count() > 1 {
                "largest λ_max(J_iJ_iᵀ)"
            } else {
                "largest ‖g_i‖²"
            },
            analysis.max_gradient_norm_squared(),
        ),
    ];
    let rows = rows.map(|(name, value)| vec![name.to_owned(), significant(value, DIGITS)]);
    text.push_str(&table(&[], &rows));
    if let Some(blocks) = analysis.blocks() {
        text.push_str("\nBlocks of parameters\n");
        let digits = |number| significant(number, DIGITS);
        let rows: Vec<Vec<String>> = blocks
            .into_iter()
            .map(|Block { name, range, columns, sharpness }| {
                let gaps = if columns < range.len() { " in part" } else { "" };
                vec![
                    short(&name),
                    format!("{}..{}{gaps}", range.start, range.end),
                    digits(sharpness.trace),
                    digits(sharpness.frobenius_norm),
                    digits(sharpness.lambda_max),
                ]
            })
            .collect();
        let names = ["block", "columns", "trace", "Frobenius norm", "largest eigenvalue"];
        text.push_str(&table(&names, &rows));
    }
}

fn thresholds(text: &mut String, arguments: &AnalyzeArguments, analysis: &Analysis) {
    let edges: Vec<Edge> = analysis.batches.iter().map(|batch| batch.threshold).collect();
    let (certainty, interval) = certainty(&edges);
    let _ = writeln!(
        text,
        "\nLargest stable learning rate η* of {} (mean square, {}), batches drawn {}",
        optimizer_words(analysis),
        certainty,
        arguments.batches.sampling_words()
    );
    let rows: Vec<Vec<String>> = analysis
        .batches
        .iter()
        .map(|batch| {
            let threshold = batch.threshold;
            let status = match threshold.interval.status {
                ThresholdStatus::Converged => "",
                ThresholdStatus::NotConverged => "wider than asked for",
            };
            vec![
                batch.batch_size.to_string(),
                significant(threshold.estimate, DIGITS),
                threshold.interval_words(),
                status.to_owned(),
            ]
        })
        .collect();
    text.push_str(&table(&["batch size", "η*", &interval, ""], &rows));
    for batch in &analysis.batches {
        short_batch(text, batch);
        almost_sure(text, batch);
    }
}

/// The optimizer in words.
fn optimizer_words(analysis: &Analysis) -> String {
    let preconditioned = if analysis.is_preconditioned { ", preconditioned" } else { "" };
    format!("{}{preconditioned}", analysis.optimizer)
}

/// What the short last batch of an epoch does.
fn short_batch(text: &mut String, batch: &BatchAnalysis) {
    let Some(short) = batch.short_batch else { return };
    let last = count(short.size, "sample");
    let _ = match short.edge {
        Some(edge) => {
            let ratio = edge.estimate / batch.threshold.estimate;
            // An estimate that nobody asked for is known to a few per cent.
            let (about, digits, ratio) = match edge.kind {
                Kind::Exact => ("", 4, times(ratio)),
                _ => ("about ", 2, format!("{} times", significant(ratio, 2))),
            };
            let only =
                if edge.interval.upper < batch.threshold.interval.lower { "only " } else { "" };
            let rate = significant(edge.estimate, digits);
            writeln!(
                text,
                "A data loader that reshuffles and keeps its short last batch of {last} is stable \
                 {only}up to {about}{rate} ({ratio} η*) with {}: see --sampling reshuffling and \
                 --drop-last.",
                size_words(&[batch.batch_size])
            )
        }
        None => writeln!(
            text,
            "A data loader that reshuffles and keeps its short last batch of {last} may be stable only \
             far below η* with {}: ask with --sampling reshuffling.",
            size_words(&[batch.batch_size])
        ),
    };
}

/// The edge of single runs.
fn almost_sure(text: &mut String, batch: &BatchAnalysis) {
    let Some(edge) = batch.almost_sure else { return };
    let interval = Interval::new(edge.lower, edge.upper).text();
    let doubt = if edge.is_decided { "" } else { "; an end is not decided" };
    let how = if edge.is_exact { "exact" } else { "by 3 standard errors" };
    let _ = writeln!(
        text,
        "Single runs converge up to the almost-sure edge {interval} with {} ({how}{doubt}).",
        size_words(&[batch.batch_size])
    );
}

fn bounds(text: &mut String, analysis: &Analysis) {
    let batches: Vec<(&BatchAnalysis, SimpleBounds)> =
        analysis.batches.iter().filter_map(|batch| Some((batch, batch.bounds?))).collect();
    if batches.is_empty() {
        text.push_str(
            "\nThe simple bounds (S1–S7) are about SGD without momentum and weight decay, with\n\
             independent batches.\n",
        );
        return;
    }
    text.push_str(
        "\nSimple bounds beside η*: stable up to S7 and S19, unstable beyond any column to the right of η*\n",
    );
    let digits = |rate: f64| significant(rate, DIGITS);
    let rows: Vec<Vec<String>> = batches
        .iter()
        .map(|(batch, SimpleBounds { simple: bounds, contraction })| {
            vec![
                batch.batch_size.to_string(),
                digits(bounds.sufficient),
                digits(*contraction),
                digits(batch.threshold.estimate),
                digits(bounds.spectral),
                digits(bounds.trace),
                digits(bounds.frobenius_norm),
                digits(bounds.centered_alignment),
                digits(bounds.lambda_max),
            ]
        })
        .collect();
    let names = [
        "batch size",
        "S7",
        "S19 contraction",
        "η*",
        "S6 spectrum",
        "S2 trace",
        "S3 Frobenius",
        "S4 alignment",
        "S5 2/λ_max (GD)",
    ];
    text.push_str(&table(&names, &rows));
}

fn learning_rates(text: &mut String, arguments: &AnalyzeArguments, analysis: &Analysis) {
    let reserve = if analysis.is_doubtful(arguments) { " (doubtful)" } else { "" };
    let has_floor = analysis.point.is_some();
    let is_open = arguments.batches.sampling() == Sampling::Reshuffling;
    let no_floor = if is_open { "not computed" } else { "no floor" };
    let excess = |floor: NoiseFloor| significant(floor.excess, DIGITS);
    let rows: Vec<Vec<String>> = analysis
        .batches
        .iter()
        .flat_map(|batch| {
            batch.learning_rates.iter().map(|verdict| {
                let mut row = vec![
                    batch.batch_size.to_string(),
                    significant(verdict.learning_rate, 15),
                    format!("{}{reserve}", verdict_word(verdict.stability)),
                    margin(batch.threshold.estimate, verdict.learning_rate),
                ];
                if has_floor {
                    let floor = verdict.noise_floor;
                    row.push(floor.map_or_else(|| no_floor.to_owned(), excess));
                }
                row
            })
        })
        .collect();
    if !rows.is_empty() {
        text.push_str("\nThe learning rates asked about\n");
        let names = ["batch size", "η", "verdict", "margin", "loss added by noise"];
        text.push_str(&table(&names[..if has_floor { 5 } else { 4 }], &rows));
    }
}

pub(super) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::margin;

    #[test]
    fn a_margin_says_which_is_larger() {
        let check = |threshold, rate, words: &str| assert_eq!(margin(threshold, rate), words);
        check(f64::INFINITY, 1.0, "unlimited");
        check(5.41, 1.0, "η* is 5.41 times η");
        check(1.2088, 1.0, "η* is 20.88 % above η");
        check(1.0 + 4.7e-10, 1.0, "η* is 4.7e-8 % above η");
        check(0.12, 0.13, "η is 8.33 % above η*");
        check(0.25, 1.0, "η is 4 times η*");
        check(1e-30, 0.1, "η is 1e29 times η*");
        check(1e-300, 0.1, "η is 1e299 times η*");
    }
}
