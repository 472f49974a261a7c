//! `flatmin analyze` at the ends of the range of numbers.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::path::PathBuf;

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A Jacobian n × 3 of numbers of one decade, times 2^exponent.
    fn jacobian(&self, n: usize, exponent: i32) -> PathBuf {
        let entry = |k: usize| libm::scalbn((k * 7919 % 101) as f64 / 50.0 - 1.0, exponent);
        let path = self.0.path().join(format!("{n}_{exponent}.npz"));
        support::write_npz(&path, &[("jacobian", &(vec![n, 3], (0..3 * n).map(entry).collect()))]);
        path
    }

    fn run(&self, n: usize, exponent: i32, arguments: &[&str]) -> Vec<u8> {
        let mut command = Command::cargo_bin("flatmin").unwrap();
        command.arg("analyze").arg(self.jacobian(n, exponent)).args(arguments);
        command.assert().success().stderr("").get_output().stdout.clone()
    }

    fn json(&self, n: usize, exponent: i32, arguments: &[&str]) -> Value {
        let output = self.run(n, exponent, &[&["--format", "json"], arguments].concat());
        serde_json::from_slice(&output).unwrap()
    }

    fn text(&self, n: usize, exponent: i32, arguments: &[&str]) -> String {
        String::from_utf8(self.run(n, exponent, arguments)).unwrap()
    }
}

fn number(value: &Value) -> f64 {
    match value.as_str() {
        Some("inf") => f64::INFINITY,
        _ => value.as_f64().unwrap_or_else(|| panic!("{value}")),
    }
}

/// Every number that has the unit of a learning rate, and then those that have its inverse.
fn numbers(report: &Value) -> [Vec<f64>; 2] {
    let batches = report["batches"].as_array().unwrap();
    let rates = batches.iter().flat_map(|batch| {
        let bounds = batch["bounds"].as_object().unwrap().values();
        let ends = ["lower", "upper", "estimate"].iter().map(|end| &batch["threshold"][end]);
        bounds.chain(ends).map(number).collect::<Vec<_>>()
    });
    let sharpness = ["trace", "frobenius_norm", "lambda_max", "max_gradient_norm_squared"];
    [rates.collect(), sharpness.iter().map(|name| number(&report[name])).collect()]
}

#[test]
fn a_power_of_two_scales_every_digit() {
    let files = Files::new();
    let sizes = ["--batch-size", "1,2,5"];
    let [rates, sharpness] = numbers(&files.json(5, 0, &sizes));
    assert!(rates.len() >= 30 && rates.iter().any(|rate| rate.is_finite()));
    for exponent in [500, -500, 1, -3] {
        let [scaled_rates, scaled_sharpness] = numbers(&files.json(5, exponent, &sizes));
        let scale = |values: &[f64], power: i32| -> Vec<u64> {
            values.iter().map(|value| libm::scalbn(*value, power * exponent).to_bits()).collect()
        };
        assert_eq!(scale(&rates, -2), scale(&scaled_rates, 0), "2^{exponent}");
        assert_eq!(scale(&sharpness, 2), scale(&scaled_sharpness, 0), "2^{exponent}");
    }
}

#[test]
fn what_leaves_the_range_is_neither_a_wrong_number_nor_none() {
    let files = Files::new();
    for exponent in [515, 530, 1000, -530, -540, -1000] {
        let report = files.json(5, exponent, &["--batch-size", "1,2,5"]);
        for batch in report["batches"].as_array().unwrap() {
            let [lower, upper] = ["lower", "upper"].map(|end| number(&batch["threshold"][end]));
            let bound = |id: &str| number(&batch["bounds"][id]);
            assert!(lower.is_finite() && lower <= upper, "{exponent}: {batch}");
            // Two units of the last place: that of the interval, and that of the bound.
            let most = |rate: f64| (rate * (1.0 + 1e-12)).next_up();
            assert!(bound("S7") <= most(upper), "{exponent}: {batch}");
            for id in ["S2", "S3", "S3_sharp", "S4", "S5", "S6"] {
                assert!(lower <= most(bound(id)), "{exponent}: {id} of {batch}");
            }
        }
        let text = files.text(5, exponent, &["--learning-rate", "0.1"]);
        assert!(!text.contains('—'), "{text}");
        assert!(!text.contains("exact."), "{text}");
        assert!(text.contains("near its end"), "{text}");
    }
}

#[test]
fn learning_rates_far_beyond_the_edge_are_told_by_a_number() {
    let files = Files::new();
    let text = files.text(5, 40, &["--learning-rate", "1000"]);
    let line = text.lines().find(|line| line.contains("times η*")).unwrap();
    assert!(!line.contains('∞'), "{line}");
}

#[test]
fn the_largest_batches_are_gradient_descent_and_one_sample_has_no_noise() {
    let files = Files::new();
    let largest = usize::MAX.to_string();
    let end = |report: &Value, end: &str| number(&report["batches"][0]["threshold"][end]);
    for n in [1, 5] {
        let huge = ["--sampling", "with-replacement", "--batch-size", largest.as_str()];
        let all = n.to_string();
        let [huge, all] =
            [files.json(n, 0, &huge), files.json(n, 0, &["--batch-size", all.as_str()])];
        assert!(end(&huge, "lower") <= end(&all, "upper"), "{huge} {all}");
        assert!(end(&all, "lower") <= end(&huge, "upper"), "{huge} {all}");
    }
    let once = files.json(1, 0, &["--sampling", "with-replacement", "--batch-size", "1"]);
    let all = files.json(1, 0, &["--batch-size", "1"]);
    assert!(end(&once, "lower") <= end(&all, "upper") && end(&all, "lower") <= end(&once, "upper"));
}
