//! The experiments of flatmin as cells, with claims, tables and figures.
//!
//! An [`Experiment`] expands into [`cell::CellSpec`]s for a [`Settings`], and turns their
//! [`cell::Results`] into a [`Presentation`]: a table, a figure and a summary. [`claims`] judges the
//! paper's claims on the same results. Everything is a pure function of the settings; which cells
//! are stored, in which order and on how many threads they run is decided elsewhere.

pub mod cell;
mod claim;
pub mod command;
mod experiment;
mod profile;
pub mod report;
mod statistics;
pub mod table;

pub use claim::{Claim, Measured, Verdict, short_number};
pub use experiment::{Experiment, MissingCell, Presentation, claims, expand};
pub use profile::{Profile, Settings};

/// A name that is none of the known ones.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {kind} {name:?}; valid: {}", valid.join(", "))]
pub struct UnknownName {
    kind: &'static str,
    name: String,
    valid: Vec<&'static str>,
}

impl UnknownName {
    pub(crate) fn new(kind: &'static str, name: &str, valid: Vec<&'static str>) -> Self {
        Self { kind, name: name.to_owned(), valid }
    }
}
