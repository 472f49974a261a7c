//! Every experiment has a binary that runs it and writes its files.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::process::{Command, Output};

use flatmin_experiments::Experiment;

fn binary(experiment: Experiment) -> &'static str {
    match experiment {
        Experiment::ReluDynamics => env!("CARGO_BIN_EXE_relu_dynamics"),
        Experiment::ReluSharpness => env!("CARGO_BIN_EXE_relu_sharpness"),
        Experiment::ReluGeneralization => env!("CARGO_BIN_EXE_relu_generalization"),
        Experiment::ReluSchedule => env!("CARGO_BIN_EXE_relu_schedule"),
        Experiment::DiagonalSharpness => env!("CARGO_BIN_EXE_diagonal_sharpness"),
        Experiment::DiagonalGeneralization => env!("CARGO_BIN_EXE_diagonal_generalization"),
        Experiment::DiagonalBalance => env!("CARGO_BIN_EXE_diagonal_balance"),
        Experiment::NormEquivalence => env!("CARGO_BIN_EXE_norm_equivalence"),
        Experiment::TooWeak => env!("CARGO_BIN_EXE_too_weak"),
        Experiment::BatchSize => env!("CARGO_BIN_EXE_batch_size"),
        Experiment::Threshold => env!("CARGO_BIN_EXE_threshold"),
        Experiment::LinearStability => env!("CARGO_BIN_EXE_linear_stability"),
        Experiment::DeepSharpness => env!("CARGO_BIN_EXE_deep_sharpness"),
        Experiment::Estimators => env!("CARGO_BIN_EXE_estimators"),
        Experiment::ProgressiveSharpening => env!("CARGO_BIN_EXE_progressive_sharpening"),
    }
}

fn run(experiment: Experiment, out: &Path) -> Output {
    let arguments = ["--profile", "smoke", "--out"];
    Command::new(binary(experiment)).args(arguments).arg(out).output().unwrap()
}

#[test]
fn each_binary_writes_its_table_schema_and_figure() {
    let folder = tempfile::tempdir().unwrap();
    for experiment in Experiment::ALL {
        let output = run(experiment, folder.path());
        assert_eq!(output.status.code(), Some(0), "{experiment}: {output:?}");
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(printed.starts_with(experiment.title()), "{experiment}: {printed}");
        for ending in ["csv", "schema.json", "svg"] {
            let path = folder.path().join(format!("{experiment}.{ending}"));
            assert!(std::fs::metadata(&path).unwrap().len() > 0, "{}", path.display());
        }
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_named_in_one_line() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let output = run(Experiment::NormEquivalence, &file.path().join("below"));
    assert_eq!((output.status.code(), output.stdout.len()), (Some(3), 0));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("below") && error.lines().count() == 1, "{error}");
}
