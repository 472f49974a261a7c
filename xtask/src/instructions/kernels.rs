//! The kernels that take most of the time of a reproduction, each on the inputs of the benchmarks.
//!
//! Valgrind emulates fused multiply-adds one number at a time, which is slow: kernels that are
//! cubic in the number of samples run on a part of the samples.

use std::hint::black_box;

use faer::{Accum, Mat, MatRef};
use flatmin_curvature::{CurvatureOptions, gauss_newton_sharpness, hessian_with};
use flatmin_linalg::{Operator as _, Parallelism, RowMatrix, matmul};
use flatmin_models::{Activation, Model as _};
use flatmin_optim::{DiagonalKernel, MlpKernel, ReluKernel, Update};
use flatmin_theory::{
    Batch, Gram, LinearisedSgd, Minimum, Optimizer, Sampling, SecondMoments, SimulationOptions,
    Start, ThresholdOptions, simulate, threshold_with, trace_bound,
};
use flatmin_workloads::{CLIP_NORM, LEARNING_RATE, SAMPLES, Steps};

use crate::named::Names;

/// A kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) name: &'static str,
    /// The counted work, in words.
    pub(crate) work: &'static str,
    /// Prepares the inputs and calls [`counted`] once.
    pub(crate) run: fn(),
}

/// The kernels by name.
pub(crate) const NAMES: Names<Kernel> =
    Names { kind: "kernels", all: KERNELS, name: |kernel| kernel.name };

/// A pattern that the name of [`counted`] matches under every mangling scheme of the compiler.
pub(crate) const COUNTED: &str = "*instructions*kernels*counted*";

/// Runs the work whose instructions are counted.
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
    // Without a statement after it the call would become a jump, and callgrind would see no return.
    black_box(());
}

/// Counts the instructions of the work, and keeps its result from being optimised away.
fn count<T>(mut work: impl FnMut() -> T) {
    counted(&mut || {
        black_box(work());
    });
}

const fn kernel(name: &'static str, work: &'static str, run: fn()) -> Kernel {
    Kernel { name, work, run }
}

/// All kernels, in the order in which they are counted.
pub(crate) const KERNELS: &[Kernel] = &[
    kernel("sgd_step_relu", "300 steps, m = d = 100", sgd_steps_relu),
    kernel("sgd_step_diagonal", "300 steps, d = 1000", sgd_steps_diagonal),
    kernel("sgd_step_mlp", "300 steps, 64-64-64-1, tanh", sgd_steps_mlp),
    kernel("gd_step_relu", "a step, n = 300, m = d = 100", gd_step_relu),
    kernel("gd_step_mlp", "a step, n = 300, 64-64-64-1, ReLU", gd_step_mlp),
    kernel("product", "300 × 100 × 100", dense_product),
    kernel("eigendecomposition", "n = 150", eigendecomposition),
    kernel("threshold", "products with M and certificate, n = 150", threshold),
    kernel("second_moments", "a step, n = r = 150", second_moments),
    kernel("replicas", "100 replicas × 20 steps, n = r = 150", replicas),
    kernel("metrics_relu", "n = 300, m = d = 100", metrics_relu),
    kernel("hessian_vector_product", "64-128-128-10, tanh, n = 300", hessian_vector_product),
];

const UPDATE: Update = Update { learning_rate: LEARNING_RATE, clip_norm: CLIP_NORM };

fn sgd_steps(order: &[u32], kernel: &mut dyn flatmin_optim::Kernel) {
    let rates = [UPDATE.learning_rate; SAMPLES];
    count(|| kernel.single_steps(black_box(order), &rates, UPDATE.clip_norm));
}

fn sgd_steps_relu() {
    let Steps { model, data, initial, order } = flatmin_workloads::relu();
    sgd_steps(&order, &mut ReluKernel::<f64>::new(model, &data, &initial));
}

fn sgd_steps_diagonal() {
    let Steps { model, data, initial, order } = flatmin_workloads::diagonal();
    sgd_steps(&order, &mut DiagonalKernel::<f64>::new(model, &data, &initial));
}

fn sgd_steps_mlp() {
    let Steps { model, data, initial, order } =
        flatmin_workloads::mlp(&[64, 64, 64, 1], Activation::Tanh);
    sgd_steps(&order, &mut MlpKernel::new(&model, &data, &initial));
}

