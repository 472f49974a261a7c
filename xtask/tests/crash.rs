//! `cargo xtask reproduce` when it is killed, when the disk fails, and when its files are changed:
//! no result is lost, and no changed file is used.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod support;
#[path = "../../crates/host/tests/support/trouble.rs"]
mod trouble;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process};
use std::time::{Duration, Instant};

use flatmin_linalg::{Stream, stream};
use predicates::prelude::*;
use predicates::str::contains;
use rand::RngExt as _;
use support::{
    CHEAP, assert_nothing_half_written, assert_same, cells, counts, everything, said, smoke, spawn,
};
use trouble::{Mounted, change_a_byte, delay, note, spin};

const SIGKILL: i32 = 9;

/// Number of chains. The runs of a chain share a folder, and all but the last are killed.
const CHAINS: u64 = 5;
const KILLS: usize = 10;

/// Files that a run leaves beside cells, tables and figures.
const SINGLE: [&str; 4] = ["claims.json", "manifest.json", "report.html", "results.md"];

/// Counts the finished files.
fn finished(out: &Path) -> usize {
    let outputs = |folder: &str| {
        let entries = fs::read_dir(out.join(folder)).into_iter().flatten().flatten();
        entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.')).count()
    };
    let single = SINGLE.iter().filter(|name| out.join(name).exists()).count();
    outputs("cells") + outputs("tables") + outputs("figures") + single
}

/// Waits until there are `count` files or the run ends, and then a little longer.
fn wait_for_files(child: &mut Child, out: &Path, count: usize, delay: Duration) {
    let start = Instant::now();
    while finished(out) < count && child.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < Duration::from_mins(2), "{count} files are not there");
        std::thread::yield_now();
    }
    spin(delay);
}

/// The modification times of the cells, which tell if one was written again.
fn identities(out: &Path) -> BTreeMap<PathBuf, (u64, i64, i64)> {
    let identity = |path: PathBuf| {
        let file = fs::metadata(&path).unwrap();
        (path, (file.ino(), file.mtime(), file.mtime_nsec()))
    };
    cells(out).into_keys().map(identity).collect()
}

/// Checks that all earlier cells are there and were not written again.
#[track_caller]
fn assert_kept(before: &BTreeMap<PathBuf, (u64, i64, i64)>, out: &Path) {
    let after = identities(out);
    for (path, identity) in before {
        assert_eq!(after.get(path), Some(identity), "{} was written again", path.display());
    }
}

#[test]
fn fifty_kills_lose_nothing_and_change_no_byte() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--only", CHEAP, "--threads", "2"];
    let whole = folder.path().join("whole");
    smoke(&whole, &arguments);
    let (expected, cell_count, file_count) =
        (everything(&whole), cells(&whole).len(), finished(&whole));
    // Counts of the runs that were killed while cells were computed, and while outputs were
    // written.
    let (mut in_cells, mut in_outputs) = (0, 0);
    for chain in 0..CHAINS {
        let mut rng = stream(0, "moments of kills", chain);
        let out = folder.path().join(format!("chain {chain}"));
        // More than half of the kills come among the cells. The others come among the far fewer
        // outputs, often enough to hit the moments between two of them.
        let mut moments: Vec<usize> = (0..KILLS)
            .map(|kill| match kill % 5 {
                0..3 => rng.random_range(0..cell_count),
                _ => rng.random_range(cell_count..file_count),
            })
            .collect();
        moments.sort_unstable();
        let mut killed = 0;
        for attempt in 0.. {
            assert!(attempt < 10 * KILLS, "runs end before they are killed");
            if killed == KILLS {
                break;
            }
            let before = identities(&out);
            let mut child = spawn(&out, &arguments);
            wait_for_files(&mut child, &out, moments[killed], delay(0.01, &mut rng));
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            assert!(said(&output.stderr).is_empty(), "{:?}", said(&output.stderr));
            assert_kept(&before, &out);
            // A run that had ended already does not count.
            if output.status.signal() == Some(SIGKILL) {
                killed += 1;
                let is_complete = identities(&out).len() == cell_count;
                *(if is_complete { &mut in_outputs } else { &mut in_cells }) += 1;
            } else {
                moments[killed] = 0;
            }
        }
        // A temporary file, as a kill between two system calls leaves it.
        fs::write(out.join("cells/.tmp-left"), "{\"schema\":").unwrap();
        fs::write(out.join("tables/.tmp-left"), "").unwrap();
        fs::write(out.join("cells/.lock-left"), "").unwrap();
        let before = identities(&out);
        smoke(&out, &arguments).code(predicate::in_iter([0, 1]));
        assert_kept(&before, &out);
        assert_eq!(counts(&out), ((cell_count - before.len()) as u64, before.len() as u64));
        assert_same(&everything(&out), &expected);
        assert_nothing_half_written(&out);
    }
    assert!(in_cells > 0 && in_outputs > 0, "{in_cells} among the cells, {in_outputs} after them");
    note(&format!("{in_cells} kills while cells were computed, {in_outputs} later"));
}

