//! The fused kernels bit by bit, and the training loop through its public interface.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use flatmin_linalg::simd::Real;
use flatmin_linalg::{Stream, stream};
use flatmin_models::{
    Activation, Dataset, DiagonalLinear, MatrixSensing, Mlp, Model as _, TwoLayerRelu,
    UnivariateRelu, data,
};
use flatmin_optim::{
    BatchOrder, BatchSampler, DiagonalKernel, Kernel, MatrixSensingKernel, Method, Outcome,
    PlainKernel, Precision, ReluKernel, Samples, Sampling, Segment, StoppingRule, TrainError,
    TrainOptions, Trainable, Trainer, UnivariateKernel, Update, log_spaced_steps,
};
use pulp::Arch;
use rand::RngExt as _;

/// Sizes that are not multiples of a register.
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

/// More rows than a tile of the product, and a factor that is no whole group of lanes.
fn sensing() -> (MatrixSensing, Dataset, Vec<f64>) {
    let model = MatrixSensing::new(9, 5, 11).unwrap();
    let mut rng = stream(1, "training test", 2);
    let inputs = data::cube_inputs(10, 45, &mut rng);
    let targets = (0..10).map(|_| rng.random_range(-1.0..1.0)).collect();
    let initial: Vec<f64> =
        model.initial_parameters(&mut rng).iter().map(|value| 0.3 * value).collect();
    (model, Dataset::new(inputs, targets).unwrap(), initial)
}

fn univariate() -> (UnivariateRelu, Dataset, Vec<f64>) {
    let model = UnivariateRelu::new(19).unwrap();
    let mut rng = stream(1, "training test", 3);
    let inputs = data::cube_inputs(10, 1, &mut rng);
    let targets = (0..10).map(|_| rng.random_range(-1.0..1.0)).collect();
    let initial = model.spread_parameters(0.5, &mut rng);
    (model, Dataset::new(inputs, targets).unwrap(), initial)
}

fn architectures() -> Vec<Arch> {
    let mut all = vec![Arch::Scalar, flatmin_linalg::simd::arch()];
    #[cfg(target_arch = "x86_64")]
    all.extend(pulp::x86::V3::try_new().map(Arch::V3));
    all
}

/// Parameters after 60 single steps in calls of the given lengths; some steps are clipped.
fn after_single_steps(kernel: &mut dyn Kernel, n: u32, calls: &[usize]) -> Vec<f64> {
    let order: Vec<u32> = (0..60).map(|t| (7 * t + t * t) % n).collect();
    let mut start = 0;
    for &length in calls {
        let rates = vec![0.02; length];
        kernel.single_steps(&order[start..start + length], &rates, 2.0);
        start += length;
    }
    assert_eq!(start, order.len());
    kernel.parameters()
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Every instruction set gives the same bits. Calls of other lengths group the steps differently,
/// so their results may differ by `tolerance`.
fn check_single_steps<E: Real>(tolerance: f64) {
    let (model, data, initial) = relu();
    let whole = after_single_steps(&mut ReluKernel::<E>::new(model, &data, &initial), 17, &[60]);
    for cut in CUTS {
        let run = |arch| {
            let mut kernel = ReluKernel::<E>::with_arch(arch, model, &data, &initial);
            after_single_steps(&mut kernel, 17, cut)
        };
        let reference = run(Arch::Scalar);
        for arch in architectures() {
            assert_eq!(bits(&run(arch)), bits(&reference), "{arch:?} {cut:?}");
        }
        // Steps are grouped into blocks from the start of a call.
        for (cut_value, value) in reference.iter().zip(&whole) {
            assert!((cut_value - value).abs() <= tolerance, "{cut_value} {value} {cut:?}");
        }
    }
    let (model, data, initial) = diagonal();
    check_cuts(&|arch| Box::new(DiagonalKernel::<E>::with_arch(arch, model, &data, &initial)));
    let (model, data, initial) = sensing();
    check_cuts(&|arch| Box::new(MatrixSensingKernel::<E>::with_arch(arch, model, &data, &initial)));
    let (model, data, initial) = univariate();
    check_cuts(&|arch| Box::new(UnivariateKernel::<E>::with_arch(arch, model, &data, &initial)));
}

/// The lengths of calls that 60 single steps are divided into.
const CUTS: [&[usize]; 4] = [&[60], &[1, 58, 1], &[20, 0, 40], &[7, 9, 3, 41]];

/// Every instruction set gives the same bits, for calls of any length.
fn check_cuts<'a>(kernel: &dyn Fn(Arch) -> Box<dyn Kernel + 'a>) {
    let reference = after_single_steps(kernel(Arch::Scalar).as_mut(), 10, &[60]);
    for arch in architectures() {
        for cut in CUTS {
            let run = after_single_steps(kernel(arch).as_mut(), 10, cut);
            assert_eq!(bits(&run), bits(&reference), "{arch:?} {cut:?}");
        }
    }
}

