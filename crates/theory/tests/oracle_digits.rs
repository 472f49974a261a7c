//! Certified intervals against 55 digits that `oracles/digits.py` computes from the plain
//! definition and writes to `oracles/digits.json`.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "oracles/decimal.rs"]
mod decimal;

use flatmin_linalg::RowMatrix;
use flatmin_theory::{
    Batch, Minimum, Optimizer, Sampling, Threshold, ThresholdOptions, ThresholdStatus, bounds,
    dense_threshold, threshold_with,
};
use serde_json::Value;

use crate::decimal::Decimal;

struct Case {
    what: String,
    minimum: Minimum,
    batch: Batch,
    momentum: f64,
    /// η* to 55 digits.
    threshold: String,
}

impl Case {
    fn all() -> Vec<Self> {
        let text = include_str!("oracles/digits.json");
        let jacobians: Vec<Value> = serde_json::from_str(text).unwrap();
        jacobians.iter().flat_map(Self::of_jacobian).collect()
    }

    fn of_jacobian(entry: &Value) -> Vec<Self> {
        let number = |value: &Value| value.as_str().unwrap().parse::<f64>().unwrap();
        let rows = entry["rows"].as_array().unwrap();
        let columns = rows[0].as_array().unwrap().len();
        let jacobian = RowMatrix::from_fn(rows.len(), columns, |i, j| number(&rows[i][j]));
        let outputs = usize::try_from(entry["outputs"].as_u64().unwrap()).unwrap();
        let minimum = Minimum::with_outputs(&jacobian, outputs).unwrap();
        let case = |line: &Value| {
            let size = usize::try_from(line[0].as_u64().unwrap()).unwrap();
            let sampling = match line[1].as_str().unwrap() {
                "with_replacement" => Sampling::WithReplacement,
                "without_replacement" => Sampling::WithoutReplacement,
                other => panic!("sampling {other}"),
            };
            let momentum = number(&line[2]);
            Self {
                what: format!("{}, B = {size}, {sampling:?}, β = {momentum}", entry["name"]),
                minimum: minimum.clone(),
                batch: Batch::new(size, sampling).unwrap(),
                momentum,
                threshold: line[3].as_str().unwrap().to_owned(),
            }
        };
        entry["thresholds"].as_array().unwrap().iter().map(case).collect()
    }

    fn interval(&self, relative_width: f64) -> Threshold {
        let options = ThresholdOptions { relative_width, ..ThresholdOptions::default() };
        let optimizer = Optimizer::sgd().momentum(self.momentum).unwrap();
        threshold_with(&self.minimum, &optimizer, &self.batch, &options).unwrap()
    }

    /// True if the threshold is a normal number. Otherwise a relative width has no meaning.
    fn is_normal(&self) -> bool {
        self.threshold.parse::<f64>().unwrap().is_normal()
    }
}

#[test]
fn every_interval_contains_the_threshold_and_is_as_narrow_as_promised() {
    let cases = Case::all();
    assert!(cases.len() > 300, "{} cases", cases.len());
    for case in &cases {
        let exact = Decimal::parse(&case.threshold);
        // Rounding alone determines the last width, so that no interval passes by being wide.
        for relative_width in [1e-3, 1e-10, 1e-15] {
            let found = case.interval(relative_width);
            let what = format!("{}, {relative_width:e}: {found:?}, {}", case.what, case.threshold);
            assert!(Decimal::of(found.lower) <= exact, "{what}");
            assert!(exact <= Decimal::of(found.upper), "{what}");
            if case.is_normal() {
                assert_eq!(found.status, ThresholdStatus::Converged, "{what}");
                let width = found.relative_width();
                // Rounding grows like the ζ of momentum, 47 for β = 0.9.
                let beta = case.momentum;
                let rounding = 1e-12 * (1.0 + beta / ((1.0 - beta).powi(2) * (1.0 + beta)));
                assert!(width <= relative_width + rounding, "{width:e}, {what}");
            }
        }
    }
}

/// The closed bounds and the dense operator, which have no certificate, are right to a few hundred
/// roundings.
#[test]
fn bounds_and_the_dense_operator_agree_with_the_threshold() {
    for case in Case::all().iter().filter(|case| case.momentum <= 0.0) {
        let exact: f64 = case.threshold.parse().unwrap();
        // Widened by a relative 1e-13, and by units in the last place where η* is subnormal.
        let below = |rate: f64| (rate * (1.0 - 1e-13)).next_down().next_down() <= exact;
        let above = |rate: f64| exact <= (rate * (1.0 + 1e-13)).next_up().next_up();
        let bounds = bounds(&case.minimum, &case.batch).unwrap();
        let what = format!("{}: {exact:e}, {bounds:?}", case.what);
        assert!(below(bounds.sufficient), "{what}");
        for bound in [
            bounds.lambda_max,
            bounds.trace,
            bounds.frobenius_norm,
            bounds.sharp_frobenius_norm,
            bounds.centered_alignment,
            bounds.uncentered_alignment,
            bounds.spectral,
        ] {
            assert!(above(bound), "{what}");
        }
        let dense = dense_threshold(&case.minimum, &case.batch).unwrap();
        assert!(below(dense) && above(dense), "{what}, dense {dense:e}");
    }
}
