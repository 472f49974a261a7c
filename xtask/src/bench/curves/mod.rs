//! Cost as a curve: time and memory against sizes, with fitted exponents.

mod fit;
mod page;
mod points;

use std::path::Path;
use std::process::Command;

use serde::Serialize;

pub(super) use self::fit::PowerLaw;
pub(super) use self::page::{figure, markdown, text};
use self::points::{Point, Timer};
use super::measure::reproduce;
use crate::failure::Failure;
use crate::output;
use crate::process::stdout;
use crate::progress::Progress;

/// A curve.
#[derive(Debug)]
pub(crate) struct Curve {
    pub(crate) name: &'static str,
    /// What is done, in words, without the size that varies.
    work: &'static str,
    /// The size that varies, as an axis names it.
    size: &'static str,
    /// Its values, ascending.
    sizes: &'static [usize],
    how: How,
}

#[derive(Debug)]
enum How {
    /// In a process of its own.
    Timed(fn(usize, Timer) -> Point),
    /// A fresh reproduction with this many seeds; its size is the number of cells.
    Reproduce { threads: &'static str },
}

const fn timed(
    name: &'static str,
    work: &'static str,
    size: &'static str,
    sizes: &'static [usize],
    point: fn(usize, Timer) -> Point,
) -> Curve {
    Curve { name, work, size, sizes, how: How::Timed(point) }
}

const fn reproduction(name: &'static str, work: &'static str, threads: &'static str) -> Curve {
    let sizes = &[1, 2, 4, 8, 16, 32, 64];
    Curve { name, work, size: "cells", sizes, how: How::Reproduce { threads } }
}

const TO_3200: &[usize] = &[25, 50, 100, 200, 400, 800, 1600, 3200];

/// All of them, in the order in which they are measured.
pub(crate) const CURVES: &[Curve] = &[
    timed(
        "sgd_step_relu_d",
        "ReLU SGD step, m = 100, n = 300",
        "d",
        TO_3200,
        points::sgd_relu_inputs,
    ),
    timed(
        "sgd_step_relu_m",
        "ReLU SGD step, d = 100, n = 300",
        "m",
        TO_3200,
        points::sgd_relu_width,
    ),
    timed(
        "sgd_step_diagonal_d",
        "diagonal SGD step, n = 300",
        "d",
        &[250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 64_000],
        points::sgd_diagonal_inputs,
    ),
    timed(
        "train_relu_steps",
        "ReLU SGD run, m = d = 100, n = 300",
        "steps",
        &[300, 1000, 3000, 10_000, 30_000, 100_000, 300_000],
        points::train_relu_steps,
    ),
    timed(
        "gd_step_relu_n",
        "ReLU GD step, m = d = 100",
        "n",
        &[75, 150, 300, 600, 1200, 2400, 4800, 9600],
        points::gd_relu_samples,
    ),
    timed(
        "metrics_relu_n",
        "tr, ‖·‖_F, λ_max of G, ReLU, m = d = 100",
        "n",
        &[62, 125, 250, 500, 1000, 2000, 4000],
        points::metrics_relu_samples,
    ),
    timed(
        "threshold_n",
        "exact threshold, B = 1, all cores",
        "n",
        &[62, 125, 250, 500, 1000, 2000],
        points::threshold_samples,
    ),
    reproduction("reproduce_cells", "reproduction, profile smoke, 1 thread", "1"),
    reproduction("reproduce_cells_2_threads", "reproduction, profile smoke, 2 threads", "2"),
];

/// The curve of this name.
pub(super) fn find(name: &str) -> Option<&'static Curve> {
    CURVES.iter().find(|curve| curve.name == name)
}

/// A curve that was measured.
#[derive(Debug, Serialize)]
pub(super) struct CurveRecord {
    pub(super) name: &'static str,
    work: &'static str,
    size: &'static str,
    points: Vec<SizedPoint>,
    /// Of the medians: long work has no moment when the machine does nothing else, and short work has, so that
    /// minima of the two do not compare.
    seconds_law: Option<PowerLaw>,
    /// Of the memory that the work adds to the process.
    memory_law: Option<PowerLaw>,
}