/// A run that fails with one line that names the folder, and after `repair` a run that goes on from
/// it.
#[track_caller]
fn fails_and_goes_on(out: &Path, arguments: &[&str], reason: &str, repair: impl FnOnce()) {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    smoke(&whole, arguments);
    let assert = smoke(out, arguments).code(3).stdout("");
    let lines = said(&assert.get_output().stderr);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains(out.to_str().unwrap()) && lines[0].contains(reason), "{lines:?}");
    assert_nothing_half_written(out);
    let before = identities(out);
    assert!(!before.is_empty(), "nothing was stored before it failed");
    repair();
    smoke(out, arguments).code(predicate::in_iter([0, 1]));
    assert_kept(&before, out);
    assert_same(&everything(out), &everything(&whole));
    assert_nothing_half_written(out);
}

#[test]
fn a_full_disk_is_one_line_and_what_was_stored_is_kept() {
    let Some(mounted) = Mounted::new(96) else { return };
    let out = mounted.path().join("out");
    let arguments = ["--only", CHEAP, "--threads", "2"];
    fails_and_goes_on(&out, &arguments, "No space left", || mounted.remount("size=64m"));
}

#[test]
fn a_folder_that_is_read_only_is_one_line_and_left_as_it_is() {
    let Some(mounted) = Mounted::new(64 << 10) else { return };
    let out = mounted.path().join("out");
    smoke(&out, &["--only", "diagonal_balance"]);
    mounted.remount("ro");
    let arguments = ["--only", "diagonal_balance,norm_equivalence"];
    fails_and_goes_on(&out, &arguments, "Read-only file system", || mounted.remount("rw"));
}

#[test]
fn a_folder_that_vanishes_is_one_line_and_once_it_is_back_the_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (out, away) = (folder.path().join("out"), folder.path().join("away"));
    let whole = folder.path().join("whole");
    let arguments = ["--only", CHEAP, "--threads", "1", "--seeds", "3"];
    smoke(&whole, &arguments);
    let (all, mut before) = (finished(&whole), BTreeMap::new());
    let mut rng = stream(0, "moments of vanishing", 0);
    let mut vanished = 0;
    for vanishing in 0..5 {
        // The trouble starts after the first file: until then the run makes missing folders.
        // The last trouble comes while tables are written.
        let there = finished(&out);
        let count = there + rng.random_range(1..all / 6);
        let count = if vanishing == 4 { all - 12 } else { count };
        let mut child = spawn(&out, &arguments);
        wait_for_files(&mut child, &out, count, Duration::ZERO);
        fs::rename(&out, &away).unwrap();
        let output = child.wait_with_output().unwrap();
        fs::rename(&away, &out).unwrap();
        if output.status.code() != Some(3) {
            // The run had ended before.
            assert!(finished(&out) == all, "{:?}", output.status);
            break;
        }
        vanished += 1;
        let lines = said(&output.stderr);
        assert!(lines.len() == 1, "{lines:?}");
        assert!(lines[0].contains(out.to_str().unwrap()), "{lines:?}");
        assert!(lines[0].contains("No such file or directory"), "{lines:?}");
        assert_kept(&before, &out);
        before = identities(&out);
        assert!(!before.is_empty());
    }
    assert!(vanished > 0);
    smoke(&out, &arguments).code(predicate::in_iter([0, 1]));
    assert_kept(&before, &out);
    assert_same(&everything(&out), &everything(&whole));
    assert_nothing_half_written(&out);
}

