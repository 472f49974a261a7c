//! Interrupted runs: the same bytes as without the interruption.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use predicates::str::contains;
use support::{Runs, long_run, results};

/// About a second: long enough to be interrupted anywhere.
const STEPS: u64 = 300_000;

fn config(max_steps: u64) -> String {
    long_run(max_steps, 1500, 4000)
}

fn spawn(runs: &Runs, arguments: &[&str]) -> Child {
    let mut process = Process::new(env!("CARGO_BIN_EXE_flatmin"));
    process.arg("train").args(arguments).current_dir(runs.folder.path());
    process.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until the metrics table has so many lines.
fn wait_for_lines(folder: &Path, lines: usize) {
    let start = Instant::now();
    let count =
        || fs::read_to_string(folder.join("metrics.csv")).unwrap_or_default().lines().count();
    while count() < lines {
        assert!(start.elapsed() < Duration::from_secs(100), "no {lines} lines");
        std::thread::yield_now();
    }
}

fn whole(runs: &Runs) -> std::collections::BTreeMap<&'static str, Vec<u8>> {
    runs.config("run.toml", &config(STEPS));
    runs.train(&["run.toml", "--out", "whole"]).assert().success();
    results(&runs.path("whole"))
}

#[test]
fn a_killed_run_goes_on_with_the_same_bytes() {
    let runs = Runs::new();
    let whole = whole(&runs);
    // At once, early, and twice later on.
    for (name, moments) in [("a", &[0][..]), ("b", &[1]), ("c", &[20, 50, 80])] {
        let folder = runs.path(name);
        let mut arguments = vec!["run.toml", "--out", name];
        for lines in moments {
            let mut child = spawn(&runs, &arguments);
            wait_for_lines(&folder, *lines);
            child.kill().unwrap();
            child.wait().unwrap();
            arguments = vec!["run.toml", "--out", name, "--resume"];
        }
        // A kill between writing and renaming leaves such a file.
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(".tmp-left"), "half").unwrap();
        runs.train(&arguments).assert().success();
        assert_eq!(results(&folder), whole, "{name}");
        assert!(!folder.join(".tmp-left").exists());
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_says_how_to_go_on_and_goes_on_with_the_same_bytes() {
    let runs = Runs::new();
    let whole = whole(&runs);
    let folder = runs.path("stopped");
    let mut arguments = vec!["run.toml", "--out", "stopped"];
    for (signal, lines) in [("-INT", 20), ("-TERM", 50)] {
        let mut child = spawn(&runs, &arguments);
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        if arguments.contains(&"--resume") {
            // The lines may be those of the run before.
            errors.read_line(&mut said).unwrap();
            assert!(said.contains("going on from step "), "{said}");
        }
        wait_for_lines(&folder, lines);
        let id = child.id().to_string();
        assert!(Process::new("kill").args([signal, &id]).status().unwrap().success());
        errors.read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(3), "{said}");
        assert!(said.contains("flatmin: stopped: interrupted after "), "{said}");
        assert!(said.contains("--resume goes on from there"), "{said}");
        arguments = vec!["run.toml", "--out", "stopped", "--resume"];
    }
    // A run can be stopped from the first word that it says.
    let mut child = spawn(&runs, &arguments);
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    errors.read_line(&mut said).unwrap();
    let id = child.id().to_string();
    assert!(Process::new("kill").args(["-INT", &id]).status().unwrap().success());
    errors.read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3), "{said}");
    let going_on = contains("flatmin: stopped: going on from step ");
    runs.train(&arguments).assert().success().stderr(going_on);
    assert_eq!(results(&folder), whole);
}

#[test]
fn when_checkpoints_are_written_has_no_effect() {
    let runs = Runs::new();
    let short = config(20_000);
    runs.config("run.toml", &short);
    runs.train(&["run.toml"]).assert().success();
    runs.config("often.toml", &short.replace("= 4000", "= 1"));
    runs.train(&["often.toml"]).assert().success();
    assert_eq!(results(&runs.path("run")), results(&runs.path("often")));
}

/// A short run that was stopped, with its configuration.
fn stopped(edit: impl Fn(&Runs)) -> Runs {
    let runs = Runs::new();
    runs.config("run.toml", &config(30_000));
    runs.train(&["run.toml"]).assert().success();
    // Without its summary the run counts as interrupted.
    fs::remove_file(runs.path("run/run.json")).unwrap();
    edit(&runs);
    runs
}

