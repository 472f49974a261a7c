//! Poisson batches: the moments of their gradient, fused kernels against the plain definition, and
//! runs that are stored and replayed.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use flatmin_linalg::{RowMatrix, simd, stream};
use flatmin_models::{Activation, Dataset, DiagonalLinear, Mlp, Model, TwoLayerRelu, data};
use flatmin_optim::{
    BatchOrder, BatchSampler, Kernel, Method, Optimizer, OptimizerState, PlainKernel, Precision,
    Samples, Sampling, Schedule, StoppingRule, TrainOptions, Trainable, Trainer, Update,
};
use flatmin_theory::Batch;
use rand::RngExt as _;

const SAMPLES: usize = 7;
const BATCH_SIZE: usize = 2;

fn problem(model: &impl Model) -> (Dataset, Vec<f64>) {
    let mut rng = stream(8, "poisson test", 0);
    let inputs = data::sphere_inputs(SAMPLES, model.input_dim(), &mut rng);
    let targets =
        RowMatrix::from_fn(SAMPLES, model.output_dim(), |_, _| rng.random_range(-1.0..1.0));
    let initial = (0..model.parameter_count()).map(|_| rng.random_range(-0.5..0.5)).collect();
    (Dataset::with_outputs(inputs, &targets).unwrap(), initial)
}

const STEP: Update = Update { learning_rate: 1.0, clip_norm: f64::INFINITY };

/// The gradient by which a step at learning rate 1 moves the parameters.
fn gradient(mut kernel: Box<dyn Kernel + '_>, samples: Samples<'_>) -> Vec<f64> {
    let before = kernel.parameters();
    let step = kernel.step(samples, STEP);
    let moves: Vec<f64> =
        before.iter().zip(kernel.parameters()).map(|(before, after)| before - after).collect();
    let norm = simd::norm_squared(&moves).sqrt();
    assert!((norm - step.gradient_norm).abs() < 1e-12 * norm.max(1.0), "{norm} {step:?}");
    moves
}

/// The moments of S16, `E g_B = ∇R` and `E g_B g_Bᵀ = α ∇R ∇Rᵀ + p (1/n) Σ g_i g_iᵀ`, by all 2ⁿ
/// batches with their probabilities, for the kernel that the model is trained with.
fn check_moments(model: &impl Trainable) {
    let (data, initial) = problem(model);
    let p = initial.len();
    let kernel = || model.kernel(&data, &initial);
    let mean = gradient(kernel(), Samples::All);
    let singles: Vec<Vec<f64>> = (0..u32::try_from(SAMPLES).unwrap())
        .map(|sample| gradient(kernel(), Samples::Batch(&[sample])))
        .collect();
    let noise = Batch::new(BATCH_SIZE, Sampling::Poisson).unwrap().noise(SAMPLES).unwrap();
    let q = BATCH_SIZE as f64 / SAMPLES as f64;
    let (mut first, mut second) = (vec![0.0; p], vec![0.0; p * p]);
    for subset in 0..1_u32 << SAMPLES {
        let batch: Vec<u32> = (0..32).filter(|sample| subset >> sample & 1 == 1).collect();
        let others = SAMPLES - batch.len();
        let probability = (0..batch.len()).map(|_| q).product::<f64>()
            * (0..others).map(|_| 1.0 - q).product::<f64>();
        let samples = Samples::Drawn { batch: &batch, batch_size: BATCH_SIZE };
        let drawn = gradient(kernel(), samples);
        let plain = gradient(Box::new(PlainKernel::new(model, &data, &initial)), samples);
        for (a, b) in drawn.iter().zip(&plain) {
            assert!((a - b).abs() < 1e-13, "{model:?}, {batch:?}: {a} against {b}");
        }
        simd::axpy(probability, &drawn, &mut first);
        for (row, value) in second.chunks_exact_mut(p).zip(&drawn) {
            simd::axpy(probability * value, &drawn, row);
        }
    }
    for (a, b) in first.iter().zip(&mean) {
        assert!((a - b).abs() < 1e-13, "{model:?}: mean {a} against {b}");
    }
    for (row, j) in second.chunks_exact(p).zip(0..) {
        for (k, value) in row.iter().enumerate() {
            let own = singles.iter().map(|g| g[j] * g[k]).sum::<f64>() / SAMPLES as f64;
            let expected = noise.mean_weight() * mean[j] * mean[k] + noise.coefficient * own;
            assert!((value - expected).abs() < 1e-12, "{model:?}: {value} against {expected}");
        }
    }
}

