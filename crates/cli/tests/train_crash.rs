//! `flatmin train` when it is killed, when the disk fails it, when its files are changed, and twice
//! in one folder: nothing is lost, and nothing that was changed is used.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod support;
#[path = "../../host/tests/support/trouble.rs"]
mod trouble;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use flatmin_arrays::ArrayFile;
use flatmin_linalg::stream;
use predicates::str::contains;
use rand::RngExt as _;
use support::{Numbers, Runs, long_run, results};
use trouble::{Mounted, change_a_byte, delay, note, spin};

const SIGKILL: i32 = 9;

/// Steps that take a part of a second, and make 201 rows.
const STEPS: u64 = 100_000;
const ROWS: usize = 201;

/// Kills in a chain of runs in one folder, and in all of the chains.
const KILLS: usize = 10;
const ALL_KILLS: usize = 50;

type Results = BTreeMap<&'static str, Vec<u8>>;

fn config(max_steps: u64) -> String {
    long_run(max_steps, 500, 1300)
}

/// A folder with the configuration, and the results of a run without trouble.
fn runs() -> (Runs, Results) {
    let runs = Runs::new();
    runs.config("run.toml", &config(STEPS));
    runs.train(&["run.toml", "--out", "whole"]).assert().success();
    let whole = results(&runs.path("whole"));
    (runs, whole)
}

/// A process of `flatmin train`, which goes on if there is something to go on with.
fn process(runs: &Runs, out: &Path) -> Process {
    let mut process = Process::new(env!("CARGO_BIN_EXE_flatmin"));
    process.args(["train", "run.toml", "--resume", "--out"]).arg(out);
    process.current_dir(runs.folder.path()).stdout(Stdio::null()).stderr(Stdio::piped());
    process
}

/// Lines of the metrics table, complete ones.
fn lines(out: &Path) -> usize {
    fs::read_to_string(out.join("metrics.csv")).unwrap_or_default().matches('\n').count()
}

/// Waits until a condition holds, or the process ends.
fn wait(child: &mut Child, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() && child.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < Duration::from_mins(2), "waited too long");
        std::thread::yield_now();
    }
}

/// The lines of standard error that the program itself writes.
fn said(stderr: &[u8]) -> Vec<String> {
    let stderr = String::from_utf8(stderr.to_vec()).unwrap();
    stderr.lines().filter(|line| line.starts_with("flatmin: ")).map(str::to_owned).collect()
}

/// The step from which a run says to go on.
fn step(lines: &[String]) -> Option<u64> {
    let line = lines.iter().find_map(|line| line.split_once("going on from step "))?;
    Some(line.1.parse().unwrap())
}

#[track_caller]
fn assert_nothing_is_left_over(out: &Path) {
    let mut names: Vec<_> =
        fs::read_dir(out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["checkpoint", "metrics.csv", "parameters.npz", "run.json"]);
}

/// That what a run that was stopped anywhere left is a part of what it should leave.
#[track_caller]
fn assert_part_of(out: &Path, whole: &Results) {
    let table = fs::read(out.join("metrics.csv")).unwrap_or_default();
    assert!(whole["metrics.csv"].starts_with(&table), "other rows");
    for name in ["parameters.npz", "run.json"] {
        let path = out.join(name);
        assert!(!path.exists() || fs::read(path).unwrap() == whole[name], "{name}");
    }
}

#[test]
fn fifty_kills_lose_nothing_and_change_no_byte() {
    let (runs, whole) = runs();
    // Kills while it trained, and when all rows were there.
    let (mut training, mut at_the_end) = (0, 0);
    for chain in 0.. {
        let kills = ALL_KILLS - training - at_the_end;
        if kills == 0 {
            break;
        }
        assert!(chain < 50, "runs end before they are killed");
        let mut rng = stream(0, "moments of kills", chain);
        let out = runs.path(&format!("chain {chain}"));
        let mut moments: Vec<usize> = (0..KILLS.min(kills))
            .map(|kill| if kill < 8 { rng.random_range(0..=ROWS) } else { ROWS + 1 })
            .collect();
        moments.sort_unstable();
        let mut last_step = 0;
        for moment in moments {
            let mut child = process(&runs, &out).spawn().unwrap();
            if moment > ROWS {
                // Parameters and summary follow each other at once.
                wait(&mut child, || out.join("parameters.npz").exists());
            } else {
                wait(&mut child, || lines(&out) >= moment);
                spin(delay(0.01, &mut rng));
            }
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            assert_part_of(&out, &whole);
            let lines_said = said(&output.stderr);
            if let Some(step) = step(&lines_said) {
                assert!(step >= last_step, "{step} after {last_step}");
                last_step = step;
            }
            if output.status.signal() != Some(SIGKILL) {
                // It was quicker.
                assert!(output.status.success(), "{lines_said:?}");
                break;
            }
            *(if lines(&out) > ROWS { &mut at_the_end } else { &mut training }) += 1;
        }
        let output = process(&runs, &out).output().unwrap();
        assert!(output.status.success(), "{:?}", said(&output.stderr));
        assert_eq!(results(&out), whole);
        assert_nothing_is_left_over(&out);
    }
    assert!(training > 0 && at_the_end > 0, "{training} and {at_the_end}");
    note(&format!("{training} kills while it trained, {at_the_end} with all rows there"));
}