#[track_caller]
fn refused(edit: impl Fn(&Runs), message: &str) {
    let runs = stopped(edit);
    let before = fs::read(runs.path("run/metrics.csv")).unwrap();
    let assert = runs.train(&["run.toml", "--resume"]).assert().code(3).stdout("");
    let said = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    let is_line = said.starts_with("flatmin: ") && said.lines().count() == 1;
    assert!(is_line && said.contains(message), "{said}");
    assert_eq!(fs::read(runs.path("run/metrics.csv")).unwrap(), before);
}

fn edit_checkpoint(runs: &Runs, edit: impl Fn(String) -> String) {
    let path = runs.path("run/checkpoint");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, edit(text)).unwrap();
}

#[test]
fn checkpoints_of_other_runs_are_refused_with_the_reason() {
    let config = |from: &'static str, to: &'static str| {
        move |runs: &Runs| {
            let text = fs::read_to_string(runs.path("run.toml")).unwrap();
            fs::write(runs.path("run.toml"), text.replace(from, to)).unwrap();
        }
    };
    refused(
        config("learning_rate = 0.005", "learning_rate = 0.006"),
        "run/checkpoint: is of a run with another configuration; resume with what it was started",
    );
    refused(config("sample_count = 60", "sample_count = 61"), "a run with other training data");
    refused(config("test_count = 50", "test_count = 51"), "a run with other test data");
}

#[test]
fn damaged_and_newer_checkpoints_are_refused() {
    let damage = |edit: fn(String) -> String| move |runs: &Runs| edit_checkpoint(runs, edit);
    refused(
        damage(|text| text.replace("\"step\":", "\"step\":1")),
        "its checksum does not match its content); start afresh in another --out",
    );
    refused(damage(|text| text[..text.len() / 2].to_owned()), "run/checkpoint: is damaged (");
    refused(damage(|_| String::new()), "run/checkpoint: is damaged (");
    refused(
        damage(|text| text.replace("flatmin.checkpoint/1", "flatmin.checkpoint/2")),
        "its format flatmin.checkpoint/2 is newer than flatmin.checkpoint/1",
    );
    refused(
        |runs| fs::remove_file(runs.path("run/checkpoint")).unwrap(),
        "flatmin: run: holds parts of a run, but no checkpoint to go on from",
    );
    refused(
        |runs| {
            let path = runs.path("run/metrics.csv");
            let text = fs::read_to_string(&path).unwrap();
            fs::write(path, text.replacen("step,", "steps,", 1)).unwrap();
        },
        "run/metrics.csv: is not the table that the checkpoint was written with",
    );
}

#[test]
fn a_run_in_the_folder_is_not_overwritten() {
    let runs = Runs::new();
    runs.config("run.toml", &config(3000));
    runs.train(&["run.toml"]).assert().success();
    let before = results(&runs.path("run"));
    runs.train(&["run.toml"]).assert().code(3).stdout("").stderr(
        "flatmin: run: holds a run already (run.json); --resume goes on with it, another --out \
         starts afresh\n",
    );
    // A run that has ended is said again.
    let first = runs.train(&["run.toml", "--resume"]).assert().success().stderr("");
    assert!(String::from_utf8_lossy(&first.get_output().stdout).contains("took all its steps"));
    assert_eq!(results(&runs.path("run")), before);
}

#[test]
fn resuming_nothing_starts_afresh() {
    let runs = Runs::new();
    runs.config("run.toml", &config(3000));
    let said = "flatmin: run: no run to go on with, starting afresh\n";
    runs.train(&["run.toml", "--resume"]).assert().success().stderr(said);
}

#[test]
fn two_processes_do_not_write_to_one_run() {
    let runs = Runs::new();
    runs.config("run.toml", &config(STEPS));
    let mut child = spawn(&runs, &["run.toml"]);
    wait_for_lines(&runs.path("run"), 5);
    let said = contains("run/metrics.csv: another process is writing to it");
    runs.train(&["run.toml", "--resume"]).assert().code(3).stderr(said);
    child.kill().unwrap();
    child.wait().unwrap();
}