#[test]
fn single_steps_have_the_same_bits_on_every_instruction_set() {
    check_single_steps::<f64>(1e-13);
    check_single_steps::<f32>(5e-5);
}

fn after_batches(mut kernel: impl Kernel) -> Vec<f64> {
    let update = Update { learning_rate: 0.1, clip_norm: 1.0 };
    for batch in [&[0_u32, 3, 4, 9, 1][..], &[2], &[5, 6, 7, 8, 9, 0, 1, 2, 3]] {
        kernel.batch_step(batch, update);
        kernel.full_step(update);
    }
    kernel.parameters()
}

#[test]
fn batches_have_the_same_bits_on_every_instruction_set() {
    fn check<E: Real>() {
        let (model, data, initial) = relu();
        let run =
            |arch| bits(&after_batches(ReluKernel::<E>::with_arch(arch, model, &data, &initial)));
        for arch in architectures() {
            assert_eq!(run(arch), run(Arch::Scalar), "{arch:?}");
        }
        let (model, data, initial) = diagonal();
        let run = |arch| {
            bits(&after_batches(DiagonalKernel::<E>::with_arch(arch, model, &data, &initial)))
        };
        for arch in architectures() {
            assert_eq!(run(arch), run(Arch::Scalar), "{arch:?}");
        }
        let (model, data, initial) = sensing();
        let run = |arch| {
            bits(&after_batches(MatrixSensingKernel::<E>::with_arch(arch, model, &data, &initial)))
        };
        for arch in architectures() {
            assert_eq!(run(arch), run(Arch::Scalar), "{arch:?}");
        }
        let (model, data, initial) = univariate();
        let run = |arch| {
            bits(&after_batches(UnivariateKernel::<E>::with_arch(arch, model, &data, &initial)))
        };
        for arch in architectures() {
            assert_eq!(run(arch), run(Arch::Scalar), "{arch:?}");
        }
    }
    check::<f64>();
    check::<f32>();
}

/// The kernels in float32 differ from the definition in float64 by less than `largest`, and by more
/// than `least`, because the steps were rounded.
#[track_caller]
fn assert_rounded(float32: &[f64], definition: &[f64], [least, largest]: [f64; 2]) {
    let rounded: Vec<f64> = float32.iter().map(|value| f32::from_f64(*value).into()).collect();
    assert_eq!(bits(&rounded), bits(float32));
    let differences = float32.iter().zip(definition).map(|(a, b)| (a - b).abs());
    let difference = differences.fold(0.0, f64::max);
    assert!(difference > least && difference < largest, "difference {difference}");
}

