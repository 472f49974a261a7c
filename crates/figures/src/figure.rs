//! Figures as plain data.

/// A figure: a title, a grid of panels and one legend shared by all of them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Figure {
    /// Title over the whole figure; long ones wrap.
    pub title: String,
    /// Caption under the title, in plain words; empty for none.
    pub subtitle: String,
    /// Number of panels in a row; values below 1 count as 1, values above the number of panels as
    /// it.
    pub columns: usize,
    /// The panels, row by row.
    pub panels: Vec<Panel>,
}

/// One coordinate system with its data.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// Title over the panel; long ones wrap.
    pub title: String,
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// Measured data.
    pub series: Vec<Series>,
    /// Curves to compare the data with: bounds, exact values, baselines.
    pub references: Vec<Reference>,
}

/// An axis: its title, its scale and optionally a fixed range.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// Axis title with symbol and unit, such as `learning rate η`.
    pub label: String,
    /// Linear or logarithmic.
    pub scale: Scale,
    /// Lowest and highest value shown. `None` chooses the range from the data, and so does a pair
    /// that is not finite and increasing, or not positive on a log axis.
    pub range: Option<(f64, f64)>,
}

/// The map from values to positions along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Equal differences have equal lengths.
    Linear,
    /// Equal ratios have equal lengths; values ≤ 0 are not drawn.
    Log,
    /// Words at the values 0, 1, 2, ….
    Categories(&'static [&'static str]),
}

/// Points with one name and one kind of mark.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Name in the legend; a series with an empty name is not in the legend. Series with the same
    /// label and style, in any panel, share one entry that shows all of their marks.
    pub label: String,
    /// Colour, marker shape and dash pattern.
    pub style: Style,
    /// Marks at and between the points.
    pub mark: Mark,
    /// Points (x, y) in drawing order. A point that is not finite, or ≤ 0 on a log axis, is not
    /// drawn and leaves a gap in a line.
    pub points: Vec<(f64, f64)>,
    /// Where each point comes from, such as `seed 3`. A pointer that rests on a marker shows it
    /// with the values of the point; on a thin line, the first one. Points may have none.
    pub notes: Vec<String>,
}

/// The marks of a series at and between its points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A line.
    Line,
    /// A thin, translucent line: the trajectory of one seed.
    ThinLine,
    /// Translucent markers, one for each seed.
    Points,
    /// Hollow markers: runs that did not converge.
    OpenPoints,
    /// A thick line with markers: medians.
    LineAndPoints,
    /// Error bars: a thin, solid line from each point with an even index to the next point. If one
    /// end of a bar cannot be drawn, the bar is not drawn.
    Intervals,
}

/// Index into a fixed palette. The first eight styles differ in colour, marker shape and dash
/// pattern, so that colour-blind readers can tell them apart, also in greyscale. Later styles
/// repeat colours and markers with other dash patterns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style(pub usize);

/// A line to compare the data with, named on the line itself and in the legend.
///
/// References widen an automatic range only a little. A reference outside the visible range is
/// named at the nearest border, with an arrow.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// Name, such as `2/η (bound S2)`; an empty name is not shown.
    pub label: String,
    /// Course of the line.
    pub kind: ReferenceKind,
}

/// The course of a reference line, in data coordinates.
#[derive(Debug, Clone, PartialEq)]
pub enum ReferenceKind {
    /// The line y = value over the whole width.
    Horizontal(f64),
    /// The line x = value over the whole height.
    Vertical(f64),
    /// Straight segments between the points, in order.
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

    /// An axis that shows all of these words, at the values 0, 1, 2, ….
    pub fn categories(label: impl Into<String>, words: &'static [&'static str]) -> Self {
        let range = Some((-0.5, words.len().max(1) as f64 - 0.5));
        Self { label: label.into(), scale: Scale::Categories(words), range }
    }

    /// A value as a reader would write it: four digits, or the word at this place.
    pub(crate) fn words(&self, value: f64) -> String {
        if let Scale::Categories(words) = self.scale
            && let Some((_, word)) =
                (0_u32..).zip(words).find(|(k, _)| f64::from(*k) >= value - 0.5)
        {
            return (*word).to_owned();
        }
        let size = value.abs();
        if size > 0.0 && !(1e-3..1e5).contains(&size) {
            return format!("{value:.3e}");
        }
        let decimals = [1e3, 1e2, 1e1, 1.0, 1e-1, 1e-2].iter().take_while(|limit| size < **limit);
        let text = format!("{value:.*}", decimals.count());
        if text.contains('.') {
            return text.trim_end_matches('0').trim_end_matches('.').to_owned();
        }
        text
    }

    /// This axis with the fixed range from `low` to `high` (see [`Axis::range`]).
    #[must_use]
    pub fn with_range(self, low: f64, high: f64) -> Self {
        Self { range: Some((low, high)), ..self }
    }
}

impl Figure {
    /// A figure with its panels in rows of `columns`.
    pub fn new(
        title: impl Into<String>,
        subtitle: impl Into<String>,
        columns: usize,
        panels: Vec<Panel>,
    ) -> Self {
        Self { title: title.into(), subtitle: subtitle.into(), columns, panels }
    }
}

impl Panel {
    /// A panel with its axes, its series and its references.
    pub fn new(
        title: impl Into<String>,
        x: Axis,
        y: Axis,
        series: Vec<Series>,
        references: Vec<Reference>,
    ) -> Self {
        Self { title: title.into(), x, y, series, references }
    }
}

impl Series {
    /// A series of points with its label.
    pub fn new(
        label: impl Into<String>,
        style: Style,
        mark: Mark,
        points: impl IntoIterator<Item = (f64, f64)>,
    ) -> Self {
        let points = points.into_iter().collect();
        Self { label: label.into(), style, mark, points, notes: Vec::new() }
    }

    /// This series with a note for each point, see [`Series::notes`].
    #[must_use]
    pub fn with_notes(self, notes: impl IntoIterator<Item = String>) -> Self {
        Self { notes: notes.into_iter().collect(), ..self }
    }
}

impl Reference {
    /// A line y = `value` over the whole width.
    pub fn horizontal(label: impl Into<String>, value: f64) -> Self {
        Self { label: label.into(), kind: ReferenceKind::Horizontal(value) }
    }

    /// A line x = `value` over the whole height.
    pub fn vertical(label: impl Into<String>, value: f64) -> Self {
        Self { label: label.into(), kind: ReferenceKind::Vertical(value) }
    }

    /// Straight pieces between the points, in order.
    pub fn curve(label: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Self { label: label.into(), kind: ReferenceKind::Curve(points.into_iter().collect()) }
    }
}
