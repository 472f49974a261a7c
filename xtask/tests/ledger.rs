//! `cargo xtask verify` and `cargo xtask ledger` as commands.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use predicates::prelude::*;
use predicates::str::contains;

fn xtask(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(arguments);
    command
}

fn verify(out: &Path, arguments: &[&str]) -> Assert {
    xtask(&["verify"]).args(arguments).arg("--out").arg(out).assert()
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn every_statement_holds_and_every_mutant_is_refuted() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) =
        (folder.path().join("one").join("ledger.json"), folder.path().join("two.json"));
    let assert = verify(&one, &["--threads", "1"]).code(0);
    assert.stdout(contains("all hold, all mutants refuted").and(contains("Trace bound")));
    verify(&two, &["--threads", "2", "--format", "json"])
        .code(0)
        .stdout(fs::read_to_string(&one).unwrap());
    assert_eq!(fs::read(&one).unwrap(), fs::read(&two).unwrap());

    let ledger = json(&one);
    assert_eq!(ledger["schema"], "flatmin.ledger/1");
    assert_eq!(ledger["passed"], true);
    for statement in ledger["statements"].as_array().unwrap() {
        let id = &statement["id"];
        assert_eq!(statement["instances"], 200, "{id}");
        assert_eq!(statement["violations"], 0, "{id}");
        assert_eq!(statement["mutants"], statement["mutants_refuted"], "{id}");
        assert!(statement["smallest_slack"].as_f64().unwrap() >= -1e-10, "{id}");
        assert!(statement["attained_by"]["instance"].as_u64().unwrap() < 200, "{id}");
    }
}

#[test]
fn a_mutant_that_survives_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("ledger.json");
    // One instance cannot refute every comparison of a mutant.
    let assert = verify(&out, &["--instances", "1", "--only", "S11,R3"]).code(1);
    assert.stdout(contains("2 FAIL").and(contains("no instance refutes the mutant of")));
    let ledger = json(&out);
    assert_eq!(ledger["passed"], false);
    // In the order of the theory.
    let ids: Vec<&serde_json::Value> =
        ledger["statements"].as_array().unwrap().iter().map(|s| &s["id"]).collect();
    assert_eq!(ids, ["S11", "R3"]);
}

#[test]
fn wrong_usage_says_what_would_be_right() {
    let wrong = xtask(&["verify", "--only", "S2,S99"]).assert().code(2).stdout("");
    wrong.stderr(contains("S99").and(contains("S1, S2, S3")));
    for arguments in [["--instances", "0"], ["--threads", "0"], ["--format", "xml"]] {
        xtask(&["verify"]).args(arguments).assert().code(2);
    }
    xtask(&["verify", "--help"]).assert().code(0).stdout(contains("Exit status"));
}

#[test]
fn a_file_that_cannot_be_written_is_one_line() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let out = file.path().join("ledger.json");
    let assert = verify(&out, &["--instances", "1"]).code(3).stdout("");
    let stderr = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains(file.path().to_str().unwrap()), "{stderr}");
}

#[test]
fn the_page_of_the_ledger_is_current() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ledger.md");
    xtask(&["ledger", "--check", "--out"]).arg(page).assert().code(0).stdout("").stderr("");
}

#[test]
fn a_page_that_is_not_current_is_named_and_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("ledger.md");
    let check = || xtask(&["ledger", "--check", "--out"]).arg(&page).assert();
    check().code(1).stderr(contains("ledger.md: not current"));
    xtask(&["ledger", "--out"]).arg(&page).assert().code(0);
    check().code(0);
    fs::write(&page, "old").unwrap();
    check().code(1);
}

#[test]
fn a_reproduction_reports_the_ledger_that_lies_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("ledger.json");
    verify(&ledger, &["--instances", "60", "--only", "D5"]).code(0);
    let reproduce = || {
        xtask(&["reproduce", "--profile", "smoke", "--only", "norm_equivalence", "--out"])
            .arg(folder.path())
            .assert()
            .code(0)
    };
    reproduce();
    let page = || fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(page().contains("A step shrinks the imbalance"));
    // A damaged ledger is named and left out.
    fs::write(&ledger, "{").unwrap();
    reproduce().stderr(contains("ledger.json").and(contains("leaves it out")));
    assert!(!page().contains("A step shrinks the imbalance"));
}
