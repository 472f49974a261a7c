//! `cargo xtask bench` as a command. No test asserts a time.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use predicates::str::contains;
use serde_json::Value;

fn bench(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.arg("bench").args(arguments);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    command
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn record<'a>(file: &'a Value, name: &str) -> &'a Value {
    let benches = file["benches"].as_array().unwrap();
    benches.iter().find(|record| record["name"] == name).unwrap()
}

#[test]
fn an_unknown_name_is_wrong_usage_and_the_names_are_told() {
    for name in ["sgd_step", ""] {
        let assert = bench(&["--only", &format!("start_up,{name}")]).assert().code(2).stdout("");
        assert
            .stderr(contains("sgd_step_relu, sweep_of_weights_a_step"))
            .stderr(contains("start_up"));
    }
    bench(&["--quick", "--update-docs"]).assert().code(2).stdout("");
}

#[test]
fn what_is_measured_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("deep/bench.json");
    let assert =
        bench(&["--quick", "--format", "json", "--only", "start_up,sgd_step_diagonal,start_up"])
            .arg("--out")
            .arg(&out)
            .assert()
            .code(0);
    assert_eq!(assert.get_output().stdout, fs::read(&out).unwrap());
    let file = read(&out);
    assert_eq!(file["schema"], "flatmin.bench/1");
    assert!(file["quick"] == true && file["host"]["cores"].as_u64().unwrap() > 0);
    assert!(file["host"]["instruction_set"].is_string());
    let names: Vec<&Value> =
        file["benches"].as_array().unwrap().iter().map(|record| &record["name"]).collect();
    assert_eq!(names, ["sgd_step_diagonal", "start_up"]);
    for name in ["sgd_step_diagonal", "start_up"] {
        let record = record(&file, name);
        let number = |name: &str| record[name].as_f64().unwrap();
        assert!(0.0 < number("minimum") && number("minimum") <= number("seconds"), "{record}");
        assert!(record["size"].is_string() && record["peers"].as_object().unwrap().is_empty());
        assert!(record["memory_bytes"].is_null());
    }
    let step = record(&file, "sgd_step_diagonal");
    let limits = file["limits"].as_array().unwrap();
    let of = |name: &str| limits.iter().find(|limit| limit["name"] == name).unwrap();
    // The limit is the time of one step, and an epoch has 300 of them.
    assert_eq!(step["limit_seconds"], of("limit/diagonal_step")["seconds"]);
    assert!(of("limit/fma")["seconds"].as_f64().unwrap() < 1e-6);
    let start_up = record(&file, "start_up");
    assert!(start_up["limit_seconds"].is_null() && start_up["limit"].is_null());
}

#[test]
fn a_curve_has_its_points_and_its_laws() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("bench.json");
    let curves = "reproduce_cells,gd_step_relu_n";
    bench(&["--quick", "--curves", curves, "--out"]).arg(&out).assert().code(0);
    let file = read(&out);
    assert_eq!(file["benches"].as_array().unwrap().len(), 0);
    let curves = file["curves"].as_array().unwrap();
    let names: Vec<&Value> = curves.iter().map(|curve| &curve["name"]).collect();
    assert_eq!(names, ["gd_step_relu_n", "reproduce_cells"]);
    for curve in curves {
        let points = curve["points"].as_array().unwrap();
        let number = |point: &Value, name: &str| point[name].as_f64().unwrap();
        assert!(points.iter().all(|point| number(point, "minimum") > 0.0), "{curve}");
        assert!(points.iter().map(|point| number(point, "at")).is_sorted(), "{curve}");
        assert!(number(&curve["seconds_law"], "standard_error") >= 0.0);
    }
    let at: Vec<&Value> =
        curves[0]["points"].as_array().unwrap().iter().map(|p| &p["at"]).collect();
    assert_eq!(at, [75.0, 150.0, 300.0]);
    for arguments in [["--curves", "no"], ["--point", "gd_step_relu_n"]] {
        bench(&arguments).assert().code(2).stdout("");
    }
    bench(&["--point", "reproduce_cells", "1"]).assert().code(3).stdout("");
}

#[test]
fn a_python_that_is_missing_is_one_line() {
    let out = tempfile::tempdir().unwrap();
    let assert = bench(&["--only", "sgd_step_relu", "--peers", "no/such/python", "--out"])
        .arg(out.path().join("bench.json"))
        .assert()
        .code(3)
        .stdout("");
    let stderr = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert!(stderr.lines().count() == 1 && stderr.contains("no/such/python"), "{stderr}");
    assert!(!out.path().join("bench.json").exists());
}

/// A page without a place for the tables is refused before anything is measured.
#[test]
fn a_page_without_marks_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("docs")).unwrap();
    let page = folder.path().join("docs/performance.md");
    for text in [None, Some("<!-- bench: steps -->\n<!-- /bench -->\n")] {
        if let Some(text) = text {
            fs::write(&page, text).unwrap();
        }
        let assert = bench(&["--update-docs"]).current_dir(folder.path()).assert().code(3);
        let stderr = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
        assert!(stderr.lines().count() == 1 && stderr.contains("docs/performance.md"), "{stderr}");
    }
    assert!(!folder.path().join("target").exists());
}

#[cfg(unix)]
mod peers {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::{Path, PathBuf};
    use std::process::Command as Process;

