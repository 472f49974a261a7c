//! Recovery of the sparse coefficients by diagonal networks.

use crate::prelude::*;
use crate::protocol::diagonal;
use crate::table::Value;

pub(super) static EXPERIMENT: Experiment = Experiment {
    id: "diagonal_generalization",
    title: "Diagonal networks: recovery of the sparse target",
    shows: "SGD at large learning rates recovers the sparse coefficients β*; gradient descent does \
            not at any learning rate, and neither does the interpolator of minimum ℓ2 norm; that of \
            minimum ℓ1 norm (basis pursuit) does.",
    how: diagonal::words,
    cells: |settings| {
        [diagonal::learning_rates(settings), diagonal::interpolators(settings)].concat()
    },
    present,
    claims: &[ClaimRule::new(
        4,
        "For diagonal networks SGD at a large learning rate recovers the sparse target; gradient \
         descent does not at any learning rate.",
        "D2",
        judge,
    )],
};

/// A value of the interpolators that minimise one norm.
fn of_norm(
    interpolators: &[Interpolator<'_>],
    norm: MinimizedNorm,
    value: fn(&InterpolatorResult) -> f64,
) -> Vec<f64> {
    let chosen = interpolators.iter().filter(|found| found.spec.minimizes == norm);
    chosen.map(|found| value(found.result)).collect()
}

fn coefficient_error(run: &ShallowRun<'_>) -> Option<f64> {
    run.result.last?.coefficient_error
}

fn present(cells: &FinishedCells<'_>) -> Presentation {
    let runs = &cells.shallow;
    let line = |label: &str, norm, value: fn(&InterpolatorResult) -> f64| {
        Reference::horizontal(label, median(&of_norm(&cells.interpolators, norm, value)))
    };
    let (l1, l2) = (MinimizedNorm::L1, MinimizedNorm::L2);
    let error_lines = vec![
        line("minimum-ℓ2 interpolator", l2, |i| i.coefficient_error),
        line("basis pursuit", l1, |i| i.coefficient_error),
    ];
    let norm_lines = vec![
        line("‖β*‖_{1}", l2, |i| i.target_l1_norm),
        line("minimum-ℓ2 interpolator", l2, |i| i.l1_norm),
    ];
    let panels = vec![
        rate_panel(
            runs,
            "Distance to the sparse target",
            "‖β − β*‖²",
            coefficient_error,
            error_lines,
        ),
        // For a linear function of independent coordinates the expected test loss is s²‖β − β*‖²/2.
        rate_panel(
            runs,
            "Test error",
            "test loss / loss of zero",
            |run| run.result.relative_test_error(),
            vec![Reference::horizontal("zero function", 1.0)],
        ),
        rate_panel(runs, "ℓ1 norm", "‖β‖_{1}", ShallowRun::norm, norm_lines),
    ];
    let title = "SGD (B = 1) recovers the sparse target, GD does not at any learning rate";
    Presentation {
        table: table(cells),
        figure: Figure::new(title, RUNS_NOTE, 3, panels),
        summary: learning_rate_summary(runs),
    }
}

/// The table of runs, and a row for each interpolator, most of whose fields are empty.
fn table(cells: &FinishedCells<'_>) -> Table {
    let mut table = run_table(&cells.shallow);
    for Interpolator { spec, result } in &cells.interpolators {
        let field = |name| match name {
            "method" => interpolator_name(spec.minimizes).into(),
            "seed" => Value::Integer(spec.seed),
            "norm" => Value::Number(result.l1_norm),
            "coefficient_error" => Value::Number(result.coefficient_error),
            _ => Value::Missing,
        };
        table.rows.push(table.columns.iter().map(|column| field(column.name)).collect());
    }
    table
}

/// The name of an interpolator in the table.
fn interpolator_name(norm: MinimizedNorm) -> &'static str {
    match norm {
        MinimizedNorm::L1 => "basis_pursuit",
        MinimizedNorm::L2 => "minimum_l2",
    }
}

fn judge(cells: &FinishedCells<'_>) -> Judgement {
    let mut judgement = Judgement::new(
        "converged or not: SGD's ‖β − β*‖² at the largest η ≤ 1e-2 in every run; GD's median ≥ 100 × \
         SGD's median there at every η, and flat (max/min ≤ 1.5)",
        cells.shallow.len(),
    );
    let [sgd, gd] = [SGD, GD].map(|method| of_method(&cells.shallow, method));
    let last = group_by(&sgd, TrainingRun::learning_rate).pop();
    let last = last.map(|(_, group)| values(&group, coefficient_error)).unwrap_or_default();
    let gd_errors = values(&gd, coefficient_error);
    let gd_medians: Vec<f64> =
        medians(&gd, coefficient_error).into_iter().map(|(_, median)| median).collect();
    let flat = largest(&gd_medians) / smallest(&gd_medians);
    judgement.need_runs(!last.is_empty() && !gd_errors.is_empty());
    judgement.at_most("SGD, largest η: ‖β − β*‖²", largest(&last), 1e-2);
    judgement.at_most("GD: max/min of the medians", flat, 1.5);
    judgement.at_least("GD over SGD: ‖β − β*‖²", smallest(&gd_medians) / median(&last), 100.0);
    judgement.measure("SGD, largest η: ‖β − β*‖²", &last);
    judgement.measure("GD, all η: ‖β − β*‖²", &gd_errors);
    judgement.measure("GD: max/min of the medians over η", &[flat]);
    let minimum = of_norm(&cells.interpolators, MinimizedNorm::L2, |i| i.coefficient_error);
    judgement.measure("minimum-ℓ2 interpolator: ‖β − β*‖²", &minimum);
    judgement
}
