//! Momentum and weight decay compared with `torch.optim.SGD` and with the linear recursion of the
//! theory, and runs with them stopped and resumed.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "helpers of tests on small files"
)]

mod npz;

use flatmin_linalg::{RowMatrix, simd, stream};
use flatmin_models::{Activation, Dataset, DiagonalLinear, Mlp, Model, TwoLayerRelu};
use flatmin_optim::{
    BatchOrder, Kernel as _, Method, Optimizer, OptimizerState, Outcome, PlainKernel, Precision,
    Sampling, Schedule, StoppingRule, TrainError, TrainOptions, TrainState, Trainable, Trainer,
    Update,
};
use proptest::{collection, prop_assert_eq, proptest};

use self::npz::{Arrays, matrix, read_npz};

fn options(method: Method, optimizer: Optimizer, max_steps: u64) -> TrainOptions {
    TrainOptions {
        method,
        optimizer,
        learning_rate: 0.02,
        schedule: Schedule::Constant,
        clip_norm: f64::INFINITY,
        max_steps,
        precision: Precision::Float64,
        stopping: StoppingRule::never(),
        checkpoints: Vec::new(),
    }
}

fn sgd(batch_size: usize) -> Method {
    Method::Sgd { batch_size, sampling: Sampling::WithoutReplacement }
}

/// Every kind of momentum, alone and with each kind of weight decay.
fn optimizers() -> Vec<Optimizer> {
    let heavy_ball = Optimizer::sgd().momentum(0.9).unwrap();
    let momentum = [
        Optimizer::sgd(),
        heavy_ball,
        heavy_ball.dampening(0.3).unwrap(),
        heavy_ball.nesterov().unwrap(),
    ];
    let coupled = momentum.map(|optimizer| optimizer.weight_decay(0.05).unwrap());
    let decoupled = momentum.map(|optimizer| optimizer.decoupled_weight_decay(0.05).unwrap());
    [momentum, coupled, decoupled].concat()
}

/// The optimizer that an archive describes: momentum, dampening, 1 for Nesterov, coupled and
/// decoupled weight decay.
fn recorded_optimizer(settings: &[f64]) -> Optimizer {
    let [momentum, dampening, nesterov, coupled, decoupled] = settings else {
        panic!("five settings");
    };
    let optimizer = Optimizer::sgd().momentum(*momentum).unwrap();
    let optimizer = optimizer.dampening(*dampening).unwrap().weight_decay(*coupled).unwrap();
    let optimizer = optimizer.decoupled_weight_decay(*decoupled).unwrap();
    if *nesterov > 0.0 { optimizer.nesterov().unwrap() } else { optimizer }
}

fn finish<M: Trainable, R: rand::Rng>(mut trainer: Trainer<'_, M, R>) -> Vec<f64> {
    while trainer.outcome().is_none() {
        trainer.advance();
    }
    trainer.parameters()
}

