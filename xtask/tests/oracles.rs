//! The reference values of the tests, computed again by the scripts that lie beside them.

use std::path::Path;

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;

/// Runs a script of the workspace with these arguments, or nothing if Python has no numpy.
///
/// With the variable `CI` set a missing numpy is a failure, so that these tests are never skipped
/// there.
fn script(path: &str, arguments: &[&str]) -> Option<Command> {
    let has_numpy = Command::new("python3").args(["-c", "import numpy"]).ok();
    if let Err(error) = has_numpy {
        let skipped_in_ci = std::env::var_os("CI").is_some();
        assert!(!skipped_in_ci, "the references need python3 with numpy: {error}");
        return None;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new("python3");
    command.arg(path).args(arguments).current_dir(root).env("PYTHONDONTWRITEBYTECODE", "1");
    Some(command)
}

#[test]
fn thresholds_and_bounds_are_those_of_dense_linear_algebra() {
    let data = "crates/theory/tests/data";
    let arguments = ["--check", data, "crates/cli/tests/data/archives"];
    let Some(mut command) = script(&format!("{data}/generate.py"), &arguments) else { return };
    command.assert().success().stdout(contains(" 0 differences"));
}

#[test]
fn population_matrices_are_those_of_integrals_over_an_angle() {
    let path = "crates/models/tests/data/population/generate.py";
    let Some(mut command) = script(path, &["--check"]) else { return };
    command.assert().success().stdout(contains(" 0 differences"));
}

#[test]
fn bootstrap_intervals_are_those_of_numpy() {
    let path = "crates/experiments/tests/oracles/bootstrap.py";
    let Some(mut command) = script(path, &["--check"]) else { return };
    command.assert().success().stdout(contains(" 0 differences"));
}

#[test]
fn a_changed_reference_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let data = "crates/theory/tests/data";
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let name = "two_rows_2x4.npy";
    std::fs::copy(root.join(data).join(name), folder.path().join(name)).unwrap();
    let all = std::fs::read(root.join(data).join("cases.json")).unwrap();
    let all: Vec<serde_json::Value> = serde_json::from_slice(&all).unwrap();
    let mut case = all.into_iter().find(|case| case["file"] == name).unwrap();
    case["threshold"] = (case["threshold"].as_f64().unwrap() * (1.0 + 1e-10)).into();
    let text = serde_json::json!([case]).to_string();
    std::fs::write(folder.path().join("cases.json"), text).unwrap();
    let folder = folder.path().to_str().unwrap();
    let script = script(&format!("{data}/generate.py"), &["--check", folder]);
    let Some(mut command) = script else { return };
    command.assert().code(1).stdout(contains(": threshold is ").and(contains(" 1 differences")));
}
