//! Tables and figures of the experiments on diagonal linear networks.

use super::grid::{GD, SGD};
use super::relu::{GD_STYLE, RUNS_NOTE, SGD_STYLE, two_over_eta};
use super::runs::{learning_rate_summary, run_table};
use super::select::{
    Trained, dots_and_medians, group_by, interpolators, method_name, minimizing, of_method, trained,
};
use super::{MissingCell, Presentation};
use crate::cell::{DiagonalInitial, InterpolatorResult, MinimizedNorm, Problem, Results};
use crate::statistics::median;
use crate::table::{Column, Table, Value};
use crate::{Experiment, Settings};
use flatmin_figures::{Axis, Figure, Panel, Reference, ReferenceKind, Series};

type Measure = fn(&Trained<'_>) -> Option<f64>;

fn by_learning_rate(runs: &[Trained<'_>], value: Measure) -> Vec<Series> {
    let methods = [(SGD, SGD_STYLE), (GD, GD_STYLE)].into_iter();
    methods
        .flat_map(|(method, style)| {
            let x = |run: &Trained<'_>| run.spec.learning_rate;
            dots_and_medians(&of_method(runs, method), method_name(method), style, x, value)
        })
        .collect()
}

pub(super) fn sharpness(
    settings: &Settings,
    results: &Results,
) -> Result<Presentation, MissingCell> {
    let runs = trained(&Experiment::DiagonalSharpness.cells(settings), results)?;
    let panels: [(&str, &str, Measure, &str); 6] = [
        ("Trace, empirical", "tr G", |r| Some(r.result.last?.empirical.trace), "2/η (S2, SGD)"),
        (
            "Frobenius norm, empirical",
            "‖G‖_{F}",
            |r| Some(r.result.last?.empirical.frobenius_norm),
            "2/η (S3, p = 1)",
        ),
        (
            "Largest eigenvalue, empirical",
            "λ_{max}(G)",
            |r| Some(r.result.last?.empirical.lambda_max),
            "2/η (S1, GD)",
        ),
        ("Trace, population", "tr Ḡ", |r| Some(r.result.population?.trace), "2/η"),
        (
            "Frobenius norm, population",
            "‖Ḡ‖_{F}",
            |r| Some(r.result.population?.frobenius_norm),
            "2/η",
        ),
        (
            "Largest eigenvalue, population",
            "λ_{max}(Ḡ)",
            |r| Some(r.result.population?.lambda_max),
            "2/η",
        ),
    ];
    let panels = panels
        .into_iter()
        .map(|(title, label, value, bound)| Panel {
            title: title.to_owned(),
            x: Axis::log("learning rate η"),
            y: Axis::log(label),
            series: by_learning_rate(&runs, value),
            references: vec![two_over_eta(&runs, bound)],
        })
        .collect();
    Ok(Presentation {
        table: run_table(&runs),
        figure: Figure {
            title: "Sharpness of the minima that SGD (B = 1) and GD find, diagonal networks"
                .to_owned(),
            subtitle: RUNS_NOTE.to_owned(),
            columns: 3,
            panels,
        },
        summary: learning_rate_summary(&runs),
    })
}

pub(super) fn generalization(
    settings: &Settings,
    results: &Results,
) -> Result<Presentation, MissingCell> {
    let cells = Experiment::DiagonalGeneralization.cells(settings);
    let runs = trained(&cells, results)?;
    let interpolators = interpolators(&cells, results)?;
    let of = |norm, value: fn(&InterpolatorResult) -> f64| {
        let found = minimizing(&interpolators, norm);
        median(&found.iter().map(|(_, result)| value(result)).collect::<Vec<_>>())
    };
    let line = |label: &str, value: f64| Reference {
        label: label.to_owned(),
        kind: ReferenceKind::Horizontal(value),
    };
    // For a linear function of independent coordinates the expected test loss is s²‖β − β*‖²/2.
    let panel = |title: &str, label: &str, value: Measure, references| Panel {
        title: title.to_owned(),
        x: Axis::log("learning rate η"),
        y: Axis::log(label),
        series: by_learning_rate(&runs, value),
        references,
    };
    let panels = vec![
        panel(
            "Distance to the sparse target",
            "‖β − β*‖²",
            |r| r.result.last?.coefficient_error,
            vec![
                line("minimum-ℓ2 interpolator", of(MinimizedNorm::L2, |i| i.coefficient_error)),
                line("basis pursuit", of(MinimizedNorm::L1, |i| i.coefficient_error)),
            ],
        ),
        panel(
            "Test error",
            "test loss / loss of zero",
            |r| r.result.relative_test_error(),
            vec![line("zero function", 1.0)],
        ),
        panel(
            "ℓ1 norm",
            "‖β‖_{1}",
            |r| Some(r.result.last?.norm),
            vec![
                line("‖β*‖_{1}", of(MinimizedNorm::L2, |i| i.target_l1_norm)),
                line("minimum-ℓ2 interpolator", of(MinimizedNorm::L2, |i| i.l1_norm)),
            ],
        ),
    ];
    let mut table = run_table(&runs);
    let [norm, error] =
        ["norm", "coefficient_error"].map(|name| table.columns.iter().position(|c| c.name == name));
    let width = table.columns.len();
    for (spec, interpolator) in &interpolators {
        let mut row = vec![Value::Missing; width];
        row[0] = interpolator_name(spec.minimizes).into();
        if let Some(position) = table.columns.iter().position(|c| c.name == "seed") {
            row[position] = Value::Integer(spec.seed);
        }
        if let (Some(norm), Some(error)) = (norm, error) {
            row[norm] = Value::Number(interpolator.l1_norm);
            row[error] = Value::Number(interpolator.coefficient_error);
        }
        table.rows.push(row);
    }
    Ok(Presentation {
        table,
        figure: Figure {
            title: "SGD (B = 1) recovers the sparse target, GD does not at any learning rate"
                .to_owned(),
            subtitle: RUNS_NOTE.to_owned(),
            columns: 3,
            panels,
        },
        summary: learning_rate_summary(&runs),
    })
}

/// The name in tables.
pub(super) fn interpolator_name(norm: MinimizedNorm) -> &'static str {
    match norm {
        MinimizedNorm::L1 => "basis_pursuit",
        MinimizedNorm::L2 => "minimum_l2",
    }
}

/// The balance ratio that a run started from, where it is set.
pub(super) fn initial_ratio(run: &Trained<'_>) -> f64 {
    match run.spec.problem {
        Problem::Diagonal(problem) => match problem.initial {
            DiagonalInitial::Unbalanced { ratio } => ratio,
            DiagonalInitial::Gaussian => f64::NAN,
        },
        Problem::Relu(_) => f64::NAN,
    }
}

pub(super) fn balance(settings: &Settings, results: &Results) -> Result<Presentation, MissingCell> {
    let runs = trained(&Experiment::DiagonalBalance.cells(settings), results)?;
    let value = |run: &Trained<'_>| run.result.last?.balance_ratio;
    let series = [(SGD, SGD_STYLE), (GD, GD_STYLE)].into_iter().flat_map(|(method, style)| {
        let of_method = of_method(&runs, method);
        dots_and_medians(&of_method, method_name(method), style, initial_ratio, value)
    });
    let panel = Panel {
        title: "Balance ratio r(θ) = Σ(a² + b²) / 2Σ|ab|".to_owned(),
        x: Axis::log("initial balance ratio r₀"),
        y: Axis::log("final balance ratio"),
        series: series.collect(),
        references: vec![
            Reference {
                label: "no change".to_owned(),
                kind: ReferenceKind::Curve(vec![(1.0, 1.0), (16.0, 16.0)]),
            },
            Reference { label: "balanced".to_owned(), kind: ReferenceKind::Horizontal(1.0) },
        ],
    };
    let mut summary = Table {
        columns: [
            ("method", "word", "SGD (batch size 1) or GD"),
            ("initial_balance_ratio", "1", "r0"),
            ("balance_ratio", "1", "median r(θ) at the end"),
            ("converged", "runs", "runs that met the stopping rule"),
            ("runs", "runs", "runs"),
        ]
        .map(|(name, unit, description)| Column { name, unit, description })
        .to_vec(),
        rows: Vec::new(),
    };
    for method in [SGD, GD] {
        for (ratio, group) in group_by(&of_method(&runs, method), initial_ratio) {
            let values: Vec<f64> = group.iter().filter_map(value).collect();
            summary.rows.push(vec![
                method_name(method).into(),
                Value::Number(ratio),
                Value::Number(median(&values)),
                Value::Integer(group.iter().filter(|run| run.result.converged()).count() as u64),
                Value::Integer(group.len() as u64),
            ]);
        }
    }
    Ok(Presentation {
        table: run_table(&runs),
        figure: Figure {
            title: "SGD noise balances the layers, GD keeps them unbalanced".to_owned(),
            subtitle: RUNS_NOTE.to_owned(),
            columns: 1,
            panels: vec![panel],
        },
        summary,
    })
}
