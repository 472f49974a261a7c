//! Claims on made-up results: each must hold where it should, and fail where one run breaks it.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::LazyLock;

use flatmin_experiments::cell::{
    BatchThresholds, CellResult, CellSpec, DiagonalInitial, InterpolatorResult, InterpolatorSpec,
    Measurement, MinimizedNorm, Problem, Results, SimulatedDynamics, SimulatedPoint, SingleRuns,
    StabilityResult, StabilityStudy, StoredEdge, StoredExponent, TrainResult, TrainSpec,
};
use flatmin_experiments::{
    Claim, EXPERIMENTS, Experiment, Profile, Settings, Verdict, add_intervals, claims, expand, find,
};
use flatmin_linalg::Sharpness;
use flatmin_optim::{Method, Outcome, Sampling};
use flatmin_theory::ReplicaMean;

/// Samples per step.
fn batch_size(spec: &TrainSpec) -> usize {
    match (spec.method, spec.problem) {
        (Method::Sgd { batch_size, .. }, _) => batch_size,
        (Method::GradientDescent, Problem::Relu(problem)) => problem.sample_count,
        (Method::GradientDescent, Problem::Diagonal(problem)) => problem.sample_count,
    }
}

/// A minimum as the theory wants it, a little inside the edge.
fn ideal_study(spec: &TrainSpec) -> StabilityResult {
    let rate = spec.learning_rate;
    let single = rate * if is_relu(spec) { 1.2 - 20.0 * rate } else { 2.0 };
    let batch = |batch_size: u32| {
        let threshold = single * f64::from(batch_size).sqrt();
        let times = |factor: f64| Some(factor * threshold);
        BatchThresholds {
            batch_size: batch_size as usize,
            sampling: Sampling::WithoutReplacement,
            noise_coefficient: 1.0 / f64::from(batch_size),
            threshold_lower: times(1.0),
            threshold_upper: times(1.0 + 1e-9),
            s2: times(1.2),
            s3: times(1.4),
            s3_sharp: times(1.3),
            s4: times(1.5),
            s5: times(1.2),
            s6: times(1.1),
            s7: times(0.5),
        }
    };
    let exponent = StoredExponent { value: Some(-1e-4), standard_error: 1e-5 };
    let (lower, upper) = (Some(1.05 * single.max(rate)), Some(1.07 * single.max(rate)));
    let edge = StoredEdge { lower, upper, decided: true };
    let dynamics = match spec.study {
        StabilityStudy::None | StabilityStudy::Threshold => Vec::new(),
        StabilityStudy::Dynamics { .. } => [0.0, 0.9]
            .into_iter()
            .flat_map(|momentum| {
                [0.8, 0.95, 1.05, 1.2].map(|factor| ideal_dynamics(spec, momentum, factor))
            })
            .collect(),
    };
    StabilityResult {
        rank: 300,
        batches: [1, 8, 64].map(batch).to_vec(),
        single_runs: (!is_gd(spec)).then_some(SingleRuns { exponent, edge }),
        dynamics,
        momentum_edge: None,
    }
}

/// A run as the theory wants it.
fn ideal(spec: &TrainSpec) -> TrainResult {
    let rate = spec.learning_rate;
    let sgd = spec.method != Method::GradientDescent;
    let (mut norm, mut error, mut balance) = (1.0 / rate, None, None);
    let trace = match spec.problem {
        Problem::Relu(_) => {
            let batch = batch_size(spec) as f64;
            if spec.clip_norm < 2.0 { 10.0 / rate } else { batch.sqrt() / rate }
        }
        Problem::Diagonal(problem) => {
            norm = if sgd { 1e-3 * rate.powi(-2) } else { 100.0 };
            error = Some(if sgd { 1e-6 / rate.powi(3) } else { 400.0 });
            balance = Some(match problem.initial {
                DiagonalInitial::Unbalanced { ratio } if !sgd => ratio,
                _ => 1.0,
            });
            norm
        }
    };
    let empirical = Sharpness { trace, frobenius_norm: trace, lambda_max: 0.5 / rate };
    let last = Measurement {
        step: 1000,
        train_loss: 1e-13,
        test_loss: 1e-6 / rate.powi(2) * if sgd { 1.0 } else { 300.0 },
        empirical,
        batch_sharpness: Some(trace),
        threshold: None,
        norm,
        balance_ratio: balance,
        coefficient_error: error,
        max_gradient_norm: 1.0,
        clipped_fraction: 0.0,
    };
    TrainResult {
        outcome: Outcome::Converged,
        steps: 1000,
        clipped_steps: 0,
        zero_test_loss: 1.0,
        mean_input_norm_squared: 100.0,
        path: Vec::new(),
        last: Some(last),
        population: Some(empirical),
        study: (spec.study != StabilityStudy::None).then(|| Box::new(ideal_study(spec))),
    }
}

