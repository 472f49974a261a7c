//! Brackets of `flatmin metrics` for flatmin's models, on images from files and built-in digits.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;
use support::{Numbers, flatmin, write_npz};

const SAMPLES: usize = 50;
const WIDTH: usize = 6;
const CLASSES: usize = 3;

fn number(at: usize) -> f64 {
    ((at * at * 31 + at * 17) % 101) as f64 / 50.0 - 1.0
}

/// Images of 5 × 5 pixels with their labels as IDX files, a perceptron, and its configuration.
fn write_files(folder: &Path) {
    let side: u8 = 5;
    let count = u8::try_from(SAMPLES).unwrap();
    let pixels = SAMPLES * usize::from(side) * usize::from(side);
    let mut images = vec![0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, side, 0, 0, 0, side];
    images.extend((0..pixels).map(|at| u8::try_from((at * at * 37 + at * 11) % 251).unwrap()));
    fs::write(folder.join("images"), images).unwrap();
    let mut labels = vec![0, 0, 8, 1, 0, 0, 0, count];
    labels.extend((0..SAMPLES).map(|at| u8::try_from(at * at % CLASSES).unwrap()));
    labels[9] = 2;
    fs::write(folder.join("labels"), labels).unwrap();
    let array = |shape: &[usize], first: usize| -> Numbers {
        let count: usize = shape.iter().product();
        (shape.to_vec(), (first..first + count).map(number).collect())
    };
    for (name, first) in [("parameters.npz", 0), ("other.npz", 7)] {
        let arrays = [
            ("w1", array(&[WIDTH, 25], first)),
            ("b1", array(&[WIDTH], first + 300)),
            ("w2", array(&[CLASSES, WIDTH], first + 400)),
            ("b2", array(&[CLASSES], first + 500)),
        ];
        let arrays: Vec<(&str, &Numbers)> = arrays.iter().map(|(name, a)| (*name, a)).collect();
        write_npz(&folder.join(name), &arrays);
    }
    let config = |loss: &str| {
        format!(
            "seed = 0\n[model]\nkind = 'perceptron'\nwidths = [{WIDTH}]\nactivation = 'tanh'\n\
             [data]\nimages = 'images'\nlabels = 'labels'\ntargets = 'one-hot'\n\
             sample_count = {SAMPLES}\n[loss]\nkind = '{loss}'\n[optimizer]\n\
             learning_rate = 0.01\nbatch_size = 1\nmax_steps = 1\n"
        )
    };
    for loss in ["squared", "cross-entropy"] {
        fs::write(folder.join(format!("{loss}.toml")), config(loss)).unwrap();
    }
}

fn metrics(folder: &Path, options: &str) -> Output {
    let mut command = flatmin(&["metrics"]);
    command.args(options.split_whitespace()).current_dir(folder).output().unwrap()
}

