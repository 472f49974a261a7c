//! The whole figure: title, legend, and the grid of panels with their titles.

use crate::axis::{Direction, View};
use crate::figure::{Axis, Figure, Panel, ReferenceKind, Scale};
use crate::legend::{Legend, distinct, entries, reference_names};
use crate::panel::{Placed, X_LABEL_DROP, Y_LABEL_GAP, widest};
use crate::svg::{Anchor, Rect, Svg, Text, number};
use crate::text::{Weight, escape, plain, wrap};

const FIGURE_TITLE: f64 = 18.0;
const SUBTITLE: f64 = 13.0;
const PANEL_TITLE: f64 = 13.5;
const AXIS_TITLE: f64 = 13.0;
/// Line height as a multiple of the font size.
const LEADING: f64 = 1.35;

/// Width limit for running text: longer lines are hard to read.
const LONGEST_LINE: f64 = 1000.0;

const MARGIN: f64 = 18.0;
const COLUMN_GAP: f64 = 18.0;
const ROW_GAP: f64 = 16.0;
/// Room on the right of a frame for half a tick label.
const RIGHT_ROOM: f64 = 20.0;
const LEAST_FRAME_WIDTH: f64 = 180.0;

/// `DejaVu Sans` comes first because it has every symbol used here (λ, ‖, ₁, ⁻, ≤); for the other
/// fonts browsers take missing symbols from further fonts.
const FONTS: &str = "'DejaVu Sans', 'Segoe UI', 'Helvetica Neue', Arial, sans-serif";

/// Width of a panel with its axis titles, and height of its frame.
fn panel_size(columns: usize) -> (f64, f64) {
    match columns {
        1 => (560.0, 320.0),
        2 => (440.0, 270.0),
        3 => (400.0, 240.0),
        _ => (370.0, 240.0),
    }
}

/// A panel with everything that determines its size.
struct Measured<'a> {
    panel: &'a Panel,
    x: View,
    y: View,
    title: Vec<String>,
    x_title: Vec<String>,
    y_title: Vec<String>,
}

impl Figure {
    /// The figure as a self-contained SVG document: UTF-8 without an XML declaration, so that it
    /// can be a file or a part of an HTML page.
    ///
    /// Empty figures, empty panels and values that cannot be drawn also give a valid document.
    pub fn to_svg(&self) -> String {
        render(self)
    }
}

fn render(figure: &Figure) -> String {
    let columns = figure.columns.clamp(1, figure.panels.len().max(1));
    let (cell_width, frame_height) = panel_size(columns);
    let inner_width = columns as f64 * (cell_width + COLUMN_GAP) - COLUMN_GAP;
    let legend = Legend::new(entries(figure), inner_width);
    let names = reference_names(figure);

    let mut panels: Vec<Measured<'_>> =
        figure.panels.iter().map(|panel| measure(panel, cell_width, frame_height)).collect();
    let left_room = panels.iter().map(|panel| left_room(panel, frame_height)).fold(0.0, f64::max);
    let frame_width = (cell_width - left_room - RIGHT_ROOM).max(LEAST_FRAME_WIDTH);
    for measured in &mut panels {
        measured.x_title = wrap(&measured.panel.x.label, frame_width, AXIS_TITLE, Weight::Normal);
    }

    let mut body = Svg::default();
    let mut y = MARGIN;
    let title = Text::new(&figure.title, (MARGIN, y), FIGURE_TITLE);
    y = draw_lines(&mut body, &Text { weight: Weight::Bold, ..title }, inner_width);
    let subtitle = Text::new(&figure.subtitle, (MARGIN, y), SUBTITLE);
    y = draw_lines(&mut body, &subtitle, inner_width.min(LONGEST_LINE));
    y += 6.0;
    legend.draw(&mut body, (MARGIN, y));
    y += legend.height + 8.0;

    let prefix = identifier(figure);
    for (row_index, row) in panels.chunks(columns).enumerate() {
        let lines = |pick: fn(&Measured<'_>) -> usize| {
            row.iter().map(pick).max().unwrap_or(0) as f64 * LEADING
        };
        let title_height = lines(|panel| panel.title.len()) * PANEL_TITLE + 8.0;
        let below = X_LABEL_DROP + 10.0 + lines(|panel| panel.x_title.len()) * AXIS_TITLE;
        for (column, measured) in row.iter().enumerate() {
            let cell_left = MARGIN + column as f64 * (cell_width + COLUMN_GAP);
            let frame = Rect {
                left: cell_left + left_room,
                top: y + title_height,
                width: frame_width,
                height: frame_height,
            };
            let clip = format!("{prefix}-{}", row_index * columns + column);
            let Measured { panel, x, y, .. } = *measured;
            Placed { panel, x, y, frame, clip: &clip, names: &names }.draw(&mut body);
            draw_titles(&mut body, measured, &frame, cell_left);
        }
        y += title_height + frame_height + below + ROW_GAP;
    }
    document(figure, inner_width + 2.0 * MARGIN, y, &body.buffer)
}