/// Replays every optimizer of an archive with every kind of batches.
fn check_archive(file: &str, model: &impl Trainable) {
    const NAMES: [&str; 9] = [
        "sgd",
        "momentum",
        "dampening",
        "nesterov",
        "weight_decay",
        "decoupled_weight_decay",
        "dampening_weight_decay",
        "nesterov_weight_decay",
        "momentum_decoupled_weight_decay",
    ];
    let arrays: Arrays = read_npz(file);
    let data = Dataset::new(matrix(&arrays, "x"), arrays["y"].1.clone()).unwrap();
    let initial = &arrays["initial"].1;
    for name in NAMES {
        let optimizer = recorded_optimizer(&arrays[name].1);
        for run in ["b1", "b3", "gd"] {
            let order = matrix(&arrays, &format!("{run}_order"));
            let indices = order.values().iter().map(|index| *index as u32).collect();
            let (all, size) = (order.rows() as u64, order.columns());
            let order = BatchOrder::new(size, indices, data.sample_count()).unwrap();
            let expected = matrix(&arrays, &format!("{run}_{name}"));
            let options = TrainOptions {
                learning_rate: arrays["learning_rate"].1[0],
                clip_norm: arrays[&format!("{run}_clip_norm")].1[0],
                schedule: if arrays[&format!("{run}_is_cosine")].1[0] > 0.0 {
                    Schedule::Cosine
                } else {
                    Schedule::Constant
                },
                checkpoints: arrays["steps"].1.iter().map(|step| *step as u64).collect(),
                ..options(sgd(size), optimizer, all)
            };
            let full = TrainOptions { method: Method::GradientDescent, ..options.clone() };
            let rng = stream(0, "optimizer test", 0);
            let trainer = if run == "gd" {
                Trainer::new(model, &data, initial, &full, rng)
            } else {
                Trainer::replay(model, &data, initial, &options, &order)
            };
            let mut trainer = trainer.unwrap();
            for (row, step) in options.checkpoints.iter().enumerate() {
                while trainer.step() < *step {
                    trainer.advance();
                }
                let parameters = trainer.parameters();
                assert_eq!(parameters.len(), expected.columns());
                for (k, (a, b)) in parameters.iter().zip(expected.row(row)).enumerate() {
                    let close = (a - b).abs() <= 1e-10 * b.abs().max(1.0);
                    assert!(close, "{file} {run} {name}: {a} against {b} at [{k}], step {step}");
                }
            }
        }
    }
}

#[test]
fn steps_are_those_of_pytorch() {
    check_archive("optimizers_relu.npz", &TwoLayerRelu::new(5, 4).unwrap());
    check_archive("optimizers_diagonal.npz", &DiagonalLinear::new(4).unwrap());
    let perceptron = Mlp::new(&[4, 5, 3, 1], Activation::Tanh, true).unwrap();
    check_archive("optimizers_mlp.npz", &perceptron);
}