/// Growth at exactly the rate that the distance to the threshold says.
fn ideal_dynamics(spec: &TrainSpec, momentum: f64, factor: f64) -> SimulatedDynamics {
    let path = [0_usize, 2, 20].map(|step| {
        let exact = 1.0 + 0.01 * step as f64 * (factor - 1.0);
        let simulated = (step > 0).then_some(ReplicaMean { value: exact, standard_error: 1e-4 });
        SimulatedPoint {
            step,
            form: Some(exact),
            norm_squared: exact,
            simulated_form: simulated,
            simulated_norm_squared: simulated,
        }
    });
    let exponent = StoredExponent { value: Some(factor - 1.0), standard_error: 1e-4 };
    let threshold = spec.learning_rate;
    SimulatedDynamics { momentum, threshold, factor, exponent, path: path.to_vec() }
}

/// The experiments on the paper's own models; the others have their own tests.
fn paper() -> Vec<&'static Experiment> {
    let others = [
        "deep_sharpness",
        "progressive_sharpening",
        "estimators",
        "matrix_sensing",
        "function_space",
        "losses",
        "epochs",
        "noise_floor",
    ];
    EXPERIMENTS.iter().copied().filter(|experiment| !others.contains(&experiment.id)).collect()
}

fn experiment(id: &str) -> &'static Experiment {
    find(id).unwrap()
}

fn settings() -> Settings {
    Settings::new(Profile::Quick)
}

/// The results of cells that do not train, computed once.
static COMPUTED: LazyLock<Results> = LazyLock::new(|| {
    let cells = expand(&paper(), &settings()).into_iter();
    let computed = cells.filter(|cell| !matches!(cell, CellSpec::Train(_)));
    computed.map(|cell| (cell.key(), cell.run().unwrap())).collect()
});

fn results(change: impl Fn(&TrainSpec, &mut TrainResult)) -> Results {
    let mut results = COMPUTED.clone();
    for cell in expand(&paper(), &settings()) {
        if let CellSpec::Train(spec) = cell {
            let mut result = ideal(&spec);
            change(&spec, &mut result);
            results.insert(cell.key(), CellResult::Train(result));
        }
    }
    results
}

/// The verdict on claim 11 with changed interpolators.
fn with_interpolators(change: impl Fn(&InterpolatorSpec, &mut InterpolatorResult)) -> Verdict {
    let mut results = results(|_, _| {});
    for cell in expand(&[experiment("too_weak")], &settings()) {
        if let (CellSpec::Interpolator(spec), Some(CellResult::Interpolator(result))) =
            (&cell, results.get_mut(&cell.key()))
        {
            change(spec, result);
        }
    }
    verdicts(&results).into_iter().find(|(claim, _)| claim == "11").unwrap().1
}

fn verdicts(results: &Results) -> Vec<(String, Verdict)> {
    let claims = claims(&paper(), &settings(), results).unwrap();
    claims.into_iter().map(|claim| (claim.id, claim.verdict)).collect()
}

fn of(id: &str, change: impl Fn(&TrainSpec, &mut TrainResult)) -> Verdict {
    // Claims that one seed cannot decide.
    match id {
        "3" => {
            return alone(id, "relu_generalization", Settings::new(Profile::Paper), change).verdict;
        }
        "7" => return alone(id, "threshold", Settings::new(Profile::Paper), change).verdict,
        _ => {}
    }
    verdicts(&results(change)).into_iter().find(|(claim, _)| claim == id).unwrap().1
}

