//! Sharpness of more samples times outputs than an nk × nk matrix is formed for, against the p × p
//! matrix of numpy (`data/large/generate.py`).

mod support;

use std::fs;

use predicates::prelude::*;
use predicates::str::contains;
use support::{Numbers, Runs, assert_close, flatmin, write_npz};

const SAMPLES: usize = 1100;

/// Trace, Frobenius norm, largest eigenvalue and batch sharpness with the squared loss.
const SQUARED: [f64; 4] =
    [34.337_038_713_402_54, 8.909_523_063_364_134, 4.927_280_497_970_078, 6.143_940_260_426_401];

/// The same with cross-entropy.
const CROSS_ENTROPY: [f64; 4] = [
    2.760_395_566_257_093,
    0.874_356_332_584_332,
    0.505_377_698_888_919_4,
    0.496_199_249_530_909_3,
];

/// The largest stable learning rate for batches of one with the squared loss.
const THRESHOLD: f64 = 0.184_169_673_666_739_11;

fn wave(shape: &[usize], frequency: f64) -> Numbers {
    let count: usize = shape.iter().product();
    let value = |k: usize| libm::sin(frequency * k as f64);
    (shape.to_vec(), (1..=count).map(value).collect())
}

/// A folder with the data and the parameters of the generator.
fn runs() -> Runs {
    let runs = Runs::new();
    let hot = (0..SAMPLES).flat_map(|i| (0..10).map(move |o| f64::from(u8::from(i % 10 == o))));
    let data =
        [("x", wave(&[SAMPLES, 2], 0.7)), ("y", (vec![SAMPLES, 10], hot.collect::<Vec<f64>>()))];
    let initial = [
        ("w1", wave(&[3, 2], 1.1)),
        ("b1", wave(&[3], 0.3)),
        ("w2", wave(&[10, 3], 1.3)),
        ("b2", wave(&[10], 0.9)),
    ];
    let write = |name: &str, arrays: &[(&str, Numbers)]| {
        let arrays: Vec<(&str, &Numbers)> = arrays.iter().map(|(name, a)| (*name, a)).collect();
        write_npz(&runs.path(name), &arrays);
    };
    write("data.npz", &data);
    write("initial.npz", &initial);
    runs
}

fn config(loss: &str, columns: &str) -> String {
    format!(
        "seed = 0\ndata = 'data.npz'\ninitial = 'initial.npz'\n[model]\nkind = 'perceptron'\n\
         widths = [3]\nactivation = 'tanh'\n[loss]\nkind = '{loss}'\n[optimizer]\n\
         learning_rate = 0.01\nbatch_size = 1\nmax_steps = 1\n[metrics]\nevery = 2\n\
         columns = [{columns}]\n"
    )
}

/// Runs measure all but the Frobenius norm, which takes seconds; `metrics` measures it once for each
/// loss.
#[test]
fn sharpness_of_many_one_hot_samples_is_that_of_the_dense_matrix() {
    let runs = runs();
    let columns = "'trace', 'lambda_max', 'batch_sharpness'";
    for (loss, [trace, _, lambda_max, batch_sharpness]) in
        [("squared", SQUARED), ("cross-entropy", CROSS_ENTROPY)]
    {
        let name = format!("{loss}.toml");
        runs.config(&name, &config(loss, columns));
        runs.train(&[&name]).assert().success();
        let table = fs::read_to_string(runs.path(loss).join("metrics.csv")).unwrap();
        let row = table.lines().nth(1).unwrap().split(',').skip(1);
        let row: Vec<f64> = row.map(|cell| cell.parse().unwrap()).collect();
        assert_close(&row, &[trace, lambda_max, batch_sharpness], 1e-10, loss);
    }
    let measured = |arguments: &[&str]| {
        let mut command = flatmin(&["metrics", "--parameters", "initial.npz"]);
        command.args(arguments).current_dir(runs.path(".")).assert().success()
    };
    let json = measured(&["squared.toml", "--format", "json"]).get_output().stdout.clone();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let names = ["trace", "frobenius_norm", "lambda_max"];
    let values: Vec<f64> = names.iter().map(|name| json[*name].as_f64().unwrap()).collect();
    assert_close(&values, &SQUARED[..3], 1e-10, "metrics");
    assert_holds(&json["batches"][0], THRESHOLD);
    let too_large = "they need all of an nk × nk matrix, which is too large for 1100 samples with 10 targets (at \
                     most 10000)";
    let text = contains(format!("No exact thresholds: {too_large}.\nBrackets from products take"))
        .and(contains("bracketed by leading modes"))
        .and(contains("Frobenius norm      0.874356\n"));
    measured(&["cross-entropy.toml"]).stdout(text);
    let text = contains(format!("No thresholds: {too_large}; weight decay has no bracket.\n"));
    measured(&["cross-entropy.toml", "--weight-decay", "0.1"]).stdout(text);
}

/// A bracket holds this threshold, and its estimate is near.
fn assert_holds(batch: &serde_json::Value, threshold: f64) {
    let found = &batch["threshold"];
    assert_eq!(found["kind"], "bracket");
    let [lower, upper, estimate] =
        ["lower", "upper", "estimate"].map(|name| found[name].as_f64().expect("a number"));
    assert!(lower <= threshold && threshold <= upper, "{found}");
    assert!((estimate / threshold - 1.0).abs() < 0.01, "{found}");
    assert!(upper - lower <= 0.05 * upper, "{found}");
}

#[test]
fn all_columns_that_need_the_whole_matrix_are_named_at_once() {
    let runs = runs();
    let columns = "'trace', 'threshold_lower', 'threshold_upper'";
    runs.fails(
        &config("squared", columns),
        "run.toml: threshold_lower, threshold_upper need all of an nk × nk matrix, which is too large \
         for 1100 samples with 10 targets (at most 10000); leave them out of columns in [metrics]",
    );
}
