//! The experiments: which cells each needs, and what it shows.

mod batch_size;
mod claims;
mod deep;
mod diagonal;
mod estimators;
mod grid;
mod linear_stability;
mod norm_equivalence;
mod relu;
mod relu_dynamics;
mod runs;
mod select;
mod threshold;
mod too_weak;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::cell::{CellKey, CellSpec, Results};
use crate::table::Table;
use crate::{Settings, UnknownName};
use flatmin_figures::Figure;

pub use claims::claims;

/// The experiments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Experiment {
    /// Sharpness and loss along the training of ReLU networks.
    ReluDynamics,
    /// Sharpness of the minima of ReLU networks against the learning rate.
    ReluSharpness,
    /// Test error of the same minima.
    ReluGeneralization,
    /// Clipping and decay.
    ReluSchedule,
    /// Sharpness of the minima of diagonal networks against the learning rate.
    DiagonalSharpness,
    /// Recovery of the sparse coefficients.
    DiagonalGeneralization,
    /// Balance of the layers.
    DiagonalBalance,
    /// Trace and norm on random networks.
    NormEquivalence,
    /// Interpolators that the stability of gradient descent cannot exclude.
    TooWeak,
    /// Sharpness of the minima of ReLU networks against the batch size.
    BatchSize,
    /// Exact thresholds and every bound at trained minima.
    Threshold,
    /// SGD linearised at trained minima, on both sides of the threshold.
    LinearStability,
    /// Sharpness of the minima of deeper networks, on a teacher and on real data.
    DeepSharpness,
    /// Sharpness along the training of a deep network.
    ProgressiveSharpening,
    /// Error and coverage of trace estimators.
    Estimators,
}

/// What an experiment shows: its full table, its figure, and a summary for the report.
#[derive(Debug, Clone, PartialEq)]
pub struct Presentation {
    /// All observations.
    pub table: Table,
    /// The figure.
    pub figure: Figure,
    /// A few rows for a reader.
    pub summary: Table,
}

/// A cell that the presentation needs has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no result of the cell {key} ({label})")]
pub struct MissingCell {
    /// The cell.
    pub key: CellKey,
    /// Its description.
    pub label: String,
}

impl Experiment {
    /// All experiments, in the order of the report.
    pub const ALL: [Self; 15] = [
        Self::ReluDynamics,
        Self::ReluSharpness,
        Self::ReluGeneralization,
        Self::ReluSchedule,
        Self::DiagonalSharpness,
        Self::DiagonalGeneralization,
        Self::DiagonalBalance,
        Self::NormEquivalence,
        Self::TooWeak,
        Self::BatchSize,
        Self::Threshold,
        Self::LinearStability,
        Self::DeepSharpness,
        Self::ProgressiveSharpening,
        Self::Estimators,
    ];

