//! Claims on matrix sensing and on functions of one input, on made-up results: each must hold where
//! it should, and fail where one run breaks it.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use flatmin_experiments::cell::{
    BalancedPoint, CellResult, CellSpec, ReferenceStability, Results, SensingMeasurement,
    SensingReferenceResult, SensingResult, SensingSpec, UnivariateMeasurement, UnivariateResult,
    UnivariateSpec,
};
use flatmin_experiments::{Experiment, Profile, Settings, Verdict, claims, expand, find};
use flatmin_linalg::Sharpness;
use flatmin_optim::{Method, Outcome};

fn experiments() -> [&'static Experiment; 2] {
    ["matrix_sensing", "function_space"].map(|id| find(id).unwrap())
}

fn settings() -> Settings {
    Settings::new(Profile::Paper)
}

/// `η/η_c`.
fn factor(spec: &SensingSpec) -> f64 {
    spec.learning_rate * (spec.problem.dim * spec.problem.dim) as f64
}

fn is_near(a: f64, b: f64) -> bool {
    (a / b - 1.0).abs() < 1e-6
}

/// A run of matrix sensing as the theory wants it.
fn ideal_sensing(spec: &SensingSpec) -> SensingResult {
    let (rate, gd) = (spec.learning_rate, spec.method == Method::GradientDescent);
    let lambda_max = 0.5 / rate;
    let empirical = Sharpness { trace: 1.8 / rate, frobenius_norm: lambda_max, lambda_max };
    let last = SensingMeasurement {
        step: 1000,
        train_loss: 1e-13,
        empirical,
        threshold: (!gd).then_some(1.1 * rate),
        relative_nuclear_norm: if gd { 12.0 } else { 0.9 / factor(spec) },
        weighted_norm: 0.9 / rate,
        relative_error: if gd { 1.0 } else { 1e-4 },
        factor_ratio: 1.0,
    };
    let hovers = !gd && factor(spec) > 1.0;
    SensingResult {
        outcome: if hovers { Outcome::OutOfSteps } else { Outcome::Converged },
        steps: 1000,
        clipped_steps: 0,
        last: Some(last),
    }
}

fn ideal_references(dim: usize) -> SensingReferenceResult {
    let unit = 1.0 / (dim * dim) as f64;
    let point = |threshold: f64, edge: f64| BalancedPoint {
        weighted_norm: 1.0,
        lambda_max: 2.0 / (edge * unit),
        threshold: Some(threshold * unit),
    };
    SensingReferenceResult {
        frobenius_error: 0.65,
        nuclear_error: 1e-20,
        nuclear_gap: 0.0,
        stability: Some(ReferenceStability {
            target: point(0.94, 19.0),
            frobenius: point(0.43, 27.0),
            least_weighted_norm: 1.0 - 1e-8,
        }),
    }
}

/// A run on one input as the theory wants it: the bound is half used, and LP = 2.
fn ideal_univariate(spec: &UnivariateSpec) -> UnivariateResult {
    let (rate, gd) = (spec.learning_rate, spec.method == Method::GradientDescent);
    let trace_norm = if gd { 2.0 / rate } else { 0.4 / rate };
    let last = UnivariateMeasurement {
        step: 1000,
        train_loss: 1e-11,
        empirical: Sharpness { trace: 1.0, frobenius_norm: 1.0, lambda_max: 1.0 },
        trace_norm,
        lambda_max_norm: 0.2 / rate,
        error: 1e-4 / rate,
        error_with_outside: 1e-2,
    };
    let hovers = !gd && rate > 0.3;
    UnivariateResult {
        outcome: if hovers { Outcome::OutOfSteps } else { Outcome::Converged },
        steps: 1000,
        clipped_steps: 0,
        samples: vec![(0.0, 0.0)],
        least_trace_norm: 2.0,
        last: Some(last),
        curve: vec![0.0; 161],
    }
}

fn results(change: &mut dyn FnMut(&CellSpec, &mut CellResult)) -> Results {
    let mut results = Results::new();
    for cell in expand(&experiments(), &settings()) {
        let mut result = match &cell {
            CellSpec::Sensing(spec) => CellResult::Sensing(ideal_sensing(spec)),
            CellSpec::SensingReference(spec) => CellResult::SensingReference({
                let found = ideal_references(spec.problem.dim);
                let stability = found.stability.filter(|_| spec.with_stability);
                SensingReferenceResult { stability, ..found }
            }),
            CellSpec::Univariate(spec) => CellResult::Univariate(ideal_univariate(spec)),
            other => panic!("{}", other.label()),
        };
        change(&cell, &mut result);
        results.insert(cell.key(), result);
    }
    results
}

