//! The claims on deep networks.

use super::super::deep::{
    Course, DeepRun, deep_runs, margin, of_depth, scaled_lambda_max, scaled_trace,
    trace_bound_ratio,
};
use super::super::grid::{GD, SGD};
use super::super::select::group_by;
use super::super::{Experiment, MissingCell};
use super::verdict;
use crate::cell::{DeepTask, Results};
use crate::claim::short_number;
use crate::statistics::median;
use crate::{Claim, Measured, Settings};

/// What `λ_max · η/2` may be at the end of a converged run of gradient descent. At an excess δ over 1 the
/// unstable direction grows by 1 + 2δ a step: at a hundredth by half over the 20 checks of the stopping
/// rule, and less than that they cannot tell from rest.
const TOLD_FROM_REST: f64 = 1.01;
/// Where the median of `η*/η` must lie where SGD stops.
const EDGE: [f64; 2] = [0.85, 1.3];
/// By what factor the trace condition may exceed the exact threshold.
const TIGHT: f64 = 2.0;
/// Where `λ_max(H) · η/2` of gradient descent must settle.
const SETTLED: [f64; 2] = [0.95, 1.05];

fn of(runs: &[DeepRun<'_>], measure: fn(&DeepRun<'_>) -> Option<f64>) -> Vec<f64> {
    runs.iter().filter_map(measure).collect()
}

/// The groups of runs with the same task and depth.
fn groups<'r>(runs: &[DeepRun<'r>]) -> Vec<(DeepTask, usize, Vec<DeepRun<'r>>)> {
    let mut keys: Vec<(DeepTask, usize)> =
        runs.iter().map(|run| (run.spec.task, run.spec.depth)).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter().map(|(task, depth)| (task, depth, of_depth(runs, task, depth))).collect()
}

