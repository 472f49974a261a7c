//! Cost as a curve: time and memory against sizes, with fitted exponents.

mod fit;
mod list;
mod page;
mod points;
mod record;

use std::path::Path;
use std::process::Command;

use flatmin_host::{Tasks, print};

use self::list::PointKind;
pub(super) use self::list::{CURVES, Curve, NAMES};
pub(super) use self::page::{figure, markdown, text};
use self::points::Timer;
pub(super) use self::record::CurveRecord;
use self::record::SizedPoint;
use super::measure::time_reproduction;
use crate::failure::Failure;
use crate::process::stdout;

/// Measures curves, one after the other.
///
/// # Errors
/// [`Failure`] when a process does not run.
pub(super) fn measure(curves: &[&Curve], is_quick: bool) -> Result<Vec<CurveRecord>, Failure> {
    let sizes = |curve: &Curve| &curve.sizes[..if is_quick { 3 } else { curve.sizes.len() }];
    let total: usize = curves.iter().map(|curve| sizes(curve).len()).sum();
    let tasks = Tasks::new(total as u64, total as f64, "points");
    let mut records = Vec::new();
    for curve in curves {
        let mut points = Vec::new();
        for &size in sizes(curve) {
            let task = tasks.start(&format!("{} {size}", curve.name), 1.0);
            points.push(measure_one(curve, size, is_quick)?);
            task.finish(1);
        }
        records.push(CurveRecord::new(curve, points));
    }
    Ok(records)
}

fn measure_one(curve: &Curve, size: usize, is_quick: bool) -> Result<SizedPoint, Failure> {
    let program = std::env::current_exe().map_err(Failure::file(Path::new("xtask")))?;
    match curve.how {
        PointKind::Timed(_) => {
            let mut command = Command::new(&program);
            command.args(["bench", "--point", curve.name, &size.to_string()]);
            command.args(is_quick.then_some("--quick"));
            let text = stdout(&mut command)?;
            let point = serde_json::from_str(&text).map_err(|error| {
                Failure::Program(format!("{}: not understood: {error}", curve.name))
            })?;
            Ok(SizedPoint { at: size as f64, point })
        }
        PointKind::Reproduce { threads } => {
            let (point, at) = time_reproduction(&program, "smoke", Some(size), threads)?;
            Ok(SizedPoint { at, point })
        }
    }
}

/// Measures a point in this process and prints it.
///
/// # Errors
/// [`Failure::Program`] for words that name no point.
pub(super) fn point(words: &[String], is_quick: bool) -> Result<(), Failure> {
    let unknown = || Failure::Program(format!("no such point: {}", words.join(" ")));
    let [name, size] = words else { return Err(unknown()) };
    let how = NAMES.find(name).map(|curve| &curve.how);
    let (Ok(PointKind::Timed(time)), Ok(size)) = (how, size.parse()) else { return Err(unknown()) };
    let json = serde_json::to_string(&time(size, Timer::new(is_quick)));
    let json = json.map_err(|error| Failure::Program(format!("{name}: {error}")))?;
    Ok(print(&(json + "\n"))?)
}
