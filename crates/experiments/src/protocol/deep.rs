//! The protocol of deep networks.

use flatmin_models::Activation;
use flatmin_optim::Method;

use super::shared::{GD, SGD, levels};
use crate::cell::{CellSpec, DeepSpec, DeepTask};
use crate::short_number;
use crate::{Profile, Settings};

/// Affine layers of the networks whose minima are compared.
const DEPTHS: [usize; 3] = [2, 3, 4];
/// Clipping that only guards the first steps.
const CLIP: f64 = 100.0;
/// Learning rates at which networks are followed along training. The first of gradient descent is
/// too small to meet its edge.
const FOLLOWED_GD: [f64; 3] = [0.08, 0.16, 0.2];
const FOLLOWED_SGD: [f64; 3] = [0.01, 0.02, 0.04];
const CHECKPOINTS_PER_DECADE: u32 = 8;
/// Seeds of the profile `paper`.
pub(crate) const SEEDS: u64 = 3;

fn seeds(settings: &Settings) -> impl Iterator<Item = u64> + use<> {
    let most = if settings.profile == Profile::Full { u64::MAX } else { SEEDS };
    let settings = Settings { seeds: settings.seeds.min(most), ..*settings };
    settings.seeds()
}

/// The part that the networks of a profile have in common.
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
        activation: Activation::Relu,
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

/// Input dimension of the teacher.
fn input_dim(profile: Profile) -> usize {
    if profile == Profile::Smoke { 6 } else { 50 }
}

/// The learning rates of the minima that are compared.
fn rates(profile: Profile, method: Method) -> Vec<f64> {
    if method == GD { levels(profile, -1.7, -1.0, 3) } else { levels(profile, -2.7, -1.5, 5) }
}

/// Networks of every depth on both tasks, trained by SGD and gradient descent at every rate.
pub(crate) fn learning_rates(settings: &Settings) -> Vec<CellSpec> {
    let profile = settings.profile;
    let teacher = DeepTask::Teacher { input_dim: input_dim(profile) };
    let mut cells = Vec::new();
    for seed in seeds(settings) {
        for task in [teacher, DeepTask::DigitParity] {
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

/// The networks that are followed along training.
pub(crate) fn followed(settings: &Settings) -> Vec<CellSpec> {
    let mut cells = Vec::new();
    for seed in seeds(settings) {
        for (method, rates, most) in [(SGD, FOLLOWED_SGD, 100_000), (GD, FOLLOWED_GD, 3_000)] {
            cells.extend(rates.map(|learning_rate| {
                let base = base(settings.profile, DeepTask::DigitParity, method, seed);
                CellSpec::Deep(DeepSpec {
                    max_steps: base.max_steps.min(most),
                    activation: Activation::Tanh,
                    sample_count: followed_sample_count(settings.profile),
                    learning_rate,
                    checkpoints_per_decade: CHECKPOINTS_PER_DECADE,
                    ..base
                })
            }));
        }
    }
    cells
}

fn followed_sample_count(profile: Profile) -> usize {
    if profile == Profile::Smoke { 24 } else { 400 }
}

/// A description of [`learning_rates`] for a reader.
pub(crate) fn words(settings: &Settings) -> String {
    let profile = settings.profile;
    let [sgd, gd] = [SGD, GD].map(|method| base(profile, DeepTask::DigitParity, method, 0));
    format!(
        "ReLU networks of 2, 3 and 4 affine layers with biases, {} neurons a hidden layer; weights \
         N(0, 2/m) for m inputs of a layer (1/m for the last one), biases 0. Teacher: 10 ReLU \
         neurons on the sphere of radius √d, d = {}. Digits: 8 × 8 images of handwritten digits \
         (UCI), centred and scaled to a mean squared norm of 64, +1 for even and −1 for odd ones. \
         n = {} training and {} test inputs. Constant learning rate, gradient norms clipped at \
         {CLIP}; at most {} SGD (B = 1) and {} GD steps; converged: training loss ≤ 10⁻¹² at 20 \
         checks in a row. {} seed(s).",
        sgd.width,
        input_dim(profile),
        sgd.sample_count,
        sgd.test_count,
        sgd.max_steps,
        gd.max_steps,
        seeds(settings).count(),
    )
}

/// A description of [`followed`] for a reader.
pub(crate) fn followed_words(settings: &Settings) -> String {
    let words = |rates: [f64; 3]| rates.map(short_number).join(", ");
    format!(
        "tanh networks of 3 affine layers with biases on the parity of digits, n = {}, otherwise as \
         the deep networks above. GD at η = {}, SGD (B = 1) at η = {}. Every run is measured at \
         {CHECKPOINTS_PER_DECADE} log-spaced checkpoints a decade; λ_max(H) of the Hessian of the \
         loss by Lanczos to 1e-6.",
        followed_sample_count(settings.profile),
        words(FOLLOWED_GD),
        words(FOLLOWED_SGD),
    )
}
