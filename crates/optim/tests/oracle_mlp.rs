//! The kernel of the perceptron compared with the plain definition to rounding, and between
//! instruction sets bit by bit.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use flatmin_linalg::{RowMatrix, stream};
use flatmin_models::{Activation, Dataset, Mlp, Model as _, data};
use flatmin_optim::{Kernel, MlpKernel, PlainKernel, Step, Update};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, proptest};
use proptest::test_runner::TestCaseError;
use proptest::{collection, prop_assert, prop_assert_eq, prop_oneof};
use pulp::Arch;
use rand::RngExt as _;

const ACTIVATIONS: [Activation; 4] =
    [Activation::Tanh, Activation::Relu, Activation::Gelu, Activation::Identity];

#[derive(Debug, Clone)]
struct Case {
    widths: Vec<usize>,
    activation: Activation,
    has_biases: bool,
    samples: usize,
    batch_size: usize,
    clip_norm: f64,
    seed: u64,
}

fn case() -> impl Strategy<Value = Case> {
    // Widths reach beyond a tile of four registers, and the width of the last layer beyond one
    // register.
    let width = || prop_oneof![3 => 1..=18_usize, 1 => 19..=75_usize];
    let output_dim = prop_oneof![3 => 1..=3_usize, 1 => 4..=20_usize];
    let widths = (width(), collection::vec(width(), 0..=3), output_dim);
    let rest = (
        proptest::sample::select(&ACTIVATIONS[..]),
        any::<bool>(),
        prop_oneof![4 => 1..=30_usize, 1 => Just(300)],
        0.0..1.0_f64,
        prop_oneof![1 => Just(f64::INFINITY), 2 => 0.01..3.0_f64],
        any::<u64>(),
    );
    (widths, rest).prop_map(|((d, hidden, k), rest)| {
        let (activation, has_biases, samples, part, clip_norm, seed) = rest;
        let widths = std::iter::once(d).chain(hidden).chain([k]).collect();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a part of a small number"
        )]
        let batch_size = 1 + (part * samples as f64) as usize;
        Case { widths, activation, has_biases, samples, batch_size, clip_norm, seed }
    })
}

fn problem(case: &Case) -> (Mlp, Dataset, Vec<f64>) {
    let model = Mlp::new(&case.widths, case.activation, case.has_biases).unwrap();
    let mut rng = stream(case.seed, "mlp kernel test", 0);
    let inputs = data::sphere_inputs(case.samples, model.input_dim(), &mut rng);
    let (n, k) = (case.samples, model.output_dim());
    let targets = RowMatrix::from_fn(n, k, |_, _| rng.random_range(-1.0..1.0));
    // Initial biases are zero. Here every bias gets a nonzero value.
    let mut initial = model.initial_parameters(&mut rng);
    for value in &mut initial {
        *value += rng.random_range(-0.1..0.1);
    }
    (model, Dataset::with_outputs(inputs, &targets).unwrap(), initial)
}

/// A gradient is a sum over at most 300 samples, 4 layers and widths of at most 75. A few steps at
/// most double the rounding error of the first.
const TOLERANCE: f64 = 1e-11;

fn same(fast: Step, plain: Step, clip_norm: f64, what: &str) -> Result<(), TestCaseError> {
    for (a, b) in [(fast.loss, plain.loss), (fast.gradient_norm, plain.gradient_norm)] {
        prop_assert!((a - b).abs() <= TOLERANCE * b.max(1.0), "{what}: {a} against {b}");
    }
    prop_assert!(
        fast.clipped == plain.clipped
            || (plain.gradient_norm - clip_norm).abs() <= TOLERANCE * clip_norm,
        "{what}: {fast:?} against {plain:?}"
    );
    Ok(())
}

