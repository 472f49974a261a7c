//! The protocol of ReLU networks on one input.

use flatmin_optim::Method;

use super::shared::{GD, SGD, is_near};
use crate::cell::{CellSpec, UnivariateInitial, UnivariateProblem, UnivariateSpec};
use crate::{Profile, Settings};

const CLIP: f64 = 10.0;
const STOPPING_LOSS: f64 = 1e-10;
const NOISE: f64 = 0.3;
/// A learning rate beyond the largest at which SGD can be stable at any interpolating function.
pub(crate) const UNSTABLE_RATE: f64 = 0.5;

/// The main problem: no noise, and a start with its knots spread over the inputs.
fn problem(profile: Profile) -> UnivariateProblem {
    let (sample_count, width) = match profile {
        Profile::Smoke => (6, 20),
        Profile::Quick | Profile::Paper | Profile::Full => (10, 100),
    };
    let initial = UnivariateInitial::Spread { scale: 2.0 };
    UnivariateProblem { sample_count, noise: 0.0, width, initial }
}

/// The learning rate at `index` of 0 to 7: logspace(−3, −.5, 8).
pub(crate) fn rate(index: u32) -> f64 {
    libm::exp10(-3.0 + 2.5 * f64::from(index) / 7.0)
}

/// The learning rates of the grid.
pub(crate) fn rates(profile: Profile) -> Vec<f64> {
    let all = (0..8).map(rate);
    match profile {
        Profile::Smoke => all.filter(|r| drawn().iter().any(|drawn| is_near(*drawn, *r))).collect(),
        Profile::Quick | Profile::Paper | Profile::Full => all.collect(),
    }
}

/// The three learning rates whose functions are drawn.
pub(crate) fn drawn() -> [f64; 3] {
    [rate(0), rate(4), rate(6)]
}

/// The learning rate of the runs on noisy targets, which is small enough for SGD to fit them.
pub(crate) fn noisy_rate() -> f64 {
    rate(4)
}

/// The learning rates of the runs from the default start.
pub(crate) fn default_start_rates() -> [f64; 2] {
    [rate(4), rate(6)]
}

fn run(settings: &Settings, method: Method, learning_rate: f64, seed: u64) -> UnivariateSpec {
    let max_steps = match (settings.profile, method == GD) {
        (Profile::Smoke, false) => 5_000,
        (Profile::Smoke, true) => 500,
        (_, false) => 1_000_000,
        (_, true) => 100_000,
    };
    UnivariateSpec {
        problem: problem(settings.profile),
        method,
        learning_rate,
        clip_norm: CLIP,
        max_steps,
        stopping_loss: STOPPING_LOSS,
        seed,
    }
}

/// SGD and gradient descent at every learning rate, SGD beyond the largest stable one; with noisy
/// targets; and from the default start of a framework.
pub(crate) fn cells(settings: &Settings) -> Vec<CellSpec> {
    let mut cells = Vec::new();
    for seed in settings.seeds() {
        for method in [SGD, GD] {
            let runs = rates(settings.profile).into_iter();
            cells.extend(runs.map(|rate| run(settings, method, rate, seed)));
            let noisy = run(settings, method, noisy_rate(), seed);
            let problem = UnivariateProblem { noise: NOISE, ..noisy.problem };
            cells.push(UnivariateSpec { problem, ..noisy });
        }
        cells.push(run(settings, SGD, UNSTABLE_RATE, seed));
        for eta in default_start_rates() {
            let default = run(settings, SGD, eta, seed);
            let initial = UnivariateInitial::Framework;
            let problem = UnivariateProblem { initial, ..default.problem };
            cells.push(UnivariateSpec { problem, ..default });
        }
    }
    cells.into_iter().map(CellSpec::Univariate).collect()
}

/// A description of the training for a reader.
pub(crate) fn words(settings: &Settings) -> String {
    let UnivariateProblem { sample_count, width, .. } = problem(settings.profile);
    let [sgd, gd] = [SGD, GD].map(|method| run(settings, method, 1.0, 0).max_steps);
    format!(
        "f(x) = Σ a_{{j}} max(w_{{j}}x + b_{{j}}, 0) + c with {width} neurons, all parameters \
         trained; n = {sample_count} inputs, one at random in the middle half of each of n equal \
         parts of [−1, 1], and y = sin πx. a, w ~ N(0, 4), knots uniform on [−1, 1], c = 0. Gradient \
         norms clipped at {CLIP}; a run stops at a training loss of {STOPPING_LOSS:e}, or after {sgd} \
         SGD (B = 1) or {gd} GD steps. The error is the mean of (f(x) − sin πx)² between the outermost \
         inputs. {} seed(s).\n\nBesides: targets with noise of standard deviation {NOISE}; the default start of \
         PyTorch, every weight and bias uniform on ±1/√(inputs of its layer); and SGD at η = \
         {UNSTABLE_RATE}.",
        settings.seeds
    )
}
