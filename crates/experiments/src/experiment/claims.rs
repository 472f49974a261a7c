//! The claims, judged on the results. Numbers are those of the list of claims in the docs.

mod deep;
mod estimators;
mod threshold;

use super::diagonal::initial_ratio;
use super::grid::{FEWEST_DESIGNS, GD, SGD, TIGHT_CLIP};
use super::relu::scaled_trace;
use super::select::{
    Trained, group_by, interpolators, medians, minimizing, norms, of_method, trained,
};
use super::too_weak::Origin;
use super::{Experiment, MissingCell, batch_size as batches, linear_stability as linearised};
use crate::cell::{Evidence, FACTORS, MinimizedNorm, Results, SIMULATED_STEPS};
use crate::claim::short_number;
use crate::statistics::{mean_and_standard_error, median, spearman};
use crate::{Claim, Measured, Settings, Verdict};

/// Judges the claims whose experiments are all among `experiments`.
///
/// # Errors
/// [`MissingCell`] when a result is missing.
pub fn claims(
    experiments: &[Experiment],
    settings: &Settings,
    results: &Results,
) -> Result<Vec<Claim>, MissingCell> {
    type Judge = fn(&Settings, &Results) -> Result<Claim, MissingCell>;
    let all: [(&[Experiment], Judge); 17] = [
        (&[Experiment::ReluSharpness, Experiment::DiagonalSharpness], stable_minima),
        (&[Experiment::ReluSharpness, Experiment::DiagonalSharpness], norms_follow),
        (&[Experiment::ReluGeneralization], relu_generalization),
        (&[Experiment::DiagonalGeneralization], diagonal_generalization),
        (&[Experiment::DiagonalBalance], balance),
        (&[Experiment::NormEquivalence], norm_equivalence),
        (&[Experiment::Threshold], threshold::threshold),
        (&[Experiment::LinearStability], linear_stability),
        (&[Experiment::ReluSchedule], schedule),
        (&[Experiment::BatchSize], batch_size),
        (&[Experiment::TooWeak], too_weak),
        (&[Experiment::DeepSharpness], deep::stable_minima),
        (&[Experiment::DeepSharpness], deep::edge),
        (&[Experiment::ProgressiveSharpening], deep::sharpening),
        (&[Experiment::ProgressiveSharpening], deep::noise),
        (&[Experiment::Estimators], estimators::coverage),
        (&[Experiment::Estimators], estimators::accuracy),
    ];
    all.into_iter()
        .filter(|(needs, _)| needs.iter().all(|need| experiments.contains(need)))
        .map(|(_, judge)| judge(settings, results))
        .collect()
}

const TOO_SMALL: &str = "The sizes of this profile are too small to judge it.";

/// A verdict on training runs: undecided where the profile is too small or `enough` is false.
fn verdict(settings: &Settings, enough: bool, holds: bool) -> (Verdict, String) {
    if !settings.profile.judges_training() {
        (Verdict::Undecided, TOO_SMALL.to_owned())
    } else if !enough {
        (Verdict::Undecided, "Too few runs came to rest to judge it.".to_owned())
    } else if holds {
        (Verdict::Holds, String::new())
    } else {
        (Verdict::Fails, String::new())
    }
}

fn values(runs: &[Trained<'_>], value: impl Fn(&Trained<'_>) -> Option<f64>) -> Vec<f64> {
    runs.iter().filter_map(value).collect()
}

