//! Thresholds and bounds against batch size.

use std::collections::BTreeSet;

use flatmin_figures::{Axis, Figure, Mark, Panel, Reference, ReferenceKind, Series, Style};
use flatmin_linalg::Parallelism;
use flatmin_theory::Bounds;

use super::analysis::{Analysis, BatchAnalysis};
use super::{Options, shown};
use crate::failure::Failure;
use crate::number::significant;
use crate::progress::Progress;

/// The figure: batch sizes 1, 2, 4, … n and those asked for.
pub(crate) fn draw(
    options: &Options,
    analysis: &Analysis,
    parallelism: Parallelism,
) -> Result<Figure, Failure> {
    let n = analysis.found.minimum.sample_count();
    let doubling = std::iter::successors(Some(1_usize), |size| size.checked_mul(2));
    let mut sizes: BTreeSet<usize> = doubling.take_while(|size| *size < n).collect();
    sizes.insert(n);
    sizes.extend(&options.batches.batch_size);
    let progress = Progress::steps("thresholds for the figure", sizes.len() as u64);
    let mut more = Vec::new();
    for size in sizes {
        if !analysis.batches.iter().any(|batch| batch.batch_size == size) {
            more.push(analysis.batch(options, size, parallelism)?);
        }
        progress.advance(1);
    }
    let mut batches: Vec<&BatchAnalysis> = analysis.batches.iter().chain(&more).collect();
    batches.sort_by_key(|batch| batch.batch_size);
    batches.dedup_by_key(|batch| batch.batch_size);
    Ok(figure(options, analysis, &batches))
}

fn figure(options: &Options, analysis: &Analysis, batches: &[&BatchAnalysis]) -> Figure {
    let size = |batch: &BatchAnalysis| batch.batch_size as f64;
    let bound = |label: &str, style: usize, rate: fn(&Bounds) -> f64| Series {
        label: label.to_owned(),
        style: Style(style),
        mark: Mark::Line,
        points: batches
            .iter()
            .filter_map(|batch| Some((size(batch), rate(batch.bounds.as_ref()?))))
            .collect(),
    };
    let exact = Series {
        label: "exact threshold η*".to_owned(),
        style: Style(0),
        mark: Mark::LineAndPoints,
        points: batches.iter().map(|batch| (size(batch), batch.threshold.midpoint())).collect(),
    };
    let mut series = vec![
        bound("trace (S2)", 1, |bounds| bounds.trace),
        bound("Frobenius norm, sharp (S3)", 2, |bounds| bounds.sharp_frobenius_norm),
        bound("spectrum (S6)", 3, |bounds| bounds.spectral),
        bound("sufficient (S7)", 4, |bounds| bounds.sufficient),
        exact,
    ];
    series.retain(|series| !series.points.is_empty());
    let mut references: Vec<Reference> = options
        .learning_rate
        .iter()
        .map(|rate| Reference {
            label: format!("η = {}", significant(*rate, 6)),
            kind: ReferenceKind::Horizontal(*rate),
        })
        .collect();
    if options.momentum <= 0.0 {
        let gradient_descent = 2.0 / analysis.sharpness().lambda_max;
        references.push(Reference {
            label: "2/λ_{max}, gradient descent (S1)".to_owned(),
            kind: ReferenceKind::Horizontal(gradient_descent),
        });
    }
    let n = analysis.found.minimum.sample_count();
    let outputs = match analysis.found.minimum.output_count() {
        1 => String::new(),
        outputs => format!(" with {outputs} outputs"),
    };
    let name = options.file.file_name().map_or_else(
        || shown(&options.file),
        |name| flatmin_host::printable(&name.to_string_lossy()),
    );
    let sampling = options.batches.sampling_words();
    let momentum = match options.momentum {
        momentum if momentum > 0.0 => format!(", momentum {}", significant(momentum, 6)),
        _ => String::new(),
    };
    Figure {
        title: "Largest learning rate at which SGD can stay at this minimum".to_owned(),
        subtitle: format!(
            "{name}: n = {n} samples{outputs}, batches {sampling}{momentum}. Below the thick line the minimum \
             is stable in mean square, above it unstable."
        ),
        columns: 1,
        panels: vec![Panel {
            title: String::new(),
            x: Axis::log("batch size B"),
            y: Axis::log("learning rate η"),
            series,
            references,
        }],
    }
}
