//! Doubts about the input of an analysis.
//!
//! *Facts* are gathered while the numbers stream by, without a second pass. A *doubt* is a function
//! from the facts to words that name what looks wrong, with its numbers, and the way out. Doubts
//! rest on strong evidence only: a right input that is doubted teaches its owner to ignore doubts.

mod arrangement;
mod before_minimum;
mod columns;
mod facts;
mod flattened_outputs;
mod gram_without_flag;
mod incomplete_blocks;
mod layout;
mod loss_gradient;
mod mean_over_outputs;
mod not_stationary;
mod other_axes;
mod outputs_as_samples;
mod outputs_summed;
mod overlapping_blocks;
mod products;
mod repeated_rows;
mod residual_columns;
mod rounding;
mod single_precision;
mod symmetry;
mod transposed;
mod vanishing;

pub(super) use self::columns::{ColumnFacts, ColumnSummary};
pub(super) use self::facts::{BlockFacts, Doubt, Evidence, Facts, Reading};
pub(super) use self::products::ProductFacts;
pub(super) use self::rounding::Rounding;

use super::point::Point;

/// A doubt, if the facts raise it.
type Check = fn(&Facts<'_>) -> Option<Doubt>;

/// All doubts. The first of two about the same thing hides the second.
const CHECKS: [&[Check]; 6] = [
    &[vanishing::doubt, loss_gradient::doubt, vanishing::doubt_without_rate],
    &[
        gram_without_flag::doubt,
        transposed::doubt,
        other_axes::doubt,
        flattened_outputs::doubt,
        outputs_summed::doubt,
        outputs_as_samples::doubt,
        mean_over_outputs::doubt,
        repeated_rows::doubt,
    ],
    &[|facts| facts.point.as_ref().and_then(of_point)],
    &[incomplete_blocks::doubt],
    &[overlapping_blocks::doubt],
    &[single_precision::doubt],
];

/// Finds the doubt that the point is a minimum.
pub(super) fn of_point(point: &Point) -> Option<Doubt> {
    if point.interpolates {
        return None;
    }
    not_stationary::doubt(point).or_else(|| before_minimum::doubt(point))
}

/// True if all doubts are about the point, and none about the array.
pub(super) fn are_about_the_point(doubts: &[Doubt]) -> bool {
    doubts.iter().all(|doubt| [before_minimum::KIND, not_stationary::KIND].contains(&doubt.kind))
}

/// Finds the doubts that the facts raise.
pub(super) fn doubts(facts: &Facts<'_>) -> Vec<Doubt> {
    CHECKS.iter().filter_map(|checks| checks.iter().find_map(|check| check(facts))).collect()
}
