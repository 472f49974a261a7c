//! Files made to do harm: nothing reaches the terminal raw, nothing is written where a name or a
//! link points, and memory stays bounded. Exit status 3, one line on standard error, nothing on
//! standard output.

#![cfg(unix)]

mod support;

use std::fs;
use std::io::{Cursor, Write as _};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use support::{Numbers, Runs, SMALL_RUN, flatmin, small_data, write_npz};
use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

/// Colours, a new title, a line of its own, text from right to left, and a control sequence in
/// Latin 1.
const EVIL: &str = "\u{1b}[31m\u{1b}]0;x\u{7}\nflatmin: all is well\u{202e}\u{9b}2J";

fn runs() -> Runs {
    let runs = Runs::new();
    let [x, y] = small_data();
    write_npz(&runs.path("data.npz"), &[("x", &x), ("y", &y)]);
    runs.config("run.toml", SMALL_RUN);
    runs
}

/// That text is fit for a terminal, line ends apart.
#[track_caller]
fn harmless(text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    let fit = |c: char| c == '\n' || flatmin_host::is_printable(c);
    assert!(text.chars().all(fit), "{text:?}");
}

/// Status 3, one harmless line on standard error, nothing on standard output.
#[track_caller]
fn refused(output: &Output, words: &str) {
    harmless(&output.stderr);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(output.stdout.is_empty() && error.lines().count() == 1, "{error}");
    assert!(error.starts_with("flatmin: ") && error.contains(words), "{error} lacks {words}");
    assert!(error.len() < 4000, "{} bytes", error.len());
}

#[test]
fn names_of_arrays_are_not_echoed_raw() {
    let runs = runs();
    let identity: Numbers = (vec![2, 2], vec![1.0, 0.0, 0.0, 2.0]);
    let file = runs.path("a.npz");
    write_npz(&file, &[(EVIL, &identity), ("other", &identity)]);
    let file = file.to_str().unwrap();
    let analyze =
        |arguments: &[&str]| flatmin(&[&["analyze", file], arguments].concat()).output().unwrap();
    refused(&analyze(&[]), "name one of them: \\u{1b}[31m");
    refused(&analyze(&["--array", "\u{1b}[2J"]), "has no array \"\\u{1b}[2J\"");
    let text = analyze(&["--array", EVIL]);
    assert!(text.status.success());
    harmless(&text.stdout);
    assert!(String::from_utf8_lossy(&text.stdout).contains("array \"\\u{1b}[31m"));
    let json = analyze(&["--array", EVIL, "--format", "json"]).stdout;
    harmless(&json);
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["array"], EVIL);
    // The same file is also refused as the parameters of a model.
    let model = ["metrics", "run.toml", "--parameters", file, "--data", "data.npz"];
    refused(&flatmin(&model).current_dir(runs.folder.path()).output().unwrap(), "a.npz: ");
}

#[test]
fn names_of_files_and_arguments_are_not_echoed_raw() {
    let runs = runs();
    let name = EVIL.replace('/', "");
    let identity: Numbers = (vec![2, 2], vec![1.0, 0.0, 0.0, 2.0]);
    fs::write(runs.path(&name), "no array").unwrap();
    let output =
        |arguments: &[&str]| flatmin(arguments).current_dir(runs.folder.path()).output().unwrap();
    refused(&output(&["analyze", &name]), "flatmin: \\u{1b}[31m");
    refused(&output(&["train", &name]), "\\u{1b}[31m");
    write_npz(&runs.path(&name), &[("jacobian", &identity)]);
    for arguments in [
        &["analyze", name.as_str(), "--figure", "a.svg"][..],
        &["analyze", name.as_str(), "--format", "json"],
    ] {
        let answer = output(arguments);
        assert!(answer.status.success());
        harmless(&answer.stdout);
        harmless(&answer.stderr);
    }
    harmless(&fs::read(runs.path("a.svg")).unwrap());
    let option = format!("--{name}");
    let usage = output(&["analyze", &option]);
    assert_eq!(usage.status.code(), Some(2));
    harmless(&usage.stderr);
    assert!(!usage.stderr.is_empty() && usage.stdout.is_empty());
}

#[test]
fn configurations_are_not_echoed_raw() {
    let runs = runs();
    let quoted = serde_json::to_string(EVIL).unwrap().replace('\u{9b}', "\\u009b");
    let check = |config: &str, words: &str| {
        runs.config("run.toml", config);
        refused(&runs.train(&["run.toml"]).output().unwrap(), words);
        assert!(!runs.path("run").exists(), "nothing may be written");
    };
    check(&format!("{quoted} = 1\n{SMALL_RUN}"), "line 1: unknown key \"\\u{1b}[31m");
    check(&SMALL_RUN.replace("'two-layer-relu'", &quoted), "line 4: kind is \"\\u{1b}[31m");
    check(&SMALL_RUN.replace("'data.npz'", &quoted), "\\u{1b}[31m");
    check(&format!("{SMALL_RUN}{EVIL}"), "run.toml: line 10: ");
    let long = format!("\"{}\" = 1\n{SMALL_RUN}", "k".repeat(100_000));
    check(&long, "unknown key \"kkk");
    check(&SMALL_RUN.replace("0.01", &"9".repeat(100_000)), "line 7: learning_rate is 999");
    // Deeper than any stack.
    check(&format!("a = {}", "[".repeat(200_000)), "run.toml: line 1: ");
    check(&format!("{} = 1", vec!["a"; 200_000].join(".")), "run.toml: line 1: ");
}