fn json(folder: &Path, options: &str) -> Value {
    let output = metrics(folder, &format!("{options} --format json"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn end(value: &Value, name: &str) -> f64 {
    value[name].as_f64().unwrap()
}

#[test]
fn the_bracket_of_images_holds_the_exact_threshold() {
    let folder = tempfile::tempdir().unwrap();
    write_files(folder.path());
    let common = "--parameters parameters.npz --batch-size 1,8 --learning-rate 1e-6,10";
    for question in [
        "squared.toml",
        "squared.toml --loss-scale 2/3 --sampling poisson",
        "squared.toml --momentum 0.9",
        "cross-entropy.toml --sampling with-replacement",
    ] {
        let exact = json(folder.path(), &format!("{question} {common}"));
        let found = json(folder.path(), &format!("{question} {common} --relative-width 0.05"));
        for name in ["trace", "loss", "gradient_norm"] {
            assert!((end(&found, name) / end(&exact, name) - 1.0).abs() < 1e-9, "{name}");
        }
        assert_eq!(found["frobenius_norm"], Value::Null);
        let (top, interval) = (end(&exact, "lambda_max"), &found["lambda_max_interval"]);
        assert!(end(interval, "lower") <= top * (1.0 + 1e-9));
        assert!(end(interval, "upper") >= top * (1.0 - 1e-9));
        assert_eq!(end(interval, "lower").to_bits(), end(&found, "lambda_max").to_bits());
        assert!(!found["leading_modes"].as_array().unwrap().is_empty());
        assert!(exact.get("leading_modes").is_none());
        let batches = |report: &Value| report["batches"].as_array().unwrap().clone();
        assert_eq!(batches(&found).len(), 2);
        for (found, exact) in batches(&found).iter().zip(&batches(&exact)) {
            let (bracket, certified) = (&found["threshold"], &exact["threshold"]);
            assert!(end(bracket, "lower") <= end(certified, "upper"), "{question}: {bracket}");
            assert!(end(bracket, "upper") >= end(certified, "lower"), "{question}: {bracket}");
            assert!(end(bracket, "lower") <= end(bracket, "estimate"));
            assert_eq!(bracket["kind"], "bracket");
            assert_eq!(found["noise_coefficient"], exact["noise_coefficient"]);
            assert!(found["status"].is_string() && found["bracket"]["rank"].is_u64());
            for (rate, verdict) in [(0, "stable"), (1, "unstable")] {
                assert_eq!(found["learning_rates"][rate]["verdict"], verdict);
            }
        }
    }
}

#[test]
fn built_in_digits_have_a_bracket() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("digits.toml"),
        "seed = 0\n[model]\nkind = 'two-layer-relu'\nwidth = 3\n[data]\ndigits = 'parity'\n\
         sample_count = 300\n[optimizer]\nlearning_rate = 0.01\nbatch_size = 1\nmax_steps = 1\n",
    )
    .unwrap();
    let weights: Numbers = (vec![3, 64], (0..192).map(number).collect());
    let outer: Numbers = (vec![3], vec![1.0, -1.0, 0.5]);
    write_npz(&folder.path().join("p.npz"), &[("w", &weights), ("a", &outer)]);
    let words = "digits.toml --parameters p.npz";
    let exact = json(folder.path(), words);
    let found = json(folder.path(), &format!("{words} --rank 40 --memory-limit 1"));
    let [exact, found] = [&exact, &found].map(|report| &report["batches"][0]["threshold"]);
    assert!(
        end(found, "lower") <= end(exact, "upper") && end(exact, "lower") <= end(found, "upper")
    );
    assert!((end(found, "estimate") / end(exact, "estimate") - 1.0).abs() < 0.05);
    let text = metrics(folder.path(), &format!("{words} --rank 40"));
    let text = String::from_utf8(text.stdout).unwrap();
    for part in ["bracketed by leading modes", "% of the trace", "S19 contraction", "not computed"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_checkpoint_lets_a_bracket_go_on() {
    let folder = tempfile::tempdir().unwrap();
    write_files(folder.path());
    let words = "squared.toml --parameters parameters.npz --checkpoint modes";
    let first = json(folder.path(), &format!("{words} --rank 32"));
    let again = json(folder.path(), &format!("{words} --rank 32"));
    let count =
        |report: &Value, name: &str| report["batches"][0]["bracket"][name].as_u64().unwrap();
    assert_eq!(count(&first, "rank"), count(&again, "rank"));
    // The modes are there: what is left are the checks and the certificate.
    assert!(count(&again, "products") + 60 < count(&first, "products"), "{again}");
    assert_eq!(
        first["batches"][0]["threshold"]["upper"],
        again["batches"][0]["threshold"]["upper"]
    );
    let more = json(folder.path(), &format!("{words} --rank 64"));
    assert!(count(&more, "rank") > count(&first, "rank"), "{more}");
    let refused = |options: &str, message: &str| {
        let output = metrics(folder.path(), options);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains(message) && output.stdout.is_empty(), "{said}");
    };
    let other = words.replace("parameters.npz", "other.npz");
    refused(&format!("{other} --rank 32"), "modes: the stored subspace");
    let mut bytes = fs::read(folder.path().join("modes")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(folder.path().join("modes"), &bytes).unwrap();
    refused(
        &format!("{words} --rank 32"),
        "modes: is no checkpoint of a bracket: has changed since it was written",
    );
    fs::write(folder.path().join("modes"), &bytes[..middle]).unwrap();
    refused(&format!("{words} --rank 32"), "modes: is no checkpoint of a bracket: ends early");
    refused(&format!("{} --rank 32", words.replace("modes", "nowhere/modes")), "nowhere/modes");
}

#[test]
fn options_without_a_bracket_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    write_files(folder.path());
    for (options, message) in [
        ("--checkpoint modes", "--checkpoint is about a bracket"),
        ("--rank 3 --sampling reshuffling", "independent batches"),
        ("--rank 3 --weight-decay 0.1", "no weight decay"),
        ("--rank 3 --drop-last", "cannot be used with"),
    ] {
        let output =
            metrics(folder.path(), &format!("squared.toml --parameters parameters.npz {options}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{options}: {said}");
        assert!(said.contains(message) && output.stdout.is_empty(), "{options}: {said}");
    }
}
