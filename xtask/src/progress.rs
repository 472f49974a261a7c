//! Progress on standard error: a bar on a terminal, a few plain lines otherwise.

use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output;

/// Plain lines are at least this part of the whole apart, and as many seconds.
const LINES: f64 = 20.0;
const SECONDS: f64 = 1.0;

/// Units of work (cells, say) done out of all that are to do.
#[derive(Debug)]
pub(crate) struct Progress {
    total: u64,
    unit: &'static str,
    total_cost: f64,
    start: Instant,
    bar: Option<ProgressBar>,
    done: Mutex<Done>,
}

#[derive(Debug, Default)]
struct Done {
    count: u64,
    cost: f64,
    lines: f64,
    /// Not before so many seconds.
    next_line: f64,
}

impl Progress {
    /// Progress over `total` units, as in "cells", of an estimated total cost.
    pub(crate) fn new(total: u64, total_cost: f64, unit: &'static str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let target = ProgressDrawTarget::stderr();
            let bar = ProgressBar::with_draw_target(Some(total), target);
            if let Ok(style) = ProgressStyle::with_template(&format!(
                "{{bar:24}} {{pos}}/{{len}} {unit}, {{wide_msg}}"
            )) {
                bar.set_style(style);
            }
            bar.tick();
            bar
        });
        Self { total, unit, total_cost, start: Instant::now(), bar, done: Mutex::default() }
    }

    /// Shows what was started.
    pub(crate) fn started(&self, label: &str) {
        if let Some(bar) = &self.bar {
            let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
            bar.set_message(format!("{}: {label}", self.pace(&done)));
        }
    }

    /// Counts `count` units of an estimated cost together.
    pub(crate) fn finished(&self, count: u64, cost: f64) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.count += count;
        done.cost += cost;
        if let Some(bar) = &self.bar {
            bar.set_position(done.count);
            return;
        }
        let lines = (LINES * done.cost / self.total_cost).floor();
        let elapsed = self.start.elapsed().as_secs_f64();
        if lines > done.lines && elapsed >= done.next_line || done.count == self.total {
            done.lines = lines;
            done.next_line = elapsed + SECONDS;
            let (count, total, unit, pace) = (done.count, self.total, self.unit, self.pace(&done));
            output::note(&format_args!("{count}/{total} {unit}, {pace}"));
        }
    }

    /// Removes the bar.
    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// The rate, and the time left by estimated cost: units differ by orders of magnitude.
    fn pace(&self, done: &Done) -> String {
        let elapsed = self.start.elapsed().as_secs_f64();
        if done.count == 0 || done.cost <= 0.0 {
            return "starting".to_owned();
        }
        let rate = done.count as f64 / elapsed.max(1e-9);
        let left = elapsed * (self.total_cost - done.cost).max(0.0) / done.cost;
        format!("{rate:.1} a second, about {} left", duration(left))
    }
}

/// Seconds for a reader: `42 s`, `3 min 20 s`, `2 h 5 min`.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds).map_or(0, |d| d.as_secs());
    match whole {
        0..10 => format!("{seconds:.1} s"),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_are_short() {
        let check = |seconds, text| assert_eq!(duration(seconds), text);
        check(0.25, "0.2 s");
        check(42.9, "42 s");
        check(200.0, "3 min 20 s");
        check(7500.0, "2 h 5 min");
        check(f64::NAN, "NaN s");
    }
}