/// A claim on an experiment that only trains.
fn alone(
    id: &str,
    name: &str,
    settings: Settings,
    change: impl Fn(&TrainSpec, &mut TrainResult),
) -> Claim {
    let mut results = Results::new();
    for cell in expand(&[experiment(name)], &settings) {
        let CellSpec::Train(spec) = cell else { panic!("{name} does not only train") };
        let mut result = ideal(&spec);
        change(&spec, &mut result);
        results.insert(cell.key(), CellResult::Train(result));
    }
    let claims = claims(&[experiment(name)], &settings, &results).unwrap();
    claims.into_iter().find(|claim| claim.id == id).unwrap()
}

#[test]
fn intervals_come_from_whole_seeds() {
    // Claim 9 measures six runs of each of five seeds. Those of one seed agree, so that its 30 values
    // say no more than five: resamples of single runs would give narrower intervals.
    let (experiments, settings) = ([experiment("relu_schedule")], Settings::new(Profile::Paper));
    let mut results = Results::new();
    for cell in expand(&experiments, &settings) {
        let CellSpec::Train(spec) = cell else { panic!("relu_schedule does not only train") };
        let mut result = ideal(&spec);
        let scaled = if spec.clip_norm > 2.0 { 0.1 * (spec.seed as f64 + 1.0) } else { 2.0 };
        last(&mut result).empirical.trace = 2.0 * scaled / spec.learning_rate;
        results.insert(cell.key(), CellResult::Train(result));
    }
    let mut claims = claims(&experiments, &settings, &results).unwrap();
    assert!(claims.iter().flat_map(|claim| &claim.measured).all(|m| m.interval.is_none()));
    add_intervals(&mut claims, &experiments, &settings, &results).unwrap();
    let [tight, loose] = &claims[0].measured[..] else { panic!("claim 9 measures two values") };
    assert_eq!((tight.interval, loose.runs), (None, 30));
    let [low, high] = loose.interval.unwrap();
    assert!((low - 0.1).abs() < 1e-12 && (high - 0.5).abs() < 1e-12, "{low} {high}");
    // One seed says nothing.
    let one = Settings { seeds: 1, ..settings };
    let mut single = flatmin_experiments::claims(&experiments, &one, &results).unwrap();
    add_intervals(&mut single, &experiments, &one, &results).unwrap();
    assert!(single.iter().flat_map(|claim| &claim.measured).all(|m| m.interval.is_none()));
}

fn last(result: &mut TrainResult) -> &mut Measurement {
    result.last.as_mut().unwrap()
}

fn is_relu(spec: &TrainSpec) -> bool {
    matches!(spec.problem, Problem::Relu(_))
}

fn is_gd(spec: &TrainSpec) -> bool {
    spec.method == Method::GradientDescent
}

#[test]
fn every_claim_holds_on_ideal_runs() {
    for (id, verdict) in verdicts(&results(|_, _| {})) {
        let takes_seeds = ["3", "7"].contains(&&*id);
        let expected = if takes_seeds { Verdict::Undecided } else { Verdict::Holds };
        assert_eq!(verdict, expected, "claim {id}");
    }
    for id in ["3", "7"] {
        assert_eq!(of(id, |_, _| {}), Verdict::Holds, "claim {id}");
    }
}

#[test]
fn claims_on_medians_stay_open_with_one_seed() {
    // One run far from what the theory wants, as any single run may be.
    let stray = |spec: &TrainSpec, result: &mut TrainResult| {
        if is_gd(spec) {
            last(result).test_loss = 1e-4;
        }
        result.study.iter_mut().flat_map(|study| &mut study.batches).for_each(|b| b.s7 = None);
    };
    let check = |id: &str, name: &str, settings: Settings, needs: &str| {
        let claim = alone(id, name, settings, stray);
        assert_eq!(claim.verdict, Verdict::Undecided, "claim {id}");
        assert_eq!(claim.note, format!("To judge it takes {needs}."));
        let enough = Settings::new(Profile::Paper);
        assert_eq!(alone(id, name, enough, stray).verdict, Verdict::Fails, "claim {id}");
    };
    let quick = Settings::new(Profile::Quick);
    let seeds = "at least 5 seeds, this reproduction has 1";
    check("3", "relu_generalization", quick, seeds);
    check("7", "threshold", quick, &format!("runs of the paper's length and {seeds}"));
    let long = Settings { seeds: 1, ..Settings::new(Profile::Paper) };
    check("7", "threshold", long, seeds);
}

