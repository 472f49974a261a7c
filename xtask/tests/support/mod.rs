//! Helpers of the tests of the reproduction.

#![allow(dead_code, reason = "each test uses some of it")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::time::SystemTime;

use assert_cmd::Command;
use assert_cmd::assert::Assert;

pub(crate) const EXPERIMENTS: usize = flatmin_experiments::EXPERIMENTS.len();

pub(crate) fn xtask(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.arg("reproduce").args(arguments);
    command
}

/// A smoke run into a folder.
pub(crate) fn smoke(out: &Path, arguments: &[&str]) -> Assert {
    xtask(&["--profile", "smoke"]).args(arguments).arg("--out").arg(out).assert()
}

/// The outputs that must not depend on threads, interruptions or time, by name.
pub(crate) fn outputs(out: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut outputs = BTreeMap::new();
    for folder in ["tables", "figures"] {
        for path in files(&out.join(folder)) {
            let name = path.strip_prefix(out).unwrap().display().to_string();
            outputs.insert(name, fs::read(path).unwrap());
        }
    }
    outputs.insert("claims.json".to_owned(), fs::read(out.join("claims.json")).unwrap());
    outputs
}

pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The finished cells and their modification times.
pub(crate) fn cells(out: &Path) -> BTreeMap<PathBuf, SystemTime> {
    let cells = files(&out.join("cells")).into_iter();
    let cells = cells.filter(|path| path.extension().is_some_and(|ext| ext == "json"));
    cells.map(|path| (path.clone(), fs::metadata(path).unwrap().modified().unwrap())).collect()
}

/// The counts of computed and reused cells in the manifest.
pub(crate) fn counts(out: &Path) -> (u64, u64) {
    let text = fs::read_to_string(out.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
    let count = |name: &str| manifest[name].as_u64().unwrap();
    (count("cells_computed"), count("cells_reused"))
}

/// Checks that no unfinished file is left below a folder.
pub(crate) fn assert_nothing_half_written(folder: &Path) {
    for path in files(folder) {
        if path.is_dir() {
            assert_nothing_half_written(&path);
        } else {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(!name.starts_with('.'), "{name} is left over");
            if path.extension().is_some_and(|ext| ext == "json") {
                let text = fs::read_to_string(&path).unwrap();
                serde_json::from_str::<serde_json::Value>(&text).unwrap();
            }
        }
    }
}

/// Checks that standard error is exactly one line with all of these parts.
pub(crate) fn assert_one_line(assert: &Assert, parts: &[&str]) {
    let stderr = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{part:?} is not in {stderr:?}");
    }
}

/// Experiments with every kind of output whose cells take milliseconds.
pub(crate) const CHEAP: &str =
    "diagonal_balance,norm_equivalence,too_weak,deep_sharpness,progressive_sharpening";

/// A smoke run into a folder, in a process of its own.
pub(crate) fn spawn(out: &Path, arguments: &[&str]) -> Child {
    let mut process = Process::new(env!("CARGO_BIN_EXE_xtask"));
    process.args(["reproduce", "--profile", "smoke"]).args(arguments).arg("--out").arg(out);
    process.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// All files that a run leaves, by name, without those parts that differ between runs: the
/// manifest, and the facts at the beginning of the report.
pub(crate) fn everything(out: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = outputs(out);
    for path in cells(out).into_keys() {
        let name = path.strip_prefix(out).unwrap().display().to_string();
        all.insert(name, fs::read(path).unwrap());
    }
    let html = fs::read_to_string(out.join("report.html")).unwrap();
    let (before, rest) = html.split_once("class=\"facts\"").unwrap();
    let (_, after) = rest.split_once("</table>").unwrap();
    all.insert("report.html".to_owned(), [before, after].concat().into_bytes());
    let page = fs::read_to_string(out.join("results.md")).unwrap();
    let (_, claims) = page.split_once("\n## Claims\n").unwrap();
    all.insert("results.md".to_owned(), claims.as_bytes().to_vec());
    all
}

/// Checks that two runs left the same bytes.
#[track_caller]
pub(crate) fn assert_same(
    actual: &BTreeMap<String, Vec<u8>>,
    expected: &BTreeMap<String, Vec<u8>>,
) {
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(actual), names(expected));
    for (name, bytes) in expected {
        assert!(&actual[name] == bytes, "{name} differs");
    }
}

/// The lines on standard error that start with the name of the program.
pub(crate) fn said(stderr: &[u8]) -> Vec<String> {
    let stderr = String::from_utf8(stderr.to_vec()).unwrap();
    stderr.lines().filter(|line| line.starts_with("xtask: ")).map(str::to_owned).collect()
}
