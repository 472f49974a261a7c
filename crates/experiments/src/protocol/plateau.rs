//! The protocol of the noise floor.

use crate::cell::{CellSpec, PlateauModel, PlateauOptimizer, PlateauSpec};
use crate::{Profile, Settings};

/// Learning rates in units of η*, for linear models and for networks.
const LINEAR_FACTORS: [f64; 6] = [0.3, 0.6, 0.8, 0.9, 0.95, 0.98];
const TANH_FACTORS: [f64; 5] = [0.3, 0.5, 0.6, 0.8, 0.9];
/// Standard deviations of the noise of the targets of networks. The claim is about the first.
pub(crate) const TANH_NOISE: [f64; 2] = [0.01, 0.1];
const SAMPLES: usize = 60;
const PARAMETERS: usize = 20;
const OUTPUTS: [usize; 2] = [1, 3];
const BATCH_SIZES: [usize; 2] = [1, 8];
const TANH: PlateauModel = PlateauModel::Tanh { input_dim: 4, width: 4 };

fn steps(profile: Profile) -> u64 {
    match profile {
        Profile::Smoke => 500,
        Profile::Quick => 20_000,
        Profile::Paper => 25_000,
        Profile::Full => 400_000,
    }
}

/// Linear least squares with every optimizer, batch size and number of outputs; and tanh networks.
pub(crate) fn cells(settings: &Settings) -> Vec<CellSpec> {
    use PlateauOptimizer::{Momentum, Nesterov, Plain};
    let is_small = settings.profile <= Profile::Quick;
    let mut cells = Vec::new();
    for seed in settings.seeds() {
        let base = PlateauSpec {
            model: TANH,
            sample_count: SAMPLES,
            noise: 1.0,
            optimizer: Plain,
            batch_size: 1,
            factors: LINEAR_FACTORS.to_vec(),
            steps: steps(settings.profile),
            seed,
        };
        for outputs in OUTPUTS {
            for optimizer in [Plain, Momentum, Nesterov] {
                for batch_size in BATCH_SIZES {
                    if is_small && outputs > 1 && optimizer != Plain {
                        continue;
                    }
                    let model = PlateauModel::Linear { parameters: PARAMETERS, outputs };
                    cells.push(PlateauSpec { model, optimizer, batch_size, ..base.clone() });
                }
            }
        }
        let networks = [(Plain, 1), (Plain, 8), (Momentum, 1), (Nesterov, 1)];
        for (optimizer, batch_size) in networks {
            for noise in TANH_NOISE {
                if noise > TANH_NOISE[0] && optimizer != Plain {
                    continue;
                }
                let factors = TANH_FACTORS.to_vec();
                cells.push(PlateauSpec { noise, optimizer, batch_size, factors, ..base.clone() });
            }
        }
    }
    cells.into_iter().map(CellSpec::Plateau).collect()
}

/// A description of the simulations for a reader.
pub(crate) fn words(settings: &Settings) -> String {
    let [small, large] = TANH_NOISE;
    format!(
        "Linear least squares: n = {SAMPLES} samples, p = {PARAMETERS} parameters, gradients \
         N(0, 1), one or three outputs a sample, noise N(0, 1) of which the part in the span of the \
         gradients is taken off, so that the start is the minimum. Network: tanh, 4–4–1 with \
         biases, parameters and inputs N(0, 1), noise of standard deviation {small} or {large} made \
         in the same way. SGD, heavy-ball and Nesterov momentum .9, batches of B = 1 and 8 without \
         replacement, at c η* of the same optimizer and batch size. {} steps after a burn-in of \
         three tenths as many. Every step gives the loss of its batch before the step, whose mean is \
         the training loss; the standard error comes from the means of 50 segments. {} seed(s), each \
         with its own data.",
        steps(settings.profile),
        settings.seeds
    )
}
