//! Runs of another program, replayed step for step, and measured.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod support;

use std::fs;
use std::path::Path;

use flatmin_experiments::cell::{
    CellResult, CellSpec, DiagonalInitial, DiagonalProblem, Problem, ReluProblem, StabilityStudy,
    TrainSpec,
};
use flatmin_optim::{Method, Sampling, Schedule};
use serde_json::Value;
use support::{
    DIAGONAL, MLP, Numbers, RELU, Runs, array, assert_close, flatmin, table, trajectory, write_npz,
};

const MLP_NAMES: &[&str] = &["w1", "b1", "w2", "b2", "w3", "b3"];
const MLP_MODEL: &str = "kind = 'perceptron'\nwidths = [8, 8]\nactivation = 'tanh'";

/// Writes arrays of another file under new names.
fn copy(path: &Path, source: &Path, names: &[&str], old: impl Fn(&str) -> String) {
    let arrays: Vec<Numbers> = names.iter().map(|name| array(source, &old(name))).collect();
    let named: Vec<(&str, &Numbers)> = names.iter().copied().zip(&arrays).collect();
    write_npz(path, &named);
}

/// A TOML path in literal quotes.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display())
}

/// Initial parameters, the first steps of the order, and a configuration that replays them.
fn replay(runs: &Runs, file: &str, names: &[&str], model: &str, steps: usize) -> String {
    let source = trajectory(file);
    copy(&runs.path("initial.npz"), &source, names, |name| format!("initial_{name}"));
    let (shape, mut order) = array(&source, "order");
    order.truncate(steps * shape[1]);
    // Rows of one sample may be a plain list.
    let shape = if shape[1] == 1 { vec![steps] } else { vec![steps, shape[1]] };
    write_npz(&runs.path("order.npz"), &[("order", &(shape, order))]);
    let number = |name: &str| array(&source, name).1[0];
    format!(
        "data = {}\ninitial = 'initial.npz'\norder = 'order.npz'\n[model]\n{model}\n[optimizer]\n\
         learning_rate = {:?}\nclip_norm = {:?}\n[metrics]\nevery = 1\n",
        quoted(&source),
        number("learning_rate"),
        number("clip_norm")
    )
}

fn check(file: &str, names: &[&str], model: &str) {
    let source = trajectory(file);
    for steps in [10, 100, 1000] {
        let runs = Runs::new();
        let text = replay(&runs, file, names, model, steps);
        runs.config("run.toml", &text);
        runs.train(&["run.toml"]).assert().success().stderr("");
        for name in names {
            let (shape, values) = array(&runs.path("run/parameters.npz"), name);
            let (expected_shape, expected) = array(&source, &format!("{name}_{steps}"));
            // A single output may be without an axis of its own.
            if expected_shape.len() == shape.len() || !MLP.contains(&file) {
                assert_eq!(shape, expected_shape, "{file} {name}");
            }
            assert_close(&values, &expected, 1e-10, &format!("{file}: {name} after {steps}"));
        }
        let table = table(&runs.path("run"));
        let norms = array(&source, "gradient_norms").1;
        let what = format!("{file}: gradient norms of {steps} steps");
        assert_close(&table["max_gradient_norm"][1..], &norms[..steps], 1e-10, &what);
        let clip_norm = array(&source, "clip_norm").1[0];
        let clipped: Vec<f64> =
            norms[..steps].iter().map(|norm| f64::from(u8::from(*norm > clip_norm))).collect();
        assert_eq!(table["clipped_steps"][1..], clipped, "{file}");
        let losses = array(&source, "loss").1;
        for (at, expected) in [0, 10, 100, 1000].into_iter().zip(losses) {
            if at <= steps {
                assert_close(&[table["train_loss"][at]], &[expected], 1e-10, "loss");
            }
        }
    }
}

#[test]
fn relu_runs_of_another_program_are_replayed() {
    for file in RELU {
        check(file, &["w", "a"], "kind = 'two-layer-relu'\nwidth = 16");
    }
}

#[test]
fn diagonal_runs_of_another_program_are_replayed() {
    for file in DIAGONAL {
        check(file, &["a", "b"], "kind = 'diagonal-linear'");
    }
}

#[test]
fn perceptron_runs_of_another_program_are_replayed() {
    for file in MLP {
        check(file, MLP_NAMES, MLP_MODEL);
    }
}

