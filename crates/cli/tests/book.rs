//! The commands of the book that are `flatmin`'s.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use flatmin_book::commands::Program;
use serde_json::Value;

#[test]
fn the_commands_of_the_book_do_what_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let executable = OsStr::new(env!("CARGO_BIN_EXE_flatmin"));
    let failures = flatmin_book::run(&root, Program::Flatmin, executable);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_field_of_the_answer_is_described() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let network = root.join("docs/guide/examples/network");
    let output = Command::new(env!("CARGO_BIN_EXE_flatmin"))
        .args(["analyze", "--learning-rate", "0.1", "--format", "json", "--blocks"])
        .args([network.join("blocks.json"), network.join("jacobian.npy")])
        .output()
        .unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut fields = BTreeSet::new();
    collect(&answer, &mut fields);
    assert!(fields.contains("noise_coefficient") && fields.contains("S3_sharp"), "{fields:?}");
    let page = fs::read_to_string(root.join("docs/files.md")).unwrap();
    let section = page.split("## `flatmin analyze`").nth(1).unwrap();
    fields.retain(|field| !section.contains(&format!("`{field}`")));
    assert_eq!(fields, BTreeSet::new());
}

/// The names of all fields.
fn collect(value: &Value, fields: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            fields.extend(object.keys().cloned());
            object.values().for_each(|value| collect(value, fields));
        }
        Value::Array(array) => array.iter().for_each(|value| collect(value, fields)),
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
