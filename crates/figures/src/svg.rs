//! SVG elements, numbers and the geometry that they need.

use std::fmt;

use crate::text::{Level, Weight, escape, levels, plain};

/// A position in pixels, y downwards.
pub(crate) type Point = (f64, f64);

/// Ink for text and axes.
pub(crate) const INK: &str = "#1A1A1A";

/// Attributes of a white outline under a text.
const HALO: &str =
    r##" stroke="#FFFFFF" stroke-width="3.5" stroke-linejoin="round" paint-order="stroke""##;

/// A rectangle in pixels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rect {
    pub(crate) left: f64,
    pub(crate) top: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

impl Rect {
    pub(crate) fn right(&self) -> f64 {
        self.left + self.width
    }

    pub(crate) fn bottom(&self) -> f64 {
        self.top + self.height
    }

    /// The rectangle without a margin on every side.
    pub(crate) fn inset(&self, margin: f64) -> Self {
        Self {
            left: self.left + margin,
            top: self.top + margin,
            width: (self.width - 2.0 * margin).max(0.0),
            height: (self.height - 2.0 * margin).max(0.0),
        }
    }

    pub(crate) fn contains(&self, (x, y): Point) -> bool {
        self.left <= x && x <= self.right() && self.top <= y && y <= self.bottom()
    }

    /// The part of the segment from `a` to `b` inside the rectangle (Liang–Barsky).
    pub(crate) fn clip(&self, a: Point, b: Point) -> Option<(Point, Point)> {
        let (dx, dy) = (b.0 - a.0, b.1 - a.1);
        let (mut enter, mut leave) = (0.0_f64, 1.0_f64);
        let sides = [
            (-dx, a.0 - self.left),
            (dx, self.right() - a.0),
            (-dy, a.1 - self.top),
            (dy, self.bottom() - a.1),
        ];
        for (towards, room) in sides {
            if towards < 0.0 {
                enter = enter.max(room / towards);
            } else if towards > 0.0 {
                leave = leave.min(room / towards);
            } else if room < 0.0 {
                return None;
            }
        }
        let at = |t: f64| (a.0 + t * dx, a.1 + t * dy);
        (enter <= leave).then(|| (at(enter), at(leave)))
    }
}

/// The look of a line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stroke {
    pub(crate) color: &'static str,
    pub(crate) width: f64,
    pub(crate) opacity: f64,
    /// `stroke-dasharray`; empty for a solid line.
    pub(crate) dash: &'static str,
}

impl Stroke {
    /// An opaque line without dashes.
    pub(crate) const fn solid(color: &'static str, width: f64) -> Self {
        Self { color, width, opacity: 1.0, dash: "" }
    }
}

/// The fill and outline of a closed shape.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint {
    pub(crate) fill: &'static str,
    pub(crate) fill_opacity: f64,
    pub(crate) stroke: &'static str,
    pub(crate) stroke_width: f64,
}

/// The part of a text that lies at its position.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// A text to draw: `at` lies on its baseline, `angle` is in degrees clockwise about `at`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text<'a> {
    pub(crate) content: &'a str,
    pub(crate) at: Point,
    pub(crate) size: f64,
    pub(crate) anchor: Anchor,
    pub(crate) weight: Weight,
    pub(crate) color: &'static str,
    pub(crate) angle: f64,
    /// A white outline, which makes the text readable on top of lines.
    pub(crate) has_halo: bool,
}

impl<'a> Text<'a> {
    pub(crate) fn new(content: &'a str, at: Point, size: f64) -> Self {
        let (anchor, weight) = (Anchor::Start, Weight::Normal);
        Self { content, at, size, anchor, weight, color: INK, angle: 0.0, has_halo: false }
    }
}

/// A growing piece of SVG text.
#[derive(Debug, Default)]
pub(crate) struct Svg {
    pub(crate) buffer: String,
}

impl Svg {
    /// Appends markup and a newline. Texts of the caller must be escaped already.
    pub(crate) fn raw(&mut self, markup: fmt::Arguments<'_>) {
        use fmt::Write;
        self.buffer.write_fmt(markup).expect("writing to a String cannot fail");
        self.buffer.push('\n');
    }

    pub(crate) fn rect(&mut self, rect: Rect, fill: &str, stroke: &str) {
        let [x, y, w, h] = [rect.left, rect.top, rect.width, rect.height].map(number);
        self.raw(format_args!(
            r#"<rect x="{x}" y="{y}" width="{w}" height="{h}" fill="{fill}" stroke="{stroke}"/>"#
        ));
    }

    /// An open path; nothing for an empty one.
    pub(crate) fn polyline(&mut self, points: &[Point], stroke: &Stroke) {
        self.path(std::slice::from_ref(&points), stroke);
    }

    /// Several open paths as one element, so that translucent pieces do not become darker where
    /// they meet.
    pub(crate) fn path(&mut self, pieces: &[impl AsRef<[Point]>], stroke: &Stroke) {
        self.titled_path(pieces, stroke, "");
    }

