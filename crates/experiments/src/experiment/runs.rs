//! Tables that every training experiment shares.

use flatmin_optim::Outcome;

use super::grid::{GD, SGD};
use super::relu::schedule_name;
use super::select::{Trained, group_by, method_name, of_method};
use crate::cell::{DiagonalInitial, Problem};
use crate::table::{Column, Table, Value};

pub(super) fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Converged => "converged",
        Outcome::OutOfSteps => "out_of_steps",
        Outcome::Diverged => "diverged",
    }
}

/// One row a run: its settings, how it ended, and everything measured at the end.
pub(super) fn run_table(runs: &[Trained<'_>]) -> Table {
    let column = |name, unit, description| Column { name, unit, description };
    let columns = vec![
        column("method", "word", "SGD (batch size 1) or GD"),
        column("learning_rate", "1", "initial learning rate η"),
        column("schedule", "word", "learning-rate schedule"),
        column("clip_norm", "norm", "gradient norms above it are scaled down to it"),
        column("initial_balance_ratio", "1", "r0, where the start is unbalanced on purpose"),
        column("seed", "seed", "seed of teacher, data, start and batches"),
        column("outcome", "word", "converged, out_of_steps or diverged"),
        column("steps", "steps", "steps done"),
        column("clipped_steps", "steps", "steps whose gradient was clipped"),
        column("train_loss", "loss", "(1/2n) Σ r_i² on the training data"),
        column("test_loss", "loss", "the same mean on the test data"),
        column("relative_test_error", "1", "test loss over that of the zero function"),
        column("trace", "sharpness", "tr G, empirical Gauss–Newton matrix"),
        column("frobenius_norm", "sharpness", "Frobenius norm of G, empirical"),
        column("lambda_max", "sharpness", "largest eigenvalue of G, empirical"),
        column("population_trace", "sharpness", "trace of the population matrix"),
        column("population_frobenius_norm", "sharpness", "its Frobenius norm"),
        column("population_lambda_max", "sharpness", "its largest eigenvalue"),
        column("batch_sharpness", "sharpness", "Σ r_i²‖g_i‖⁴ / Σ r_i²‖g_i‖²"),
        column("threshold", "1", "exact η* of SGD as it is run, to 1e-6, where it was computed"),
        column("norm", "norm", "path norm (ReLU) or l1 norm of β (diagonal)"),
        column("balance_ratio", "1", "r(θ) at the end (diagonal)"),
        column("coefficient_error", "1", "‖β − β*‖² (diagonal)"),
    ];
    let rows = runs
        .iter()
        .map(|run| {
            let (spec, result) = (&run.spec, run.result);
            let last = result.last.as_ref();
            let initial = match spec.problem {
                Problem::Diagonal(problem) => match problem.initial {
                    DiagonalInitial::Unbalanced { ratio } => Some(ratio),
                    DiagonalInitial::Gaussian => None,
                },
                Problem::Relu(_) => None,
            };
            vec![
                run.method().into(),
                Value::Number(spec.learning_rate),
                schedule_name(spec.schedule).into(),
                Value::Number(spec.clip_norm),
                initial.into(),
                Value::Integer(spec.seed),
                outcome_name(result.outcome).into(),
                Value::Integer(result.steps),
                Value::Integer(result.clipped_steps),
                last.map(|m| m.train_loss).into(),
                last.map(|m| m.test_loss).into(),
                result.relative_test_error().into(),
                last.map(|m| m.empirical.trace).into(),
                last.map(|m| m.empirical.frobenius_norm).into(),
                last.map(|m| m.empirical.lambda_max).into(),
                result.population.map(|p| p.trace).into(),
                result.population.map(|p| p.frobenius_norm).into(),
                result.population.map(|p| p.lambda_max).into(),
                last.and_then(|m| m.batch_sharpness).into(),
                last.and_then(|m| m.threshold).into(),
                last.map(|m| m.norm).into(),
                last.and_then(|m| m.balance_ratio).into(),
                last.and_then(|m| m.coefficient_error).into(),
            ]
        })
        .collect();
    Table { columns, rows }
}

/// Medians a method and learning rate.
pub(super) fn learning_rate_summary(runs: &[Trained<'_>]) -> Table {
    let column = |name, unit, description| Column { name, unit, description };
    let columns = vec![
        column("method", "word", "SGD (batch size 1) or GD"),
        column("learning_rate", "1", "learning rate η"),
        column("converged", "runs", "runs that met the stopping rule"),
        column("runs", "runs", "runs"),
        column("steps", "steps", "median of the steps done"),
        column("scaled_trace", "1", "median of tr G · η/2"),
        column("scaled_lambda_max", "1", "median of λ_max · η/2"),
        column("norm", "norm", "median path norm (ReLU) or l1 norm of β (diagonal)"),
        column("relative_test_error", "1", "median test loss over that of the zero function"),
        column("coefficient_error", "1", "median ‖β − β*‖² (diagonal)"),
    ];
    let mut rows = Vec::new();
    for method in [SGD, GD] {
        for (rate, group) in group_by(&of_method(runs, method), |run| run.spec.learning_rate) {
            let of = |value: &dyn Fn(&Trained<'_>) -> Option<f64>| {
                Value::median(group.iter().filter_map(value))
            };
            rows.push(vec![
                method_name(method).into(),
                Value::Number(rate),
                Value::Integer(group.iter().filter(|run| run.result.converged()).count() as u64),
                Value::Integer(group.len() as u64),
                of(&|run| Some(run.result.steps as f64)),
                of(&|run| Some(run.result.last?.empirical.trace * rate / 2.0)),
                of(&|run| Some(run.result.last?.empirical.lambda_max * rate / 2.0)),
                of(&|run| Some(run.result.last?.norm)),
                of(&|run| run.result.relative_test_error()),
                of(&|run| run.result.last?.coefficient_error),
            ]);
        }
    }
    Table { columns, rows }
}
