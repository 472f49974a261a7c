//! The program runs every experiment and writes its files.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::process::{Command, Output};

use flatmin_experiments::EXPERIMENTS;

fn run(experiment: &str, out: &Path) -> Output {
    let arguments = [experiment, "--profile", "smoke", "--out"];
    let program = env!("CARGO_BIN_EXE_flatmin-experiments");
    Command::new(program).args(arguments).arg(out).output().unwrap()
}

#[test]
fn each_experiment_writes_its_table_schema_and_figure() {
    let folder = tempfile::tempdir().unwrap();
    for experiment in EXPERIMENTS {
        let output = run(experiment.id, folder.path());
        assert_eq!(output.status.code(), Some(0), "{experiment}: {output:?}");
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(printed.starts_with(experiment.title), "{experiment}: {printed}");
        for ending in ["csv", "schema.json", "svg"] {
            let path = folder.path().join(format!("{experiment}.{ending}"));
            assert!(std::fs::metadata(&path).unwrap().len() > 0, "{}", path.display());
        }
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_named_in_one_line() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let output = run("norm_equivalence", &file.path().join("below"));
    assert_eq!((output.status.code(), output.stdout.len()), (Some(3), 0));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("below") && error.lines().count() == 1, "{error}");
}

#[test]
fn an_unknown_experiment_is_wrong_usage_and_the_known_ones_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let output = run("relu_sharpnes", folder.path());
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    let error = String::from_utf8(output.stderr).unwrap();
    for experiment in EXPERIMENTS {
        assert!(error.contains(experiment.id), "{experiment}: {error}");
    }
}
