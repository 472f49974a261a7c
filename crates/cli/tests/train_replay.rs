//! Runs of PyTorch with three outputs and `nn.MSELoss`, replayed with the factor 2/k of the pages.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use flatmin_arrays::ArrayFile;
use support::{Runs, array, assert_close, results, write_npz};

/// The learning rate of the recorded runs, times 2/3.
const LEARNING_RATE: &str = "0.0333333333333333333";

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/replay_outputs").join(name)
}

fn config(order: &Path, learning_rate: &str) -> String {
    format!(
        "data = '{}'\ninitial = '{}'\norder = '{}'\n[model]\nkind = 'perceptron'\n\
         widths = [16, 16]\nactivation = 'tanh'\n[optimizer]\nlearning_rate = {learning_rate}\n",
        source("data.npz").display(),
        source("init.npz").display(),
        order.display()
    )
}

/// The parameters of an archive, in the order of the model.
fn parameters(path: &Path) -> Vec<f64> {
    let names = ["w1", "b1", "w2", "b2", "w3", "b3"];
    names.iter().flat_map(|name| array(path, name).1).collect()
}

/// The parameters after a replay of this order.
fn replay(order: &Path, learning_rate: &str) -> Vec<f64> {
    let runs = Runs::new();
    runs.config("run.toml", &config(order, learning_rate));
    runs.train(&["run.toml"]).assert().success().stderr("");
    parameters(&runs.path("run").join("parameters.npz"))
}

#[test]
fn a_mean_over_three_outputs_is_two_thirds_of_the_learning_rate() {
    let end = parameters(&source("end.npz"));
    assert_close(&replay(&source("order.npy"), LEARNING_RATE), &end, 1e-12, "2/3");
    // Neither the learning rate of PyTorch nor twice that gives the run.
    for learning_rate in ["0.05", "0.1"] {
        let other = replay(&source("order.npy"), learning_rate);
        let difference = other.iter().zip(&end).fold(0.0_f64, |m, (a, b)| m.max((a - b).abs()));
        assert!(difference > 0.1, "{learning_rate}: {difference}");
    }
}

#[test]
fn epochs_with_a_short_last_batch_are_replayed() {
    let end = parameters(&source("end_padded.npz"));
    let padded = replay(&source("padded.npy"), LEARNING_RATE);
    assert_close(&padded, &end, 1e-12, "filled up with -1");

    // The same as two lists: all indices, and the sizes of the batches.
    let runs = Runs::new();
    let mut stored = ArrayFile::open(&source("padded.npy")).unwrap().array(None, &[]).unwrap();
    let values = stored.values().unwrap();
    let rows = values.chunks(stored.shape()[1]);
    let sizes: Vec<f64> =
        rows.map(|row| row.iter().filter(|index| **index >= 0.0).count() as f64).collect();
    assert!(sizes.contains(&2.0) && sizes.contains(&8.0));
    let indices: Vec<f64> = values.into_iter().filter(|index| *index >= 0.0).collect();
    let lists = [("order", (vec![indices.len()], indices)), ("sizes", (vec![sizes.len()], sizes))];
    write_npz(&runs.path("order.npz"), &[(lists[0].0, &lists[0].1), (lists[1].0, &lists[1].1)]);
    assert_eq!(replay(&runs.path("order.npz"), LEARNING_RATE), padded);
}

/// A run with short batches resumes with the same bytes, and not with batches of other sizes.
#[test]
fn the_sizes_of_batches_belong_to_a_run() {
    let runs = Runs::new();
    let write = |sizes: &[f64]| {
        let indices = (0..150).map(|k| f64::from(k * 7 % 50)).collect();
        let order = (vec![150], indices);
        let sizes = (vec![sizes.len()], sizes.to_vec());
        write_npz(&runs.path("order.npz"), &[("order", &order), ("sizes", &sizes)]);
    };
    write(&[[8.0; 6].as_slice(), &[2.0]].concat().repeat(3));
    let text = config(&runs.path("order.npz"), "0.03");
    runs.config("run.toml", &format!("{text}[output]\ncheckpoint_every = 5\n"));
    runs.train(&["run.toml"]).assert().success();
    let whole = results(&runs.path("run"));
    for name in ["run.json", "parameters.npz"] {
        fs::remove_file(runs.path("run").join(name)).expect("it was written");
    }
    let said = predicates::str::contains("going on from step ");
    runs.train(&["run.toml", "--resume"]).assert().success().stderr(said);
    assert_eq!(results(&runs.path("run")), whole);
    write(&[[8.0; 6].as_slice(), &[1.0, 1.0]].concat().repeat(3));
    let said = predicates::str::contains("is of a run with another order");
    runs.train(&["run.toml", "--resume"]).assert().code(3).stderr(said);
}
