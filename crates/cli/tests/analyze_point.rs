//! Tests of how near the point of `flatmin analyze` is to a minimum: Gauss–Newton steps and doubts.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::process::{Command, Output};

use serde_json::Value;
use support::{Numbers, write_npz};

const SAMPLES: usize = 6;
const PARAMETERS: usize = 23;

/// The outputs of a network, less than one apart.
const OUTPUTS: [f64; SAMPLES] = [0.5, 0.25, 0.0, 0.25, 0.75, 0.5];

/// Targets of the squared loss.
const TARGETS: [f64; SAMPLES] = [2.0, -1.0, 1.0, -2.0, 2.0, -0.5];

/// `Σ (f − y)²`.
const SQUARES: f64 = 2.25 + 1.5625 + 1.0 + 5.0625 + 1.5625 + 1.0;

/// The squared distances of the targets from the mean output 3/8.
const SPREAD: f64 = (169.0 + 121.0 + 25.0 + 361.0 + 169.0 + 49.0) / 64.0;

/// Six samples whose residuals the linearised network can fit, with one output and with three.
struct Archive {
    folder: tempfile::TempDir,
}

impl Archive {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let entries = |count: usize| -> Vec<f64> {
            let square = |at: usize| (at * at * 7 + at * 3 + at * at * at) % 101;
            (0..count).map(|at| square(at) as f64 / 50.0 - 1.0).collect()
        };
        let shape = |shape: &[usize], values: Vec<f64>| -> Numbers { (shape.to_vec(), values) };
        let one = |values: [f64; SAMPLES]| shape(&[SAMPLES], values.to_vec());
        let residuals = |part: f64| {
            let differences = OUTPUTS.iter().zip(TARGETS);
            shape(&[SAMPLES], differences.map(|(f, y)| part * (f - y)).collect())
        };
        // Three classes at equal logits: π = 1/3 each, less one at the class of the sample.
        let classes = (0..3 * SAMPLES).map(|at| {
            let label = if at % 3 == at / 3 % 3 { 1.0 } else { 0.0 };
            1.0 / 3.0 - label
        });
        let mut spoiled = OUTPUTS;
        spoiled[4] = f64::NAN;
        let logits = vec![0.0; 3 * SAMPLES];
        write_npz(
            &folder.path().join("run.npz"),
            &[
                ("jacobian", &shape(&[SAMPLES, PARAMETERS], entries(SAMPLES * PARAMETERS))),
                ("three", &shape(&[SAMPLES, 3, 31], entries(SAMPLES * 3 * 31))),
                ("outputs", &one(OUTPUTS)),
                ("spoiled", &one(spoiled)),
                ("zeros", &one(OUTPUTS)),
                ("ones", &one(OUTPUTS.map(|output| output - 1.0))),
                ("huber", &one([1.0, 0.0, 1.0, 1.0, 0.0, 1.0])),
                ("clipped", &one([0.5, -1.0, 0.25, -0.25, 1.0, -0.5])),
                ("far", &residuals(1.0)),
                ("near", &residuals(1.0 / 64.0)),
                ("classes", &shape(&[SAMPLES, 3], classes.collect())),
                ("labels", &shape(&[SAMPLES, 3], vec![1.0 / 3.0 - 1.0; 3 * SAMPLES])),
                ("logits", &shape(&[SAMPLES, 3], logits)),
            ],
        );
        Self { folder }
    }

    fn run(&self, arguments: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flatmin"));
        command.arg("analyze").arg(self.folder.path().join("run.npz"));
        command.args(arguments.split_whitespace()).output().unwrap()
    }

    fn report(&self, arguments: &str) -> Value {
        let output = self.run(&format!("{arguments} --format json"));
        let error = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{arguments}: {error}"))
    }
}

fn kinds(report: &Value) -> Vec<&str> {
    let doubts = report["doubts"].as_array().unwrap().iter();
    doubts.map(|doubt| doubt["kind"].as_str().unwrap()).collect()
}

fn close(value: &Value, expected: f64) {
    let found = value.as_f64().unwrap();
    assert!((found / expected - 1.0).abs() < 1e-9, "{found} is not {expected}");
}

