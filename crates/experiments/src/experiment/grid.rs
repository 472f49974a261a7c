//! Which cells each experiment runs, per profile. The numbers are the protocol of the paper.

use flatmin_optim::{Method, Sampling, Schedule};

use super::{deep, estimators};
use crate::cell::{
    CellSpec, DiagonalInitial, DiagonalProblem, FACTORS, InterpolatorSpec, MOMENTUM, MinimizedNorm,
    NetworkFamily, NormSpec, Problem, ReluProblem, StabilityStudy, TrainSpec,
};
use crate::claim::short_number;
use crate::{Experiment, Profile, Settings};

/// SGD with batch size 1; with one sample a batch all samplings without memory are the same.
pub(super) const SGD: Method = Method::Sgd { batch_size: 1, sampling: Sampling::WithReplacement };
pub(super) const GD: Method = Method::GradientDescent;

/// Clipping that only guards the first steps of ReLU networks.
pub(super) const RELU_CLIP: f64 = 100.0;
/// The clipping of a published attempt that saw no effect.
pub(super) const TIGHT_CLIP: f64 = 1.0;
const DIAGONAL_CLIP: f64 = 50.0;
const BALANCE_CLIP: f64 = 200.0;
pub(super) const BALANCE_RATIOS: [f64; 5] = [1.0, 2.0, 4.0, 8.0, 16.0];
const BALANCE_LEARNING_RATE: f64 = 0.05;

/// Learning-rate levels (the η of gradient descent; SGD's η is √d times smaller) whose runs are
/// recorded along the way.
const DYNAMICS_SGD: [f64; 2] = [0.03, 0.1];
const DYNAMICS_GD: [f64; 2] = [0.02, 0.1];
const CHECKPOINTS_PER_DECADE: u32 = 8;
/// The level at which batch sizes are compared.
const BATCH_LEVEL: f64 = 0.1;
/// Levels of SGD at whose minima linearised SGD is simulated, on the grid of learning rates.
const SIMULATED_LEVELS: [f64; 2] = [0.035_938_136_638_046_26, 0.1];

/// Fewest designs that a mean error is judged on.
pub(super) const FEWEST_DESIGNS: u64 = 40;

struct Budget {
    sgd: u64,
    balance: u64,
    gd: u64,
}

fn budget(profile: Profile) -> Budget {
    match profile {
        Profile::Smoke => Budget { sgd: 3_000, balance: 3_000, gd: 300 },
        Profile::Quick => Budget { sgd: 100_000, balance: 100_000, gd: 20_000 },
        Profile::Paper | Profile::Full => Budget { sgd: 400_000, balance: 200_000, gd: 20_000 },
    }
}

pub(super) fn relu_problem(profile: Profile) -> ReluProblem {
    match profile {
        Profile::Smoke => ReluProblem {
            teacher_width: 3,
            width: 12,
            input_dim: 9,
            sample_count: 24,
            test_count: 100,
        },
        _ => ReluProblem {
            teacher_width: 10,
            width: 100,
            input_dim: 100,
            sample_count: 300,
            test_count: 3000,
        },
    }
}

pub(super) fn diagonal_problem(profile: Profile, initial: DiagonalInitial) -> DiagonalProblem {
    let (input_dim, sample_count, test_count) = match profile {
        Profile::Smoke => (40, 16, 100),
        _ => (1000, 300, 3000),
    };
    DiagonalProblem { input_dim, nonzero: 3, sample_count, test_count, initial }
}

/// Learning rates evenly spaced in the logarithm, thinned out for the smaller profiles (the largest
/// one always stays).
pub(super) fn levels(profile: Profile, from: f64, to: f64, count: u32) -> Vec<f64> {
    let count = match profile {
        Profile::Smoke => 3,
        Profile::Quick | Profile::Paper => count,
        Profile::Full => 20,
    };
    let step = if profile == Profile::Quick { 2 } else { 1 };
    let last = count - 1;
    (0..count)
        .filter(|k| (last - k) % step == 0)
        .map(|k| libm::exp10(from + (to - from) * f64::from(k) / f64::from(last)))
        .collect()
}

