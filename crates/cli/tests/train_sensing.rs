//! `flatmin train` and `flatmin metrics` on matrix sensing, against steps written out here.

mod support;

use serde_json::Value;
use support::{Numbers, Runs, array, assert_close, flatmin, table, write_npz};

const CONFIG: &str = "\
seed = 0
data = 'data.npz'
initial = 'initial.npz'
[model]
kind = 'matrix-sensing'
rows = 2
columns = 3
factor_count = 2
[optimizer]
learning_rate = 0.2
method = 'gradient-descent'
max_steps = 10
[metrics]
every = 1
columns = ['train_loss', 'trace']
";

const SAMPLES: usize = 5;

fn numbers(shape: &[usize], scale: f64) -> Numbers {
    let count = shape.iter().product::<usize>();
    (shape.to_vec(), (0..count).map(|i| scale * (((i * 7 + 3) % 11) as f64 - 5.0)).collect())
}

/// A folder with data and with factors U (2 × 2) and V (3 × 2).
fn runs() -> Runs {
    let runs = Runs::new();
    let (x, y) = (numbers(&[SAMPLES, 6], 0.2), numbers(&[SAMPLES], 0.5));
    write_npz(&runs.path("data.npz"), &[("x", &x), ("y", &y)]);
    let (u, v) = (numbers(&[2, 2], 0.1), numbers(&[3, 2], 0.12));
    write_npz(&runs.path("initial.npz"), &[("u", &u), ("v", &v)]);
    runs
}

/// The loss, the trace of the Gauss–Newton matrix and the gradients of the factors.
fn evaluate(u: &[f64], v: &[f64], x: &[f64], y: &[f64]) -> (f64, f64, Vec<f64>, Vec<f64>) {
    let n = SAMPLES as f64;
    let (mut loss, mut trace) = (0.0, 0.0);
    let (mut u_sum, mut v_sum) = (vec![0.0; 4], vec![0.0; 6]);
    for (x, y) in x.chunks(6).zip(y) {
        let (mut u_gradient, mut v_gradient, mut output) = (vec![0.0; 4], vec![0.0; 6], 0.0);
        for (i, j, k) in (0..12).map(|at| (at / 6, at / 2 % 3, at % 2)) {
            output += x[3 * i + j] * u[2 * i + k] * v[2 * j + k];
            u_gradient[2 * i + k] += x[3 * i + j] * v[2 * j + k];
            v_gradient[2 * j + k] += x[3 * i + j] * u[2 * i + k];
        }
        let residual = output - y;
        loss += residual * residual / (2.0 * n);
        trace += u_gradient.iter().chain(&v_gradient).map(|g| g * g).sum::<f64>() / n;
        u_sum.iter_mut().zip(&u_gradient).for_each(|(sum, g)| *sum += residual * g / n);
        v_sum.iter_mut().zip(&v_gradient).for_each(|(sum, g)| *sum += residual * g / n);
    }
    (loss, trace, u_sum, v_sum)
}

#[test]
fn the_factors_are_trained_as_the_definition_says() {
    let runs = runs();
    runs.config("run.toml", CONFIG);
    runs.train(&["run.toml"]).assert().success().stderr("");
    let read = |file: &str, name: &str| array(&runs.path(file), name).1;
    let (x, y) = (read("data.npz", "x"), read("data.npz", "y"));
    let (mut u, mut v) = (read("initial.npz", "u"), read("initial.npz", "v"));
    let (mut losses, mut traces) = (Vec::new(), Vec::new());
    for step in 0..=10 {
        let (loss, trace, u_gradient, v_gradient) = evaluate(&u, &v, &x, &y);
        losses.push(loss);
        traces.push(trace);
        if step < 10 {
            u.iter_mut().zip(&u_gradient).for_each(|(u, g)| *u -= 0.2 * g);
            v.iter_mut().zip(&v_gradient).for_each(|(v, g)| *v -= 0.2 * g);
        }
    }
    assert!(losses[10] < 0.99 * losses[0], "{losses:?}");
    let measured = table(&runs.path("run"));
    assert_close(&measured["train_loss"], &losses, 1e-12, "losses");
    assert_close(&measured["trace"], &traces, 1e-12, "traces");
    assert_close(&read("run/parameters.npz", "u"), &u, 1e-12, "U");
    assert_close(&read("run/parameters.npz", "v"), &v, 1e-12, "V");
    assert_eq!(array(&runs.path("run/parameters.npz"), "v").0, [3, 2]);
    // The parameters that were written can be measured.
    let arguments = ["run.toml", "--data", "data.npz", "--format", "json", "--parameters"];
    let mut command = flatmin(&["metrics"]);
    command.args(arguments).arg("run/parameters.npz").current_dir(runs.folder.path());
    let report = command.assert().success().stderr("").get_output().stdout.clone();
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert_close(&[report["trace"].as_f64().unwrap()], &traces[10..], 1e-12, "trace");
}

#[test]
fn random_starts_and_float32_work_and_wrong_keys_are_named() {
    let drawn = CONFIG.replace("initial = 'initial.npz'\n", "");
    let single = drawn.replace("max_steps = 10", "max_steps = 10\nprecision = 'float32'");
    for config in [&drawn, &single] {
        let runs = runs();
        runs.config("run.toml", config);
        runs.train(&["run.toml"]).assert().success();
    }
    let fails = |from: &str, to: &str, message: &str| {
        runs().fails(&CONFIG.replace(from, to), &format!("run.toml: {message}"));
    };
    fails(
        "rows = 2",
        "rows = 2\nwidth = 3",
        "line 7: width is for two-layer-relu only: leave it out",
    );
    let reason = "line 7: input_dim is rows × columns for matrix-sensing: leave it out";
    fails("rows = 2", "rows = 2\ninput_dim = 6", reason);
    let reason = "line 6: rows is for matrix-sensing only: leave it out";
    fails("matrix-sensing", "diagonal-linear", reason);
    runs().fails(
        &CONFIG.replace("rows = 2", "rows = 3"),
        "data.npz: x has 6 columns, but rows × columns in [model] is 9",
    );
}
