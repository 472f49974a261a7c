//! The protocol of diagonal linear networks.

use flatmin_optim::{Method, Schedule};

use super::shared::{Budget, GD, SGD, is_near, levels, per_seed, plain, study};
use crate::cell::{
    CellSpec, DiagonalInitial, DiagonalProblem, InterpolatorSpec, MinimizedNorm, Problem,
    StabilityStudy, TrainSpec,
};
use crate::{Profile, Settings};

/// Fewest designs that a mean error is judged on.
pub(crate) const FEWEST_DESIGNS: u64 = 40;

const CLIP: f64 = 50.0;
const BALANCE_CLIP: f64 = 200.0;
const BALANCE_RATIOS: [f64; 5] = [1.0, 2.0, 4.0, 8.0, 16.0];
const BALANCE_LEARNING_RATE: f64 = 0.05;

/// The problem of all experiments; that on balance has other starts.
fn main_problem(profile: Profile) -> DiagonalProblem {
    let (input_dim, sample_count, test_count) = match profile {
        Profile::Smoke => (40, 16, 100),
        Profile::Quick | Profile::Paper | Profile::Full => (1000, 300, 3000),
    };
    let initial = DiagonalInitial::Gaussian;
    DiagonalProblem { input_dim, nonzero: 3, sample_count, test_count, initial }
}

fn grid(profile: Profile) -> Vec<f64> {
    levels(profile, -2.4, -0.9, 6)
}

/// The largest learning rate of the grid.
pub(crate) fn largest_rate(profile: Profile) -> f64 {
    grid(profile).last().copied().unwrap_or(f64::NAN)
}

/// The run at a learning rate of the grid. Linearised SGD is simulated at the minima of the middle
/// one.
fn run(settings: &Settings, method: Method, learning_rate: f64, seed: u64) -> TrainSpec {
    let grid = grid(settings.profile);
    let middle = grid[(grid.len() - 1) / 2];
    TrainSpec {
        problem: Problem::Diagonal(main_problem(settings.profile)),
        method,
        learning_rate,
        schedule: Schedule::Constant,
        clip_norm: CLIP,
        max_steps: Budget::of(settings.profile).steps(method),
        checkpoints_per_decade: 0,
        study: study(settings, seed, method == SGD && is_near(middle, learning_rate)),
        seed,
    }
}

/// SGD and gradient descent at every learning rate.
pub(crate) fn learning_rates(settings: &Settings) -> Vec<CellSpec> {
    let grid = grid(settings.profile);
    per_seed(settings, |seed| {
        let runs = [SGD, GD].into_iter();
        runs.flat_map(|method| grid.iter().map(move |r| run(settings, method, *r, seed))).collect()
    })
}

/// SGD and gradient descent from starts that are more and more unbalanced.
pub(crate) fn balance(settings: &Settings) -> Vec<CellSpec> {
    let budget = Budget::of(settings.profile);
    per_seed(settings, |seed| {
        let runs = BALANCE_RATIOS.into_iter().flat_map(|ratio| [(SGD, ratio), (GD, ratio)]);
        let run = |(method, ratio)| TrainSpec {
            problem: Problem::Diagonal(DiagonalProblem {
                initial: DiagonalInitial::Unbalanced { ratio },
                ..main_problem(settings.profile)
            }),
            clip_norm: BALANCE_CLIP,
            max_steps: if method == GD { budget.gd } else { budget.balance },
            ..plain(run(settings, method, BALANCE_LEARNING_RATE, seed))
        };
        runs.map(run).collect()
    })
}

/// Both interpolators of the main setting.
pub(crate) fn interpolators(settings: &Settings) -> Vec<CellSpec> {
    let problem = main_problem(settings.profile);
    let norms = [MinimizedNorm::L1, MinimizedNorm::L2];
    let of = |seed| norms.map(|norm| interpolator(settings, problem, norm, seed));
    settings.seeds().flat_map(of).collect()
}

