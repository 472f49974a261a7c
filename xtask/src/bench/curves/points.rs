//! The points of the curves: work of a given size, timed in a process of its own.

use std::hint::black_box;
use std::time::Instant;

use flatmin_curvature::{ModelJacobian, gauss_newton_sharpness};
use flatmin_host::peak_memory_bytes;
use flatmin_linalg::{DenseJacobian, Parallelism, RowMatrix, stream};
use flatmin_models::Model as _;
use flatmin_optim::{
    DiagonalKernel, Kernel, Method, ReluKernel, Sampling, StoppingRule, TrainOptions, Trainer,
    Update,
};
use flatmin_theory::{
    Batch, BracketOptions, Gram, Minimum, Optimizer, Sampling as Draws, ThresholdOptions,
    threshold_bracket, threshold_with,
};
use flatmin_workloads::{CLIP_NORM, LEARNING_RATE, SAMPLES, Steps, diagonal_of, relu_of};
use rand_distr::{Distribution as _, StandardNormal};

use crate::bench::measure::{Measured, median_and_minimum};

/// Times repeated work.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timer {
    /// Time one repetition only.
    is_quick: bool,
    idle_bytes: Option<u64>,
}

/// Fast work is repeated for this long between two readings of the clock.
const SAMPLE_SECONDS: f64 = 0.02;

/// Approximate time of all repetitions.
const TOTAL_SECONDS: f64 = 0.5;

impl Timer {
    /// Must be called before the work is prepared, since it records the memory of the process.
    pub(super) fn new(is_quick: bool) -> Self {
        Self { is_quick, idle_bytes: peak_memory_bytes() }
    }

    /// Times `work`, which takes `count` steps or calls.
    fn repeat<T>(self, count: usize, mut work: impl FnMut() -> T) -> Measured {
        let mut work = || drop(black_box(work()));
        let once = seconds(&mut work);
        // The clock may be too coarse for a single call.
        let once = once.max(1e-9);
        let repetitions = if self.is_quick { 1.0 } else { (SAMPLE_SECONDS / once).ceil().max(1.0) };
        let sample = || {
            let mut done = 0.0;
            let time = seconds(&mut || {
                while done < repetitions {
                    work();
                    done += 1.0;
                }
            });
            time / repetitions / count as f64
        };
        self.samples(once * repetitions, sample)
    }

    /// Times work that consumes a value of `prepare`.
    fn anew<T>(self, prepare: impl Fn() -> T, mut work: impl FnMut(T)) -> Measured {
        let mut sample = || {
            let mut prepared = Some(prepare());
            seconds(&mut || prepared.take().into_iter().for_each(&mut work))
        };
        let once = sample();
        self.samples(once, sample)
    }

    /// Median and minimum of 3 to 25 samples that take about `each` seconds.
    fn samples(self, each: f64, mut sample: impl FnMut() -> f64) -> Measured {
        let is_enough = |count: usize| {
            count >= 25 || self.is_quick || count >= 3 && count as f64 * each > TOTAL_SECONDS
        };
        let mut values = vec![sample()];
        while !is_enough(values.len()) {
            values.push(sample());
        }
        let (seconds, minimum) = median_and_minimum(values);
        let (memory_bytes, idle_bytes) = (peak_memory_bytes(), self.idle_bytes);
        Measured { seconds, minimum, memory_bytes, idle_bytes, products: None }
    }
}

