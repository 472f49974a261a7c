//! `flatmin analyze` as its users call it.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::process::Stdio;

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;

fn flatmin() -> Command {
    Command::cargo_bin("flatmin").unwrap()
}

/// An array of the reference cases.
fn reference(file: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "theory", "tests", "data", file].iter().collect()
}

fn json(file: &Path, arguments: &[&str]) -> Value {
    let mut command = flatmin();
    command.arg("analyze").arg(file).args(["--format", "json"]).args(arguments);
    serde_json::from_slice(&command.assert().success().get_output().stdout).unwrap()
}

/// A Jacobian n × p without structure, as an `.npy` file in C or Fortran order.
fn write_jacobian(path: &Path, n: usize, p: usize, fortran: bool) {
    let entry = |i: usize, j: usize| {
        let mixed = (i * 7919 + j * 104_729 + i * j * 31) % 10_007;
        mixed as f64 / 5003.5 - 1.0
    };
    let mut bytes = format!(
        "{{'descr': '<f8', 'fortran_order': {}, 'shape': ({n}, {p}), }}\n",
        if fortran { "True" } else { "False" }
    )
    .into_bytes();
    let size = u16::try_from(bytes.len()).unwrap().to_le_bytes();
    bytes.splice(0..0, [b"\x93NUMPY\x01\x00".as_slice(), &size].concat());
    let mut push = |i, j| bytes.extend(f64::to_le_bytes(entry(i, j)));
    if fortran {
        (0..p).for_each(|j| (0..n).for_each(|i| push(i, j)));
    } else {
        (0..n).for_each(|i| (0..p).for_each(|j| push(i, j)));
    }
    std::fs::write(path, bytes).unwrap();
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

#[test]
fn text_says_what_was_found() {
    flatmin()
        .arg("analyze")
        .arg(reference("relu_20x48.npy"))
        .args(["--batch-size", "1,4", "--learning-rate", "0.05"])
        .assert()
        .success()
        .stderr("")
        .stdout(
            contains("20 samples × 48 parameters, rank 20")
                .and(contains("(1/2n) Σ (f − y)²"))
                .and(contains("--loss-scale 2"))
                .and(contains("certified interval"))
                .and(contains(
                    "SGD with learning rate 0.05 can stay at this minimum with batch size 4, and not \
                     with batch size 1.",
                )),
        );
}

#[test]
fn slightly_beyond_the_edge_a_single_run_may_stay() {
    let file = reference("relu_20x48.npy");
    let upper = number(&json(&file, &[])["batches"][0]["threshold"]["upper"]);
    let text = |factor: f64, batch_size: &str| {
        let mut command = flatmin();
        command.args(["analyze", "--batch-size", batch_size, "--learning-rate"]);
        let output = command.arg((factor * upper).to_string()).arg(&file).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(text(1.2, "1").contains(" with batch size 1) a single run may still stay"));
    for factor in [0.9, 1.4] {
        assert!(!text(factor, "1").contains("single run"));
    }
    // Gradient descent has no runs to choose from.
    let edge = number(&json(&file, &["--batch-size", "20"])["batches"][0]["threshold"]["upper"]);
    assert!(!text(1.2 * edge / upper, "20").contains("single run"));
}

#[test]
fn the_scale_of_the_loss_divides_thresholds_and_multiplies_sharpness() {
    let file = reference("relu_20x48.npy");
    let [plain, scaled] =
        [json(&file, &[]), json(&file, &["--loss-scale", "2", "--learning-rate", "0.02"])];
    assert!((number(&scaled["trace"]) / number(&plain["trace"]) - 2.0).abs() < 1e-15);
    let [a, b] = [&plain["batches"][0], &scaled["batches"][0]];
    for end in ["lower", "upper"] {
        let ratio = number(&a["threshold"][end]) / number(&b["threshold"][end]);
        assert!((ratio - 2.0).abs() < 1e-14);
    }
    for bound in ["S1", "S2", "S3", "S4", "S5", "S6", "S7"] {
        let ratio = number(&a["bounds"][bound]) / number(&b["bounds"][bound]);
        assert!((ratio - 2.0).abs() < 1e-14, "{bound}");
    }
    let rate = &b["learning_rates"][0];
    assert_eq!(rate["verdict"], "stable");
    let margin = number(&b["threshold"]["lower"]) / 0.02 - 1.0;
    assert!((number(&rate["margin"]) - margin).abs() < 1e-9);
}

#[test]
fn verdicts_and_check_agree_with_the_interval() {
    let file = reference("relu_20x48.npy");
    let report = json(&file, &[]);
    let threshold = &report["batches"][0]["threshold"];
    let (lower, upper) = (number(&threshold["lower"]), number(&threshold["upper"]));
    let beyond = upper.next_up();
    let inside = f64::midpoint(lower, upper);
    let rates = format!("{lower},{inside},{beyond}");
    let report = json(&file, &["--learning-rate", &rates]);
    let verdicts = report["batches"][0]["learning_rates"].as_array().unwrap();
    let verdicts: Vec<&str> = verdicts.iter().map(|r| r["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["stable", "undecided", "unstable"]);
    let check = |rate: f64, status: i32| {
        let mut command = flatmin();
        command.arg("analyze").arg(&file).args(["--check", "--learning-rate", &rate.to_string()]);
        command.assert().code(status).stdout(contains("verdict"));
    };
    check(lower, 0);
    check(inside, 0);
    check(beyond, 1);
}

#[test]
fn momentum_leaves_the_bounds_to_sgd_without_it() {
    let file = reference("gaussian_5x8.npy");
    let report = json(&file, &["--momentum", "0.9"]);
    let batch = &report["batches"][0];
    assert!(batch["bounds"].is_null());
    assert!(number(&batch["threshold"]["lower"]) > 0.0);
    // Full batches are gradient descent with momentum: 2(1 + β)/λ_max.
    let report = json(&file, &["--momentum", "0.9", "--batch-size", "5"]);
    let expected = 2.0 * 1.9 / number(&report["lambda_max"]);
    let found = number(&report["batches"][0]["threshold"]["lower"]);
    assert!((found / expected - 1.0).abs() < 1e-12);
}

#[test]
fn a_flat_minimum_is_stable_at_every_learning_rate() {
    let report = json(&reference("all_zero_4x3.npy"), &["--learning-rate", "1e9"]);
    let batch = &report["batches"][0];
    assert_eq!(batch["threshold"]["upper"], "inf");
    assert_eq!(batch["learning_rates"][0]["verdict"], "stable");
    assert_eq!(batch["learning_rates"][0]["margin"], "inf");
    let mut command = flatmin();
    command
        .arg("analyze")
        .arg(reference("all_zero_4x3.npy"))
        .assert()
        .success()
        .stdout(contains("stable at any learning rate"));
}

#[test]
fn blocks_of_parameters_add_up() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.npy");
    let blocks = folder.path().join("blocks.json");
    write_jacobian(&file, 12, 40, false);
    std::fs::write(&blocks, r#"{"b": [10, 40], "a": [0, 10], "a.inner": [2, 7], "all": [0, 40]}"#)
        .unwrap();
    let report = json(&file, &["--blocks", blocks.to_str().unwrap()]);
    let plain = json(&file, &[]);
    let found = report["blocks"].as_array().unwrap();
    let names: Vec<&str> = found.iter().map(|block| block["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["b", "a", "a.inner", "all"]);
    assert_eq!((&found[0]["first"], &found[0]["end"]), (&10.into(), &40.into()));
    let trace = |k: usize| number(&found[k]["trace"]);
    assert!(((trace(0) + trace(1)) / number(&plain["trace"]) - 1.0).abs() < 1e-14);
    assert!(trace(2) < trace(1));
    for field in ["trace", "frobenius_norm", "lambda_max"] {
        let whole = number(&plain[field]);
        assert!((number(&found[3][field]) / whole - 1.0).abs() < 1e-12, "{field}");
        assert!((number(&report[field]) / whole - 1.0).abs() < 1e-14, "{field}");
    }
    flatmin()
        .arg("analyze")
        .arg(&file)
        .args(["--blocks", blocks.to_str().unwrap()])
        .assert()
        .stdout(contains("a.inner").and(contains("2..7")));
}

/// n = 700 makes blocks of columns 23 936 wide: this matrix is read in two.
#[test]
fn order_and_threads_change_no_digit_that_matters() {
    let folder = tempfile::tempdir().unwrap();
    let (n, p) = (700, 24_500);
    let files = [folder.path().join("c.npy"), folder.path().join("fortran.npy")];
    write_jacobian(&files[0], n, p, false);
    write_jacobian(&files[1], n, p, true);
    let reports = [
        json(&files[0], &["--threads", "1"]),
        json(&files[0], &["--threads", "3"]),
        json(&files[1], &["--threads", "2"]),
    ];
    assert_eq!(reports[0], reports[1]);
    let ends = |report: &Value| {
        let threshold = &report["batches"][0]["threshold"];
        (number(&threshold["lower"]), number(&threshold["upper"]))
    };
    let (c, fortran) = (ends(&reports[0]), ends(&reports[2]));
    assert!(c.0 <= fortran.1 && fortran.0 <= c.1, "{c:?} {fortran:?}");
    assert!((c.0 / fortran.0 - 1.0).abs() < 1e-9);
}

#[test]
fn figures_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let figure = folder.path().join("thresholds.svg");
    flatmin()
        .arg("analyze")
        .arg(reference("relu_20x48.npy"))
        .args(["--learning-rate", "0.07", "--figure", figure.to_str().unwrap()])
        .assert()
        .success();
    let svg = std::fs::read_to_string(&figure).unwrap();
    assert!(svg.starts_with("<svg"));
    for words in ["η = 0.07", "exact threshold η*", "batch size B", "relu_20x48.npy"] {
        assert!(svg.contains(words), "{words}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn wrong_usage_ends_with_status_2_and_a_hint() {
    let check = |arguments: &[&str], words: &str| {
        flatmin().args(arguments).assert().code(2).stdout("").stderr(contains(words));
    };
    check(&[], "Usage: flatmin");
    check(&["analyze"], "<FILE>");
    check(&["analyse", "a.npy"], "a similar subcommand exists: 'analyze'");
    check(&["analyze", "a.npy", "--batchsize", "3"], "'--batch-size'");
    check(&["analyze", "a.npy", "--batch-size", "0"], "expected at least 1");
    check(&["analyze", "a.npy", "--batch-size", "1,x"], "expected a whole number");
    check(&["analyze", "a.npy", "--learning-rate", "nan"], "expected a finite number");
    check(&["analyze", "a.npy", "--learning-rate=-1"], "expected a number above 0");
    check(&["analyze", "a.npy", "--momentum", "1"], "expected a number from 0");
    check(&["analyze", "a.npy", "--loss-scale", "0"], "expected a number above 0");
    check(&["analyze", "a.npy", "--sampling", "shuffled"], "without-replacement");
    check(&["analyze", "a.npy", "--gram", "--blocks", "b.json"], "cannot be used with");
    check(&["analyze", "a.npy", "--check"], "--learning-rate");
    check(&["completions", "tcsh"], "possible values");
}

#[test]
fn a_reader_that_had_enough_is_no_error() {
    let pipe = |arguments: &[&str]| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_flatmin"))
            .args(arguments)
            .stdout(Stdio::from(writer))
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}");
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{arguments:?}");
    };
    let file = reference("relu_20x48.npy");
    pipe(&["analyze", file.to_str().unwrap()]);
    pipe(&["analyze", file.to_str().unwrap(), "--format", "json"]);
    pipe(&["analyze", "--help"]);
    pipe(&["completions", "bash"]);
}

#[cfg(target_os = "linux")]
#[test]
fn an_answer_that_cannot_be_written_is_a_failure() {
    let full = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_flatmin"))
            .args(arguments)
            .stdout(std::fs::File::options().write(true).open("/dev/full").unwrap())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(3), "{arguments:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.starts_with("flatmin: standard output: "), "{arguments:?}: {error}");
    };
    let file = reference("relu_20x48.npy");
    full(&["analyze", file.to_str().unwrap()]);
    full(&["analyze", file.to_str().unwrap(), "--format", "json"]);
    full(&["train", "--print-config"]);
    full(&["completions", "bash"]);
}

#[test]
fn the_program_documents_itself() {
    let examples = || contains("Examples:").or(contains("Example:"));
    for command in ["analyze", "completions", "man"] {
        flatmin().args([command, "--help"]).assert().success().stdout(examples());
    }
    flatmin().arg("--help").assert().success().stdout(examples().and(contains("Exit status")));
    let version = concat!("flatmin ", env!("CARGO_PKG_VERSION"));
    flatmin().arg("--version").assert().success().stdout(predicate::str::starts_with(version));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        flatmin().args(["completions", shell]).assert().success().stdout(contains("loss-scale"));
    }
    let folder = tempfile::tempdir().unwrap();
    flatmin().arg("man").arg(folder.path()).assert().success();
    let page = std::fs::read_to_string(folder.path().join("flatmin-analyze.1")).unwrap();
    assert!(page.contains(r"\-\-loss\-scale"), "{page}");
}

/// 6 samples with 3 outputs and 40 parameters:
/// `numpy.random.default_rng(0).standard_normal((6, 3, 40))`.
fn three_outputs() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "data", "outputs_6x3x40.npy"].iter().collect()
}

#[test]
fn several_outputs_have_a_threshold_of_their_own() {
    let file = three_outputs();
    let report = json(&file, &["--batch-size", "2"]);
    assert_eq!(report["schema"], "flatmin.analyze/1");
    for (field, expected) in [("samples", 6), ("outputs", 3), ("parameters", 40), ("rank", 18)] {
        assert_eq!(report[field], expected, "{field}");
    }
    // By naive Kronecker products in numpy.
    let exact = 0.065_817_289_118_948_73;
    let batch = &report["batches"][0];
    let threshold = &batch["threshold"];
    assert!(number(&threshold["lower"]) <= exact && exact <= number(&threshold["upper"]));
    assert!(number(&batch["relative_width"]) < 2e-10);
    let bound = |id: &str| number(&batch["bounds"][id]);
    assert!(bound("S7") <= exact && exact <= bound("S6") && exact <= bound("S4"));
    assert!(bound("S6") <= bound("S2").min(bound("S3_sharp")).min(bound("S5")));
    // As samples of their own the outputs would be stable up to another rate.
    let folder = tempfile::tempdir().unwrap();
    let rows = folder.path().join("rows.npy");
    let mut bytes = std::fs::read(&file).unwrap();
    let shape = bytes.windows(10).position(|text| text == b"(6, 3, 40)").unwrap();
    bytes[shape..shape + 10].copy_from_slice(b"(18, 40)  ");
    std::fs::write(&rows, bytes).unwrap();
    assert_eq!(json(&rows, &["--outputs", "3", "--batch-size", "2"])["batches"][0], *batch);
    let other = json(&rows, &["--batch-size", "2"]);
    assert_eq!((&other["samples"], &other["outputs"]), (&18.into(), &1.into()));
    assert!((number(&other["batches"][0]["threshold"]["upper"]) / exact - 1.0).abs() > 0.1);
}

#[test]
fn text_says_how_many_outputs_there_are_and_what_the_loss_is() {
    flatmin().arg("analyze").arg(three_outputs()).assert().success().stderr("").stdout(
        contains("6 samples × 3 outputs × 40 parameters, rank 18")
            .and(contains("Loss (1/2n) Σ ‖f − y‖²"))
            .and(contains("torch.nn.MSELoss, 0.666666666666667."))
            .and(contains("largest λ_max(J_iJ_iᵀ)")),
    );
    let momentum = json(&three_outputs(), &["--momentum", "0.9"]);
    assert!(number(&momentum["batches"][0]["relative_width"]) < 1e-9);
}