pub(super) fn stable_minima(settings: &Settings, results: &Results) -> Result<Claim, MissingCell> {
    let mut runs = deep_runs(&Experiment::DeepSharpness.cells(settings), results)?;
    runs.retain(|run| run.result.converged());
    let (mut measured, mut holds, mut enough) = (Vec::new(), true, !runs.is_empty());
    let mut beyond = Vec::new();
    for (task, depth, group) in groups(&runs) {
        for (method, label, measure, most) in [
            (SGD, "SGD: tr G · η/2", scaled_trace as fn(&DeepRun<'_>) -> Option<f64>, 1.0),
            (GD, "GD: λ_max · η/2", scaled_lambda_max, TOLD_FROM_REST),
        ] {
            let chosen: Vec<_> =
                group.iter().filter(|run| run.spec.method == method).copied().collect();
            let values = of(&chosen, measure);
            enough &= !values.is_empty();
            holds &= values.len() == chosen.len() && values.iter().all(|value| *value <= most);
            beyond.extend(values.iter().copied().filter(|value| *value > 1.0));
            let label = format!("{}, depth {depth}, {label}", task.name());
            measured.push(Measured::new(label, &values));
        }
    }
    let (verdict, mut note) = verdict(settings, enough, holds);
    if note.is_empty() && !beyond.is_empty() {
        note = format!(
            "Beyond 1, which the claim asked for at first: {} of {} runs, at most {:.4}.",
            beyond.len(),
            runs.len(),
            super::largest(&beyond),
        );
    }
    Ok(Claim {
        id: "12".to_owned(),
        sentence: "Minima of deeper networks, on a teacher and on real data, obey the stability \
                   conditions too."
            .to_owned(),
        source: "S1, S2".to_owned(),
        predicate: format!(
            "ReLU networks of depth 2, 3 and 4 on a teacher and on the parity of digits: every \
             converged SGD run (B = 1) has tr G ≤ 2/η; every converged GD run has λ_max(G) ≤ \
             {TOLD_FROM_REST} · 2/η"
        ),
        measured,
        runs: runs.len(),
        verdict,
        note,
    })
}

pub(super) fn edge(settings: &Settings, results: &Results) -> Result<Claim, MissingCell> {
    let mut runs = deep_runs(&Experiment::DeepSharpness.cells(settings), results)?;
    runs.retain(|run| run.spec.method == SGD);
    let (mut measured, mut holds, mut enough) = (Vec::new(), true, !runs.is_empty());
    for (task, depth, group) in groups(&runs) {
        let name = format!("{}, depth {depth}", task.name());
        // The largest learning rate at which at least half of the runs came to rest.
        let rates = group_by(&group, |run| run.spec.learning_rate);
        let stop = rates.into_iter().rev().find_map(|(rate, group)| {
            let count = group.len();
            let rest: Vec<_> = group.into_iter().filter(|run| run.result.converged()).collect();
            (2 * rest.len() >= count).then_some((rate, rest))
        });
        let Some((rate, rest)) = stop else {
            enough = false;
            continue;
        };
        let margins = of(&rest, margin);
        // Written so that a NaN fails.
        holds &= (EDGE[0]..=EDGE[1]).contains(&median(&margins));
        measured.push(Measured::new(format!("{name}, η = {}: η*/η", short_number(rate)), &margins));
        let converged: Vec<_> =
            group.iter().filter(|run| run.result.converged()).copied().collect();
        let ratios = of(&converged, trace_bound_ratio);
        holds &= median(&ratios) <= TIGHT;
        measured.push(Measured::new(format!("{name}, every η: (2/tr G)/η*"), &ratios));
    }
    let (verdict, note) = verdict(settings, enough, holds);
    Ok(Claim {
        id: "13".to_owned(),
        sentence:
            "At every depth, and on real data, SGD at the largest learning rate that lets it \
                   rest stops at its mean-square edge, and the trace condition stays within a \
                   factor of two of the exact threshold."
                .to_owned(),
        source: "S2, S8".to_owned(),
        predicate: format!(
            "for each task and depth: at the largest η at which at least half of the SGD runs \
             converged the median of η*/η over these lies in [{}, {}]; the median of (2/tr G)/η* \
             over all converged SGD runs is at most {TIGHT}",
            EDGE[0], EDGE[1],
        ),
        measured,
        runs: runs.len(),
        verdict,
        note,
    })
}

pub(super) fn sharpening(settings: &Settings, results: &Results) -> Result<Claim, MissingCell> {
    let mut runs = deep_runs(&Experiment::ProgressiveSharpening.cells(settings), results)?;
    runs.retain(|run| run.spec.method == GD);
    let rates = group_by(&runs, |run| run.spec.learning_rate);
    let (mut measured, mut holds) = (Vec::new(), !runs.is_empty());
    for (position, (rate, group)) in rates.iter().enumerate() {
        let courses: Vec<Course> =
            group.iter().filter_map(|run| Course::of(run, |m| m.hessian_lambda_max)).collect();
        holds &= courses.len() == group.len();
        for course in &courses {
            let Course { first, largest, settled } = *course;
            holds &= if position == 0 {
                first < largest && largest <= 1.0
            } else {
                first < 0.9 && largest > 1.0 && (SETTLED[0]..=SETTLED[1]).contains(&settled)
            };
        }
        let name = format!("GD, η = {}: λ_max(H) · η/2", short_number(*rate));
        for (when, value) in [
            ("at the start", (|c| c.first) as fn(&Course) -> f64),
            ("largest", |c| c.largest),
            ("median of the last decade", |c| c.settled),
        ] {
            let values: Vec<f64> = courses.iter().map(value).collect();
            measured.push(Measured::new(format!("{name}, {when}"), &values));
        }
    }
    let (verdict, note) = verdict(settings, rates.len() >= 2, holds);
    Ok(Claim {
        id: "14".to_owned(),
        sentence: "Gradient descent sharpens until it meets its edge, λ_max(H) = 2/η, and stays \
                   there; at a learning rate whose edge is beyond what it would reach it stays below."
            .to_owned(),
        source: "S1; Cohen et al. 2021".to_owned(),
        predicate: format!(
            "λ_max(H) · η/2 in every GD run: at the smallest η it rises and stays ≤ 1; at the others \
             it starts below 0.9, exceeds 1, and its median over the last decade of steps lies in \
             [{}, {}]",
            SETTLED[0], SETTLED[1],
        ),
        measured,
        runs: runs.len(),
        verdict,
        note,
    })
}

pub(super) fn noise(settings: &Settings, results: &Results) -> Result<Claim, MissingCell> {
    let runs = deep_runs(&Experiment::ProgressiveSharpening.cells(settings), results)?;
    let trace = |run: &DeepRun<'_>| Some(run.result.last?.empirical.trace);
    let of_method = |method| {
        let mut chosen = runs.clone();
        chosen.retain(|run: &DeepRun<'_>| run.spec.method == method);
        group_by(&chosen, |run| run.spec.learning_rate)
    };
    let (mut measured, mut holds) = (Vec::new(), true);
    let mut medians = Vec::new();
    for (method, name, groups) in [(GD, "GD", of_method(GD)), (SGD, "SGD", of_method(SGD))] {
        for (rate, group) in groups {
            let values: Vec<f64> = group.iter().filter_map(trace).collect();
            if method == SGD {
                let scaled = of(&group, scaled_trace);
                holds &= scaled.len() == group.len() && scaled.iter().all(|value| *value <= 1.0);
                let label = format!("SGD, η = {}: tr G · η/2 at the end", short_number(rate));
                measured.push(Measured::new(label, &scaled));
                medians.push(median(&values));
            } else if medians.is_empty() {
                // The smallest η of gradient descent, which never met its edge.
                medians.push(median(&values) / 1.5);
            }
            let label = format!("{name}, η = {}: tr G at the end", short_number(rate));
            measured.push(Measured::new(label, &values));
        }
    }
    holds &= medians.windows(2).all(|pair| pair[1] < pair[0]);
    let (verdict, note) = verdict(settings, medians.len() >= 3, holds);
    Ok(Claim {
        id: "15".to_owned(),
        sentence:
            "The noise of SGD stops the sharpening earlier, the more the larger the learning \
                   rate, long before λ_max comes near 2/η."
                .to_owned(),
        source: "S2".to_owned(),
        predicate: "tr G ≤ 2/η at the end of every SGD run (B = 1); the median of tr G at the end \
                    falls with η, and is at every η at most 1/1.5 of that of GD at its smallest η"
            .to_owned(),
        measured,
        runs: runs.len(),
        verdict,
        note,
    })
}