fn seconds(work: &mut dyn FnMut()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

const UPDATE: Update = Update { learning_rate: LEARNING_RATE, clip_norm: CLIP_NORM };

fn sgd_steps(timer: Timer, order: &[u32], mut kernel: impl Kernel) -> Measured {
    let rates = [LEARNING_RATE; SAMPLES];
    timer.repeat(SAMPLES, || kernel.single_steps(order, &rates, CLIP_NORM))
}

pub(super) fn sgd_relu(width: usize, input_dim: usize, timer: Timer) -> Measured {
    let Steps { model, data, initial, order } = relu_of(SAMPLES, width, input_dim);
    sgd_steps(timer, &order, ReluKernel::<f64>::new(model, &data, &initial))
}

pub(super) fn sgd_diagonal_inputs(input_dim: usize, timer: Timer) -> Measured {
    let Steps { model, data, initial, order } = diagonal_of(input_dim);
    sgd_steps(timer, &order, DiagonalKernel::<f64>::new(model, &data, &initial))
}

pub(super) fn gd_relu_samples(samples: usize, timer: Timer) -> Measured {
    let Steps { model, data, initial, .. } = relu_of(samples, 100, 100);
    let mut kernel = ReluKernel::<f64>::new(model, &data, &initial);
    timer.repeat(1, || kernel.full_step(UPDATE))
}

/// A whole run of SGD, with the training loop and its checks for convergence.
pub(super) fn train_relu_steps(steps: usize, timer: Timer) -> Measured {
    let Steps { model, data, initial, .. } = relu_of(SAMPLES, 100, 100);
    let method = Method::Sgd { batch_size: 1, sampling: Sampling::WithReplacement };
    let options = TrainOptions {
        clip_norm: CLIP_NORM,
        stopping: StoppingRule::never(),
        ..TrainOptions::new(method, LEARNING_RATE, steps as u64)
    };
    timer.repeat(1, || {
        let rng = stream(0, "curve order", 0);
        Trainer::new(&model, &data, &initial, &options, rng).map(|trainer| trainer.run(|_| ()))
    })
}

pub(super) fn metrics_relu_samples(samples: usize, timer: Timer) -> Measured {
    let Steps { model, data, initial, .. } = relu_of(samples, 100, 100);
    timer.repeat(1, || gauss_newton_sharpness(&model, &initial, data.inputs()).ok())
}

/// The threshold from the Gram matrix, with the eigendecomposition, on all cores.
pub(super) fn threshold_samples(samples: usize, timer: Timer) -> Measured {
    let parallelism = Parallelism::Rayon;
    let options = ThresholdOptions { parallelism, ..ThresholdOptions::default() };
    let gram = || {
        let Steps { model, data, initial, .. } = relu_of(samples, 100, 100);
        Gram::from_means(model.gram(&initial, data.inputs())).expect("gradients are finite")
    };
    timer.anew(gram, |gram| {
        let minimum = Minimum::from_gram(gram, parallelism).expect("gradients are finite");
        let batch = Batch::new(1, Draws::WithReplacement).expect("one sample");
        black_box(threshold_with(&minimum, &Optimizer::sgd(), &batch, &options).ok());
    })
}

/// The bracket for the thresholds of [`threshold_samples`], with its products, on all cores.
pub(super) fn bracket_samples(samples: usize, timer: Timer) -> Measured {
    let parallelism = Parallelism::Rayon;
    let options = BracketOptions { parallelism, max_rank: samples, ..BracketOptions::default() };
    let batch = Batch::new(1, Draws::WithReplacement).expect("one sample");
    let Steps { model, data, initial, .. } = relu_of(samples, 100, 100);
    let jacobian = ModelJacobian::new(&model, &initial, &data, parallelism).expect("the data fit");
    timer.repeat(1, || threshold_bracket(&jacobian, &Optimizer::sgd(), &batch, &options).ok())
}

/// The certified bracket of a subspace of this rank, however wide it is.
pub(super) fn bracket_rank(rank: usize, timer: Timer) -> Measured {
    // No bracket of these ranks is as narrow as this.
    bracket_of(1, BracketOptions { relative_width: 1e-6, max_rank: rank, ..all_cores() }, timer)
}

/// The bracket of the default width for samples with this many outputs.
pub(super) fn bracket_outputs(outputs: usize, timer: Timer) -> Measured {
    bracket_of(outputs, BracketOptions { max_rank: BRACKET_ROWS, ..all_cores() }, timer)
}

fn all_cores() -> BracketOptions {
    BracketOptions { parallelism: Parallelism::Rayon, ..BracketOptions::default() }
}

/// The rows of a Jacobian in memory: samples times outputs.
const BRACKET_ROWS: usize = 2000;

/// A bracket for a matrix of which r modes leave about 20/(r + 20) of the trace, as at trained
/// perceptrons.
fn bracket_of(outputs: usize, options: BracketOptions, timer: Timer) -> Measured {
    let mut rng = stream(0, "bracket curves", 0);
    let matrix = RowMatrix::from_fn(BRACKET_ROWS, 1500, |_, column| {
        let value: f64 = StandardNormal.sample(&mut rng);
        (value + 0.1) / (1.0 + column as f64 / 20.0)
    });
    let jacobian = DenseJacobian::new(&matrix, outputs, options.parallelism)
        .expect("the rows are divided by the outputs");
    let batch = Batch::new(1, Draws::WithReplacement).expect("one sample");
    timer.repeat(1, || threshold_bracket(&jacobian, &Optimizer::sgd(), &batch, &options).ok())
}
