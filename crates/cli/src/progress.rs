//! Progress of long work, on standard error, and only where it is a terminal.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Time between two looks at the clock.
const TICK: Duration = Duration::from_millis(200);

/// A bar on a terminal, nothing elsewhere.
#[derive(Debug)]
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    /// A bar over `total` bytes, with the rate and the time left.
    pub(crate) fn bytes(label: &str, total: u64) -> Self {
        let template = "{msg} {bar:24} {bytes}/{total_bytes}, {binary_bytes_per_sec}, {eta} left";
        Self::new(label, total, template)
    }

    /// A bar over `total` pieces of work.
    pub(crate) fn steps(label: &str, total: u64) -> Self {
        Self::new(label, total, "{msg} {bar:24} {pos}/{len} ({elapsed})")
    }

    fn new(label: &str, total: u64, template: &str) -> Self {
        Self(std::io::stderr().is_terminal().then(|| {
            let target = ProgressDrawTarget::stderr();
            let bar = ProgressBar::with_draw_target(Some(total), target);
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_message(label.to_owned());
            // The time goes on also where a piece of work takes long.
            bar.enable_steady_tick(TICK);
            bar
        }))
    }

    /// Says what is being done.
    pub(crate) fn message(&self, label: &str) {
        if let Some(bar) = &self.0 {
            bar.set_message(label.to_owned());
        }
    }

    /// Counts what is done.
    pub(crate) fn advance(&self, amount: u64) {
        if let Some(bar) = &self.0 {
            bar.inc(amount);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