fn document(figure: &Figure, width: f64, height: f64, body: &str) -> String {
    let (width, height) = (number(width), number(height.ceil()));
    let (title, description) = (escape(&plain(&figure.title)), escape(&plain(&describe(figure))));
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" font-family="{FONTS}">
<title>{title}</title>
<desc>{description}</desc>
<rect width="{width}" height="{height}" fill="#FFFFFF"/>
{body}</svg>
"##
    )
}

fn measure(panel: &Panel, cell_width: f64, frame_height: f64) -> Measured<'_> {
    let (x, y) = panel.views();
    Measured {
        panel,
        x,
        y,
        title: wrap(&panel.title, cell_width, PANEL_TITLE, Weight::Bold),
        x_title: Vec::new(),
        y_title: wrap(&panel.y.label, frame_height, AXIS_TITLE, Weight::Normal),
    }
}

/// Width of the tick labels and the axis title to the left of a panel's frame.
fn left_room(measured: &Measured<'_>, frame_height: f64) -> f64 {
    let labels = widest(&measured.y.ticks(frame_height, Direction::Vertical));
    let title = measured.y_title.len() as f64 * AXIS_TITLE * LEADING;
    labels + Y_LABEL_GAP + 6.0 + title
}

/// Draws a text in lines of at most `width`, with its upper left corner at `text.at`, and returns
/// the y below it.
fn draw_lines(svg: &mut Svg, text: &Text<'_>, width: f64) -> f64 {
    let (x, mut y) = text.at;
    for line in wrap(text.content, width, text.size, text.weight) {
        svg.text(&Text { content: &line, at: (x, y + text.size), ..*text });
        y += text.size * LEADING;
    }
    y
}

fn draw_titles(svg: &mut Svg, measured: &Measured<'_>, frame: &Rect, cell_left: f64) {
    let center = frame.left + 0.5 * frame.width;
    // Titles are aligned at the bottom, so a shorter title in a row has free space above it.
    let count = measured.title.len() as f64;
    for (index, line) in measured.title.iter().enumerate() {
        let up = (count - 1.0 - index as f64) * PANEL_TITLE * LEADING;
        let text = Text::new(line, (cell_left, frame.top - 8.0 - up), PANEL_TITLE);
        svg.text(&Text { weight: Weight::Bold, ..text });
    }
    for (index, line) in measured.x_title.iter().enumerate() {
        let y = frame.bottom() + X_LABEL_DROP + 8.0 + (index as f64 + 0.9) * AXIS_TITLE * LEADING;
        let text = Text::new(line, (center, y), AXIS_TITLE);
        svg.text(&Text { anchor: Anchor::Middle, ..text });
    }
    for (index, line) in measured.y_title.iter().enumerate() {
        let x = cell_left + (index as f64 + 0.8) * AXIS_TITLE * LEADING;
        let text = Text::new(line, (x, frame.top + 0.5 * frame.height), AXIS_TITLE);
        svg.text(&Text { anchor: Anchor::Middle, angle: -90.0, ..text });
    }
}

/// A description of the figure for readers who cannot see it.
fn describe(figure: &Figure) -> String {
    let axis = |axis: &Axis| match axis.scale {
        Scale::Linear | Scale::Categories(_) => axis.label.clone(),
        Scale::Log => format!("{} (log scale)", axis.label),
    };
    let mut text = figure.subtitle.clone();
    for panel in &figure.panels {
        let series = panel.series.iter().filter(|series| panel.draws(series));
        let references = panel.references.iter().filter(|_| panel.has_data());
        let labels = series.map(|s| &s.label).chain(references.map(|r| &r.label));
        let names = distinct(labels.filter(|label| !label.is_empty()));
        let names = if names.is_empty() { "no data".to_owned() } else { names.join("; ") };
        let (x, y) = (axis(&panel.x), axis(&panel.y));
        let title = if panel.title.is_empty() { "Drawn" } else { panel.title.as_str() };
        text.extend([" ", title, ": ", &y, " against ", &x, ": ", &names, "."]);
    }
    text.trim().to_owned()
}

/// A prefix for identifiers that differs between the figures of a page: the FNV-1a hash of the
/// texts and sizes of the figure.
fn identifier(figure: &Figure) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut feed = |bytes: &[u8]| {
        for &byte in bytes.iter().chain(&[0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    feed(figure.title.as_bytes());
    feed(figure.subtitle.as_bytes());
    for panel in &figure.panels {
        feed(panel.title.as_bytes());
        feed(panel.x.label.as_bytes());
        feed(panel.y.label.as_bytes());
        for reference in &panel.references {
            feed(reference.label.as_bytes());
            if let ReferenceKind::Curve(points) = &reference.kind {
                feed(&points.len().to_le_bytes());
            }
        }
        for series in &panel.series {
            feed(series.label.as_bytes());
            feed(&series.points.len().to_le_bytes());
        }
    }
    format!("f{hash:016x}")
}