#[derive(Debug, Serialize)]
struct SizedPoint {
    /// The size.
    at: f64,
    #[serde(flatten)]
    point: Point,
}

impl SizedPoint {
    fn time(&self) -> (f64, f64) {
        (self.at, self.point.seconds)
    }

    fn memory(&self) -> Option<(f64, f64)> {
        Some((self.at, self.point.memory_bytes? as f64))
    }

    fn added_memory(&self) -> Option<(f64, f64)> {
        let added = self.point.memory_bytes?.saturating_sub(self.point.idle_bytes?);
        Some((self.at, added as f64))
    }
}

impl CurveRecord {
    fn new(curve: &Curve, points: Vec<SizedPoint>) -> Self {
        let times: Vec<_> = points.iter().map(SizedPoint::time).collect();
        let memory: Vec<_> = points.iter().filter_map(SizedPoint::added_memory).collect();
        Self {
            name: curve.name,
            work: curve.work,
            size: curve.size,
            points,
            seconds_law: PowerLaw::fit(&times),
            memory_law: PowerLaw::fit(&memory),
        }
    }
}

/// Measures curves, one after the other.
///
/// # Errors
/// [`Failure`] when a process does not run.
pub(super) fn measure(curves: &[&Curve], is_quick: bool) -> Result<Vec<CurveRecord>, Failure> {
    let sizes = |curve: &Curve| &curve.sizes[..if is_quick { 3 } else { curve.sizes.len() }];
    let total: usize = curves.iter().map(|curve| sizes(curve).len()).sum();
    let progress = Progress::new(total as u64, total as f64, "points");
    let mut records = Vec::new();
    for curve in curves {
        let mut points = Vec::new();
        for &size in sizes(curve) {
            progress.started(&format!("{} {size}", curve.name));
            points.push(measure_one(curve, size, is_quick)?);
            progress.finished(1, 1.0);
        }
        records.push(CurveRecord::new(curve, points));
    }
    progress.end();
    Ok(records)
}

fn measure_one(curve: &Curve, size: usize, is_quick: bool) -> Result<SizedPoint, Failure> {
    let program = std::env::current_exe().map_err(Failure::file(Path::new("xtask")))?;
    match curve.how {
        How::Timed(_) => {
            let mut command = Command::new(&program);
            command.args(["bench", "--point", curve.name, &size.to_string()]);
            command.args(is_quick.then_some("--quick"));
            let text = stdout(&mut command)?;
            let point = serde_json::from_str(&text).map_err(|error| {
                Failure::Bench(format!("{}: not understood: {error}", curve.name))
            })?;
            Ok(SizedPoint { at: size as f64, point })
        }
        How::Reproduce { threads } => {
            let run = reproduce(&program, "smoke", Some(size), threads)?;
            let (seconds, memory_bytes) = (run.seconds, run.memory_bytes);
            let point = Point { seconds, minimum: seconds, memory_bytes, idle_bytes: None };
            Ok(SizedPoint { at: run.cells, point })
        }
    }
}

/// Measures a point in this process and says what it found.
///
/// # Errors
/// [`Failure::Bench`] for words that name none.
pub(super) fn point(words: &[String], is_quick: bool) -> Result<(), Failure> {
    let unknown = || Failure::Bench(format!("no such point: {}", words.join(" ")));
    let [name, size] = words else { return Err(unknown()) };
    let how = find(name).map(|curve| &curve.how);
    let (Some(How::Timed(time)), Ok(size)) = (how, size.parse()) else { return Err(unknown()) };
    let json = serde_json::to_string(&time(size, Timer::new(is_quick)));
    let json = json.map_err(|error| Failure::Bench(format!("{name}: {error}")))?;
    output::print(&(json + "\n"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::CURVES;

    #[test]
    fn names_are_taken_once_and_sizes_ascend() {
        let names: BTreeSet<&str> = CURVES.iter().map(|curve| curve.name).collect();
        assert_eq!(names.len(), CURVES.len());
        for curve in CURVES {
            assert!(curve.sizes.is_sorted() && curve.sizes.len() >= super::fit::FITTED);
        }
    }
}
