//! `cargo xtask instructions` as a command, on the kernel that is counted fastest.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

use std::fs;
use std::path::Path;
use std::process::Command as Process;

use assert_cmd::Command;
use predicates::str::{contains, is_empty};

/// Compares the count of `product` with `stored`.
fn compare(folder: &Path, stored: u64) -> Command {
    let golden = folder.join("instructions.json");
    // The command is built with the same profile as this test.
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    let counts = serde_json::json!({
        "schema": "flatmin.instructions/1",
        "profile": profile,
        "toolchain": "another compiler",
        "kernels": { "product": stored, "gd_step_relu": 1 },
    });
    fs::write(&golden, counts.to_string()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["instructions", "--only", "product", "--golden"]).arg(golden);
    command
}

/// True if Valgrind is installed, as it must be in continuous integration.
fn has_valgrind() -> bool {
    let found = Process::new("valgrind").arg("--version").output().is_ok();
    assert!(found || std::env::var_os("CI").is_none(), "the checks install valgrind");
    found
}

#[test]
fn a_count_that_was_changed_is_found_and_one_that_was_not_is_the_same_again() {
    if !has_valgrind() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let assert = compare(folder.path(), 1).assert().code(1);
    let said = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    let count = said.strip_prefix("xtask: product: ").and_then(|said| said.split_once(' '));
    let count: u64 = count.unwrap().0.parse().unwrap();
    // At least the fused operations, four per instruction. Debug assertions make it about four
    // times as many, far fewer than those of the whole process.
    assert!((300 * 100 * 100 / 4..2 * 300 * 100 * 100).contains(&count), "{said}");
    // A longer environment changes nothing.
    let assert = compare(folder.path(), count).env("UNKNOWN", "x".repeat(999)).assert().code(0);
    assert.stdout(contains("+0.00 %")).stderr(is_empty());
    for (stored, word) in [(count * 100 / 104, "more"), (count * 104 / 100, "fewer")] {
        let words = format!("% {word} than the {stored} that are written down");
        let assert = compare(folder.path(), stored).assert().code(1).stderr(contains(words));
        let assert = assert.stderr(contains("of another compiler, these of rustc"));
        assert.stderr(contains("`cargo xtask instructions --renew`"));
    }
}

#[test]
fn without_valgrind_it_is_said_how_to_get_it() {
    let folder = tempfile::tempdir().unwrap();
    let assert = compare(folder.path(), 1).env("PATH", folder.path()).assert().code(3).stdout("");
    let said = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert!(said.lines().count() == 1 && said.contains("apt-get install valgrind"), "{said}");
}

#[test]
fn an_unknown_kernel_is_wrong_usage_and_the_names_are_told() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let assert = command.args(["instructions", "--only", "step"]).assert().code(2).stdout("");
    assert.stderr(contains("sgd_step_relu, sgd_step_diagonal"));
}