#[test]
fn kernels_in_float32_follow_the_definition_in_float64() {
    // Parameters are of order 1, where float32 numbers lie at most 2⁻²³ = 1.2e-7 apart. A step
    // rounds each parameter, and perturbations grow little over so few steps.
    let bounds = [1e-9, 60.0 * 1.2e-7];
    let (model, data, initial) = relu();
    let (fast, plain) = (
        || ReluKernel::<f32>::new(model, &data, &initial),
        || PlainKernel::new(&model, &data, &initial),
    );
    let single = |kernel: &mut dyn Kernel| after_single_steps(kernel, 17, &[60]);
    assert_rounded(&single(&mut fast()), &single(&mut plain()), bounds);
    assert_rounded(&after_batches(fast()), &after_batches(plain()), bounds);
    let (model, data, initial) = diagonal();
    let (fast, plain) = (
        || DiagonalKernel::<f32>::new(model, &data, &initial),
        || PlainKernel::new(&model, &data, &initial),
    );
    let single = |kernel: &mut dyn Kernel| after_single_steps(kernel, 10, &[60]);
    assert_rounded(&single(&mut fast()), &single(&mut plain()), bounds);
    assert_rounded(&after_batches(fast()), &after_batches(plain()), bounds);
    let (model, data, initial) = sensing();
    let (fast, plain) = (
        || MatrixSensingKernel::<f32>::new(model, &data, &initial),
        || PlainKernel::new(&model, &data, &initial),
    );
    assert_rounded(&single(&mut fast()), &single(&mut plain()), bounds);
    assert_rounded(&after_batches(fast()), &after_batches(plain()), bounds);
    let (model, data, initial) = univariate();
    let (fast, plain) = (
        || UnivariateKernel::<f32>::new(model, &data, &initial),
        || PlainKernel::new(&model, &data, &initial),
    );
    assert_rounded(&single(&mut fast()), &single(&mut plain()), bounds);
    assert_rounded(&after_batches(fast()), &after_batches(plain()), bounds);
}

fn options(method: Method, learning_rate: f64, max_steps: u64) -> TrainOptions {
    TrainOptions {
        checkpoints: log_spaced_steps(4, max_steps),
        ..TrainOptions::new(method, learning_rate, max_steps)
    }
}

const SGD: Method = Method::Sgd { batch_size: 1, sampling: Sampling::Reshuffling };

