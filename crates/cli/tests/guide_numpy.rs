//! The numpy scripts of the guides, run as a reader would run them, with the built command.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;

/// `python3 docs/guide/examples/export_numpy.py --out OUT …`, or nothing where Python has no numpy.
fn script(out: &Path, arguments: &[&str]) -> Option<Command> {
    let mut command = example("export_numpy.py", out)?;
    command.args(arguments);
    Some(command)
}

/// `python3 docs/guide/examples/NAME --out OUT`, or nothing where Python has no numpy.
///
/// With the variable `CI` set a missing numpy is a failure, so that these tests are never skipped
/// there.
fn example(name: &str, out: &Path) -> Option<Command> {
    let mut numpy = Command::new("python3");
    let has_numpy = numpy.args(["-c", "import numpy"]).ok();
    if let Err(error) = has_numpy {
        let skipped_in_ci = std::env::var_os("CI").is_some();
        assert!(!skipped_in_ci, "the guides need python3 with numpy: {error}");
        return None;
    }
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/examples");
    let mut command = Command::new("python3");
    command.env("FLATMIN", env!("CARGO_BIN_EXE_flatmin")).env("PYTHONDONTWRITEBYTECODE", "1");
    command.arg(examples.join(name)).arg("--out").arg(out);
    Some(command)
}

#[test]
fn the_numpy_script_trains_exports_and_concludes() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut command) = script(folder.path(), &[]) else { return };
    // Batches of 8, with which the network was trained, are stable at its learning rate; of 1 are
    // not.
    command.assert().success().stdout(
        contains("24 samples, 280 parameters, rank 24")
            .and(contains("unstable at 0.1"))
            .and(contains("stable at 0.1; the trace bound would have said")),
    );
    let blocks = fs::read_to_string(folder.path().join("blocks.json")).unwrap();
    let blocks: serde_json::Value = serde_json::from_str(&blocks).unwrap();
    assert_eq!(blocks, serde_json::json!({"w": [0, 240], "a": [240, 280]}));
}

#[test]
fn the_formats_of_the_numpy_script_give_the_same_answer() {
    let folder = tempfile::tempdir().unwrap();
    let mut answers = Vec::new();
    for format in ["npy", "npz"] {
        let Some(mut command) = script(folder.path(), &["--format", format]) else { return };
        let output = command.assert().success().get_output().stdout.clone();
        let output = String::from_utf8(output).unwrap();
        answers.push(output.split_once("24 samples").unwrap().1.to_owned());
    }
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn the_run_that_the_numpy_script_records_is_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut command) = script(folder.path(), &["--replay"]) else { return };
    let output = command.assert().success().get_output().stdout.clone();
    let output = String::from_utf8(output).unwrap();
    let (_, difference) = output.split_once("parameters at the end differ by ").unwrap();
    let difference: f64 = difference.split_once(',').unwrap().0.parse().unwrap();
    // 10 000 steps, each with a few roundings, of a run that contracts towards its minimum.
    assert!(difference < 1e-10, "differs by {difference}");
}

#[test]
fn the_numpy_script_says_what_to_run_when_it_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut command) = script(folder.path(), &["--no-analyze"]) else { return };
    command.assert().success().stdout(
        contains("not run, as asked; to run it:")
            .and(contains("flatmin analyze"))
            .and(contains("--loss-scale 1.0")),
    );
    assert!(folder.path().join("jacobian.npy").exists());
}

#[test]
fn runs_return_inside_and_leave_outside_of_the_edge_that_the_flags_give() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut command) = example("training_loops_numpy.py", folder.path()) else { return };
    // The script fails when the median of eight runs does anything else, in any of its rows.
    let output = command.assert().success().get_output().stdout.clone();
    let output = String::from_utf8(output).unwrap();
    assert_eq!(output.matches(": as predicted").count(), 10, "{output}");
    for flags in
        ["--nesterov", "--weight-decay", "--decoupled-weight-decay", "--loss cross-entropy"]
    {
        assert!(output.contains(flags), "{flags}");
    }
}