#[test]
fn one_unstable_minimum_breaks_claim_1_unless_the_run_did_not_converge() {
    let largest = |spec: &TrainSpec| is_relu(spec) && !is_gd(spec) && spec.clip_norm > 2.0;
    let broken = |spec: &TrainSpec, result: &mut TrainResult| {
        if largest(spec) && (spec.learning_rate - 0.01).abs() < 1e-9 {
            last(result).empirical.trace = 2.1 / spec.learning_rate;
        }
    };
    assert_eq!(of("1", broken), Verdict::Fails);
    let hovering = |spec: &TrainSpec, result: &mut TrainResult| {
        broken(spec, result);
        if !is_gd(spec) && last(result).empirical.trace * spec.learning_rate > 2.0 {
            result.outcome = Outcome::OutOfSteps;
        }
    };
    assert_eq!(of("1", hovering), Verdict::Holds);
    assert_eq!(of("1", |_, result| result.outcome = Outcome::OutOfSteps), Verdict::Undecided);
    let gd = |spec: &TrainSpec, result: &mut TrainResult| {
        if is_gd(spec) {
            last(result).empirical.lambda_max = 2.1 / spec.learning_rate;
        }
    };
    assert_eq!(of("1", gd), Verdict::Fails);
}

#[test]
fn each_other_claim_can_fail() {
    let check = |id: &str, change: &dyn Fn(&TrainSpec, &mut TrainResult)| {
        assert_eq!(of(id, change), Verdict::Fails, "claim {id}");
    };
    // The norm does not fall; gradient descent's moves.
    check("2", &|_, result| last(result).norm = 1.0);
    check("2", &|spec, result| {
        if is_gd(spec) && !is_relu(spec) {
            last(result).empirical.trace = 100.0 * (1.0 + spec.learning_rate);
        }
    });
    // SGD is no better than gradient descent.
    check("3", &|spec, result| {
        if is_gd(spec) {
            last(result).test_loss = 1e-4;
        }
    });
    // No recovery; or gradient descent recovers too.
    check("4", &|_, result| last(result).coefficient_error = Some(1.0));
    check("4", &|spec, result| {
        if is_gd(spec) {
            last(result).coefficient_error = Some(1e-4);
        }
    });
    // Unbalanced SGD, balanced gradient descent.
    check("5", &|spec, result| {
        if !is_gd(spec) {
            last(result).balance_ratio = Some(1.06);
        }
    });
    check("5", &|_, result| last(result).balance_ratio = Some(1.0));
    // Tight clipping that does find flat minima; wide clipping that does not.
    check("9", &|spec, result| last(result).empirical.trace = 1.0 / spec.learning_rate);
    check("9", &|spec, result| last(result).empirical.trace = 10.0 / spec.learning_rate);
}

