//! The experiments of flatmin as cells, with claims, tables and figures.
//!
//! An [`Experiment`] is a value: it expands into [`cell::CellSpec`]s for some [`Settings`], turns
//! their [`cell::Results`] into a [`Presentation`] (a table, a figure and a summary), and judges
//! the [`claims`] that rest on it. [`EXPERIMENTS`] lists them all. Everything is a pure function of
//! the settings; which cells are stored, in which order and on how many threads they run is decided
//! elsewhere.
//!
//! ```
//! use flatmin_experiments::{Profile, Settings, claims, expand, find};
//!
//! let settings = Settings::new(Profile::Smoke);
//! let norms = [find("norm_equivalence")?];
//! let mut results = flatmin_experiments::cell::Results::new();
//! for cell in expand(&norms, &settings) {
//!     results.insert(cell.key(), cell.run()?);
//! }
//! let claims = claims(&norms, &settings, &results)?;
//! assert_eq!(claims[0].id, "6");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bootstrap;
pub mod cell;
mod claim;
mod experiment;
mod finished;
mod framework;
mod judgement;
mod prelude;
mod profile;
mod protocol;
mod refuted;
mod runs;
mod statistics;
pub mod table;

pub use claim::{Claim, Margin, Measured, Verdict};
pub use experiment::{EXPERIMENTS, find};
pub use finished::MissingCell;
pub use framework::{Experiment, Presentation, add_intervals, claims, expand};
pub use profile::{Profile, Settings, UnknownName};
pub use refuted::{REFUTED, Refuted};
pub use table::short_number;