/// Changes a byte of a file at random, but not so that the file has a newer format, which is
/// refused and has a test of its own.
fn change(path: &Path, rng: &mut Stream) {
    let before = fs::read(path).unwrap();
    let version = b"\"flatmin.cell/";
    while before[..change_a_byte(path, rng)].ends_with(version) {
        fs::write(path, &before).unwrap();
    }
}

#[test]
fn changed_bytes_are_named_and_nothing_of_them_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    let ledger = out.join("ledger.json");
    let verify = || {
        let mut verify = Process::new(env!("CARGO_BIN_EXE_xtask"));
        verify.args(["verify", "--instances", "60", "--only", "D5", "--out"]).arg(&ledger);
        assert!(verify.output().unwrap().status.success());
    };
    verify();
    let arguments = ["--only", CHEAP];
    smoke(out, &arguments);
    let expected = everything(out);
    let ledger_bytes = fs::read(&ledger).unwrap();
    let report = String::from_utf8(expected["report.html"].clone()).unwrap();
    assert!(report.contains("A step shrinks the imbalance"));
    let all = cells(out).len();

    for round in 0..3 {
        let mut rng = stream(0, "changed bytes", round);
        // Every kind of file is changed: cells, claims, tables, schemas, figures, report, results.
        for name in expected.keys() {
            change(&out.join(name), &mut rng);
        }
        change(&out.join("manifest.json"), &mut rng);
        let assert = smoke(out, &arguments).code(predicate::in_iter([0, 1]));
        let lines = said(&assert.get_output().stderr);
        for path in cells(out).keys() {
            let name = path.to_str().unwrap();
            let line = lines.iter().filter(|line| line.contains(name));
            assert!(line.clone().count() == 1, "{name}: {lines:?}");
            assert!(line.clone().all(|line| line.ends_with("computed again")), "{lines:?}");
        }
        assert!(lines.last().unwrap().contains("manifest.json: its checksum does not match"));
        assert_eq!(lines.len(), all + 1, "{lines:?}");
        assert_eq!(counts(out), (all as u64, 0));
        assert_same(&everything(out), &expected);
        assert_nothing_half_written(out);
    }
    smoke(out, &arguments).stderr("");

    // A later run also reads the times of cells in the manifest, and the ledger of `verify`.
    let only = ["--only", "norm_equivalence"];
    smoke(out, &only);
    let mut rng = stream(0, "changed bytes", 3);
    let times = |out: &Path| {
        let text = fs::read_to_string(out.join("manifest.json")).unwrap();
        let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
        manifest["seconds_per_cell"].as_object().unwrap().len()
    };
    assert_eq!(times(out), all);
    let manifest = fs::read(out.join("manifest.json")).unwrap();
    for _ in 0..10 {
        change(&out.join("manifest.json"), &mut rng);
        change(&ledger, &mut rng);
        let assert = smoke(out, &only).code(predicate::in_iter([0, 1]));
        let assert = assert.stderr(contains("the times of earlier runs are left out"));
        assert
            .stderr(contains("ledger.json: its checksum does not match its content, `cargo xtask"));
        assert_eq!(times(out), 0);
        let page = fs::read_to_string(out.join("results.md")).unwrap();
        assert!(page.contains(&format!("for 0 of {all}, unknown for the others")), "{page}");
        assert!(!page.contains("A step shrinks the imbalance"));
        fs::write(out.join("manifest.json"), &manifest).unwrap();
        fs::write(&ledger, &ledger_bytes).unwrap();
    }
    smoke(out, &only).stderr("");
    assert_eq!(times(out), all);
    verify();
    assert!(fs::read(&ledger).unwrap() == ledger_bytes);
}
