//! Training in float32.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod support;

use std::fs;

use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;
use support::{Runs, array, long_run, results, table};

fn with_precision(config: &str, precision: &str) -> String {
    config.replace("[optimizer]", &format!("[optimizer]\nprecision = '{precision}'"))
}

/// The run in a configuration of its own, to its end.
fn run(runs: &Runs, name: &str, config: &str) {
    runs.config(&format!("{name}.toml"), config);
    // On a loaded machine a run that takes long prints its progress; it has nothing else to say.
    runs.train(&[&format!("{name}.toml")]).assert().success().stderr(contains("flatmin:").not());
}

fn config_digest(runs: &Runs, name: &str) -> Value {
    let text = fs::read(runs.path(name).join("run.json")).unwrap();
    let run: Value = serde_json::from_slice(&text).unwrap();
    run["digests"]["config"].clone()
}

#[expect(clippy::cast_possible_truncation, reason = "what is tested")]
fn is_float32(value: f64) -> bool {
    f64::from(value as f32).to_bits() == value.to_bits()
}

#[test]
fn float32_rounds_the_steps_and_nothing_that_is_measured() {
    let runs = Runs::new();
    let config = long_run(3000, 500, 1000);
    run(&runs, "wide", &config);
    run(&runs, "narrow", &with_precision(&config, "float32"));
    let parameters = |name: &str| {
        ["w", "a"]
            .map(|array_name| array(&runs.path(name).join("parameters.npz"), array_name).1)
            .concat()
    };
    let (wide, narrow) = (parameters("wide"), parameters("narrow"));
    assert!(
        !wide.iter().all(|value| is_float32(*value))
            && narrow.iter().all(|value| is_float32(*value))
    );
    // Entries are of size 1, each step rounds them by at most 6e-8, and few of 3000 roundings go
    // the same way.
    let differences = wide.iter().zip(&narrow).map(|(a, b)| (a - b).abs());
    let difference = differences.fold(0.0, f64::max);
    assert!(difference > 1e-8 && difference < 1e-3, "{difference}");
    let (wide, narrow) = (table(&runs.path("wide")), table(&runs.path("narrow")));
    assert_eq!(wide["step"], narrow["step"]);
    assert!(!narrow["train_loss"][1..].iter().any(|loss| is_float32(*loss)));
}

#[test]
fn float64_is_the_default_and_float32_another_run() {
    let runs = Runs::new();
    let config = long_run(600, 200, 1000);
    run(&runs, "absent", &config);
    run(&runs, "wide", &with_precision(&config, "float64"));
    assert_eq!(results(&runs.path("wide")), results(&runs.path("absent")));
    // The digest from before there was a choice, so that runs that were begun then can go on.
    let before = "acd897ce85ce827739f2614811226b136c7c5ffd75930c47b251985e4ee02fee";
    assert_eq!(config_digest(&runs, "absent"), before);
    run(&runs, "narrow", &with_precision(&config, "float32"));
    assert_ne!(config_digest(&runs, "narrow"), config_digest(&runs, "wide"));
    // Without its summary the run counts as interrupted.
    fs::remove_file(runs.path("narrow/run.json")).unwrap();
    let refused = runs.train(&["wide.toml", "--out", "narrow", "--resume"]).assert().code(3);
    let said = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
    assert!(said.contains("is of a run with another configuration"), "{said}");
}

#[test]
fn a_float32_run_goes_on_from_its_checkpoint_with_the_same_bytes() {
    let runs = Runs::new();
    let config = with_precision(&long_run(9000, 1500, 1), "float32");
    run(&runs, "whole", &config);
    for moment in [2, 4] {
        let name = format!("stopped{moment}");
        runs.config(&format!("{name}.toml"), &config);
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_flatmin"))
            .args(["train", &format!("{name}.toml")])
            .current_dir(runs.folder.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let rows = || {
            fs::read_to_string(runs.path(&name).join("metrics.csv"))
                .unwrap_or_default()
                .lines()
                .count()
        };
        while rows() < moment && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        runs.train(&[&format!("{name}.toml"), "--resume"]).assert().success();
        assert_eq!(results(&runs.path(&name)), results(&runs.path("whole")), "{moment}");
    }
}

#[test]
fn a_perceptron_in_float32_is_refused() {
    let config = with_precision(&long_run(10, 10, 10), "float32").replace(
        "kind = 'two-layer-relu'\nwidth = 40",
        "kind = 'perceptron'\nwidths = [4]\nactivation = 'tanh'",
    );
    Runs::new().fails(
        &config,
        "run.toml: line 14: precision \"float32\" is for the other models only: a perceptron is trained \
         in float64, leave it out",
    );
    let config = with_precision(&long_run(10, 10, 10), "float23");
    Runs::new().fails(
        &config,
        "run.toml: line 13: precision is \"float23\", expected one of \"float64\", \"float32\"; did you \
         mean \"float32\"?",
    );
}
