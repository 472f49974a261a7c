//! Claims on deep networks, on made-up results: each must hold where it should, and fail where one
//! run breaks it.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use flatmin_experiments::cell::{
    CellResult, CellSpec, DeepMeasurement, DeepResult, DeepSpec, Results,
};
use flatmin_experiments::{Claim, Experiment, Profile, Settings, Verdict, claims, expand, find};
use flatmin_linalg::Sharpness;
use flatmin_optim::{Method, Outcome};

fn experiments() -> [&'static Experiment; 2] {
    ["deep_sharpness", "progressive_sharpening"].map(|id| find(id).unwrap())
}

fn is_gd(spec: &DeepSpec) -> bool {
    spec.method == Method::GradientDescent
}

fn is_followed(spec: &DeepSpec) -> bool {
    spec.checkpoints_per_decade > 0
}

/// A run as the theory wants it: gradient descent meets its edge from η = 0.1 up, SGD ends at its
/// own.
fn ideal(spec: &DeepSpec) -> DeepResult {
    let rate = spec.learning_rate;
    let point = |step, share: f64| {
        let natural = 20.0_f64;
        let lambda_max = if is_gd(spec) { share * natural.min(2.0 / rate) } else { 1.0 };
        let trace = if is_gd(spec) { 10.0 * natural } else { (1.2 / rate).min(1.0 / rate + 1.0) };
        DeepMeasurement {
            step,
            train_loss: 1e-6,
            test_loss: 1e-2,
            empirical: Sharpness { trace, frobenius_norm: lambda_max, lambda_max },
            hessian_lambda_max: is_followed(spec).then_some(lambda_max),
            batch_sharpness: Some(trace),
            threshold: (!is_gd(spec)).then_some(1.1 * rate),
            norm: 10.0,
            clipped_fraction: 0.0,
        }
    };
    let path = if is_followed(spec) {
        vec![
            point(0, 0.5),
            point(spec.max_steps / 20, 1.0 + 1e-3),
            point(spec.max_steps / 2, 0.999),
        ]
    } else {
        Vec::new()
    };
    DeepResult {
        outcome: Outcome::Converged,
        steps: spec.max_steps,
        zero_test_loss: 1.0,
        path,
        last: Some(point(spec.max_steps, 1.0 - 1e-6)),
    }
}

fn of(id: &str, change: impl Fn(&DeepSpec, &mut DeepResult)) -> Verdict {
    claim(id, Profile::Paper, change).verdict
}

fn claim(id: &str, profile: Profile, change: impl Fn(&DeepSpec, &mut DeepResult)) -> Claim {
    let settings = Settings::new(profile);
    let mut results = Results::new();
    for cell in expand(&experiments(), &settings) {
        if let CellSpec::Deep(spec) = cell {
            let mut result = ideal(&spec);
            change(&spec, &mut result);
            results.insert(cell.key(), CellResult::Deep(result));
        }
    }
    let claims = claims(&experiments(), &settings, &results).unwrap();
    claims.into_iter().find(|claim| claim.id == id).unwrap()
}

#[test]
fn every_claim_holds_on_ideal_runs() {
    for id in ["12", "13", "14", "15"] {
        assert_eq!(of(id, |_, _| {}), Verdict::Holds, "claim {id}");
    }
}

#[test]
fn one_unstable_minimum_breaks_claim_12_unless_the_run_did_not_converge() {
    let one = |spec: &DeepSpec| spec.depth == 4 && !is_followed(spec);
    for gradient_descent in [true, false] {
        let unstable = |spec: &DeepSpec, result: &mut DeepResult| {
            if one(spec) && is_gd(spec) == gradient_descent {
                let sharpness = &mut result.last.as_mut().unwrap().empirical;
                let value = 2.1 / spec.learning_rate;
                *(if gradient_descent {
                    &mut sharpness.lambda_max
                } else {
                    &mut sharpness.trace
                }) = value;
            }
        };
        assert_eq!(of("12", unstable), Verdict::Fails);
    }
    let hovering = |_: &DeepSpec, result: &mut DeepResult| result.outcome = Outcome::OutOfSteps;
    assert_eq!(of("12", hovering), Verdict::Undecided);
}

#[test]
fn where_sgd_stops_can_break_claim_13_or_leave_it_open() {
    let scaled = |smallest: f64, factor: f64| {
        move |spec: &DeepSpec, result: &mut DeepResult| {
            if spec.depth == 3 && spec.learning_rate > smallest {
                let last = result.last.as_mut().unwrap();
                last.threshold = last.threshold.map(|threshold| factor * threshold);
            }
        }
    };
    assert_eq!(of("13", scaled(0.03, 1.5)), Verdict::Fails, "far inside the edge");
    assert_eq!(of("13", scaled(0.03, 0.7)), Verdict::Fails, "beyond the edge");
    assert_eq!(of("13", scaled(0.0, 0.4)), Verdict::Fails, "a loose trace bound");
    // Runs that did not come to rest say nothing: the next smaller rate decides.
    let hovering = |spec: &DeepSpec, result: &mut DeepResult| {
        scaled(0.03, 1.5)(spec, result);
        if spec.learning_rate > 0.03 {
            result.outcome = Outcome::OutOfSteps;
        }
    };
    assert_eq!(of("13", hovering), Verdict::Holds);
    let restless = |spec: &DeepSpec, result: &mut DeepResult| {
        if spec.depth == 2 {
            result.outcome = Outcome::OutOfSteps;
        }
    };
    assert_eq!(of("13", restless), Verdict::Undecided);
}