fn relu_levels(profile: Profile) -> Vec<f64> {
    levels(profile, -3.0, -1.0, 10)
}

fn is_near(a: f64, b: f64) -> bool {
    (a / b - 1.0).abs() < 1e-9
}

/// The cell of a level; the same level must give the same cell wherever it is asked for.
fn relu_cell(settings: &Settings, method: Method, level: f64, seed: u64) -> TrainSpec {
    let problem = relu_problem(settings.profile);
    let budget = budget(settings.profile);
    let sgd = method != GD;
    let followed = if sgd { DYNAMICS_SGD } else { DYNAMICS_GD };
    let followed = followed.iter().any(|f| is_near(*f, level));
    let root_dim = (problem.input_dim as f64).sqrt();
    let on_grid = relu_levels(settings.profile).iter().any(|l| is_near(*l, level));
    let simulated = sgd && SIMULATED_LEVELS.iter().any(|l| is_near(*l, level));
    TrainSpec {
        problem: Problem::Relu(problem),
        method,
        learning_rate: if sgd { level / root_dim } else { level },
        schedule: Schedule::Constant,
        clip_norm: RELU_CLIP,
        max_steps: if sgd { budget.sgd } else { budget.gd },
        checkpoints_per_decade: if followed { CHECKPOINTS_PER_DECADE } else { 0 },
        study: if on_grid { study(settings, seed, simulated) } else { StabilityStudy::None },
        seed,
    }
}

/// For how many seeds linearised SGD is simulated, and with how many replicas.
fn simulation(settings: &Settings) -> (u64, usize) {
    match settings.profile {
        Profile::Smoke => (1, 200),
        Profile::Quick => (1, 100_000),
        Profile::Paper => (2, 100_000),
        Profile::Full => (settings.seeds, 100_000),
    }
}

/// What is asked of a minimum on a grid of learning rates.
fn study(settings: &Settings, seed: u64, simulated: bool) -> StabilityStudy {
    let (seeds, replicas) = simulation(settings);
    if simulated && seed.wrapping_sub(settings.seed) < seeds {
        StabilityStudy::Dynamics { replicas }
    } else {
        StabilityStudy::Threshold
    }
}

fn per_seed(settings: &Settings, cell: impl Fn(u64) -> Vec<TrainSpec>) -> Vec<CellSpec> {
    settings.seeds().flat_map(cell).map(CellSpec::Train).collect()
}

pub(super) fn relu_dynamics(settings: &Settings) -> Vec<CellSpec> {
    per_seed(settings, |seed| {
        let sgd = DYNAMICS_SGD.map(|level| relu_cell(settings, SGD, canonical(level), seed));
        let gd = DYNAMICS_GD.map(|level| relu_cell(settings, GD, canonical(level), seed));
        sgd.into_iter().chain(gd).collect()
    })
}

/// The level as the grid of learning rates computes it, where it is on that grid.
fn canonical(level: f64) -> f64 {
    relu_levels(Profile::Paper).into_iter().find(|l| is_near(*l, level)).unwrap_or(level)
}

pub(super) fn relu_learning_rates(settings: &Settings) -> Vec<CellSpec> {
    let profile = settings.profile;
    per_seed(settings, |seed| {
        let cells = [SGD, GD].into_iter().flat_map(|method| {
            relu_levels(profile).into_iter().map(move |l| relu_cell(settings, method, l, seed))
        });
        cells.collect()
    })
}

/// Batch sizes up to the number of samples, which is the last one.
fn batch_sizes(sample_count: usize) -> Vec<usize> {
    let sizes = [1, 2, 4, 8, 16, 64].into_iter().filter(|size| *size < sample_count);
    sizes.chain([sample_count]).collect()
}

