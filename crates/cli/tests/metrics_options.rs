//! The optimizer, the sampling, the learning rates and the scale of the loss of `flatmin metrics`.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use support::write_npz;

const SAMPLES: usize = 7;
const INPUTS: usize = 3;
const WIDTH: usize = 4;

fn number(at: usize) -> f64 {
    ((at * at * 31 + at * 17) % 101) as f64 / 50.0 - 1.0
}

/// A two-layer ReLU network, its data, and its Jacobian by the formula: a row has the derivatives
/// `a_j x` of `w_j` and `w_j·x` of `a_j` where `w_j·x > 0`, and zeros elsewhere.
fn write_files(folder: &Path) {
    let inputs: Vec<f64> = (0..SAMPLES * INPUTS).map(number).collect();
    let w: Vec<f64> = (0..WIDTH * INPUTS).map(|at| number(at + 100)).collect();
    let a: Vec<f64> = (0..WIDTH).map(|at| number(at + 200)).collect();
    let targets: Vec<f64> = (0..SAMPLES).map(|at| number(at + 300)).collect();
    let mut jacobian = Vec::new();
    for x in inputs.chunks(INPUTS) {
        let sums: Vec<f64> =
            w.chunks(INPUTS).map(|w| w.iter().zip(x).map(|(w, x)| w * x).sum()).collect();
        for (sum, a) in sums.iter().zip(&a) {
            jacobian.extend(x.iter().map(|x| if *sum > 0.0 { a * x } else { 0.0 }));
        }
        jacobian.extend(sums.iter().map(|sum| sum.max(0.0)));
    }
    let columns = jacobian.len() / SAMPLES;
    write_npz(
        &folder.join("data.npz"),
        &[("x", &(vec![SAMPLES, INPUTS], inputs)), ("y", &(vec![SAMPLES], targets))],
    );
    write_npz(
        &folder.join("parameters.npz"),
        &[("w", &(vec![WIDTH, INPUTS], w)), ("a", &(vec![WIDTH], a))],
    );
    write_npz(&folder.join("jacobian.npz"), &[("jacobian", &(vec![SAMPLES, columns], jacobian))]);
    let model = format!("[model]\nkind = 'two-layer-relu'\nwidth = {WIDTH}\n");
    std::fs::write(folder.join("model.toml"), model).unwrap();
}

fn flatmin(folder: &Path, arguments: &str, options: &str) -> Output {
    let arguments = arguments.split_whitespace().chain(options.split_whitespace());
    let mut command = Command::new(env!("CARGO_BIN_EXE_flatmin"));
    command.current_dir(folder).args(arguments).output().unwrap()
}

const METRICS: &str = "metrics model.toml --parameters parameters.npz --data data.npz";

fn json(folder: &Path, arguments: &str, options: &str) -> Value {
    let output = flatmin(folder, arguments, &format!("{options} --format json"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn is_close(a: &Value, b: &Value, tolerance: f64) -> bool {
    let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
    (a - b).abs() <= tolerance * a.abs()
}

#[test]
fn the_answer_is_that_of_analyze_for_the_jacobian() {
    let folder = tempfile::tempdir().unwrap();
    write_files(folder.path());
    for options in [
        "--batch-size 1,3",
        "--momentum 0.9 --nesterov --batch-size 2",
        "--momentum 0.5 --dampening 0.5 --weight-decay 0.01",
        "--decoupled-weight-decay 0.1 --sampling poisson --batch-size 2",
        "--sampling with-replacement --batch-size 2 --loss-scale 2/3",
        "--sampling reshuffling --batch-size 3",
        "--sampling reshuffling --batch-size 3 --drop-last --momentum 0.5",
    ] {
        let options = format!("{options} --learning-rate 0.01,5");
        let metrics = json(folder.path(), METRICS, &options);
        let analyze = json(folder.path(), "analyze jacobian.npz --trust-input", &options);
        for field in ["trace", "frobenius_norm", "lambda_max", "loss_scale"] {
            assert!(is_close(&metrics[field], &analyze[field], 1e-12), "{options}: {field}");
        }
        let (found, expected) = (&metrics["batches"], &analyze["batches"]);
        for (found, expected) in found.as_array().unwrap().iter().zip(expected.as_array().unwrap())
        {
            for field in ["optimizer", "sampling", "drop_last", "batch_size"] {
                assert_eq!(found[field], expected[field], "{options}: {field}");
            }
            let (a, b) = (&found["threshold"], &expected["threshold"]);
            assert_eq!(a["kind"], b["kind"], "{options}");
            assert!(is_close(&a["estimate"], &b["estimate"], 1e-9), "{options}: {a} {b}");
            for (rate, expected) in [(0, "stable"), (1, "unstable")] {
                assert_eq!(found["learning_rates"][rate]["verdict"], expected, "{options}");
                let margin = &found["learning_rates"][rate]["margin"];
                let other = &expected_margin(&analyze, found, rate);
                assert!(is_close(margin, other, 1e-7), "{options}: {margin} {other}");
            }
        }
    }
}

/// The margin that `flatmin analyze` found for the same batch size.
fn expected_margin(analyze: &Value, batch: &Value, rate: usize) -> Value {
    let batches = analyze["batches"].as_array().unwrap();
    let same = batches.iter().find(|other| other["batch_size"] == batch["batch_size"]).unwrap();
    same["learning_rates"][rate]["margin"].clone()
}

#[test]
fn the_scale_multiplies_the_loss_and_its_gradient() {
    let folder = tempfile::tempdir().unwrap();
    write_files(folder.path());
    let [plain, scaled] =
        ["", "--loss-scale 4"].map(|options| json(folder.path(), METRICS, options));
    for field in ["loss", "gradient_norm", "trace", "frobenius_norm", "lambda_max"] {
        let expected = Value::from(4.0 * plain[field].as_f64().unwrap());
        assert!(is_close(&scaled[field], &expected, 1e-15), "{field}");
    }
    let expected = 4.0 * plain["population"]["trace"].as_f64().unwrap();
    assert!(is_close(&scaled["population"]["trace"], &Value::from(expected), 1e-15));
}

#[test]
fn the_text_names_the_optimizer_and_judges() {
    let folder = tempfile::tempdir().unwrap();
    write_files(folder.path());
    let options = "--momentum 0.9 --loss-scale 2 --learning-rate 5 --sampling reshuffling";
    let output = flatmin(folder.path(), METRICS, options);
    let text = String::from_utf8(output.stdout).unwrap();
    for words in [
        "Loss 2 × (1/2n) Σ (f − y)², so that G = 2 JᵀJ/n.",
        "η* of SGD with momentum 0.9",
        "drawn in reshuffled epochs",
        "The learning rates asked about",
        "unstable",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    for (options, code) in [("--nesterov", 2), ("--drop-last --sampling poisson", 2)] {
        let output = flatmin(folder.path(), METRICS, options);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(code), 0), "{options}");
    }
}
