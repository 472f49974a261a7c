//! Figures as plain data, drawn as SVG: panels of points and lines with named reference curves.
//!
//! ```
//! use flatmin_figures::{Axis, Figure, Mark, Panel, Reference, ReferenceKind, Series, Style};
//!
//! let bound = (1..=8).map(|k| (0.01 * f64::from(k), 200.0 / f64::from(k))).collect();
//! let figure = Figure {
//!     title: "Sharpness of minima".to_owned(),
//!     subtitle: "One point for each run.".to_owned(),
//!     columns: 1,
//!     panels: vec![Panel {
//!         title: "Trace of the Gauss–Newton matrix".to_owned(),
//!         x: Axis::log("learning rate η"),
//!         y: Axis::log("tr G"),
//!         series: vec![Series {
//!             label: "SGD".to_owned(),
//!             style: Style(0),
//!             mark: Mark::Points,
//!             points: vec![(0.01, 180.0), (0.02, 95.0), (0.04, 49.0), (0.08, 24.0)],
//!         }],
//!         references: vec![Reference {
//!             label: "2/η (bound)".to_owned(),
//!             kind: ReferenceKind::Curve(bound),
//!         }],
//!     }],
//! };
//! let svg = figure.to_svg();
//! assert!(svg.starts_with("<svg ") && svg.contains("2/η (bound)"));
//! ```
//!
//! A [`Figure`] is plain data. [`Figure::to_svg`] turns it into one self-contained SVG document whose
//! bytes depend on nothing but that data. Each reference curve, such as a theoretical bound, is named on
//! its line. All panels share one legend, which lies outside of them. Log axes are labelled at decades,
//! or at 1, 2 and 5 if few decades are shown. Series differ by marker and dash as well as by colour.
//!
//! In every text of a figure `_{…}` sets a subscript without spaces, as in `λ_{max}`. Exponents are
//! written with the superscript digits of Unicode.
//!
//! Invariants: no file, clock or font is read, so text widths are estimates; every text of the caller is
//! escaped; numbers have at most two decimals.

mod axis;
mod figure;
mod label;
mod layout;
mod legend;
mod panel;
mod style;
mod svg;
mod text;

pub use figure::{Axis, Figure, Mark, Panel, Reference, ReferenceKind, Scale, Series, Style};
pub use text::{Level, escape, levels, plain};