fn largest(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

fn smallest(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn scaled_lambda_max(run: &Trained<'_>) -> Option<f64> {
    Some(run.result.last?.empirical.lambda_max * run.spec.learning_rate / 2.0)
}

fn stable_minima(settings: &Settings, results: &Results) -> Result<Claim, MissingCell> {
    let mut measured = Vec::new();
    let (mut enough, mut holds, mut count) = (true, true, 0);
    for (name, experiment) in
        [("ReLU", Experiment::ReluSharpness), ("diagonal", Experiment::DiagonalSharpness)]
    {
        let mut runs = trained(&experiment.cells(settings), results)?;
        runs.retain(|run| run.result.converged());
        let sgd = values(&of_method(&runs, SGD), scaled_trace);
        let gd = values(&of_method(&runs, GD), scaled_lambda_max);
        for (label, values) in
            [(format!("{name}, SGD: tr G · η/2"), sgd), (format!("{name}, GD: λ_max · η/2"), gd)]
        {
            enough &= !values.is_empty();
            holds &= values.iter().all(|v| *v <= 1.0);
            count += values.len();
            measured.push(Measured::new(label, &values));
        }
    }
    let (verdict, note) = verdict(settings, enough, holds);
    Ok(Claim {
        id: "1".to_owned(),
        sentence: "Minima at which training came to rest obey the stability conditions: SGD's \
                   bound the trace, gradient descent's the largest eigenvalue."
            .to_owned(),
        source: "S1, S2".to_owned(),
        predicate: "every converged SGD run (B = 1) has tr G ≤ 2/η; every converged GD run has \
                    λ_max(G) ≤ 2/η"
            .to_owned(),
        measured,
        runs: count,
        verdict,
        note,
    })
}

fn norms_follow(settings: &Settings, results: &Results) -> Result<Claim, MissingCell> {
    let relu = trained(&Experiment::ReluSharpness.cells(settings), results)?;
    let diagonal = trained(&Experiment::DiagonalSharpness.cells(settings), results)?;
    let trace = |run: &Trained<'_>| Some(run.result.last?.empirical.trace);
    let norm = |run: &Trained<'_>| Some(run.result.last?.norm);
    let second = |pairs: &[(f64, f64)]| pairs.iter().map(|p| p.1).collect::<Vec<_>>();
    let (mut measured, mut holds, mut enough) = (Vec::new(), true, true);
    let (relu_sgd, diagonal_sgd) = (of_method(&relu, SGD), of_method(&diagonal, SGD));
    for (name, runs) in [("ReLU", &relu_sgd), ("diagonal", &diagonal_sgd)] {
        let norm_name = if name == "ReLU" { "path norm" } else { "ℓ1 norm" };
        for (quantity, pairs) in [("tr G", medians(runs, trace)), (norm_name, medians(runs, norm))]
        {
            let correlation = spearman(&pairs);
            enough &= pairs.len() >= 3;
            holds &= correlation <= -0.95;
            let label = format!("{name}, SGD: Spearman correlation of η and median {quantity}");
            measured.push(Measured::new(label, &[correlation]));
            if name == "diagonal" {
                let medians = second(&pairs);
                let ratio = largest(&medians) / smallest(&medians);
                holds &= ratio >= 50.0;
                let label = format!("{name}, SGD: max/min of median {quantity}");
                measured.push(Measured::new(label, &[ratio]));
            }
        }
    }
    let diagonal_gd = of_method(&diagonal, GD);
    for (quantity, pairs) in
        [("tr G", medians(&diagonal_gd, trace)), ("ℓ1 norm", medians(&diagonal_gd, norm))]
    {
        let medians = second(&pairs);
        let ratio = largest(&medians) / smallest(&medians);
        holds &= ratio <= 1.05;
        measured
            .push(Measured::new(format!("diagonal, GD: max/min of median {quantity}"), &[ratio]));
    }
    let (verdict, note) = verdict(settings, enough, holds);
    Ok(Claim {
        id: "2".to_owned(),
        sentence: "SGD with larger learning rates finds flatter minima of smaller norm; for \
                   diagonal networks gradient descent does not."
            .to_owned(),
        source: "S2, R2, D1".to_owned(),
        predicate: "medians of tr G and of the norm (path, ℓ1) against η: Spearman ≤ −0.95 for \
                    SGD, and max/min ≥ 50 for diagonal networks; max/min ≤ 1.05 for diagonal \
                    networks and GD"
            .to_owned(),
        measured,
        runs: relu_sgd.len() + diagonal.len(),
        verdict,
        note,
    })
}

fn relu_generalization(settings: &Settings, results: &Results) -> Result<Claim, MissingCell> {
    let runs = trained(&Experiment::ReluGeneralization.cells(settings), results)?;
    let error = |run: &Trained<'_>| run.result.relative_test_error();
    let sgd = medians(&of_method(&runs, SGD), error);
    let gd = medians(&of_method(&runs, GD), error);
    let best = |pairs: &[(f64, f64)]| smallest(&pairs.iter().map(|p| p.1).collect::<Vec<_>>());
    let enough = sgd.len() >= 2 && !gd.is_empty();
    let first = sgd.first().map_or(f64::NAN, |p| p.1);
    let (best_sgd, best_gd) = (best(&sgd), best(&gd));
    let (verdict, note) =
        verdict(settings, enough, best_sgd <= 0.1 * first && best_sgd <= 0.7 * best_gd);
    let at = |method, pairs: &[(f64, f64)], value: f64| {
        let rate = pairs.iter().find(|p| p.1.total_cmp(&value).is_eq()).map(|p| p.0);
        let mut runs = of_method(&runs, method);
        runs.retain(|run| rate.is_some_and(|rate| run.spec.learning_rate.total_cmp(&rate).is_eq()));
        values(&runs, error)
    };
    Ok(Claim {
        id: "3".to_owned(),
        sentence: "For ReLU networks larger learning rates generalise better, and SGD better than \
                   gradient descent."
            .to_owned(),
        source: "R5, R6".to_owned(),
        predicate: "relative test error, medians over the runs that stayed finite: SGD's at its \
                    best η ≤ 0.1 × that at its smallest η, and ≤ 0.7 × GD's best"
            .to_owned(),
        measured: vec![
            Measured::new("SGD, smallest η", &at(SGD, &sgd, first)),
            Measured::new("SGD, best η", &at(SGD, &sgd, best_sgd)),
            Measured::new("GD, best η", &at(GD, &gd, best_gd)),
        ],
        runs: runs.len(),
        verdict,
        note,
    })
}

fn diagonal_generalization(settings: &Settings, results: &Results) -> Result<Claim, MissingCell> {
    let cells = Experiment::DiagonalGeneralization.cells(settings);
    let runs = trained(&cells, results)?;
    let minimum = minimizing(&interpolators(&cells, results)?, MinimizedNorm::L2);
    let error = |run: &Trained<'_>| run.result.last?.coefficient_error;
    let sgd = group_by(&of_method(&runs, SGD), |run| run.spec.learning_rate);
    let last = sgd.last().map(|(_, group)| values(group, error)).unwrap_or_default();
    let gd = values(&of_method(&runs, GD), error);
    let gd_medians: Vec<f64> =
        medians(&of_method(&runs, GD), error).into_iter().map(|p| p.1).collect();
    let sgd_error = median(&last);
    let flat = largest(&gd_medians) / smallest(&gd_medians);
    let holds = largest(&last) <= 1e-2 && smallest(&gd_medians) >= 100.0 * sgd_error && flat <= 1.5;
    let (verdict, note) = verdict(settings, !last.is_empty() && !gd.is_empty(), holds);
    let minimum: Vec<f64> = minimum.iter().map(|(_, i)| i.coefficient_error).collect();
    Ok(Claim {
        id: "4".to_owned(),
        sentence: "For diagonal networks SGD at a large learning rate recovers the sparse target; \
                   gradient descent does not at any learning rate."
            .to_owned(),
        source: "D2".to_owned(),
        predicate: "converged or not: SGD's ‖β − β*‖² at the largest η ≤ 1e-2 in every run; GD's \
                    median ≥ 100 × SGD's median there at every η, and flat (max/min ≤ 1.5)"
            .to_owned(),
        measured: vec![
            Measured::new("SGD, largest η: ‖β − β*‖²", &last),
            Measured::new("GD, all η: ‖β − β*‖²", &gd),
            Measured::new("GD: max/min of the medians over η", &[flat]),
            Measured::new("minimum-ℓ2 interpolator: ‖β − β*‖²", &minimum),
        ],
        runs: runs.len(),
        verdict,
        note,
    })
}

fn balance(settings: &Settings, results: &Results) -> Result<Claim, MissingCell> {
    let runs = trained(&Experiment::DiagonalBalance.cells(settings), results)?;
    let ratio = |run: &Trained<'_>| run.result.last?.balance_ratio;
    let (mut measured, mut holds, mut enough) = (Vec::new(), true, true);
    for (r0, group) in group_by(&of_method(&runs, SGD), initial_ratio) {
        let finals = values(&group, ratio);
        enough &= !finals.is_empty();
        holds &= median(&finals) <= 1.01 && largest(&finals) <= 1.05;
        measured.push(Measured::new(format!("SGD, r₀ = {r0}: final ratio"), &finals));
    }
    for (r0, group) in group_by(&of_method(&runs, GD), initial_ratio) {
        let finals = values(&group, ratio);
        enough &= !finals.is_empty();
        holds &= if r0 >= 2.0 {
            smallest(&finals) >= 0.9 * r0
        } else {
            finals.iter().all(|r| (r - 1.0).abs() <= 1e-6)
        };
        measured.push(Measured::new(format!("GD, r₀ = {r0}: final ratio"), &finals));
    }
    let (verdict, note) = verdict(settings, enough, holds);
    Ok(Claim {
        id: "5".to_owned(),
        sentence:
            "SGD noise balances the layers of diagonal networks; gradient descent keeps them \
                   unbalanced."
                .to_owned(),
        source: "D5".to_owned(),
        predicate: "SGD's final balance ratio: median ≤ 1.01 and maximum ≤ 1.05 for every initial \
                    ratio r₀; GD's ≥ 0.9 r₀ for r₀ ≥ 2, and 1 to 1e-6 for r₀ = 1"
            .to_owned(),
        measured,
        runs: runs.len(),
        verdict,
        note,
    })
}

fn norm_equivalence(settings: &Settings, results: &Results) -> Result<Claim, MissingCell> {
    let cells = norms(&Experiment::NormEquivalence.cells(settings), results)?;
    let rows: Vec<_> = cells.iter().flat_map(|(_, result)| &result.rows).collect();
    let slacks: Vec<f64> = rows.iter().map(|row| row.smallest_slack).collect();
    let errors: Vec<f64> = rows.iter().map(|row| row.largest_equality_error).collect();
    // Written so that a NaN fails.
    let holds =
        slacks.iter().all(|slack| *slack >= -1e-12) && errors.iter().all(|error| *error <= 1e-10);
    Ok(Claim {
        id: "6".to_owned(),
        sentence: "Trace, Frobenius norm and largest eigenvalue of the population matrix are \
                   equivalent to parameter norms."
            .to_owned(),
        source: "R1–R4, D1".to_owned(),
        predicate: "no inequality violated beyond rounding (1e-12); every equality, and every \
                    bound that a balanced network attains, to 1e-10"
            .to_owned(),
        measured: vec![
            Measured::new("smallest relative slack of an inequality", &slacks),
            Measured::new("largest relative error of an equality", &errors),
        ],
        runs: rows.len(),
        verdict: match (rows.is_empty(), holds) {
            (true, _) => Verdict::Undecided,
            (false, true) => Verdict::Holds,
            (false, false) => Verdict::Fails,
        },
        note: String::new(),
    })
}

/// Standard errors by which replicas may miss the exact second moments; at most 48 comparisons of the
/// default profile go beyond it by chance with probability 3e-3.
const AGREEMENT: f64 = 4.0;

fn linear_stability(settings: &Settings, results: &Results) -> Result<Claim, MissingCell> {
    let minima = linearised::studied(settings, results)?;
    let [below, .., above] = FACTORS;
    let (mut sides, mut distances, mut deviations) = (Vec::new(), Vec::new(), Vec::new());
    let (mut exact_norms, mut simulated_norms, mut norm_deviations) =
        (Vec::new(), Vec::new(), Vec::new());
    for factor in FACTORS {
        for step in SIMULATED_STEPS {
            let points = minima.iter().filter_map(|m| linearised::at(m.plain(factor)?, step));
            let mut ratios = Vec::new();
            for point in points {
                if let (Some(simulated), Some(exact)) = (point.simulated_form, point.form) {
                    ratios.push(simulated.value);
                    deviations.push(linearised::deviation(simulated, exact));
                    let distance = linearised::deviation(simulated, 1.0);
                    if factor <= below {
                        distances.push(-distance);
                    } else if factor >= above {
                        distances.push(distance);
                    }
                }
                if let Some(simulated) = point.simulated_norm_squared {
                    norm_deviations.push(linearised::deviation(simulated, point.norm_squared));
                    if factor >= above && step == linearised::LAST_SIMULATED {
                        exact_norms.push(point.norm_squared);
                        simulated_norms.push(simulated.value);
                    }
                }
            }
            if factor <= below || factor >= above {
                let label = format!("{factor} η*, {step} steps: E V(δ_t) / V(δ_0)");
                sides.push(Measured::new(label, &ratios));
            }
        }
    }
    // Every minimum must have its numbers. Written so that a NaN fails.
    let holds = distances.len() == 2 * SIMULATED_STEPS.len() * minima.len()
        && distances.iter().all(|distance| *distance > linearised::STANDARD_ERRORS)
        && deviations.iter().all(|deviation| deviation.abs() <= AGREEMENT);
    let (verdict, mut note) = verdict(settings, !minima.is_empty(), holds);
    let wrong = exact_norms.iter().filter(|norm| **norm < 1.0).count();
    if note.is_empty() {
        note = format!(
            "In the plain norm, from an isotropic start, {wrong} of {} minima look stable after {} \
             steps at {above} η*, by the exact second moments too.",
            exact_norms.len(),
            linearised::LAST_SIMULATED,
        );
    }
    let steps = linearised::LAST_SIMULATED;
    let mut measured = vec![
        Measured::new("distance of V from its start, on the predicted side, in s.e.", &distances),
        Measured::new("V, all factors: replicas less exact second moments, in s.e.", &deviations),
    ];
    measured.extend(sides);
    measured.extend([
        Measured::new(format!("{above} η*, {steps} steps: E‖δ_t‖² / E‖δ_0‖², exact"), &exact_norms),
        Measured::new("the same over replicas", &simulated_norms),
        Measured::new(
            "norm, all factors: replicas less exact second moments, in s.e.",
            &norm_deviations,
        ),
    ]);
    Ok(Claim {
        id: "8".to_owned(),
        sentence: "The exact threshold is the real one: measured in the Lyapunov function V, \
                   linearised SGD decays below it and grows above it."
            .to_owned(),
        source: "S8, S9, S14".to_owned(),
        predicate: format!(
            "replicas from random signs in the eigenbasis of Y*, after {} and {steps} steps, at every \
             minimum tried: E V(δ_t) < V(δ_0) at {below} η* and > V(δ_0) at {above} η*, beyond {} \
             standard errors (s.e.); at every factor they agree with the exact second moments \
             within {AGREEMENT}",
            SIMULATED_STEPS[0],
            linearised::STANDARD_ERRORS,
        ),
        measured,
        runs: minima.len(),
        verdict,
        note,
    })
}

fn schedule(settings: &Settings, results: &Results) -> Result<Claim, MissingCell> {
    let runs = trained(&Experiment::ReluSchedule.cells(settings), results)?;
    let (mut measured, mut holds, mut enough) = (Vec::new(), true, true);
    for (clip, group) in group_by(&runs, |run| run.spec.clip_norm) {
        let tight = clip.total_cmp(&TIGHT_CLIP).is_eq();
        let scaled = values(&group, scaled_trace);
        enough &= !scaled.is_empty();
        holds &= scaled.iter().all(|v| if tight { *v > 1.0 } else { *v <= 1.0 });
        measured.push(Measured::new(format!("clip {clip}: tr G · η₀/2 at the end"), &scaled));
    }
    let (verdict, note) = verdict(settings, enough, holds);
    Ok(Claim {
        id: "9".to_owned(),
        sentence: "Clipping gradients at 1 hides the effect, with or without decay; decay alone \
                   does not."
            .to_owned(),
        source: "S2".to_owned(),
        predicate: "tr G · η₀/2 at the end: > 1 in every run clipped at 1, ≤ 1 in every run \
                    clipped at 100"
            .to_owned(),
        measured,
        runs: runs.len(),
        verdict,
        note,
    })
}

fn batch_size(settings: &Settings, results: &Results) -> Result<Claim, MissingCell> {
    let runs = trained(&Experiment::BatchSize.cells(settings), results)?;
    let (mut measured, mut holds, mut enough) = (Vec::new(), true, true);
    for (name, runs) in batches::by_sampling(&runs) {
        let mut medians = Vec::new();
        for (size, group) in group_by(&runs, batches::batch_size) {
            let trace = |run: &Trained<'_>| Some(run.result.last?.empirical.trace);
            medians.push(median(&values(&group, trace)));
            let mut converged = group;
            converged.retain(|run| run.result.converged());
            let scaled = values(&converged, batches::scaled_trace);
            // Every run that came to rest must have a number, and that number obey the bound.
            holds &= scaled.len() == converged.len() && scaled.iter().all(|v| *v <= 1.0);
            // A single sample a step is the business of claim 1, at every learning rate.
            enough &= size <= 1.0 || !scaled.is_empty();
            measured.push(Measured::new(format!("B = {size}, {name}: tr G · pη/2"), &scaled));
        }
        holds &= medians.windows(2).all(|pair| pair[0] < pair[1]);
        let label = format!("{name}: median tr G over the batch sizes");
        measured.push(Measured::new(label, &medians));
    }
    let (verdict, note) = verdict(settings, enough, holds);
    Ok(Claim {
        id: "10".to_owned(),
        sentence:
            "The noise of larger batches bounds the trace less: at a fixed learning rate SGD \
                   finds sharper minima the larger its batches are, within the bound of each."
                .to_owned(),
        source: "S2".to_owned(),
        predicate:
            "tr G · pη/2 ≤ 1 for every converged run; for both samplings the median of tr G \
                    over the runs grows with every increase of B"
                .to_owned(),
        measured,
        runs: runs.len(),
        verdict,
        note,
    })
}

fn too_weak(settings: &Settings, results: &Results) -> Result<Claim, MissingCell> {
    let search = super::too_weak::search(settings, results)?;
    let main = search.main_sample_count;
    let (mut holds, mut enough) = (true, true);
    let mut deviations = Vec::new();
    let groups = search.of(Origin::MinimumL2);
    for (_, group) in &groups {
        let (mut errors, mut expected) = (Vec::new(), Vec::new());
        for found in group {
            let Some(result) = found.interpolator else { continue };
            let Evidence::RowSpace { rank } = result.evidence else { continue };
            errors.push(found.error);
            expected.push(1.0 - rank as f64 / found.input_dim as f64);
            holds &= result.max_norm <= result.target_max_norm;
        }
        enough &= errors.len() as u64 >= FEWEST_DESIGNS;
        let (mean, standard_error) = mean_and_standard_error(&errors);
        deviations.push((mean - mean_and_standard_error(&expected).0) / standard_error);
    }
    holds &= deviations.iter().all(|deviation| deviation.abs() <= 3.0);
    let minimum: Vec<_> = groups.into_iter().flat_map(|(_, group)| group).collect();
    let gd_edges: Vec<f64> = minimum.iter().map(|found| found.gd_edge).collect();
    let sgd_edges: Vec<f64> = minimum.iter().map(|found| found.sgd_edge).collect();
    let largest_coefficients: Vec<f64> = minimum
        .iter()
        .filter_map(|found| found.interpolator)
        .map(|result| result.max_norm / result.target_max_norm)
        .collect();
    // Written so that a NaN fails.
    holds &= gd_edges.iter().all(|edge| *edge >= 1.0);
    let errors = |origin| -> Vec<f64> {
        let found = search.found.iter();
        let chosen = found.filter(|f| f.origin == origin && f.sample_count == main);
        chosen.map(|found| found.error * search.target_norm_squared).collect()
    };
    let (pursuit, sgd) = (errors(Origin::BasisPursuit), errors(Origin::Sgd));
    enough &= !pursuit.is_empty() && !sgd.is_empty();
    holds &= pursuit.iter().all(|error| *error <= 1e-12) && sgd.iter().all(|error| *error <= 1e-2);
    let (verdict, mut note) = verdict(settings, enough, holds);
    let exact: Vec<f64> = minimum.iter().filter_map(|found| found.threshold).collect();
    let target: Vec<f64> = minimum.iter().filter_map(|found| found.target_threshold).collect();
    if note.is_empty() && !target.is_empty() {
        note = format!(
            "η₀ is where the trace condition of the population matrix turns. With the data at hand \
             the exact threshold of β* is lower, {} η₀ (median), so that SGD at η₀ is not \
             mean-square stable at β* either; that of the minimum-ℓ2 interpolator is {} η₀.",
            short_number(median(&target)),
            short_number(median(&exact)),
        );
    }
    Ok(Claim {
        id: "11".to_owned(),
        sentence: "The stability of gradient descent admits the interpolator of minimum ℓ2 norm, \
                   which misses a fixed fraction of the sparse target; basis pursuit and SGD recover \
                   the target."
            .to_owned(),
        source: "D3, D4".to_owned(),
        predicate: format!(
            "balanced minimum-ℓ2 interpolator, every design: ‖β̂‖_∞ ≤ ‖β*‖_∞ and λ_max(Ḡ) ≤ 2/η₀ at \
             η₀ = 1/(s²‖β*‖_1); its mean error is (1 − n/d)‖β*‖² within 3 standard errors at every \
             n, over at least {FEWEST_DESIGNS} designs; at n = {main} basis pursuit has ‖β − β*‖ ≤ \
             1e-6 and SGD at the largest η ‖β − β*‖² ≤ 1e-2 in every run"
        ),
        measured: vec![
            Measured::new("minimum ℓ2: ‖β̂‖_∞ / ‖β*‖_∞", &largest_coefficients),
            Measured::new("minimum ℓ2: 2/(λ_max(Ḡ) η₀), at least 1 where GD is stable", &gd_edges),
            Measured::new("minimum ℓ2: 2/(tr Ḡ η₀), below 1 where SGD is not", &sgd_edges),
            Measured::new(
                "minimum ℓ2: mean error less (1 − n/d)‖β*‖², in standard errors",
                &deviations,
            ),
            Measured::new(format!("minimum ℓ2, n = {main}: exact η*/η₀ (not judged)"), &exact),
            Measured::new(format!("β*, n = {main}: exact η*/η₀ (not judged)"), &target),
            Measured::new(format!("basis pursuit, n = {main}: ‖β − β*‖²"), &pursuit),
            Measured::new(format!("SGD, n = {main}: ‖β − β*‖²"), &sgd),
        ],
        runs: search.found.len(),
        verdict,
        note,
    })
}