fn outcome(model: &impl Trainable, data: &Dataset, initial: &[f64], o: &TrainOptions) -> Outcome {
    let rng = stream(0, "batches", 0);
    Trainer::new(model, data, initial, o, rng).unwrap().run(|_| {}).outcome
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
fn float32_has_a_floor_of_the_loss() {
    let (model, data, initial) = diagonal();
    for method in [SGD, Method::GradientDescent] {
        let check = |precision, loss, expected| {
            let stopping = StoppingRule { loss, screening_loss: 1e3 * loss, checks: 20 };
            let options = TrainOptions { precision, stopping, ..options(method, 0.01, 200_000) };
            let outcome = outcome(&model, &data, &initial, &options);
            assert_eq!(outcome, expected, "{method:?} {precision:?} {loss}");
        };
        check(Precision::Float32, 1e-9, Outcome::Converged);
        check(Precision::Float32, 1e-18, Outcome::OutOfSteps);
        check(Precision::Float64, 1e-18, Outcome::Converged);
    }
}

#[test]
fn a_model_without_a_float32_kernel_is_refused() {
    let (_, data, _) = relu();
    let model = Mlp::new(&[11, 3, 1], Activation::Tanh, true).unwrap();
    let options = TrainOptions { precision: Precision::Float32, ..options(SGD, 0.1, 10) };
    let initial = vec![0.0; model.parameter_count()];
    let rng = stream(0, "batches", 0);
    let error = Trainer::new(&model, &data, &initial, &options, rng).unwrap_err();
    assert_eq!(error, TrainError::NoFloat32);
}

#[test]
fn a_converged_run_has_passed_its_checks() {
    let (model, data, initial) = diagonal();
    let options = options(SGD, 0.05, 100_000);
    let rng = stream(0, "batches", 0);
    let run = Trainer::new(&model, &data, &initial, &options, rng).unwrap().run(|_| {});
    assert!(data.loss(&model, &run.parameters) <= 1e-12);
    // A check takes place at the end of each epoch of ten steps.
    assert_eq!((run.steps % 10, run.total.steps), (0, run.steps));
}

#[test]
fn the_observer_sees_every_checkpoint_and_the_end_and_changes_nothing() {
    let (model, data, initial) = diagonal();
    let options = options(SGD, 0.001, 1000);
    let mut seen = Vec::new();
    let mut steps_between = 0;
    let rng = || stream(0, "batches", 0);
    let run = Trainer::new(&model, &data, &initial, &options, rng()).unwrap().run(|o| {
        seen.push(o.step);
        steps_between += o.since_last.steps;
    });
    assert_eq!(seen, log_spaced_steps(4, 1000));
    assert_eq!(steps_between, 1000);
    let unobserved = TrainOptions { checkpoints: Vec::new(), ..options.clone() };
    let trainer = Trainer::new(&model, &data, &initial, &unobserved, rng());
    assert_eq!(run, trainer.unwrap().run(|_| {}));
}

#[test]
fn settings_that_cannot_be_run_are_named() {
    let (model, data, initial) = relu();
    let error = |options: &TrainOptions| {
        let rng = stream(0, "batches", 0);
        Trainer::new(&model, &data, &initial, options, rng).unwrap_err()
    };
    let nan = options(SGD, f64::NAN, 10);
    assert!(matches!(error(&nan), TrainError::NotPositive { name: "the learning rate", .. }));
    let unclipped = TrainOptions { clip_norm: 0.0, ..options(SGD, 0.1, 10) };
    assert_eq!(error(&unclipped).to_string(), "the clip norm is 0, expected a positive number");
    let method = Method::Sgd { batch_size: 18, sampling: Sampling::WithoutReplacement };
    let message = "the batch size is 18, expected a number from 1 to 17";
    assert_eq!(error(&options(method, 0.1, 10)).to_string(), message);
}

/// Runs to the end piece by piece. After every `interval`-th piece the run is abandoned, and a new
/// run resumes from its state in JSON form.
fn run_with_restarts<'a, M: Trainable>(
    start: &dyn Fn() -> Trainer<'a, M, Stream>,
    interval: usize,
) -> (Vec<(u64, Segment)>, Outcome, Segment, Vec<u64>) {
    let (mut trainer, mut seen) = (start(), Vec::new());
    for piece in 1.. {
        while let Some(since_last) = trainer.observe() {
            seen.push((trainer.step(), since_last));
        }
        if trainer.outcome().is_some() {
            break;
        }
        if piece % interval == 0 {
            let state = trainer.state().unwrap();
            assert_eq!(
                (state.step(), state.parameters()),
                (trainer.step(), &*trainer.parameters())
            );
            let stored = serde_json::to_string(&state).unwrap();
            trainer = start();
            trainer.restore(&serde_json::from_str(&stored).unwrap()).unwrap();
            assert_eq!(trainer.observe(), None, "an observation must not be due again");
        }
        trainer.advance();
    }
    (seen, trainer.outcome().unwrap(), trainer.total(), bits(&trainer.parameters()))
}

#[test]
fn a_run_that_goes_on_from_its_state_is_the_same_run() {
    let (relu_model, relu_data, relu_initial) = relu();
    let (diagonal_model, diagonal_data, diagonal_initial) = diagonal();
    let methods = [
        SGD,
        Method::GradientDescent,
        Method::Sgd { batch_size: 4, sampling: Sampling::Reshuffling },
        Method::Sgd { batch_size: 3, sampling: Sampling::WithoutReplacement },
        Method::Sgd { batch_size: 2, sampling: Sampling::WithReplacement },
    ];
    let check = |start: &dyn Fn(usize) -> _, what: Method| {
        let whole: (Vec<(u64, Segment)>, _, _, _) = start(usize::MAX);
        for interval in [1, 2, 7] {
            assert_eq!(start(interval), whole, "{what:?}, every {interval}");
        }
    };
    let precisions = [Precision::Float64, Precision::Float32];
    for (method, precision) in methods.into_iter().flat_map(|m| precisions.map(|p| (m, p))) {
        let options = TrainOptions { clip_norm: 1.0, precision, ..options(method, 0.05, 700) };
        let rng = || stream(3, "batches", 0);
        let run = |interval| {
            let start =
                || Trainer::new(&relu_model, &relu_data, &relu_initial, &options, rng()).unwrap();
            run_with_restarts(&start, interval)
        };
        check(&run, method);
        let run = |interval| {
            let start = || {
                let (model, initial) = (&diagonal_model, &diagonal_initial);
                Trainer::new(model, &diagonal_data, initial, &options, rng()).unwrap()
            };
            run_with_restarts(&start, interval)
        };
        check(&run, method);
    }
}

