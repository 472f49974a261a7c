//! The progress of a bracket, on a bar or in lines.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use flatmin_host::{Progress, duration, note, significant};
use flatmin_theory::{BracketOptions, BracketProgress, BracketStage, Subspace};

use super::Checkpoint;
use super::forecast::Forecast;

/// The time before the first line of progress and between two lines, where standard error is no
/// terminal.
const FIRST_LINE: Duration = Duration::from_secs(2);
const LINE_TIME: Duration = Duration::from_secs(10);

/// The observer of one bracket.
pub(super) struct Watch<'a> {
    stop: &'a dyn Fn() -> bool,
    pub(super) checkpoint: Option<&'a Checkpoint<'a>>,
    bar: Progress,
    batch_size: usize,
    scale: f64,
    started: Instant,
    /// The time of the last line.
    told: Option<Instant>,
    forecast: Forecast,
}

impl<'a> Watch<'a> {
    pub(super) fn new(
        batch_size: usize,
        scale: f64,
        options: &BracketOptions,
        stop: &'a dyn Fn() -> bool,
    ) -> Self {
        let bar = Progress::spinner(&format!("bracket for batch size {batch_size}"));
        Self {
            stop,
            checkpoint: None,
            bar,
            batch_size,
            scale,
            started: Instant::now(),
            told: None,
            forecast: Forecast::new(options.relative_width, options.max_products),
        }
    }

    /// Tells what was reached, stores it, and says whether to go on.
    pub(super) fn tell(
        &mut self,
        progress: &BracketProgress,
        subspace: &Subspace,
    ) -> ControlFlow<()> {
        let is_stopped = (self.stop)();
        if let (Some(checkpoint), BracketStage::Growing) = (self.checkpoint, progress.stage) {
            if is_stopped {
                checkpoint.write(subspace);
            } else {
                checkpoint.write_if_due(subspace);
            }
        }
        let seconds = self.started.elapsed().as_secs_f64();
        self.forecast.note(progress, seconds);
        let interval = progress.interval.map_or(String::new(), |(lower, upper)| {
            let [lower, upper] = [lower, upper].map(|end| significant(end / self.scale, 4));
            format!(", bracket so far [{lower}, {upper}]")
        });
        let line = format!(
            "batch size {}: {} modes from {} products{interval}, {}",
            self.batch_size,
            progress.rank,
            progress.products,
            self.outlook(progress)
        );
        self.bar.message(&line);
        let is_due = match self.told {
            None => self.started.elapsed() >= FIRST_LINE,
            Some(told) => told.elapsed() >= LINE_TIME,
        };
        if is_due && !self.bar.is_shown() {
            note(&format_args!("{line}, after {}", duration(seconds)));
            self.told = Some(Instant::now());
        }
        if is_stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// The time left where it can be told, and otherwise the limit that ends the run at the latest.
    fn outlook(&self, progress: &BracketProgress) -> String {
        if progress.stage == BracketStage::Certifying {
            return "certifying the lower end".to_owned();
        }
        if let Some(left) = self.forecast.seconds_left(progress) {
            return format!("about {} left", duration(left));
        }
        // Restarts may go on at the largest rank until the products are spent.
        if self.forecast.has_restarted() {
            return format!("at most {} products", self.forecast.max_products());
        }
        format!("at most {} modes", progress.max_rank)
    }
}
