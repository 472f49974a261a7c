//! Other libraries on the same work: their inputs, their scripts, and the check of their results.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use faer::{Mat, MatRef};
use flatmin_arrays::{ArrayFile, NamedArray, npz_bytes};
use flatmin_curvature::{CurvatureOptions, hessian_with};
use flatmin_linalg::{Operator as _, Parallelism, simd};
use flatmin_models::{Activation, Dataset, Model};
use flatmin_optim::{DiagonalKernel, Kernel, ReluKernel, Update};
use flatmin_workloads::{CLIP_NORM, LEARNING_RATE, PRODUCT_SAMPLES, Products, SAMPLES, Steps};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::failure::Failure;
use crate::process::{last_line, output};

/// The folder of the scripts.
const SCRIPTS: &str = "benches/peers";

/// Results whose relative difference is larger are not of the same work.
pub(crate) const TOLERANCE: f64 = 1e-9;

/// Steps of gradient descent after which parameters are compared.
const GRADIENT_STEPS: usize = 20;

/// Environment variables that make libraries use one thread of the processor.
const ONE_THREAD: [(&str, &str); 8] = [
    ("OMP_NUM_THREADS", "1"),
    ("MKL_NUM_THREADS", "1"),
    ("OPENBLAS_NUM_THREADS", "1"),
    ("NUMEXPR_NUM_THREADS", "1"),
    ("VECLIB_MAXIMUM_THREADS", "1"),
    ("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false"),
    ("NPROC", "1"),
    ("JAX_PLATFORMS", "cpu"),
];

/// Another library.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    script: &'static str,
    /// The method of the script, if it has several.
    variant: Option<&'static str>,
}

const fn peer(name: &'static str, script: &'static str, variant: Option<&'static str>) -> Peer {
    Peer { name, script, variant }
}

const STEP_PEERS: &[Peer] = &[
    peer("torch_eager", "steps_torch.py", Some("eager")),
    peer("torch_compile", "steps_torch.py", Some("compile")),
    peer("numpy_hand", "steps_numpy.py", None),
    peer("jax_grad", "steps_jax.py", Some("grad")),
    peer("jax_hand", "steps_jax.py", Some("hand")),
];

const PRODUCT_PEERS: &[Peer] = &[
    peer("torch_double_backward", "product_torch.py", None),
    peer("pyhessian", "product_pyhessian.py", None),
    peer("curvlinops", "product_curvlinops.py", None),
    peer("jax_jvp_of_grad", "product_jax.py", None),
];

/// Work that other libraries do too.
#[derive(Debug)]
pub(crate) struct Work {
    name: &'static str,
    /// The libraries that can do it.
    pub(crate) peers: &'static [Peer],
    /// Gives the inputs for a peer, and the result of flatmin.
    prepare: fn() -> Prepared,
}

const fn steps(name: &'static str, prepare: fn() -> Prepared) -> Work {
    Work { name, peers: STEP_PEERS, prepare }
}

pub(crate) const RELU_SGD: Work = steps("relu_sgd", || relu(stochastic));
pub(crate) const RELU_GD: Work = steps("relu_gd", || relu(full));
pub(crate) const DIAGONAL_SGD: Work = steps("diagonal_sgd", || diagonal(stochastic));
pub(crate) const DIAGONAL_GD: Work = steps("diagonal_gd", || diagonal(full));
pub(crate) const PRODUCT: Work = Work { name: "product", peers: PRODUCT_PEERS, prepare: product };

/// Takes the steps of a kernel, which may be those of an order of the samples.
type Train = fn(&mut dyn Kernel, &[u32]);

fn stochastic(kernel: &mut dyn Kernel, order: &[u32]) {
    kernel.single_steps(order, &[LEARNING_RATE; SAMPLES], CLIP_NORM);
}

fn full(kernel: &mut dyn Kernel, _: &[u32]) {
    let update = Update { learning_rate: LEARNING_RATE, clip_norm: CLIP_NORM };
    for _ in 0..GRADIENT_STEPS {
        kernel.full_step(update);
    }
}

fn relu(train: Train) -> Prepared {
    let steps = flatmin_workloads::relu();
    trained(&steps, ReluKernel::<f64>::new(steps.model, &steps.data, &steps.initial), train)
}

