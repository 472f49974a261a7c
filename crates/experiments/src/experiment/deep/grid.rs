//! Which deep networks are trained, per profile.

use flatmin_optim::Method;

use super::super::grid::{GD, SGD, levels};
use crate::cell::{CellSpec, DeepActivation, DeepSpec, DeepTask};
use crate::claim::short_number;
use crate::{Profile, Settings};

/// Affine layers of the networks whose minima are compared.
const DEPTHS: [usize; 3] = [2, 3, 4];
/// Clipping that only guards the first steps.
const CLIP: f64 = 100.0;
/// Learning rates at which networks are followed. The first of gradient descent is too small to meet
/// its edge.
const FOLLOWED_GD: [f64; 3] = [0.08, 0.16, 0.2];
const FOLLOWED_SGD: [f64; 3] = [0.01, 0.02, 0.04];
const CHECKPOINTS_PER_DECADE: u32 = 8;
/// Seeds of the profile `paper`.
const SEEDS: u64 = 3;

fn seeds(settings: &Settings) -> impl Iterator<Item = u64> + use<> {
    let most = if settings.profile == Profile::Full { u64::MAX } else { SEEDS };
    let settings = Settings { seeds: settings.seeds.min(most), ..*settings };
    settings.seeds()
}

/// What the networks of a profile have in common.
fn base(profile: Profile, task: DeepTask, method: Method, seed: u64) -> DeepSpec {
    let is_smoke = profile == Profile::Smoke;
    let (sgd, gd) = match profile {
        Profile::Smoke => (2_000, 200),
        Profile::Quick => (100_000, 20_000),
        Profile::Paper | Profile::Full => (200_000, 20_000),
    };
    DeepSpec {
        task,
        depth: 3,
        width: if is_smoke { 8 } else { 50 },
        activation: DeepActivation::Relu,
        sample_count: if is_smoke { 24 } else { 200 },
        test_count: if is_smoke { 100 } else { 1000 },
        method,
        learning_rate: f64::NAN,
        clip_norm: CLIP,
        max_steps: if method == GD { gd } else { sgd },
        checkpoints_per_decade: 0,
        seed,
    }
}

fn tasks(profile: Profile) -> [DeepTask; 2] {
    let input_dim = if profile == Profile::Smoke { 6 } else { 50 };
    [DeepTask::Teacher { input_dim }, DeepTask::DigitParity]
}

/// The learning rates of the minima that are compared.
fn rates(profile: Profile, method: Method) -> Vec<f64> {
    if method == GD { levels(profile, -1.7, -1.0, 3) } else { levels(profile, -2.7, -1.5, 5) }
}

pub(in super::super) fn deep_sharpness(settings: &Settings) -> Vec<CellSpec> {
    let profile = settings.profile;
    let mut cells = Vec::new();
    for seed in seeds(settings) {
        for task in tasks(profile) {
            for depth in DEPTHS {
                for method in [SGD, GD] {
                    cells.extend(rates(profile, method).into_iter().map(|learning_rate| {
                        let base = base(profile, task, method, seed);
                        CellSpec::Deep(DeepSpec { depth, learning_rate, ..base })
                    }));
                }
            }
        }
    }
    cells
}

pub(in super::super) fn progressive_sharpening(settings: &Settings) -> Vec<CellSpec> {
    let is_smoke = settings.profile == Profile::Smoke;
    let mut cells = Vec::new();
    for seed in seeds(settings) {
        for (method, rates, most) in [(SGD, FOLLOWED_SGD, 100_000), (GD, FOLLOWED_GD, 3_000)] {
            cells.extend(rates.map(|learning_rate| {
                let base = base(settings.profile, DeepTask::DigitParity, method, seed);
                CellSpec::Deep(DeepSpec {
                    max_steps: base.max_steps.min(most),
                    activation: DeepActivation::Tanh,
                    sample_count: if is_smoke { 24 } else { 400 },
                    learning_rate,
                    checkpoints_per_decade: CHECKPOINTS_PER_DECADE,
                    ..base
                })
            }));
        }
    }
    cells
}

/// How [`deep_sharpness`] is run, in words.
pub(in super::super) fn how_sharpness(settings: &Settings) -> String {
    let profile = settings.profile;
    let [teacher, _] = tasks(profile);
    let DeepTask::Teacher { input_dim } = teacher else { return String::new() };
    let (sgd, gd) = (base(profile, teacher, SGD, 0), base(profile, teacher, GD, 0));
    format!(
        "ReLU networks of 2, 3 and 4 affine layers with biases, {} neurons a hidden layer; weights \
         N(0, 2/m) for m inputs of a layer (1/m for the last one), biases 0. Teacher: 10 ReLU neurons on the sphere of \
         radius √d, d = {input_dim}. Digits: 8 × 8 images of handwritten digits (UCI), centred and \
         scaled to a mean squared norm of 64, +1 for even and −1 for odd ones. n = {} training and {} \
         test inputs. Constant learning rate, gradient norms clipped at {CLIP}; at most {} SGD (B = 1) and {} GD \
         steps; converged: training loss ≤ 10⁻¹² at 20 checks in a row. {} seed(s).",
        sgd.width,
        sgd.sample_count,
        sgd.test_count,
        sgd.max_steps,
        gd.max_steps,
        seeds(settings).count(),
    )
}

/// How [`progressive_sharpening`] is run, in words.
pub(in super::super) fn how_sharpening(settings: &Settings) -> String {
    let cells = progressive_sharpening(settings);
    let samples = cells.iter().find_map(|cell| match cell {
        CellSpec::Deep(spec) => Some(spec.sample_count),
        _ => None,
    });
    let words = |rates: [f64; 3]| rates.map(short_number).join(", ");
    format!(
        "tanh networks of 3 affine layers with biases on the parity of digits, n = {}, otherwise as \
         the deep networks above. GD at η = {}, SGD (B = 1) at η = {}. Every run is measured at \
         {CHECKPOINTS_PER_DECADE} log-spaced checkpoints a decade; λ_max(H) of the Hessian of the loss \
         by Lanczos to 1e-6.",
        samples.unwrap_or_default(),
        words(FOLLOWED_GD),
        words(FOLLOWED_SGD),
    )
}
