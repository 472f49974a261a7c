//! The optimizer, the sampling and the loss of `flatmin analyze`.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use support::{Numbers, write_npz};

/// n = 5 samples with k = 2 outputs and p = 3 parameters, logits, derivatives and a preconditioner.
struct Archive {
    folder: tempfile::TempDir,
}

const LOGITS: [f64; 10] = [0.3, -0.4, 1.2, 0.1, -2.0, 0.5, 0.0, 0.7, 3.0, -1.0];

fn numbers(shape: Vec<usize>, values: Vec<f64>) -> Numbers {
    (shape, values)
}

fn jacobian() -> Vec<f64> {
    (0..30).map(|at| f64::from((7 * at * at + 3 * at) % 11) / 4.0 - 1.2).collect()
}

impl Archive {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let single = numbers(vec![5, 3], jacobian()[..15].to_vec());
        let outputs = numbers(vec![5, 2, 3], jacobian());
        let logits = numbers(vec![5, 2], LOGITS.to_vec());
        // The rows R_iᵀJ_i, with S_i = diag(π) − ππᵀ = R_iR_iᵀ: for two outputs √(π₀π₁) times the
        // difference of the rows.
        let weighted = numbers(
            vec![5, 3],
            (0..15)
                .map(|at| {
                    let (i, j) = (at / 3, at % 3);
                    let rows = &jacobian()[6 * i..];
                    let odds = (LOGITS[2 * i] - LOGITS[2 * i + 1]) / 2.0;
                    (rows[j] - rows[3 + j]) / (2.0 * libm::cosh(odds))
                })
                .collect(),
        );
        let residuals = numbers(vec![5], vec![0.5, -0.25, 0.0, 0.125, 0.25]);
        let diagonal = numbers(vec![3], vec![0.5, 2.0, 4.0]);
        let zero = numbers(vec![3], vec![0.5, 0.0, 4.0]);
        let nan = numbers(vec![5, 2], [&LOGITS[..9], &[f64::NAN]].concat());
        let hessian = numbers(vec![5], vec![1.0, 2.0, -1.0, 1.0, 1.0]);
        write_npz(
            &folder.path().join("run.npz"),
            &[
                ("jacobian", &single),
                ("outputs", &outputs),
                ("weighted", &weighted),
                ("logits", &logits),
                ("residuals", &residuals),
                ("diagonal", &diagonal),
                ("zero", &zero),
                ("nan", &nan),
                ("hessian", &hessian),
            ],
        );
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("run.npz")
    }

    fn run(&self, arguments: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flatmin"));
        command.arg("analyze").arg(self.path()).args(arguments.split_whitespace());
        command.output().unwrap()
    }

    fn json(&self, arguments: &str) -> Value {
        let output = self.run(&format!("--format json {arguments}"));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments}: {error}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn threshold(&self, arguments: &str) -> f64 {
        self.json(arguments)["batches"][0]["threshold"]["estimate"].as_f64().unwrap()
    }

    /// Checks the exit status, and that one line on standard error says these words.
    fn refuses(&self, arguments: &str, status: i32, words: &str) {
        let output = self.run(arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{arguments}: {error}");
        assert!(error.contains(words), "{arguments}: {error}");
        assert!(output.stdout.is_empty(), "{arguments}");
        assert!(status == 2 || error.lines().count() == 1, "{error}");
    }
}

#[test]
fn a_loss_and_its_weighted_jacobian_have_one_threshold() {
    let archive = Archive::new();
    let options = "--batch-size 2 --momentum 0.5 --nesterov";
    let weighted = archive.threshold(&format!("--array weighted {options}"));
    let loss = "--array outputs --loss cross-entropy --logits logits";
    let found = archive.threshold(&format!("{loss} {options}"));
    assert!((found / weighted - 1.0).abs() < 1e-9, "{found} or {weighted}");
    let report = archive.json(loss);
    assert_eq!(
        (report["loss"].as_str(), report["model"].as_str()),
        (Some("cross_entropy"), Some("gauss_newton"))
    );
}

#[test]
fn a_scaled_loss_scales_the_threshold_with_any_decay() {
    let archive = Archive::new();
    // c times the loss with decay w at η is the loss with decay w/c at cη.
    for decay in ["--weight-decay", "--decoupled-weight-decay"] {
        let plain = archive.threshold(&format!("{decay} 0.1 --momentum 0.9"));
        let scaled = archive.threshold(&format!("{decay} 0.2 --momentum 0.9 --loss-scale 2"));
        assert!((2.0 * scaled / plain - 1.0).abs() < 1e-9, "{decay}: {scaled} or {plain}");
    }
}