/// SGD at the largest learning rate with batches of every size, drawn in both ways. With one sample
/// both are the same run; all samples without replacement are gradient descent, run as such.
///
/// A run ends after as many steps as SGD with B = 1 has, and after as many samples as gradient
/// descent: 400 000 steps, 20 000 epochs in the larger profiles.
pub(super) fn batch_size(settings: &Settings) -> Vec<CellSpec> {
    let profile = settings.profile;
    let n = relu_problem(profile).sample_count;
    let budget = budget(profile);
    per_seed(settings, |seed| {
        let single = relu_cell(settings, SGD, canonical(BATCH_LEVEL), seed);
        let mut cells = vec![single];
        for batch_size in batch_sizes(n).into_iter().filter(|size| *size > 1) {
            for sampling in [Sampling::WithReplacement, Sampling::WithoutReplacement] {
                let whole = batch_size == n && sampling == Sampling::WithoutReplacement;
                cells.push(TrainSpec {
                    method: if whole { GD } else { Method::Sgd { batch_size, sampling } },
                    max_steps: budget.sgd.min(budget.gd * n as u64 / batch_size as u64),
                    checkpoints_per_decade: 0,
                    study: StabilityStudy::None,
                    ..single
                });
            }
        }
        cells
    })
}

pub(super) fn relu_schedule(settings: &Settings) -> Vec<CellSpec> {
    per_seed(settings, |seed| {
        let mut cells = Vec::new();
        for level in DYNAMICS_SGD {
            for clip_norm in [TIGHT_CLIP, RELU_CLIP] {
                for schedule in [Schedule::Constant, Schedule::Cosine, Schedule::Step] {
                    let cell = relu_cell(settings, SGD, canonical(level), seed);
                    let plain =
                        clip_norm.total_cmp(&RELU_CLIP).is_eq() && schedule == Schedule::Constant;
                    cells.push(if plain {
                        cell
                    } else {
                        let (checkpoints_per_decade, study) = (0, StabilityStudy::None);
                        TrainSpec { schedule, clip_norm, checkpoints_per_decade, study, ..cell }
                    });
                }
            }
        }
        cells
    })
}

fn diagonal_levels(profile: Profile) -> Vec<f64> {
    levels(profile, -2.4, -0.9, 6)
}

/// The rate at whose minima linearised SGD is simulated.
fn middle(rates: &[f64]) -> f64 {
    rates[(rates.len() - 1) / 2]
}

fn diagonal_cell(settings: &Settings, method: Method, learning_rate: f64, seed: u64) -> TrainSpec {
    let profile = settings.profile;
    let budget = budget(profile);
    let middle = middle(&diagonal_levels(profile));
    TrainSpec {
        problem: Problem::Diagonal(diagonal_problem(profile, DiagonalInitial::Gaussian)),
        method,
        learning_rate,
        schedule: Schedule::Constant,
        clip_norm: DIAGONAL_CLIP,
        max_steps: if method == GD { budget.gd } else { budget.sgd },
        checkpoints_per_decade: 0,
        study: study(settings, seed, method == SGD && is_near(middle, learning_rate)),
        seed,
    }
}

pub(super) fn diagonal_learning_rates(settings: &Settings) -> Vec<CellSpec> {
    let profile = settings.profile;
    per_seed(settings, |seed| {
        let cells = [SGD, GD].into_iter().flat_map(|method| {
            let rates = diagonal_levels(profile).into_iter();
            rates.map(move |rate| diagonal_cell(settings, method, rate, seed))
        });
        cells.collect()
    })
}

/// The runs at whose minima linearised SGD is simulated.
pub(super) fn linear_stability(settings: &Settings) -> Vec<CellSpec> {
    let mut cells = relu_learning_rates(settings);
    cells.extend(diagonal_learning_rates(settings));
    cells.retain(|cell| simulated_rate(cell).is_some());
    cells
}

