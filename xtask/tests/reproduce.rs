//! `cargo xtask reproduce` as a command: the same bytes whatever happens on the way.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::assert::Assert;
use predicates::prelude::*;
use predicates::str::contains;
use support::{
    CHEAP, EXPERIMENTS, assert_nothing_half_written, assert_one_line, assert_same, cells, counts,
    everything, outputs, smoke, xtask,
};

#[test]
fn the_number_of_threads_changes_no_byte() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let judged = |assert: Assert| assert.code(predicate::in_iter([0, 1]));
    judged(smoke(&one, &["--threads", "1"])).stdout(contains("report.html"));
    judged(smoke(&two, &["--threads", "2"]));
    let (one_outputs, two_outputs) = (outputs(&one), outputs(&two));
    assert_eq!(one_outputs.len(), 3 * EXPERIMENTS + 1);
    assert!(one_outputs == two_outputs);
    let contents = |out: &Path| -> Vec<Vec<u8>> {
        cells(out).keys().map(|path| fs::read(path).unwrap()).collect()
    };
    assert!(contents(&one) == contents(&two), "the cells differ");
    let html = fs::read_to_string(one.join("report.html")).unwrap();
    assert_eq!(html.matches("<svg").count(), EXPERIMENTS);
    assert_nothing_half_written(folder.path());
}

#[test]
fn an_interrupted_run_says_how_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let child = Process::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["reproduce", "--profile", "smoke", "--threads", "1", "--seeds", "20", "--out"])
        .arg(&out)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while cells(&out).is_empty() {
        assert!(start.elapsed() < Duration::from_mins(1), "no cell in a minute");
        std::thread::yield_now();
    }
    Process::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("the same command goes on from there"), "{stderr}");
    assert!(output.stdout.is_empty() && !out.join("claims.json").exists());
    assert_nothing_half_written(&out);
}

#[test]
fn damaged_cells_are_named_and_computed_again() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    let arguments = ["--only", CHEAP];
    smoke(out, &arguments);
    let expected = outputs(out);
    let paths: Vec<PathBuf> = cells(out).into_keys().collect();
    let contents: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    let mut flipped = contents[0].clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    fs::write(&paths[0], flipped).unwrap();
    fs::write(&paths[1], &contents[1][..contents[1].len() - 10]).unwrap();
    fs::write(&paths[2], "").unwrap();
    fs::write(&paths[3], &contents[4]).unwrap();

    let assert = smoke(out, &arguments);
    let stderr = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    for path in &paths[..4] {
        let name = path.file_name().unwrap().to_str().unwrap();
        let lines: Vec<&str> = stderr.lines().filter(|line| line.contains(name)).collect();
        assert!(lines.len() == 1 && lines[0].contains("computed again"), "{name}: {stderr}");
    }
    assert_eq!(counts(out), (4, paths.len() as u64 - 4));
    assert!(outputs(out) == expected);
    for (path, content) in paths.iter().zip(&contents) {
        assert!(fs::read(path).unwrap() == *content, "{} is not restored", path.display());
    }
}

#[test]
fn a_cell_of_a_newer_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    let only = ["--only", "norm_equivalence"];
    smoke(out, &only);
    let path = cells(out).into_keys().next().unwrap();
    let text = fs::read_to_string(&path).unwrap().replace("flatmin.cell/1", "flatmin.cell/2");
    fs::write(&path, &text).unwrap();
    let assert = smoke(out, &only).code(3);
    assert_one_line(&assert, &[path.to_str().unwrap(), "flatmin.cell/2"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    smoke(out, &["--only", "norm_equivalence", "--fresh"]).code(predicate::in_iter([0, 1]));
}

#[test]
fn unknown_names_are_wrong_usage_and_the_valid_ones_are_listed() {
    xtask(&["--profile", "huge"]).assert().code(2).stderr(contains("smoke, quick, paper, full"));
    let assert = xtask(&["--profile", "smoke", "--only", "relu_sharpness,nonsense"]).assert();
    assert.code(2).stderr(contains("nonsense").and(contains("relu_dynamics, relu_sharpness")));
    for arguments in [["--seeds", "0"], ["--threads", "0"], ["--format", "xml"]] {
        xtask(&arguments).assert().code(2);
    }
    xtask(&["--plan", "--cell", "00"]).assert().code(2);
    let cell = |hash: &str| xtask(&["--profile", "smoke", "--cell", hash]).assert().code(2);
    assert_one_line(&cell("xyz"), &["xyz", "32 hexadecimal digits"]);
    assert_one_line(&cell(&"0".repeat(32)), &[&"0".repeat(32), "no cell"]);
    xtask(&["--help"]).assert().code(0).stdout(contains("Examples:").and(contains("--plan")));
}

#[test]
fn a_folder_that_cannot_be_made_is_one_line() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let out = file.path().join("x");
    for arguments in [vec![], vec!["--format", "json"]] {
        let assert = smoke(&out, &arguments).code(3).stdout("");
        assert_one_line(&assert, &["xtask: ", out.to_str().unwrap(), "Not a directory"]);
    }
}

