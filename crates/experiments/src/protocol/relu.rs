//! The protocol of two-layer ReLU networks.

use flatmin_optim::{Method, Sampling, Schedule};

use super::shared::{Budget, GD, SGD, is_near, levels, per_seed, plain, study};
use crate::cell::{CellSpec, Problem, ReluProblem, StabilityStudy, TrainSpec};
use crate::{Profile, Settings};

/// Clipping that only guards the first steps.
pub(crate) const CLIP: f64 = 100.0;
/// The clipping of a published attempt that saw no effect.
pub(crate) const TIGHT_CLIP: f64 = 1.0;
/// Log-spaced checkpoints of the runs that are followed along training.
pub(crate) const CHECKPOINTS_PER_DECADE: u32 = 8;

/// Learning-rate levels whose runs are followed along training. A level is the η of gradient
/// descent; the η of SGD is √d times smaller.
const FOLLOWED_SGD: [f64; 2] = [0.03, 0.1];
const FOLLOWED_GD: [f64; 2] = [0.02, 0.1];
/// The level at which batch sizes are compared.
const BATCH_LEVEL: f64 = 0.1;
/// Levels of SGD at whose minima linearised SGD is simulated, on the grid of learning rates.
const SIMULATED_LEVELS: [f64; 2] = [0.035_938_136_638_046_26, 0.1];

fn problem(profile: Profile) -> ReluProblem {
    let [teacher_width, width, input_dim, sample_count, test_count] = match profile {
        Profile::Smoke => [3, 12, 9, 24, 100],
        Profile::Quick | Profile::Paper | Profile::Full => [10, 100, 100, 300, 3000],
    };
    ReluProblem { teacher_width, width, input_dim, sample_count, test_count }
}

fn grid(profile: Profile) -> Vec<f64> {
    levels(profile, -3.0, -1.0, 10)
}

/// A level as the grid of learning rates computes it, where it is on that grid.
fn canonical(level: f64) -> f64 {
    grid(Profile::Paper).into_iter().find(|l| is_near(*l, level)).unwrap_or(level)
}

/// The run at a level. The same level must give the same cell wherever it is asked for.
fn run(settings: &Settings, method: Method, level: f64, seed: u64) -> TrainSpec {
    let problem = problem(settings.profile);
    let is_sgd = method != GD;
    let followed = if is_sgd { FOLLOWED_SGD } else { FOLLOWED_GD };
    let followed = followed.iter().any(|f| is_near(*f, level));
    let root_dim = (problem.input_dim as f64).sqrt();
    let on_grid = grid(settings.profile).iter().any(|l| is_near(*l, level));
    let simulated = is_sgd && SIMULATED_LEVELS.iter().any(|l| is_near(*l, level));
    TrainSpec {
        problem: Problem::Relu(problem),
        method,
        learning_rate: if is_sgd { level / root_dim } else { level },
        schedule: Schedule::Constant,
        clip_norm: CLIP,
        max_steps: Budget::of(settings.profile).steps(method),
        checkpoints_per_decade: if followed { CHECKPOINTS_PER_DECADE } else { 0 },
        study: if on_grid { study(settings, seed, simulated) } else { StabilityStudy::None },
        seed,
    }
}

/// SGD and gradient descent at every level.
pub(crate) fn learning_rates(settings: &Settings) -> Vec<CellSpec> {
    let grid = grid(settings.profile);
    per_seed(settings, |seed| {
        let runs = [SGD, GD].into_iter();
        runs.flat_map(|method| grid.iter().map(move |l| run(settings, method, *l, seed))).collect()
    })
}

/// The runs that are followed along training.
pub(crate) fn followed(settings: &Settings) -> Vec<CellSpec> {
    per_seed(settings, |seed| {
        let sgd = FOLLOWED_SGD.map(|level| run(settings, SGD, canonical(level), seed));
        let gd = FOLLOWED_GD.map(|level| run(settings, GD, canonical(level), seed));
        [sgd, gd].concat()
    })
}

/// SGD with each schedule, clipped tightly and not. Without either it is the run on the grid.
pub(crate) fn schedules(settings: &Settings) -> Vec<CellSpec> {
    per_seed(settings, |seed| {
        let mut runs = Vec::new();
        for level in FOLLOWED_SGD {
            let reference = run(settings, SGD, canonical(level), seed);
            for clip_norm in [TIGHT_CLIP, CLIP] {
                for schedule in [Schedule::Constant, Schedule::Cosine, Schedule::Step] {
                    let changed = TrainSpec { schedule, clip_norm, ..reference };
                    runs.push(if changed == reference { reference } else { plain(changed) });
                }
            }
        }
        runs
    })
}

/// The learning rate of SGD at which batch sizes are compared.
pub(crate) fn batch_learning_rate(settings: &Settings) -> f64 {
    run(settings, SGD, canonical(BATCH_LEVEL), 0).learning_rate
}

/// Largest numbers of steps of SGD and of gradient descent.
pub(crate) fn largest_steps(profile: Profile) -> [u64; 2] {
    let budget = Budget::of(profile);
    [budget.sgd, budget.gd]
}

/// SGD at the largest learning rate with batches of every size, drawn in both ways. With one sample
/// both are the same run; all samples without replacement are gradient descent, run as such.
///
/// A run ends after as many steps as SGD with B = 1 has, and after as many samples as gradient
/// descent: 400 000 steps, 20 000 epochs in the larger profiles.
pub(crate) fn batch_sizes(settings: &Settings) -> Vec<CellSpec> {
    let n = problem(settings.profile).sample_count;
    let budget = Budget::of(settings.profile);
    let sizes: Vec<usize> = [2, 4, 8, 16, 64].into_iter().filter(|size| *size < n).collect();
    per_seed(settings, |seed| {
        let single = run(settings, SGD, canonical(BATCH_LEVEL), seed);
        let mut runs = vec![single];
        for batch_size in sizes.iter().copied().chain([n]) {
            let max_steps = budget.sgd.min(budget.gd * n as u64 / batch_size as u64);
            for sampling in [Sampling::WithReplacement, Sampling::WithoutReplacement] {
                let whole = batch_size == n && sampling == Sampling::WithoutReplacement;
                let method = if whole { GD } else { Method::Sgd { batch_size, sampling } };
                runs.push(TrainSpec { method, max_steps, ..plain(single) });
            }
        }
        runs
    })
}

/// A description of the training for a reader.
pub(crate) fn words(settings: &Settings) -> String {
    let ReluProblem { teacher_width, width, input_dim, sample_count, test_count } =
        problem(settings.profile);
    let [sgd, gd] = largest_steps(settings.profile);
    format!(
        "Teacher: {teacher_width} neurons, directions uniform on the sphere, output weights ±1. \
         Student: m = {width} neurons, a_{{j}} ~ N(0, 1), w_{{j}} ~ N(0, I/√d), d = {input_dim}. n = \
         {sample_count} training and {test_count} test inputs uniform on the sphere of radius √d. \
         Constant learning rate unless said; gradient norms clipped at {CLIP}; at most {sgd} SGD \
         and {gd} GD steps; converged: training loss ≤ 10⁻¹² at 20 checks in a row. {} seed(s).",
        settings.seeds
    )
}