#[test]
fn the_answer_says_what_was_assumed() {
    let archive = Archive::new();
    let options = "--batch-size 2 --sampling poisson --momentum 0.9 --dampening 0.9 \
                   --preconditioner diagonal --decoupled-weight-decay 0.01 --residuals residuals \
                   --learning-rate 0.01";
    let report = archive.json(options);
    let batch = &report["batches"][0];
    assert_eq!(batch["sampling"], "poisson");
    assert_eq!(batch["optimizer"]["dampening"], 0.9);
    assert_eq!(batch["optimizer"]["preconditioned"], true);
    // With momentum or decay rounding is estimated, not proved.
    assert_eq!(batch["threshold"]["kind"], "exact");
    assert!(batch["noise_coefficient"].as_f64().unwrap() > 0.29);
    assert!(batch["learning_rates"][0]["noise_floor"]["excess"].as_f64().unwrap() > 0.0);
    assert!(report["residual_gradients"]["mean"].as_f64().unwrap() > 0.0);
    let text = String::from_utf8(archive.run(options).stdout).unwrap();
    for words in [
        "SGD with momentum 0.9, dampening 0.9 and decoupled weight decay 0.01, preconditioned",
        "drawn by Poisson sampling",
        "Gauss–Newton model of the loss",
        "Mean gradient of the residuals",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
}

#[test]
fn a_noise_floor_that_is_not_computed_is_not_called_none() {
    let archive = Archive::new();
    let text = |options: &str| {
        let rates = "--batch-size 2 --residuals residuals --learning-rate 0.001,1e6";
        String::from_utf8(archive.run(&format!("{rates} {options}")).stdout).unwrap()
    };
    let epochs = text("--sampling reshuffling");
    assert!(epochs.matches("not computed\n").count() == 2, "{epochs}");
    let independent = text("");
    assert!(independent.matches("no floor\n").count() == 1, "{independent}");
}

/// 33 samples in batches of 32, as in a tutorial: the last batch holds one.
#[test]
fn a_short_last_batch_is_named_and_judged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jacobian.npz");
    // One sample weighs more than the others.
    let entry = |at: u32| (f64::from(at * at % 101) / 50.0 - 1.0) * if at < 6 { 3.0 } else { 1.0 };
    let values = (0..33 * 6).map(entry).collect();
    write_npz(&path, &[("jacobian", &numbers(vec![33, 6], values))]);
    let json = |path: &Path, options: &str| -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flatmin"));
        command.arg("analyze").arg(path).args(["--batch-size", "32", "--format", "json"]);
        let output = command.args(options.split_whitespace()).output().unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["batches"][0].clone()
    };
    let estimate = |batch: &Value| batch["threshold"]["estimate"].as_f64().unwrap();
    let independent = json(&path, "");
    let short = &independent["short_last_batch"];
    assert_eq!(short["size"], 1);
    let edge = estimate(short);
    assert!(edge < 0.7 * estimate(&independent), "{independent}");
    let rate = 0.95 * estimate(&independent);
    let epochs = json(&path, &format!("--sampling reshuffling --learning-rate {rate}"));
    assert_eq!(epochs["learning_rates"][0]["verdict"], "unstable");
    assert_eq!(epochs["threshold"]["kind"], "exact");
    assert!((estimate(&epochs) / edge - 1.0).abs() < 1e-9);
    let dropped = json(&path, "--sampling reshuffling --drop-last");
    assert!(estimate(&dropped) > 0.99 * estimate(&independent), "{dropped}");
}

#[test]
fn single_runs_have_an_edge_of_their_own() {
    let archive = Archive::new();
    let batch = &archive.json("--almost-sure --nesterov --momentum 0.5")["batches"][0];
    let end = |name: &str| batch["almost_sure_edge"][name].as_f64().unwrap();
    assert!(end("lower") <= end("upper"));
    assert!(end("upper") > batch["threshold"]["lower"].as_f64().unwrap(), "{batch}");
}

#[test]
fn what_does_not_fit_is_refused() {
    let archive = Archive::new();
    archive.refuses("--momentum 1", 2, "from 0 up to");
    archive.refuses("--nesterov", 2, "needs a momentum above 0");
    archive.refuses("--momentum 0.9 --nesterov --dampening 0.1", 2, "no dampening");
    archive.refuses("--weight-decay=-1", 2, "at least 0");
    archive.refuses("--loss cross-entropy", 2, "need --logits");
    // Outputs tell n and k for any loss.
    archive.refuses("--logits logits", 3, "--logits of shape (5 × 2) was given");
    archive.refuses("--sampling poisson --batch-size 6", 3, "6 samples on average from 5");
    archive.refuses("--preconditioner zero", 3, "the preconditioner of parameter 1 is 0");
    archive.refuses("--preconditioner residuals", 3, "each of the 3 parameters");
    archive.refuses("--loss cross-entropy --logits logits", 3, "5 samples with 2 outputs");
    let loss = "--array outputs --loss cross-entropy --logits";
    archive.refuses(&format!("{loss} nan"), 3, "the logit of sample 4, output 1 is NaN");
    archive.refuses("--loss custom --output-hessian hessian", 3, "sample 2 has the eigenvalue -1");
    archive.refuses("--residuals nowhere", 3, "has no array \"nowhere\"");
    archive.refuses("--residuals logits", 3, "the residuals are 5 × 2, expected 5 × 1");
}
