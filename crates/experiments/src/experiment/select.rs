//! Picking results and summing them up.

use flatmin_optim::Method;

use super::MissingCell;
use crate::cell::{
    CellResult, CellSpec, InterpolatorResult, InterpolatorSpec, MinimizedNorm, NormResult,
    NormSpec, Results, TrainResult, TrainSpec,
};
use crate::statistics::median;
use flatmin_figures::{Mark, Series, Style};

/// A training run with its specification.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trained<'r> {
    pub(super) spec: TrainSpec,
    pub(super) result: &'r TrainResult,
}

impl Trained<'_> {
    /// The conventional name of the method.
    pub(super) fn method(&self) -> &'static str {
        method_name(self.spec.method)
    }
}

pub(super) fn method_name(method: Method) -> &'static str {
    match method {
        Method::GradientDescent => "GD",
        Method::Sgd { .. } => "SGD",
    }
}

pub(super) fn missing(cell: &CellSpec) -> MissingCell {
    MissingCell { key: cell.key(), label: cell.label() }
}

/// The training runs among `cells`.
pub(super) fn trained<'r>(
    cells: &[CellSpec],
    results: &'r Results,
) -> Result<Vec<Trained<'r>>, MissingCell> {
    let mut runs = Vec::new();
    for cell in cells {
        if let CellSpec::Train(spec) = cell {
            match results.get(&cell.key()) {
                Some(CellResult::Train(result)) => runs.push(Trained { spec: *spec, result }),
                _ => return Err(missing(cell)),
            }
        }
    }
    Ok(runs)
}

/// The interpolators among `cells`.
pub(super) fn interpolators(
    cells: &[CellSpec],
    results: &Results,
) -> Result<Vec<(InterpolatorSpec, InterpolatorResult)>, MissingCell> {
    let mut found = Vec::new();
    for cell in cells {
        if let CellSpec::Interpolator(spec) = cell {
            match results.get(&cell.key()) {
                Some(CellResult::Interpolator(result)) => found.push((*spec, *result)),
                _ => return Err(missing(cell)),
            }
        }
    }
    Ok(found)
}

/// The interpolators that minimise one norm.
pub(super) fn minimizing(
    interpolators: &[(InterpolatorSpec, InterpolatorResult)],
    norm: MinimizedNorm,
) -> Vec<(InterpolatorSpec, InterpolatorResult)> {
    interpolators.iter().filter(|(spec, _)| spec.minimizes == norm).copied().collect()
}

/// The norm cells among `cells`.
pub(super) fn norms<'r>(
    cells: &[CellSpec],
    results: &'r Results,
) -> Result<Vec<(NormSpec, &'r NormResult)>, MissingCell> {
    let mut found = Vec::new();
    for cell in cells {
        if let CellSpec::Norms(spec) = cell {
            match results.get(&cell.key()) {
                Some(CellResult::Norms(result)) => found.push((*spec, result)),
                _ => return Err(missing(cell)),
            }
        }
    }
    Ok(found)
}

/// Groups by a number, in ascending order of it; within a group the order stays.
pub(super) fn group_by<T: Copy>(items: &[T], key: impl Fn(&T) -> f64) -> Vec<(f64, Vec<T>)> {
    let mut groups: Vec<(f64, Vec<T>)> = Vec::new();
    for item in items {
        let key = key(item);
        match groups.iter_mut().find(|(k, _)| k.total_cmp(&key).is_eq()) {
            Some((_, group)) => group.push(*item),
            None => groups.push((key, vec![*item])),
        }
    }
    groups.sort_by(|a, b| a.0.total_cmp(&b.0));
    groups
}

/// Runs of one method.
pub(super) fn of_method<'r>(runs: &[Trained<'r>], method: Method) -> Vec<Trained<'r>> {
    runs.iter().filter(|run| run.spec.method == method).copied().collect()
}

/// Medians of `value` over the runs with the same learning rate that have one.
pub(super) fn medians(
    runs: &[Trained<'_>],
    value: impl Fn(&Trained<'_>) -> Option<f64>,
) -> Vec<(f64, f64)> {
    group_by(runs, |run| run.spec.learning_rate)
        .into_iter()
        .filter_map(|(rate, group)| {
            let values: Vec<f64> = group.iter().filter_map(&value).collect();
            (!values.is_empty()).then(|| (rate, median(&values)))
        })
        .collect()
}

/// Every run as a dot (hollow where the stopping rule was not met), and the line of medians.
pub(super) fn dots_and_medians(
    runs: &[Trained<'_>],
    label: &str,
    style: Style,
    x: impl Fn(&Trained<'_>) -> f64,
    y: impl Fn(&Trained<'_>) -> Option<f64>,
) -> Vec<Series> {
    let points = |converged: bool| {
        runs.iter()
            .filter(|run| run.result.converged() == converged)
            .filter_map(|run| Some((x(run), y(run)?)))
            .collect::<Vec<_>>()
    };
    let line = group_by(runs, &x)
        .into_iter()
        .filter_map(|(x, group)| {
            let values: Vec<f64> = group.iter().filter_map(&y).collect();
            (!values.is_empty()).then(|| (x, median(&values)))
        })
        .collect();
    let series = |mark, points| Series { label: label.to_owned(), style, mark, points };
    [
        series(Mark::Points, points(true)),
        series(Mark::OpenPoints, points(false)),
        series(Mark::LineAndPoints, line),
    ]
    .into_iter()
    .filter(|series| !series.points.is_empty())
    .collect()
}
