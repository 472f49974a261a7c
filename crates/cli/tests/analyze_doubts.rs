//! No silent wrong answer: inputs that are wrong in some way are doubted or refused, and right ones
//! are neither.
//!
//! `data/doubts/generate.py` makes the inputs and their thresholds, with numpy alone.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use flatmin_arrays::{ArrayFile, NamedArray, npz_bytes};
use serde_json::Value;
use support::flatmin;
use tempfile::TempDir;
use zip::write::SimpleFileOptions;

/// The inputs, as files in a folder, and the table of cases.
struct Cases {
    folder: TempDir,
    arrays: BTreeMap<String, Vec<u8>>,
    table: Vec<Value>,
}

/// What the command said.
struct Answer {
    code: i32,
    error: String,
    doubts: Vec<(String, String)>,
    report: Value,
}

impl Cases {
    fn read() -> Self {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/doubts");
        let bytes = fs::read(data.join("inputs.npz")).unwrap();
        let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        let mut arrays = BTreeMap::new();
        for index in 0..archive.len() {
            let mut entry = archive.by_index(index).unwrap();
            let name = entry.name().trim_end_matches(".npy").to_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            arrays.insert(name, bytes);
        }
        let table = serde_json::from_slice(&fs::read(data.join("cases.json")).unwrap()).unwrap();
        Self { folder: tempfile::tempdir().unwrap(), arrays, table }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes an array under another name.
    fn write(&self, place: &Value, name: &str) -> String {
        let path = self.path(name);
        fs::write(&path, &self.arrays[place.as_str().unwrap()]).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The arguments of a case, whose files are written.
    fn arguments(&self, case: &Value) -> Vec<String> {
        let file = match case.get("layers") {
            None => self.write(&case["array"], "input.npy"),
            Some(layers) => {
                let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
                for (name, place) in layers.as_object().unwrap() {
                    let options = SimpleFileOptions::default();
                    writer.start_file(format!("{name}.npy"), options).unwrap();
                    writer.write_all(&self.arrays[place.as_str().unwrap()]).unwrap();
                }
                let path = self.path("input.npz");
                fs::write(&path, writer.finish().unwrap().into_inner()).unwrap();
                path.to_str().unwrap().to_owned()
            }
        };
        let mut arguments = vec!["analyze".to_owned(), file];
        let given = case["arguments"].as_array().unwrap();
        arguments.extend(given.iter().map(|argument| argument.as_str().unwrap().to_owned()));
        for (option, place) in case.get("beside").and_then(Value::as_object).into_iter().flatten() {
            arguments.push(format!("--{option}"));
            arguments.push(self.write(place, &format!("{option}.npy")));
        }
        if let Some(blocks) = case.get("blocks") {
            fs::write(self.path("blocks.json"), blocks.to_string()).unwrap();
            arguments.push("--blocks".to_owned());
            arguments.push(self.path("blocks.json").to_str().unwrap().to_owned());
        }
        arguments
    }
}

fn run(arguments: &[String], more: &[&str]) -> Answer {
    let mut all: Vec<&str> = arguments.iter().map(String::as_str).collect();
    all.extend(more);
    let output = flatmin(&all).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let text = |doubt: &Value, field: &str| doubt[field].as_str().unwrap().to_owned();
    let doubts = report["doubts"].as_array().into_iter().flatten();
    Answer {
        code: output.status.code().unwrap(),
        error: String::from_utf8(output.stderr).unwrap(),
        doubts: doubts.map(|doubt| (text(doubt, "kind"), text(doubt, "text"))).collect(),
        report,
    }
}

const JSON: [&str; 2] = ["--format", "json"];

#[test]
fn no_wrong_input_is_answered_without_a_word() {
    let cases = Cases::read();
    let wrong = cases.table.iter().filter(|case| case.get("expect").is_some());
    let mut count = 0;
    for case in wrong {
        let (name, expected) = (&case["name"], case["expect"].as_str().unwrap());
        let answer = run(&cases.arguments(case), &JSON);
        if let Some(words) = expected.strip_prefix("refused: ") {
            assert_eq!(answer.code, 3, "{name}: {:?}", answer.doubts);
            assert!(answer.error.contains(words), "{name}: {}", answer.error);
            assert_eq!(answer.error.lines().count(), 1, "{name}: {}", answer.error);
        } else {
            assert_eq!(answer.code, 0, "{name}: {}", answer.error);
            let kinds: Vec<&str> = answer.doubts.iter().map(|(kind, _)| kind.as_str()).collect();
            assert!(kinds.contains(&expected), "{name}: {kinds:?}, expected {expected}");
            assert!(answer.doubts.iter().all(|(_, text)| !text.contains('\n')), "{name}");
        }
        count += 1;
    }
    assert!(count >= 100, "{count} wrong inputs");
}

#[test]
fn no_right_input_is_doubted_or_refused_and_each_has_its_threshold() {
    let cases = Cases::read();
    let right = cases.table.iter().filter(|case| case.get("expect").is_none());
    let mut count = 0;
    for case in right {
        let name = &case["name"];
        let answer = run(&cases.arguments(case), &JSON);
        assert_eq!(answer.code, 0, "{name}: {}", answer.error);
        assert!(answer.doubts.is_empty(), "{name}: {:?}", answer.doubts);
        if let Some(expected) = case.get("threshold").and_then(Value::as_f64) {
            let threshold = &answer.report["batches"][0]["threshold"];
            let found = threshold["estimate"].as_f64().unwrap();
            let tolerance = case["tolerance"].as_f64().unwrap();
            assert!(
                (found / expected - 1.0).abs() <= tolerance,
                "{name}: {found}, expected {expected}"
            );
        }
        count += 1;
    }
    assert!(count >= 110, "{count} right inputs");
}

#[test]
fn a_doubt_is_said_before_the_answer_and_fails_a_check() {
    let cases = Cases::read();
    let case = cases.table.iter().find(|case| case["name"] == "rows_by_sample").unwrap();
    let arguments = cases.arguments(case);
    let asked = ["--learning-rate", "1e-3"];
    let text = |more: &[&str]| {
        let mut all: Vec<&str> = arguments.iter().map(String::as_str).collect();
        all.extend(asked);
        all.extend(more);
        let output = flatmin(&all).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, doubtful) = text(&[]);
    assert_eq!(code, 0);
    let doubt = doubtful.find("Doubt: 18 rows look like 3 outputs of 6 samples").unwrap();
    assert!(doubt < doubtful.find("Largest stable learning rate").unwrap());
    assert!(doubtful.contains("stable (doubtful)"));
    let reserve =
        "\nIf the array is what it was read as (see the doubts above), SGD with learning rate";
    assert!(doubtful.contains(reserve) && !doubtful.contains("\nSGD"), "{doubtful}");
    assert_eq!(text(&["--check"]).0, 1);
    let (code, trusted) = text(&["--check", "--trust-input"]);
    assert_eq!(code, 0);
    assert!(trusted.contains("Doubt: 18 rows") && !trusted.contains("(doubtful)"));
    assert!(trusted.contains("taken for what it seems (--trust-input)"));
    assert!(trusted.contains("\nSGD with learning rate"));
}

#[test]
fn doubts_name_the_way_out() {
    let cases = Cases::read();
    let check = |name: &str, words: &[&str]| {
        let case = cases.table.iter().find(|case| case["name"] == name).unwrap();
        let doubts = run(&cases.arguments(case), &JSON).doubts;
        for words in words {
            assert!(doubts.iter().any(|(_, text)| text.contains(words)), "{name}: {doubts:?}");
        }
    };
    check("kernel_without_gram", &["give --gram (and --outputs k", "--trust-input"]);
    check("kernel_without_gram_of_three_outputs", &["give --gram --outputs 3;"]);
    check("sum_of_outputs_3", &["n × k × p with k = 3", "analyze.md#several-outputs"]);
    check("sum_of_outputs_without_bias_3", &["without biases", "n × k × p with k = 3"]);
    check("kernel_of_two_by_output", &["give --axes kn --outputs 2"]);
    check("kernel_kknn", &["looks as much like", "such as --axes kknn"]);
    check("loss_zero", &["every entry is zero"]);
    check("loss_below_underflow", &["entries are so small that the trace"]);
}

/// Nothing in the numbers tells gradients of the loss at large residuals from those of an output
/// without biases. Every answer says what the array was read as, in words and in JSON.
#[test]
fn every_answer_says_what_the_array_was_read_as() {
    let cases = Cases::read();
    let check = |name: &str, words: &str| {
        let case = cases.table.iter().find(|case| case["name"] == name).unwrap();
        let arguments = cases.arguments(case);
        let all: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let text = String::from_utf8(flatmin(&all).output().unwrap().stdout).unwrap();
        assert!(text.contains(&format!("\n{words}.\n")), "{name}: {text}");
        assert_eq!(run(&arguments, &JSON).report["reading"], words, "{name}");
    };
    let jacobian = "Read as the Jacobian of the outputs, not of the loss";
    let products = "Read as exact products of gradients of the outputs, not of the loss, and not as a mean \
                    over outputs";
    for name in ["network_tanh_without_bias", "network_tanh"] {
        check(name, &format!("{jacobian}: 9 samples, 1 output each; --residuals checks it"));
    }
    check("outputs_3", &format!("{jacobian}: 6 samples, 3 outputs each; --residuals checks it"));
    check("loss_with_residuals", &format!("{jacobian}: 12 samples, 1 output each"));
    let kernel = format!("{products}: 12 samples, 1 output each; --residuals checks it");
    check("kernel_of_one_output", &kernel);
}

/// The entries of a Gram matrix in single precision are off by more than the width of the interval
/// of that very matrix.
#[test]
fn the_interval_of_a_gram_matrix_in_single_precision_holds_the_threshold() {
    let cases = Cases::read();
    for name in ["single_gram", "single_gram_widened", "brain_gram_widened", "half_gram"] {
        let case = cases.table.iter().find(|case| case["name"] == name).unwrap();
        let threshold = &run(&cases.arguments(case), &JSON).report["batches"][0]["threshold"];
        let [lower, upper] = ["lower", "upper"].map(|end| threshold[end].as_f64().unwrap());
        let exact = case["exact"].as_f64().unwrap();
        assert!(lower <= exact && exact <= upper, "{name}: [{lower}, {upper}], exactly {exact}");
        assert_eq!(threshold["kind"], "estimate", "{name}");
    }
}

#[test]
fn layers_of_an_archive_become_blocks() {
    let cases = Cases::read();
    let case = cases.table.iter().find(|case| case["name"] == "layers_of_three_outputs").unwrap();
    let report = run(&cases.arguments(case), &JSON).report;
    let blocks = report["blocks"].as_array().unwrap();
    let names: Vec<&str> = blocks.iter().map(|block| block["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["0.bias", "0.weight", "1.bias", "1.weight"]);
    let trace = |value: &Value| value["trace"].as_f64().unwrap();
    let sum: f64 = blocks.iter().map(trace).sum();
    assert!((sum / trace(&report) - 1.0).abs() < 1e-14);
    // The bias of the last layer acts on one output each.
    assert!((trace(&blocks[2]) - 3.0).abs() < 1e-14);
}

/// Writes an archive of arrays of ones with three rows.
fn archive_of_ones(cases: &Cases, arrays: &[(&str, &str, usize)]) -> String {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, element, columns) in arrays {
        let shape =
            format!("{{'descr': '{element}', 'fortran_order': False, 'shape': (3, {columns}), }}");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend(118_u16.to_le_bytes());
        bytes.extend(format!("{shape:117}\n").into_bytes());
        for _ in 0..3 * columns {
            match *element {
                "<f4" => bytes.extend(1_f32.to_le_bytes()),
                _ => bytes.extend(1_f64.to_le_bytes()),
            }
        }
        writer.start_file(format!("{name}.npy"), SimpleFileOptions::default()).unwrap();
        writer.write_all(&bytes).unwrap();
    }
    let path = cases.path("ones.npz");
    fs::write(&path, writer.finish().unwrap().into_inner()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_types_of_all_arrays_of_a_sum_are_named() {
    let cases = Cases::read();
    let path = archive_of_ones(&cases, &[("a", "<f8", 2), ("b", "<f4", 3), ("c", "<f8", 1)]);
    let output = flatmin(&["analyze", &path, "--sum-arrays"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().next().unwrap().ends_with(", float64 and float32"), "{text}");
}

#[test]
fn the_whole_jacobian_beside_its_layers_is_not_counted_twice() {
    let cases = Cases::read();
    let path = archive_of_ones(&cases, &[("a", "<f8", 2), ("b", "<f8", 3), ("jacobian", "<f8", 5)]);
    let answer = run(&["analyze".to_owned(), path, "--sum-arrays".to_owned()], &[]);
    assert_eq!(answer.code, 3);
    assert!(answer.error.contains("would count each parameter twice"), "{}", answer.error);
    // A layer of that name with another size is a layer.
    let path = archive_of_ones(&cases, &[("a", "<f8", 2), ("b", "<f8", 3), ("jacobian", "<f8", 4)]);
    assert_eq!(run(&["analyze".to_owned(), path, "--sum-arrays".to_owned()], &JSON).code, 0);
}

#[test]
fn the_rest_of_the_columns_is_a_block() {
    let cases = Cases::read();
    let case = cases.table.iter().find(|case| case["name"] == "blocks_with_rest").unwrap();
    let mut case = case.clone();
    case["blocks"] = serde_json::json!({"a": [3, 5], "b": [8, 10], "rest": true});
    let report = run(&cases.arguments(&case), &JSON).report;
    let rest = &report["blocks"][2];
    assert_eq!((&rest["name"], &rest["first"]), (&"rest".into(), &0.into()));
    let columns = report["parameters"].as_u64().unwrap();
    assert_eq!(rest["columns"].as_u64().unwrap(), columns - 4);
    let trace = |value: &Value| value["trace"].as_f64().unwrap();
    let sum: f64 = report["blocks"].as_array().unwrap().iter().map(trace).sum();
    assert!((sum / trace(&report) - 1.0).abs() < 1e-14);
}

#[test]
fn the_cases_can_be_made_again() {
    let mut numpy = Command::new("python3");
    let has_numpy = numpy.args(["-c", "import numpy"]).output().is_ok_and(|o| o.status.success());
    if !has_numpy {
        assert!(std::env::var_os("CI").is_none(), "the cases need python3 with numpy");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/doubts/generate.py");
    let mut command = Command::new("python3");
    command.env("PYTHONDONTWRITEBYTECODE", "1").arg(script).arg(folder.path());
    assert!(command.output().unwrap().status.success());
    let made: Vec<Value> =
        serde_json::from_slice(&fs::read(folder.path().join("cases.json")).unwrap()).unwrap();
    let table = Cases::read().table;
    assert_eq!(made.len(), table.len());
    for (made, stored) in made.iter().zip(&table) {
        assert_eq!((&made["name"], made.get("expect")), (&stored["name"], stored.get("expect")));
        let threshold = |case: &Value| case.get("threshold").and_then(Value::as_f64);
        let pair = threshold(made).zip(threshold(stored));
        assert!(pair.is_none_or(|(a, b)| (a / b - 1.0).abs() < 1e-9), "{}", stored["name"]);
    }
}

/// Larger arrays of situations that people met. Thresholds are those of `networks.threshold`; for
/// the kernel, whose dense operator is too large, three digits from elsewhere.
struct Situations(Cases);

impl Situations {
    fn read() -> Self {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/doubts/situations.npz");
        let bytes = fs::read(data).unwrap();
        let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        let cases = Cases::read();
        for index in 0..archive.len() {
            let mut entry = archive.by_index(index).unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            fs::write(cases.path(entry.name()), bytes).unwrap();
        }
        Self(cases)
    }

    fn run(&self, name: &str, arguments: &[&str]) -> Answer {
        let path = self.0.path(&format!("{name}.npy")).to_str().unwrap().to_owned();
        run(&["analyze".to_owned(), path], &[arguments, &JSON].concat())
    }

    fn text(&self, name: &str, arguments: &[&str]) -> String {
        let path = self.0.path(&format!("{name}.npy"));
        let all = [&["analyze", path.to_str().unwrap()], arguments].concat();
        String::from_utf8(flatmin(&all).output().unwrap().stdout).unwrap()
    }
}

impl Answer {
    fn thresholds(&self) -> Vec<f64> {
        let batches = self.report["batches"].as_array().unwrap();
        batches.iter().map(|batch| batch["threshold"]["estimate"].as_f64().unwrap()).collect()
    }

    #[track_caller]
    fn is_right(&self, expected: &[f64], tolerance: f64) {
        let found = self.thresholds();
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found / expected - 1.0).abs() < tolerance, "{found}, expected {expected}");
        }
    }

    fn kinds(&self) -> Vec<&str> {
        self.doubts.iter().map(|(kind, _)| kind.as_str()).collect()
    }
}

#[test]
fn outputs_flattened_into_columns_are_read_with_their_axes() {
    let situations = Situations::read();
    let batch = ["--batch-size", "2"];
    let right = situations.run("outputs", &batch);
    right.is_right(&[0.022_159_998_363_410_146], 1e-9);
    let axes = ["--axes", "n,kp", "--outputs", "3"];
    situations.run("flattened", &[&batch[..], &axes].concat()).is_right(&right.thresholds(), 1e-12);
    let error = situations.run("flattened", &["--outputs", "3"]).error;
    assert!(error.contains("give --axes n,kp"), "{error}");
    // Random numbers show nothing of that by themselves: the reading is said.
    let text = situations.text("flattened", &batch);
    assert!(text.contains("Read as the Jacobian of the outputs, not of the loss: "), "{text}");
    assert!(text.contains("1 output each; --residuals checks it.\nFor several outputs give n × k"));
}

#[test]
fn kernels_of_neural_tangents_are_read_as_they_come() {
    let situations = Situations::read();
    let arguments = ["--gram", "--batch-size", "4"];
    let with_outputs = [&arguments[..], &["--outputs", "10"]].concat();
    let right = situations.run("kernel", &with_outputs);
    right.is_right(&[3.74], 2e-3);
    assert_eq!(right.kinds(), ["single_precision_gram"]);
    // The same as 20 × 20 × 10 × 10.
    let mut array =
        ArrayFile::open(&situations.0.path("kernel.npy")).unwrap().array(None, &[]).unwrap();
    let values = array.values().unwrap();
    let entry = |at: usize| {
        let (i, j, a, b) = (at / 2000, at / 100 % 20, at / 10 % 10, at % 10);
        values[(i * 10 + a) * 200 + j * 10 + b]
    };
    let values: Vec<f64> = (0..values.len()).map(entry).collect();
    let shape = vec![20, 20, 10, 10];
    let bytes = npz_bytes(&[NamedArray { name: "gram", shape, values: &values }]).unwrap();
    fs::write(situations.0.path("four.npz"), bytes).unwrap();
    let four = situations.0.path("four.npz").to_str().unwrap().to_owned();
    let four = run(&["analyze".to_owned(), four], &[&arguments[..], &JSON].concat());
    four.is_right(&right.thresholds(), 1e-12);
    // Without the number of outputs, the matrix shows it.
    let kinds = situations.run("kernel", &arguments);
    assert_eq!(kinds.kinds(), ["outputs_as_samples", "single_precision_gram"]);
    assert!(kinds.doubts[0].1.contains("give --outputs 10"), "{:?}", kinds.doubts);
    // The mean over outputs.
    let mean = situations.run("kernel_mean", &["--gram", "--outputs", "10"]);
    assert!(mean.kinds().contains(&"mean_over_outputs"), "{:?}", mean.doubts);
    let mean = situations.run("kernel_mean", &["--gram", "--outputs", "10", "--samples", "20"]);
    assert_eq!(mean.code, 3);
    assert!(mean.error.contains("the default trace_axes=(-1,)"), "{}", mean.error);
    let text = situations.text("kernel_mean", &arguments);
    assert!(text.contains("not as a mean over outputs"), "{text}");
}

#[test]
fn a_jacobian_of_the_loss_is_not_stable_for_certain() {
    let situations = Situations::read();
    let asked = ["--learning-rate", "0.1", "--check"];
    let loss = situations.run("loss", &asked);
    assert_eq!((loss.code, loss.kinds()), (1, vec!["vanishing_jacobian"]));
    let right = situations.run("right", &asked[..2]);
    right.is_right(&[0.029_355_259_492_362_45], 1e-9);
    assert!(right.doubts.is_empty());
}

#[test]
fn the_loss_that_is_assumed_is_said_beside_logits() {
    let situations = Situations::read();
    let batches = ["--batch-size", "1,4"];
    let weighted = situations.run("weighted", &batches);
    weighted.is_right(&[0.047_343_095_514_528_866, 0.154_887_969_776_204], 1e-8);
    assert!(weighted.doubts.is_empty(), "{:?}", weighted.doubts);
    let text = situations.text("logits", &batches);
    assert!(text.contains("For cross-entropy give --loss cross-entropy and --logits"), "{text}");
}

#[test]
fn an_eigenvalue_is_that_of_the_matrix_that_was_given() {
    let error = Situations::read().run("indefinite", &["--gram"]).error;
    assert!(error.contains("eigenvalue -0.239") && error.contains("float64"), "{error}");
    assert!(error.contains("largest is 60") || error.contains("largest is 59.99"), "{error}");
}