/// The learning rate of such a run.
fn simulated_rate(cell: &CellSpec) -> Option<f64> {
    match cell {
        CellSpec::Train(TrainSpec {
            study: StabilityStudy::Dynamics { .. },
            learning_rate,
            ..
        }) => Some(*learning_rate),
        _ => None,
    }
}

/// The different learning rates of such runs among `cells`, in words.
fn simulated_rates(cells: &[CellSpec]) -> String {
    let mut rates: Vec<f64> = cells.iter().filter_map(simulated_rate).collect();
    rates.sort_by(f64::total_cmp);
    rates.dedup();
    rates.into_iter().map(short_number).collect::<Vec<_>>().join(", ")
}

/// Number of samples of the main setting.
pub(super) fn diagonal_sample_count(profile: Profile) -> usize {
    diagonal_problem(profile, DiagonalInitial::Gaussian).sample_count
}

/// Numbers of samples from which the sparse target is to be recovered; the one of the main setting
/// is among them.
fn sample_counts(profile: Profile) -> &'static [usize] {
    match profile {
        Profile::Smoke => &[4, 16, 28],
        Profile::Quick => &[10, 30, 100, 300],
        Profile::Paper | Profile::Full => &[10, 20, 30, 50, 100, 200, 300, 500],
    }
}

/// Number of designs over which the error of the minimum-ℓ2 interpolator is averaged.
fn design_count(settings: &Settings) -> u64 {
    let least = match settings.profile {
        Profile::Smoke => 3,
        Profile::Quick | Profile::Paper => FEWEST_DESIGNS,
        Profile::Full => 200,
    };
    settings.seeds.max(least)
}

/// For every number of samples: the minimum-ℓ2 interpolator of many designs; of the first ones, one
/// a seed, basis pursuit too, and both methods trained at the largest learning rate.
pub(super) fn too_weak(settings: &Settings) -> Vec<CellSpec> {
    let profile = settings.profile;
    let rate = diagonal_levels(profile).last().copied().unwrap_or(f64::NAN);
    let mut cells = Vec::new();
    for &sample_count in sample_counts(profile) {
        let problem = DiagonalProblem {
            sample_count,
            ..diagonal_problem(profile, DiagonalInitial::Gaussian)
        };
        for design in 0..design_count(settings) {
            let seed = settings.seed.wrapping_add(design);
            cells.push(interpolator(settings, problem, MinimizedNorm::L2, seed));
        }
        for seed in settings.seeds() {
            cells.push(interpolator(settings, problem, MinimizedNorm::L1, seed));
            for method in [SGD, GD] {
                let cell = diagonal_cell(settings, method, rate, seed);
                let main = sample_count == diagonal_sample_count(profile);
                let study = if main { cell.study } else { StabilityStudy::None };
                let problem = Problem::Diagonal(problem);
                cells.push(CellSpec::Train(TrainSpec { problem, study, ..cell }));
            }
        }
    }
    cells
}

pub(super) fn interpolators(settings: &Settings) -> Vec<CellSpec> {
    let problem = diagonal_problem(settings.profile, DiagonalInitial::Gaussian);
    let norms = [MinimizedNorm::L1, MinimizedNorm::L2];
    let cells = settings
        .seeds()
        .flat_map(|seed| norms.map(|norm| interpolator(settings, problem, norm, seed)));
    cells.collect()
}

/// The same interpolator must give the same cell wherever it is asked for. Exact thresholds are those
/// of the minimum-ℓ2 interpolator with the samples of the main setting, once a seed.
fn interpolator(
    settings: &Settings,
    problem: DiagonalProblem,
    minimizes: MinimizedNorm,
    seed: u64,
) -> CellSpec {
    let with_thresholds = minimizes == MinimizedNorm::L2
        && problem.sample_count == diagonal_sample_count(settings.profile)
        && settings.seeds().any(|s| s == seed);
    CellSpec::Interpolator(InterpolatorSpec { problem, minimizes, with_thresholds, seed })
}