fn diagonal(train: Train) -> Prepared {
    let steps = flatmin_workloads::diagonal();
    trained(&steps, DiagonalKernel::<f64>::new(steps.model, &steps.data, &steps.initial), train)
}

fn trained<M>(steps: &Steps<M>, mut kernel: impl Kernel, train: Train) -> Prepared {
    train(&mut kernel, &steps.order);
    let mut arrays = samples(&steps.data);
    arrays.extend([
        ("initial", vec![steps.initial.len()], steps.initial.clone()),
        ("order", vec![SAMPLES], steps.order.iter().copied().map(f64::from).collect()),
        ("learning_rate", vec![], vec![LEARNING_RATE]),
        ("clip_norm", vec![], vec![CLIP_NORM]),
        ("steps", vec![], vec![GRADIENT_STEPS as f64]),
    ]);
    Prepared { arrays, start: steps.initial.clone(), answer: kernel.parameters() }
}

/// Name, shape and numbers.
type OwnedArray = (&'static str, Vec<usize>, Vec<f64>);

#[derive(Debug)]
struct Prepared {
    arrays: Vec<OwnedArray>,
    /// Differences are relative to the distance of the answer from this point.
    start: Vec<f64>,
    answer: Vec<f64>,
}

/// Work that a peer can do: the folder in which it finds its inputs and leaves its result, and the
/// expected result.
#[derive(Debug)]
pub(crate) struct Ready {
    name: &'static str,
    folder: TempDir,
    start: Vec<f64>,
    answer: Vec<f64>,
}

impl Work {
    /// Writes the inputs for the peers.
    ///
    /// # Errors
    /// [`Failure`] when they cannot be written.
    pub(crate) fn ready(&self) -> Result<Ready, Failure> {
        let Prepared { arrays, start, answer } = (self.prepare)();
        let folder = tempfile::tempdir().map_err(Failure::file(&std::env::temp_dir()))?;
        let path = folder.path().join("inputs.npz");
        let named = arrays.iter().map(|(name, shape, values)| {
            let shape = shape.clone();
            NamedArray { name, shape, values }
        });
        let bytes = npz_bytes(&named.collect::<Vec<_>>()).map_err(Failure::file(&path))?;
        fs::write(&path, bytes).map_err(Failure::file(&path))?;
        Ok(Ready { name: self.name, folder, start, answer })
    }
}

fn samples(data: &Dataset) -> Vec<OwnedArray> {
    let (n, outputs) = (data.sample_count(), data.output_dim());
    let shape = if outputs == 1 { vec![n] } else { vec![n, outputs] };
    vec![
        ("inputs", vec![n, data.inputs().columns()], data.inputs().values().to_vec()),
        ("targets", shape, data.targets().to_vec()),
    ]
}

fn product() -> Prepared {
    let Products { model, data, parameters, vectors } =
        flatmin_workloads::products(Activation::Tanh, 1);
    let p = model.parameter_count();
    let options =
        CurvatureOptions { parallelism: Parallelism::Sequential, ..CurvatureOptions::default() };
    let mut image = Mat::zeros(p, 1);
    let hessian = hessian_with(&model, &parameters, &data, &options).expect("data for the model");
    hessian.apply(MatRef::from_column_major_slice(vectors.values(), p, 1), image.as_mut());
    let widths: Vec<f64> = model.widths().into_iter().map(|width| width as f64).collect();
    let mut arrays = samples(&data);
    arrays.extend([
        ("initial", vec![p], parameters.clone()),
        ("widths", vec![widths.len()], widths),
        ("vector", vec![p], vectors.values().to_vec()),
    ]);
    Prepared { arrays, start: vec![0.0; p], answer: image.col_as_slice(0).to_vec() }
}

/// The time of a peer for the same work.
///
/// Its script prints the fields of it that are read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PeerTime {
    /// Median time.
    pub(crate) seconds: f64,
    pub(crate) minimum: f64,
    /// The time divided by that of flatmin.
    #[serde(skip_deserializing)]
    pub(crate) ratio: f64,
    pub(crate) version: String,
    /// Relative difference of its result from that of flatmin; NaN when they cannot be compared.
    #[serde(skip_deserializing)]
    pub(crate) agrees: f64,
}

impl PeerTime {
    /// True if its result is that of flatmin.
    pub(crate) fn is_right(&self) -> bool {
        self.agrees <= TOLERANCE
    }
}