#[test]
fn planned_cells_run_one_by_one_leave_nothing_to_compute() {
    let folder = tempfile::tempdir().unwrap();
    let (planned, direct) = (folder.path().join("planned"), folder.path().join("direct"));
    let plan = smoke(&planned, &["--plan"]).code(0);
    assert!(!planned.exists(), "a plan writes nothing");
    let plan = String::from_utf8(plan.get_output().stdout.clone()).unwrap();
    let hashes: Vec<&str> = plan.lines().map(|line| line.split(' ').next().unwrap()).collect();
    let json = smoke(&planned, &["--plan", "--format", "json"]).code(0);
    let json: serde_json::Value = serde_json::from_slice(&json.get_output().stdout).unwrap();
    let listed: Vec<&str> =
        json.as_array().unwrap().iter().map(|cell| cell["hash"].as_str().unwrap()).collect();
    assert_eq!(hashes, listed);
    for hash in &hashes {
        smoke(&planned, &["--cell", hash]).code(0).stdout(contains("computed in"));
    }
    smoke(&planned, &["--cell", hashes[0]]).code(0).stdout(contains("was stored already"));
    smoke(&planned, &["--plan"]).code(0).stdout("");
    smoke(&planned, &[]);
    assert_eq!(counts(&planned), (0, hashes.len() as u64));
    smoke(&direct, &[]);
    assert!(outputs(&planned) == outputs(&direct));
}

#[test]
fn a_selected_experiment_gives_the_bytes_of_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, part) = (folder.path().join("whole"), folder.path().join("part"));
    smoke(&whole, &[]);
    smoke(&part, &["--only", "diagonal_balance"]);
    let (whole, mut part) = (outputs(&whole), outputs(&part));
    part.remove("claims.json");
    assert_eq!(part.len(), 3);
    for (name, content) in &part {
        assert!(whole.get(name) == Some(content), "{name} differs");
    }
}

#[test]
fn a_selection_keeps_the_claims_of_the_other_experiments() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    smoke(out, &["--only", CHEAP]);
    let before = everything(out);
    let count = cells(out).len() as u64;
    smoke(out, &["--only", "norm_equivalence"]);
    assert_same(&everything(out), &before);
    assert_eq!(counts(out), (0, count));

    // Without all its cells an experiment cannot be judged again. Its table and figure stay.
    let plan = smoke(out, &["--only", "norm_equivalence", "--plan", "--fresh"]);
    let own = String::from_utf8(plan.get_output().stdout.clone()).unwrap();
    let is_own = |path: &PathBuf| own.contains(path.file_stem().unwrap().to_str().unwrap());
    for path in cells(out).into_keys().filter(|path| !is_own(path)) {
        fs::remove_file(path).unwrap();
    }
    let assert = smoke(out, &["--only", "norm_equivalence"]);
    assert.stderr(contains("deep_sharpness: some cells are not stored"));
    let after = everything(out);
    for (name, bytes) in before {
        let is_kept = name.starts_with("tables/") || name.starts_with("figures/");
        assert!(!is_kept || after[&name] == bytes, "{name} differs");
    }
    let report = fs::read_to_string(out.join("results.md")).unwrap();
    assert!(report.contains("(`norm_equivalence`)") && !report.contains("(`deep_sharpness`)"));
    let text = fs::read_to_string(out.join("claims.json")).unwrap();
    let claims: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(claims["claims"].as_array().unwrap().len(), 1);
}

#[test]
fn json_holds_the_claims_and_where_the_rest_is() {
    let folder = tempfile::tempdir().unwrap();
    let assert = smoke(folder.path(), &["--format", "json"]);
    let printed: serde_json::Value = serde_json::from_slice(&assert.get_output().stdout).unwrap();
    let text = fs::read_to_string(folder.path().join("claims.json")).unwrap();
    let written: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(written["schema"], "flatmin.claims/1");
    for (name, value) in written.as_object().unwrap() {
        assert_eq!(&printed[name], value);
    }
    assert!(Path::new(printed["report"].as_str().unwrap()).is_file());
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Process::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["reproduce", "--profile", "smoke", "--out"])
        .arg(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code().is_some_and(|code| code <= 1), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}
