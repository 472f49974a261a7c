//! `flatmin train` and `flatmin metrics` on perceptrons, and on bad input for them.

mod support;

use flatmin_linalg::RowMatrix;
use flatmin_models::{Activation, Dataset, Mlp, Model as _};
use flatmin_optim::{Kernel as _, PlainKernel, Update};
use flatmin_theory::{Batch, Minimum, Optimizer, Sampling, threshold};
use serde_json::Value;
use support::{Numbers, Runs, array, assert_close, flatmin, table, write_npz};

const CONFIG: &str = "\
seed = 0
data = 'data.npz'
initial = 'initial.npz'
[model]
kind = 'perceptron'
widths = [4, 3]
activation = 'tanh'
[optimizer]
learning_rate = 0.1
method = 'gradient-descent'
max_steps = 10
";

fn numbers(shape: &[usize], scale: f64) -> Numbers {
    let count = shape.iter().product::<usize>();
    (shape.to_vec(), (0..count).map(|i| scale * (((i * 7 + 3) % 11) as f64 - 5.0)).collect())
}

/// Arrays of a perceptron of widths 2-4-3-k.
fn initial(k: usize) -> Vec<(&'static str, Numbers)> {
    vec![
        ("w1", numbers(&[4, 2], 0.1)),
        ("b1", numbers(&[4], 0.02)),
        ("w2", numbers(&[3, 4], 0.1)),
        ("b2", numbers(&[3], 0.03)),
        ("w3", numbers(&[k, 3], 0.2)),
        ("b3", numbers(&[k], 0.04)),
    ]
}

fn write(runs: &Runs, name: &str, arrays: &[(&str, Numbers)]) {
    let arrays: Vec<(&str, &Numbers)> = arrays.iter().map(|(name, n)| (*name, n)).collect();
    write_npz(&runs.path(name), &arrays);
}

/// A folder with data of k targets a sample, and parameters that fit.
fn runs(k: usize) -> Runs {
    let runs = Runs::new();
    write(&runs, "data.npz", &[("x", numbers(&[6, 2], 0.3)), ("y", numbers(&[6, k], 0.5))]);
    write(&runs, "initial.npz", &initial(k));
    runs
}

/// A configuration with one line replaced.
#[track_caller]
fn edited(from: &str, to: &str, message: &str) {
    assert!(CONFIG.contains(from), "{from}");
    runs(2).fails(&CONFIG.replace(from, to), &format!("run.toml: {message}"));
}

fn metrics(runs: &Runs, parameters: &str, format: &str) -> Vec<u8> {
    let arguments = ["run.toml", "--data", "data.npz", "--format", format, "--parameters"];
    let mut command = flatmin(&["metrics"]);
    command.args(arguments).arg(parameters).current_dir(runs.folder.path());
    command.assert().success().stderr("").get_output().stdout.clone()
}