const SQUARED: &str = "--array jacobian --batch-size 2 --learning-rate 0.001";

#[test]
fn a_point_whose_targets_are_far_is_doubted() {
    let archive = Archive::new();
    let report = archive.report(&format!("{SQUARED} --residuals far --logits outputs"));
    assert_eq!(kinds(&report), ["before_the_minimum"]);
    close(&report["residual_gradients"]["decrement"], SQUARES / 12.0);
    let distance = (SQUARES / SPREAD).sqrt();
    close(&report["residual_gradients"]["distance"], distance);
    let text = report["doubts"][0]["text"].as_str().unwrap();
    let words = "lowers the quadratic model of the loss by 1.04 and moves the outputs by 94 % of the spread";
    assert!(text.contains(words), "{text}");

    // The loss is scaled, and the distance is not.
    let scaled =
        archive.report(&format!("{SQUARED} --residuals far --logits outputs --loss-scale 2"));
    close(&scaled["residual_gradients"]["decrement"], SQUARES / 6.0);
    close(&scaled["residual_gradients"]["distance"], distance);

    // The doubt fails --check unless the input is trusted.
    let words = format!("{SQUARED} --residuals far --logits outputs --check");
    assert_eq!(archive.run(&words).status.code(), Some(1));
    let output = archive.run(&words);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("Doubt: the point is not close to a minimum"), "{text}");
    assert!(
        text.contains("\nIf the point is close to a minimum (see the doubt above), SGD"),
        "{text}"
    );
    assert_eq!(archive.run(&format!("{words} --trust-input")).status.code(), Some(0));
}

#[test]
fn a_point_whose_targets_are_near_is_not_doubted() {
    let archive = Archive::new();
    let words = format!("{SQUARED} --residuals near --logits outputs");
    let report = archive.report(&words);
    assert!(kinds(&report).is_empty(), "{report}");
    close(&report["residual_gradients"]["decrement"], SQUARES / 12.0 / 4096.0);
    let text = String::from_utf8(archive.run(&words).stdout).unwrap();
    assert!(
        text.contains(
            "A Gauss–Newton step lowers the quadratic model of the loss by 0.000253 and moves"
        ),
        "{text}"
    );
    // A small decay does not hold these targets back, and a large one does.
    let decayed = |decay: &str| {
        archive.report(&format!("{SQUARED} --residuals far --logits outputs {decay}"))
    };
    assert_eq!(kinds(&decayed("--weight-decay 0.001")), ["before_the_minimum"]);
    assert_eq!(kinds(&decayed("--decoupled-weight-decay 0.001")), ["before_the_minimum"]);
    // Momentum passes on ten times the gradient, and dampening a tenth of it.
    let held = "--weight-decay 1";
    for decay in [held, "--decoupled-weight-decay 10 --momentum 0.9"] {
        let report = decayed(decay);
        assert!(kinds(&report).is_empty(), "{decay}");
        assert!(report["residual_gradients"]["decrement"].is_null(), "{decay}");
    }
    let text = archive.run(&format!("{SQUARED} --residuals far --logits outputs {held}")).stdout;
    assert!(String::from_utf8(text).unwrap().contains("\nWeight decay moves every mode, so that"));
}

/// Without the outputs there is no scale for the residuals of the squared loss.
#[test]
fn residuals_alone_are_not_doubted() {
    let archive = Archive::new();
    let words = format!("{SQUARED} --residuals far");
    let report = archive.report(&words);
    assert!(kinds(&report).is_empty() && report["residual_gradients"]["distance"].is_null());
    let text = String::from_utf8(archive.run(&words).stdout).unwrap();
    assert!(
        text.contains("A Gauss–Newton step lowers the quadratic model of the loss by 1.04.\n"),
        "{text}"
    );
}

#[test]
fn an_untrained_classifier_is_doubted() {
    let archive = Archive::new();
    let words = "--array three --residuals classes --logits logits --loss cross-entropy";
    let report = archive.report(words);
    assert_eq!(kinds(&report), ["before_the_minimum"]);
    // ½ Σ_a r_a²/π_a = ½ · 3 · (4/9 + 1/9 + 1/9) for each sample.
    close(&report["residual_gradients"]["decrement"], 1.0);
    close(&report["residual_gradients"]["distance"], 2.0_f64.sqrt());
}

