//! Tables and figures of the ReLU experiments.

use flatmin_ledger::rademacher_bound;

use super::grid::{self, GD, RELU_CLIP, SGD, TIGHT_CLIP};
use super::select::{Trained, dots_and_medians, group_by, method_name, of_method, trained};
use super::{MissingCell, Presentation};
use crate::cell::{Measurement, Results};
use crate::claim::short_number;
use crate::experiment::runs::{learning_rate_summary, run_table};
use crate::statistics::median;
use crate::table::{Table, Value, column};
use crate::{Experiment, Settings};
use flatmin_figures::{Axis, Figure, Mark, Panel, Reference, ReferenceKind, Series, Style};
use flatmin_optim::Schedule;

pub(super) const SGD_STYLE: Style = Style(0);
pub(super) const GD_STYLE: Style = Style(1);
pub(super) const RUNS_NOTE: &str =
    "Dots: one run each (hollow: stopping rule not met). Lines: medians over the runs.";

/// `2/η` as a curve over the learning rates shown.
pub(super) fn two_over_eta(runs: &[Trained<'_>], label: &str) -> Reference {
    let mut rates: Vec<f64> = runs.iter().map(|run| run.spec.learning_rate).collect();
    rates.sort_by(f64::total_cmp);
    let points = match (rates.first(), rates.last()) {
        (Some(low), Some(high)) => vec![(*low, 2.0 / low), (*high, 2.0 / high)],
        _ => Vec::new(),
    };
    Reference { label: label.to_owned(), kind: ReferenceKind::Curve(points) }
}

pub(super) fn sharpness(
    settings: &Settings,
    results: &Results,
) -> Result<Presentation, MissingCell> {
    let runs = trained(&Experiment::ReluSharpness.cells(settings), results)?;
    let panel = |title: &str, label: &str, value: fn(&Measurement) -> f64, bound: &str| {
        let value = |run: &Trained<'_>| run.result.last.as_ref().map(value);
        let series = [(SGD, SGD_STYLE), (GD, GD_STYLE)].into_iter().flat_map(|(method, style)| {
            let x = |run: &Trained<'_>| run.spec.learning_rate;
            dots_and_medians(&of_method(&runs, method), method_name(method), style, x, value)
        });
        Panel {
            title: title.to_owned(),
            x: Axis::log("learning rate η"),
            y: Axis::log(label),
            series: series.collect(),
            references: if bound.is_empty() {
                Vec::new()
            } else {
                vec![two_over_eta(&runs, bound)]
            },
        }
    };
    let panels = vec![
        panel("Trace", "tr G", |m| m.empirical.trace, "2/η: SGD must stay below (S2)"),
        panel("Frobenius norm", "‖G‖_{F}", |m| m.empirical.frobenius_norm, "2/η (S3, p = 1)"),
        panel(
            "Largest eigenvalue",
            "λ_{max}(G)",
            |m| m.empirical.lambda_max,
            "2/η: GD must stay below (S1, S5)",
        ),
        panel("Path norm", "path norm ‖θ‖_{P}", |m| m.norm, ""),
    ];
    Ok(Presentation {
        table: run_table(&runs),
        figure: Figure {
            title: "Sharpness of the minima that SGD (B = 1) and GD find, two-layer ReLU networks"
                .to_owned(),
            subtitle: RUNS_NOTE.to_owned(),
            columns: 2,
            panels,
        },
        summary: learning_rate_summary(&runs),
    })
}

pub(super) fn generalization(
    settings: &Settings,
    results: &Results,
) -> Result<Presentation, MissingCell> {
    let runs = trained(&Experiment::ReluGeneralization.cells(settings), results)?;
    let methods = [(SGD, SGD_STYLE), (GD, GD_STYLE)];
    let error = |run: &Trained<'_>| run.result.relative_test_error();
    let against_rate = methods.iter().flat_map(|(method, style)| {
        let x = |run: &Trained<'_>| run.spec.learning_rate;
        dots_and_medians(&of_method(&runs, *method), method_name(*method), *style, x, error)
    });
    // Against the path norm every run has its own abscissa: dots without a line.
    let against_norm = |value: &dyn Fn(&Trained<'_>) -> Option<f64>| {
        let x = |run: &Trained<'_>| run.result.last.map_or(f64::NAN, |last| last.norm);
        let mut series = Vec::new();
        for (method, style) in methods {
            let runs = of_method(&runs, method);
            series.extend(dots_and_medians(&runs, method_name(method), style, x, value));
        }
        series.retain(|series| series.mark != Mark::LineAndPoints);
        series
    };
    let gap = |run: &Trained<'_>| {
        let last = run.result.last?;
        Some((2.0 * last.test_loss).sqrt() - (2.0 * last.train_loss).sqrt())
    };
    let n = grid::relu_problem(settings.profile).sample_count;
    let mut bound: Vec<(f64, f64)> = runs
        .iter()
        .filter_map(|run| {
            let norm = run.result.last?.norm;
            Some((norm, rademacher_bound(norm, run.result.mean_input_norm_squared, n)))
        })
        .collect();
    bound.sort_by(|a, b| a.0.total_cmp(&b.0));
    let zero: Vec<f64> = runs.iter().map(|run| (2.0 * run.result.zero_test_loss).sqrt()).collect();
    let mut gap_series = against_norm(&gap);
    gap_series.push(Series {
        label: "Rademacher complexity bound (R6)".to_owned(),
        style: Style(2),
        mark: Mark::Line,
        points: bound,
    });
    let zero_line = |value| Reference {
        label: "zero function".to_owned(),
        kind: ReferenceKind::Horizontal(value),
    };
    let panel = |title: &str, x, y, series, reference| Panel {
        title: title.to_owned(),
        x,
        y,
        series,
        references: vec![reference],
    };
    let norm_axis = || Axis::log("path norm ‖θ‖_{P}");
    let error_axis = || Axis::log("test loss / loss of zero");
    let panels = vec![
        panel(
            "Test error against learning rate",
            Axis::log("learning rate η"),
            error_axis(),
            against_rate.collect(),
            zero_line(1.0),
        ),
        panel(
            "Test error against path norm",
            norm_axis(),
            error_axis(),
            against_norm(&error),
            zero_line(1.0),
        ),
        panel(
            "Generalisation gap and its bound",
            norm_axis(),
            Axis::log("r.m.s. error, test − training"),
            gap_series,
            zero_line(median(&zero)),
        ),
    ];
    Ok(Presentation {
        table: run_table(&runs),
        figure: Figure {
            title: "Larger learning rates generalise better, SGD (B = 1) more than GD".to_owned(),
            subtitle: RUNS_NOTE.to_owned(),
            columns: 3,
            panels,
        },
        summary: learning_rate_summary(&runs),
    })
}