#[test]
fn several_outputs_are_trained_as_the_plain_definition_says() {
    let runs = runs(2);
    let columns = "['train_loss', 'trace', 'frobenius_norm', 'lambda_max', 'l2_norm', \
                   'threshold_lower', 'threshold_upper']";
    let metric = format!("[metrics]\nevery = 1\ncolumns = {columns}\n");
    runs.config("run.toml", &(CONFIG.to_owned() + &metric));
    runs.train(&["run.toml"]).assert().success().stderr("");
    let model = Mlp::new(&[2, 4, 3, 2], Activation::Tanh, true).unwrap();
    let (x, y) = (array(&runs.path("data.npz"), "x").1, array(&runs.path("data.npz"), "y").1);
    let (x, y) = (RowMatrix::new(6, 2, x).unwrap(), RowMatrix::new(6, 2, y).unwrap());
    let data = Dataset::with_outputs(x, &y).unwrap();
    let start: Vec<f64> = initial(2).into_iter().flat_map(|(_, (_, values))| values).collect();
    let mut kernel = PlainKernel::new(&model, &data, &start);
    let update = Update { learning_rate: 0.1, clip_norm: f64::INFINITY };
    let losses: Vec<f64> = (0..10).map(|_| kernel.full_step(update).loss).collect();
    let mut written = Vec::new();
    for (name, (shape, _)) in initial(2) {
        let (found, values) = array(&runs.path("run/parameters.npz"), name);
        assert_eq!(found, shape, "{name}");
        written.extend(values);
    }
    assert_close(&written, &kernel.parameters(), 1e-13, "parameters");
    assert_close(&table(&runs.path("run"))["train_loss"][..10], &losses, 1e-13, "losses");
    // The parameters that were written can be read again.
    let report: Value =
        serde_json::from_slice(&metrics(&runs, "run/parameters.npz", "json")).unwrap();
    let last = &table(&runs.path("run"));
    for name in ["trace", "frobenius_norm", "lambda_max", "l2_norm"] {
        let measured = report[name].as_f64().unwrap();
        assert_close(&[measured], &last[name][10..], 1e-13, name);
    }
    // The threshold of the Jacobian that the plain definition gives, row by row.
    let (k, p) = (model.output_dim(), model.parameter_count());
    let rows: Vec<f64> = (0..data.sample_count())
        .flat_map(|i| {
            let mut gradients = vec![0.0; k * p];
            model.gradient(&written, data.inputs().row(i), &mut gradients);
            gradients
        })
        .collect();
    let jacobian = RowMatrix::new(data.sample_count() * k, p, rows).unwrap();
    let minimum = Minimum::with_outputs(&jacobian, k).unwrap();
    let single = Batch::new(1, Sampling::WithoutReplacement).unwrap();
    let exact = threshold(&minimum, &Optimizer::sgd(), &single).unwrap();
    let measured = report["batches"][0]["threshold"].clone();
    let ends = ["lower", "upper"].map(|end| measured[end].as_f64().unwrap());
    assert_close(&ends, &[exact.lower, exact.upper], 1e-9, "threshold");
    // Along the way it is that of the batches trained with, all samples here.
    let all = Batch::new(6, Sampling::WithoutReplacement).unwrap();
    let exact = threshold(&minimum, &Optimizer::sgd(), &all).unwrap();
    assert_close(&last["threshold_lower"][10..], &[exact.lower], 2e-6, "threshold along the way");
    assert_close(&last["threshold_upper"][10..], &[exact.upper], 2e-6, "threshold along the way");
    let text = String::from_utf8(metrics(&runs, "run/parameters.npz", "text")).unwrap();
    assert!(
        text.starts_with(
            "Perceptron 2-4-3-2, tanh, with biases: 35 parameters, 6 samples\n\
             Loss (1/2n) Σ ‖f − y‖², so that G = JᵀJ/n.\n"
        ) && text.contains("Largest stable learning rate η* of SGD"),
        "{text}"
    );
}

#[test]
fn a_single_output_may_have_an_axis_or_none() {
    let runs = runs(1);
    runs.config("run.toml", CONFIG);
    let with_axis = metrics(&runs, "initial.npz", "json");
    let mut arrays = initial(1);
    arrays[4].1.0 = vec![3];
    arrays[5].1.0 = vec![];
    write(&runs, "initial.npz", &arrays);
    assert_eq!(metrics(&runs, "initial.npz", "json"), with_axis);
    let without_biases = CONFIG.replace("'tanh'", "'relu'\nbiases = false");
    let without = without_biases.replace("initial = 'initial.npz'\n", "");
    runs.config("run.toml", &without);
    runs.train(&["run.toml"]).assert().success().stderr("");
    let names = flatmin_arrays::ArrayFile::open(&runs.path("run/parameters.npz")).unwrap().names();
    assert_eq!(names, ["w1", "w2", "w3"]);
    self::runs(1).fails(
        &without_biases,
        "initial.npz: holds an array \"b1\", which this model does not have (Perceptron 2-4-3-1, relu, \
         without biases): change [model], or leave it out",
    );
}