    /// The name used on the command line and in files.
    pub fn id(self) -> &'static str {
        match self {
            Self::ReluDynamics => "relu_dynamics",
            Self::ReluSharpness => "relu_sharpness",
            Self::ReluGeneralization => "relu_generalization",
            Self::ReluSchedule => "relu_schedule",
            Self::DiagonalSharpness => "diagonal_sharpness",
            Self::DiagonalGeneralization => "diagonal_generalization",
            Self::DiagonalBalance => "diagonal_balance",
            Self::NormEquivalence => "norm_equivalence",
            Self::TooWeak => "too_weak",
            Self::BatchSize => "batch_size",
            Self::Threshold => "threshold",
            Self::LinearStability => "linear_stability",
            Self::DeepSharpness => "deep_sharpness",
            Self::ProgressiveSharpening => "progressive_sharpening",
            Self::Estimators => "estimators",
        }
    }

    /// Its title.
    pub fn title(self) -> &'static str {
        match self {
            Self::ReluDynamics => "ReLU networks: where the loss collapses",
            Self::ReluSharpness => "ReLU networks: sharpness of the minima found",
            Self::ReluGeneralization => "ReLU networks: generalisation of the minima found",
            Self::ReluSchedule => "ReLU networks: why clipping at 1 hides the effect",
            Self::DiagonalSharpness => "Diagonal networks: sharpness of the minima found",
            Self::DiagonalGeneralization => "Diagonal networks: recovery of the sparse target",
            Self::DiagonalBalance => "Diagonal networks: balance of the layers",
            Self::NormEquivalence => "Sharpness and parameter norms are equivalent",
            Self::TooWeak => {
                "Diagonal networks: the regularisation of gradient descent is too weak"
            }
            Self::BatchSize => "ReLU networks: sharpness of the minima found against batch size",
            Self::Threshold => "How tight the stability conditions are at trained minima",
            Self::LinearStability => "Linearised SGD on both sides of the exact threshold",
            Self::DeepSharpness => "Deeper networks and real data: sharpness of the minima found",
            Self::ProgressiveSharpening => "Deep networks: sharpness along training",
            Self::Estimators => "Trace estimators: errors, and errors of the errors",
        }
    }

    /// What the figure shows, for a reader of the report.
    pub fn shows(self) -> &'static str {
        match self {
            Self::ReluDynamics => {
                "SGD cannot settle while the minimum it is near is unstable. The training loss stays \
                 high while tr G, the batch sharpness and 2/η* (η* is the exact mean-square \
                 threshold) fall from far above 2/η; none of them rests there on the way. At the \
                 smaller rate all three pass 2/η together and the loss collapses right after, with \
                 2/η* a little below 2/η. At the larger rate tr G passes first, by a factor of two, \
                 and the loss still hovers: it collapses when 2/η* has come near 2/η, where it ends, \
                 on either side. Mean-square stability is not needed to converge, and the batch \
                 sharpness goes on fluctuating, mostly above 2/η, while the loss falls. λ_{max} is \
                 below 2/η almost from the start.\n\nGradient descent does the same with the largest \
                 eigenvalue alone: the loss collapses where λ_{max} passes 2/η, at a trace many \
                 times larger."
            }
            Self::ReluSharpness => {
                "Every minimum at which SGD came to rest obeys tr G ≤ 2/η (S2), and the path norm \
                 follows the trace down. Gradient descent constrains only the largest eigenvalue \
                 (S1); its trace and path norm hardly move until λ_{max} reaches 2/η."
            }
            Self::ReluGeneralization => {
                "Larger learning rates find minima of smaller path norm, and those generalise \
                 better; SGD does so more than gradient descent. The last panel sets the measured \
                 gap beside the Rademacher complexity bound of R6: it grows with the \
                 path norm as the gap does, and says nothing where it lies above the error of \
                 the zero function, which is everywhere here."
            }
            Self::ReluSchedule => {
                "Clipping gradients at norm 1 removes the instability that selects flat minima: \
                 training hovers, or is frozen by the decay, where tr G is far above 2/η₀. \
                 With clipping at 100 the bound holds, with or without decay."
            }
            Self::DiagonalSharpness => {
                "The same for diagonal linear networks, with the empirical and the population \
                 matrix: SGD's trace falls by orders of magnitude with η, gradient descent's does \
                 not move."
            }
            Self::DiagonalGeneralization => {
                "SGD at large learning rates recovers the sparse coefficients β*; gradient descent \
                 does not at any learning rate, and neither does the interpolator of minimum ℓ2 \
                 norm; that of minimum ℓ1 norm (basis pursuit) does."
            }
            Self::DiagonalBalance => {
                "SGD noise balances the two layers whatever the initial imbalance; gradient \
                 descent leaves them unbalanced, and more so than at the start."
            }
            Self::NormEquivalence => {
                "For ReLU networks the population trace is at least √d times the path norm, with \
                 equality for balanced neurons (R2), and the largest eigenvalue lies between two \
                 multiples of the unweighted norm (R3). For diagonal networks trace, Frobenius \
                 norm and largest eigenvalue bound the ℓ1, ℓ2 and ℓ∞ norms of β (D1)."
            }
            Self::TooWeak => {
                "The interpolator of minimum ℓ2 norm misses the fraction 1 − n/d of the sparse \
                 target (D4), yet gradient descent is stable there wherever it is stable at the \
                 target: its stability bounds only the largest coefficient. That of SGD bounds \
                 ‖β‖_{1}: at the learning rate η₀ = 1/(s²‖β*‖_{1}), where the trace condition of β* \
                 turns, no other interpolator satisfies it once basis pursuit finds β* (D3); fewer \
                 samples admit others too. Trained at a large learning rate SGD recovers the target \
                 with a few times as many samples as basis pursuit needs; gradient descent ends far \
                 from it at every n. The trace condition is necessary only: with the data at hand \
                 the exact threshold η* of β* is below η₀."
            }
            Self::BatchSize => {
                "At a fixed learning rate the noise, and with it the bound tr G ≤ 2/(pη) (S2), \
                 weakens as the batch grows: p = 1/B with replacement, (n − B)/(B(n − 1)) without. \
                 The minima found become sharper, of larger norm, and generalise worse, up to \
                 gradient descent at B = n, whose trace nothing bounds. For one minimum the exact \
                 threshold η*(B) is set beside every bound: the trace (S2) is close for the smallest \
                 batches and the largest eigenvalue (S5) for the largest ones; the spectral bound (S6) \
                 joins the two."
            }
            Self::LinearStability => {
                "SGD linearised at trained minima, just below and just above the exact threshold η*. \
                 Measured in V, the Lyapunov function of S14, it decays below η* and grows above it \
                 from the first step. The plain norm may not tell: at the ReLU minimum shown it falls \
                 for a hundred steps on either side, because from an isotropic start most of it lies \
                 in stable directions, and replicas miss the rare runs that carry its mean. A single \
                 run goes on converging up to the \
                 almost-sure edge, where the Lyapunov exponent turns: well beyond η* at the ReLU \
                 minima of the largest learning rate, at η* within a few per cent at the others."
            }
            Self::DeepSharpness => deep::SHARPNESS_SHOWS,
            Self::ProgressiveSharpening => deep::SHARPENING_SHOWS,
            Self::Estimators => estimators::SHOWS,
            Self::Threshold => {
                "The exact mean-square threshold η* at minima that training found, beside every \
                 simple condition. For single samples the trace bound (S2) is within a tenth of η* \
                 except at the largest rates. For larger batches the spectral condition (S6) is the \
                 tightest everywhere, nearly exact at B = 64, where the trace bound is several to \
                 twenty times too large.\n\nReLU networks: once η is large enough for stability to matter, \
                 SGD stops within a quarter of its edge, at the largest rate on either side of it: some \
                 minima are unstable in mean square (η* < η), yet every run that came to rest \
                 there is inside the almost-sure edge, and its Lyapunov exponent is negative. Runs at \
                 the smallest rates start out stable. Diagonal networks: at large rates SGD goes on to \
                 flatter and flatter minima, far inside the edge."
            }
        }
    }

    /// How it is run, for a reader of the report.
    pub fn how(self, settings: &Settings) -> String {
        grid::how(self, settings)
    }

    /// The cells it needs. Cells that experiments share are equal.
    pub fn cells(self, settings: &Settings) -> Vec<CellSpec> {
        match self {
            Self::ReluDynamics => grid::relu_dynamics(settings),
            Self::ReluSharpness | Self::ReluGeneralization => grid::relu_learning_rates(settings),
            Self::ReluSchedule => grid::relu_schedule(settings),
            Self::DiagonalSharpness => grid::diagonal_learning_rates(settings),
            Self::DiagonalGeneralization => {
                let mut cells = grid::diagonal_learning_rates(settings);
                cells.extend(grid::interpolators(settings));
                cells
            }
            Self::DiagonalBalance => grid::diagonal_balance(settings),
            Self::NormEquivalence => grid::norm_equivalence(settings),
            Self::TooWeak => grid::too_weak(settings),
            Self::BatchSize => grid::batch_size(settings),
            Self::Threshold => {
                let mut cells = grid::relu_learning_rates(settings);
                cells.extend(grid::diagonal_learning_rates(settings));
                cells
            }
            Self::LinearStability => grid::linear_stability(settings),
            Self::DeepSharpness => deep::deep_sharpness(settings),
            Self::ProgressiveSharpening => deep::progressive_sharpening(settings),
            Self::Estimators => estimators::cells(settings),
        }
    }

    /// Table, figure and summary from the results of its cells.
    ///
    /// # Errors
    /// [`MissingCell`] when a result is missing.
    pub fn present(
        self,
        settings: &Settings,
        results: &Results,
    ) -> Result<Presentation, MissingCell> {
        match self {
            Self::ReluDynamics => relu_dynamics::present(settings, results),
            Self::ReluSharpness => relu::sharpness(settings, results),
            Self::ReluGeneralization => relu::generalization(settings, results),
            Self::ReluSchedule => relu::schedule(settings, results),
            Self::DiagonalSharpness => diagonal::sharpness(settings, results),
            Self::DiagonalGeneralization => diagonal::generalization(settings, results),
            Self::DiagonalBalance => diagonal::balance(settings, results),
            Self::NormEquivalence => norm_equivalence::present(settings, results),
            Self::TooWeak => too_weak::present(settings, results),
            Self::BatchSize => batch_size::present(settings, results),
            Self::Threshold => threshold::present(settings, results),
            Self::LinearStability => linear_stability::present(settings, results),
            Self::DeepSharpness => deep::present_sharpness(settings, results),
            Self::ProgressiveSharpening => deep::present_sharpening(settings, results),
            Self::Estimators => estimators::present(settings, results),
        }
    }
}

/// The cells of several experiments, each once, in a fixed order.
pub fn expand(experiments: &[Experiment], settings: &Settings) -> Vec<CellSpec> {
    let mut seen = BTreeSet::new();
    let cells = experiments.iter().flat_map(|experiment| experiment.cells(settings));
    cells.filter(|cell| seen.insert(cell.key())).collect()
}

impl fmt::Display for Experiment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

impl FromStr for Experiment {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        Self::ALL
            .into_iter()
            .find(|experiment| experiment.id() == name)
            .ok_or_else(|| UnknownName::new("experiment", name, Self::ALL.map(Self::id).to_vec()))
    }
}