pub(super) fn schedule_name(schedule: Schedule) -> &'static str {
    match schedule {
        Schedule::Constant => "constant",
        Schedule::Cosine => "cosine",
        Schedule::Step => "step",
    }
}

/// `tr G · η₀/2` at the end: above 1 the minimum is unstable at the initial learning rate.
pub(super) fn scaled_trace(run: &Trained<'_>) -> Option<f64> {
    Some(run.result.last?.empirical.trace * run.spec.learning_rate / 2.0)
}

pub(super) fn schedule(
    settings: &Settings,
    results: &Results,
) -> Result<Presentation, MissingCell> {
    let runs = trained(&Experiment::ReluSchedule.cells(settings), results)?;
    let position = |run: &Trained<'_>| match run.spec.schedule {
        Schedule::Constant => 0.0,
        Schedule::Cosine => 1.0,
        Schedule::Step => 2.0,
    };
    let panels = group_by(&runs, |run| run.spec.learning_rate)
        .into_iter()
        .map(|(rate, group)| {
            let series = [(TIGHT_CLIP, Style(1)), (RELU_CLIP, Style(0))]
                .into_iter()
                .flat_map(|(clip, style)| {
                    let of_clip: Vec<Trained<'_>> = group
                        .iter()
                        .filter(|run| run.spec.clip_norm.total_cmp(&clip).is_eq())
                        .copied()
                        .collect();
                    let label = format!("gradient norms clipped at {clip}");
                    // Schedules have no order: no line joins the medians.
                    let mut series =
                        dots_and_medians(&of_clip, &label, style, position, scaled_trace);
                    series.retain(|series| series.mark != Mark::LineAndPoints);
                    series
                })
                .collect();
            Panel {
                title: format!("η₀ = {}", short_number(rate)),
                x: Axis::categories(
                    "learning-rate schedule",
                    &["constant", "cosine decay", "step decay"],
                ),
                y: Axis::log("tr G · η₀/2 at the end"),
                series,
                references: vec![Reference {
                    label: "stable at η₀ below 1 (S2)".to_owned(),
                    kind: ReferenceKind::Horizontal(1.0),
                }],
            }
        })
        .collect();
    let mut summary = Table {
        columns: vec![
            column("learning_rate", "1", "initial learning rate η₀"),
            column("clip_norm", "gradient norm", "clipping"),
            column("schedule", "word", "learning-rate schedule"),
            column("scaled_trace", "1", "median of tr G · η₀/2 at the end"),
            column("converged", "runs", "runs that met the stopping rule"),
            column("runs", "runs", "runs"),
        ],
        rows: Vec::new(),
    };
    for (rate, group) in group_by(&runs, |run| run.spec.learning_rate) {
        for (clip, group) in group_by(&group, |run| run.spec.clip_norm) {
            for (_, group) in group_by(&group, position) {
                let values: Vec<f64> = group.iter().filter_map(scaled_trace).collect();
                summary.rows.push(vec![
                    Value::Number(rate),
                    Value::Number(clip),
                    schedule_name(group[0].spec.schedule).into(),
                    Value::Number(median(&values)),
                    Value::Integer(group.iter().filter(|r| r.result.converged()).count() as u64),
                    Value::Integer(group.len() as u64),
                ]);
            }
        }
    }
    Ok(Presentation {
        table: run_table(&runs),
        figure: Figure {
            title: "Clipping at 1 hides the effect; decay alone does not (SGD, B = 1)".to_owned(),
            subtitle: "Dots: one run each (hollow: stopping rule not met).".to_owned(),
            columns: 2,
            panels,
        },
        summary,
    })
}