#[test]
fn one_seed_of_short_runs_leaves_claim_13_open() {
    let wrong = |_: &DeepSpec, result: &mut DeepResult| {
        let last = result.last.as_mut().unwrap();
        last.threshold = last.threshold.map(|threshold| 2.0 * threshold);
    };
    assert_eq!(of("13", wrong), Verdict::Fails);
    let claim = claim("13", Profile::Quick, wrong);
    assert_eq!(claim.verdict, Verdict::Undecided);
    let needs = "runs of the paper's length and at least 3 seeds, this reproduction has 1";
    assert_eq!(claim.note, format!("To judge it takes {needs}."));
}

#[test]
fn the_course_of_gradient_descent_can_break_claim_14() {
    let check = |name: &str, change: fn(&DeepSpec, &mut DeepMeasurement)| {
        let changed = |spec: &DeepSpec, result: &mut DeepResult| {
            if is_gd(spec) && is_followed(spec) {
                result.path.iter_mut().chain(&mut result.last).for_each(|m| change(spec, m));
            }
        };
        assert_eq!(of("14", changed), Verdict::Fails, "{name}");
    };
    check("below the edge at the smallest rate only", |spec, m| {
        if spec.learning_rate < 0.1 {
            m.hessian_lambda_max = m.hessian_lambda_max.map(|value| 1.5 * value);
        }
    });
    check("already there at the start", |spec, m| {
        if m.step == 0 && spec.learning_rate > 0.1 {
            m.hessian_lambda_max = Some(2.02 / spec.learning_rate);
        }
    });
    check("never beyond", |_, m| m.hessian_lambda_max = m.hessian_lambda_max.map(|v| 0.96 * v));
    check("settles elsewhere", |_, m| {
        if m.step > 1000 {
            m.hessian_lambda_max = m.hessian_lambda_max.map(|v| 1.1 * v);
        }
    });
    check("one run settles far below", |spec, m| {
        if m.step > 1000 && spec.seed == 1 && spec.learning_rate > 0.1 {
            m.hessian_lambda_max = m.hessian_lambda_max.map(|v| 0.89 * v);
        }
    });
    check("all settle a little below", |spec, m| {
        if m.step > 1000 && spec.learning_rate > 0.1 {
            m.hessian_lambda_max = m.hessian_lambda_max.map(|v| 0.94 * v);
        }
    });
    check("not measured", |_, m| m.hessian_lambda_max = None);
    let one_a_little_below = |spec: &DeepSpec, result: &mut DeepResult| {
        if is_gd(spec) && is_followed(spec) && spec.seed == 1 && spec.learning_rate > 0.1 {
            let late = result.path.iter_mut().chain(&mut result.last).filter(|m| m.step > 1000);
            late.for_each(|m| m.hessian_lambda_max = m.hessian_lambda_max.map(|v| 0.94 * v));
        }
    };
    assert_eq!(of("14", one_a_little_below), Verdict::Holds);
}

#[test]
fn gradient_descent_need_not_meet_an_edge_out_of_its_reach() {
    // A network that becomes less sharp than the edge of the second rate.
    let dull = |seeds: std::ops::Range<u64>| {
        move |spec: &DeepSpec, result: &mut DeepResult| {
            if is_gd(spec) && is_followed(spec) && seeds.contains(&spec.seed) {
                let most = 11.0;
                for m in result.path.iter_mut().chain(&mut result.last) {
                    m.hessian_lambda_max = m.hessian_lambda_max.map(|value| value.min(most));
                }
            }
        }
    };
    let some = claim("14", Profile::Paper, dull(0..1));
    assert_eq!(some.verdict, Verdict::Holds);
    assert!(some.note.starts_with("Not judged: 1 of 9 runs"), "{}", some.note);
    assert_eq!(of("14", dull(0..3)), Verdict::Undecided);
}

#[test]
fn traces_along_sgd_can_break_claim_15() {
    let trace = |value: fn(f64) -> f64| {
        move |spec: &DeepSpec, result: &mut DeepResult| {
            if !is_gd(spec) {
                result.last.as_mut().unwrap().empirical.trace = value(spec.learning_rate);
            }
        }
    };
    assert_eq!(of("15", trace(|rate| 1.0 / rate)), Verdict::Holds);
    assert_eq!(of("15", trace(|rate| 2.1 / rate)), Verdict::Fails, "above 2/η");
    assert_eq!(of("15", trace(|rate| 1000.0 * rate)), Verdict::Fails, "rising");
    let like_gd = |spec: &DeepSpec, result: &mut DeepResult| {
        let trace = &mut result.last.as_mut().unwrap().empirical.trace;
        if is_gd(spec) {
            *trace = 101.0;
        }
    };
    assert_eq!(of("15", like_gd), Verdict::Fails, "hardly below gradient descent");
    assert_eq!(of("15", |_, result| result.last = None), Verdict::Fails);
}

#[test]
fn a_diverged_run_is_shown_and_does_not_stop_the_others() {
    let settings = Settings::new(Profile::Quick);
    let mut results = Results::new();
    for cell in expand(&experiments(), &settings) {
        if let CellSpec::Deep(spec) = cell {
            let mut result = ideal(&spec);
            if spec.learning_rate > 0.03 {
                (result.outcome, result.last) = (Outcome::Diverged, None);
            }
            results.insert(cell.key(), CellResult::Deep(result));
        }
    }
    for experiment in experiments() {
        let shown = experiment.present(&settings, &results).unwrap();
        assert!(!shown.table.to_csv().unwrap().contains("NaN"), "{experiment}");
        assert!(shown.figure.to_svg().starts_with("<svg"), "{experiment}");
    }
    let error = experiments()[0].present(&settings, &Results::new()).unwrap_err();
    assert!(error.label.contains("depth 2 teacher SGD B=1"), "{error}");
}