    use assert_cmd::assert::Assert;
    use flatmin_arrays::{NamedArray, npz_bytes};
    use serde_json::Value;

    use super::{bench, read, record};

    /// An interpreter for which `numpy` decides what the script of numpy does. The other scripts
    /// fail, are missing, or (the last one) leave no result.
    fn interpreter(folder: &Path, numpy: &str) -> PathBuf {
        let python = folder.join("python");
        let script = format!(
            "#!/bin/sh\n\
             case \"$*\" in\n\
             --version) echo Python 3 ;;\n\
             *steps_numpy.py*) {numpy} ;;\n\
             *steps_jax.py*hand) {SAYS} ;;\n\
             *steps_torch.py*) echo Traceback >&2; echo 'ValueError: boom' >&2; exit 1 ;;\n\
             *) echo \"ModuleNotFoundError: No module named 'jax'\" >&2; exit 1 ;;\n\
             esac\n"
        );
        fs::write(&python, script).unwrap();
        fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
        python
    }

    fn run(folder: &Path, only: &str, numpy: &str) -> (Assert, Value) {
        let out = folder.join("bench.json");
        let mut command = bench(&["--quick", "--only", only, "--peers"]);
        command.arg(interpreter(folder, numpy)).arg("--out").arg(&out);
        (command.assert(), read(&out))
    }

    fn stderr(assert: &Assert) -> String {
        String::from_utf8(assert.get_output().stderr.clone()).unwrap()
    }

    const SAYS: &str = r#"echo chatter; echo '{"seconds": 3, "minimum": 2, "version": "fake 1"}'"#;

    #[test]
    fn one_with_another_result_fails_and_the_others_are_left_out_with_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let values = vec![0.0; 100 * 101];
        let zeros = NamedArray { name: "result", shape: vec![values.len()], values: &values };
        let few = NamedArray { name: "result", shape: vec![3], values: &values[..3] };
        for (array, agrees) in [(zeros, true), (few, false)] {
            fs::write(folder.path().join("zeros.npz"), npz_bytes(&[array]).unwrap()).unwrap();
            let numpy = format!(
                "cp \"{}\" \"$3/result.npz\"; {SAYS}",
                folder.path().join("zeros.npz").display()
            );
            let (assert, file) = run(folder.path(), "sgd_step_relu", &numpy);
            let assert = assert.code(1);
            let said = stderr(&assert);
            let line = "xtask: sgd_step_relu: the result of numpy_hand differs by ";
            assert_eq!(said.matches(line).count(), 1, "{said}");
            let peers = record(&file, "sgd_step_relu")["peers"].as_object().unwrap();
            assert_eq!(peers.keys().collect::<Vec<_>>(), ["numpy_hand"]);
            let peer = &peers["numpy_hand"];
            assert!(
                peer["seconds"] == 3.0 && peer["minimum"] == 2.0 && peer["version"] == "fake 1"
            );
            assert_eq!(
                peer["agrees"].as_f64().is_some_and(|agrees| agrees > 1.0),
                agrees,
                "{peer}"
            );
            // The result of one peer is not taken for that of the next.
            let line = "xtask: sgd_step_relu: jax_hand is left out: ";
            assert!(
                said.lines().any(|l| l.starts_with(line) && l.contains("result.npz")),
                "{said}"
            );
            for (name, why) in [
                ("torch_eager", "ValueError: boom"),
                ("torch_compile", "ValueError: boom"),
                ("jax_grad", "ModuleNotFoundError: No module named 'jax'"),
            ] {
                let line = format!("xtask: sgd_step_relu: {name} is left out: {why}\n");
                assert_eq!(said.matches(&line).count(), 1, "{said}");
            }
        }
    }

    #[test]
    fn one_without_a_result_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        for (numpy, why) in [(SAYS, "result.npz"), ("true", "it did not say how long it took")] {
            let (assert, file) = run(folder.path(), "sgd_step_diagonal", numpy);
            let assert = assert.code(0);
            let said = stderr(&assert);
            let line = said.lines().find(|line| line.contains("numpy_hand is left out"));
            assert!(line.is_some_and(|line| line.contains(why)), "{said}");
            assert!(record(&file, "sgd_step_diagonal")["peers"].as_object().unwrap().is_empty());
        }
    }

    #[test]
    fn numpy_comes_to_the_same_result() {
        let has_numpy = Process::new("python3").args(["-c", "import numpy"]).output();
        if !has_numpy.is_ok_and(|output| output.status.success()) {
            assert!(std::env::var_os("CI").is_none(), "the checks install numpy");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let steps = ["sgd_step_relu", "gd_step_relu", "sgd_step_diagonal", "gd_step_diagonal"];
        let (assert, file) = run(folder.path(), &steps.join(","), "exec python3 \"$@\"");
        let assert = assert.code(0);
        for step in steps {
            let peer = &record(&file, step)["peers"]["numpy_hand"];
            let number = |name: &str| peer[name].as_f64().unwrap();
            assert!(number("agrees") < 1e-12, "{step}: {peer}\n{}", stderr(&assert));
            assert!(0.0 < number("minimum") && number("minimum") <= number("seconds"));
            let ratio = number("seconds") / record(&file, step)["seconds"].as_f64().unwrap();
            assert!((number("ratio") / ratio - 1.0).abs() < 1e-12);
        }
    }
}
