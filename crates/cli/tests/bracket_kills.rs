//! Brackets with a checkpoint that are killed at any moment: the file is whole, and a later run goes
//! on from it to a bracket that is as narrow as that of a run that was never killed.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;
#[path = "../../host/tests/support/trouble.rs"]
mod trouble;

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use flatmin_linalg::stream;
use flatmin_theory::Subspace;
use rand::RngExt as _;
use serde_json::Value;
use support::{Numbers, flatmin, write_npz};
use trouble::{delay, note, spin};

const SIGKILL: i32 = 9;

/// Kills in a chain of runs with one checkpoint, and chains.
const KILLS: usize = 6;
const CHAINS: u64 = 4;

/// Numbers between −1 and 1 without order.
fn number(i: usize, j: usize) -> f64 {
    ((i * 7919 + j * 104_729 + i * i * j * 31) % 1009) as f64 / 504.5 - 1.0
}

/// A Jacobian, and a model with its parameters.
fn write_files(folder: &Path) {
    let (n, p) = (300, 150);
    let rows = (0..n).flat_map(|i| (0..p).map(move |j| number(i, j) / (1.0 + 0.1 * j as f64)));
    write_npz(&folder.join("run.npz"), &[("jacobian", &(vec![n, p], rows.collect()))]);
    let config = "seed = 0\n[model]\nkind = 'two-layer-relu'\nwidth = 3\n[data]\n\
                  digits = 'parity'\nsample_count = 400\n[optimizer]\nlearning_rate = 0.01\n\
                  batch_size = 1\nmax_steps = 1\n";
    fs::write(folder.join("digits.toml"), config).unwrap();
    let weights: Numbers = (vec![3, 64], (0..192).map(|at| number(at, 3)).collect());
    let outer: Numbers = (vec![3], vec![1.0, -1.0, 0.5]);
    write_npz(&folder.join("p.npz"), &[("w", &weights), ("a", &outer)]);
}

fn report(folder: &Path, words: &str) -> Value {
    let mut command = flatmin(&[]);
    command.args(words.split_whitespace()).args(["--format", "json"]).current_dir(folder);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}: {said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Starts the command and kills it after this time, in half of the cases shortly after an
/// interrupt, which makes it write its checkpoint. True if the kill ended it.
fn kill(folder: &Path, words: &str, after: Duration, interrupt: Option<Duration>) -> bool {
    let mut process = Process::new(env!("CARGO_BIN_EXE_flatmin"));
    process.args(words.split_whitespace()).current_dir(folder);
    let mut child = process.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    spin(after);
    if let Some(then) = interrupt {
        let id = child.id().to_string();
        assert!(Process::new("kill").args(["-INT", &id]).status().unwrap().success());
        spin(then);
    }
    child.kill().unwrap();
    child.wait().unwrap().signal() == Some(SIGKILL)
}

#[track_caller]
fn survives(command: &str) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_files(folder);
    let end = |value: &Value, name: &str| value[name].as_f64().unwrap();
    let batches = |report: &Value| report["batches"].as_array().unwrap().clone();
    let exact = batches(&report(folder, command));
    let words = format!("{command} --rank 60");
    let start = Instant::now();
    let whole = batches(&report(folder, &words));
    let time = start.elapsed().as_secs_f64();
    let (mut kills, mut found) = (0, 0);
    for chain in 0..CHAINS {
        let mut rng = stream(0, "moments of kills", chain);
        let modes = folder.join(format!("modes-{chain}"));
        let words = format!("{words} --checkpoint modes-{chain}");
        for _ in 0..KILLS {
            let after = delay(1.2 * time, &mut rng);
            let interrupt = rng.random_bool(0.5).then(|| delay(0.02, &mut rng));
            kills += usize::from(kill(folder, &words, after, interrupt));
            // The file is not there yet, or it is a whole one.
            if let Ok(bytes) = fs::read(&modes) {
                let space = Subspace::read_from(&mut bytes.as_slice());
                assert!(space.is_ok(), "chain {chain}: {space:?}");
                found += 1;
            }
        }
        let last = batches(&report(folder, &words));
        for ((last, whole), exact) in last.iter().zip(&whole).zip(&exact) {
            let (found, exact) = (&last["threshold"], &exact["threshold"]);
            assert!(end(found, "lower") <= end(exact, "upper"), "{found} {exact}");
            assert!(end(found, "upper") >= end(exact, "lower"), "{found} {exact}");
            // The modes are at least as good. The random vectors of the certificate are others.
            let width = |batch: &Value| end(batch, "relative_width");
            assert!(width(last) <= 1.1 * width(whole), "{last} {whole}");
        }
        // The same command once more finds all modes, whatever came before.
        let again = batches(&report(folder, &words));
        let rank = |batches: &[Value]| batches[0]["bracket"]["rank"].as_u64().unwrap();
        assert_eq!((rank(&last), rank(&again)), (rank(&whole), rank(&whole)));
    }
    assert!(kills > 0 && found > 0, "{kills} kills, {found} files");
    note(&format!("{kills} kills; a checkpoint was there {found} times"));
}

#[test]
fn a_bracket_of_a_file_survives_kills() {
    survives("analyze run.npz --array jacobian --batch-size 1,4,16,64 --trust-input");
}

#[test]
fn a_bracket_of_a_model_survives_kills() {
    survives("metrics digits.toml --parameters p.npz --batch-size 1,4,16,64");
}