#[test]
fn dynamics_on_the_wrong_side_break_claim_8() {
    let check = |expected, change: &dyn Fn(f64, &mut SimulatedPoint)| {
        let changed = |spec: &TrainSpec, result: &mut TrainResult| {
            let studied = result.study.iter_mut().filter(|_| is_relu(spec));
            for dynamics in studied.flat_map(|study| &mut study.dynamics) {
                if dynamics.momentum <= 0.0 {
                    dynamics.path.iter_mut().for_each(|point| change(dynamics.factor, point));
                }
            }
        };
        assert_eq!(of("8", changed), expected);
    };
    check(Verdict::Holds, &|_, _| {});
    // Both moved, so that they agree: growth below, no growth above.
    let moved = |point: &mut SimulatedPoint, value: f64| {
        point.form = Some(value);
        if let Some(mean) = &mut point.simulated_form {
            mean.value = value;
        }
    };
    check(Verdict::Fails, &|factor, point| {
        if factor < 0.9 && point.step == 2 {
            moved(point, 1.01);
        }
    });
    check(Verdict::Fails, &|factor, point| {
        if factor > 1.1 && point.step == 20 {
            moved(point, 0.99);
        }
    });
    // On the right side, but by too little to tell.
    check(Verdict::Fails, &|_, point| {
        if let Some(mean) = &mut point.simulated_form {
            mean.standard_error = 0.02;
        }
    });
    // Off the exact second moments; missing.
    check(Verdict::Fails, &|factor, point| {
        if factor > 1.0 && factor < 1.1 {
            point.form = point.form.map(|form| form + 1e-3);
        }
    });
    check(Verdict::Fails, &|_, point| point.simulated_form = None);
    // The plain norm is shown, not judged.
    check(Verdict::Holds, &|_, point| point.norm_squared = 0.9);
    // A run that was cut off ends at no minimum, and nothing is claimed there.
    let cut_off = |seeds: std::ops::Range<u64>| {
        move |spec: &TrainSpec, result: &mut TrainResult| {
            if is_relu(spec) && !is_gd(spec) && seeds.contains(&spec.seed) {
                result.outcome = Outcome::OutOfSteps;
            }
        }
    };
    assert_eq!(of("8", cut_off(0..5)), Verdict::Undecided);
    let one = |spec: &TrainSpec, result: &mut TrainResult| {
        cut_off(0..1)(spec, result);
        if is_relu(spec)
            && spec.seed == 0
            && let Some(study) = &mut result.study
        {
            let points = study.dynamics.iter_mut().flat_map(|dynamics| &mut dynamics.path);
            points.for_each(|point| point.form = Some(7.0));
        }
    };
    let claim = alone("8", "linear_stability", Settings::new(Profile::Paper), one);
    assert_eq!(claim.verdict, Verdict::Holds);
    assert!(claim.note.starts_with("Not judged: 2 of 6 runs"), "{}", claim.note);
}

#[test]
fn the_batch_size_law_can_fail_or_stay_open() {
    // Above the bound of every batch, though growing; then below it, but not growing.
    let sharp = |spec: &TrainSpec, result: &mut TrainResult| {
        if is_relu(spec) && !is_gd(spec) && batch_size(spec) > 1 {
            last(result).empirical.trace = 2.5 * batch_size(spec) as f64 / spec.learning_rate;
        }
    };
    assert_eq!(of("10", sharp), Verdict::Fails);
    let flat = |spec: &TrainSpec, result: &mut TrainResult| {
        last(result).empirical.trace = 1.0 / spec.learning_rate;
    };
    assert_eq!(of("10", flat), Verdict::Fails);
    let hovering = |spec: &TrainSpec, result: &mut TrainResult| {
        if batch_size(spec) == 16 {
            result.outcome = Outcome::OutOfSteps;
        }
    };
    assert_eq!(of("10", hovering), Verdict::Undecided);
}

/// Changes what is known of batches of one size at every minimum.
fn batches(
    size: usize,
    change: impl Fn(&mut BatchThresholds),
) -> impl Fn(&TrainSpec, &mut TrainResult) {
    move |_, result| {
        let batches = result.study.iter_mut().flat_map(|study| &mut study.batches);
        batches.filter(|batch| batch.batch_size == size).for_each(&change);
    }
}

#[test]
fn each_link_in_the_order_of_thresholds_can_break() {
    let check = |name: &str, size: usize, change: fn(&mut BatchThresholds)| {
        assert_eq!(of("7", batches(size, change)), Verdict::Fails, "{name}, B = {size}");
    };
    for size in [1, 8, 64] {
        check("S7 beyond η*", size, |b| b.s7 = b.threshold_upper.map(|upper| 1.0001 * upper));
        check("S6 below η*", size, |b| b.s6 = b.threshold_lower.map(|lower| 0.9999 * lower));
        check("S2 below S6", size, |b| b.s2 = b.s6.map(|s6| 0.9999 * s6));
        check("S3 sharp below S6", size, |b| b.s3_sharp = b.s6.map(|s6| 0.9999 * s6));
        check("S5 below S6", size, |b| b.s5 = b.s6.map(|s6| 0.9999 * s6));
        check("S3 below its sharp form", size, |b| b.s3 = b.s3_sharp.map(|s3| 0.9999 * s3));
        check("S4 below η*", size, |b| b.s4 = b.threshold_lower.map(|lower| 0.9999 * lower));
        check("an infinite S7", size, |b| b.s7 = None);
    }
    check("η* falls with B", 8, |b| {
        for rate in [&mut b.threshold_lower, &mut b.threshold_upper, &mut b.s7] {
            *rate = rate.map(|rate| 0.1 * rate);
        }
    });
    // A bound that never turns is a bound.
    assert_eq!(of("7", batches(8, |b| (b.s2, b.s4) = (None, None))), Verdict::Holds);
    // Inside the interval nothing is known to be out of order.
    let inside = |b: &mut BatchThresholds| b.s7 = b.threshold_upper;
    assert_eq!(of("7", batches(8, inside)), Verdict::Holds);
}

