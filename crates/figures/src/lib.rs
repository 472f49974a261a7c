//! Figures: panels of points, lines and reference curves, written as SVG text.
//!
//! A [`Figure`] is plain data; [`Figure::to_svg`] turns it into one self-contained SVG document whose
//! bytes depend on nothing but that data. The module is our own because the figures must name each
//! bound on its line, share one legend outside the panels, label log axes at decades or at 1-2-5,
//! and keep series apart by marker and dash as well as by colour. Laying this out is nearly all of
//! the work and is ours in any case; writing the SVG elements is the small rest, and doing it here
//! needs no dependency and keeps the bytes under our control.
//!
//! In every text of a figure `_{…}` sets a subscript, as in `λ_{max}`, without spaces inside; exponents
//! are written with the superscript digits of Unicode.
//!
//! Invariants: no file, clock or font is read (text widths are estimates); every text that comes from
//! the caller is escaped; numbers carry at most two decimals.

mod axis;
mod label;
mod layout;
mod legend;
mod panel;
mod style;
mod svg;
mod text;

pub use text::{Level, escape, levels, plain};

/// A figure: a title, a grid of panels and one legend shared by all of them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Figure {
    /// Title over the whole figure; long ones wrap.
    pub title: String,
    /// Caption under the title, in plain words; empty for none.
    pub subtitle: String,
    /// Panels a row; read as at least 1 and at most the number of panels.
    pub columns: usize,
    /// The panels, row by row.
    pub panels: Vec<Panel>,
}

/// One coordinate system with what is drawn in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// Title over the panel; long ones wrap.
    pub title: String,
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// What was measured.
    pub series: Vec<Series>,
    /// What it is compared with: bounds, exact values, baselines.
    pub references: Vec<Reference>,
}

/// An axis: its title, its scale and optionally a fixed range.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// Axis title with symbol and unit, such as `learning rate η`.
    pub label: String,
    /// Linear or logarithmic.
    pub scale: Scale,
    /// Lowest and highest value shown. `None`, and any pair that is not finite and increasing (and
    /// positive, on a log axis), means: as the data require.
    pub range: Option<(f64, f64)>,
}

/// How values map to positions along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Equal differences are equally long.
    Linear,
    /// Equal ratios are equally long; values ≤ 0 are not drawn.
    Log,
    /// Words: the first stands at 0, the next at 1, and so on.
    Categories(&'static [&'static str]),
}

/// Points drawn with one mark under one name.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Name in the legend; empty keeps the series out of it. Series with the same label and style
    /// share one entry over all panels, which then shows all of their marks.
    pub label: String,
    /// Colour, marker shape and dash pattern.
    pub style: Style,
    /// What is drawn at and between the points.
    pub mark: Mark,
    /// Points (x, y) in drawing order. One that is not finite, or ≤ 0 on a log axis, is left out and
    /// leaves a gap in a line.
    pub points: Vec<(f64, f64)>,
}

/// What a series draws at and between its points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A line.
    Line,
    /// A thin, translucent line: the trajectory of one seed.
    ThinLine,
    /// Translucent markers: one seed a point.
    Points,
    /// Hollow markers: runs that did not converge.
    OpenPoints,
    /// A thick line with markers: medians.
    LineAndPoints,
    /// A thin, solid line from each point with an even index to the next one: error bars. A pair of
    /// which one end cannot be drawn is left out.
    Intervals,
}

/// Index into a fixed palette. Each of the first eight has its own colour, marker shape and dash
/// pattern, so that they differ for colour-blind readers and in greyscale too; then colours and
/// markers repeat with other dash patterns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style(pub usize);

/// A line to compare the data with, named on the line itself and in the legend.
///
/// References widen an automatic range only a little; one that stays out of view is named at the
/// border it lies behind, with an arrow.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// Name, such as `2/η (bound S2)`; empty for an unnamed line.
    pub label: String,
    /// Where the line runs.
    pub kind: ReferenceKind,
}

/// Where a reference line runs, in data coordinates.
#[derive(Debug, Clone, PartialEq)]
pub enum ReferenceKind {
    /// y = value, over the whole width.
    Horizontal(f64),
    /// x = value, over the whole height.
    Vertical(f64),
    /// Straight pieces between the given points, in order.
    Curve(Vec<(f64, f64)>),
}

impl Axis {
    /// A logarithmic axis with automatic range.
    pub fn log(label: impl Into<String>) -> Self {
        Self { label: label.into(), scale: Scale::Log, range: None }
    }

    /// A linear axis with automatic range.
    pub fn linear(label: impl Into<String>) -> Self {
        Self { label: label.into(), scale: Scale::Linear, range: None }
    }

    /// An axis of words, the first at 0, the next at 1, and so on; it shows all of them.
    pub fn categories(label: impl Into<String>, words: &'static [&'static str]) -> Self {
        let range = Some((-0.5, words.len().max(1) as f64 - 0.5));
        Self { label: label.into(), scale: Scale::Categories(words), range }
    }

    /// The same axis, shown from `low` to `high` (see [`Axis::range`]).
    #[must_use]
    pub fn with_range(self, low: f64, high: f64) -> Self {
        Self { range: Some((low, high)), ..self }
    }
}

impl Figure {
    /// The figure as a self-contained SVG document, UTF-8 without an XML declaration, so that it can
    /// be a file of its own or be placed inside an HTML page.
    ///
    /// Total: empty figures, empty panels and values that cannot be drawn give a valid document too.
    pub fn to_svg(&self) -> String {
        layout::render(self)
    }
}

#[cfg(test)]
mod tests;
