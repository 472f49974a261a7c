//! Matrix sensing: trace and nuclear norm, largest eigenvalue and spectral norm.

use crate::prelude::*;
use crate::protocol::sensing::{self, TOP_RATE, UNSTABLE_RATE};

pub(super) static EXPERIMENT: Experiment = Experiment {
    id: "matrix_sensing",
    title: "Matrix sensing: the same story for a third model",
    shows: "In matrix sensing the trace is the nuclear norm of the matrix and the largest eigenvalue \
            its spectral norm (F2, F4). On given measurements the trace bounds ‖√A W √B‖_{*}, A = \
            mean X_{i}X_{i}ᵀ and B = mean X_{i}ᵀX_{i} (F5). SGD at large learning rates recovers a \
            matrix of rank 1 from a third of the measurements that its entries would need; gradient \
            descent does not at any learning rate. The exact threshold of the balanced interpolator \
            of minimum Frobenius norm is far below that of M*, yet gradient descent is stable there \
            at larger learning rates than at M*: its condition prefers the wrong one.\n\nBeyond its \
            edge gradient descent is thrown to flatter matrices too; it stays far from M* all the \
            same.",
    how: sensing::words,
    cells: sensing::cells,
    present,
    claims: &[
        ClaimRule::new(
            18,
            "In matrix sensing the minima of SGD have tr G ≤ 2/η, hence η‖√A W √B‖_{*} ≤ 1, and \
             those of gradient descent have λ_{max} ≤ 2/η.",
            "S1, S2, F5",
            judge_stable,
        ),
        ClaimRule::new(
            19,
            "The nuclear norm that SGD ends with falls with the learning rate; that of gradient \
             descent hardly moves up to η_c.",
            "F2, F4",
            judge_norms,
        ),
        ClaimRule::new(
            20,
            "SGD near the edge of M* recovers it, converged or not; gradient descent does not at any \
             learning rate.",
            "F2",
            judge_recovery,
        ),
        ClaimRule::new(
            21,
            "SGD does not converge beyond the edge of M*; gradient descent does at a learning rate \
             ten times as large.",
            "F4, F5",
            judge_edges,
        ),
        ClaimRule::new(
            22,
            "M* has the least weighted nuclear norm of all interpolators; the interpolator of least \
             Frobenius norm is stable for gradient descent at larger learning rates than M*, and for \
             SGD at much smaller ones.",
            "F4, F5",
            judge_references,
        ),
    ],
};

/// The smallest error drawn. Those of the interpolator of least nuclear norm are rounding.
const SMALLEST_DRAWN: f64 = 1e-10;

type Run<'r> = SensingRun<'r>;

impl SensingRun<'_> {
    /// `η/η_c`.
    fn factor(&self) -> f64 {
        self.spec.learning_rate / self.spec.problem.critical_rate()
    }

    fn last(&self, value: fn(&SensingMeasurement) -> f64) -> Option<f64> {
        self.result.last.as_ref().map(value)
    }

    fn scaled_trace(&self) -> Option<f64> {
        Some(self.last(|m| m.empirical.trace)? * self.spec.learning_rate / 2.0)
    }

    fn scaled_lambda_max(&self) -> Option<f64> {
        Some(self.last(|m| m.empirical.lambda_max)? * self.spec.learning_rate / 2.0)
    }

    /// The part of the edge that its method has: `tr G · η/2` for SGD, `λ_max · η/2` for GD.
    fn edge_share(&self) -> Option<f64> {
        if self.spec.method == GD { self.scaled_lambda_max() } else { self.scaled_trace() }
    }

    fn scaled_weighted_norm(&self) -> Option<f64> {
        Some(self.last(|m| m.weighted_norm)? * self.spec.learning_rate)
    }

    fn nuclear_norm(&self) -> Option<f64> {
        self.last(|m| m.relative_nuclear_norm)
    }

    fn error(&self) -> Option<f64> {
        self.last(|m| m.relative_error)
    }

    fn relative_threshold(&self) -> Option<f64> {
        Some(self.result.last?.threshold? / self.spec.learning_rate)
    }

    fn is_at(&self, factor: f64) -> bool {
        (self.factor() / factor - 1.0).abs() < 1e-9
    }
}