fn gd_step(kernel: &mut dyn flatmin_optim::Kernel) {
    count(|| kernel.full_step(black_box(UPDATE)));
}

fn gd_step_relu() {
    let Steps { model, data, initial, .. } = flatmin_workloads::relu();
    gd_step(&mut ReluKernel::<f64>::new(model, &data, &initial));
}

fn gd_step_mlp() {
    let Steps { model, data, initial, .. } =
        flatmin_workloads::mlp(&[64, 64, 64, 1], Activation::Relu);
    gd_step(&mut MlpKernel::new(&model, &data, &initial));
}

/// Inputs times weights, as in a forward pass.
fn dense_product() {
    let Steps { model, data, initial, .. } = flatmin_workloads::relu();
    let (weights, _) = model.split(&initial);
    let weights = MatRef::from_column_major_slice(weights, data.inputs().columns(), model.width());
    let mut out = Mat::zeros(SAMPLES, model.width());
    count(|| {
        let inputs = black_box(data.inputs().as_mat());
        matmul(out.as_mut(), Accum::Replace, inputs, weights, 1.0);
        black_box(&mut out);
    });
}

/// Number of samples of a Gram matrix.
const GRAM_SAMPLES: usize = 150;

/// The Gram matrix of the ReLU network at its initial parameters.
fn gram() -> Gram {
    let Steps { model, data, initial, .. } = flatmin_workloads::relu();
    let inputs = data.inputs();
    let part = RowMatrix::from_fn(GRAM_SAMPLES, inputs.columns(), |i, j| inputs.row(i)[j]);
    Gram::from_means(model.gram(&initial, &part)).expect("gradients are finite")
}

fn minimum() -> Minimum {
    Minimum::from_gram(gram(), Parallelism::Sequential).expect("gradients are finite")
}

fn one_sample() -> Batch {
    Batch::new(1, Sampling::WithReplacement).expect("one sample")
}

fn eigendecomposition() {
    let mut gram = Some(gram());
    count(|| gram.take().map(|gram| Minimum::from_gram(gram, Parallelism::Sequential)));
}

fn threshold() {
    let minimum = minimum();
    let options = ThresholdOptions::default();
    count(|| threshold_with(black_box(&minimum), &Optimizer::sgd(), &one_sample(), &options).ok());
}

fn sgd(minimum: &Minimum) -> LinearisedSgd<'_> {
    let learning_rate = 0.5 * trace_bound(minimum.sharpness().trace, 1.0);
    LinearisedSgd::new(minimum, &Optimizer::sgd(), &one_sample(), learning_rate)
        .expect("a moderate rate")
}

fn second_moments() {
    let minimum = minimum();
    let mut moments = SecondMoments::new(&sgd(&minimum)).expect("independent batches");
    count(|| {
        moments.step();
        black_box(&mut moments);
    });
}

fn replicas() {
    let minimum = minimum();
    let sgd = sgd(&minimum);
    let rank = minimum.eigenvalues().len();
    let form = RowMatrix::from_fn(rank, rank, |i, j| f64::from(u8::from(i == j)));
    let options = SimulationOptions { replicas: 100, steps: &[20], start: Start::Signs, seed: 0 };
    count(|| simulate(&sgd, black_box(&form), options).ok());
}

fn metrics_relu() {
    let Steps { model, data, initial, .. } = flatmin_workloads::relu();
    count(|| gauss_newton_sharpness(&model, black_box(&initial), data.inputs()).ok());
}

fn hessian_vector_product() {
    let Steps { model, data, initial, .. } =
        flatmin_workloads::mlp(&[64, 128, 128, 10], Activation::Tanh);
    let parallelism = Parallelism::Sequential;
    let options = CurvatureOptions { parallelism, ..CurvatureOptions::default() };
    let hessian = hessian_with(&model, &initial, &data, &options).expect("data for the model");
    let p = model.parameter_count();
    let mut image = Mat::zeros(p, 1);
    count(|| {
        let vector = black_box(MatRef::from_column_major_slice(&initial, p, 1));
        hessian.apply(vector, image.as_mut());
        black_box(&mut image);
    });
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::KERNELS;

    #[test]
    fn names_are_taken_once() {
        let names: BTreeSet<&str> = KERNELS.iter().map(|kernel| kernel.name).collect();
        assert_eq!(names.len(), KERNELS.len());
    }
}
