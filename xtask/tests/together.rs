//! Several `cargo xtask reproduce` in one folder at the same time: they share the work, and leave
//! the files that one of them would have left.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod support;
#[cfg(target_os = "linux")]
#[path = "../../crates/host/tests/support/trouble.rs"]
mod trouble;

use std::fs;
use std::path::Path;
use std::process::{Child, Command as Process, Output, Stdio};
use std::time::{Duration, Instant};

use flatmin_host::Lock;
use support::{
    CHEAP, assert_nothing_half_written, assert_same, cells, counts, everything, said, smoke, spawn,
};

fn manifest_counts(output: &Output) -> (u64, u64) {
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let count = |name: &str| printed[name].as_u64().unwrap();
    (count("cells_computed"), count("cells_reused"))
}

/// The output of a command of the program.
fn start(out: &Path, arguments: &[&str]) -> Child {
    let mut process = Process::new(env!("CARGO_BIN_EXE_xtask"));
    process.args(["reproduce", "--profile", "smoke"]).args(arguments).arg("--out").arg(out);
    process.stdout(Stdio::piped()).stderr(Stdio::piped());
    process.spawn().unwrap()
}

#[test]
fn runs_in_one_folder_compute_every_cell_once() {
    let folder = tempfile::tempdir().unwrap();
    let (alone, shared) = (folder.path().join("alone"), folder.path().join("shared"));
    let arguments = ["--only", CHEAP, "--threads", "1", "--seeds", "2", "--format", "json"];
    smoke(&alone, &arguments);
    let total = cells(&alone).len() as u64;
    let runs: Vec<_> = (0..4).map(|_| start(&shared, &arguments)).collect();
    let mut computed = 0;
    for run in runs {
        let output = run.wait_with_output().unwrap();
        assert!(output.status.code().is_some_and(|code| code <= 1), "{output:?}");
        assert!(said(&output.stderr).is_empty(), "{:?}", said(&output.stderr));
        let (by_this, reused) = manifest_counts(&output);
        assert_eq!(by_this + reused, total);
        computed += by_this;
    }
    assert_eq!(computed, total, "cells were computed more than once");
    assert_same(&everything(&shared), &everything(&alone));
    assert_nothing_half_written(&shared);
    // The manifest of the last process has the times of all cells.
    let text = fs::read_to_string(shared.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(manifest["seconds_per_cell"].as_object().unwrap().len() as u64, total);
}

#[test]
fn an_array_of_single_cells_runs_beside_a_whole_run() {
    let folder = tempfile::tempdir().unwrap();
    let (alone, shared) = (folder.path().join("alone"), folder.path().join("shared"));
    let arguments = ["--only", "diagonal_balance,norm_equivalence"];
    smoke(&alone, &arguments);
    let hashes: Vec<String> = cells(&alone)
        .into_keys()
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let mut runs = vec![start(&shared, &arguments)];
    for hash in &hashes {
        runs.push(start(&shared, &[&arguments[..], &["--cell", hash]].concat()));
    }
    for run in runs {
        let output = run.wait_with_output().unwrap();
        assert!(output.status.code().is_some_and(|code| code <= 1), "{output:?}");
    }
    smoke(&shared, &arguments);
    assert_eq!(counts(&shared), (0, hashes.len() as u64));
    assert_same(&everything(&shared), &everything(&alone));
    assert_nothing_half_written(&shared);
}

/// Waits until a process has written this to its standard error, which is a file.
fn wait_for_words(stderr: &Path, words: &str) {
    let start = Instant::now();
    while !fs::read_to_string(stderr).unwrap_or_default().contains(words) {
        assert!(start.elapsed() < Duration::from_mins(1), "{words:?} is not said");
        std::thread::yield_now();
    }
}

#[test]
fn a_run_waits_with_a_line_for_a_cell_of_another_and_computes_it_when_that_one_dies() {
    let folder = tempfile::tempdir().unwrap();
    let (alone, out) = (folder.path().join("alone"), folder.path().join("out"));
    let arguments = ["--only", "norm_equivalence", "--threads", "1"];
    smoke(&alone, &arguments);
    let name = cells(&alone).into_keys().next().unwrap();
    let name = name.file_stem().unwrap().to_str().unwrap();
    for single in [false, true] {
        fs::create_dir_all(out.join("cells")).unwrap();
        // This test holds the lock of the cell, like another process that computes it.
        let held = Lock::try_take(&out.join("cells"), name).unwrap().unwrap();
        let stderr = folder.path().join("stderr");
        let mut process = Process::new(env!("CARGO_BIN_EXE_xtask"));
        process.args(["reproduce", "--profile", "smoke"]).args(arguments).arg("--out").arg(&out);
        if single {
            process.args(["--cell", name]);
        }
        process.stdout(Stdio::null()).stderr(fs::File::create(&stderr).unwrap());
        let mut child = process.spawn().unwrap();
        wait_for_words(&stderr, "waiting for a cell that another process computes");
        // The process computed all other cells.
        assert_eq!(cells(&out).len(), if single { 0 } else { 5 });
        assert!(child.try_wait().unwrap().is_none());
        drop(held);
        assert!(child.wait().unwrap().success());
        if single {
            assert_eq!(cells(&out).len(), 1);
        } else {
            assert_same(&everything(&out), &everything(&alone));
        }
        assert_nothing_half_written(&out);
        fs::remove_dir_all(&out).unwrap();
    }
}

#[test]
fn a_run_that_waits_can_be_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    fs::create_dir_all(&out).unwrap();
    // This test holds the lock of the outputs, like another process that writes them.
    let held = Lock::try_take(&out, "outputs").unwrap();
    let arguments = ["--only", "norm_equivalence"];
    let child = spawn(&out, &arguments);
    let start = Instant::now();
    while cells(&out).len() < 6 {
        assert!(start.elapsed() < Duration::from_mins(1), "no cells");
        std::thread::yield_now();
    }
    let id = child.id().to_string();
    assert!(Process::new("kill").args(["-INT", &id]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let lines = said(&output.stderr);
    assert!(lines.last().unwrap().contains("interrupted: "), "{lines:?}");
    assert!(!out.join("claims.json").exists());
    drop(held);
    smoke(&out, &arguments).code(0);
    assert_nothing_half_written(&out);
}

#[cfg(target_os = "linux")]
#[test]
fn without_locks_runs_in_one_folder_say_so_and_leave_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let library = trouble::without_locks(folder.path());
    let (alone, shared) = (folder.path().join("alone"), folder.path().join("shared"));
    let arguments = ["--only", "diagonal_balance,norm_equivalence", "--threads", "1"];
    smoke(&alone, &arguments);
    let runs: Vec<_> = (0..3)
        .map(|_| {
            let mut process = Process::new(env!("CARGO_BIN_EXE_xtask"));
            process.args(["reproduce", "--profile", "smoke"]).args(arguments);
            process.arg("--out").arg(&shared).env("LD_PRELOAD", &library);
            process.stdout(Stdio::null()).stderr(Stdio::piped());
            process.spawn().unwrap()
        })
        .collect();
    for run in runs {
        let output = run.wait_with_output().unwrap();
        let lines = said(&output.stderr);
        assert!(output.status.success(), "{lines:?}");
        assert!(lines.len() <= 1, "{lines:?}");
        assert!(lines.iter().all(|line| line.contains("cells: this file system has no locks")));
    }
    assert_same(&everything(&shared), &everything(&alone));
    assert_nothing_half_written(&shared);
}
