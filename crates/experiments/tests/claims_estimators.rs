//! Claims on estimators, on made-up results.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use flatmin_experiments::cell::{
    CellResult, CellSpec, EstimatorResult, EstimatorSpec, Results, Spectrum,
};
use flatmin_experiments::{Profile, Settings, Verdict, claims, expand, find};
use flatmin_linalg::TraceMethod;

fn of(id: &str, change: impl Fn(&EstimatorSpec, &mut EstimatorResult)) -> Verdict {
    let settings = Settings::new(Profile::Paper);
    let mut results = Results::new();
    for cell in expand(&[find("estimators").unwrap()], &settings) {
        let CellSpec::Estimator(spec) = cell else { continue };
        let rate = if spec.estimator == TraceMethod::Hutchinson { 0.5 } else { 1.0 };
        let error = libm::pow(spec.products as f64, -rate);
        let mut result = EstimatorResult {
            dim: spec.dim,
            trace: 1.0,
            covered: spec.replicas * 95 / 100,
            replicas: spec.replicas,
            median_error: error,
            median_standard_error: error,
        };
        change(&spec, &mut result);
        results.insert(cell.key(), CellResult::Estimator(result));
    }
    let claims = claims(&[find("estimators").unwrap()], &settings, &results).unwrap();
    claims.into_iter().find(|claim| claim.id == id).unwrap().verdict
}

#[test]
fn coverage_is_judged_over_all_operators_from_twenty_products_on() {
    assert_eq!(of("16", |_, _| {}), Verdict::Holds);
    for share in [92, 98] {
        let at = |budget: usize| {
            move |spec: &EstimatorSpec, result: &mut EstimatorResult| {
                if spec.estimator == TraceMethod::XTrace && spec.products == budget {
                    result.covered = spec.replicas * share / 100;
                }
            }
        };
        assert_eq!(of("16", at(20)), Verdict::Fails);
        assert_eq!(of("16", at(10)), Verdict::Holds);
    }
    // On one operator of five it may be a little off, not more.
    for (share, verdict) in [(98, Verdict::Holds), (91, Verdict::Holds), (89, Verdict::Fails)] {
        let one = |spec: &EstimatorSpec, result: &mut EstimatorResult| {
            if spec.spectrum == Spectrum::Outlier {
                result.covered = result.replicas * share / 100;
            }
        };
        assert_eq!(of("16", one), verdict, "{share}");
    }
    let few = |_: &EstimatorSpec, result: &mut EstimatorResult| {
        (result.covered, result.replicas) = (95, 100);
    };
    assert_eq!(of("16", few), Verdict::Undecided);
}

#[test]
fn an_estimator_that_gains_nothing_breaks_claim_17() {
    assert_eq!(of("17", |_, _| {}), Verdict::Holds);
    for estimator in [TraceMethod::XTrace, TraceMethod::XNysTrace] {
        for factor in [3.0, f64::NAN] {
            let worse = |spec: &EstimatorSpec, result: &mut EstimatorResult| {
                if spec.estimator == estimator && spec.products == 80 {
                    result.median_error *= factor;
                }
            };
            assert_eq!(of("17", worse), Verdict::Fails, "{estimator:?} {factor}");
        }
    }
}