/// An interpolator. The same one must give the same cell wherever it is asked for. Exact thresholds
/// are computed for the minimum-ℓ2 interpolator with the samples of the main setting, once a seed.
fn interpolator(
    settings: &Settings,
    problem: DiagonalProblem,
    minimizes: MinimizedNorm,
    seed: u64,
) -> CellSpec {
    let with_thresholds = minimizes == MinimizedNorm::L2
        && problem.sample_count == main_problem(settings.profile).sample_count
        && settings.seeds().any(|s| s == seed);
    CellSpec::Interpolator(InterpolatorSpec { problem, minimizes, with_thresholds, seed })
}

/// Numbers of samples from which the sparse target is to be recovered, that of the main setting
/// included.
fn sample_counts(profile: Profile) -> &'static [usize] {
    match profile {
        Profile::Smoke => &[4, 16, 28],
        Profile::Quick => &[10, 30, 100, 300],
        Profile::Paper | Profile::Full => &[10, 20, 30, 50, 100, 200, 300, 500],
    }
}

/// Number of designs over which the error of the minimum-ℓ2 interpolator is averaged.
pub(crate) fn design_count(settings: &Settings) -> u64 {
    let least = match settings.profile {
        Profile::Smoke => 3,
        Profile::Quick | Profile::Paper => FEWEST_DESIGNS,
        Profile::Full => 200,
    };
    settings.seeds.max(least)
}

/// Interpolators and trained networks for every number of samples: the minimum-ℓ2 interpolator for
/// many designs; basis pursuit and both methods at the largest learning rate for the first designs,
/// one a seed.
pub(crate) fn recovery(settings: &Settings) -> Vec<CellSpec> {
    let main = main_problem(settings.profile);
    let rate = largest_rate(settings.profile);
    let mut cells = Vec::new();
    for &sample_count in sample_counts(settings.profile) {
        let problem = DiagonalProblem { sample_count, ..main };
        let designs = (0..design_count(settings)).map(|k| settings.seed.wrapping_add(k));
        cells.extend(designs.map(|d| interpolator(settings, problem, MinimizedNorm::L2, d)));
        for seed in settings.seeds() {
            cells.push(interpolator(settings, problem, MinimizedNorm::L1, seed));
            for method in [SGD, GD] {
                let run = run(settings, method, rate, seed);
                let is_main = sample_count == main.sample_count;
                let study = if is_main { run.study } else { StabilityStudy::None };
                let problem = Problem::Diagonal(problem);
                cells.push(CellSpec::Train(TrainSpec { problem, study, ..run }));
            }
        }
    }
    cells
}

/// Number of samples of the main setting.
pub(crate) fn main_sample_count(profile: Profile) -> usize {
    main_problem(profile).sample_count
}

/// A description of the training for a reader.
pub(crate) fn words(settings: &Settings) -> String {
    let DiagonalProblem { input_dim, nonzero, sample_count, test_count, .. } =
        main_problem(settings.profile);
    let Budget { sgd, gd, .. } = Budget::of(settings.profile);
    format!(
        "d = {input_dim}, n = {sample_count} training and {test_count} test inputs uniform in the \
         cube [−1, 1]^d, β* has {nonzero} ones. a_{{j}}, b_{{j}} ~ N(0, 1). Gradient norms clipped at \
         {CLIP}; at most {sgd} SGD and {gd} GD steps. {} seed(s).",
        settings.seeds
    )
}

/// A description of [`balance`] for a reader.
pub(crate) fn balance_words(settings: &Settings) -> String {
    let DiagonalProblem { input_dim, sample_count, .. } = main_problem(settings.profile);
    let Budget { balance, gd, .. } = Budget::of(settings.profile);
    format!(
        "d = {input_dim}, n = {sample_count}. a_{{j}} ~ N(0, 0.1), b_{{j}} = ±c|a_{{j}}| with c = r₀ + \
         √(r₀² − 1), so that the initial balance ratio is r₀. η = {BALANCE_LEARNING_RATE}, gradient \
         norms clipped at {BALANCE_CLIP}, at most {balance} SGD and {gd} GD steps. {} seed(s).",
        settings.seeds
    )
}
