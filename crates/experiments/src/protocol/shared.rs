//! The part of the protocol that does not depend on the network.

use flatmin_optim::{Method, Sampling};

use crate::cell::{CellSpec, StabilityStudy, TrainSpec};
use crate::{Profile, Settings};

/// SGD with batch size 1; with one sample a batch all samplings without memory are the same.
pub(crate) const SGD: Method = Method::Sgd { batch_size: 1, sampling: Sampling::WithReplacement };
pub(crate) const GD: Method = Method::GradientDescent;

/// Largest numbers of steps of the shallow networks.
pub(super) struct Budget {
    pub(super) sgd: u64,
    pub(super) balance: u64,
    pub(super) gd: u64,
}

impl Budget {
    pub(super) fn of(profile: Profile) -> Self {
        match profile {
            Profile::Smoke => Self { sgd: 3_000, balance: 3_000, gd: 300 },
            Profile::Quick => Self { sgd: 100_000, balance: 100_000, gd: 20_000 },
            Profile::Paper | Profile::Full => Self { sgd: 400_000, balance: 200_000, gd: 20_000 },
        }
    }

    pub(super) fn steps(&self, method: Method) -> u64 {
        if method == GD { self.gd } else { self.sgd }
    }
}

/// Learning rates evenly spaced in the logarithm, thinned out for the smaller profiles. The largest
/// one always stays.
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

pub(super) fn is_near(a: f64, b: f64) -> bool {
    (a / b - 1.0).abs() < 1e-9
}

/// A run of which only the end is measured, without a study.
pub(super) fn plain(run: TrainSpec) -> TrainSpec {
    TrainSpec { checkpoints_per_decade: 0, study: StabilityStudy::None, ..run }
}

/// The cells of `runs` for every seed in turn.
pub(super) fn per_seed(settings: &Settings, runs: impl Fn(u64) -> Vec<TrainSpec>) -> Vec<CellSpec> {
    settings.seeds().flat_map(runs).map(CellSpec::Train).collect()
}

/// Number of seeds of costly networks in the profile `paper`.
pub(super) const SEEDS_OF_COSTLY: u64 = 3;

/// Number of seeds at whose minima linearised SGD is simulated.
pub(crate) fn simulated_seeds(settings: &Settings) -> u64 {
    match settings.profile {
        Profile::Smoke | Profile::Quick => 1,
        Profile::Paper => 2,
        Profile::Full => settings.seeds,
    }
}

/// Replicas of each simulation.
pub(crate) fn simulation_replicas(profile: Profile) -> usize {
    if profile == Profile::Smoke { 200 } else { 100_000 }
}

/// The questions asked of a minimum on a grid of learning rates.
pub(super) fn study(settings: &Settings, seed: u64, simulated: bool) -> StabilityStudy {
    if simulated && seed.wrapping_sub(settings.seed) < simulated_seeds(settings) {
        StabilityStudy::Dynamics { replicas: simulation_replicas(settings.profile) }
    } else {
        StabilityStudy::Threshold
    }
}
