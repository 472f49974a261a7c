//! The palette: colour, marker shape and dash pattern of each [`Style`].

use crate::figure::{Mark, Style};
use crate::svg::{INK, Paint, Point, Stroke, Svg, format_point, number};

/// The colours of Okabe and Ito, darkened to a contrast of at least 3.1 on white and spread in
/// lightness. The first three differ clearly under simulated deuteranopia and protanopia.
const COLORS: [&str; 8] =
    ["#0B4F9E", "#E0690A", "#007D5C", "#7A1F5C", "#2F9BD6", "#A00000", "#2A2A2A", "#6A5AE0"];

const DASHES: [&str; 8] = ["", "8 4", "2 4", "10 4 2 4", "14 4", "5 3", "10 3 2 3 2 3", "1 5 6 5"];

const REFERENCE_DASHES: [&str; 4] = ["", "10 5", "10 4 2 4", "2 4"];

/// Corners of the markers for a radius of 1, sized to look equally large; a circle has none.
#[rustfmt::skip]
const MARKERS: [&[Point]; 8] = [
    &[],
    &[(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)],
    &[(0.0, -1.25), (1.15, 0.8), (-1.15, 0.8)],
    &[(0.0, -1.3), (1.15, 0.0), (0.0, 1.3), (-1.15, 0.0)],
    &[(0.0, 1.25), (-1.15, -0.8), (1.15, -0.8)],
    &[
        (-0.4, -1.2), (0.4, -1.2), (0.4, -0.4), (1.2, -0.4), (1.2, 0.4), (0.4, 0.4),
        (0.4, 1.2), (-0.4, 1.2), (-0.4, 0.4), (-1.2, 0.4), (-1.2, -0.4), (-0.4, -0.4),
    ],
    &[(-1.1, -1.1), (1.1, -1.1), (-1.1, 1.1), (1.1, 1.1)],
    &[
        (0.0, -0.55), (0.6, -1.15), (1.15, -0.6), (0.55, 0.0), (1.15, 0.6), (0.6, 1.15),
        (0.0, 0.55), (-0.6, 1.15), (-1.15, 0.6), (-0.55, 0.0), (-1.15, -0.6), (-0.6, -1.15),
    ],
];

fn color(style: Style) -> &'static str {
    COLORS[style.0 % COLORS.len()]
}

/// The line of a series, if its mark has one.
pub(crate) fn stroke(style: Style, mark: Mark) -> Option<Stroke> {
    // After eight styles the dash patterns shift by one, so that each pair of colour and dash is
    // new.
    let dash = DASHES[(style.0 % 8 + style.0 / 8) % DASHES.len()];
    let (width, opacity) = match mark {
        Mark::Line => (1.8, 1.0),
        Mark::ThinLine => (1.1, 0.55),
        Mark::LineAndPoints => (2.2, 1.0),
        Mark::Intervals => return Some(Stroke::solid(color(style), 1.4)),
        Mark::Points | Mark::OpenPoints => return None,
    };
    Some(Stroke { color: color(style), width, opacity, dash })
}

/// The line of the reference with the given index. All are dark and differ by their dashes and
/// names.
pub(crate) fn reference_stroke(index: usize) -> Stroke {
    let dash = REFERENCE_DASHES[index % REFERENCE_DASHES.len()];
    Stroke { dash, ..Stroke::solid(INK, 1.5) }
}

/// Draws the marker of a series at `center`, if its mark has one, with a tooltip unless it is empty.
pub(crate) fn draw_marker(svg: &mut Svg, style: Style, mark: Mark, center: Point, tooltip: &str) {
    let color = color(style);
    let filled = Paint { fill: color, fill_opacity: 1.0, stroke: "#FFFFFF", stroke_width: 1.0 };
    let (radius, paint) = match mark {
        Mark::Line | Mark::ThinLine | Mark::Intervals => return,
        Mark::Points => (3.5, Paint { fill_opacity: 0.45, stroke: "none", ..filled }),
        Mark::OpenPoints => {
            (3.5, Paint { fill: "none", stroke: color, stroke_width: 1.3, ..filled })
        }
        Mark::LineAndPoints => (4.0, filled),
    };
    svg.shape(&outline(style, center, radius), &paint, tooltip);
}

/// Path of the marker of `style` about `center`.
fn outline(style: Style, center: Point, radius: f64) -> String {
    let corners = MARKERS[style.0 % MARKERS.len()];
    let place = |(x, y): Point| format_point((center.0 + radius * x, center.1 + radius * y));
    match corners.split_first() {
        None => {
            let (r, d) = (number(radius), number(2.0 * radius));
            format!("M{}a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0 -{d} 0Z", place((-1.0, 0.0)))
        }
        Some((first, rest)) => {
            let rest: Vec<String> = rest.iter().map(|&corner| place(corner)).collect();
            format!("M{}L{}Z", place(*first), rest.join("L"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn styles_differ_without_their_colour() {
        for i in 0..8 {
            for j in 0..i {
                assert_ne!(MARKERS[i], MARKERS[j], "markers {i} and {j}");
                assert_ne!(DASHES[i], DASHES[j], "dashes {i} and {j}");
            }
        }
    }

    #[test]
    fn a_ninth_style_differs_from_the_first_by_its_dash() {
        let dash = |index| stroke(Style(index), Mark::Line).map(|stroke| stroke.dash);
        assert_ne!(dash(0), dash(8));
    }
}