#[test]
fn the_batch_gradient_has_the_moments_of_the_theory() {
    check_moments(&TwoLayerRelu::new(5, 3).unwrap());
    check_moments(&DiagonalLinear::new(4).unwrap());
    check_moments(&Mlp::new(&[3, 4, 2], Activation::Tanh, true).unwrap());
}

fn options(optimizer: Optimizer, max_steps: u64) -> TrainOptions {
    TrainOptions {
        method: Method::Sgd { batch_size: BATCH_SIZE, sampling: Sampling::Poisson },
        optimizer,
        learning_rate: 0.05,
        schedule: Schedule::Constant,
        clip_norm: f64::INFINITY,
        max_steps,
        precision: Precision::Float64,
        stopping: StoppingRule::never(),
        checkpoints: Vec::new(),
    }
}

/// The trainer draws such batches: the mean of its first step is that of gradient descent.
#[test]
fn a_first_step_is_unbiased() {
    const RUNS: u64 = 4000;
    let model = DiagonalLinear::new(4).unwrap();
    let (data, initial) = problem(&model);
    let mean = gradient(model.kernel(&data, &initial), Samples::All);
    let options = TrainOptions { learning_rate: 1.0, ..options(Optimizer::sgd(), 1) };
    let (mut sums, mut squares) = (vec![0.0; mean.len()], vec![0.0; mean.len()]);
    for index in 0..RUNS {
        let rng = stream(2, "batches", index);
        let run = Trainer::new(&model, &data, &initial, &options, rng).unwrap().run(|_| {});
        for (k, (before, after)) in initial.iter().zip(run.parameters).enumerate() {
            sums[k] += before - after;
            squares[k] += (before - after) * (before - after);
        }
    }
    // Five standard errors are exceeded by one of these eight coordinates in 2·10⁵ runs.
    for (k, expected) in mean.iter().enumerate() {
        let found = sums[k] / RUNS as f64;
        let error = ((squares[k] / RUNS as f64 - found * found) / RUNS as f64).sqrt();
        assert!((found - expected).abs() < 5.0 * error, "{found} against {expected} ± {error}");
    }
}

