//! The figure of thresholds and bounds against batch size.

use flatmin_figures::{Axis, Figure, Mark, Panel, Reference, ReferenceKind, Series, Style};
use flatmin_host::{printable, shown, significant};
use flatmin_theory::Bounds;

use super::analysis::{Analysis, BatchAnalysis};
use super::arguments::AnalyzeArguments;
use crate::edge::Kind;
use crate::words::DIGITS;

/// The figure for batch sizes that have been analysed.
pub(super) fn figure(
    arguments: &AnalyzeArguments,
    analysis: &Analysis,
    batches: &[BatchAnalysis],
) -> Figure {
    let size = |batch: &BatchAnalysis| batch.batch_size as f64;
    let bound = |label: &str, style: usize, rate: fn(&Bounds) -> f64| Series {
        label: label.to_owned(),
        style: Style(style),
        mark: Mark::Line,
        points: batches
            .iter()
            .filter_map(|batch| Some((size(batch), rate(&batch.bounds.as_ref()?.simple))))
            .collect(),
        notes: Vec::new(),
    };
    let is_estimate = batches.iter().any(|batch| batch.threshold.kind == Kind::Estimate);
    let exact = Series {
        label: if is_estimate { "estimated edge η*" } else { "exact threshold η*" }.to_owned(),
        style: Style(0),
        mark: Mark::LineAndPoints,
        points: batches.iter().map(|batch| (size(batch), batch.threshold.estimate)).collect(),
        notes: Vec::new(),
    };
    let mut series = vec![
        bound("trace (S2)", 1, |bounds| bounds.trace),
        bound("Frobenius norm, sharp (S3)", 2, |bounds| bounds.sharp_frobenius_norm),
        bound("spectrum (S6)", 3, |bounds| bounds.spectral),
        bound("sufficient (S7)", 4, |bounds| bounds.sufficient),
        exact,
    ];
    series.retain(|series| !series.points.is_empty());
    let line = |label, rate| Reference { label, kind: ReferenceKind::Horizontal(rate) };
    let rates = arguments.batches.learning_rate.iter();
    let mut references: Vec<Reference> =
        rates.map(|rate| line(format!("η = {}", significant(*rate, DIGITS)), *rate)).collect();
    if analysis.is_plain_sgd() {
        let label = "2/λ_{max}, gradient descent (S1)".to_owned();
        references.push(line(label, analysis.gradient_descent_threshold()));
    }
    let x = Axis::log("batch size B");
    let y = Axis::log("learning rate η");
    Figure {
        title: "Largest learning rate at which SGD can stay at this minimum".to_owned(),
        subtitle: subtitle(arguments, analysis),
        columns: 1,
        panels: vec![Panel { title: String::new(), x, y, series, references }],
    }
}

fn subtitle(arguments: &AnalyzeArguments, analysis: &Analysis) -> String {
    let n = analysis.source.minimum.sample_count();
    let outputs = match analysis.source.minimum.output_count() {
        1 => String::new(),
        outputs => format!(" with {outputs} outputs"),
    };
    let file = &arguments.file;
    let name =
        file.file_name().map_or_else(|| shown(file), |name| printable(&name.to_string_lossy()));
    let sampling = arguments.batches.sampling_words();
    let optimizer =
        if analysis.is_plain_sgd() { String::new() } else { format!(", {}", analysis.optimizer) };
    format!(
        "{name}: n = {n} samples{outputs}, batches {sampling}{optimizer}. Below the thick line the minimum \
         is stable in mean square, above it unstable."
    )
}
