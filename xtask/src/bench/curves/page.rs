//! The curves for a reader.

use std::fmt::Write as _;

use flatmin_figures::{Axis, Figure, Mark, Panel, Series, Style};

use super::super::page::rule;
use super::super::units::{memory, time};
use super::fit::{FITTED, PowerLaw};
use super::record::{CurveRecord, SizedPoint};
use crate::markdown::line;

/// An exponent with its standard error.
fn exponent(law: Option<&PowerLaw>) -> String {
    law.map_or_else(String::new, |law| {
        let exponent = format!("{:.2}", law.exponent);
        let exponent = if exponent == "-0.00" { "0.00" } else { &exponent };
        format!("{exponent} ± {:.2}", law.standard_error)
    })
}

/// The table on standard output.
pub(crate) fn text(records: &[CurveRecord]) -> String {
    let mut text = String::new();
    for record in records {
        let CurveRecord { name, work, size, points, seconds_law, memory_law } = record;
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "{name}: {work}");
        for SizedPoint { at, point } in points {
            let (median, minimum) = (time(point.seconds), time(point.minimum));
            let memory = memory(point.memory_bytes);
            let _ = writeln!(text, "  {at:>8}  {median:>8}  {minimum:>8}  {memory:>8}");
        }
        for (what, law) in [("time", seconds_law), ("memory", memory_law)] {
            if let Some(law) = law {
                let exponent = exponent(Some(law));
                let _ = writeln!(text, "  {what} ∝ {size}^({exponent}) from {} on", law.from);
            }
        }
    }
    text
}

/// The size to which the law of the time is extrapolated.
const FAR: f64 = 1e5;

/// The tables of `docs/performance.md`, without the line of their origin.
pub(crate) fn markdown(records: &[CurveRecord]) -> String {
    let headers = "curve|work|against|range|exponent of the time|of the memory|time at 10⁵";
    let headers: Vec<&str> = headers.split('|').collect();
    let mut text = line(&headers) + &rule(headers.len());
    for CurveRecord { name, work, size, points, seconds_law, memory_law } in records {
        let ends = points.first().into_iter().chain(points.last());
        let range: Vec<String> = ends.map(|point| point.at.to_string()).collect();
        text += &line(&[
            format!("`{name}`"),
            (*work).to_owned(),
            (*size).to_owned(),
            range.join(" to "),
            exponent(seconds_law.as_ref()),
            exponent(memory_law.as_ref()),
            seconds_law.map_or_else(String::new, |law| time(law.at(FAR))),
        ]);
    }
    let _ = write!(
        text,
        "\nExponents are of the last {FITTED} points, with standard errors: of the median times, and of the memory that the \
         work adds to the program. The last column continues the law of the time. Sizes with the median time and the peak memory of \
         the process:\n\n{}{}",
        line(&["curve", "points"]),
        rule(2)
    );
    for record in records {
        let points = record.points.iter().map(|SizedPoint { at, point }| {
            format!("{at}: {}, {}", time(point.seconds), memory(point.memory_bytes))
        });
        let points: Vec<String> = points.collect();
        text += &line(&[format!("`{}`", record.name), points.join("; ")]);
    }
    text + "\n"
}

/// The figure of all curves.
pub(crate) fn figure(records: &[CurveRecord]) -> Figure {
    let series = |of: &dyn Fn(&SizedPoint) -> Option<(f64, f64)>, is_run: bool| {
        let records = records.iter().enumerate();
        let chosen = records.filter(move |(_, record)| (record.size == "cells") == is_run);
        let series = chosen.map(|(index, record)| {
            let label = format!("{} against {}", record.work, record.size);
            let points = record.points.iter().filter_map(of);
            Series::new(label, Style(index), Mark::LineAndPoints, points)
        });
        series.collect::<Vec<Series>>()
    };
    let panel = |title: &str, x: &str, y: &str, series| {
        Panel::new(title, Axis::log(x), Axis::log(y), series, Vec::new())
    };
    let seconds = |point: &SizedPoint| Some(point.time());
    let megabytes = |point: &SizedPoint| point.memory().map(|(at, bytes)| (at, bytes / 1e6));
    let size = "size: d, m, n, r, k or steps";
    let panels = vec![
        panel("Time of a step or a call", size, "seconds", series(&seconds, false)),
        panel("Memory", size, "MB", series(&megabytes, false)),
        panel("Time of a reproduction", "cells", "seconds", series(&seconds, true)),
        panel("Memory of a reproduction", "cells", "MB", series(&megabytes, true)),
    ];
    let subtitle = "One size varies; median times, peak memory of the process.";
    Figure::new("What a larger problem costs", subtitle, 2, panels)
}

#[cfg(test)]
mod tests {
    use super::super::list::CURVES;
    use super::super::record::{CurveRecord, SizedPoint};
    use super::{figure, markdown, text};
    use crate::bench::measure::Measured;

    fn record() -> CurveRecord {
        let point = |at: f64| {
            let minimum = 1e-6 * at;
            let added = if at > 300.0 { 80_000_000 } else { 5_000_000 };
            let (memory_bytes, idle_bytes) = (Some(added + 1_000_000), Some(1_000_000));
            SizedPoint {
                at,
                point: Measured {
                    seconds: 2.0 * minimum,
                    minimum,
                    memory_bytes,
                    idle_bytes,
                    products: None,
                },
            }
        };
        CurveRecord::new(&CURVES[0], [100.0, 200.0, 400.0].map(point).into())
    }

    #[test]
    fn the_tables_have_exponents_and_points() {
        let text = text(&[record()]);
        assert!(text.contains("time ∝ d^(1.00 ± 0.00) from 100 on"), "{text}");
        let markdown = markdown(&[record()]);
        let row = "| `sgd_step_relu_d` | ReLU SGD step, m = 100, n = 300 | d | 100 to 400 | 1.00 ± 0.00 | 2.00 ± ";
        assert!(markdown.contains(row), "{markdown}");
        let row = "| `sgd_step_relu_d` | 100: 200 µs, 6.00 MB; 200: 400 µs, 6.00 MB; 400: 800 µs, 81.0 MB |";
        assert!(markdown.contains(row), "{markdown}");
    }

    #[test]
    fn the_figure_has_every_point() {
        let figure = figure(&[record()]);
        let points: Vec<usize> = figure
            .panels
            .iter()
            .map(|panel| panel.series.iter().map(|series| series.points.len()).sum())
            .collect();
        assert_eq!(points, [3, 3, 0, 0]);
    }
}