/// Every model and precision that has a kernel of its own, with and without momentum.
#[test]
fn a_run_can_be_stored_and_its_batches_replayed() {
    fn check(model: &impl Trainable, optimizer: Optimizer, precision: Precision) {
        let (data, initial) = problem(model);
        let options = TrainOptions { precision, ..options(optimizer, 150) };
        let start =
            || Trainer::new(model, &data, &initial, &options, stream(5, "batches", 0)).unwrap();
        let whole = start().run(|_| {});
        let mut trainer = start();
        while trainer.outcome().is_none() {
            let state = serde_json::to_string(&trainer.state().unwrap()).unwrap();
            trainer = start();
            trainer.restore(&serde_json::from_str(&state).unwrap()).unwrap();
            trainer.advance();
        }
        assert_eq!(
            (trainer.parameters(), trainer.total()),
            (whole.parameters.clone(), whole.total)
        );

        let mut sampler = BatchSampler::new(Sampling::Poisson, BATCH_SIZE, SAMPLES).unwrap();
        let mut rng = stream(5, "batches", 0);
        let batches: Vec<Vec<u32>> = (0..150)
            .map(|_| {
                let mut batch = Vec::new();
                sampler.draw(&mut rng, &mut batch);
                batch
            })
            .collect();
        assert!(batches.iter().any(Vec::is_empty) && batches.iter().any(|batch| batch.len() > 4));
        let order = BatchOrder::drawn(BATCH_SIZE, &batches, SAMPLES).unwrap();
        let replay = Trainer::replay(model, &data, &initial, &options, &order).unwrap();
        let replay = replay.run(|_| {});
        assert_eq!((replay.parameters, replay.total), (whole.parameters, whole.total));
    }
    let momentum = Optimizer::sgd().momentum(0.9).unwrap().weight_decay(0.01).unwrap();
    let relu = TwoLayerRelu::new(5, 3).unwrap();
    let diagonal = DiagonalLinear::new(4).unwrap();
    for (optimizer, precision) in [
        (Optimizer::sgd(), Precision::Float64),
        (Optimizer::sgd(), Precision::Float32),
        (momentum, Precision::Float64),
    ] {
        check(&relu, optimizer, precision);
        check(&diagonal, optimizer, precision);
    }
    check(&Mlp::new(&[3, 4, 2], Activation::Relu, true).unwrap(), momentum, Precision::Float64);
    let tanh = Mlp::new(&[3, 4, 2], Activation::Tanh, true).unwrap();
    check(&tanh, Optimizer::sgd(), Precision::Float64);
}

#[test]
fn batches_of_one_on_average_are_drawn_too() {
    let model = TwoLayerRelu::new(5, 3).unwrap();
    let (data, initial) = problem(&model);
    let method = Method::Sgd { batch_size: 1, sampling: Sampling::Poisson };
    let options = TrainOptions { method, ..options(Optimizer::sgd(), 50) };
    let run = Trainer::new(&model, &data, &initial, &options, stream(5, "batches", 0));
    let run = run.unwrap().run(|_| {});
    let mut sampler = BatchSampler::new(Sampling::Poisson, 1, SAMPLES).unwrap();
    let (mut rng, mut batch) = (stream(5, "batches", 0), Vec::new());
    let mut plain = PlainKernel::new(&model, &data, &initial);
    for _ in 0..50 {
        batch.clear();
        sampler.draw(&mut rng, &mut batch);
        let samples = Samples::Drawn { batch: &batch, batch_size: 1 };
        plain.step(samples, Update { learning_rate: 0.05, clip_norm: f64::INFINITY });
    }
    for (a, b) in run.parameters.iter().zip(plain.parameters()) {
        assert!((a - b).abs() < 1e-13, "{a} against {b}");
    }
}

/// Without samples momentum and weight decay act on the gradient zero.
#[test]
fn an_empty_batch_is_a_step_with_gradient_zero() {
    let model = DiagonalLinear::new(4).unwrap();
    let (data, initial) = problem(&model);
    let (momentum, decay, rate) = (0.9, 0.1, 0.05);
    let optimizer = Optimizer::sgd().momentum(momentum).unwrap().weight_decay(decay).unwrap();
    let state = OptimizerState::default();
    let mut kernel = PlainKernel::with_optimizer(&model, &data, &initial, optimizer, state);
    let empty = Samples::Drawn { batch: &[], batch_size: BATCH_SIZE };
    let update = Update { learning_rate: rate, clip_norm: f64::INFINITY };
    kernel.step(Samples::Drawn { batch: &[0, 3, 4], batch_size: BATCH_SIZE }, update);
    let before = kernel.parameters();
    let step = kernel.step(empty, update);
    assert_eq!((step.loss, step.gradient_norm, step.clipped), (0.0, 0.0, false));
    for ((after, before), initial) in kernel.parameters().iter().zip(&before).zip(&initial) {
        let buffer = (initial - before) / rate;
        let expected = before - rate * (momentum * buffer + decay * before);
        assert!((after - expected).abs() < 1e-14, "{after} against {expected}");
    }
}