/// A run that fails with one line about a file, and then, after `repair`, goes on.
#[track_caller]
fn fails_and_goes_on(
    runs: &Runs,
    whole: &Results,
    out: &Path,
    reason: &str,
    repair: impl FnOnce(),
) {
    let output = process(runs, out).output().unwrap();
    let mut lines_said = said(&output.stderr);
    let going_on = ["going on from step", "no run to go on with"];
    lines_said.retain(|line| !going_on.iter().any(|words| line.contains(words)));
    assert_eq!((output.status.code(), lines_said.len()), (Some(3), 1), "{lines_said:?}");
    let line = &lines_said[0];
    assert!(line.contains(out.to_str().unwrap()) && line.contains(reason), "{line}");
    assert_part_of(out, whole);
    repair();
    let output = process(runs, out).output().unwrap();
    assert!(output.status.success(), "{:?}", said(&output.stderr));
    assert!(step(&said(&output.stderr)).is_some(), "it went on from what was there");
    assert_eq!(&results(out), whole);
    assert_nothing_is_left_over(out);
}

#[test]
fn a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room() {
    let (runs, whole) = runs();
    // Room for one checkpoint and not for two, up to almost all that it takes.
    for size in [28, 44, 60, 68] {
        let Some(mounted) = Mounted::new(size) else { return };
        let out = mounted.path().join("run");
        fails_and_goes_on(&runs, &whole, &out, "No space left", || mounted.remount("size=1m"));
    }
}

#[test]
fn a_folder_that_is_read_only_is_one_line_and_left_as_it_is() {
    let (runs, whole) = runs();
    let Some(mounted) = Mounted::new(1 << 10) else { return };
    let out = mounted.path().join("run");
    let mut child = process(&runs, &out).spawn().unwrap();
    wait(&mut child, || lines(&out) > 50);
    child.kill().unwrap();
    child.wait().unwrap();
    mounted.remount("ro");
    fails_and_goes_on(&runs, &whole, &out, "Read-only file system", || mounted.remount("rw"));
}

#[test]
fn a_folder_that_vanishes_is_one_line_and_once_it_is_back_the_run_goes_on() {
    let (runs, whole) = runs();
    let (out, away) = (runs.path("run"), runs.path("away"));
    let mut vanished = 0;
    for rows in [1, 60, 120, 160] {
        let rows = rows.max(lines(&out));
        let mut child = process(&runs, &out).spawn().unwrap();
        // After something of this run: until then it makes the folder that it does not find.
        wait(&mut child, || lines(&out) > rows);
        fs::rename(&out, &away).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(!out.exists());
        assert_part_of(&away, &whole);
        fs::rename(&away, &out).unwrap();
        if output.status.success() {
            // It was quicker.
            break;
        }
        let mut lines_said = said(&output.stderr);
        lines_said
            .retain(|line| !line.contains("starting afresh") && !line.contains("going on from"));
        assert!(output.status.code() == Some(3) && lines_said.len() == 1, "{lines_said:?}");
        let reason = "metrics.csv: was removed or replaced while the run went on; put it back";
        let by_name = "run/checkpoint: No such file or directory";
        let line = &lines_said[0];
        assert!(line.contains(reason) || line.contains(by_name), "{line}");
        vanished += 1;
    }
    assert!(vanished > 0);
    assert!(process(&runs, &out).output().unwrap().status.success());
    assert_eq!(results(&out), whole);
}

