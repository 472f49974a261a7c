//! `flatmin train` and `flatmin metrics` on cross-entropy, with Poisson batches.

mod support;

use flatmin_linalg::{RowMatrix, stream};
use flatmin_models::{Activation, Dataset, Loss, Mlp, Model as _};
use flatmin_optim::{
    Method, Optimizer, Precision, Sampling, Schedule, StoppingRule, TrainOptions, Trainer,
};
use flatmin_theory::{Batch, Minimum, OutputHessians, threshold};
use serde_json::Value;
use support::{Numbers, Runs, array, assert_close, flatmin, table, write_npz};

const CONFIG: &str = "\
seed = 4
data = 'data.npz'
stopping = 'never'
[model]
kind = 'perceptron'
widths = [4]
activation = 'tanh'
[loss]
kind = 'cross-entropy'
label_smoothing = 0.1
[optimizer]
learning_rate = 0.2
batch_size = 2
sampling = 'poisson'
max_steps = 40
[metrics]
every = 10
columns = ['train_loss', 'train_accuracy', 'trace', 'lambda_max', 'threshold_lower', 'threshold_upper']
";

fn inputs() -> Numbers {
    (vec![6, 2], (0..12).map(|i| 0.3 * f64::from((i * 7 + 3) % 11 - 5)).collect())
}

fn runs(y: &Numbers) -> Runs {
    let runs = Runs::new();
    write_npz(&runs.path("data.npz"), &[("x", &inputs()), ("y", y)]);
    runs
}

fn labels() -> Numbers {
    (vec![6], vec![0.0, 2.0, 1.0, 0.0, 2.0, 2.0])
}

#[test]
fn a_run_is_that_of_the_library_with_the_threshold_of_the_theory() {
    let runs = runs(&labels());
    runs.config("run.toml", CONFIG);
    runs.train(&["run.toml"]).assert().success().stderr("");
    let model = Mlp::new(&[2, 4, 3], Activation::Tanh, true).unwrap();
    let x = RowMatrix::new(6, 2, inputs().1).unwrap();
    let data = Dataset::with_classes(x, &[0, 2, 1, 0, 2, 2], 3).unwrap();
    let data = data.with_loss(Loss::cross_entropy(0.1).unwrap()).unwrap();
    let options = TrainOptions {
        method: Method::Sgd { batch_size: 2, sampling: Sampling::Poisson },
        optimizer: Optimizer::sgd(),
        learning_rate: 0.2,
        schedule: Schedule::Constant,
        clip_norm: f64::INFINITY,
        max_steps: 40,
        precision: Precision::Float64,
        stopping: StoppingRule::never(),
        checkpoints: vec![0, 10, 20, 30, 40],
    };
    let initial = model.initial_parameters(&mut stream(4, "perceptron initial parameters", 0));
    let trainer = Trainer::new(&model, &data, &initial, &options, stream(4, "batches", 0));
    let mut points = Vec::new();
    let run = trainer.unwrap().run(|seen| points.push(seen.parameters.to_vec()));
    let written: Vec<f64> = ["w1", "b1", "w2", "b2"]
        .into_iter()
        .flat_map(|name| array(&runs.path("run/parameters.npz"), name).1)
        .collect();
    assert_eq!(written, run.parameters);

    let rows = table(&runs.path("run"));
    let batch = Batch::new(2, Sampling::Poisson).unwrap();
    for (row, parameters) in points.iter().enumerate() {
        assert_close(
            &rows["train_loss"][row..=row],
            &[data.loss(&model, parameters)],
            1e-13,
            "loss",
        );
        let accuracy = data.accuracy(&model, parameters);
        assert_close(&rows["train_accuracy"][row..=row], &[accuracy], 0.0, "accuracy");
        let logits = RowMatrix::new(6, 3, model.outputs(parameters, data.inputs())).unwrap();
        let hessians = OutputHessians::softmax(&logits).unwrap();
        let jacobian = model.jacobian(parameters, data.inputs());
        let weighted = hessians.weigh(jacobian.as_mat()).unwrap();
        let trace = weighted.squared_norm_l2() / 6.0;
        assert_close(&rows["trace"][row..=row], &[trace], 1e-12, "trace");
        let minimum = Minimum::with_loss(&jacobian, &hessians).unwrap();
        let exact = threshold(&minimum, &Optimizer::sgd(), &batch).unwrap();
        let [lower, upper] = ["threshold_lower", "threshold_upper"].map(|name| rows[name][row]);
        assert!(lower <= exact.upper && exact.lower <= upper, "[{lower}, {upper}], {exact:?}");
        assert!(upper / lower < 1.0 + 1e-5, "[{lower}, {upper}]");
    }

    // `flatmin metrics` measures the same loss.
    let arguments = ["run.toml", "--parameters", "run/parameters.npz", "--format"];
    let metrics = |format| {
        let mut command = flatmin(&["metrics"]);
        command.args(arguments).arg(format).current_dir(runs.folder.path());
        command.assert().success().stderr("").get_output().stdout.clone()
    };
    let report: Value = serde_json::from_slice(&metrics("json")).unwrap();
    assert_eq!(report["loss_function"], "cross-entropy with label smoothing 0.1");
    for (name, column) in [("loss", "train_loss"), ("trace", "trace"), ("lambda_max", "lambda_max")]
    {
        let last = *rows[column].last().unwrap();
        assert_close(&[report[name].as_f64().unwrap()], &[last], 1e-12, name);
    }
    let text = String::from_utf8(metrics("text")).unwrap();
    let line = "Loss cross-entropy with label smoothing 0.1, so that G = (1/n) Σ Jᵀ(diag π − ππᵀ)J \
                with π = softmax(f).";
    assert!(text.contains(line), "{text}");
}