#[test]
fn where_sgd_stops_can_break_claim_7_or_leave_it_open() {
    let scale = |rate: f64, factor: f64| {
        move |spec: &TrainSpec, result: &mut TrainResult| {
            let sgd = is_relu(spec) && !is_gd(spec);
            if sgd && (spec.learning_rate / rate - 1.0).abs() < 0.01 {
                let batches = result.study.iter_mut().flat_map(|study| &mut study.batches);
                for b in batches {
                    let [lower, upper] = [&mut b.threshold_lower, &mut b.threshold_upper];
                    for bound in [lower, upper, &mut b.s2, &mut b.s3, &mut b.s3_sharp] {
                        *bound = bound.map(|bound| factor * bound);
                    }
                    for bound in [&mut b.s4, &mut b.s5, &mut b.s6, &mut b.s7] {
                        *bound = bound.map(|bound| factor * bound);
                    }
                }
            }
        }
    };
    // η*/η is 1.128 at 0.003594 and 1 at 0.01.
    assert_eq!(of("7", scale(0.01, 0.9)), Verdict::Holds);
    assert_eq!(of("7", scale(0.01, 1.2)), Verdict::Fails, "rises");
    assert_eq!(of("7", scale(0.01, 0.8)), Verdict::Fails, "a low median");
    assert_eq!(of("7", scale(0.003_594, 1.5)), Verdict::Fails, "a run far inside the edge");
    assert_eq!(of("7", scale(1.292e-3, 5.0)), Verdict::Holds, "smaller rates are not judged");

    let exponent = |value: f64, outcome: Outcome| {
        move |spec: &TrainSpec, result: &mut TrainResult| {
            if is_relu(spec) && !is_gd(spec) {
                result.outcome = outcome;
                if let Some(runs) = result.study.as_mut().and_then(|s| s.single_runs.as_mut()) {
                    runs.exponent.value = Some(value);
                }
            }
        }
    };
    // The standard error is 1e-5.
    assert_eq!(of("7", exponent(2.9e-5, Outcome::Converged)), Verdict::Holds);
    assert_eq!(of("7", exponent(3.1e-5, Outcome::Converged)), Verdict::Fails);
    assert_eq!(of("7", exponent(f64::NAN, Outcome::Converged)), Verdict::Fails);
    assert_eq!(of("7", exponent(1.0, Outcome::OutOfSteps)), Verdict::Undecided);
    // A minimum that was not studied is not passed over.
    let without_study = |spec: &TrainSpec, result: &mut TrainResult| {
        if is_relu(spec) && is_gd(spec) && spec.learning_rate > 0.09 {
            result.study = None;
        }
    };
    assert_eq!(of("7", without_study), Verdict::Fails);
    let without_exponent = |_: &TrainSpec, result: &mut TrainResult| {
        if let Some(study) = &mut result.study {
            study.single_runs = None;
        }
    };
    assert_eq!(of("7", without_exponent), Verdict::Fails);
}

