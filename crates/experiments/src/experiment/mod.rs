//! The experiments, a module each. A new one is such a module and its lines here.

mod batch_size;
mod deep_sharpness;
mod diagonal_balance;
mod diagonal_generalization;
mod diagonal_sharpness;
mod epochs;
mod estimators;
mod function_space;
mod linear_stability;
mod losses;
mod matrix_sensing;
mod noise_floor;
mod norm_equivalence;
mod progressive_sharpening;
mod relu_dynamics;
mod relu_generalization;
mod relu_schedule;
mod relu_sharpness;
mod threshold;
mod too_weak;

use crate::framework::Experiment;
use crate::profile::UnknownName;

/// All experiments, in the order of the report.
pub const EXPERIMENTS: &[&Experiment] = &[
    &relu_dynamics::EXPERIMENT,
    &relu_sharpness::EXPERIMENT,
    &relu_generalization::EXPERIMENT,
    &relu_schedule::EXPERIMENT,
    &diagonal_sharpness::EXPERIMENT,
    &diagonal_generalization::EXPERIMENT,
    &diagonal_balance::EXPERIMENT,
    &norm_equivalence::EXPERIMENT,
    &too_weak::EXPERIMENT,
    &batch_size::EXPERIMENT,
    &threshold::EXPERIMENT,
    &linear_stability::EXPERIMENT,
    &deep_sharpness::EXPERIMENT,
    &progressive_sharpening::EXPERIMENT,
    &estimators::EXPERIMENT,
    &matrix_sensing::EXPERIMENT,
    &function_space::EXPERIMENT,
    &losses::EXPERIMENT,
    &epochs::EXPERIMENT,
    &noise_floor::EXPERIMENT,
];

/// The experiment with this id.
///
/// # Errors
/// [`UnknownName`], which lists the valid ids.
pub fn find(id: &str) -> Result<&'static Experiment, UnknownName> {
    let found = EXPERIMENTS.iter().copied().find(|experiment| experiment.id == id);
    let valid = || EXPERIMENTS.iter().map(|experiment| experiment.id).collect();
    found.ok_or_else(|| UnknownName { kind: "experiment", name: id.to_owned(), valid: valid() })
}
