//! The protocol of the paper: sizes, learning rates and budgets of each profile, and the cells that
//! several experiments share.

pub(crate) mod deep;
pub(crate) mod diagonal;
pub(crate) mod relu;
mod shared;

pub(crate) use shared::{GD, SGD, simulated_seeds, simulation_replicas};