/// The number of samples of the main setting, in which exact thresholds are computed.
fn main_samples(cells: &FinishedCells<'_>) -> usize {
    let main = cells.sensing_references.iter().find(|found| found.spec.with_stability);
    main.map_or(0, |found| found.spec.problem.sample_count)
}

/// The runs with the number of samples of the main setting.
fn main_runs<'r>(cells: &FinishedCells<'r>) -> Vec<Run<'r>> {
    let count = main_samples(cells);
    only(&cells.sensing, |run| run.spec.problem.sample_count == count)
}

fn stabilities(cells: &FinishedCells<'_>) -> Vec<(ReferenceStability, f64)> {
    let found = cells.sensing_references.iter();
    found
        .filter_map(|found| Some((found.result.stability?, found.spec.problem.critical_rate())))
        .collect()
}

fn present(cells: &FinishedCells<'_>) -> Presentation {
    let runs = main_runs(cells);
    let count = main_samples(cells);
    let references = only_main(&cells.sensing_references, count);
    let frobenius = values(&references, |r| Some(r.result.frobenius_error));
    let panels = vec![
        factor_panel(
            &runs,
            "Share of the edge",
            "tr G · η/2 (SGD), λ_{max} · η/2 (GD)",
            Run::edge_share,
            vec![Reference::horizontal("edge (S1, S2)", 1.0)],
        ),
        factor_panel(
            &runs,
            "Nuclear norm",
            "‖W‖_{*} / ‖M*‖_{*}",
            Run::nuclear_norm,
            vec![Reference::horizontal("M*", 1.0)],
        ),
        factor_panel(
            &runs,
            "Distance to M*",
            "‖W − M*‖² / ‖M*‖²",
            Run::error,
            // Another name than that of the series in the panel against n: the legend has both.
            vec![Reference::horizontal("interpolator of least ‖W‖_{F}", median(&frobenius))],
        ),
        factor_panel(
            &runs,
            "Weighted nuclear norm (F5)",
            "η‖√A W √B‖_{*}",
            Run::scaled_weighted_norm,
            vec![Reference::horizontal("bound of SGD", 1.0)],
        ),
        samples_panel(cells),
        stability_panel(cells),
    ];
    let title = "SGD recovers M* near its edge; GD stays far from it at every learning rate";
    Presentation {
        table: table(cells),
        figure: Figure::new(title, RUNS_NOTE, 3, panels),
        summary: summary(&runs),
    }
}

/// Dots and medians of a value against the learning rate.
fn factor_panel<'r>(
    runs: &[Run<'r>],
    title: &str,
    label: &str,
    value: impl Fn(&Run<'r>) -> Option<f64>,
    references: Vec<Reference>,
) -> Panel {
    let series = by_method(runs, Run::factor, value);
    Panel::new(title, Axis::log("learning rate η/η_{c}"), Axis::log(label), series, references)
}

fn only_main<'r>(found: &[SensingReference<'r>], count: usize) -> Vec<SensingReference<'r>> {
    only(found, |found| found.spec.problem.sample_count == count)
}

/// Says that no run of gradient descent on the same measurements has a smaller error.
fn is_best(run: &Run<'_>, runs: &[Run<'_>]) -> bool {
    let is_same = |other: &Run<'_>| {
        (other.spec.problem, other.spec.seed) == (run.spec.problem, run.spec.seed)
            && other.spec.method == run.spec.method
    };
    let errors = values(&only(runs, is_same), Run::error);
    run.error().is_some_and(|error| error <= smallest(&errors))
}

/// The error of trained matrices and of both interpolators against the number of samples.
fn samples_panel(cells: &FinishedCells<'_>) -> Panel {
    // Seeds for which the number of samples varies.
    let main = main_samples(cells);
    let varied = only(&cells.sensing, |run| run.spec.problem.sample_count != main);
    let is_varied = |seed: u64| varied.iter().any(|run| run.spec.seed == seed);
    let trained = only(&cells.sensing, |run| {
        let is_shown =
            if run.spec.method == GD { is_best(run, &cells.sensing) } else { run.is_at(TOP_RATE) };
        is_shown && is_varied(run.spec.seed)
    });
    let error = |run: &Run<'_>| Some(run.error()?.max(SMALLEST_DRAWN));
    let mut series = by_method(&trained, |run| run.spec.problem.sample_count as f64, error);
    for (label, style, is_nuclear) in
        [("least Frobenius norm", Style(2), false), ("least nuclear norm", Style(3), true)]
    {
        let value = |r: &SensingReferenceResult| {
            if is_nuclear { r.nuclear_error } else { r.frobenius_error }
        };
        let groups = group_by(&cells.sensing_references, |r| r.spec.problem.sample_count as f64);
        let errors = groups.into_iter().map(|(count, found)| {
            (count, values(&found, |r| Some(value(r.result).max(SMALLEST_DRAWN))))
        });
        series.extend(centres_with_bars(errors, label, style, ("median", median)));
    }
    let [x, y] = ["number n of measurements", "‖W − M*‖² / ‖M*‖²"].map(Axis::log);
    let title = format!("Recovery against n, SGD at {TOP_RATE} η_{{c}}, GD at its best");
    Panel::new(title, x, y, series, Vec::new())
}