/// A single sample tells as well.
#[test]
fn few_samples_are_doubted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.npz");
    let numbers =
        |shape: &[usize], values: &[f64]| -> Numbers { (shape.to_vec(), values.to_vec()) };
    write_npz(
        &path,
        &[
            (
                "jacobian",
                &numbers(
                    &[2, 2, 3],
                    &[0.1, 1.0, 0.4, -0.3, 0.2, 1.0, 1.0, 0.3, 0.0, 0.5, 0.9, -1.0],
                ),
            ),
            ("logits", &numbers(&[2, 2], &[0.0; 4])),
            ("residuals", &numbers(&[2, 2], &[0.5, -0.5, 0.5, -0.5])),
        ],
    );
    let words = "--array jacobian --loss cross-entropy --logits logits --residuals residuals";
    let mut command = Command::new(env!("CARGO_BIN_EXE_flatmin"));
    command.arg("analyze").arg(&path).args(words.split_whitespace()).args(["--format", "json"]);
    let report: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    assert_eq!(kinds(&report), ["before_the_minimum"]);
    // 2D = ½² / ½ + ½² / ½ for each sample.
    close(&report["residual_gradients"]["distance"], 1.0);
}

/// Targets that are all alike, such as the zeros of a residual of an equation, have no spread.
#[test]
fn equal_targets_are_no_scale() {
    let archive = Archive::new();
    for targets in ["zeros", "ones"] {
        let words = format!("{SQUARED} --residuals {targets} --logits outputs");
        let report = archive.report(&words);
        assert!(kinds(&report).is_empty() && report["residual_gradients"]["distance"].is_null());
    }
}

/// Where a loss is linear, as Huber's far from the target, its derivative is not in the range of
/// its Hessian.
#[test]
fn a_loss_that_is_linear_somewhere_is_not_judged() {
    let archive = Archive::new();
    let words = "--array jacobian --loss custom --output-hessian huber --residuals clipped \
                 --logits outputs --learning-rate 0.001";
    let report = archive.report(words);
    assert!(kinds(&report).is_empty() && report["residual_gradients"].is_null(), "{report}");
    let text = String::from_utf8(archive.run(words).stdout).unwrap();
    assert!(text.contains("The loss is linear in outputs of some samples"), "{text}");
    assert!(!text.contains("loss added by noise"), "{text}");
    // Residuals of several labels for each sample are not those of the cross-entropy.
    let words = "--array three --residuals labels --logits logits --loss cross-entropy";
    let text = String::from_utf8(archive.run(words).stdout).unwrap();
    assert!(text.contains("The residuals of some samples do not add up to zero"), "{text}");
}

#[test]
fn a_bracket_doubts_as_well() {
    let archive = Archive::new();
    let report =
        archive.report(&format!("{SQUARED} --residuals far --logits outputs --relative-width 0.2"));
    assert_eq!(kinds(&report), ["before_the_minimum"]);
    let text = report["doubts"][0]["text"].as_str().unwrap();
    assert!(text.contains("lowers the quadratic model of the loss by at least "), "{text}");
    let words = format!("{SQUARED} --residuals far --logits outputs --relative-width 0.2");
    let text = String::from_utf8(archive.run(&words).stdout).unwrap();
    assert!(
        text.contains("\nA Gauss–Newton step lowers the quadratic model of the loss by at least")
    );
    let decrement = report["residual_gradients"]["decrement"].as_f64().unwrap();
    assert!(decrement > 0.5 && decrement <= SQUARES / 12.0 * (1.0 + 1e-12), "{decrement}");
}

#[test]
fn outputs_are_checked() {
    let archive = Archive::new();
    for (words, error) in [
        ("--residuals far --logits spoiled", "output (4, 0) is NaN, expected a finite number"),
        ("--residuals far --logits logits", "has 3 outputs"),
        ("--residuals far --logits classes --outputs 1", "has 3 outputs"),
    ] {
        let output = archive.run(&format!("{SQUARED} {words}"));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(3) && text.contains(error), "{text}");
    }
}
