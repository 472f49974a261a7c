//! Definitions that several statements use: instance types with their generators, random numbers,
//! and the quantities that checks compare.

pub(crate) mod batches;
pub(crate) mod diagonal;
pub(crate) mod draw;
pub(crate) mod interpolator;
pub(crate) mod minimum;
pub(crate) mod monte_carlo;
pub(crate) mod network;
pub(crate) mod perron_form;
pub(crate) mod relu;
pub(crate) mod second_moments;
pub(crate) mod sensing;
pub(crate) mod small;
pub(crate) mod steps;
pub(crate) mod trained;
pub(crate) mod univariate;

/// The source of the statements that the ledger began with.
pub(crate) const PAPER: &str = "Wu and Su (2023)";

/// The source of the statements that are new in this project.
pub(crate) const FLATMIN: &str = "flatmin";