#[test]
fn a_run_does_not_write_into_the_folder_of_another_that_took_its_place() {
    let (runs, whole) = runs();
    let out = runs.path("run");
    let mut child = process(&runs, &out).spawn().unwrap();
    wait(&mut child, || lines(&out) > 1);
    fs::rename(&out, runs.path("away")).unwrap();
    runs.config("other.toml", &config(1000).replace("seed = 1", "seed = 2"));
    runs.train(&["other.toml", "--out", "run"]).assert().success();
    let other = results(&out);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{:?}", said(&output.stderr));
    assert_eq!(results(&out), other);
    runs.train(&["other.toml", "--out", "run", "--resume"]).assert().success().stderr("");
    runs.train(&["run.toml", "--out", "away", "--resume"]).assert().success();
    assert_eq!(results(&runs.path("away")), whole);
}

/// The bytes of the table that the checkpoint holds.
fn bytes_in_checkpoint(out: &Path) -> usize {
    let text = fs::read_to_string(out.join("checkpoint")).unwrap();
    let checkpoint: serde_json::Value = serde_json::from_str(&text).unwrap();
    usize::try_from(checkpoint["content"]["metrics_bytes"].as_u64().unwrap()).unwrap()
}

#[test]
fn changed_bytes_of_a_run_are_named_and_nothing_of_them_is_used() {
    let runs = Runs::new();
    let config = long_run(6000, 500, 2500);
    runs.config("run.toml", &config);
    let out = runs.path("run");
    runs.train(&["run.toml"]).assert().success();
    let whole = results(&out);
    let checkpoint = fs::read(out.join("checkpoint")).unwrap();
    let in_checkpoint = bytes_in_checkpoint(&out);
    assert!(in_checkpoint < whole["metrics.csv"].len());
    let mut rng = stream(0, "changed bytes", 0);
    let (mut written_again, mut refused) = (0, 0);
    let kinds = ["metrics.csv", "parameters.npz", "run.json", "checkpoint"];
    for (round, name) in (0..15).flat_map(|round| kinds.map(|name| (round, name))) {
        // A run that has ended, and one that has not.
        if round % 3 == 2 {
            fs::remove_file(out.join("run.json")).unwrap();
            if name == "run.json" || name == "parameters.npz" {
                runs.train(&["run.toml", "--resume"]).assert().success();
                continue;
            }
        }
        let position = change_a_byte(&out.join(name), &mut rng);
        let changed = fs::read(out.join(name)).unwrap();
        let output = process(&runs, &out).output().unwrap();
        let lines_said = said(&output.stderr);
        assert!(
            lines_said.iter().any(|line| line.contains(name)) || round % 3 == 2,
            "{lines_said:?}"
        );
        if name == "checkpoint" || name == "metrics.csv" && position < in_checkpoint {
            assert_eq!((output.status.code(), lines_said.len()), (Some(3), 1), "{lines_said:?}");
            assert!(lines_said[0].contains(name), "{lines_said:?}");
            assert!(fs::read(out.join(name)).unwrap() == changed, "it is left as it is");
            refused += 1;
            let good = if name == "checkpoint" { &checkpoint } else { &whole[name] };
            fs::write(out.join(name), good).unwrap();
            runs.train(&["run.toml", "--resume"]).assert().success();
        } else {
            assert!(output.status.success(), "{lines_said:?}");
            written_again += 1;
        }
        assert_eq!(results(&out), whole, "{name} {position}");
        assert!(fs::read(out.join("checkpoint")).unwrap() == checkpoint);
    }
    assert!(written_again >= 20 && refused >= 20, "{written_again} and {refused}");
    runs.train(&["run.toml", "--resume"]).assert().success().stderr("");
}

#[test]
fn results_that_are_missing_are_written_again() {
    let runs = Runs::new();
    runs.config("run.toml", &config(6000));
    runs.train(&["run.toml"]).assert().success();
    let whole = results(&runs.path("run"));
    fs::remove_file(runs.path("run/parameters.npz")).unwrap();
    let said = contains("run/parameters.npz: is not what run.json says was written; it is written");
    runs.train(&["run.toml", "--resume"]).assert().success().stderr(said);
    assert_eq!(results(&runs.path("run")), whole);
}

/// The arrays of a file of parameters, unless it is refused.
fn arrays(path: &Path) -> Option<Vec<Numbers>> {
    let array = |name| {
        let mut array = ArrayFile::open(path).ok()?.array(Some(name), &[]).ok()?;
        let values = array.values().ok()?;
        Some((array.shape().to_vec(), values))
    };
    ["w", "a"].into_iter().map(array).collect()
}

