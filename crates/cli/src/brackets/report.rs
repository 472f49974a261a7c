//! Brackets as JSON.

use flatmin_theory::{BracketStop, RitzMode};
use serde::Serialize;

use super::BatchBracket;
use crate::words::{Interval, Number};

/// What a bracket adds to the report of a batch.
#[derive(Debug, Serialize)]
pub(crate) struct FoundReport {
    relative_width: f64,
    status: &'static str,
    bracket: ModesReport,
    bounds: BoundsReport,
}

/// How a bracket was found.
#[derive(Debug, Serialize)]
struct ModesReport {
    rank: usize,
    converged: usize,
    products: usize,
    rest_of_trace: f64,
    rest_of_heaviest_sample: f64,
    rank_for_one_percent: Option<usize>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "UPPERCASE")]
struct BoundsReport {
    s2: Number,
    s5: Number,
    s6: Number,
    s7: Number,
    s19: Number,
}

/// The leading part of the spectrum of G.
#[derive(Debug, Serialize)]
pub(crate) struct LeadingReport {
    lambda_max_interval: Interval,
    leading_modes: Vec<ModeReport>,
}

#[derive(Debug, Serialize)]
struct ModeReport {
    eigenvalue: Number,
    residual: Number,
}

/// The reason for the end of a bracket, in the word of the JSON.
fn status(stop: BracketStop) -> &'static str {
    match stop {
        BracketStop::Width => "width_reached",
        BracketStop::Complete => "complete",
        BracketStop::Products => "products_spent",
        BracketStop::Rank => "rank_reached",
        BracketStop::Memory => "memory_spent",
        BracketStop::Caller => "interrupted",
    }
}

impl FoundReport {
    pub(crate) fn new(batch: &BatchBracket) -> Self {
        let (bracket, bounds) = (&batch.bracket, batch.bracket.bounds);
        Self {
            relative_width: bracket.relative_width(),
            status: status(bracket.stop),
            bracket: ModesReport {
                rank: bracket.rank,
                converged: bracket.converged,
                products: bracket.products,
                rest_of_trace: bracket.rest_of_trace.max(0.0),
                rest_of_heaviest_sample: bracket.rest_of_heaviest.max(0.0),
                rank_for_one_percent: bracket.rank_for_one_percent,
            },
            bounds: BoundsReport {
                s2: Number(bounds.trace),
                s5: Number(bounds.lambda_max),
                s6: Number(bounds.spectral),
                s7: Number(bounds.sufficient),
                s19: Number(bounds.contraction),
            },
        }
    }
}

/// The largest eigenvalue of G for the loss without scale: it lies between these two.
pub(crate) fn lambda_max(batches: &[BatchBracket]) -> (f64, f64) {
    let ends = batches.iter().map(|batch| batch.bracket.lambda_max);
    ends.fold((0.0, f64::INFINITY), |ends, (low, high)| (ends.0.max(low), ends.1.min(high)))
}

impl LeadingReport {
    /// The spectrum of `scale` times the loss, of the last bracket.
    pub(crate) fn new(batches: &[BatchBracket], scale: f64) -> Self {
        let (lower, upper) = lambda_max(batches);
        let modes = batches.last().map_or(&[][..], |batch| &batch.bracket.modes);
        let mode = |mode: &RitzMode| ModeReport {
            eigenvalue: Number(scale * mode.value),
            residual: Number(scale * mode.residual),
        };
        Self {
            lambda_max_interval: Interval::new(scale * lower, scale * upper),
            leading_modes: modes.iter().map(mode).collect(),
        }
    }
}
