//! The legend shared by all panels of a figure.

use super::style::{draw_marker, reference_stroke, stroke};
use super::svg::{Point, Stroke, Svg, Text};
use super::text::{Weight, text_width, wrap};
use super::{Figure, Mark, Style};

const SIZE: f64 = 12.5;
const LINE_HEIGHT: f64 = 20.0;
const KEY_WIDTH: f64 = 36.0;
const KEY_GAP: f64 = 7.0;
const ENTRY_GAP: f64 = 24.0;
/// Half the length of an error bar.
const BAR: f64 = 8.0;

/// What one legend entry stands for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Key {
    /// Series of one label and style, with the marks they use.
    Series(Style, Vec<Mark>),
    /// The reference with this index among the figure's named references.
    Reference(usize),
}

/// A name and its key.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) label: String,
    pub(super) key: Key,
}

/// A legend laid out for a width.
#[derive(Debug)]
pub(super) struct Legend {
    placed: Vec<(Point, Vec<String>, Key)>,
    pub(super) height: f64,
}

/// The names of the figure's references, each once, in order of appearance.
pub(super) fn reference_names(figure: &Figure) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for reference in figure.panels.iter().flat_map(|panel| &panel.references) {
        if !names.contains(&reference.label.as_str()) {
            names.push(&reference.label);
        }
    }
    names
}

/// Everything the legend names: series that have something to draw, then references.
pub(super) fn entries(figure: &Figure) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for panel in &figure.panels {
        for series in panel.series.iter().filter(|series| !series.label.is_empty()) {
            if !panel.draws(series) {
                continue;
            }
            let same = entries.iter_mut().find_map(|entry| match &mut entry.key {
                Key::Series(style, marks)
                    if *style == series.style && entry.label == series.label =>
                {
                    Some(marks)
                }
                _ => None,
            });
            match same {
                Some(marks) if marks.contains(&series.mark) => {}
                Some(marks) => marks.push(series.mark),
                None => entries.push(Entry {
                    label: series.label.clone(),
                    key: Key::Series(series.style, vec![series.mark]),
                }),
            }
        }
    }
    let names = reference_names(figure).into_iter().enumerate();
    let shown = names.filter(|&(_, name)| {
        let named = |panel: &super::Panel| panel.references.iter().any(|r| r.label == name);
        !name.is_empty() && figure.panels.iter().any(|panel| named(panel) && panel.has_data())
    });
    entries.extend(
        shown.map(|(index, name)| Entry { label: name.to_owned(), key: Key::Reference(index) }),
    );
    entries
}

impl Legend {
    /// Places entries from left to right in rows of at most `width`.
    pub(super) fn new(entries: Vec<Entry>, width: f64) -> Self {
        let (mut placed, mut x, mut y, mut row_lines) = (Vec::new(), 0.0, 0.0, 0.0_f64);
        for entry in entries {
            let room = width - KEY_WIDTH - KEY_GAP;
            let lines = wrap(&entry.label, room, SIZE, Weight::Normal);
            let widths = lines.iter().map(|line| text_width(line, SIZE, Weight::Normal));
            let taken = KEY_WIDTH + KEY_GAP + widths.fold(0.0, f64::max);
            if x > 0.0 && x + taken > width {
                (x, y, row_lines) = (0.0, y + row_lines * LINE_HEIGHT, 0.0);
            }
            row_lines = row_lines.max(lines.len() as f64);
            placed.push(((x, y), lines, entry.key));
            x += taken + ENTRY_GAP;
        }
        Self { placed, height: y + row_lines * LINE_HEIGHT }
    }

    /// Draws the legend with its upper left corner at `corner`.
    pub(super) fn draw(&self, svg: &mut Svg, corner: Point) {
        for ((x, y), lines, key) in &self.placed {
            let (left, middle) = (corner.0 + x, corner.1 + y + 0.5 * LINE_HEIGHT);
            draw_key(svg, key, left, middle);
            for (index, line) in lines.iter().enumerate() {
                let baseline = middle + 0.36 * SIZE + index as f64 * LINE_HEIGHT;
                svg.text(&Text::new(line, (left + KEY_WIDTH + KEY_GAP, baseline), SIZE));
            }
        }
    }
}

fn draw_key(svg: &mut Svg, key: &Key, left: f64, y: f64) {
    let ends = [(left, y), (left + KEY_WIDTH, y)];
    match key {
        Key::Reference(index) => svg.polyline(&ends, &reference_stroke(*index)),
        Key::Series(style, marks) => {
            let along = marks.iter().filter(|&&mark| mark != Mark::Intervals);
            for stroke in along.filter_map(|&mark| stroke(*style, mark)) {
                // A thin, translucent line stands alone here: opaque, so that its colour shows.
                let width = stroke.width.max(1.6);
                svg.polyline(&ends, &Stroke { width, opacity: 1.0, ..stroke });
            }
            // Several kinds of marker stand side by side.
            let markers: Vec<Mark> = marks
                .iter()
                .copied()
                .filter(|m| !matches!(m, Mark::Line | Mark::ThinLine | Mark::Intervals))
                .collect();
            let is_interval = |mark: &&Mark| **mark == Mark::Intervals;
            if let Some(stroke) =
                marks.iter().find(is_interval).and_then(|&mark| stroke(*style, mark))
            {
                // As in the panels, through the markers; in the middle where there are none.
                for index in 0..markers.len().max(1) {
                    let at = (index as f64 + 0.5) / markers.len().max(1) as f64;
                    let x = left + at * KEY_WIDTH;
                    svg.polyline(&[(x, y - BAR), (x, y + BAR)], &stroke);
                }
            }
            for (index, &mark) in markers.iter().enumerate() {
                let at = (index as f64 + 0.5) / markers.len() as f64;
                draw_marker(svg, *style, mark, (left + at * KEY_WIDTH, y));
            }
        }
    }
}