#[test]
fn the_files_of_another_run_are_not_echoed_raw() {
    let runs = runs();
    runs.train(&["run.toml"]).assert().success();
    let path = runs.path("run/run.json");
    let summary = fs::read_to_string(&path).unwrap();
    let version = format!("\"{}\"", env!("CARGO_PKG_VERSION"));
    let (fields, _) = summary.rsplit_once(",\n  \"checksum\"").unwrap();
    for evil in ["\u{202e}", "\u{9b}2J", "\u{7f}"] {
        // Whoever writes such a file can make its checksum right.
        let changed = fields.replace(&version, &format!("\"{evil}\"")) + "\n}\n";
        fs::write(&path, flatmin_host::seal(&changed)).unwrap();
        for format in ["text", "json"] {
            let arguments = ["run.toml", "--resume", "--format", format];
            let output = runs.train(&arguments).output().unwrap();
            refused(&output, "run.json: is not a summary of a run: it holds control characters");
        }
    }
    fs::write(&path, vec![b' '; 2 << 20]).unwrap();
    let output = runs.train(&["run.toml", "--resume"]).output().unwrap();
    refused(&output, "has more than 1048576 bytes");
    fs::write(runs.path("run/checkpoint"), "{\"schema\":\"\\u001b[31m\"}").unwrap();
    let output = runs.train(&["run.toml", "--resume"]).output().unwrap();
    refused(
        &output,
        "checkpoint: is damaged (its format is \"\\u{1b}[31m\", not flatmin.checkpoint/1)",
    );
    fs::write(runs.path("run/checkpoint"), vec![b' '; 2 << 20]).unwrap();
    let output = runs.train(&["run.toml", "--resume"]).output().unwrap();
    refused(&output, "too many for a checkpoint of this run");
}

#[test]
fn links_in_the_folder_of_a_run_are_not_followed() {
    for name in ["metrics.csv", "checkpoint", "parameters.npz", "run.json"] {
        let runs = runs();
        runs.train(&["run.toml"]).assert().success();
        let precious = runs.path("precious");
        fs::rename(runs.path("run").join(name), &precious).unwrap();
        let before = fs::read(&precious).unwrap();
        symlink(&precious, runs.path("run").join(name)).unwrap();
        for arguments in [&["run.toml", "--resume"][..], &["run.toml"]] {
            let output = runs.train(arguments).output().unwrap();
            refused(&output, &format!("run/{name}: is a link"));
        }
        assert_eq!(fs::read(&precious).unwrap(), before, "{name}");
    }
}

#[test]
fn names_in_an_archive_lead_nowhere() {
    let runs = runs();
    let identity: Numbers = (vec![2, 2], vec![1.0, 0.0, 0.0, 2.0]);
    let above = "../../above";
    let absolute = runs.path("absolute");
    let names = [above, absolute.to_str().unwrap()];
    write_npz(&runs.path("a.npz"), &names.map(|name| (name, &identity)));
    let count = || fs::read_dir(runs.folder.path()).unwrap().count();
    let before = count();
    for name in names {
        let file = runs.path("a.npz");
        flatmin(&["analyze", file.to_str().unwrap(), "--array", name]).assert().success();
    }
    assert_eq!(count(), before);
    assert!(!absolute.exists() && !Path::new("../../above.npy").exists());
}

/// 128 MiB of zeros, a hundredth of that in the file, would be a gigabyte of numbers.
#[test]
fn a_small_file_does_not_become_a_gigabyte_of_numbers() {
    let runs = runs();
    let text = "{'descr': '|u1', 'fortran_order': False, 'shape': (67108864, 2), }\n";
    let size = u16::try_from(text.len()).unwrap().to_le_bytes();
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(1));
    writer.start_file("x.npy", options).unwrap();
    writer.write_all(&[b"\x93NUMPY\x01\x00", size.as_slice(), text.as_bytes()].concat()).unwrap();
    for _ in 0..128 {
        writer.write_all(&vec![0; 1 << 20]).unwrap();
    }
    let bomb = writer.finish().unwrap().into_inner();
    assert!(bomb.len() < 2 << 20);
    fs::write(runs.path("data.npz"), bomb).unwrap();
    let limits = "ulimit -v 1048576 && exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", limits, "sh", env!("CARGO_BIN_EXE_flatmin"), "train", "run.toml"]);
    let output = command.current_dir(runs.folder.path()).output().unwrap();
    refused(&output, "134217728 numbers, more than the 67108864 that are held in memory");
}
