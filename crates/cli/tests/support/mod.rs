//! Helpers that the tests of training share.

#![allow(dead_code, reason = "each test uses some of it")]
#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use flatmin_arrays::{ArrayFile, NamedArray, npz_bytes};

/// The program with arguments.
pub(crate) fn flatmin(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flatmin"));
    command.args(arguments);
    command
}

/// A trajectory from automatic differentiation in another program.
pub(crate) fn trajectory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../optim/tests/data").join(name)
}

pub(crate) const RELU: [&str; 4] =
    ["relu_sgd_b1_s0.npz", "relu_sgd_b1_noclip_s0.npz", "relu_sgd_b4_s0.npz", "relu_gd_s0.npz"];
pub(crate) const DIAGONAL: [&str; 3] =
    ["diagonal_sgd_b1_s0.npz", "diagonal_sgd_b3_s0.npz", "diagonal_gd_s0.npz"];
pub(crate) const MLP: [&str; 2] = ["mlp_sgd_b4_s0.npz", "mlp_gd_s0.npz"];

/// A shape and numbers.
pub(crate) type Numbers = (Vec<usize>, Vec<f64>);

/// An array of a file.
pub(crate) fn array(path: &Path, name: &str) -> Numbers {
    let mut array = ArrayFile::open(path).unwrap().array(Some(name), &[]).unwrap();
    let values = array.values().unwrap();
    (array.shape().to_vec(), values)
}

/// Writes an `.npz` file.
pub(crate) fn write_npz(path: &Path, arrays: &[(&str, &Numbers)]) {
    let arrays: Vec<NamedArray<'_>> = arrays
        .iter()
        .map(|(name, (shape, values))| NamedArray { name, shape: shape.clone(), values })
        .collect();
    fs::write(path, npz_bytes(&arrays).unwrap()).unwrap();
}

/// A run on four samples, of `data.npz`, that is over at once.
pub(crate) const SMALL_RUN: &str = "\
seed = 0
data = 'data.npz'
[model]
kind = 'two-layer-relu'
width = 3
[optimizer]
learning_rate = 0.01
batch_size = 2
max_steps = 10
";

/// The x and y of [`SMALL_RUN`].
pub(crate) fn small_data() -> [Numbers; 2] {
    let x = (0..8).map(|k| f64::from(k) - 3.5).collect();
    [(vec![4, 2], x), (vec![4], vec![1.0, -1.0, 0.5, 2.0])]
}

/// A run that can be interrupted anywhere: `max_steps` steps, with a row of metrics and a
/// checkpoint every so many.
pub(crate) fn long_run(max_steps: u64, every: u64, checkpoint_every: u64) -> String {
    format!(
        "\
seed = 1
stopping = 'never'
[model]
kind = 'two-layer-relu'
width = 40
input_dim = 20
[data]
teacher = 'two-layer-relu'
teacher_width = 4
sample_count = 60
test_count = 50
[optimizer]
learning_rate = 0.005
batch_size = 1
sampling = 'reshuffling'
clip_norm = 1.0
schedule = 'cosine'
max_steps = {max_steps}
[metrics]
every = {every}
[output]
checkpoint_every = {checkpoint_every}
"
    )
}

/// A folder with a configuration in it.
pub(crate) struct Runs {
    pub(crate) folder: tempfile::TempDir,
}

impl Runs {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// That training with this configuration fails on its input with this message, and writes
    /// nothing.
    #[track_caller]
    pub(crate) fn fails(&self, config: &str, message: &str) {
        self.config("run.toml", config);
        let expected = format!("flatmin: {message}\n");
        self.train(&["run.toml"]).assert().code(3).stdout("").stderr(expected);
        assert!(!self.path("run").exists(), "nothing may be written");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a configuration.
    pub(crate) fn config(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// `flatmin train` in the folder.
    pub(crate) fn train(&self, arguments: &[&str]) -> Command {
        let mut command = flatmin(&["train"]);
        command.args(arguments).current_dir(self.folder.path());
        command
    }
}

/// The results of a run, which must have the same bytes after any interruption.
pub(crate) fn results(folder: &Path) -> BTreeMap<&'static str, Vec<u8>> {
    ["metrics.csv", "parameters.npz", "run.json"]
        .into_iter()
        .map(|name| (name, fs::read(folder.join(name)).unwrap()))
        .collect()
}

/// The metrics table by column.
pub(crate) fn table(folder: &Path) -> BTreeMap<String, Vec<f64>> {
    let text = fs::read_to_string(folder.join("metrics.csv")).unwrap();
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let mut columns: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for line in lines {
        let cells: Vec<&str> = line.split(',').collect();
        assert_eq!(cells.len(), names.len(), "{line}");
        for (name, cell) in names.iter().zip(cells) {
            let value = if cell.is_empty() { f64::NAN } else { cell.parse().unwrap() };
            columns.entry((*name).to_owned()).or_default().push(value);
        }
    }
    columns
}

#[track_caller]
pub(crate) fn assert_close(actual: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (k, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert!((a - e).abs() <= tolerance * e.abs().max(1.0), "{what}[{k}]: {a} against {e}");
    }
}
