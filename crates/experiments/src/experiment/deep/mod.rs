//! Deep networks: the minima that training finds, and sharpness along training.

mod grid;
mod sharpening;
mod sharpness;

pub(super) use grid::deep_sharpness;
pub(super) use grid::{how_sharpening, how_sharpness, progressive_sharpening};
pub(super) use sharpening::{Course, present as present_sharpening};
pub(super) use sharpness::present as present_sharpness;

use super::MissingCell;
use super::select::missing;
use crate::cell::{CellResult, CellSpec, DeepMeasurement, DeepResult, DeepSpec, DeepTask, Results};

/// What the figure on minima shows, for a reader of the report.
pub(super) const SHARPNESS_SHOWS: &str = "Does it hold for deeper networks and real data? At every depth, on a teacher's outputs and on \
     the parity of handwritten digits, the minima at which SGD came to rest obey tr G ≤ 2/η (S2), and \
     as η grows SGD stops closer and closer to its exact edge, η* = η. The trace condition stays a \
     good guide but loosens with depth: (2/tr G)/η* is hardly more than 1 for two layers and up to \
     half as much again or more for four. The largest rate leaves some networks hovering or dead. \
     Gradient descent is held by λ_{max} alone (S1): where it met its edge, λ_{max} sits on 2/η, and \
     tr G lies several times above it.";

/// What the figure on training shows.
pub(super) const SHARPENING_SHOWS: &str = "Gradient descent sharpens as long as it can: λ_{max} of the Hessian rises from its start, \
     overshoots 2/η, and then stays there to a few parts in a thousand while the loss goes on \
     falling, not always monotonically: the edge of stability (Cohen et al. 2021). At the smallest \
     rate it never meets 2/η. SGD sharpens much less: the larger its η, the lower its trace ends, \
     at a λ_{max} far below 2/η and with a smaller test loss. The table shows how far its own exact edge \
     η* is from η then.";

/// A run of a deep network with its specification.
#[derive(Debug, Clone, Copy)]
pub(super) struct DeepRun<'r> {
    pub(super) spec: DeepSpec,
    pub(super) result: &'r DeepResult,
}

impl DeepRun<'_> {
    /// `2/η`.
    pub(super) fn edge(&self) -> f64 {
        2.0 / self.spec.learning_rate
    }
}

/// `tr G · η/2` at the end.
pub(super) fn scaled_trace(run: &DeepRun<'_>) -> Option<f64> {
    Some(run.result.last?.empirical.trace / run.edge())
}

/// `λ_max(G) · η/2` at the end.
pub(super) fn scaled_lambda_max(run: &DeepRun<'_>) -> Option<f64> {
    Some(run.result.last?.empirical.lambda_max / run.edge())
}

/// `η*/η` at the end.
pub(super) fn margin(run: &DeepRun<'_>) -> Option<f64> {
    Some(run.result.last?.threshold? / run.spec.learning_rate)
}

/// The learning rate at which the trace condition turns over the exact threshold, at the end.
pub(super) fn trace_bound_ratio(run: &DeepRun<'_>) -> Option<f64> {
    let last = run.result.last?;
    Some(2.0 / last.empirical.trace / last.threshold?)
}

/// Test loss at the end over that of the zero function.
pub(super) fn relative_test_error(run: &DeepRun<'_>) -> Option<f64> {
    Some(run.result.last?.test_loss / run.result.zero_test_loss)
}

/// The deep runs among `cells`.
pub(super) fn deep_runs<'r>(
    cells: &[CellSpec],
    results: &'r Results,
) -> Result<Vec<DeepRun<'r>>, MissingCell> {
    let mut runs = Vec::new();
    for cell in cells {
        if let CellSpec::Deep(spec) = cell {
            match results.get(&cell.key()) {
                Some(CellResult::Deep(result)) => runs.push(DeepRun { spec: *spec, result }),
                _ => return Err(missing(cell)),
            }
        }
    }
    Ok(runs)
}

/// Runs of one task and depth.
pub(super) fn of_depth<'r>(runs: &[DeepRun<'r>], task: DeepTask, depth: usize) -> Vec<DeepRun<'r>> {
    let chosen = runs.iter().filter(|run| run.spec.task == task && run.spec.depth == depth);
    chosen.copied().collect()
}

/// A quantity at one point of a run.
type Quantity = fn(&DeepMeasurement) -> Option<f64>;