fn verdict(id: &str, change: &mut dyn FnMut(&CellSpec, &mut CellResult)) -> Verdict {
    let claims = claims(&experiments(), &settings(), &results(change)).unwrap();
    claims.into_iter().find(|claim| claim.id == id).unwrap().verdict
}

/// The verdict on a claim with changed runs of matrix sensing.
fn with_sensing(id: &str, change: impl Fn(&SensingSpec, &mut SensingResult)) -> Verdict {
    verdict(id, &mut |cell, result| {
        if let (CellSpec::Sensing(spec), CellResult::Sensing(result)) = (cell, result) {
            change(spec, result);
        }
    })
}

fn with_univariate(id: &str, change: impl Fn(&UnivariateSpec, &mut UnivariateResult)) -> Verdict {
    verdict(id, &mut |cell, result| {
        if let (CellSpec::Univariate(spec), CellResult::Univariate(result)) = (cell, result) {
            change(spec, result);
        }
    })
}

fn with_references(change: impl Fn(&mut ReferenceStability)) -> Verdict {
    verdict("22", &mut |_, result| {
        if let CellResult::SensingReference(found) = result
            && let Some(stability) = &mut found.stability
        {
            change(stability);
        }
    })
}

fn is_gd(method: Method) -> bool {
    method == Method::GradientDescent
}

#[test]
fn every_claim_holds_on_ideal_runs() {
    for id in 18..=26 {
        assert_eq!(verdict(&id.to_string(), &mut |_, _| {}), Verdict::Holds, "claim {id}");
    }
}

#[test]
fn one_unstable_matrix_breaks_claim_18() {
    let check = |gd: bool, change: fn(&mut SensingMeasurement, f64)| {
        let unstable = |spec: &SensingSpec, result: &mut SensingResult| {
            if is_gd(spec.method) == gd && spec.seed == 2 && factor(spec) < 0.15 {
                change(result.last.as_mut().unwrap(), spec.learning_rate);
            }
        };
        assert_eq!(with_sensing("18", unstable), Verdict::Fails);
    };
    check(false, |last, rate| last.empirical.trace = 2.1 / rate);
    check(false, |last, rate| last.weighted_norm = 1.1 / rate);
    check(true, |last, rate| last.empirical.lambda_max = 2.1 / rate);
    let hovering = |_: &SensingSpec, result: &mut SensingResult| {
        result.outcome = Outcome::OutOfSteps;
    };
    assert_eq!(with_sensing("18", hovering), Verdict::Undecided);
}

#[test]
fn norms_that_do_not_fall_break_claim_19() {
    let flat = |spec: &SensingSpec, result: &mut SensingResult| {
        if !is_gd(spec.method) {
            result.last.as_mut().unwrap().relative_nuclear_norm = 5.0 - factor(spec);
        }
    };
    assert_eq!(with_sensing("19", flat), Verdict::Fails);
    let moving = |spec: &SensingSpec, result: &mut SensingResult| {
        if is_gd(spec.method) && is_near(factor(spec), 1.0) {
            result.last.as_mut().unwrap().relative_nuclear_norm = 11.0;
        }
    };
    assert_eq!(with_sensing("19", moving), Verdict::Fails);
}

#[test]
fn one_matrix_that_is_not_recovered_breaks_claim_20_and_so_does_one_that_gd_recovers() {
    let lost = |spec: &SensingSpec, result: &mut SensingResult| {
        if !is_gd(spec.method) && is_near(factor(spec), 0.9) && spec.seed == 1 {
            result.last.as_mut().unwrap().relative_error = 0.3;
        }
    };
    assert_eq!(with_sensing("20", lost), Verdict::Fails);
    let found = |spec: &SensingSpec, result: &mut SensingResult| {
        if is_gd(spec.method) && factor(spec) > 20.0 && spec.seed == 1 {
            result.last.as_mut().unwrap().relative_error = 0.01;
        }
    };
    assert_eq!(with_sensing("20", found), Verdict::Fails);
}

#[test]
fn convergence_on_the_wrong_side_of_the_edges_breaks_claim_21() {
    let beyond = |spec: &SensingSpec, result: &mut SensingResult| {
        if !is_gd(spec.method) && spec.seed == 3 {
            result.outcome = Outcome::Converged;
        }
    };
    assert_eq!(with_sensing("21", beyond), Verdict::Fails);
    let stuck = |spec: &SensingSpec, result: &mut SensingResult| {
        if is_gd(spec.method) && is_near(factor(spec), 10.0) && spec.seed == 3 {
            result.outcome = Outcome::OutOfSteps;
        }
    };
    assert_eq!(with_sensing("21", stuck), Verdict::Fails);
}

