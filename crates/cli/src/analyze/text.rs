//! The answer of `flatmin analyze` in words.

use std::fmt::Write as _;

use flatmin_host::{short, shown, significant, times};
use flatmin_theory::{Bounds, Stability, ThresholdStatus};

use super::analysis::{Analysis, BatchAnalysis, Model, SimpleBounds, Verdict};
use super::arguments::AnalyzeArguments;
use super::doubts::Doubt;
use super::input::Block;
use super::training::Loss;
use crate::edge::{Edge, Kind, certainty, margin, verdict_word};
use crate::words::{DIGITS, Interval, table};

/// Up to this multiple of η* a single run may stay; runs were seen to stay up to 22 % beyond it
/// (claim 7).
const SLIGHTLY_BEYOND: f64 = 1.3;

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
    text.push('\n');
    if analysis.is_doubtful(arguments) {
        text.push_str("If the input is what it is taken for (see the doubts above):\n");
    }
    let _ = writeln!(text, "{}", conclusion(arguments, analysis));
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
    let is_known = reading.are_outputs_known || reading.are_axes_given;
    let is_one = k == 1 && !is_known && reading.shape.len() == 2;
    let is_squared = arguments.training.loss == Loss::Squared;
    text.push_str(match (is_one, is_squared) {
        (true, _) if reading.is_gram => {
            "Read as one output; several need the products of all of them, n × n × k × k (a mean over \
             outputs will not do).\n"
        }
        (true, true) => {
            "Read as one output; for several give n × k × p, or --outputs and --axes. Cross-entropy \
             needs --loss.\n"
        }
        (true, false) => "Read as one output; for several give n × k × p, or --outputs and --axes.\n",
        (false, true) if k > 1 => "For cross-entropy give --loss cross-entropy and --logits.\n",
        _ => "",
    });
    text.push_str(unchecked_words(analysis));
    let is_tall = analysis.source.parameters.is_some_and(|p| n * k >= TALL * p);
    if is_tall && !reading.is_gram && !(reading.are_samples_known || reading.are_axes_given) {
        text.push_str(
            "There are many more rows than columns; if the rows are parameters, give --axes pn.\n",
        );
    }
}

/// Says what only residuals can check: nothing in the numbers tells gradients of the loss at large
/// residuals from those of an output without biases.
fn unchecked_words(analysis: &Analysis) -> &'static str {
    let evidence = &analysis.source.evidence;
    let is_doubted = analysis.doubts.iter().any(|doubt| doubt.kind.ends_with("_of_the_loss"));
    if evidence.reading.outputs > 1 || analysis.source.residuals.is_some() || is_doubted {
        return "";
    }
    match &evidence.columns {
        Some(columns) if columns.shows_an_output() || evidence.reading.has_many_samples() => "",
        Some(_) => {
            "Read as gradients of the output, not of the loss: no column is that of a bias of the \
             output. --residuals checks it.\n"
        }
        None => {
            "Read as products of gradients of the output, not of the loss; --residuals checks it.\n"
        }
    }
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
    if let Some(gradients) = analysis.gradients {
        let spread =
            gradients.root_mean_square / (analysis.source.minimum.sample_count() as f64).sqrt();
        let _ = writeln!(
            text,
            "Mean gradient of the residuals {}, beside {} of a mean of independent ones.",
            significant(gradients.mean, 3),
            significant(spread, 3)
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
    let has_floor = analysis.source.residuals.is_some();
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
                    row.push(floor.map_or("none".into(), |f| significant(f.excess, DIGITS)));
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

/// The conclusion in a few plain sentences.
fn conclusion(arguments: &AnalyzeArguments, analysis: &Analysis) -> String {
    let batches = &analysis.batches;
    if batches.iter().all(|batch| batch.threshold.interval.lower.is_infinite()) {
        return "The minimum is flat in every direction: SGD is stable at any learning rate."
            .into();
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
        let _ = writeln!(text, "SGD with learning rate {} {verdict}.", significant(*rate, 15));
    }
    for batch in batches {
        text.push_str(&leaves_by_short_batch(batch));
    }
    text.push_str(&slightly_beyond(arguments, batches));
    let Some(batch) = batches.first() else { return text };
    if arguments.batches.learning_rate.is_empty() {
        let (size, rate) = (batch.batch_size, significant(batch.threshold.estimate, 4));
        let _ = writeln!(
            text,
            "SGD with {} can stay at this minimum up to the learning rate {rate}.",
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
fn leaves_by_short_batch(batch: &BatchAnalysis) -> String {
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
    format!(
        "With {}, a data loader that keeps its short last batch cannot stay there at {}.\n",
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
    // Of two bounds that agree up to rounding the simpler one is named.
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

/// Batch sizes in words.
fn size_words(sizes: &[usize]) -> String {
    let list: Vec<String> = sizes.iter().map(ToString::to_string).collect();
    match list.as_slice() {
        [one] => format!("batch size {one}"),
        [most @ .., last] => format!("batch sizes {} and {last}", most.join(", ")),
        [] => "no batch size".to_owned(),
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
