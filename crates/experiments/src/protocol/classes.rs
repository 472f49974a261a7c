//! The protocol of cross-entropy on digits.

use flatmin_models::Activation;

use super::shared::SEEDS_OF_COSTLY;
use crate::cell::{CellSpec, ClassProblem, ClassSpec, PerturbedSpec};
use crate::{Profile, Settings};

/// Clipping that only guards the first steps.
const CLIP: f64 = 100.0;
const SMOOTHING: f64 = 0.1;
const ACTIVATIONS: [Activation; 2] = [Activation::Tanh, Activation::Relu];
/// Batch sizes after a push.
const PUSHED_BATCH_SIZES: [usize; 2] = [1, 8];
/// Seeds whose minima are pushed.
const PUSHED_SEEDS: u64 = 2;

struct Sizes {
    width: usize,
    sample_count: usize,
    max_steps: u64,
    batches: &'static [usize],
    /// Samples of the networks that are pushed.
    pushed_samples: usize,
    replicas: usize,
    /// Steps of the run without smoothing.
    unsmoothed_steps: u64,
}

fn sizes(profile: Profile) -> Sizes {
    match profile {
        Profile::Smoke => Sizes {
            width: 6,
            sample_count: 12,
            max_steps: 300,
            batches: &[8],
            pushed_samples: 10,
            replicas: 4,
            unsmoothed_steps: 100,
        },
        Profile::Quick | Profile::Paper => Sizes {
            width: 64,
            sample_count: 60,
            max_steps: 25_000,
            batches: if profile == Profile::Quick { &[8] } else { &[8, 16] },
            pushed_samples: 40,
            replicas: 64,
            unsmoothed_steps: if profile == Profile::Quick { 3_000 } else { 30_000 },
        },
        Profile::Full => Sizes {
            width: 128,
            sample_count: 300,
            max_steps: 500_000,
            batches: &[1, 4, 8, 16],
            pushed_samples: 60,
            replicas: 64,
            unsmoothed_steps: 300_000,
        },
    }
}

/// The learning rates of SGD, in both directions from the largest at which it converges.
fn rates(profile: Profile, activation: Activation, batch_size: usize) -> &'static [f64] {
    let is_relu = activation == Activation::Relu;
    match (profile, is_relu, batch_size) {
        (Profile::Quick, false, _) => &[0.85, 1.1],
        (Profile::Quick, true, _) => &[0.43, 0.55],
        (Profile::Full, false, 1) => &[0.03, 0.1, 0.17, 0.25],
        (Profile::Full, true, 1) => &[0.03, 0.06, 0.1, 0.15],
        (Profile::Full, false, 4) => &[0.3, 0.45, 0.6, 0.8],
        (Profile::Full, true, 4) => &[0.15, 0.25, 0.35, 0.5],
        (Profile::Full, false, 8) => &[0.6, 0.8, 1.0, 1.2],
        (Profile::Full, true, 8) => &[0.3, 0.5, 0.6, 0.8],
        (Profile::Full, false, _) => &[0.8, 1.2, 1.6, 2.0],
        (Profile::Full, true, _) => &[0.4, 0.6, 0.8, 1.2],
        (_, false, 8) => &[0.85, 1.1, 1.5],
        (_, true, 8) => &[0.43, 0.55, 0.75],
        (_, false, _) => &[1.2, 1.6, 2.2],
        (_, true, _) => &[0.62, 0.8, 1.15],
    }
}

fn problem(profile: Profile, activation: Activation) -> ClassProblem {
    let Sizes { width, sample_count, .. } = sizes(profile);
    ClassProblem { activation, width, sample_count, label_smoothing: SMOOTHING }
}

/// The first seeds of a reproduction.
fn seeds(settings: &Settings, most: u64) -> impl Iterator<Item = u64> + use<> {
    let most = if settings.profile == Profile::Full { u64::MAX } else { most };
    Settings { seeds: settings.seeds.min(most), ..*settings }.seeds()
}

/// SGD with smoothed labels at every batch size and learning rate, one run without smoothing, and
/// pushes at minima of both losses.
pub(crate) fn cells(settings: &Settings) -> Vec<CellSpec> {
    let profile = settings.profile;
    let Sizes { max_steps, batches, pushed_samples, replicas, unsmoothed_steps, .. } =
        sizes(profile);
    let mut cells = Vec::new();
    for seed in seeds(settings, SEEDS_OF_COSTLY) {
        for activation in ACTIVATIONS {
            for &batch_size in batches {
                cells.extend(rates(profile, activation, batch_size).iter().map(|rate| {
                    CellSpec::Classes(ClassSpec {
                        problem: problem(profile, activation),
                        batch_size,
                        learning_rate: *rate,
                        clip_norm: CLIP,
                        max_steps,
                        checkpoints_per_decade: 0,
                        seed,
                    })
                }));
            }
        }
    }
    let tanh = problem(profile, Activation::Tanh);
    cells.push(CellSpec::Classes(ClassSpec {
        problem: ClassProblem { label_smoothing: 0.0, ..tanh },
        batch_size: 1,
        learning_rate: 0.1,
        clip_norm: CLIP,
        max_steps: unsmoothed_steps,
        checkpoints_per_decade: if profile == Profile::Full { 2 } else { 3 },
        seed: settings.seed,
    }));
    for seed in seeds(settings, PUSHED_SEEDS) {
        for activation in ACTIVATIONS {
            let training = ClassSpec {
                problem: ClassProblem {
                    sample_count: pushed_samples,
                    ..problem(profile, activation)
                },
                batch_size: 8,
                learning_rate: 0.3,
                clip_norm: CLIP,
                max_steps: max_steps.min(10_000),
                checkpoints_per_decade: 0,
                seed,
            };
            for batch_size in PUSHED_BATCH_SIZES {
                cells.extend([true, false].map(|is_cross_entropy| {
                    let steps = 20;
                    CellSpec::Perturbed(PerturbedSpec {
                        training,
                        batch_size,
                        is_cross_entropy,
                        replicas,
                        steps,
                    })
                }));
            }
        }
    }
    cells
}

/// A description of the training for a reader.
pub(crate) fn words(settings: &Settings) -> String {
    let Sizes { width, sample_count, max_steps, batches, pushed_samples, replicas, .. } =
        sizes(settings.profile);
    let sizes: Vec<String> = batches.iter().map(ToString::to_string).collect();
    format!(
        "Perceptrons 64–{width}–5 with biases, tanh and ReLU, on the digits 0 to 4; n = \
         {sample_count}. Softmax cross-entropy with label smoothing {SMOOTHING}; SGD with batches of \
         B = {} samples without replacement, constant learning rate, gradient norms clipped at \
         {CLIP}. A run ends when the loss less the entropy of the smoothed labels is ≤ 10⁻¹⁰ at 20 \
         checks in a row, or after {max_steps} steps. η* is exact, to 1e-4 (S13, S17). {} \
         seed(s).\n\nWithout smoothing: tanh, B = 1, η = .1, one seed.\n\nPushes: networks that \
         cross-entropy led to with n = {pushed_samples}; the targets are then set to what the \
         network gives, so that it is at an exact minimum of cross-entropy (softmax) or squared loss \
         (outputs). {replicas} replicas start with a push of 10⁻⁷ in every parameter and make 20 \
         steps; V is the Lyapunov function of S14.",
        sizes.join(", "),
        seeds(settings, SEEDS_OF_COSTLY).count(),
    )
}
