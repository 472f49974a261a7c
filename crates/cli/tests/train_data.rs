//! `flatmin train` on real data: the built-in digits, and images and labels in IDX files.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::fs;

use flatmin_linalg::RowMatrix;
use flatmin_models::Dataset;
use flatmin_models::data::digits::{DigitsSplit, digits};
use flatmin_models::data::{ClassTargets, InputScaling, Split};
use support::{Runs, results, write_npz};

const DIGITS: &str = "\
seed = 3
[model]
kind = 'two-layer-relu'
width = 4
[data]
digits = 'parity'
sample_count = 30
test_count = 40
[optimizer]
learning_rate = 0.01
batch_size = 2
max_steps = 50
";

const FILES: &str = "\
seed = 3
[model]
kind = 'two-layer-relu'
width = 4
[data]
images = 'images.idx'
labels = 'labels.idx'
targets = 'parity'
[optimizer]
learning_rate = 0.01
batch_size = 2
max_steps = 50
";

/// An IDX file of bytes.
fn idx(lengths: &[u32], numbers: &[u8]) -> Vec<u8> {
    let axes = u8::try_from(lengths.len()).unwrap();
    let lengths = lengths.iter().flat_map(|length| length.to_be_bytes());
    [0, 0, 8, axes].into_iter().chain(lengths).chain(numbers.iter().copied()).collect()
}

fn pixel(k: u8) -> u8 {
    k.wrapping_mul(37).wrapping_add(11)
}

/// A folder with 12 images of 2 × 3 pixels.
fn runs() -> Runs {
    let runs = Runs::new();
    let pixels: Vec<u8> = (0..72).map(pixel).collect();
    fs::write(runs.path("images.idx"), idx(&[12, 2, 3], &pixels)).unwrap();
    fs::write(runs.path("labels.idx"), idx(&[12], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 1])).unwrap();
    runs
}

fn save(runs: &Runs, name: &str, data: &Dataset) {
    let (n, d) = (data.inputs().rows(), data.inputs().columns());
    let x = (vec![n, d], data.inputs().values().to_vec());
    write_npz(&runs.path(name), &[("x", &x), ("y", &(vec![n], data.targets().to_vec()))]);
}

/// That both configurations train the same.
fn same_run(runs: &Runs, left: &str, right: &str) {
    for (name, text) in [("left.toml", left), ("right.toml", right)] {
        runs.config(name, text);
        runs.train(&[name]).assert().success().stderr("");
    }
    let [left, right] = ["left", "right"].map(|name| results(&runs.path(name)));
    assert_eq!(left["metrics.csv"], right["metrics.csv"]);
    assert_eq!(left["parameters.npz"], right["parameters.npz"]);
}

#[track_caller]
fn fails(config: &str, message: &str) {
    runs().fails(config, message);
}

#[test]
fn the_digits_are_those_of_the_library() {
    let runs = runs();
    let split = DigitsSplit { training_count: 30, test_count: 40, seed: 3 };
    for (name, part) in [("data.npz", Split::Training), ("test.npz", Split::Test)] {
        save(&runs, name, &digits().unwrap().dataset(ClassTargets::Parity, part, split).unwrap());
    }
    let from_file = "\
seed = 3
data = 'data.npz'
test_data = 'test.npz'
[model]
kind = 'two-layer-relu'
width = 4
[optimizer]
learning_rate = 0.01
batch_size = 2
max_steps = 50
";
    same_run(&runs, DIGITS, from_file);
}

#[test]
fn images_are_centred_scaled_and_signed() {
    let runs = runs();
    let inputs =
        RowMatrix::from_fn(12, 6, |i, j| f64::from(pixel(u8::try_from(6 * i + j).unwrap())));
    let scaled = InputScaling::new(&inputs).unwrap().apply(&inputs);
    let labels = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 1];
    let targets = labels.iter().map(|label| if label % 2 == 0 { 1.0 } else { -1.0 }).collect();
    save(&runs, "data.npz", &Dataset::new(scaled, targets).unwrap());
    let start = FILES.split_once("[data]").unwrap().0;
    let end = FILES.split_once("[optimizer]").unwrap().1;
    let from_file = format!("data = 'data.npz'\n{start}[optimizer]{end}");
    same_run(&runs, FILES, &from_file);
}

#[test]
fn a_perceptron_learns_one_target_for_each_digit() {
    let runs = runs();
    let perceptron = "kind = 'perceptron'\nwidths = [5]\nactivation = 'tanh'";
    let config = DIGITS
        .replace("kind = 'two-layer-relu'\nwidth = 4", perceptron)
        .replace("'parity'", "'one-hot'");
    runs.config("run.toml", &config);
    runs.train(&["run.toml"]).assert().success();
    let run = fs::read_to_string(runs.path("run/run.json")).unwrap();
    assert!(run.contains("\"test_loss\""), "{run}");
}