/// The learning rates up to which the two interpolators are stable.
fn stability_panel(cells: &FinishedCells<'_>) -> Panel {
    let stabilities = stabilities(cells);
    let points = |value: fn(&BalancedPoint) -> Option<f64>| -> Vec<(f64, f64)> {
        let points = stabilities.iter().flat_map(|(found, unit)| {
            let both = [(0.0, found.target), (1.0, found.frobenius)];
            both.map(|(at, point)| Some((at, value(&point)? / unit)))
        });
        points.flatten().collect()
    };
    let series = vec![
        Series::new("SGD", SGD_STYLE, Mark::Points, points(|point| point.threshold)),
        Series::new("GD", GD_STYLE, Mark::Points, points(|point| Some(2.0 / point.lambda_max))),
    ];
    let words = Axis::categories("interpolator, balanced", &["M*", "least Frobenius norm"]);
    Panel::new(
        "Largest stable learning rate, exact",
        words,
        Axis::log("η*/η_{c} (SGD), 2/(λ_{max} η_{c}) (GD)"),
        series,
        vec![Reference::horizontal("η_{c}", 1.0)],
    )
}

fn table(cells: &FinishedCells<'_>) -> Table {
    table!(&cells.sensing, |run| {
        "method", "word", "SGD (batch size 1) or GD" => run.method_name();
        "samples", "samples", "number n of measurements" => run.spec.problem.sample_count;
        "learning_rate", "1", "learning rate η" => run.spec.learning_rate;
        "rate_factor", "1", "η/η_c" => run.factor();
        "seed", "seed", "seed of target, measurements, start and batches" => run.spec.seed;
        "outcome", "word", "converged, out_of_steps or diverged" => outcome_name(run.result.outcome);
        "steps", "steps", "steps done" => run.result.steps;
        "clipped_steps", "steps", "steps whose gradient was clipped" => run.result.clipped_steps;
        "train_loss", "loss", "(1/2n) Σ r_i² on the training data" => run.last(|m| m.train_loss);
        "trace", "sharpness", "tr G, empirical Gauss–Newton matrix"
            => run.last(|m| m.empirical.trace);
        "frobenius_norm", "sharpness", "Frobenius norm of G"
            => run.last(|m| m.empirical.frobenius_norm);
        "lambda_max", "sharpness", "largest eigenvalue of G"
            => run.last(|m| m.empirical.lambda_max);
        "threshold", "1", "exact η* of SGD, to 1e-6, where it was computed"
            => run.result.last.and_then(|m| m.threshold);
        "relative_nuclear_norm", "1", "‖W‖_* over that of the target" => run.nuclear_norm();
        "weighted_norm", "norm", "‖√A W √B‖_*" => run.last(|m| m.weighted_norm);
        "relative_error", "1", "‖W − M*‖² over ‖M*‖²" => run.error();
        "factor_ratio", "1", "‖U‖² over ‖V‖²" => run.last(|m| m.factor_ratio);
    })
}

