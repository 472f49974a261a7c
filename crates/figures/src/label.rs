//! Placement of the names of reference lines.
//!
//! A name is written along its line if a straight part of the line is long enough, horizontally
//! beside the line otherwise, or at a distance with a leader if the surroundings are crowded. It
//! covers as little as possible and always lies inside the panel. Candidates are tried in a fixed
//! order, and the first of equally good ones wins, so the result is deterministic.

use crate::svg::{Point, Rect};
use crate::text::{Weight, text_width};

/// Font size of the names of references, unless a name is too long for its panel.
pub(crate) const LABEL_SIZE: f64 = 11.5;

/// A point that a name should not cover, and the cost of covering it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Obstacle {
    pub(crate) at: Point,
    pub(crate) weight: f64,
}

/// The position of a name: the middle of its text, the unit vector along it, the font size, and the
/// ends of a leader to its line if the name lies at a distance.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spot {
    pub(crate) center: Point,
    pub(crate) along: Point,
    pub(crate) size: f64,
    pub(crate) leader: Option<(Point, Point)>,
}

/// A possible position of a name, and its cost apart from the points that it covers.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    slab: Slab,
    leader: Option<(Point, Point)>,
    penalty: f64,
}

/// A rectangle about `center` whose long side runs along the unit vector `along`.
#[derive(Debug, Clone, Copy)]
struct Slab {
    center: Point,
    along: Point,
    half_width: f64,
    half_height: f64,
}

impl Slab {
    fn covers(&self, (x, y): Point) -> bool {
        let (dx, dy) = (x - self.center.0, y - self.center.1);
        let (u, v) = (dx * self.along.0 + dy * self.along.1, dy * self.along.0 - dx * self.along.1);
        u.abs() <= self.half_width && v.abs() <= self.half_height
    }

    /// Points `step` apart that fill the slab, corners included.
    fn fill(&self, step: f64) -> Vec<Point> {
        let grid = |half: f64| {
            let count = (2.0 * half / step).ceil().clamp(1.0, 200.0);
            let indices = (0..=200_u32).map(f64::from).take_while(move |&i| i <= count);
            indices.map(move |i| half * (2.0 * i / count - 1.0))
        };
        grid(self.half_width)
            .flat_map(|u| grid(self.half_height).map(move |v| self.at(u, v)))
            .collect()
    }

    fn is_inside(&self, area: &Rect) -> bool {
        let (w, h) = (self.half_width, self.half_height);
        [(-w, -h), (w, -h), (-w, h), (w, h)].into_iter().all(|(u, v)| area.contains(self.at(u, v)))
    }

    /// The point at distance `u` along the slab and `v` across it from its centre.
    fn at(&self, u: f64, v: f64) -> Point {
        let (ax, ay) = self.along;
        (self.center.0 + u * ax - v * ay, self.center.1 + u * ay + v * ax)
    }

    fn cost(&self, obstacles: &[Obstacle]) -> f64 {
        obstacles.iter().filter(|o| self.covers(o.at)).map(|o| o.weight).sum()
    }
}

/// The best position for `text` beside the polyline `line`, which must lie inside `area`; `None`
/// for an empty line. The text is added to the obstacles, so that later names avoid it.
pub(crate) fn place(
    text: &str,
    line: &[Point],
    area: &Rect,
    obstacles: &mut Vec<Obstacle>,
) -> Option<Spot> {
    let inner = area.inset(3.0);
    let natural = text_width(text, LABEL_SIZE, Weight::Normal) + 6.0;
    let size = LABEL_SIZE * (inner.width / natural).min(1.0);
    let (half_width, half_height) = (0.5 * natural * size / LABEL_SIZE, 0.62 * size);
    let own = sample(line, 3.0);
    let cost = |candidate: &Candidate| {
        // Points of the line itself cost too, so that a name lies beside its line and not on it.
        let covered = own.iter().filter(|&&point| candidate.slab.covers(point)).count();
        candidate.penalty + candidate.slab.cost(obstacles) + 2.0 * covered as f64
    };
    let best = candidates(&own, half_width, half_height)
        .into_iter()
        .filter(|candidate| candidate.slab.is_inside(&inner))
        .map(|candidate| (cost(&candidate), candidate))
        .min_by(|(a, _), (b, _)| a.total_cmp(b));
    let (slab, leader) = if let Some((_, Candidate { slab, leader, .. })) = best {
        (slab, leader)
    } else {
        // No candidate fits, so horizontal text is moved into the panel.
        let (x, y) = *own.get(own.len() / 2)?;
        let clamp = |value: f64, low: f64, high: f64| value.max(low).min(high.max(low));
        let center = (
            clamp(x, inner.left + half_width, inner.right() - half_width),
            clamp(y - 2.0 * half_height, inner.top + half_height, inner.bottom() - half_height),
        );
        (Slab { center, along: (1.0, 0.0), half_width, half_height }, None)
    };
    obstacles.extend(slab.fill(6.0).into_iter().map(|at| Obstacle { at, weight: 30.0 }));
    Some(Spot { center: slab.center, along: slab.along, size, leader })
}