fn same_parameters(fast: &dyn Kernel, plain: &dyn Kernel, what: &str) -> Result<(), TestCaseError> {
    let (fast, plain) = (fast.parameters(), plain.parameters());
    prop_assert_eq!(fast.len(), plain.len());
    for (k, (a, b)) in fast.iter().zip(&plain).enumerate() {
        let close = (a - b).abs() <= TOLERANCE * b.abs().max(1.0);
        prop_assert!(close, "{what}: parameter {k}: {a} against {b}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn steps_are_those_of_the_plain_definition(case in case()) {
        let (model, data, initial) = problem(&case);
        let mut fast = MlpKernel::new(&model, &data, &initial);
        let mut plain = PlainKernel::new(&model, &data, &initial);
        // Wider networks are sharper. If the steps grew from one to the next, the rounding errors
        // would grow with them.
        let learning_rate = 0.1 / case.widths.iter().sum::<usize>() as f64;
        let update = Update { learning_rate, clip_norm: case.clip_norm };
        let mut rng = stream(case.seed, "mlp kernel test", 1);
        let n = u32::try_from(case.samples).unwrap();
        for t in 0..3 {
            let batch: Vec<u32> =
                (0..case.batch_size).map(|_| rng.random_range(0..n)).collect();
            let (a, b) = (fast.batch_step(&batch, update), plain.batch_step(&batch, update));
            same(a, b, case.clip_norm, &format!("batch step {t}"))?;
        }
        same_parameters(&fast, &plain, "batches")?;
        for t in 0..2 {
            let (a, b) = (fast.full_step(update), plain.full_step(update));
            same(a, b, case.clip_norm, &format!("full step {t}"))?;
        }
        same_parameters(&fast, &plain, "all samples")?;
        // The buffers of a step with many samples do not affect a later step with few.
        for size in [1, 5, 6, 300] {
            let batch: Vec<u32> = (0..size).map(|_| rng.random_range(0..n)).collect();
            let (a, b) = (fast.batch_step(&batch, update), plain.batch_step(&batch, update));
            same(a, b, case.clip_norm, &format!("batch of {size} after all samples"))?;
        }
        same_parameters(&fast, &plain, "batches after all samples")?;
        let order: Vec<u32> = (0..6).map(|_| rng.random_range(0..n)).collect();
        let rates: Vec<f64> = (0..6).map(|t| learning_rate / f64::from(1 + t)).collect();
        let a = fast.single_steps(&order, &rates, case.clip_norm);
        let b = plain.single_steps(&order, &rates, case.clip_norm);
        prop_assert_eq!(a.steps, b.steps);
        prop_assert!((a.loss_sum - b.loss_sum).abs() <= TOLERANCE * b.loss_sum.max(1.0));
        let difference = a.max_gradient_norm - b.max_gradient_norm;
        prop_assert!(difference.abs() <= TOLERANCE * b.max_gradient_norm.max(1.0));
        same_parameters(&fast, &plain, "single samples")?;
    }
}

fn architectures() -> Vec<Arch> {
    let mut all = vec![Arch::Scalar, flatmin_linalg::simd::arch()];
    #[cfg(target_arch = "x86_64")]
    all.extend(pulp::x86::V3::try_new().map(Arch::V3));
    all
}

fn bits(kernel: &dyn Kernel) -> Vec<u64> {
    kernel.parameters().iter().map(|value| value.to_bits()).collect()
}

#[test]
fn steps_have_the_same_bits_on_every_instruction_set() {
    let cuts: [&[usize]; 3] = [&[40], &[1, 38, 1], &[13, 0, 27]];
    for activation in ACTIVATIONS {
        let case = Case {
            widths: vec![11, 13, 9, 2],
            activation,
            has_biases: true,
            samples: 17,
            batch_size: 1,
            clip_norm: 1.0,
            seed: 5,
        };
        let (model, data, initial) = problem(&case);
        let order: Vec<u32> = (0..40).map(|t| (7 * t + t * t) % 17).collect();
        let run = |arch: Arch, cut: &[usize]| {
            let mut kernel = MlpKernel::with_arch(arch, &model, &data, &initial);
            let mut start = 0;
            for &length in cut {
                let rates = vec![0.02; length];
                kernel.single_steps(&order[start..start + length], &rates, case.clip_norm);
                start += length;
            }
            let update = Update { learning_rate: 0.1, clip_norm: 1.0 };
            for batch in [&[0_u32, 3, 4, 9, 1][..], &[2], &[5, 6, 7, 8], &order[..11]] {
                kernel.batch_step(batch, update);
            }
            kernel.full_step(update);
            kernel
        };
        let whole = run(Arch::Scalar, cuts[0]).parameters();
        for cut in cuts {
            let reference = run(Arch::Scalar, cut);
            for arch in architectures() {
                let case = format!("{activation:?} {arch:?} {cut:?}");
                assert_eq!(bits(&run(arch, cut)), bits(&reference), "{case}");
            }
            // The first layer computes eight steps together from the start of a call.
            for (cut_value, value) in reference.parameters().iter().zip(&whole) {
                assert!((cut_value - value).abs() <= 1e-12, "{activation:?} {cut:?}");
            }
        }
    }
}

#[test]
fn dense_steps_have_the_same_bits_on_every_instruction_set() {
    for (activation, widths, samples) in [
        (Activation::Relu, vec![64, 50, 50, 1], 200),
        (Activation::Tanh, vec![64, 50, 1], 261),
        (Activation::Gelu, vec![30, 41, 17], 61),
    ] {
        let case = Case {
            widths,
            activation,
            has_biases: true,
            samples,
            batch_size: 1,
            clip_norm: 1.0,
            seed: 7,
        };
        let (model, data, initial) = problem(&case);
        let batch: Vec<u32> = (0..29).map(|t| (7 * t + t * t) % 61).collect();
        let run = |arch: Arch| {
            let mut kernel = MlpKernel::with_arch(arch, &model, &data, &initial);
            let update = Update { learning_rate: 0.1, clip_norm: 1.0 };
            let steps = [kernel.full_step(update), kernel.batch_step(&batch, update)];
            let seen = steps.map(|step| [step.loss.to_bits(), step.gradient_norm.to_bits()]);
            (seen, bits(&kernel))
        };
        let reference = run(Arch::Scalar);
        for arch in architectures() {
            assert_eq!(run(arch), reference, "{activation:?} {arch:?}");
        }
    }
}

#[test]
fn a_step_does_not_depend_on_the_steps_before_it() {
    let case = Case {
        widths: vec![5, 12, 3],
        activation: Activation::Relu,
        has_biases: true,
        samples: 290,
        batch_size: 1,
        clip_norm: f64::INFINITY,
        seed: 6,
    };
    let (model, data, initial) = problem(&case);
    let update = Update { learning_rate: 0.02, clip_norm: 1.0 };
    let batches: [Vec<u32>; 4] = [(0..290).collect(), vec![3, 1], (20..60).collect(), vec![7; 280]];
    let mut used = MlpKernel::new(&model, &data, &initial);
    for batch in &batches {
        let mut fresh = MlpKernel::new(&model, &data, &used.parameters());
        assert_eq!(used.batch_step(batch, update), fresh.batch_step(batch, update));
        assert_eq!(bits(&used), bits(&fresh));
        assert_eq!(used.full_step(update), fresh.full_step(update));
        used.single_steps(&[1, 2], &[0.1, 0.1], 1.0);
        fresh.single_steps(&[1, 2], &[0.1, 0.1], 1.0);
        assert_eq!(bits(&used), bits(&fresh));
    }
}
