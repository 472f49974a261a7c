//! One panel: ranges, grid, axes, series and named references.

use crate::axis::{Direction, TICK_SIZE, Tick, View, extent};
use crate::figure::{Axis, Mark, Panel, Reference, ReferenceKind, Series};
use crate::label::{Obstacle, place, sample};
use crate::style::{draw_marker, reference_stroke, stroke};
use crate::svg::{Anchor, INK, Point, Rect, Stroke, Svg, Text};
use crate::text::{Weight, text_width};

/// Marks in drawing order: translucent marks first, medians last.
const DRAWING_ORDER: [Mark; 6] = [
    Mark::ThinLine,
    Mark::Intervals,
    Mark::Points,
    Mark::OpenPoints,
    Mark::Line,
    Mark::LineAndPoints,
];

const GRID: Stroke = Stroke::solid("#E4E4E4", 1.0);
const FRAME: &str = "#6B6B6B";
const TICK: Stroke = Stroke::solid(FRAME, 1.0);
const MAJOR_TICK: f64 = 5.0;
const MINOR_TICK: f64 = 3.0;

/// Distance from the frame to the middle of the tick labels under it.
pub(crate) const X_LABEL_DROP: f64 = 14.0;
/// Distance from the frame to the tick labels on its left.
pub(crate) const Y_LABEL_GAP: f64 = 8.0;

/// Limit on pixel coordinates, far outside of the visible part.
const FAR: f64 = 1e5;

impl Panel {
    /// True if at least one point of `series` can be drawn in this panel.
    pub(crate) fn draws(&self, series: &Series) -> bool {
        series.points.iter().any(|&(x, y)| self.is_drawable(x, y))
    }

    /// True if at least one series can be drawn.
    pub(crate) fn has_data(&self) -> bool {
        self.series.iter().any(|series| self.draws(series))
    }

    fn is_drawable(&self, x: f64, y: f64) -> bool {
        self.x.scale.can_draw(x) && self.y.scale.can_draw(y)
    }

    /// The ranges of both axes.
    pub(crate) fn views(&self) -> (View, View) {
        let data: Vec<Point> =
            self.series.iter().flat_map(|series| &series.points).copied().collect();
        let drawable = data.into_iter().filter(|&(x, y)| self.is_drawable(x, y));
        let (xs, ys): (Vec<f64>, Vec<f64>) = drawable.unzip();
        let kinds = self.references.iter().map(|reference| &reference.kind);
        let verticals = kinds.clone().filter_map(|kind| match kind {
            ReferenceKind::Vertical(x) => Some(*x),
            _ => None,
        });
        let x = View::fit(&self.x, &xs, &verticals.collect::<Vec<_>>());
        let shown = |at: f64| x.fraction(at).is_some_and(|at| (0.0..=1.0).contains(&at));
        let heights = kinds.flat_map(|kind| match kind {
            ReferenceKind::Horizontal(y) => vec![*y],
            ReferenceKind::Vertical(_) => Vec::new(),
            ReferenceKind::Curve(points) => {
                points.iter().filter(|point| shown(point.0)).map(|point| point.1).collect()
            }
        });
        let heights: Vec<f64> = heights.collect();
        (x, View::fit(&self.y, &ys, &heights))
    }
}

/// A panel with its place in the figure.
#[derive(Debug)]
pub(crate) struct Placed<'a> {
    pub(crate) panel: &'a Panel,
    pub(crate) x: View,
    pub(crate) y: View,
    pub(crate) frame: Rect,
    /// Identifier of the clip path that cuts drawings to the frame.
    pub(crate) clip: &'a str,
    /// Names of the figure's references, which determine their line styles.
    pub(crate) names: &'a [&'a str],
}

