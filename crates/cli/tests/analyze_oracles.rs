//! The reference cases of `flatmin-theory`, and those in archives, through the command.
//!
//! `tests/data/archives` holds the same kind of reference values as `crates/theory/tests/data`
//! (described there), for arrays in `.npz` and `.safetensors` files with other arrays beside them.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;

fn number(value: &Value) -> f64 {
    match value {
        Value::String(text) if text == "inf" => f64::INFINITY,
        value => value.as_f64().unwrap(),
    }
}

/// Equal to a relative tolerance; infinities exactly.
#[track_caller]
fn close(case: &Value, what: &str, found: &Value, expected: f64, tolerance: f64) {
    let found = number(found);
    let equal = if expected.is_finite() {
        (found - expected).abs() <= tolerance * expected.abs()
    } else {
        found.total_cmp(&expected).is_eq()
    };
    assert!(equal, "{}: {what} is {found:e}, expected {expected:e}", case["id"]);
}

fn analyze(file: &Path, cases: &[&Value]) -> Value {
    let sizes: Vec<String> = cases.iter().map(|case| case["batch_size"].to_string()).collect();
    let mut command = Command::cargo_bin("flatmin").unwrap();
    command.arg("analyze").arg(file).args(["--format", "json", "--batch-size", &sizes.join(",")]);
    command.args(["--sampling", &cases[0]["sampling"].as_str().unwrap().replace('_', "-")]);
    if cases[0]["kind"] == "gram" {
        command.arg("--gram");
    }
    let output = command.assert().success().stderr("").get_output().stdout.clone();
    serde_json::from_slice(&output).unwrap()
}

fn check(file: &Path, cases: &[&Value]) {
    let report = analyze(file, cases);
    assert_eq!(report["schema"], "flatmin.analyze/1");
    assert_eq!(report["file"], file.to_string_lossy().as_ref());
    let batches = report["batches"].as_array().unwrap();
    assert_eq!(batches.len(), cases.len());
    for (case, batch) in cases.iter().zip(batches) {
        assert_eq!(report["samples"], case["n"]);
        assert_eq!(report["parameters"], *case.get("p").unwrap_or(&report["parameters"]));
        if let Some(array) = case.get("array") {
            assert_eq!(report["array"], *array, "{}", case["id"]);
        }
        // There is none when all rows are zero.
        let condition_number = case["condition_number"].as_f64().unwrap_or(1.0);
        if condition_number < 1e15 {
            assert_eq!(report["rank"], case["rank"], "{}", case["id"]);
        }
        for (field, reference) in [
            ("trace", "trace"),
            ("frobenius_norm", "frobenius_norm"),
            ("lambda_max", "lambda_max"),
            ("max_gradient_norm_squared", "max_row_norm_sq"),
        ] {
            close(case, field, &report[field], number(&case[reference]), 1e-13);
        }
        assert_eq!(batch["batch_size"], case["batch_size"]);
        assert_eq!(batch["sampling"], case["sampling"]);
        let noise = number(&case["noise_coefficient"]);
        assert!((number(&batch["noise_coefficient"]) - noise).abs() <= 1e-15, "{}", case["id"]);

        let threshold = number(&case["threshold"]);
        let interval = &batch["threshold"];
        // The reference itself is rounded, and off by its route's error.
        let slack = 1.0 + number(&case["rel_tol"]);
        let (lower, upper) = (number(&interval["lower"]), number(&interval["upper"]));
        assert!(
            lower <= threshold * slack && threshold <= upper * slack,
            "{}: [{lower:e}, {upper:e}] misses {threshold:e}",
            case["id"]
        );
        close(case, "lower end", &interval["lower"], threshold, 1e-9);
        close(case, "upper end", &interval["upper"], threshold, 1e-9);
        assert_eq!(batch["status"], "converged");
        assert!(batch["iterations"].as_u64().is_some());

        let bounds = &batch["bounds"];
        for (field, reference) in [
            ("S1", "s5"),
            ("S2", "s2"),
            ("S3", "s3"),
            ("S3_sharp", "s3_sharp"),
            ("S5", "s5"),
            ("S6", "s6"),
            ("S7", "s7"),
        ] {
            close(case, field, &bounds[field], number(&case[reference]), 1e-12);
        }
        alignment(case, bounds, threshold, condition_number);
        assert_eq!(batch["learning_rates"], serde_json::json!([]));
    }
}

/// S4 loses digits where the alignment is small or the rows are nearly dependent; it stays a bound.
fn alignment(case: &Value, bounds: &Value, threshold: f64, condition_number: f64) {
    for (field, reference, alignment) in [
        ("S4", "s4_centered", "centered_alignment_min"),
        ("S4_uncentered", "s4_chi_min_corrected", "chi_min"),
    ] {
        let alignment = case[alignment].as_f64().unwrap_or(0.0);
        if alignment > 1e-6 && condition_number <= 1e10 {
            close(case, field, &bounds[field], number(&case[reference]), 1e-9);
        } else {
            assert!(number(&bounds[field]) >= threshold, "{}: {field}", case["id"]);
        }
    }
}

fn check_folder(folder: &Path) -> usize {
    let bytes = std::fs::read(folder.join("cases.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_slice(&bytes).unwrap();
    let mut calls: BTreeMap<(&str, &str), Vec<&Value>> = BTreeMap::new();
    for case in &cases {
        let key = (case["file"].as_str().unwrap(), case["sampling"].as_str().unwrap());
        calls.entry(key).or_default().push(case);
    }
    for ((file, _), cases) in calls {
        check(&folder.join(file), &cases);
    }
    cases.len()
}

#[test]
fn arrays_of_their_own_agree_with_the_references() {
    let folder: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "..", "theory", "tests", "data"].iter().collect();
    assert!(check_folder(&folder) > 300);
}

#[test]
fn arrays_in_archives_agree_with_the_references() {
    let folder: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "tests", "data", "archives"].iter().collect();
    assert!(check_folder(&folder) > 40);
}
