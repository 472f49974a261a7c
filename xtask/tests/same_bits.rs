//! Reproductions have the same bytes for any number of threads, on every instruction set, for parts
//! and for the whole.
//!
//! Every run is compared with `golden/smoke.txt`, which `.ci/run` compares with a release build.
//! After an intended change of results,
//! `cargo xtask reproduce --profile smoke --out target/smoke --fresh` and
//! `cargo xtask golden --renew` write it again.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

use std::fs;
use std::path::Path;
use std::process::Command as Process;

use assert_cmd::Command;
use flatmin_linalg::simd::{InstructionSet, VARIABLE};
use predicates::prelude::*;
use predicates::str::contains;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/smoke.txt");

/// Experiments with training, products, eigenproblems and QR decompositions that take about a
/// second.
const FEW: &str = "diagonal_balance,norm_equivalence,too_weak,deep_sharpness";

fn xtask() -> Command {
    Command::new(env!("CARGO_BIN_EXE_xtask"))
}

/// A smoke run into a folder. The claims may be false at this size.
fn smoke(command: &mut Command, out: &Path, arguments: &[&str]) {
    command.args(["reproduce", "--profile", "smoke"]).args(arguments).arg("--out").arg(out);
    command.assert().code(predicate::in_iter([0, 1]));
}

fn assert_golden(out: &Path) {
    xtask().args(["golden", "--golden", GOLDEN, "--out"]).arg(out).assert().code(0).stderr("");
}

/// Checks that the digests of the tables and figures of a part are in the golden file.
fn assert_part_is_golden(out: &Path) {
    let list = out.join("golden.txt");
    let mut command = xtask();
    command.args(["golden", "--renew", "--golden"]).arg(&list).arg("--out").arg(out);
    command.assert().code(0);
    let (found, golden) = (fs::read_to_string(&list).unwrap(), fs::read_to_string(GOLDEN).unwrap());
    let is_output = |line: &&str| !line.ends_with("claims.json");
    let outputs: Vec<&str> = found.lines().filter(is_output).collect();
    assert!(!outputs.is_empty());
    for line in outputs {
        assert!(golden.lines().any(|golden| golden == line), "{line}");
    }
}

#[expect(clippy::print_stderr, reason = "a reader of the test's output should see it")]
fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
}

/// The instruction sets of this processor.
fn available() -> impl Iterator<Item = InstructionSet> {
    InstructionSet::ALL.into_iter().filter(|set| set.arch().is_some())
}

fn simd_path(out: &Path) -> String {
    let text = fs::read_to_string(out.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
    manifest["simd_path"].as_str().unwrap().to_owned()
}

#[test]
fn threads_and_instruction_sets_change_no_byte() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["AVX-512", "AVX2", "portable"];
    for (index, set) in InstructionSet::ALL.into_iter().enumerate() {
        let out = folder.path().join(set.name());
        if set.arch().is_none() {
            skip(&format!("this processor does not have {}", set.name()));
            continue;
        }
        let threads = ["1", "2", "7"][index];
        smoke(xtask().env(VARIABLE, set.name()), &out, &["--threads", threads]);
        assert_golden(&out);
        assert_eq!(simd_path(&out), paths[index]);
    }
}

#[test]
fn a_part_has_the_bytes_of_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    smoke(xtask().env_remove(VARIABLE), folder.path(), &["--only", "linear_stability,estimators"]);
    assert_part_is_golden(folder.path());
}

#[test]
fn cells_in_any_order_on_any_instruction_set_give_the_bytes_of_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--only", "diagonal_balance,norm_equivalence,too_weak"];
    let plan = |out: &Path| -> Vec<String> {
        let mut command = xtask();
        command.args(["reproduce", "--profile", "smoke", "--plan"]).args(arguments);
        let output = command.arg("--out").arg(out).output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
    };
    let mut cells = plan(folder.path());
    assert!(cells.len() > 3, "{cells:?}");
    // An order that is unrelated to the plan: by the last digits of the hashes.
    cells.sort_by_key(|hash| hash.chars().rev().collect::<String>());
    let sets: Vec<InstructionSet> = available().collect();
    for (index, hash) in cells.iter().enumerate() {
        let mut command = xtask();
        command.env(VARIABLE, sets[index % sets.len()].name());
        command.args(["reproduce", "--profile", "smoke", "--cell", hash]).args(arguments);
        command.arg("--out").arg(folder.path()).assert().code(0);
    }
    assert!(plan(folder.path()).is_empty());
    smoke(&mut xtask(), folder.path(), &arguments);
    assert_part_is_golden(folder.path());
}

/// Emulated processors without the instructions of this one give the same bytes.
#[test]
fn other_processors_give_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    if Process::new("qemu-x86_64").arg("--version").output().is_err() {
        skip("needs qemu-x86_64, which Debian has in qemu-user");
        return;
    }
    for (model, path) in [("Nehalem", "portable"), ("Haswell", "AVX2")] {
        let out = folder.path().join(model);
        let mut command = Command::new("qemu-x86_64");
        command.args(["-cpu", model, env!("CARGO_BIN_EXE_xtask")]).env_remove(VARIABLE);
        smoke(&mut command, &out, &["--only", FEW]);
        assert_part_is_golden(&out);
        assert_eq!(simd_path(&out), path, "{model}");
    }
}

#[test]
fn an_instruction_set_that_cannot_be_had_is_one_line() {
    for value in ["", "AVX2", "sse9"] {
        let assert = xtask().env(VARIABLE, value).args(["verify", "--instances", "1"]).assert();
        let names = contains("FLATMIN_SIMD").and(contains("avx512, avx2 or scalar"));
        assert.code(2).stdout("").stderr(names.and(contains("\n").count(1)));
    }
    for set in InstructionSet::ALL.into_iter().filter(|set| set.arch().is_none()) {
        let assert =
            xtask().env(VARIABLE, set.name()).args(["verify", "--instances", "1"]).assert();
        assert.code(3).stdout("").stderr(contains("does not have").and(contains(set.name())));
    }
}

#[test]
fn a_byte_that_differs_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    for folder in ["tables", "figures"] {
        fs::create_dir(out.join(folder)).unwrap();
    }
    fs::write(out.join("claims.json"), "{}").unwrap();
    fs::write(out.join("tables/a.csv"), "1\n").unwrap();
    let golden = out.join("golden.txt");
    let run = |arguments: &[&str]| {
        let mut command = xtask();
        command.arg("golden").args(arguments).arg("--golden").arg(&golden).arg("--out").arg(out);
        command.assert()
    };
    run(&["--renew"]).code(0);
    run(&[]).code(0).stderr("");
    fs::write(out.join("tables/a.csv"), "2\n").unwrap();
    run(&[]).code(1).stderr(contains("a.csv").and(contains("claims").not()));
    fs::remove_file(out.join("tables/a.csv")).unwrap();
    run(&[]).code(1).stderr(contains("a.csv"));
}