fn relu_problem() -> (TwoLayerRelu, Dataset, Vec<f64>) {
    let model = TwoLayerRelu::new(5, 4).unwrap();
    let mut rng = stream(3, "optimizer test", 0);
    let inputs = flatmin_models::data::sphere_inputs(11, 4, &mut rng);
    let targets = (0..11).map(|i| f64::from(i % 3) - 1.0).collect();
    let initial = model.initial_parameters(&mut rng);
    (model, Dataset::new(inputs, targets).unwrap(), initial)
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn a_run_that_was_stopped_has_the_bits_of_one_that_was_not() {
    let (model, data, initial) = relu_problem();
    let methods = [
        Method::GradientDescent,
        sgd(1),
        sgd(4),
        Method::Sgd { batch_size: 3, sampling: Sampling::WithReplacement },
        Method::Sgd { batch_size: 2, sampling: Sampling::Reshuffling },
    ];
    for optimizer in optimizers() {
        for method in methods {
            let options = TrainOptions {
                clip_norm: 1.0,
                schedule: Schedule::Step,
                ..options(method, optimizer, 90)
            };
            let start = || {
                Trainer::new(&model, &data, &initial, &options, stream(5, "batches", 0)).unwrap()
            };
            let whole = finish(start());
            let mut trainer = start();
            while trainer.outcome().is_none() {
                // As in a program: the state is written, read, and restored by another trainer.
                let text = serde_json::to_string(&trainer.state().unwrap()).unwrap();
                let keeps = optimizer.momentum_coefficient() > 0.0 && trainer.step() > 0;
                assert_eq!(text.contains("momentum_buffer"), keeps, "{optimizer}");
                trainer = start();
                trainer.restore(&serde_json::from_str::<TrainState>(&text).unwrap()).unwrap();
                trainer.advance();
            }
            assert_eq!(bits(&trainer.parameters()), bits(&whole), "{optimizer}, {method:?}");
        }
    }
}

#[test]
fn a_state_of_another_optimizer_is_refused() {
    let (model, data, initial) = relu_problem();
    let with = |optimizer| options(sgd(1), optimizer, 30);
    let momentum = Optimizer::sgd().momentum(0.5).unwrap();
    let (plain, heavy_ball) = (with(Optimizer::sgd()), with(momentum));
    let start = |options| Trainer::new(&model, &data, &initial, options, stream(5, "batches", 0));
    let state = |options| {
        let mut trainer = start(options).unwrap();
        trainer.advance();
        trainer.state().unwrap()
    };
    for (here, there) in [(&plain, &heavy_ball), (&heavy_ball, &plain)] {
        let error = start(here).unwrap().restore(&state(there)).unwrap_err().to_string();
        assert_eq!(error, "the state does not fit this run: it has another optimizer");
        start(here).unwrap().restore(&state(here)).unwrap();
    }
}

#[test]
fn float32_is_for_plain_sgd() {
    let (model, data, initial) = relu_problem();
    let optimizer = Optimizer::sgd().weight_decay(0.1).unwrap();
    let options = TrainOptions { precision: Precision::Float32, ..options(sgd(1), optimizer, 10) };
    let trainer = Trainer::new(&model, &data, &initial, &options, stream(5, "batches", 0));
    assert_eq!(trainer.unwrap_err(), TrainError::Float32Optimizer { optimizer });
}

/// Gradient descent on one sample x with target 0 multiplies ⟨x, θ⟩ by `1 − η‖x‖²` in each step,
/// which is 0.9 here. The rest of θ does not change.
#[test]
fn one_sample_is_a_full_batch_and_a_batch_of_one() {
    let model = Mlp::new(&[2, 1], Activation::Identity, false).unwrap();
    let data = Dataset::new(RowMatrix::from_fn(1, 2, |_, j| [1.0, -2.0][j]), vec![0.0]).unwrap();
    let initial = [3.0, 0.5];
    for method in [Method::GradientDescent, sgd(1)] {
        let options = options(method, Optimizer::sgd(), 10);
        let rng = stream(0, "optimizer test", 1);
        let found = finish(Trainer::new(&model, &data, &initial, &options, rng).unwrap());
        let lost = (1.0 - 0.9_f64.powi(10)) * 2.0 / 5.0;
        for (found, expected) in found.iter().zip([3.0 - lost, 0.5 + 2.0 * lost]) {
            assert!((found - expected).abs() < 1e-14, "{method:?}: {found} {expected}");
        }
    }
}

/// Each step multiplies ⟨x, θ⟩ by −2, so that the norm of θ after t steps is about 2ᵗ/√5. It exceeds
/// 10⁸ for the first time after 28 steps.
#[test]
fn a_run_that_diverges_ends_with_the_epoch_in_which_its_norm_is_large() {
    let model = Mlp::new(&[2, 1], Activation::Identity, false).unwrap();
    let data = Dataset::new(RowMatrix::from_fn(1, 2, |_, j| [1.0, -2.0][j]), vec![0.0]).unwrap();
    for method in [Method::GradientDescent, sgd(1)] {
        let options =
            TrainOptions { learning_rate: 0.6, ..options(method, Optimizer::sgd(), 1000) };
        let rng = stream(0, "optimizer test", 1);
        let mut trainer = Trainer::new(&model, &data, &[1.0, 0.0], &options, rng).unwrap();
        while trainer.outcome().is_none() {
            trainer.advance();
        }
        assert_eq!(trainer.outcome(), Some(Outcome::Diverged));
        assert_eq!(trainer.step(), 28, "{method:?}");
    }
}

/// Compares steps with the recursion `z' = A z − η b · H_I (cᵀz)` of S15, for a linear function
/// whose targets are zero. There θ is the distance from the minimum, also with weight decay.
#[test]
fn steps_on_a_quadratic_are_those_of_the_linear_recursion() {
    let (n, d, learning_rate) = (6, 3, 0.02);
    let model = Mlp::new(&[d, 1], Activation::Identity, false).unwrap();
    let mut rng = stream(4, "optimizer test", 0);
    let inputs = flatmin_models::data::cube_inputs(n, d, &mut rng);
    let data = Dataset::new(inputs, vec![0.0; n]).unwrap();
    let initial = [1.0, -0.5, 0.25];
    let batches: Vec<[u32; 2]> = (0..60).map(|t| [t % 6, (t * t + 1) % 6]).collect();
    let order = BatchOrder::new(2, batches.concat(), n).unwrap();
    for optimizer in optimizers() {
        let system = optimizer.state_space(learning_rate);
        let size = system.input.len();
        // `H_I` times a vector.
        let curvature = |batch: &[u32], vector: &[f64]| {
            let mut product = vec![0.0; d];
            for &sample in batch {
                let x = data.inputs().row(sample as usize);
                simd::axpy(simd::dot(x, vector) / batch.len() as f64, x, &mut product);
            }
            product
        };
        let mut state = vec![vec![0.0; d]; size];
        state[0] = initial.to_vec();
        if size > 1 {
            // This velocity undoes the dampening of the first step, which PyTorch does not dampen.
            let mut gradient = curvature(&batches[0], &initial);
            simd::axpy(optimizer.coupled_decay(), &initial, &mut gradient);
            let dampened = optimizer.dampening_coefficient() / optimizer.momentum_coefficient();
            state[1] = gradient.iter().map(|g| -learning_rate * dampened * g).collect();
        }
        let options = options(sgd(2), optimizer, 60);
        let mut trainer = Trainer::replay(&model, &data, &initial, &options, &order).unwrap();
        for batch in &batches {
            let mut seen = vec![0.0; d];
            for (z, c) in state.iter().zip(&system.output) {
                simd::axpy(*c, z, &mut seen);
            }
            let force = curvature(batch, &seen);
            state = (0..size)
                .map(|row| {
                    let mut next = vec![0.0; d];
                    for (z, a) in state.iter().zip(system.transition.row(row)) {
                        simd::axpy(*a, z, &mut next);
                    }
                    simd::axpy(-learning_rate * system.input[row], &force, &mut next);
                    next
                })
                .collect();
        }
        while trainer.outcome().is_none() {
            trainer.advance();
        }
        for (a, b) in trainer.parameters().iter().zip(&state[0]) {
            assert!((a - b).abs() < 1e-13, "{optimizer}: {a} against {b}");
        }
    }
}

/// A step of plain SGD as it was computed before other optimizers existed.
fn plain_step(model: &TwoLayerRelu, data: &Dataset, parameters: &mut [f64], batch: &[u32]) {
    let scale = 1.0 / batch.len() as f64;
    let (mut output, mut gradient) = ([0.0], vec![0.0; parameters.len()]);
    let mut mean = vec![0.0; parameters.len()];
    for &sample in batch {
        let input = data.inputs().row(sample as usize);
        model.output(parameters, input, &mut output);
        model.gradient(parameters, input, &mut gradient);
        let residual = output[0] - data.targets()[sample as usize];
        simd::axpy(scale * residual, &gradient, &mut mean);
    }
    let norm = simd::norm_squared(&mean).sqrt();
    let factor = if norm > 1.0 { 0.1 * (1.0 / norm) } else { 0.1 };
    simd::axpy(-factor, &mean, parameters);
}

proptest! {
    #[test]
    fn plain_sgd_has_the_bits_of_its_definition(
        batch in collection::vec(0..11_u32, 1..20),
        scale in 0.01..3.0_f64,
    ) {
        let (model, data, initial) = relu_problem();
        let mut expected: Vec<f64> = initial.iter().map(|value| scale * value).collect();
        let plain = Optimizer::sgd().momentum(0.0).unwrap().weight_decay(0.0).unwrap();
        let mut kernel =
            PlainKernel::with_optimizer(&model, &data, &expected, plain, OptimizerState::default());
        let update = Update { learning_rate: 0.1, clip_norm: 1.0 };
        for _ in 0..3 {
            kernel.batch_step(&batch, update);
            plain_step(&model, &data, &mut expected, &batch);
        }
        prop_assert_eq!(bits(&kernel.parameters()), bits(&expected));
    }
}