impl Placed<'_> {
    /// Draws grid, data, references, frame and ticks. The layout draws the titles.
    pub(crate) fn draw(&self, svg: &mut Svg) {
        let frame = &self.frame;
        svg.raw(format_args!(r#"<clipPath id="{}">"#, self.clip));
        svg.rect(*frame, "#FFFFFF", "none");
        svg.raw(format_args!("</clipPath>"));
        svg.rect(*frame, "#FFFFFF", "none");
        let has_data = self.panel.has_data();
        if has_data || self.panel.x.range.is_some() {
            self.draw_ticks(svg, Direction::Horizontal);
        }
        if has_data || self.panel.y.range.is_some() {
            self.draw_ticks(svg, Direction::Vertical);
        }
        if has_data {
            self.draw_content(svg);
        } else {
            let middle = (frame.left + 0.5 * frame.width, frame.top + 0.5 * frame.height);
            let text = Text::new("no data", middle, 14.0);
            svg.text(&Text { anchor: Anchor::Middle, color: "#6B6B6B", ..text });
        }
        svg.rect(*frame, "none", FRAME);
        if has_data {
            self.name_references(svg);
        }
    }

    fn draw_content(&self, svg: &mut Svg) {
        svg.raw(format_args!(r#"<g clip-path="url(#{})">"#, self.clip));
        for mark in DRAWING_ORDER {
            // References are drawn over the clouds of single runs, and under lines and medians.
            if mark == Mark::Line {
                for reference in &self.panel.references {
                    self.draw_reference(svg, reference);
                }
            }
            for series in self.panel.series.iter().filter(|series| series.mark == mark) {
                self.draw_series(svg, series);
            }
        }
        svg.raw(format_args!("</g>"));
    }

    fn draw_series(&self, svg: &mut Svg, series: &Series) {
        if let Some(stroke) = stroke(series.style, series.mark) {
            let tooltip = match series.mark {
                Mark::Line | Mark::ThinLine => named(series, 0),
                _ => String::new(),
            };
            svg.titled_path(&self.lines(series), &stroke, &tooltip);
        }
        for (index, &point) in series.points.iter().enumerate() {
            if let Some(at) = self.pixel(point).filter(|at| self.frame.contains(*at)) {
                draw_marker(svg, series.style, series.mark, at, &self.tooltip(series, index));
            }
        }
    }

    /// The name, the note and the values of a point.
    fn tooltip(&self, series: &Series, index: usize) -> String {
        let (x, y) = series.points[index];
        let coordinate = |axis: &Axis, value: f64| format!("{}: {}", axis.label, axis.words(value));
        let (x, y) = (coordinate(&self.panel.x, x), coordinate(&self.panel.y, y));
        let name = named(series, index);
        let parts = [name.as_str(), &x, &y].into_iter().filter(|part| !part.is_empty());
        parts.collect::<Vec<&str>>().join("; ")
    }

    fn draw_reference(&self, svg: &mut Svg, reference: &Reference) {
        let pieces = self.visible(reference);
        let index = self.names.iter().position(|name| *name == reference.label).unwrap_or(0);
        let stroke = reference_stroke(index);
        // A white casing keeps the line visible on top of many points.
        let casing = Stroke::solid("#FFFFFF", stroke.width + 2.0);
        svg.path(&pieces, &Stroke { opacity: 0.8, ..casing });
        svg.path(&pieces, &stroke);
    }

    /// Writes the name of each reference on its line; outside of the visible range, at the nearest
    /// border with an arrow.
    fn name_references(&self, svg: &mut Svg) {
        let mut obstacles = self.obstacles();
        for reference in self.panel.references.iter().filter(|r| !r.label.is_empty()) {
            let pieces = self.visible(reference);
            let longest = pieces.iter().max_by(|a, b| reach(a).total_cmp(&reach(b)));
            let (text, line) = match longest {
                Some(piece) => (reference.label.clone(), piece.clone()),
                None => match self.border_towards(reference) {
                    Some((arrow, border)) => (format!("{arrow} {}", reference.label), border),
                    None => continue,
                },
            };
            if let Some(spot) = place(&text, &line, &self.frame, &mut obstacles) {
                if let Some((start, end)) = spot.leader {
                    svg.polyline(&[start, end], &Stroke::solid(INK, 0.9));
                }
                let ((cos, sin), drop) = (spot.along, 0.36 * spot.size);
                let at = (spot.center.0 - drop * sin, spot.center.1 + drop * cos);
                let angle = libm::atan2(sin, cos).to_degrees();
                let text = Text::new(&text, at, spot.size);
                svg.text(&Text { anchor: Anchor::Middle, angle, has_halo: true, ..text });
            }
        }
    }

    /// Points that the names of references should not cover: data, lines and other references.
    fn obstacles(&self) -> Vec<Obstacle> {
        let along = |line: &[Point], weight: f64| {
            sample(line, 3.0).into_iter().map(move |at| Obstacle { at, weight })
        };
        let mut obstacles = Vec::new();
        for series in &self.panel.series {
            let (on_line, on_point) = match series.mark {
                Mark::Line | Mark::Intervals => (0.6, 0.0),
                Mark::ThinLine => (0.3, 0.0),
                Mark::Points | Mark::OpenPoints => (0.0, 2.0),
                Mark::LineAndPoints => (0.8, 4.0),
            };
            for run in self.lines(series) {
                if on_line > 0.0 {
                    obstacles.extend(along(&run, on_line));
                }
                if on_point > 0.0 {
                    // Five points stand for the extent of the marker.
                    let around = [(0.0, 0.0), (4.0, 0.0), (-4.0, 0.0), (0.0, 4.0), (0.0, -4.0)];
                    obstacles.extend(run.iter().flat_map(|&(x, y)| {
                        let weight = 0.4 * on_point;
                        around.map(|(dx, dy)| Obstacle { at: (x + dx, y + dy), weight })
                    }));
                }
            }
        }
        for reference in &self.panel.references {
            for piece in self.visible(reference) {
                obstacles.extend(along(&piece, 0.8));
            }
        }
        obstacles.retain(|obstacle| self.frame.contains(obstacle.at));
        obstacles
    }

    /// The lines that a series draws, in pixels.
    fn lines(&self, series: &Series) -> Vec<Vec<Point>> {
        match series.mark {
            Mark::Intervals => {
                let pairs = series.points.chunks(2).map(|pair| self.runs(pair));
                pairs.flatten().filter(|pair| pair.len() == 2).collect()
            }
            _ => self.runs(&series.points),
        }
    }

    /// The points in pixels, split where one cannot be drawn.
    fn runs(&self, points: &[Point]) -> Vec<Vec<Point>> {
        let pixels: Vec<Option<Point>> = points.iter().map(|&point| self.pixel(point)).collect();
        pixels
            .split(Option::is_none)
            .filter(|run| !run.is_empty())
            .map(|run| run.iter().copied().flatten().collect())
            .collect()
    }

    fn pixel(&self, (x, y): Point) -> Option<Point> {
        let (x, y) = (self.x.fraction(x)?, self.y.fraction(y)?);
        let frame = &self.frame;
        let point = (frame.left + x * frame.width, frame.bottom() - y * frame.height);
        Some((point.0.clamp(-FAR, FAR), point.1.clamp(-FAR, FAR)))
    }

    /// The pieces of a reference inside the frame.
    fn visible(&self, reference: &Reference) -> Vec<Vec<Point>> {
        let frame = &self.frame;
        let runs = match &reference.kind {
            ReferenceKind::Curve(points) => self.runs(points),
            ReferenceKind::Horizontal(value) => {
                let y = self.y.fraction(*value).map(|at| frame.bottom() - at * frame.height);
                y.map(|y| vec![(frame.left, y), (frame.right(), y)]).into_iter().collect()
            }
            ReferenceKind::Vertical(value) => {
                let x = self.x.fraction(*value).map(|at| frame.left + at * frame.width);
                x.map(|x| vec![(x, frame.bottom()), (x, frame.top)]).into_iter().collect()
            }
        };
        let mut pieces: Vec<Vec<Point>> = Vec::new();
        for run in runs {
            let mut piece: Vec<Point> = Vec::new();
            for pair in run.windows(2) {
                let Some((from, to)) = frame.clip(pair[0], pair[1]) else { continue };
                if piece.last() != Some(&from) {
                    pieces.push(std::mem::take(&mut piece));
                    piece.push(from);
                }
                piece.push(to);
            }
            pieces.push(piece);
        }
        pieces.retain(|piece| piece.len() > 1);
        pieces
    }

    /// For a reference outside of the visible range: an arrow, and the nearest border of the frame.
    fn border_towards(&self, reference: &Reference) -> Option<(&'static str, Vec<Point>)> {
        let frame = &self.frame;
        let (top, bottom) = (frame.top, frame.bottom());
        let across = |y: f64| vec![(frame.left, y), (frame.right(), y)];
        let up_or_down = |at: f64| match at {
            at if at > 1.0 => ("↑", across(top)),
            _ => ("↓", across(bottom)),
        };
        match &reference.kind {
            ReferenceKind::Horizontal(value) => self.y.fraction(*value).map(up_or_down),
            ReferenceKind::Vertical(value) => self.x.fraction(*value).map(|at| {
                let (arrow, x) =
                    if at > 1.0 { ("→", frame.right()) } else { ("←", frame.left) };
                (arrow, vec![(x, bottom), (x, top)])
            }),
            ReferenceKind::Curve(points) => points
                .iter()
                .filter(|(x, _)| self.x.fraction(*x).is_some_and(|at| (0.0..=1.0).contains(&at)))
                .find_map(|(_, y)| self.y.fraction(*y))
                .map(up_or_down),
        }
    }

    fn draw_ticks(&self, svg: &mut Svg, direction: Direction) {
        let frame = &self.frame;
        let (view, length) = match direction {
            Direction::Horizontal => (&self.x, frame.width),
            Direction::Vertical => (&self.y, frame.height),
        };
        let center = 0.36 * TICK_SIZE;
        for tick in view.ticks(length, direction) {
            let size = if tick.label.is_empty() { MINOR_TICK } else { MAJOR_TICK };
            let (grid, mark, at, anchor) = match direction {
                Direction::Horizontal => {
                    let (x, bottom) = (frame.left + tick.at * length, frame.bottom());
                    let label = (x, bottom + X_LABEL_DROP + center);
                    let mark = [(x, bottom), (x, bottom + size)];
                    ([(x, frame.top), (x, bottom)], mark, label, Anchor::Middle)
                }
                Direction::Vertical => {
                    let (y, left) = (frame.bottom() - tick.at * length, frame.left);
                    let label = (left - Y_LABEL_GAP, y + center);
                    let mark = [(left - size, y), (left, y)];
                    ([(left, y), (frame.right(), y)], mark, label, Anchor::End)
                }
            };
            if !tick.label.is_empty() {
                svg.polyline(&grid, &GRID);
                svg.text(&Text { anchor, ..Text::new(&tick.label, at, TICK_SIZE) });
            }
            svg.polyline(&mark, &TICK);
        }
    }
}

/// The label of a series with the note of one of its points.
fn named(series: &Series, index: usize) -> String {
    let note = series.notes.get(index).map_or("", String::as_str);
    let parts = [series.label.as_str(), note].into_iter().filter(|part| !part.is_empty());
    parts.collect::<Vec<&str>>().join(", ")
}

/// Width of the widest label.
pub(crate) fn widest(ticks: &[Tick]) -> f64 {
    let widths = ticks.iter().map(|tick| text_width(&tick.label, TICK_SIZE, Weight::Normal));
    widths.fold(0.0, f64::max)
}

/// Width plus height of the bounding box of a polyline.
fn reach(line: &[Point]) -> f64 {
    let range = |pick: fn(&Point) -> f64| {
        let values: Vec<f64> = line.iter().map(pick).collect();
        extent(&values).map_or(0.0, |(low, high)| high - low)
    };
    range(|point| point.0) + range(|point| point.1)
}