pub(super) fn diagonal_balance(settings: &Settings) -> Vec<CellSpec> {
    let profile = settings.profile;
    let budget = budget(profile);
    per_seed(settings, |seed| {
        let cells = BALANCE_RATIOS.into_iter().flat_map(|ratio| [(SGD, ratio), (GD, ratio)]);
        cells
            .map(|(method, ratio)| TrainSpec {
                problem: Problem::Diagonal(diagonal_problem(
                    profile,
                    DiagonalInitial::Unbalanced { ratio },
                )),
                method,
                learning_rate: BALANCE_LEARNING_RATE,
                schedule: Schedule::Constant,
                clip_norm: BALANCE_CLIP,
                max_steps: if method == GD { budget.gd } else { budget.balance },
                checkpoints_per_decade: 0,
                study: StabilityStudy::None,
                seed,
            })
            .collect()
    })
}

pub(super) fn norm_equivalence(settings: &Settings) -> Vec<CellSpec> {
    let (widths, dims, networks): (&[usize], &[usize], usize) = match settings.profile {
        Profile::Smoke => (&[1, 6], &[1, 5], 4),
        _ => (&[1, 10, 100], &[2, 10, 100], 12),
    };
    let mut cells = Vec::new();
    for seed in settings.seeds() {
        for &input_dim in dims {
            for &width in widths {
                let family = NetworkFamily::Relu;
                cells.push(CellSpec::Norms(NormSpec { family, width, input_dim, networks, seed }));
            }
            let family = NetworkFamily::Diagonal;
            cells.push(CellSpec::Norms(NormSpec { family, width: 0, input_dim, networks, seed }));
        }
    }
    cells
}

