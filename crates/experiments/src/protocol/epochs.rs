//! The protocol of reshuffled epochs.

use flatmin_optim::Sampling;

use super::relu::CLIP;
use crate::cell::{CellSpec, EpochSpec, ReluProblem, ShortBatch};
use crate::short_number;
use crate::{Profile, Settings};

/// Learning-rate levels; η is √d times smaller.
const LEVELS: [f64; 3] = [0.03, 0.06, 0.1];
/// The level at which SGD with B = 1 rests past its mean-square edge.
const TOP_LEVEL: f64 = 0.1;
/// The learning rate after a push, in units of η*(B).
const SHORT_FACTOR: f64 = 0.9;

struct Sizes {
    input_dim: usize,
    sample_count: usize,
    batches: [usize; 3],
    /// Dimension, samples and batch size where the last batch has one sample.
    short: [usize; 3],
    max_steps: u64,
    /// Random orders of an edge, and those at the top level.
    orders: [usize; 2],
    /// Seeds with edges at lower levels and with larger batches.
    edge_seeds: u64,
    trials: usize,
}

fn sizes(profile: Profile) -> Sizes {
    match profile {
        Profile::Smoke => Sizes {
            input_dim: 4,
            sample_count: 12,
            batches: [1, 4, 6],
            short: [4, 9, 8],
            max_steps: 1_000,
            orders: [8, 8],
            edge_seeds: 1,
            trials: 2,
        },
        Profile::Quick | Profile::Paper => Sizes {
            input_dim: 36,
            sample_count: 108,
            batches: [1, 8, 20],
            short: [16, 49, 48],
            max_steps: 400_000,
            orders: if profile == Profile::Quick { [8, 8] } else { [10, 36] },
            edge_seeds: if profile == Profile::Quick { 1 } else { 2 },
            trials: 10,
        },
        Profile::Full => Sizes {
            input_dim: 100,
            sample_count: 300,
            batches: [1, 8, 64],
            short: [16, 49, 48],
            max_steps: 400_000,
            orders: [64, 64],
            edge_seeds: 3,
            trials: 10,
        },
    }
}

fn problem([input_dim, sample_count]: [usize; 2], profile: Profile) -> ReluProblem {
    let [teacher_width, width] = if profile == Profile::Smoke { [3, 8] } else { [10, 100] };
    ReluProblem { teacher_width, width, input_dim, sample_count, test_count: 0 }
}

/// η at a level.
fn rate(settings: &Settings, level: f64) -> f64 {
    level / (sizes(settings.profile).input_dim as f64).sqrt()
}

/// SGD with independent and with reshuffled batches at every level and batch size, with the edges
/// of some minima; and trials with a short last batch.
pub(crate) fn cells(settings: &Settings) -> Vec<CellSpec> {
    let profile = settings.profile;
    let Sizes { input_dim, sample_count, batches, short, max_steps, orders, .. } = sizes(profile);
    let Sizes { edge_seeds, trials, .. } = sizes(profile);
    let mut cells = Vec::new();
    for seed in settings.seeds() {
        let index = seed.wrapping_sub(settings.seed);
        for (position, batch_size) in batches.into_iter().enumerate() {
            for level in LEVELS {
                let is_top = level >= TOP_LEVEL;
                for sampling in [Sampling::WithoutReplacement, Sampling::Reshuffling] {
                    let is_reshuffled = sampling == Sampling::Reshuffling;
                    // The claim on medians is about single samples at the top level.
                    let edge_orders = match (position, is_top, is_reshuffled) {
                        (0, true, true) => orders[1],
                        (0, _, true) | (_, true, true) if index < edge_seeds => orders[0],
                        // Where independent draws led the edge differs little: one seed shows it.
                        (0, _, false) if index == 0 => orders[0],
                        _ => 0,
                    };
                    cells.push(EpochSpec {
                        problem: problem([input_dim, sample_count], profile),
                        batch_size,
                        sampling,
                        learning_rate: rate(settings, level),
                        clip_norm: CLIP,
                        max_steps: max_steps / if position == 0 { 1 } else { 4 },
                        edge_orders,
                        short_batch: None,
                        seed,
                    });
                }
            }
        }
        if index < edge_seeds {
            let [input_dim, sample_count, batch_size] = short;
            cells.push(EpochSpec {
                problem: problem([input_dim, sample_count], profile),
                batch_size: 1,
                sampling: Sampling::WithoutReplacement,
                learning_rate: LEVELS[0] / (input_dim as f64).sqrt(),
                clip_norm: CLIP,
                max_steps,
                edge_orders: 0,
                short_batch: Some(ShortBatch {
                    batch_size,
                    factor: SHORT_FACTOR,
                    trials,
                    epochs: 200,
                }),
                seed,
            });
        }
    }
    cells.into_iter().map(CellSpec::Epochs).collect()
}

/// A description of the training for a reader.
pub(crate) fn words(settings: &Settings) -> String {
    let Sizes { input_dim, sample_count, batches, short, max_steps, orders, .. } =
        sizes(settings.profile);
    let Sizes { edge_seeds, trials, .. } = sizes(settings.profile);
    let rates = LEVELS.map(|level| short_number(rate(settings, level)));
    let [short_dim, short_count, short_size] = short;
    let [_, medium, large] = batches;
    format!(
        "Two-layer ReLU networks on the teacher of the experiments above, with d = {input_dim} and \
         n = {sample_count}. SGD at η = {} with independent batches (drawn anew at every step) and \
         with reshuffled epochs, B = 1, {medium} and {large}; a short last batch is dropped. At most \
         {max_steps} steps (B = 1). The edge of reshuffled epochs (S21) is a Monte Carlo estimate \
         with a 95 % interval, from {} to {} random orders, and is computed at minima of reshuffled SGD: \
         for B = 1 and the largest η of every seed, else of the first {edge_seeds} seed(s), larger \
         batches at the largest η only; and at minima of independent draws of one seed. {} seed(s).\n\nShort last batch: d = {short_dim}, n = {short_count}, \
         B = {short_size}, so that an epoch ends with a batch of one. {trials} runs start 10⁻⁷ from \
         an exact minimum at {SHORT_FACTOR} η*(B) and last 200 epochs.",
        rates.join(", "),
        orders[0],
        orders[1],
        settings.seeds,
    )
}
