//! The progress of a bracket, on a bar or in lines.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use flatmin_host::{Progress, duration, note, significant};
use flatmin_theory::{BracketOptions, BracketProgress, BracketStage, Subspace};

use super::{Checkpoint, MAX_RANK};

/// The time before the first line of progress and between two lines, where standard error is no
/// terminal.
const FIRST_LINE: Duration = Duration::from_secs(2);
const LINE_TIME: Duration = Duration::from_secs(10);

/// The products of a certificate, for the time left.
const CERTIFICATE_PRODUCTS: f64 = 100.0;

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
            forecast: Forecast::new(options.relative_width, options.max_rank),
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
        self.forecast.note(progress);
        let interval = progress.interval.map_or(String::new(), |(lower, upper)| {
            let [lower, upper] = [lower, upper].map(|end| significant(end / self.scale, 4));
            format!(", bracket so far [{lower}, {upper}]")
        });
        let left = self.forecast.seconds_left(progress, seconds);
        let left = left.map_or(String::new(), |left| format!(", about {} left", duration(left)));
        let line = format!(
            "batch size {}: {} modes from {} products{interval}{left}",
            self.batch_size, progress.rank, progress.products
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
}

/// What is known of the time that a bracket takes.
#[derive(Debug)]
struct Forecast {
    wanted: f64,
    /// The largest rank.
    limit: usize,
    /// The rank at the start of the run and the one before.
    first: Option<usize>,
    before: usize,
    /// Ranks with the widths measured there.
    widths: Vec<(usize, f64)>,
    /// True after a restart, beyond which nothing is known.
    has_restarted: bool,
}

impl Forecast {
    fn new(wanted: f64, limit: usize) -> Self {
        Self { wanted, limit, first: None, before: 0, widths: Vec::new(), has_restarted: false }
    }

    fn note(&mut self, progress: &BracketProgress) {
        self.first.get_or_insert(progress.rank);
        self.has_restarted |= progress.rank < self.before;
        self.before = progress.rank;
        let Some((lower, upper)) = progress.interval else { return };
        let width = 1.0 - lower / upper;
        if self.widths.last().is_none_or(|(_, last)| last.to_bits() != width.to_bits()) {
            self.widths.push((progress.rank, width));
        }
    }

    /// The rank at which the wanted width may be expected, on a line in logarithms through the last
    /// two widths; the largest rank where that is less, or all that is known.
    fn rank(&self) -> Option<f64> {
        let limit = (self.limit < MAX_RANK).then_some(self.limit as f64);
        let expected = match *self.widths.as_slice() {
            [.., (rank_before, before), (rank, width)]
                if rank > rank_before && width < before && width > 0.0 =>
            {
                let ratio = libm::log(before / width) / libm::log(rank as f64 / rank_before as f64);
                Some(rank as f64 * libm::pow(width / self.wanted, 1.0 / ratio).max(1.0))
            }
            _ => None,
        };
        match (expected, limit) {
            (Some(expected), Some(limit)) => Some(expected.min(limit)),
            (expected, limit) => expected.or(limit),
        }
    }

    /// The seconds left at the pace so far, once there is one.
    fn seconds_left(&self, progress: &BracketProgress, elapsed: f64) -> Option<f64> {
        let done = progress.rank.saturating_sub(self.first?);
        if self.has_restarted || done == 0 || progress.stage == BracketStage::Certifying {
            return None;
        }
        let left = (self.rank()? - progress.rank as f64).max(0.0);
        let products = 2.0 * left + CERTIFICATE_PRODUCTS;
        // The memory may end the growth, so that a long time means nothing.
        let seconds = elapsed * products / progress.products as f64;
        (seconds < 1e6).then_some(seconds)
    }
}

#[cfg(test)]
mod tests {
    use flatmin_theory::{BracketProgress, BracketStage};

    use super::Forecast;

    fn progress(rank: usize, width: Option<f64>) -> BracketProgress {
        let interval = width.map(|width| (1.0 - width, 1.0));
        let stage = BracketStage::Growing;
        BracketProgress { products: 2 * rank, rank, interval, estimate: None, stage }
    }

    #[test]
    fn the_time_left_follows_the_widths() {
        let mut forecast = Forecast::new(0.05, super::MAX_RANK);
        let mut left = |rank, width| {
            let progress = progress(rank, width);
            forecast.note(&progress);
            forecast.seconds_left(&progress, rank as f64)
        };
        // Nothing is known of the widths yet.
        assert!(left(0, None).is_none());
        assert!(left(50, Some(0.4)).is_none());
        // Halved where the rank doubles: twice that rank is enough. A mode takes a second.
        assert!((left(100, Some(0.2)).unwrap() - 350.0).abs() < 1e-6);
        assert!((left(200, Some(0.2)).unwrap() - 250.0).abs() < 1e-6);
        // A restart ends the forecast.
        assert!(left(120, Some(0.2)).is_none());
        let mut forecast = Forecast::new(1e-6, 60);
        forecast.note(&progress(0, None));
        forecast.note(&progress(20, None));
        let left = forecast.seconds_left(&progress(20, None), 10.0).unwrap();
        assert!((left - 10.0 * 180.0 / 40.0).abs() < 1e-9);
    }
}