#[test]
fn wrong_models_are_named() {
    edited("'perceptron'", "'mlp'", {
        "line 5: kind is \"mlp\", expected one of \"two-layer-relu\", \"diagonal-linear\", \
         \"matrix-sensing\", \"perceptron\""
    });
    edited(
        "widths = [4, 3]",
        "width = 4",
        "line 6: width is for two-layer-relu only: a perceptron has widths, a list",
    );
    edited(
        "widths = [4, 3]",
        "",
        "line 4: [model] needs widths, the widths of its hidden layers, for example [64, 64]",
    );
    edited("[4, 3]", "4", "line 6: widths is an integer, expected a list in brackets");
    edited(
        "[4, 3]",
        "[4, 0]",
        "line 6: widths holds 0, expected a whole number from 1 to 4294967295",
    );
    edited("[4, 3]", "[4, 3.0]", "line 6: widths holds a float, expected a whole number");
    edited(
        "[4, 3]",
        "[100_000, 100_000]",
        "a matrix of a width × the one before it = 100000 × 100000 numbers is too large (at most \
         1073741824 numbers)",
    );
    edited(
        "'tanh'",
        "'tanhh'",
        "line 7: activation is \"tanhh\", expected one of \"tanh\", \"relu\", \"gelu\", \
         \"identity\"; did you mean \"tanh\"?",
    );
    edited(
        "activation = 'tanh'",
        "",
        "line 4: [model] needs activation, tanh, relu, gelu or identity",
    );
    edited("'tanh'", "'tanh'\nbiases = 1", "line 8: biases is an integer, expected true or false");
    edited(
        "'perceptron'",
        "'diagonal-linear'",
        "line 6: widths is for perceptron only: leave it out",
    );
    edited(
        "max_steps = 10",
        "max_steps = 10\n[metrics]\ncolumns = ['path_norm']",
        "line 13: columns holds \"path_norm\", which is for two-layer-relu only",
    );
    let relu = "kind = 'two-layer-relu'\nwidth = 4\n";
    let perceptron = "kind = 'perceptron'\nwidths = [4, 3]\nactivation = 'tanh'\n";
    runs(2).fails(
        &CONFIG.replace(perceptron, relu),
        "data.npz: y has 2 columns, but a two-layer-relu has one output: give it one of them, or \
         take kind = \"perceptron\" in [model]",
    );
}

#[test]
fn data_and_parameters_that_do_not_fit_are_named() {
    let network = "(Perceptron 2-4-3-2, tanh, with biases)";
    let check = |position: usize, array: Numbers, message: &str| {
        let runs = runs(2);
        let mut arrays = initial(2);
        arrays[position].1 = array;
        write(&runs, "initial.npz", &arrays);
        runs.fails(CONFIG, &format!("initial.npz: {message}"));
    };
    check(0, numbers(&[2, 4], 0.1), &format!("array \"w1\" is 2 × 4, expected 4 × 2 {network}"));
    check(4, numbers(&[3], 0.1), &format!("array \"w3\" is 3, expected 2 × 3 {network}"));
    check(5, numbers(&[], 0.1), &format!("array \"b3\" is a single number, expected 2 {network}"));
    let nan = (vec![2], vec![0.0, f64::NAN]);
    check(5, nan, "entry 1 of array \"b3\" is NaN, expected a finite number");
    let single = runs(1);
    let mut arrays = initial(1);
    arrays[5].1 = numbers(&[2], 0.1);
    write(&single, "initial.npz", &arrays);
    single.fails(
        CONFIG,
        "initial.npz: array \"b3\" is 2, expected 1 or a single number (Perceptron 2-4-3-1, tanh, \
         with biases)",
    );
    let deeper = runs(2);
    let mut arrays = initial(2);
    arrays.push(("w4", numbers(&[2, 2], 0.1)));
    write(&deeper, "initial.npz", &arrays);
    deeper.fails(
        CONFIG,
        &format!(
            "initial.npz: holds an array \"w4\", which this model does not have {network}: change [model], \
             or leave it out"
        ),
    );
    let data = runs(2);
    write(&data, "data.npz", &[("x", numbers(&[6, 2], 0.3)), ("y", numbers(&[3, 2], 0.5))]);
    data.fails(
        CONFIG,
        "data.npz: array \"y\" is 3 × 2, expected 6, one target per row of x, or 6 × k for several",
    );
    let test = runs(2);
    write(&test, "test.npz", &[("x", numbers(&[3, 2], 0.3)), ("y", numbers(&[3], 0.5))]);
    test.fails(
        &("test_data = 'test.npz'\n".to_owned() + CONFIG),
        "test.npz: y has 1 columns, the training data has 2",
    );
}

#[test]
fn an_interrupted_run_goes_on_with_the_same_bytes() {
    let config = CONFIG.replace("method = 'gradient-descent'", "batch_size = 1");
    let config =
        config.replace("max_steps = 10", "max_steps = 400\n[output]\ncheckpoint_every = 7");
    let (whole, cut) = (runs(2), runs(2));
    for runs in [&whole, &cut] {
        runs.config("run.toml", &config);
        runs.train(&["run.toml"]).assert().success();
    }
    // Without its summary the run counts as killed before it was written.
    std::fs::remove_file(cut.path("run/run.json")).unwrap();
    cut.train(&["run.toml", "--resume"]).assert().success();
    assert_eq!(support::results(&whole.path("run")), support::results(&cut.path("run")));
}