#[test]
fn metrics_of_another_program_are_the_same() {
    let relu = ("kind = 'two-layer-relu'\nwidth = 16", &["w", "a"][..], Some("path_norm"));
    let diagonal = ("kind = 'diagonal-linear'", &["a", "b"][..], Some("balance_ratio"));
    let mlp = (MLP_MODEL, MLP_NAMES, None);
    let files = RELU.map(|file| (file, relu)).into_iter().chain(DIAGONAL.map(|f| (f, diagonal)));
    let files = files.chain(MLP.map(|file| (file, mlp)));
    for (file, (model, names, norm)) in files {
        let (runs, source) = (Runs::new(), trajectory(file));
        let model = runs.config("model.toml", &format!("[model]\n{model}\n"));
        let parameters = runs.path("parameters.npz");
        copy(&parameters, &source, names, |name| format!("{name}_1000"));
        let output = flatmin(&["metrics"])
            .arg(model)
            .arg("--parameters")
            .arg(parameters)
            .arg("--data")
            .arg(&source)
            .args(["--batch-size", "1,2", "--format", "json"])
            .assert()
            .success()
            .stderr("")
            .get_output()
            .stdout
            .clone();
        let report: Value = serde_json::from_slice(&output).unwrap();
        assert_eq!(report["schema"], "flatmin.metrics/1");
        let loss = array(&source, "loss").1[3];
        let expected = |name: &str| array(&source, name).1[0];
        let norm = norm.map(|norm| (norm, expected(norm)));
        let measured = [
            ("loss", loss),
            ("trace", expected("gauss_newton_trace")),
            ("frobenius_norm", expected("gauss_newton_frobenius_norm")),
            ("lambda_max", expected("gauss_newton_lambda_max")),
        ];
        for (name, expected) in measured.into_iter().chain(norm) {
            let measured = report[name].as_f64().unwrap();
            let error = measured / expected - 1.0;
            assert!(error.abs() <= 1e-9, "{file} {name}: {measured} against {expected}");
        }
        let threshold = expected("threshold_batch_1");
        let end = |end: &str| report["batches"][0]["threshold"][end].as_f64().unwrap() / threshold;
        assert!(end("lower") <= 1.0 + 1e-9 && end("upper") >= 1.0 - 1e-9, "{file}");
        assert!(end("upper") - end("lower") < 1e-8, "{file}");
        assert_eq!(report["batches"][1]["batch_size"], 2);
        let of_kind = match norm {
            Some(("path_norm", _)) => &["path_norm"][..],
            Some(_) => &["l1_norm", "balance_ratio"],
            None => &["l2_norm"],
        };
        for name in ["path_norm", "l1_norm", "l2_norm", "balance_ratio"] {
            assert_eq!(report[name].is_null(), !of_kind.contains(&name), "{file} {name}");
        }
        assert_eq!(report["population"].is_null(), norm.is_none(), "{file}");
    }
}

/// Trains with the settings of a cell, from the command line and in the experiments.
fn check_cell(spec: &TrainSpec, config: &str) {
    let runs = Runs::new();
    runs.config("run.toml", config);
    runs.train(&["run.toml"]).assert().success();
    let CellResult::Train(expected) = CellSpec::Train(*spec).run().unwrap() else {
        panic!("a training cell")
    };
    let (run, table) = (fs::read(runs.path("run/run.json")).unwrap(), table(&runs.path("run")));
    let run: Value = serde_json::from_slice(&run).unwrap();
    assert_eq!(run["steps"], expected.steps);
    assert_eq!(run["clipped_steps"], expected.clipped_steps);
    let expected: Vec<_> = expected.path.iter().chain(&expected.last).collect();
    let bits = |values: Vec<f64>| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let same = |name: &str, values: Vec<f64>| {
        assert_eq!(bits(table[name].clone()), bits(values), "{name}");
    };
    same("step", expected.iter().map(|row| row.step as f64).collect());
    same("train_loss", expected.iter().map(|row| row.train_loss).collect());
    same("test_loss", expected.iter().map(|row| row.test_loss).collect());
    same("trace", expected.iter().map(|row| row.empirical.trace).collect());
    same("lambda_max", expected.iter().map(|row| row.empirical.lambda_max).collect());
}

#[test]
fn a_run_of_the_experiments_is_the_same_to_the_bit() {
    let spec = TrainSpec {
        problem: Problem::Relu(ReluProblem {
            teacher_width: 3,
            width: 12,
            input_dim: 9,
            sample_count: 24,
            test_count: 100,
        }),
        method: Method::Sgd { batch_size: 1, sampling: Sampling::WithReplacement },
        learning_rate: 0.02,
        schedule: Schedule::Constant,
        clip_norm: 1.0,
        max_steps: 5000,
        checkpoints_per_decade: 4,
        study: StabilityStudy::None,
        seed: 3,
    };
    check_cell(
        &spec,
        "seed = 3
         [model]
         kind = 'two-layer-relu'
         width = 12
         input_dim = 9
         [data]
         teacher = 'two-layer-relu'
         teacher_width = 3
         sample_count = 24
         test_count = 100
         [optimizer]
         learning_rate = 0.02
         batch_size = 1
         sampling = 'with-replacement'
         clip_norm = 1.0
         max_steps = 5000
         [metrics]
         per_decade = 4",
    );
    let diagonal = TrainSpec {
        problem: Problem::Diagonal(DiagonalProblem {
            input_dim: 40,
            nonzero: 3,
            sample_count: 16,
            test_count: 100,
            initial: DiagonalInitial::Unbalanced { ratio: 2.0 },
        }),
        method: Method::GradientDescent,
        learning_rate: 0.05,
        schedule: Schedule::Cosine,
        clip_norm: 10.0,
        max_steps: 2000,
        ..spec
    };
    check_cell(
        &diagonal,
        "seed = 3
         [model]
         kind = 'diagonal-linear'
         input_dim = 40
         [data]
         teacher = 'sparse-linear'
         nonzero = 3
         sample_count = 16
         test_count = 100
         [initial]
         kind = 'unbalanced'
         balance_ratio = 2
         [optimizer]
         method = 'gradient-descent'
         learning_rate = 0.05
         schedule = 'cosine'
         clip_norm = 10
         max_steps = 2000
         [metrics]
         per_decade = 4",
    );
}