fn summary(runs: &[Run<'_>]) -> Table {
    table!(&RunGroup::all(runs, [SGD, GD], Run::factor), |g| {
        "method", "word", "SGD (batch size 1) or GD" => method_name(g.method);
        "rate_factor", "1", "η/η_c" => g.key;
        "converged", "runs", "runs that met the stopping rule" => at_rest(&g.runs).len();
        "runs", "runs", "runs" => g.runs.len();
        "steps", "steps", "median of the steps done" => g.median(|run| Some(run.result.steps as f64));
        "scaled_trace", "1", "median of tr G · η/2" => g.median(Run::scaled_trace);
        "scaled_lambda_max", "1", "median of λ_max · η/2" => g.median(Run::scaled_lambda_max);
        "relative_nuclear_norm", "1", "median of ‖W‖_* over that of the target"
            => g.median(Run::nuclear_norm);
        "relative_error", "1", "median of ‖W − M*‖² over ‖M*‖²" => g.median(Run::error);
        "relative_threshold", "1", "median of η*/η" => g.median(Run::relative_threshold);
    })
}

fn judge_stable(cells: &FinishedCells<'_>) -> Judgement {
    let runs = main_runs(cells);
    let mut judgement = Judgement::new(
        "every converged run of SGD: tr G · η/2 ≤ 1 and η‖√A W √B‖_{*} ≤ 1; of gradient descent: \
         λ_{max} · η/2 ≤ 1.01",
        runs.len(),
    );
    let [sgd, gd] = [SGD, GD].map(|method| at_rest(&of_method(&runs, method)));
    judgement.need_runs(!sgd.is_empty() && !gd.is_empty());
    let parts = [
        ("SGD: tr G · η/2", values(&sgd, Run::scaled_trace), sgd.len(), 1.0),
        ("SGD: η‖√A W √B‖_{*}", values(&sgd, Run::scaled_weighted_norm), sgd.len(), 1.0),
        ("GD: λ_{max} · η/2", values(&gd, Run::scaled_lambda_max), gd.len(), 1.01),
    ];
    for (quantity, found, count, most) in parts {
        judgement.require(found.len() == count);
        judgement.at_most(quantity, largest(&found), most);
        judgement.measure(quantity, &found);
    }
    judgement
}

fn judge_norms(cells: &FinishedCells<'_>) -> Judgement {
    let runs = main_runs(cells);
    let mut judgement = Judgement::new(
        "SGD up to .9 η_{c}: the medians of ‖W‖_{*} fall with η (Spearman = −1), max/min ≥ 5; GD up \
         to η_{c}: max/min of the medians ≤ 1.05",
        runs.len(),
    );
    let of = |method, most: f64| {
        let chosen = only(&of_method(&runs, method), |run| run.factor() <= most * (1.0 + 1e-9));
        let groups = group_by(&chosen, Run::factor).into_iter();
        let medians = groups.filter_map(|(f, g)| Some((f, median_value(&g, Run::nuclear_norm)?)));
        medians.collect::<Vec<(f64, f64)>>()
    };
    let (sgd, gd) = (of(SGD, TOP_RATE), of(GD, 1.0));
    judgement.need_runs(sgd.len() >= 3 && gd.len() >= 2);
    let ratio = |medians: &[(f64, f64)]| {
        let norms: Vec<f64> = medians.iter().map(|(_, norm)| *norm).collect();
        largest(&norms) / smallest(&norms)
    };
    let (correlation, fall, flat) = (spearman(&sgd), ratio(&sgd), ratio(&gd));
    judgement.require(correlation <= -1.0 + 1e-12);
    judgement.at_least("SGD: max/min of the medians", fall, 5.0);
    judgement.at_most("GD up to η_{c}: max/min less 1", flat - 1.0, 0.05);
    judgement.measure("SGD: Spearman of η and the medians", &[correlation]);
    judgement.measure("SGD: max/min of the medians", &[fall]);
    judgement.measure("GD up to η_{c}: max/min of the medians", &[flat]);
    judgement
}

fn judge_recovery(cells: &FinishedCells<'_>) -> Judgement {
    let runs = main_runs(cells);
    let mut judgement = Judgement::new(
        "SGD at .9 η_{c}, converged or not: median of ‖W − M*‖²/‖M*‖² ≤ .01, every run ≤ .2; every run of GD: ≥ \
         .02, and at every η the median ≥ 50 × that of SGD at .9 η_{c}",
        runs.len(),
    );
    let top = only(&of_method(&runs, SGD), |run| run.is_at(TOP_RATE));
    let gd = of_method(&runs, GD);
    let (top_errors, gd_errors) = (values(&top, Run::error), values(&gd, Run::error));
    let groups = group_by(&gd, Run::factor).into_iter();
    let medians: Vec<f64> =
        groups.filter_map(|(_, group)| median_value(&group, Run::error)).collect();
    judgement.need_runs(!top_errors.is_empty() && !gd_errors.is_empty());
    judgement.require(top_errors.len() == top.len());
    judgement.at_most("SGD at .9 η_{c}: median relative error", median(&top_errors), 0.01);
    judgement.at_most("SGD at .9 η_{c}: relative error", largest(&top_errors), 0.2);
    judgement.at_least("GD: relative error", smallest(&gd_errors), 0.02);
    judgement.at_least("GD over SGD", smallest(&medians) / median(&top_errors), 50.0);
    judgement.measure("SGD at .9 η_{c}: relative error", &top_errors);
    judgement.measure("GD, all η: relative error", &gd_errors);
    judgement.measure("GD: medians over SGD's at .9 η_{c}", &medians_over(&medians, &top_errors));
    judgement
}

fn medians_over(medians: &[f64], errors: &[f64]) -> Vec<f64> {
    medians.iter().map(|value| value / median(errors)).collect()
}

fn judge_edges(cells: &FinishedCells<'_>) -> Judgement {
    let runs = main_runs(cells);
    let beyond = only(&of_method(&runs, SGD), |run| run.is_at(UNSTABLE_RATE));
    let gd = only(&of_method(&runs, GD), |run| run.is_at(10.0));
    let mut judgement = Judgement::new(
        "no run of SGD converges at 1.3 η_{c}; every run of gradient descent does at 10 η_{c}",
        beyond.len() + gd.len(),
    );
    judgement.need_runs(!beyond.is_empty() && !gd.is_empty());
    judgement.require(at_rest(&beyond).is_empty() && at_rest(&gd).len() == gd.len());
    let share = |runs: &[Run<'_>]| [at_rest(runs).len() as f64 / runs.len() as f64];
    judgement.measure("SGD at 1.3 η_{c}: share of converged runs", &share(&beyond));
    judgement.measure("GD at 10 η_{c}: share of converged runs", &share(&gd));
    judgement
}

fn judge_references(cells: &FinishedCells<'_>) -> Judgement {
    let stabilities = stabilities(cells);
    let mut judgement = Judgement::new(
        "every design: ‖√A M* √B‖_{*} is the least of all interpolators to 1e-6, by a dual \
         certificate; η* of the balanced M* in [.8, 1.1] η_{c}; η* of the balanced interpolator \
         of least Frobenius norm ≤ .55 η_{c}, while its 2/λ_{max} is larger than that of M*",
        stabilities.len(),
    );
    judgement.need_runs(!stabilities.is_empty());
    let values = |value: fn(&ReferenceStability) -> f64| -> Vec<f64> {
        stabilities.iter().map(|(found, _)| value(found)).collect()
    };
    let edges = |value: fn(&ReferenceStability) -> Option<f64>| -> Vec<f64> {
        stabilities.iter().map(|(found, unit)| value(found).unwrap_or(f64::NAN) / unit).collect()
    };
    let excess = values(|r| r.target.weighted_norm / r.least_weighted_norm - 1.0);
    let target = edges(|r| r.target.threshold);
    let frobenius = edges(|r| r.frobenius.threshold);
    let gd_target = edges(|r| Some(2.0 / r.target.lambda_max));
    let gd_frobenius = edges(|r| Some(2.0 / r.frobenius.lambda_max));
    judgement.require(within(&excess, [-1e-9, 1e-6]));
    judgement.all_within("η*/η_{c} at M*", &target, [0.8, 1.1]);
    judgement.require(frobenius.iter().all(|value| *value > 0.0));
    judgement.at_most("η*/η_{c} at least Frobenius norm", largest(&frobenius), 0.55);
    for (target, other) in gd_target.iter().zip(&gd_frobenius) {
        judgement.at_least(
            "2/λ_{max} at least Frobenius norm over that at M*",
            other / target,
            1.0,
        );
    }
    judgement.measure("weighted norm of M* over the proved least, less 1", &excess);
    judgement.measure("η*/η_{c} at M*", &target);
    judgement.measure("η*/η_{c} at least Frobenius norm", &frobenius);
    judgement.measure("2/(λ_{max} η_{c}) at M*", &gd_target);
    judgement.measure("2/(λ_{max} η_{c}) at least Frobenius norm", &gd_frobenius);
    judgement
}