#[test]
fn the_comparison_of_interpolators_can_fail() {
    assert_eq!(with_interpolators(|_, _| {}), Verdict::Holds);
    let check = |norm: MinimizedNorm, change: &dyn Fn(&mut InterpolatorResult)| {
        let changed = |spec: &InterpolatorSpec, result: &mut InterpolatorResult| {
            if spec.minimizes == norm {
                change(result);
            }
        };
        assert_eq!(with_interpolators(changed), Verdict::Fails, "{norm:?}");
    };
    // Unstable for gradient descent at η₀ = 1; a coefficient too large; an error off by a
    // twentieth.
    check(MinimizedNorm::L2, &|result| result.population.lambda_max = 2.1);
    check(MinimizedNorm::L2, &|result| result.max_norm = 1.1);
    check(MinimizedNorm::L2, &|result| result.coefficient_error *= 1.05);
    // Exact thresholds are shown, not judged.
    assert_eq!(with_interpolators(|_, result| result.thresholds = None), Verdict::Holds);
    // No recovery by basis pursuit, or by SGD.
    check(MinimizedNorm::L1, &|result| result.coefficient_error = 1e-8);
    let lost = |spec: &TrainSpec, result: &mut TrainResult| {
        if !is_gd(spec) && !is_relu(spec) {
            last(result).coefficient_error = Some(0.1);
        }
    };
    assert_eq!(of("11", lost), Verdict::Fails);
}

#[test]
fn a_violated_norm_theorem_breaks_claim_6() {
    for break_slack in [true, false] {
        let mut results = results(|_, _| {});
        for result in results.values_mut() {
            if let CellResult::Norms(norms) = result {
                if break_slack {
                    norms.rows[1].smallest_slack = -1e-9;
                } else {
                    norms.rows[1].largest_equality_error = f64::NAN;
                }
            }
        }
        let claims = claims(&[experiment("norm_equivalence")], &settings(), &results).unwrap();
        assert_eq!(claims.len(), 1, "only the claim whose experiment was asked for");
        assert_eq!(claims[0].verdict, Verdict::Fails, "slack {break_slack}");
    }
}

#[test]
fn a_diverged_run_is_shown_and_does_not_stop_the_others() {
    let results = results(|spec, result| {
        if is_relu(spec) && is_gd(spec) && spec.learning_rate > 0.09 {
            result.outcome = Outcome::Diverged;
            (result.last, result.population, result.study) = (None, None, None);
        }
    });
    for experiment in paper() {
        let shown = experiment.present(&settings(), &results).unwrap();
        let csv = shown.table.to_csv().unwrap();
        assert!(!csv.contains("NaN"), "{experiment}");
        assert!(shown.figure.to_svg().starts_with("<svg"), "{experiment}");
    }
    let sharpness = experiment("relu_sharpness").present(&settings(), &results).unwrap();
    assert!(sharpness.table.to_csv().unwrap().contains("diverged"));
}

#[test]
fn a_missing_cell_is_named() {
    let error = experiment("relu_sharpness").present(&settings(), &Results::new()).unwrap_err();
    assert!(error.label.contains("ReLU SGD B=1"), "{error}");
}

#[test]
fn shared_runs_are_trained_once() {
    for profile in Profile::ALL {
        let settings = Settings::new(profile);
        let keys = |id: &str| -> Vec<_> {
            experiment(id).cells(&settings).iter().map(CellSpec::key).collect()
        };
        let grid = keys("relu_sharpness");
        let shared = |id: &str| keys(id).iter().filter(|key| grid.contains(key)).count() as u64;
        // SGD and gradient descent at the largest level are followed along training.
        assert_eq!(shared("relu_dynamics"), 2 * settings.seeds, "{profile}");
        // Thresholds are those of the minima on the two grids.
        let grids = [experiment("relu_sharpness"), experiment("diagonal_sharpness")];
        let with_thresholds = [&grids[..], &[experiment("threshold")]].concat();
        assert_eq!(expand(&with_thresholds, &settings), expand(&grids, &settings), "{profile}");
        // A single sample a step is what the batch sizes start from.
        assert_eq!(shared("batch_size"), settings.seeds, "{profile}");
        // The plain run at the largest level is the schedule's reference.
        assert_eq!(shared("relu_schedule"), settings.seeds, "{profile}");
        // Both methods at the largest learning rate, and both interpolators.
        let diagonal = keys("diagonal_generalization");
        let too_weak = keys("too_weak");
        let shared = too_weak.iter().filter(|key| diagonal.contains(key)).count() as u64;
        assert_eq!(shared, 4 * settings.seeds, "{profile}");
    }
}