/// Positions beside the densely sampled points of a line, for a name of the given half extents.
fn candidates(own: &[Point], half_width: f64, half_height: f64) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    let reach = half_height + 3.0;
    for (index, &from) in own.iter().enumerate().step_by(2) {
        let away = |(x, y): Point| {
            let (dx, dy) = (x - from.0, y - from.1);
            (dx * dx + dy * dy).sqrt()
        };
        // A slight preference for the right half of the line.
        let off_side = 0.4 * (index as f64 / own.len() as f64 - 0.7).abs();
        if let Some(&to) = own[index..].iter().find(|&&point| away(point) >= 2.0 * half_width) {
            let along = readable((to.0 - from.0, to.1 - from.1), away(to));
            let middle = (f64::midpoint(from.0, to.0), f64::midpoint(from.1, to.1));
            for (side, penalty) in [(-1.0, 0.0), (1.0, 0.1)] {
                let shift = side * reach;
                let center = (middle.0 - shift * along.1, middle.1 + shift * along.0);
                let slab = Slab { center, along, half_width, half_height };
                candidates.push(Candidate { slab, leader: None, penalty: off_side + penalty });
            }
        }
        let level = |dx: f64, dy: f64| {
            let center = (from.0 + dx, from.1 + dy);
            Slab { center, along: (1.0, 0.0), half_width, half_height }
        };
        for side in [-1.0, 1.0] {
            // Horizontal text with a corner or an edge near the point, for steep or short lines.
            for dx in [-1.0_f64, 0.0, 1.0] {
                let slab = level(dx * (half_width + 4.0), side * reach);
                let penalty = off_side + 1.5 + dx.abs();
                candidates.push(Candidate { slab, leader: None, penalty });
            }
            for distance in [2.5, 4.0, 6.0, 8.0] {
                let slab = level(0.0, side * distance * reach);
                let leader = Some(((from.0, slab.center.1 - side * half_height), from));
                let penalty = off_side + 6.0 + distance;
                candidates.push(Candidate { slab, leader, penalty });
            }
        }
    }
    candidates
}

/// Unit vector along a segment, turned so that text on it reads from left to right, or upwards.
fn readable((dx, dy): Point, length: f64) -> Point {
    let (x, y) = (dx / length, dy / length);
    if x.abs() < 0.02 {
        (0.0, -1.0)
    } else if x < 0.0 {
        (-x, -y)
    } else {
        (x, y)
    }
}

/// Points at most `step` apart along a polyline.
pub(crate) fn sample(line: &[Point], step: f64) -> Vec<Point> {
    let mut points: Vec<Point> = line.first().copied().into_iter().collect();
    for pair in line.windows(2) {
        let ((ax, ay), (bx, by)) = (pair[0], pair[1]);
        let length = ((bx - ax) * (bx - ax) + (by - ay) * (by - ay)).sqrt();
        let pieces = (length / step).ceil().clamp(1.0, 1000.0);
        let parts = (1..=1000_u32).map(f64::from).take_while(|&part| part <= pieces);
        points.extend(
            parts.map(|part| (ax + (bx - ax) * part / pieces, ay + (by - ay) * part / pieces)),
        );
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    const AREA: Rect = Rect { left: 0.0, top: 0.0, width: 300.0, height: 200.0 };

    #[test]
    fn names_stay_inside_the_panel_and_off_each_other() {
        let mut obstacles = Vec::new();
        let line = [(0.0, 2.0), (300.0, 2.0)];
        let first = place("exact threshold", &line, &AREA, &mut obstacles).expect("a line");
        let second = place("another name", &line, &AREA, &mut obstacles).expect("a line");
        assert!(first.center.1 > 2.0, "above the line there is no room: {first:?}");
        assert!((first.center.0 - second.center.0).abs() > 80.0, "{first:?} {second:?}");
        assert!(place("name", &[], &AREA, &mut obstacles).is_none());
    }

    #[test]
    fn names_avoid_data() {
        let line = [(0.0, 100.0), (300.0, 100.0)];
        let above = |x| Obstacle { at: (f64::from(x), 91.0), weight: 1.0 };
        let mut obstacles: Vec<Obstacle> = (0..300).map(above).collect();
        let spot = place("a bound", &line, &AREA, &mut obstacles).expect("a line");
        assert!(spot.center.1 > 100.0, "{spot:?}");
    }

    #[test]
    fn a_name_in_a_crowd_moves_away_and_gets_a_leader() {
        let line = [(0.0, 100.0), (300.0, 100.0)];
        let crowd = (0..300).flat_map(|x| [85.0, 92.0, 108.0, 115.0].map(|y| (f64::from(x), y)));
        let mut obstacles: Vec<Obstacle> = crowd.map(|at| Obstacle { at, weight: 1.0 }).collect();
        let spot = place("a bound", &line, &AREA, &mut obstacles).expect("a line");
        let (_, end) = spot.leader.expect("a leader");
        assert!((end.1 - 100.0).abs() < 1e-9 && (spot.center.1 - 100.0).abs() > 15.0, "{spot:?}");
    }

    #[test]
    fn a_name_wider_than_the_panel_shrinks() {
        let line = [(0.0, 100.0), (300.0, 100.0)];
        let long = "a name that is far too long to be set in a panel of this width at full size";
        let spot = place(long, &line, &AREA, &mut Vec::new()).expect("a line");
        assert!(text_width(long, spot.size, Weight::Normal) <= 300.0, "{spot:?}");
    }
}