#[test]
fn changed_parameters_are_never_read_as_other_numbers() {
    let runs = Runs::new();
    runs.config("run.toml", &config(100));
    runs.train(&["run.toml"]).assert().success();
    let path = runs.path("run/parameters.npz");
    let (bytes, expected) = (fs::read(&path).unwrap(), arrays(&path).unwrap());
    let mut rng = stream(0, "changed bytes", 1);
    let mut refused = 0;
    for _ in 0..500 {
        let position = change_a_byte(&path, &mut rng);
        match arrays(&path) {
            // Such as the time of the archive's entry.
            Some(found) => assert!(found == expected, "byte {position}"),
            None => refused += 1,
        }
        fs::write(&path, &bytes).unwrap();
    }
    assert!(refused > 400, "{refused}");
}

#[test]
fn of_several_that_begin_at_once_one_trains() {
    let runs = Runs::new();
    // So short that one may end while another is about to begin.
    runs.config("run.toml", &config(500));
    runs.train(&["run.toml", "--out", "whole"]).assert().success();
    let whole = results(&runs.path("whole"));
    for round in 0..10 {
        let out = runs.path(&format!("run {round}"));
        let start = || {
            let mut process = Process::new(env!("CARGO_BIN_EXE_flatmin"));
            process.args(["train", "run.toml", "--out"]).arg(&out);
            process.current_dir(runs.folder.path()).stdout(Stdio::null()).stderr(Stdio::piped());
            process.spawn().unwrap()
        };
        let children: Vec<Child> = (0..6).map(|_| start()).collect();
        let mut trained = 0;
        for child in children {
            let output = child.wait_with_output().unwrap();
            let lines_said = said(&output.stderr);
            if output.status.success() {
                trained += 1;
                continue;
            }
            assert!(output.status.code() == Some(3) && lines_said.len() == 1, "{lines_said:?}");
            let reasons = ["another process is writing to it", "holds a run already"];
            assert!(reasons.iter().any(|reason| lines_said[0].contains(reason)), "{lines_said:?}");
        }
        assert_eq!(trained, 1);
        assert_eq!(results(&out), whole);
        assert_nothing_is_left_over(&out);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_run_that_another_ended_while_it_began_is_not_overwritten() {
    let runs = Runs::new();
    let library = trouble::late_locks(runs.folder.path());
    runs.config("run.toml", &config(500));
    let out = runs.path("run");
    let mut late = Process::new(env!("CARGO_BIN_EXE_flatmin"));
    late.args(["train", "run.toml"]).current_dir(runs.folder.path());
    late.env("LD_PRELOAD", &library).env("GO", runs.path("go"));
    let mut late = late.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // It has seen that there is no run, and makes the folder.
    wait(&mut late, || out.exists());
    runs.config("other.toml", &config(500).replace("seed = 1", "seed = 2"));
    runs.train(&["other.toml", "--out", "run"]).assert().success();
    let other = results(&out);
    fs::write(runs.path("go"), "").unwrap();
    let output = late.wait_with_output().unwrap();
    let lines_said = said(&output.stderr);
    assert!(output.status.code() == Some(3) && lines_said.len() == 1, "{lines_said:?}");
    assert!(lines_said[0].contains("holds a run already (run.json)"), "{lines_said:?}");
    assert_eq!(results(&out), other);
}

#[cfg(target_os = "linux")]
#[test]
fn without_locks_a_run_says_so_and_does_not_end_with_what_another_changed() {
    let (runs, whole) = runs();
    let library = trouble::without_locks(runs.folder.path());
    let out = runs.path("run");
    let start = || process(&runs, &out).env("LD_PRELOAD", &library).spawn().unwrap();
    let mut first = start();
    wait(&mut first, || lines(&out) > 80);
    // It cuts the table that the first is writing, and dies.
    let mut second = start();
    wait(&mut second, || lines(&out) > 100);
    second.kill().unwrap();
    second.wait().unwrap();
    // The table is cut as if the second run had died before its rows were there.
    fs::OpenOptions::new().write(true).open(out.join("metrics.csv")).unwrap().set_len(9).unwrap();
    let output = first.wait_with_output().unwrap();
    let lines_said = said(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{lines_said:?}");
    for words in ["metrics.csv: this file system has no locks", "was changed by another process"] {
        assert!(lines_said.iter().any(|line| line.contains(words)), "{lines_said:?}");
    }
    assert!(!out.join("run.json").exists() && !out.join("parameters.npz").exists());
    runs.train(&["run.toml", "--out", "afresh"]).assert().success();
    assert_eq!(results(&runs.path("afresh")), whole);
}
