//! Brackets of `flatmin analyze` from files that are read again for every product.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::Value;
use support::{Numbers, flatmin, write_npz};

/// Numbers between −1 and 1 without order.
fn number(i: usize, j: usize) -> f64 {
    ((i * 7919 + j * 104_729 + i * i * j * 31) % 1009) as f64 / 504.5 - 1.0
}

/// n × k × p derivatives whose spectrum decays, logits and residuals.
fn archive(folder: &tempfile::TempDir, n: usize, k: usize, p: usize) -> PathBuf {
    let rows = (0..n * k).flat_map(|i| (0..p).map(move |j| number(i, j) / (1.0 + j as f64)));
    let jacobian: Numbers = (vec![n, k, p], rows.collect());
    let logits = (vec![n, k], (0..n * k).map(|at| 2.0 * number(at, 5)).collect());
    let residuals = (vec![n, k], (0..n * k).map(|at| 1e-3 * number(at, 9)).collect());
    let path = folder.path().join("run.npz");
    let arrays = [("jacobian", &jacobian), ("logits", &logits), ("residuals", &residuals)];
    write_npz(&path, &arrays);
    path
}

fn report(words: &[&str]) -> Value {
    let output = flatmin(&[&["analyze"], words, &["--format", "json"]].concat()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_bracket_holds_the_exact_threshold() {
    let folder = tempfile::tempdir().unwrap();
    let path = archive(&folder, 60, 3, 50);
    let path = path.to_str().unwrap();
    let loss = ["--loss", "cross-entropy", "--logits", "logits"];
    let questions: [&[&str]; 4] = [
        &[],
        &["--loss-scale", "2/3", "--sampling", "poisson"],
        &loss,
        &["--momentum", "0.9", "--learning-rate", "1e-6,10"],
    ];
    for question in questions {
        let common = [&[path, "--array", "jacobian", "--batch-size", "1,7"], question].concat();
        let exact = report(&common);
        let found = report(&[&common[..], &["--relative-width", "0.03"]].concat());
        for (found, exact) in
            found["batches"].as_array().unwrap().iter().zip(exact["batches"].as_array().unwrap())
        {
            let (bracket, certified) = (&found["threshold"], &exact["threshold"]);
            let end = |value: &Value| value.as_f64().unwrap();
            assert!(end(&bracket["lower"]) <= end(&certified["upper"]), "{question:?}: {bracket}");
            assert!(end(&bracket["upper"]) >= end(&certified["lower"]), "{question:?}: {bracket}");
            assert_eq!(bracket["kind"], "bracket");
            let verdicts = |batch: &Value| {
                let rates = batch["learning_rates"].as_array().unwrap().clone();
                rates.iter().map(|rate| rate["verdict"].clone()).collect::<Vec<_>>()
            };
            assert_eq!(verdicts(found), verdicts(exact));
        }
        let close = |name: &str| {
            let [found, exact] = [&found[name], &exact[name]].map(|value| value.as_f64().unwrap());
            assert!((found / exact - 1.0).abs() < 1e-9, "{name}: {found} {exact}");
        };
        ["trace", "max_gradient_norm_squared"].into_iter().for_each(close);
        let top = exact["lambda_max"].as_f64().unwrap();
        let end = |name: &str| found["lambda_max_interval"][name].as_f64().unwrap();
        assert!(end("lower") <= top * (1.0 + 1e-12) && top <= end("upper") * (1.0 + 1e-12));
    }
}

#[test]
fn the_text_says_what_the_modes_leave() {
    let folder = tempfile::tempdir().unwrap();
    let path = archive(&folder, 80, 1, 40);
    let words = ["analyze", path.to_str().unwrap(), "--array", "jacobian", "--rank", "20"];
    let output = flatmin(&words).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for part in ["80 samples × 40 parameters", "bracketed by leading modes", "% of the trace"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// The text of an answer, and its exit status.
fn text(words: &[&str]) -> (String, Option<i32>) {
    let output = flatmin(&[&["analyze"], words].concat()).output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.code())
}

#[test]
fn a_bracket_takes_the_place_of_a_threshold_that_does_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let path = archive(&folder, 900, 2, 12);
    let common = [path.to_str().unwrap(), "--array", "jacobian", "--batch-size", "1,8"];
    let exact = report(&common);
    let limited = [&common[..], &["--memory-limit", "0.2"]].concat();
    let found = report(&limited);
    let batches = |report: &Value| report["batches"].as_array().unwrap().clone();
    for (found, exact) in batches(&found).iter().zip(&batches(&exact)) {
        let (bracket, certified) = (&found["threshold"], &exact["threshold"]);
        assert_eq!(
            (&bracket["kind"], &certified["kind"]),
            (&"bracket".into(), &"certified".into())
        );
        let end = |value: &Value| value.as_f64().unwrap();
        assert!(end(&bracket["lower"]) <= end(&certified["upper"]), "{bracket} {certified}");
        assert!(end(&bracket["upper"]) >= end(&certified["lower"]), "{bracket} {certified}");
        assert!(end(&found["relative_width"]) <= 0.05, "{found}");
    }
    let (words, status) = text(&limited);
    assert_eq!(status, Some(0));
    let reason = "No exact thresholds: 900 samples with 2 outputs each need about 0.57 GiB";
    for part in [reason, "more than --memory-limit 0.2.\nBrackets from products take their place"] {
        assert!(words.contains(part), "{part}: {words}");
    }
    // An option sets the limits, and nothing takes the place of anything.
    let (words, _) = text(&[&limited[..], &["--rank", "16"]].concat());
    assert!(!words.contains("take their place"), "{words}");
}

/// Nothing in the numbers tells some wrong inputs from right ones, so that every answer says what
/// the array was read as.
#[test]
fn a_bracket_says_what_the_array_was_read_as() {
    let folder = tempfile::tempdir().unwrap();
    let path = archive(&folder, 40, 3, 30);
    for residuals in [&[][..], &["--residuals", "residuals"]] {
        let common = [&[path.to_str().unwrap(), "--array", "jacobian"], residuals].concat();
        let bracket = [&common[..], &["--rank", "20"]].concat();
        let reading = report(&common)["reading"].as_str().unwrap().to_owned();
        assert!(reading.starts_with("Read as the Jacobian of the outputs, not of the loss: 40 "));
        assert_eq!(report(&bracket)["reading"].as_str(), Some(reading.as_str()));
        // The lines of the reading and the hints below it are those of an exact answer.
        let lines = |words: &[&str]| -> Vec<String> {
            let text = text(words).0;
            let from = text.lines().skip_while(|line| !line.starts_with("Read as"));
            let until = |line: &&str| !(line.is_empty() || line.starts_with("Mean gradient"));
            from.take_while(until).map(str::to_owned).collect()
        };
        let (found, expected) = (lines(&bracket), lines(&common));
        assert_eq!(found[..2], expected[..2]);
        assert_eq!(found[0], format!("{reading}."));
    }
}

#[test]
fn a_doubt_puts_reserve_on_the_verdicts_of_a_bracket() {
    let folder = tempfile::tempdir().unwrap();
    // All gradients of the residuals point the same way: the point is not stationary.
    let equal: Numbers = (vec![32, 2], (0..64).map(|at| [3.0, 4.0][at % 2]).collect());
    let path = folder.path().join("equal.npz");
    write_npz(&path, &[("jacobian", &equal), ("residuals", &(vec![32], vec![0.5; 32]))]);
    let common = [path.to_str().unwrap(), "--array", "jacobian", "--residuals", "residuals"];
    let asked = ["--rank", "2", "--learning-rate", "0.01", "--check"];
    let words = [&common[..], &asked].concat();
    let (found, status) = text(&words);
    assert!(found.contains("Doubt: ") && found.contains("  stable (doubtful)  "), "{found}");
    assert_eq!(status, Some(1));
    // The modes hold everything, and rounding leaves no negative part.
    assert!(found.contains("leave 0 % of the trace and 0 % of the heaviest sample"), "{found}");
    let (found, status) = text(&[&words[..], &["--trust-input"]].concat());
    assert!(found.contains("  stable  ") && !found.contains("doubtful"), "{found}");
    assert_eq!(status, Some(0));
}

#[test]
fn what_the_modes_leave_does_not_depend_on_units() {
    let folder = tempfile::tempdir().unwrap();
    let rests = [1.0, 10.0].map(|unit| {
        let rows = (0..80).flat_map(|i| (0..40).map(move |j| (i, j)));
        let rows = rows.map(|(i, j)| unit * number(i, j) / (1.0 + j as f64));
        let path = folder.path().join("run.npz");
        write_npz(&path, &[("jacobian", &(vec![80, 40], rows.collect()))]);
        let found = report(&[path.to_str().unwrap(), "--rank", "16", "--trust-input"]);
        found["batches"][0]["bracket"]["rest_of_trace"].as_f64().unwrap()
    });
    assert!(rests[0] > 0.01 && rests[0] < 0.5, "{rests:?}");
    assert!((rests[1] / rests[0] - 1.0).abs() < 1e-9, "{rests:?}");
}

/// The thresholds of equal rows and of orthogonal ones are known for every draw.
#[test]
fn parts_of_the_samples_have_thresholds_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let equal: Numbers = (vec![32, 2], (0..64).map(|at| [3.0, 4.0][at % 2]).collect());
    let path = folder.path().join("equal.npz");
    write_npz(&path, &[("jacobian", &equal)]);
    let path = path.to_str().unwrap();
    let found = report(&[path, "--subsets", "3", "--loss-scale", "2", "--trust-input"]);
    let parts = found["batches"][0]["subsets"].as_array().unwrap().clone();
    let sizes: Vec<u64> = parts.iter().map(|part| part["samples"].as_u64().unwrap()).collect();
    assert_eq!(sizes, [2, 4, 8, 16]);
    for part in &parts {
        assert_eq!(part["draws"], 3);
        for name in ["mean", "least", "greatest"] {
            // 2/(c ‖g‖²).
            assert!((part[name].as_f64().unwrap() - 0.04).abs() < 1e-7, "{part}");
        }
    }
    // Batches of 8 need 8 samples; without the option there are no parts.
    let found = report(&[path, "--subsets", "2", "--batch-size", "8", "--trust-input"]);
    assert_eq!(found["batches"][0]["subsets"].as_array().unwrap().len(), 2);
    assert!(report(&[path, "--trust-input"])["batches"][0].get("subsets").is_none());
    // Each of some orthogonal rows is stable up to 2B/‖g‖², so that the longest one drawn decides.
    let length = |i: usize| if i == 5 { 2.0 } else { 1.0 };
    let rows = (0..32).flat_map(|i| (0..32).map(move |j| if i == j { length(i) } else { 0.0 }));
    let diagonal = folder.path().join("diagonal.npz");
    write_npz(&diagonal, &[("jacobian", &(vec![32, 32], rows.collect()))]);
    let words = ["analyze", diagonal.to_str().unwrap(), "--trust-input"];
    let found = report(&[&words[1..], &["--subsets", "9", "--batch-size", "2"]].concat());
    let batch = &found["batches"][0];
    assert!((batch["threshold"]["estimate"].as_f64().unwrap() - 1.0).abs() < 1e-6, "{batch}");
    for part in batch["subsets"].as_array().unwrap() {
        let [least, mean, greatest] =
            ["least", "mean", "greatest"].map(|name| part[name].as_f64().unwrap());
        let is_of_a_row = |value: f64| (value - 1.0).abs() < 1e-5 || (value - 4.0).abs() < 1e-5;
        assert!(is_of_a_row(least) && is_of_a_row(greatest), "{part}");
        assert!(least <= mean && mean <= greatest, "{part}");
    }
    // Of nine draws of half of the rows, some have the longest row and some do not.
    let half = &batch["subsets"][3];
    assert_ne!(half["least"], half["greatest"], "{half}");
    let said = |words: &[&str]| {
        let output = flatmin(words).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let asked = ["--subsets", "2", "--population", "1000"];
    let text = said(&[&words[..], &asked].concat());
    assert!(text.contains("η* of parts of the samples, 2 random draws of each size"), "{text}");
    assert!(text.contains("holds 32 of 1000 samples") && text.contains("half of these"), "{text}");
    let text = said(&[&words[..], &asked[2..]].concat());
    assert!(text.contains("holds 32 of 1000 samples") && text.contains("--subsets 5"), "{text}");
    let text = said(&[&words[..], &["--population", "32"]].concat());
    assert!(!text.contains("of 32 samples, and parts"), "{text}");
    let output = flatmin(&[&words[..], &["--subsets", "2", "--sampling", "reshuffling"]].concat());
    let output = { output }.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn residuals_tell_how_far_the_point_is_from_stationary() {
    let folder = tempfile::tempdir().unwrap();
    let path = archive(&folder, 60, 3, 50);
    let words = [path.to_str().unwrap(), "--array", "jacobian", "--residuals", "residuals"];
    let exact = report(&words);
    let found = report(&[&words[..], &["--relative-width", "0.1"]].concat());
    for name in ["mean", "root_mean_square"] {
        let [found, exact] =
            [&found, &exact].map(|r| r["residual_gradients"][name].as_f64().unwrap());
        assert!((found / exact - 1.0).abs() < 1e-9, "{name}: {found} {exact}");
    }
}

#[test]
fn questions_without_a_bracket_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = archive(&folder, 10, 1, 4);
    let cases: [(&[&str], i32, &str); 5] = [
        (&["--gram"], 2, "cannot be used with"),
        (&["--sampling", "reshuffling"], 2, "independent batches"),
        (&["--weight-decay", "0.1"], 2, "no weight decay"),
        (&["--batch-size", "11"], 3, "cannot draw 11 of 10 samples"),
        (&["--relative-width", "0"], 2, "--relative-width"),
    ];
    for (words, status, message) in cases {
        let common = ["analyze", path.to_str().unwrap(), "--array", "jacobian"];
        let rank: &[&str] =
            if words.contains(&"--relative-width") { &[] } else { &["--relative-width", "0.1"] };
        let output = flatmin(&[&common, rank, words].concat()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{words:?}: {said}");
        assert!(said.contains(message) && output.stdout.is_empty(), "{words:?}: {said}");
    }
}

/// A budget that is too small for anything is answered with what can be said.
#[test]
fn any_budget_gives_an_interval() {
    let folder = tempfile::tempdir().unwrap();
    let path = archive(&folder, 120, 2, 90);
    let common = [path.to_str().unwrap(), "--array", "jacobian", "--batch-size", "1,120"];
    let exact = report(&common);
    for (words, status) in [
        (&["--rank", "1"][..], "rank_reached"),
        (&["--rank", "3"], "rank_reached"),
        (&["--rank", "1", "--relative-width", "0.9999", "--memory-limit", "1e-9"], ""),
    ] {
        let found = report(&[&common[..], words].concat());
        let batches = |report: &Value| report["batches"].as_array().unwrap().clone();
        for (found, exact) in batches(&found).iter().zip(&batches(&exact)) {
            let end = |batch: &Value, name: &str| batch["threshold"][name].as_f64().unwrap();
            assert!(end(found, "lower") <= end(exact, "upper"), "{words:?}: {found}");
            assert!(end(found, "upper") >= end(exact, "lower"), "{words:?}: {found}");
            assert!(status.is_empty() || found["status"] == status, "{words:?}: {found}");
            assert!(end(found, "lower") > 0.0, "{words:?}: {found}");
        }
    }
}

#[test]
fn a_number_that_is_not_finite_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.npz");
    let values = (0..40).map(|at| if at == 17 { f64::NAN } else { f64::from(at) }).collect();
    write_npz(&path, &[("jacobian", &(vec![10, 4], values))]);
    let output = flatmin(&["analyze", path.to_str().unwrap(), "--rank", "3"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3));
    assert!(said.contains("entry (4, 1) of the Jacobian is NaN"), "{said}");
}

/// A bracket that takes long, on its way: it has caught signals and read the file several times.
#[cfg(unix)]
struct Long {
    folder: tempfile::TempDir,
    path: PathBuf,
    child: Child,
    errors: BufReader<ChildStderr>,
}

#[cfg(unix)]
impl Long {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Nearly flat, so that no rank is enough.
        let (n, p) = (2000, 2400);
        let rows = (0..n).flat_map(|i| (0..p).map(move |j| number(i, j)));
        let path = folder.path().join("run.npz");
        write_npz(&path, &[("jacobian", &(vec![n, p], rows.collect()))]);
        let mut child = Command::new(env!("CARGO_BIN_EXE_flatmin"))
            .args([
                "analyze",
                path.to_str().unwrap(),
                "--relative-width",
                "1e-4",
                "--format",
                "json",
                "--checkpoint",
                folder.path().join("modes").to_str().unwrap(),
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        errors.read_line(&mut line).unwrap();
        assert!(line.contains("modes from"), "{line}");
        Self { folder, path, child, errors }
    }

    /// The status, what was printed, the rest of the messages, and the folder.
    fn finish(mut self) -> (bool, Vec<u8>, String, tempfile::TempDir) {
        let mut said = String::new();
        self.errors.read_to_string(&mut said).unwrap();
        let output = self.child.wait_with_output().unwrap();
        (output.status.success(), output.stdout, said, self.folder)
    }
}

#[cfg(unix)]
#[test]
fn an_interrupt_prints_the_bracket_reached() {
    let long = Long::start();
    let id = long.child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let (is_done, printed, said, folder) = long.finish();
    assert!(is_done && said.contains("stopping with the bracket reached"), "{said}");
    let found: Value = serde_json::from_slice(&printed).unwrap();
    let batch = &found["batches"][0];
    assert_eq!(batch["status"], "interrupted", "{batch}");
    let end = |name: &str| batch["threshold"][name].as_f64().unwrap();
    assert!(0.0 < end("lower") && end("lower") < end("upper"), "{batch}");
    // The modes are kept: the width that was reached takes checks and a certificate only.
    let (path, modes) = (folder.path().join("run.npz"), folder.path().join("modes"));
    let width = (1.2 * batch["relative_width"].as_f64().unwrap()).to_string();
    let words = ["--relative-width", &width, "--checkpoint", modes.to_str().unwrap()];
    let found = report(&[&[path.to_str().unwrap()], &words[..]].concat());
    let count = |bracket: &Value, name: &str| bracket["bracket"][name].as_u64().unwrap();
    let (kept, found) = (count(batch, "rank"), &found["batches"][0]);
    // Where the interrupt came after the first block of 16 modes, a second one is added first.
    let grown = kept.max(32);
    assert_eq!(count(found, "rank"), grown, "{found}");
    assert!(count(found, "products") <= 14 + 160 + 2 * (grown - kept), "{found}");
}

#[cfg(unix)]
#[test]
fn a_file_that_changes_is_noticed() {
    let changes: [fn(&Path, Vec<u8>); 3] = [
        |path, mut bytes| {
            bytes.push(0);
            fs::write(path, bytes).unwrap();
        },
        // The length stays.
        |path, mut bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).unwrap();
        },
        // Another file takes its place, and the one that was opened stays as it was.
        |path, bytes| {
            let other = path.with_extension("other");
            fs::write(&other, bytes).unwrap();
            fs::rename(other, path).unwrap();
        },
    ];
    for change in changes {
        let long = Long::start();
        change(&long.path, fs::read(&long.path).unwrap());
        let (is_done, printed, said, _folder) = long.finish();
        assert!(!is_done && printed.is_empty(), "{said}");
        assert!(said.contains("changed while it was read"), "{said}");
    }
}