/// How an experiment is run, in words.
pub(super) fn how(experiment: Experiment, settings: &Settings) -> String {
    let profile = settings.profile;
    let relu = relu_problem(profile);
    let diagonal = diagonal_problem(profile, DiagonalInitial::Gaussian);
    let budget = budget(profile);
    let seeds = settings.seeds;
    let relu_setting = format!(
        "Teacher: {} neurons, directions uniform on the sphere, output weights ±1. Student: m = {} \
         neurons, a_{{j}} ~ N(0, 1), w_{{j}} ~ N(0, I/√d), d = {}. n = {} training and {} test inputs \
         uniform on the sphere of radius √d. Constant learning rate unless said; gradient norms \
         clipped at {RELU_CLIP}; at most {} SGD and {} GD steps; converged: training loss ≤ 10⁻¹² at \
         20 checks in a row. {seeds} seed(s).",
        relu.teacher_width,
        relu.width,
        relu.input_dim,
        relu.sample_count,
        relu.test_count,
        budget.sgd,
        budget.gd,
    );
    let diagonal_setting = format!(
        "d = {}, n = {} training and {} test inputs uniform in the cube [−1, 1]^d, β* has {} ones. \
         a_{{j}}, b_{{j}} ~ N(0, 1). Gradient norms clipped at {DIAGONAL_CLIP}; at most {} SGD and {} GD \
         steps. {seeds} seed(s).",
        diagonal.input_dim,
        diagonal.sample_count,
        diagonal.test_count,
        diagonal.nonzero,
        budget.sgd,
        budget.gd,
    );
    match experiment {
        Experiment::ReluDynamics => format!(
            "{relu_setting}\n\nEvery run is measured at {CHECKPOINTS_PER_DECADE} log-spaced checkpoints a \
             decade. Away from a minimum η* is that of SGD linearised with the gradients found \
             there, to six digits."
        ),
        Experiment::ReluSharpness | Experiment::ReluGeneralization => relu_setting,
        Experiment::ReluSchedule => format!(
            "{relu_setting}\n\nHere gradient norms are clipped at {TIGHT_CLIP} or at {RELU_CLIP}, and \
             the learning rate is constant, decays to 0 along half a cosine over all steps, or is \
             divided by 10 after a half and again after three quarters of them."
        ),
        Experiment::DiagonalSharpness | Experiment::DiagonalGeneralization => diagonal_setting,
        Experiment::DiagonalBalance => format!(
            "d = {}, n = {}. a_{{j}} ~ N(0, 0.1), b_{{j}} = ±c|a_{{j}}| with c = r₀ + √(r₀² − 1), so that the \
             initial balance ratio is r₀. η = {BALANCE_LEARNING_RATE}, gradient norms clipped at \
             {BALANCE_CLIP}, at most {} SGD and {} GD steps. {seeds} seed(s).",
            diagonal.input_dim, diagonal.sample_count, budget.balance, budget.gd,
        ),
        Experiment::BatchSize => format!(
            "{relu_setting}\n\nHere the learning rate is η = {}, and batches of B samples are drawn \
             independently from step to step, with or without replacement inside a batch. All \
             samples without replacement are gradient descent. A run ends after {} steps or {} \
             epochs, whichever comes first.",
            short_number(relu_cell(settings, SGD, canonical(BATCH_LEVEL), 0).learning_rate),
            budget.sgd,
            budget.gd,
        ),
        Experiment::TooWeak => format!(
            "{diagonal_setting}\n\nHere n varies, the learning rate is the largest one, η = {}, and \
             the interpolator of minimum ℓ2 norm is computed for {} designs at every n, the first \
             {seeds} of which are those of the other methods; a larger n adds samples to the same \
             design. An interpolator is a minimum as the \
             balanced network with its coefficients, a = √|β|, b = sign(β)√|β|; for trained \
             networks the layers are taken as they are. Exact thresholds η* (B = 1) are those of the \
             empirical matrix at n = {}, for the designs of the first {seeds} seed(s).",
            short_number(diagonal_levels(profile).last().copied().unwrap_or(f64::NAN)),
            design_count(settings),
            diagonal.sample_count,
        ),
        Experiment::LinearStability => format!(
            "The minima are those that SGD finds in the experiments on sharpness at η = {} (ReLU) and \
             {} (diagonal) with the first {} seed(s). At each, linearised SGD (B = 1) runs at η = c·η*, c = {}, with heavy-ball momentum 0 and {MOMENTUM}. Replicas of V start \
             from random signs in the eigenbasis of Y* ({} of them), those of the norm from N(0, I) \
             (a quarter as many); both starts have second moment I.",
            simulated_rates(&relu_learning_rates(settings)),
            simulated_rates(&diagonal_learning_rates(settings)),
            simulation(settings).0.min(seeds),
            FACTORS.map(short_number).join(", "),
            simulation(settings).1,
        ),
        Experiment::Threshold => format!(
            "The minima are those of the learning-rate grids. ReLU networks: {relu_setting}\n\n\
             Diagonal networks: {diagonal_setting}\n\nThe exact threshold η* is an interval that is \
             certified against rounding, of relative width below 1e-8 (1e-10 for B = 1); batches \
             are drawn without replacement. Lyapunov exponent: 32 replicas of linearised SGD, B = 1, \
             20 000 steps after 5000, at the η of the run. Almost-sure edge: the learning rate at \
             which the exponent turns positive, bracketed to 2 % by exponents 3 standard errors from \
             zero."
        ),
        Experiment::DeepSharpness => deep::how_sharpness(settings),
        Experiment::ProgressiveSharpening => deep::how_sharpening(settings),
        Experiment::Estimators => estimators::how(settings),
        Experiment::NormEquivalence => format!(
            "Random networks of several widths and input dimensions, from exactly balanced to factors \
             of 30 between the layers. The population Gauss–Newton matrix is exact (arc-cosine \
             kernels); its largest eigenvalue is found by Lanczos. {seeds} seed(s)."
        ),
    }
}