#[test]
fn a_loss_is_stored_by_its_name_and_checked() {
    for (loss, json) in [
        (Loss::Squared, "\"squared\""),
        (Loss::cross_entropy(0.1).unwrap(), "{\"cross_entropy\":0.1}"),
    ] {
        assert_eq!(serde_json::to_string(&loss).unwrap(), json);
        assert_eq!(serde_json::from_str::<Loss>(json).unwrap(), loss);
    }
    assert!(serde_json::from_str::<Loss>("{\"cross_entropy\":1.5}").is_err());
}

#[test]
fn classes_and_their_probabilities_are_one_run() {
    let parameters = |y: &Numbers, config: &str| {
        let runs = runs(y);
        runs.config("run.toml", config);
        runs.train(&["run.toml"]).assert().success().stderr("");
        ["w1", "b1", "w2", "b2"].map(|name| array(&runs.path("run/parameters.npz"), name))
    };
    let one_hot = labels().1.into_iter().flat_map(|label| {
        [0.0, 1.0, 2.0].map(|class: f64| f64::from(u8::from((class - label).abs() < 0.5)))
    });
    let one_hot = (vec![6, 3], one_hot.collect());
    assert_eq!(parameters(&labels(), CONFIG), parameters(&one_hot, CONFIG));
    // A class without a sample.
    let more = CONFIG.replace("[optimizer]", "classes = 4\n[optimizer]");
    assert_eq!(parameters(&labels(), &more)[2].0, [4, 4]);
}

#[test]
fn a_run_that_was_killed_goes_on_with_the_same_bytes() {
    let runs = runs(&labels());
    runs.config("run.toml", CONFIG);
    runs.train(&["run.toml"]).assert().success();
    let read = || {
        ["metrics.csv", "parameters.npz"].map(|f| std::fs::read(runs.path("run").join(f)).unwrap())
    };
    let whole = read();
    std::fs::remove_file(runs.path("run/run.json")).unwrap();
    runs.train(&["run.toml", "--resume"]).assert().success();
    assert_eq!(read(), whole);
}

