//! The fused kernels bit by bit, and the training loop from outside.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use flatmin_linalg::stream;
use flatmin_models::{Dataset, DiagonalLinear, TwoLayerRelu, data};
use flatmin_optim::{
    DiagonalKernel, Kernel, Method, Outcome, ReluKernel, Sampling, Schedule, StoppingRule,
    TrainError, TrainOptions, Trainable, Update, log_spaced_steps, train,
};
use pulp::Arch;
use rand::RngExt as _;

/// Sizes that fill no register evenly.
fn relu() -> (TwoLayerRelu, Dataset, Vec<f64>) {
    let model = TwoLayerRelu::new(13, 11).unwrap();
    let mut rng = stream(1, "training test", 0);
    let inputs = data::sphere_inputs(17, 11, &mut rng);
    let targets = (0..17).map(|_| rng.random_range(-1.0..1.0)).collect();
    let initial = model.initial_parameters(&mut rng);
    (model, Dataset::new(inputs, targets).unwrap(), initial)
}

fn diagonal() -> (DiagonalLinear, Dataset, Vec<f64>) {
    let model = DiagonalLinear::new(19).unwrap();
    let mut rng = stream(1, "training test", 1);
    let inputs = data::cube_inputs(10, 19, &mut rng);
    let targets = data::linear_targets(&inputs, &data::sparse_coefficients(19, 3));
    let initial = model.initial_parameters(&mut rng);
    (model, Dataset::new(inputs, targets).unwrap(), initial)
}

fn architectures() -> Vec<Arch> {
    let mut all = vec![Arch::Scalar, Arch::new()];
    #[cfg(target_arch = "x86_64")]
    all.extend(pulp::x86::V3::try_new().map(Arch::V3));
    all
}

/// Bits after 60 single steps in calls of the given lengths, clipping now and then.
fn bits_after_single_steps(kernel: &mut dyn Kernel, n: u32, calls: &[usize]) -> Vec<u64> {
    let order: Vec<u32> = (0..60).map(|t| (7 * t + t * t) % n).collect();
    let mut start = 0;
    for &length in calls {
        let rates = vec![0.02; length];
        kernel.single_steps(&order[start..start + length], &rates, 2.0);
        start += length;
    }
    assert_eq!(start, order.len());
    kernel.parameters().iter().map(|p| p.to_bits()).collect()
}

#[test]
fn single_steps_have_the_same_bits_on_every_instruction_set_and_in_every_cut() {
    let cuts: [&[usize]; 3] = [&[60], &[1, 58, 1], &[20, 0, 40]];
    let (model, data, initial) = relu();
    let reference =
        bits_after_single_steps(&mut ReluKernel::new(model, &data, &initial), 17, &[60]);
    for arch in architectures() {
        for cut in cuts {
            let mut kernel = ReluKernel::with_arch(arch, model, &data, &initial);
            assert_eq!(
                bits_after_single_steps(&mut kernel, 17, cut),
                reference,
                "{arch:?} {cut:?}"
            );
        }
    }
    let (model, data, initial) = diagonal();
    let reference =
        bits_after_single_steps(&mut DiagonalKernel::new(model, &data, &initial), 10, &[60]);
    for arch in architectures() {
        for cut in cuts {
            let mut kernel = DiagonalKernel::with_arch(arch, model, &data, &initial);
            assert_eq!(
                bits_after_single_steps(&mut kernel, 10, cut),
                reference,
                "{arch:?} {cut:?}"
            );
        }
    }
}

#[test]
fn diagonal_batches_have_the_same_bits_on_every_instruction_set() {
    let (model, data, initial) = diagonal();
    let run = |arch| {
        let mut kernel = DiagonalKernel::with_arch(arch, model, &data, &initial);
        for batch in [&[0_u32, 3, 4, 9, 1][..], &[2], &[5, 6, 7, 8]] {
            kernel.batch_step(batch, Update { learning_rate: 0.1, clip_norm: 1.0 });
        }
        kernel.parameters().iter().map(|p| p.to_bits()).collect::<Vec<_>>()
    };
    for arch in architectures() {
        assert_eq!(run(arch), run(Arch::Scalar), "{arch:?}");
    }
}

fn options(method: Method, learning_rate: f64, max_steps: u64) -> TrainOptions {
    TrainOptions {
        method,
        learning_rate,
        schedule: Schedule::Constant,
        clip_norm: f64::INFINITY,
        max_steps,
        stopping: StoppingRule::default(),
        checkpoints: log_spaced_steps(4, max_steps),
    }
}

const SGD: Method = Method::Sgd { batch_size: 1, sampling: Sampling::Reshuffling };

fn outcome(model: &impl Trainable, data: &Dataset, initial: &[f64], o: &TrainOptions) -> Outcome {
    train(model, data, initial, o, &mut stream(0, "batches", 0), |_| {}).unwrap().outcome
}

#[test]
fn a_run_converges_runs_out_of_steps_or_diverges() {
    let (model, data, initial) = diagonal();
    for method in [SGD, Method::GradientDescent] {
        let check = |rate, steps, expected| {
            let options = options(method, rate, steps);
            assert_eq!(outcome(&model, &data, &initial, &options), expected, "{method:?} {rate}");
        };
        check(0.05, 100_000, Outcome::Converged);
        check(0.05, 7, Outcome::OutOfSteps);
        check(50.0, 100_000, Outcome::Diverged);
    }
}

#[test]
fn a_converged_run_has_passed_its_checks() {
    let (model, data, initial) = diagonal();
    let options = options(SGD, 0.05, 100_000);
    let mut rng = stream(0, "batches", 0);
    let run = train(&model, &data, &initial, &options, &mut rng, |_| {}).unwrap();
    assert!(data.loss(&model, &run.parameters) <= 1e-12);
    // Checks fall on the ends of epochs of ten steps.
    assert_eq!((run.steps % 10, run.total.steps), (0, run.steps));
}

#[test]
fn the_observer_sees_every_checkpoint_and_the_end_and_changes_nothing() {
    let (model, data, initial) = relu();
    let mut options = options(SGD, 0.01, 1000);
    let mut seen = Vec::new();
    let mut steps_between = 0;
    let run = train(&model, &data, &initial, &options, &mut stream(0, "batches", 0), |o| {
        seen.push(o.step);
        steps_between += o.since_last.steps;
    })
    .unwrap();
    assert_eq!(seen, log_spaced_steps(4, 1000));
    assert_eq!(steps_between, 1000);
    options.checkpoints = Vec::new();
    let unobserved =
        train(&model, &data, &initial, &options, &mut stream(0, "batches", 0), |_| {}).unwrap();
    assert_eq!(run, unobserved);
}

#[test]
fn settings_that_cannot_be_run_are_named() {
    let (model, data, initial) = relu();
    let error = |options: &TrainOptions| {
        train(&model, &data, &initial, options, &mut stream(0, "batches", 0), |_| {}).unwrap_err()
    };
    let nan = options(SGD, f64::NAN, 10);
    assert!(matches!(error(&nan), TrainError::NotPositive { name: "the learning rate", .. }));
    let unclipped = TrainOptions { clip_norm: 0.0, ..options(SGD, 0.1, 10) };
    assert_eq!(error(&unclipped).to_string(), "the clip norm is 0, expected a positive number");
    let method = Method::Sgd { batch_size: 18, sampling: Sampling::WithoutReplacement };
    assert_eq!(error(&options(method, 0.1, 10)).to_string(), "batch size 18 is not in 1..=17");
}