#[test]
fn a_part_of_the_files_is_tested_on() {
    let runs = runs();
    let drawn = "targets = 'parity'\nsample_count = 6\ntest_count = 6";
    runs.config("run.toml", &FILES.replace("targets = 'parity'", drawn));
    runs.train(&["run.toml"]).assert().success();
    let run = fs::read_to_string(runs.path("run/run.json")).unwrap();
    assert!(run.contains("\"sample_count\": 6") && run.contains("\"test_loss\""), "{run}");
}

#[test]
fn contradictions_name_the_line_and_the_remedy() {
    let digits = |from: &str, to: &str, message: &str| {
        assert!(DIGITS.contains(from), "{from}");
        fails(&DIGITS.replace(from, to), &format!("run.toml: {message}"));
    };
    digits(
        "'parity'",
        "'party'",
        "line 6: digits is \"party\", expected one of \"parity\", \"one-hot\"; did you mean \
         \"parity\"?",
    );
    digits(
        "sample_count = 30",
        "",
        "line 5: [data] needs sample_count, the number of training samples",
    );
    digits(
        "= 30",
        "= 1",
        "line 7: sample_count is 1, expected a whole number from 2 to 4294967295",
    );
    digits(
        "= 40",
        "= 1768",
        "digits in [data]: 30 training and 1768 test samples asked for, but there are 1797",
    );
    digits(
        "test_count = 40",
        "teacher = 'sparse-linear'",
        "line 8: teacher is for synthetic data only, digits are real: leave it out",
    );
    digits(
        "test_count = 40",
        "images = 'a'",
        "line 8: images is for images from files, digits are built in: leave it out",
    );
    digits(
        "seed = 3\n",
        "",
        "seed is missing: it fixes the samples, the initial parameters, the \
         batches, for example seed = 0",
    );
    digits(
        "width = 4",
        "width = 4\ninput_dim = 10",
        "input_dim in [model] is 10, but the images have 64 values",
    );
    digits(
        "'parity'",
        "'one-hot'",
        "y has 10 columns, but a two-layer-relu has one output: give it one of them, or take kind = \
         \"perceptron\" in [model]",
    );
    let files = |from: &str, to: &str, message: &str| {
        assert!(FILES.contains(from), "{from}");
        fails(&FILES.replace(from, to), &format!("run.toml: {message}"));
    };
    files(
        "labels = 'labels.idx'",
        "",
        "line 5: [data] needs labels, a file with a label for each image",
    );
    files("targets = 'parity'", "", "line 5: [data] needs targets, \"parity\" or \"one-hot\"");
    files("'labels.idx'", "''", "line 7: labels is empty, expected a path");
    files(
        "images = 'images.idx'",
        "",
        "line 7: labels goes with images, a file: name it or leave this out",
    );
    files(
        "targets = 'parity'",
        "targets = 'parity'\ntest_images = 'images.idx'",
        "line 5: [data] needs test_labels, the labels of test_images",
    );
}

#[test]
fn files_that_do_not_fit_are_refused() {
    let check = |images: &[u8], labels: &[u8], data: &str, message: &str| {
        let runs = runs();
        fs::write(runs.path("other-images"), images).unwrap();
        fs::write(runs.path("other-labels"), labels).unwrap();
        runs.config(
            "run.toml",
            &FILES.replace("targets = 'parity'", &format!("targets = 'parity'\n{data}")),
        );
        let expected = format!("flatmin: {message}\n");
        runs.train(&["run.toml"]).assert().code(3).stdout("").stderr(expected);
    };
    let test = "test_images = 'other-images'\ntest_labels = 'other-labels'";
    let six = idx(&[2, 2, 3], &[1; 12]);
    let two = idx(&[2], &[0, 1]);
    check(
        &six,
        &idx(&[3], &[0; 3]),
        test,
        "other-labels: has 3 labels, expected 2, one for each image of other-images",
    );
    check(&six, &six, test, "other-labels: is 2 × 2 × 3, expected n, a label for each image");
    check(&two, &two, test, "other-images: is 2, expected n × d or n × rows × columns");
    check(
        &idx(&[2, 5], &[1; 10]),
        &two,
        test,
        "other-images: has 5 values an image, the training data 6",
    );
    check(
        &six[..20],
        &two,
        test,
        "other-images: is truncated: 12 bytes of numbers promised, 4 there",
    );
    let wide = [0, 0, 9, 1, 0, 0, 0, 2, 1, 0xff];
    check(
        &six,
        &wide,
        test,
        "other-labels: entry 1 is -1, expected a class, a whole number from 0 to 255",
    );
    let few = "images.idx: 10 training and 3 test samples asked for, but there are 12";
    check(&[], &[], "sample_count = 10\ntest_count = 3", few);
    let runs = runs();
    fs::write(runs.path("images.idx"), idx(&[12, 6], &[5; 72])).unwrap();
    runs.config("run.toml", FILES);
    let expected = "flatmin: images.idx: the 12 training inputs have a mean squared distance of 0 \
                    from their mean, which cannot be scaled: expected a positive finite number\n";
    runs.train(&["run.toml"]).assert().code(3).stdout("").stderr(expected);
}
