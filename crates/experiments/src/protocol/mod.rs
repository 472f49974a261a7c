//! The protocol of the paper: sizes, learning rates and budgets of each profile, and the cells that
//! several experiments share.

pub(crate) mod classes;
pub(crate) mod deep;
pub(crate) mod diagonal;
pub(crate) mod epochs;
pub(crate) mod plateau;
pub(crate) mod relu;
pub(crate) mod sensing;
mod shared;
pub(crate) mod univariate;

pub(crate) use shared::{GD, SGD, simulated_seeds, simulation_replicas};
