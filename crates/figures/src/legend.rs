//! The legend shared by all panels of a figure.

use crate::figure::{Figure, Mark, Panel, Style};
use crate::style::{draw_marker, reference_stroke, stroke};
use crate::svg::{Point, Stroke, Svg, Text};
use crate::text::{Weight, text_width, wrap};

const SIZE: f64 = 12.5;
const LINE_HEIGHT: f64 = 20.0;
const KEY_WIDTH: f64 = 36.0;
const KEY_GAP: f64 = 7.0;
const ENTRY_GAP: f64 = 24.0;
/// Half the length of an error bar.
const BAR: f64 = 8.0;

/// The thing that a legend entry names.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Key {
    /// Series with one label and style, and their marks.
    Series(Style, Vec<Mark>),
    /// The reference with this index among the figure's named references.
    Reference(usize),
}

/// A name and its key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) label: String,
    pub(crate) key: Key,
}

/// A legend laid out for a width.
#[derive(Debug)]
pub(crate) struct Legend {
    placed: Vec<(Point, Vec<String>, Key)>,
    pub(crate) height: f64,
}

/// The different names among `names`, in order of appearance.
pub(crate) fn distinct<'a>(names: impl IntoIterator<Item = &'a String>) -> Vec<&'a str> {
    let mut distinct: Vec<&str> = Vec::new();
    for name in names {
        if !distinct.contains(&name.as_str()) {
            distinct.push(name);
        }
    }
    distinct
}

/// The different names of the figure's references, in order of appearance.
pub(crate) fn reference_names(figure: &Figure) -> Vec<&str> {
    let references = figure.panels.iter().flat_map(|panel| &panel.references);
    distinct(references.map(|reference| &reference.label))
}

/// The entries of the legend: series with points to draw, then references.
pub(crate) fn entries(figure: &Figure) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for panel in &figure.panels {
        for series in panel.series.iter().filter(|series| !series.label.is_empty()) {
            if !panel.draws(series) {
                continue;
            }
            let mut same = entries.iter_mut().filter(|entry| entry.label == series.label);
            let marks = same.find_map(|entry| match &mut entry.key {
                Key::Series(style, marks) => (*style == series.style).then_some(marks),
                Key::Reference(_) => None,
            });
            if let Some(marks) = marks {
                marks.extend((!marks.contains(&series.mark)).then_some(series.mark));
            } else {
                let key = Key::Series(series.style, vec![series.mark]);
                entries.push(Entry { label: series.label.clone(), key });
            }
        }
    }
    let names = reference_names(figure).into_iter().enumerate();
    let shown = names.filter(|&(_, name)| {
        let named = |panel: &Panel| panel.references.iter().any(|r| r.label == name);
        !name.is_empty() && figure.panels.iter().any(|panel| named(panel) && panel.has_data())
    });
    entries.extend(
        shown.map(|(index, name)| Entry { label: name.to_owned(), key: Key::Reference(index) }),
    );
    entries
}

impl Legend {
    /// Places entries from left to right in rows of at most `width`.
    pub(crate) fn new(entries: Vec<Entry>, width: f64) -> Self {
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
    pub(crate) fn draw(&self, svg: &mut Svg, corner: Point) {
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
            let has_bars = marks.contains(&Mark::Intervals);
            let along = marks.iter().filter(|&&mark| mark != Mark::Intervals);
            for stroke in along.filter_map(|&mark| stroke(*style, mark)) {
                // A single thin line is drawn opaque here, so that its colour can be recognised.
                let width = stroke.width.max(1.6);
                svg.polyline(&ends, &Stroke { width, opacity: 1.0, ..stroke });
            }
            // Several kinds of markers are drawn side by side.
            let markers: Vec<Mark> = marks
                .iter()
                .copied()
                .filter(|m| !matches!(m, Mark::Line | Mark::ThinLine | Mark::Intervals))
                .collect();
            let count = markers.len().max(1);
            let place = |index: usize| left + (index as f64 + 0.5) / count as f64 * KEY_WIDTH;
            if let Some(stroke) = stroke(*style, Mark::Intervals).filter(|_| has_bars) {
                // The bar runs through each marker, or through the middle if there are no markers.
                for x in (0..count).map(place) {
                    svg.polyline(&[(x, y - BAR), (x, y + BAR)], &stroke);
                }
            }
            for (index, &mark) in markers.iter().enumerate() {
                draw_marker(svg, *style, mark, (place(index), y), "");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::{Axis, Reference, ReferenceKind, Series};

    #[test]
    fn the_legend_names_each_series_and_reference_once() {
        let bound = Reference { label: "2/η".to_owned(), kind: ReferenceKind::Horizontal(2.0) };
        let points = [(1.0, 1.0), (2.0, 3.0)];
        let series = [Mark::Points, Mark::Line].map(|mark| Series {
            label: "SGD".to_owned(),
            style: Style(0),
            mark,
            points: points.to_vec(),
            notes: Vec::new(),
        });
        let one = Panel {
            title: String::new(),
            x: Axis::log(""),
            y: Axis::log(""),
            series: series.to_vec(),
            references: vec![bound],
        };
        let figure = Figure { panels: vec![one.clone(), one], ..Figure::default() };
        let entries = entries(&figure);
        let labels: Vec<&str> = entries.iter().map(|entry| entry.label.as_str()).collect();
        assert_eq!(labels, ["SGD", "2/η"]);
        assert_eq!(entries[0].key, Key::Series(Style(0), vec![Mark::Points, Mark::Line]));
    }
}
