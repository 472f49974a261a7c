//! The protocol of matrix sensing.

use flatmin_optim::Method;

use super::shared::{GD, SGD};
use crate::cell::{CellSpec, SensingProblem, SensingReferenceSpec, SensingSpec};
use crate::{Profile, Settings};

/// Learning rates of SGD in units of `η_c`: six from .02 to .9, and one beyond the edge of M*.
const SGD_RATES: u32 = 6;
pub(crate) const TOP_RATE: f64 = 0.9;
pub(crate) const UNSTABLE_RATE: f64 = 1.3;
/// Learning rates of gradient descent in units of `η_c`, as powers of ten: from −1 to 1.5 by halves.
const GD_HALF_DECADES: std::ops::RangeInclusive<i32> = -2..=3;

/// Most steps of gradient descent where the number of samples varies, which is enough for all but the
/// largest learning rate.
const VARIED_GD_STEPS: u64 = 5_000;

struct Sizes {
    problem: SensingProblem,
    clip_norm: f64,
    sgd_steps: u64,
    gd_steps: u64,
    /// Numbers of samples from which M* is to be recovered.
    sample_counts: &'static [usize],
}

fn sizes(profile: Profile) -> Sizes {
    let problem = |dim, sample_count| SensingProblem { dim, sample_count };
    match profile {
        Profile::Smoke => Sizes {
            problem: problem(5, 20),
            clip_norm: 100.0,
            sgd_steps: 3_000,
            gd_steps: 300,
            sample_counts: &[12, 20],
        },
        Profile::Quick => Sizes {
            problem: problem(16, 96),
            clip_norm: 300.0,
            sgd_steps: 200_000,
            gd_steps: 20_000,
            sample_counts: &[36, 64, 96, 160],
        },
        Profile::Paper | Profile::Full => Sizes {
            problem: problem(24, 192),
            clip_norm: 800.0,
            sgd_steps: 200_000,
            gd_steps: 20_000,
            sample_counts: &[72, 108, 144, 192, 272, 384],
        },
    }
}

fn run(settings: &Settings, method: Method, factor: f64, seed: u64) -> SensingSpec {
    let Sizes { problem, clip_norm, sgd_steps, gd_steps, .. } = sizes(settings.profile);
    SensingSpec {
        problem,
        method,
        learning_rate: factor * problem.critical_rate(),
        clip_norm,
        max_steps: if method == GD { gd_steps } else { sgd_steps },
        with_threshold: method == SGD,
        seed,
    }
}

/// Number of seeds for which the number of samples varies.
pub(crate) fn varied_seeds(settings: &Settings) -> u64 {
    match settings.profile {
        Profile::Smoke | Profile::Quick | Profile::Paper => settings.seeds.min(2),
        Profile::Full => settings.seeds,
    }
}

/// SGD and gradient descent at every learning rate; SGD at the top rate and gradient descent from
/// `η_c` up for several numbers of samples; the interpolators of all these problems.
pub(crate) fn cells(settings: &Settings) -> Vec<CellSpec> {
    let Sizes { problem: main, sample_counts, .. } = sizes(settings.profile);
    let (low, high) = (libm::log10(0.02), libm::log10(TOP_RATE));
    let sgd = (0..SGD_RATES)
        .map(|k| libm::exp10(low + (high - low) * f64::from(k) / f64::from(SGD_RATES - 1)))
        .map(|factor| if (factor - TOP_RATE).abs() < 1e-9 { TOP_RATE } else { factor })
        .chain([UNSTABLE_RATE]);
    let gd = GD_HALF_DECADES.map(|halves| libm::exp10(0.5 * f64::from(halves)));
    let rates: Vec<(Method, f64)> =
        sgd.map(|factor| (SGD, factor)).chain(gd.map(|factor| (GD, factor))).collect();
    let mut cells = Vec::new();
    for seed in settings.seeds() {
        let runs = rates.iter().map(|(method, factor)| run(settings, *method, *factor, seed));
        cells.extend(runs.map(CellSpec::Sensing));
        let reference = |problem, with_stability| {
            CellSpec::SensingReference(SensingReferenceSpec { problem, with_stability, seed })
        };
        cells.push(reference(main, true));
        if seed.wrapping_sub(settings.seed) >= varied_seeds(settings) {
            continue;
        }
        let others = sample_counts.iter().filter(|count| **count != main.sample_count);
        for &sample_count in others {
            let problem = SensingProblem { sample_count, ..main };
            cells.push(reference(problem, false));
            let varied = [(SGD, TOP_RATE)].into_iter().chain(gd_from_critical(&rates));
            for (method, factor) in varied {
                let run = run(settings, method, factor, seed);
                let most = if method == GD { VARIED_GD_STEPS } else { u64::MAX };
                cells.push(CellSpec::Sensing(SensingSpec {
                    problem,
                    max_steps: run.max_steps.min(most),
                    with_threshold: false,
                    ..run
                }));
            }
        }
    }
    cells
}

/// The settings of gradient descent from `η_c` up.
fn gd_from_critical(rates: &[(Method, f64)]) -> impl Iterator<Item = (Method, f64)> {
    rates.iter().copied().filter(|(method, factor)| *method == GD && *factor > 0.99)
}

/// A description of the training for a reader.
pub(crate) fn words(settings: &Settings) -> String {
    let Sizes { problem, clip_norm, sgd_steps, gd_steps, sample_counts } = sizes(settings.profile);
    let SensingProblem { dim, sample_count } = problem;
    let counts: Vec<String> = sample_counts.iter().map(ToString::to_string).collect();
    format!(
        "f(X) = ⟨X, UVᵀ⟩ with d × d factors, d = {dim}; n = {sample_count} measurements without \
         noise of M* = d u vᵀ (rank 1) by matrices with N(0, 1) entries. U, V ~ N(0, 1). Learning \
         rates are given in units of η_c = 1/(s²d‖M*‖_{{*}}) = 1/d². Gradient norms clipped at \
         {clip_norm}; at most {sgd_steps} SGD (B = 1) and {gd_steps} GD steps. {} seed(s).\n\nError \
         against n: n = {}, SGD at {TOP_RATE} η_c and GD at four learning rates from η_c to \
         31.6 η_c, of which the best is drawn (at most {VARIED_GD_STEPS} steps), {} seed(s); a larger n \
         adds measurements to the same design.",
        settings.seeds,
        counts.join(", "),
        varied_seeds(settings),
    )
}