/// The interpreter of the scripts.
#[derive(Debug)]
pub(crate) struct Peers {
    python: PathBuf,
    is_quick: bool,
}

impl Peers {
    /// Peers run by this interpreter.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be started, or the scripts are not here.
    pub(crate) fn new(python: &Path, is_quick: bool) -> Result<Self, Failure> {
        output(Command::new(python).arg("--version"))?;
        fs::metadata(SCRIPTS).map_err(Failure::file(Path::new(SCRIPTS)))?;
        Ok(Self { python: python.to_owned(), is_quick })
    }

    /// Runs a peer on work for which flatmin took `own_seconds`. Gives its time, or the reason why
    /// there is none.
    ///
    /// # Errors
    /// [`Failure`] when the interpreter cannot be started.
    pub(crate) fn ask(
        &self,
        peer: &Peer,
        work: &Ready,
        own_seconds: f64,
    ) -> Result<Result<PeerTime, String>, Failure> {
        let Ready { name, folder, start, answer } = work;
        let result = folder.path().join("result.npz");
        // The previous peer may have left a result.
        let _ = fs::remove_file(&result);
        let mut command = Command::new(&self.python);
        // No byte code is written, since the folder of the scripts may be read-only.
        command.arg("-B").arg(Path::new(SCRIPTS).join(peer.script)).arg(folder.path());
        command.arg(if self.is_quick { "0" } else { "3" }).arg(name).args(peer.variant);
        let output = output(command.envs(ONE_THREAD))?;
        if !output.status.success() {
            return Ok(Err(last_line(&output)));
        }
        let said = String::from_utf8_lossy(&output.stdout);
        let said = said.lines().rev().find_map(|line| serde_json::from_str::<PeerTime>(line).ok());
        let Some(mut time) = said else {
            return Ok(Err("it did not say how long it took".to_owned()));
        };
        let found =
            ArrayFile::open(&result).and_then(|file| file.array(Some("result"), &[])?.values());
        Ok(found.map_err(|error| error.to_string()).map(|found| {
            time.agrees = difference(&found, answer, start);
            time.ratio = time.seconds / own_seconds;
            time
        }))
    }
}

/// `‖found − answer‖ / ‖answer − start‖`; NaN where they cannot be compared.
fn difference(found: &[f64], answer: &[f64], start: &[f64]) -> f64 {
    if found.len() != answer.len() {
        return f64::NAN;
    }
    let distance = |a: &[f64], b: &[f64]| {
        let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
        simd::norm_squared(&differences).sqrt()
    };
    distance(found, answer) / distance(answer, start)
}

// The definitions of the benchmarks name these sizes.
const _: () = assert!(SAMPLES == 300 && PRODUCT_SAMPLES == 1000);

#[cfg(test)]
mod tests {
    use flatmin_optim::{Kernel as _, ReluKernel};
    use flatmin_workloads::{CLIP_NORM, LEARNING_RATE, SAMPLES, Steps};

    use super::{DIAGONAL_GD, DIAGONAL_SGD, PRODUCT, RELU_GD, RELU_SGD, difference};

    #[test]
    fn differences_are_relative_to_the_way_gone() {
        assert!((difference(&[1.0, 3.5], &[1.0, 3.0], &[1.0, 2.0]) - 0.5).abs() < 1e-15);
        assert!(difference(&[1.0], &[1.0, 3.0], &[1.0, 2.0]).is_nan());
    }

    /// If they did not, a peer that does nothing, or does not clip, would agree.
    #[test]
    fn steps_move_the_parameters_and_some_are_clipped() {
        for work in [RELU_SGD, RELU_GD, DIAGONAL_SGD, DIAGONAL_GD] {
            let prepared = (work.prepare)();
            assert!(difference(&prepared.start, &prepared.answer, &prepared.start) > 0.99);
        }
        let Steps { model, data, initial, order } = flatmin_workloads::relu();
        let mut kernel = ReluKernel::<f64>::new(model, &data, &initial);
        let segment = kernel.single_steps(&order, &[LEARNING_RATE; SAMPLES], CLIP_NORM);
        assert!((1..segment.steps).contains(&segment.clipped_steps), "{segment:?}");
        let product = (PRODUCT.prepare)();
        assert!(product.answer.iter().any(|value| *value != 0.0));
    }
}
