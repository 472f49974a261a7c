//! The commands of the book that are `flatmin`'s.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

#[test]
fn the_commands_of_the_book_do_what_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let executable = Path::new(env!("CARGO_BIN_EXE_flatmin"));
    flatmin_book::try_commands(&root, "flatmin", executable, &[]);
}

#[test]
fn every_field_of_the_answers_is_described() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let examples = root.join("docs/guide/examples");
    let (network, replay) = (examples.join("network"), examples.join("replay"));
    let out = tempfile::tempdir().unwrap();
    let analyze = answer(
        Command::new(env!("CARGO_BIN_EXE_flatmin"))
            .args(["analyze", "--learning-rate", "0.1", "--format", "json", "--blocks"])
            .args([network.join("blocks.json"), network.join("jacobian.npy")]),
    );
    let bracket = answer(
        Command::new(env!("CARGO_BIN_EXE_flatmin"))
            .args(["analyze", "--learning-rate", "0.1", "--format", "json", "--rank", "10"])
            .arg(network.join("jacobian.npy")),
    );
    let parts = answer(
        Command::new(env!("CARGO_BIN_EXE_flatmin"))
            .args(["analyze", "--format", "json", "--subsets", "2"])
            .arg(network.join("jacobian.npy")),
    );
    let train = answer(
        Command::new(env!("CARGO_BIN_EXE_flatmin"))
            .args(["train", "--format", "json", "--out"])
            .args([out.path().join("run"), replay.join("replay.toml")]),
    );
    let metrics = answer(
        Command::new(env!("CARGO_BIN_EXE_flatmin"))
            .args(["metrics", "--format", "json", "--parameters"])
            .arg(replay.join("initial.npz"))
            .arg("--data")
            .args([replay.join("data.npz"), replay.join("replay.toml")]),
    );
    let bracketed = answer(
        Command::new(env!("CARGO_BIN_EXE_flatmin"))
            .args(["metrics", "--format", "json", "--rank", "20", "--parameters"])
            .arg(replay.join("initial.npz"))
            .arg("--data")
            .args([replay.join("data.npz"), replay.join("replay.toml")]),
    );
    let page = fs::read_to_string(root.join("docs/files.md")).unwrap();
    for (name, answer, field) in [
        ("analyze", analyze, "S3_sharp"),
        ("analyze", bracket, "rank_for_one_percent"),
        ("analyze", parts, "greatest"),
        ("train", train, "digests"),
        ("metrics", metrics, "loss"),
        ("metrics", bracketed, "lambda_max_interval"),
    ] {
        let mut fields = BTreeSet::new();
        // The row that `last` holds has names that the configuration chooses.
        collect(&answer, "last", &mut fields);
        assert!(fields.contains(field), "{name}: {fields:?}");
        let section = page.split(&format!("## `flatmin {name}`\n")).nth(1).unwrap();
        let section = section.split("\n## ").next().unwrap();
        fields.retain(|field| !section.contains(&format!("`{field}`")));
        assert_eq!(fields, BTreeSet::new(), "{name}");
    }
}

/// The JSON that a command prints.
fn answer(command: &mut Command) -> Value {
    serde_json::from_slice(&command.output().unwrap().stdout).unwrap()
}

/// The names of all fields, without those inside of the field `leaf`.
fn collect(value: &Value, leaf: &str, fields: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            fields.extend(object.keys().cloned());
            let inner = object.iter().filter(|(name, _)| *name != leaf);
            inner.for_each(|(_, value)| collect(value, leaf, fields));
        }
        Value::Array(array) => array.iter().for_each(|value| collect(value, leaf, fields)),
        _ => {}
    }
}

#[test]
fn the_example_configuration_is_the_one_that_is_printed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let output = Command::new(env!("CARGO_BIN_EXE_flatmin"))
        .args(["train", "--print-config"])
        .output()
        .unwrap();
    let example = fs::read(root.join("docs/guide/examples/train/run.toml")).unwrap();
    assert!(output.stdout == example, "write it again: flatmin train --print-config");
}