    /// [`path`](Self::path) with a tooltip unless it is empty.
    pub(crate) fn titled_path(
        &mut self,
        pieces: &[impl AsRef<[Point]>],
        stroke: &Stroke,
        tooltip: &str,
    ) {
        let data: String = pieces.iter().map(|piece| path_data(piece.as_ref())).collect();
        if data.is_empty() {
            return;
        }
        let (color, width) = (stroke.color, number(stroke.width));
        let opacity = attribute("stroke-opacity", stroke.opacity);
        let dash = match stroke.dash {
            "" => String::new(),
            dash => format!(r#" stroke-dasharray="{dash}""#),
        };
        let end = end_of_path(tooltip);
        self.raw(format_args!(
            r#"<path d="{data}" fill="none" stroke="{color}" stroke-width="{width}"{opacity}{dash} stroke-linejoin="round" stroke-linecap="round"{end}"#
        ));
    }

    /// A closed path, with a tooltip unless it is empty.
    pub(crate) fn shape(&mut self, data: &str, paint: &Paint, tooltip: &str) {
        let opacity = attribute("fill-opacity", paint.fill_opacity);
        let (fill, stroke, width) = (paint.fill, paint.stroke, number(paint.stroke_width));
        let end = end_of_path(tooltip);
        self.raw(format_args!(
            r#"<path d="{data}" fill="{fill}"{opacity} stroke="{stroke}" stroke-width="{width}"{end}"#
        ));
    }

    pub(crate) fn text(&mut self, text: &Text<'_>) {
        let [x, y, size] = [text.at.0, text.at.1, text.size].map(number);
        let anchor = match text.anchor {
            Anchor::Start => "",
            Anchor::Middle => r#" text-anchor="middle""#,
            Anchor::End => r#" text-anchor="end""#,
        };
        let weight = match text.weight {
            Weight::Normal => "",
            Weight::Bold => r#" font-weight="700""#,
        };
        let turn = match number(text.angle).as_str() {
            "0" => String::new(),
            angle => format!(r#" transform="rotate({angle} {x} {y})""#),
        };
        let halo = if text.has_halo { HALO } else { "" };
        let (fill, content) = (text.color, markup(text.content, text.size));
        self.raw(format_args!(
            r#"<text x="{x}" y="{y}" font-size="{size}" fill="{fill}"{anchor}{weight}{turn}{halo}>{content}</text>"#
        ));
    }
}

/// The end of a path element, with what a pointer that rests on it shows.
fn end_of_path(tooltip: &str) -> String {
    match tooltip {
        "" => "/>".to_owned(),
        tooltip => format!("><title>{}</title></path>", escape(&plain(tooltip))),
    }
}

/// ` name="value"`, or nothing when the value is 1, the default of every opacity.
fn attribute(name: &str, value: f64) -> String {
    match number(value).as_str() {
        "1" => String::new(),
        value => format!(r#" {name}="{value}""#),
    }
}

/// `M x y L x y …` for an open path; a single point becomes a segment of length zero, which a round
/// line cap shows as a dot.
fn path_data(points: &[Point]) -> String {
    let Some((first, rest)) = points.split_first() else { return String::new() };
    let rest = if rest.is_empty() { points } else { rest };
    let mut path = format!("M{}", format_point(*first));
    for &point in rest {
        path.push('L');
        path.push_str(&format_point(point));
    }
    path
}

pub(crate) fn format_point((x, y): Point) -> String {
    format!("{} {}", number(x), number(y))
}

/// A number with at most two decimals, without trailing zeros and without a negative zero.
pub(crate) fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// Escaped text with its subscripts as elements.
fn markup(text: &str, size: f64) -> String {
    let drop = number(0.22 * size);
    let (mut markup, mut lowered) = (String::new(), false);
    for (level, piece) in levels(text) {
        let piece = escape(piece);
        let element = match level {
            Level::Subscript => {
                let small = number(size * level.size());
                let dy = if lowered { "0" } else { &drop };
                format!(r#"<tspan font-size="{small}" dy="{dy}">{piece}</tspan>"#)
            }
            Level::Line if lowered => format!(r#"<tspan dy="-{drop}">{piece}</tspan>"#),
            Level::Line => piece,
        };
        markup.push_str(&element);
        lowered = level == Level::Subscript;
    }
    markup
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_never_negative_zero() {
        let check = |value: f64, expected: &str| assert_eq!(number(value), expected);
        check(-0.001, "0");
        check(1.0, "1");
        check(100.0, "100");
        check(2.345_6, "2.35");
        check(-0.5, "-0.5");
    }

    #[test]
    fn subscripts_are_lowered_and_what_follows_is_raised_again() {
        let check = |text: &str, expected: &str| assert_eq!(markup(text, 10.0), expected);
        check(
            "λ_{max}(G) < 2",
            "λ<tspan font-size=\"7.5\" dy=\"2.2\">max</tspan><tspan dy=\"-2.2\">(G) &lt; 2</tspan>",
        );
        check(
            "x_{i}_{j}",
            "x<tspan font-size=\"7.5\" dy=\"2.2\">i</tspan><tspan font-size=\"7.5\" dy=\"0\">j</tspan>",
        );
        check("a_j _{open", "a_j _{open");
    }

    #[test]
    fn clipping_a_segment_keeps_the_part_inside() {
        let rect = Rect { left: 0.0, top: 0.0, width: 10.0, height: 10.0 };
        assert_eq!(rect.clip((-5.0, 5.0), (5.0, 5.0)), Some(((0.0, 5.0), (5.0, 5.0))));
        assert_eq!(rect.clip((-5.0, 20.0), (5.0, 20.0)), None);
        assert_eq!(rect.clip((-5.0, 8.0), (5.0, 18.0)), None);
    }
}