#[test]
fn labels_that_are_none_are_refused() {
    let fails = |y: &Numbers, config: &str, message: &str| runs(y).fails(config, message);
    let mut y = labels();
    y.1[3] = 1.5;
    let expected = "entry 3 of array \"y\" is 1.5, expected a class, a whole number from 0";
    fails(&y, CONFIG, &format!("data.npz: {expected}"));
    y.1[3] = -1.0;
    let expected = "entry 3 of array \"y\" is -1, expected a class, a whole number from 0";
    fails(&y, CONFIG, &format!("data.npz: {expected}"));
    let small = CONFIG.replace("[optimizer]", "classes = 2\n[optimizer]");
    let expected = "sample 1 has class 2, expected one of 2 classes, from 0";
    fails(&labels(), &small, &format!("data.npz: {expected}"));
    let one = (vec![6], vec![0.0; 6]);
    let expected = "cross-entropy needs a target for each of at least two classes, got 1";
    fails(&one, CONFIG, &format!("data.npz: {expected}"));
    let soft = (vec![6, 2], vec![0.5; 12]);
    let more = CONFIG.replace("[optimizer]", "classes = 4\n[optimizer]");
    let expected = "array \"y\" has 2 columns, expected 4, one per class";
    fails(&soft, &more, &format!("data.npz: {expected}"));
    let wrong = (vec![6, 2], vec![0.75; 12]);
    let expected = "the targets of sample 0 have the least entry 0.75 and the sum 1.5, expected \
                    probabilities of the classes, from 0 and with the sum 1";
    fails(&wrong, CONFIG, &format!("data.npz: {expected}"));
}

#[test]
fn what_makes_no_sense_for_the_loss_is_refused() {
    let fails = |from: &str, to: &str, message: &str| {
        assert!(CONFIG.contains(from), "{from}");
        runs(&labels()).fails(&CONFIG.replace(from, to), &format!("run.toml: {message}"));
    };
    fails(
        "label_smoothing = 0.1",
        "label_smoothing = 1.5",
        "line 10: the label smoothing is 1.5, expected a number from 0 to 1",
    );
    fails(
        "kind = 'cross-entropy'",
        "kind = 'squared'",
        "line 10: label_smoothing is for kind = \"cross-entropy\" only: leave it out",
    );
    fails(
        "kind = 'cross-entropy'\nlabel_smoothing = 0.1",
        "kind = 'squared'",
        "line 17: columns holds \"train_accuracy\", which is for kind = \"cross-entropy\" in [loss] \
         only",
    );
    fails(
        "'train_accuracy'",
        "'test_accuracy'",
        "line 18: columns holds \"test_accuracy\", but there is no test set: set test_data, or \
         test_count in [data]",
    );
    fails(
        "kind = 'perceptron'\nwidths = [4]\nactivation = 'tanh'",
        "kind = 'two-layer-relu'\nwidth = 4",
        "line 8: kind \"cross-entropy\" is for perceptrons only, which have an output for each class",
    );
    fails(
        "batch_size = 2",
        "batch_size = 7",
        "batch_size is 7, but there are 6 samples; a larger batch needs sampling = \
         \"with-replacement\"",
    );
}

#[test]
fn digits_are_classified() {
    let config = CONFIG.replace("data = 'data.npz'\n", "").replace(
        "[optimizer]",
        "[data]\ndigits = 'one-hot'\nsample_count = 60\ntest_count = 30\n[optimizer]",
    );
    let columns = "columns = ['train_loss', 'test_loss', 'train_accuracy', 'test_accuracy']";
    let start = config.find("columns").unwrap();
    let config = config[..start].replace("max_steps = 40", "max_steps = 400") + columns;
    let runs = Runs::new();
    runs.config("run.toml", &config);
    runs.train(&["run.toml"]).assert().success().stderr("");
    let rows = table(&runs.path("run"));
    let ends = |name: &str| (rows[name][0], *rows[name].last().unwrap());
    let (first, last) = ends("train_accuracy");
    assert!(first < 0.5 && last > 0.8, "{first} {last}");
    assert!(ends("test_accuracy").1 > 0.3 && ends("test_loss").1 < 10.0);
    let parity = config.replace("one-hot", "parity");
    let message = "run.toml: line 8: kind \"cross-entropy\" needs a target for each class: take \
                   \"one-hot\" for \"parity\" in [data]";
    Runs::new().fails(&parity, message);
}
