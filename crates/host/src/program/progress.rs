//! Progress of long work on standard error.

use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::note;

/// Time between two updates of the elapsed time that a bar shows.
const TICK: Duration = Duration::from_millis(200);

/// Plain lines are at least a tenth of the work and two seconds apart.
const LINES: u64 = 10;
const LINE_TIME: Duration = Duration::from_secs(2);

/// A progress bar on a terminal. Elsewhere nothing, or a few [plain lines](Self::with_lines).
///
/// The bar is removed when the value is dropped.
#[derive(Debug)]
pub struct Progress {
    pub(super) bar: Option<ProgressBar>,
    lines: Option<Mutex<Lines>>,
}

#[derive(Debug)]
struct Lines {
    unit: &'static str,
    total: u64,
    done: u64,
    /// The next line comes when this much is done.
    next: u64,
    last: Instant,
}

impl Progress {
    /// A bar over `total` bytes, with the rate and the time left.
    pub fn bytes(label: &str, total: u64) -> Self {
        let template = "{msg} {bar:24} {bytes}/{total_bytes}, {binary_bytes_per_sec}, {eta} left";
        Self::new(label, total, template)
    }

    /// A bar over `total` pieces of work.
    pub fn steps(label: &str, total: u64) -> Self {
        Self::new(label, total, "{msg} {bar:24} {pos}/{len} ({elapsed})")
    }

    /// A line with a label and the time, for work of unknown size.
    pub fn spinner(label: &str) -> Self {
        Self::new(label, 0, "{spinner} {msg} ({elapsed})")
    }

    /// True if there is a bar, on a terminal.
    pub fn is_shown(&self) -> bool {
        self.bar.is_some()
    }

    /// A bar in this style, where standard error is a terminal.
    pub(super) fn new(label: &str, total: u64, template: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_message(label.to_owned());
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { bar, lines: None }
    }

    /// Adds plain lines, `DONE of TOTAL UNIT`, where standard error is not a terminal. The first
    /// `done` pieces of work were done before.
    #[must_use]
    pub fn with_lines(mut self, done: u64, total: u64, unit: &'static str) -> Self {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        } else {
            let lines = Lines { unit, total, done, next: done, last: Instant::now() };
            self.lines = Some(Mutex::new(lines));
        }
        self
    }

    /// Replaces the label of the bar.
    pub fn message(&self, label: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(label.to_owned());
        }
    }

    /// Counts `amount` more as done.
    pub fn advance(&self, amount: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(amount);
        }
        let Some(lines) = &self.lines else { return };
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.done += amount;
        if lines.done >= lines.next && lines.last.elapsed() >= LINE_TIME {
            note(&format_args!("{} of {} {}", lines.done, lines.total, lines.unit));
            lines.next = lines.done + lines.total / LINES;
            lines.last = Instant::now();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