#[test]
fn a_run_with_long_epochs_can_be_stopped_within_one() {
    let model = DiagonalLinear::new(1).unwrap();
    let mut rng = stream(2, "training test", 0);
    let inputs = data::cube_inputs(70_000, 1, &mut rng);
    let targets = data::linear_targets(&inputs, &[1.0]);
    let data = Dataset::new(inputs, targets).unwrap();
    let options = TrainOptions { checkpoints: Vec::new(), ..options(SGD, 1e-3, 150_000) };
    let start =
        || Trainer::new(&model, &data, &[0.5, 1.0], &options, stream(0, "batches", 0)).unwrap();
    let mut trainer = start();
    trainer.advance();
    assert_eq!(trainer.step(), 65_536);
    trainer.advance();
    assert_eq!(trainer.step(), 70_000);
    assert_eq!(run_with_restarts(&start, 1), run_with_restarts(&start, usize::MAX));
}

#[test]
fn a_replayed_order_is_the_run_that_drew_it() {
    let (model, data, initial) = relu();
    for (batch_size, sampling) in [(1, Sampling::Reshuffling), (3, Sampling::WithoutReplacement)] {
        let options = options(Method::Sgd { batch_size, sampling }, 0.02, 300);
        let rng = stream(0, "batches", 0);
        let drawn = Trainer::new(&model, &data, &initial, &options, rng).unwrap().run(|_| {});
        let mut sampler = BatchSampler::new(sampling, batch_size, 17).unwrap();
        let (mut rng, mut indices) = (stream(0, "batches", 0), Vec::new());
        for _ in 0..300 {
            sampler.draw(&mut rng, &mut indices);
        }
        let order = BatchOrder::new(batch_size, indices, 17).unwrap();
        let start = || Trainer::replay(&model, &data, &initial, &options, &order).unwrap();
        let (_, outcome, total, bits) = run_with_restarts(&start, 5);
        let expected: Vec<u64> = drawn.parameters.iter().map(|p| p.to_bits()).collect();
        assert_eq!((outcome, total, bits), (drawn.outcome, drawn.total, expected));
    }
}

/// Every model that has a kernel of its own, against its plain definition, batch by batch.
#[test]
fn a_short_batch_takes_the_mean_of_its_own_samples() {
    fn check(model: &impl Trainable, data: &Dataset, initial: &[f64]) {
        let n = u32::try_from(data.sample_count()).unwrap();
        let sizes: Vec<usize> = [4, 4, 1, 3].repeat(10);
        let indices: Vec<u32> = (0..120).map(|k| k * 7 % n).collect();
        let order = BatchOrder::ragged(indices.clone(), &sizes, data.sample_count()).unwrap();
        let method = Method::Sgd { batch_size: 4, sampling: Sampling::Reshuffling };
        let options = options(method, 0.02, 40);
        let run = Trainer::replay(model, data, initial, &options, &order).unwrap().run(|_| {});
        let (mut plain, mut start) = (PlainKernel::new(model, data, initial), 0);
        for size in sizes {
            let samples = Samples::Batch(&indices[start..start + size]);
            let update = Update { learning_rate: 0.02, clip_norm: options.clip_norm };
            plain.step(samples, update);
            start += size;
        }
        for (a, b) in run.parameters.iter().zip(plain.parameters()) {
            assert!((a - b).abs() < 1e-12 * b.abs().max(1.0), "{a} against {b}");
        }
    }
    let (model, data, initial) = relu();
    check(&model, &data, &initial);
    let network = Mlp::new(&[11, 6, 1], Activation::Tanh, true).unwrap();
    let initial = network.initial_parameters(&mut stream(1, "training test", 2));
    check(&network, &data, &initial);
    let (model, data, initial) = diagonal();
    check(&model, &data, &initial);
}