#[test]
fn each_part_of_claim_22_can_fail() {
    let fails = |change: fn(&mut ReferenceStability)| {
        assert_eq!(with_references(change), Verdict::Fails);
    };
    let scale = |threshold: &mut Option<f64>, by: f64| *threshold = threshold.map(|edge| by * edge);
    fails(|found| found.least_weighted_norm = 0.999);
    for (by, is_target) in [(1.2, true), (1.3, false)] {
        let changed = with_references(|found| {
            let point = if is_target { &mut found.target } else { &mut found.frobenius };
            scale(&mut point.threshold, by);
        });
        assert_eq!(changed, Verdict::Fails);
    }
    fails(|found| found.frobenius.threshold = None);
    fails(|found| found.frobenius.lambda_max *= 2.0);
}

#[test]
fn one_function_that_bends_too_much_breaks_claim_23() {
    for gd in [true, false] {
        let bent = |spec: &UnivariateSpec, result: &mut UnivariateResult| {
            if is_gd(spec.method) == gd && spec.seed == 4 && spec.problem.noise > 0.0 {
                let last = result.last.as_mut().unwrap();
                let norm = if gd { &mut last.lambda_max_norm } else { &mut last.trace_norm };
                *norm = 1.1 / spec.learning_rate;
            }
        };
        assert_eq!(with_univariate("23", bent), Verdict::Fails, "GD {gd}");
    }
}

#[test]
fn bends_out_of_order_break_claim_24() {
    let rising = |spec: &UnivariateSpec, result: &mut UnivariateResult| {
        if !is_gd(spec.method) && spec.learning_rate > 0.1 && spec.problem.noise <= 0.0 {
            result.last.as_mut().unwrap().trace_norm = 10.0;
        }
    };
    assert_eq!(with_univariate("24", rising), Verdict::Fails);
    let one_seed = |spec: &UnivariateSpec, result: &mut UnivariateResult| {
        if is_gd(spec.method) && spec.seed == 0 && is_near(spec.learning_rate, 0.026_826_957) {
            result.last.as_mut().unwrap().trace_norm = 0.3 / spec.learning_rate;
        }
    };
    assert_eq!(with_univariate("24", one_seed), Verdict::Fails);
}

#[test]
fn a_flat_error_breaks_claim_25() {
    let flat = |_: &UnivariateSpec, result: &mut UnivariateResult| {
        result.last.as_mut().unwrap().error = 1e-3;
    };
    assert_eq!(with_univariate("25", flat), Verdict::Fails);
}

#[test]
fn convergence_beyond_the_least_trace_breaks_claim_26_and_so_do_flat_minima_of_gd() {
    let beyond = |spec: &UnivariateSpec, result: &mut UnivariateResult| {
        if !is_gd(spec.method) && spec.learning_rate > 0.45 && spec.seed == 1 {
            result.outcome = Outcome::Converged;
        }
    };
    assert_eq!(with_univariate("26", beyond), Verdict::Fails);
    let flat = |spec: &UnivariateSpec, result: &mut UnivariateResult| {
        if is_gd(spec.method) && spec.seed > 1 {
            result.last.as_mut().unwrap().trace_norm = 0.1;
        }
    };
    assert_eq!(with_univariate("26", flat), Verdict::Fails);
}

#[test]
fn a_diverged_run_is_shown_and_does_not_stop_the_others() {
    let results = results(&mut |cell, result| match (cell, result) {
        (CellSpec::Sensing(spec), CellResult::Sensing(result)) if factor(spec) > 30.0 => {
            (result.outcome, result.last) = (Outcome::Diverged, None);
        }
        (CellSpec::Univariate(spec), CellResult::Univariate(result)) if spec.seed == 0 => {
            (result.outcome, result.last) = (Outcome::Diverged, None);
            result.curve = Vec::new();
        }
        _ => {}
    });
    for experiment in experiments() {
        let shown = experiment.present(&settings(), &results).unwrap();
        let csv = shown.table.to_csv().unwrap();
        assert!(csv.contains("diverged") && !csv.contains("NaN"), "{experiment}");
        assert!(shown.figure.to_svg().starts_with("<svg"), "{experiment}");
    }
}
