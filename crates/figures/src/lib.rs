#![doc = include_str!("../README.md")]

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