#[test]
fn orders_and_states_of_other_runs_are_refused() {
    let (model, data, initial) = relu();
    let options = options(SGD, 0.02, 10);
    let refused = |batch_size, steps, sample_count| {
        let order = BatchOrder::new(batch_size, vec![0; batch_size * steps], sample_count).unwrap();
        Trainer::replay(&model, &data, &initial, &options, &order).unwrap_err().to_string()
    };
    assert_eq!(refused(2, 10, 17), "the order has a batch size of 2, expected 1");
    assert_eq!(refused(1, 9, 17), "the order has a number of steps of 9, expected 10");
    let message = "the order has indices into a number of samples of 18, expected 17";
    assert_eq!(refused(1, 10, 18), message);

    let (other, other_data, other_initial) = diagonal();
    let rng = || stream(0, "batches", 0);
    let state = Trainer::new(&other, &other_data, &other_initial, &options, rng()).unwrap().state();
    let mut trainer = Trainer::new(&model, &data, &initial, &options, rng()).unwrap();
    let error = trainer.restore(&state.unwrap()).unwrap_err();
    let message = "the state does not fit this run: it has another number of parameters";
    assert_eq!(error.to_string(), message);
}

#[test]
fn a_diverged_run_has_no_state() {
    let (model, data, initial) = diagonal();
    let options = options(SGD, 1e200, 100);
    let mut trainer =
        Trainer::new(&model, &data, &initial, &options, stream(0, "batches", 0)).unwrap();
    assert!(trainer.state().is_some());
    while trainer.outcome().is_none() {
        trainer.advance();
    }
    assert_eq!((trainer.outcome(), trainer.state()), (Some(Outcome::Diverged), None));
}

#[test]
fn without_a_stopping_rule_a_run_takes_all_its_steps() {
    let (model, data, initial) = diagonal();
    let stopping = StoppingRule::never();
    let options = TrainOptions { stopping, ..options(Method::GradientDescent, 0.05, 20_000) };
    assert_eq!(outcome(&model, &data, &initial, &options), Outcome::OutOfSteps);
}

/// A NaN in any parameter ends the run after its first epoch.
fn check_not_a_number(model: &impl Trainable, data: &Dataset, initial: &[f64]) {
    let methods = [
        Method::GradientDescent,
        SGD,
        Method::Sgd { batch_size: 3, sampling: Sampling::WithReplacement },
        Method::Sgd { batch_size: 9, sampling: Sampling::WithReplacement },
    ];
    for (position, method) in
        (0..initial.len()).flat_map(|position| methods.map(|method| (position, method)))
    {
        let mut parameters = initial.to_vec();
        parameters[position] = f64::NAN;
        for precision in [Precision::Float64, Precision::Float32] {
            let options = TrainOptions { precision, ..options(method, 0.01, 100_000) };
            let rng = stream(0, "batches", 0);
            let run = match Trainer::new(model, data, &parameters, &options, rng) {
                Err(TrainError::NoFloat32) => continue,
                trainer => trainer.unwrap().run(|_| ()),
            };
            let what = format!("{model:?} {precision} {method:?}, parameter {position}");
            assert_eq!(run.outcome, Outcome::Diverged, "{what}");
            assert!(run.steps <= data.sample_count() as u64, "{what}: {} steps", run.steps);
        }
    }
}

#[test]
fn a_parameter_that_is_not_a_number_has_diverged() {
    let (model, data, initial) = relu();
    check_not_a_number(&model, &data, &initial);
    let (model, data, initial) = diagonal();
    check_not_a_number(&model, &data, &initial);
    let (_, data, _) = relu();
    for activation in Activation::ALL {
        let model = Mlp::new(&[11, 5, 3, 1], activation, true).unwrap();
        let initial = model.initial_parameters(&mut stream(2, "training test", 0));
        check_not_a_number(&model, &data, &initial);
    }
}
