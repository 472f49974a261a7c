//! Progress over tasks that differ in length, and the time left, from the rate measured so far.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::{Progress, duration, note};

/// Plain lines are at least this part of the whole apart, and as many seconds.
const LINES: f64 = 20.0;
const LINE_SECONDS: f64 = 1.0;

/// Progress over tasks on standard error: a bar on a terminal, a few plain lines elsewhere.
///
/// Tasks have estimated costs, in any unit: the time left follows from the seconds that a unit of
/// cost has taken so far, so that estimates that are all too high by one factor do no harm. The
/// time that running tasks have taken counts as well. The bar is removed when the value is dropped.
///
/// ```
/// use flatmin_host::Tasks;
///
/// let tasks = Tasks::new(3, 3.0, "cells");
/// let task = tasks.start("the first cell", 1.0);
/// task.finish(1);
/// ```
#[derive(Debug)]
pub struct Tasks {
    total: u64,
    unit: &'static str,
    start: Instant,
    progress: Progress,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    pace: Pace,
    /// Twentieths of the cost that plain lines have told about.
    lines: f64,
    /// No plain line comes before this many seconds.
    next_line: f64,
}

/// The state of the work, from which the speed follows. Times are seconds since the start.
#[derive(Debug, Default)]
struct Pace {
    total_cost: f64,
    /// Units and cost of the tasks that are done, whoever did them.
    done: u64,
    done_cost: f64,
    /// Cost and seconds of the tasks that were done here.
    measured_cost: f64,
    measured_seconds: f64,
    /// Cost and start of the tasks that are running, by number.
    running: BTreeMap<u64, (f64, f64)>,
    started: u64,
    /// Most tasks that ran at once.
    workers: usize,
}

/// A task that is running, see [`Tasks::start`]. Dropped without being finished, it remains to be
/// done.
#[derive(Debug)]
pub struct Task<'a> {
    tasks: &'a Tasks,
    number: u64,
}

impl Tasks {
    /// Progress over `total` units of work, as in "cells", of an estimated total cost.
    pub fn new(total: u64, total_cost: f64, unit: &'static str) -> Self {
        let template = format!("{{bar:24}} {{pos}}/{{len}} {unit}, {{wide_msg}}");
        let progress = Progress::new("", total, &template);
        let pace = Pace { total_cost, ..Pace::default() };
        let state = Mutex::new(State { pace, lines: 0.0, next_line: 0.0 });
        Self { total, unit, start: Instant::now(), progress, state }
    }

    /// Begins a task of an estimated cost, and shows its label.
    pub fn start(&self, label: &str, cost: f64) -> Task<'_> {
        let (now, mut state) = (self.now(), self.state());
        self.progress.message(&format!("{}: {label}", state.pace.words(now)));
        Task { tasks: self, number: state.pace.begin(cost, now) }
    }

    fn now(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, number: u64, units: u64, measured: bool) {
        let (now, mut state) = (self.now(), self.state());
        state.pace.finish(number, now, units, measured);
        let done = state.pace.done;
        if let Some(bar) = &self.progress.bar {
            bar.set_position(done);
            return;
        }
        let lines = (LINES * state.pace.done_cost / state.pace.total_cost).floor();
        if lines > state.lines && now >= state.next_line || done == self.total {
            (state.lines, state.next_line) = (lines, now + LINE_SECONDS);
            let (total, unit, pace) = (self.total, self.unit, state.pace.words(now));
            note(&format_args!("{done}/{total} {unit}, {pace}"));
        }
    }
}

impl Task<'_> {
    /// Counts `units` units of work as done in the time since the start of the task.
    pub fn finish(self, units: u64) {
        self.tasks.end(self.number, units, true);
    }

    /// Counts `units` units of work as done by somebody else. The time that passed says nothing
    /// about their cost.
    pub fn found_done(self, units: u64) {
        self.tasks.end(self.number, units, false);
    }
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        self.tasks.state().pace.running.remove(&self.number);
    }
}

impl Pace {
    fn begin(&mut self, cost: f64, now: f64) -> u64 {
        self.started += 1;
        self.running.insert(self.started, (cost, now));
        self.workers = self.workers.max(self.running.len());
        self.started
    }

    fn finish(&mut self, number: u64, now: f64, units: u64, measured: bool) {
        let Some((cost, start)) = self.running.remove(&number) else { return };
        self.done += units;
        self.done_cost += cost;
        if measured {
            self.measured_cost += cost;
            self.measured_seconds += now - start;
        }
    }

    /// Seconds until all is done, once a task was measured.
    fn seconds_left(&self, now: f64) -> Option<f64> {
        if self.measured_cost <= 0.0 {
            return None;
        }
        let rate = self.measured_seconds / self.measured_cost;
        let running_cost: f64 = self.running.values().map(|(cost, _)| cost).sum();
        let waiting = (self.total_cost - self.done_cost - running_cost).max(0.0) * rate;
        let rest =
            self.running.values().map(|(cost, start)| (cost * rate - (now - start)).max(0.0));
        let (sum, longest) = rest.fold((waiting, 0.0_f64), |(s, l), r| (s + r, l.max(r)));
        Some((sum / self.workers.max(1) as f64).max(longest))
    }

    /// The rate and the time left, in words.
    fn words(&self, now: f64) -> String {
        let Some(left) = self.seconds_left(now) else { return "starting".to_owned() };
        let rate = self.done as f64 / now.max(1e-9);
        format!("{rate:.1} a second, about {} left", duration(left))
    }
}

#[cfg(test)]
mod tests {
    use super::Pace;

    fn pace(total_cost: f64) -> Pace {
        Pace { total_cost, ..Pace::default() }
    }

    fn close(left: Option<f64>, expected: f64) {
        let left = left.expect("a task was measured");
        assert!((left - expected).abs() < 1e-9, "{left}, expected {expected}");
    }

    #[test]
    fn estimates_that_are_all_too_high_do_no_harm() {
        for factor in [1.0, 15.0, 0.01] {
            // Two workers, six tasks of 10 s each.
            let mut pace = pace(60.0 * factor);
            let first = pace.begin(10.0 * factor, 0.0);
            pace.begin(10.0 * factor, 0.0);
            assert_eq!(pace.seconds_left(5.0), None);
            pace.finish(first, 10.0, 1, true);
            // The other is about to end, and four wait for two workers.
            close(pace.seconds_left(10.0), 20.0);
        }
    }

    #[test]
    fn work_of_others_does_not_count_as_fast() {
        let mut pace = pace(40.0);
        let tasks = [(); 3].map(|()| pace.begin(10.0, 0.0));
        pace.workers = 1;
        pace.finish(tasks[0], 10.0, 1, true);
        pace.finish(tasks[1], 10.0, 1, false);
        pace.running.clear();
        close(pace.seconds_left(10.0), 20.0);
    }

    #[test]
    fn the_longest_running_task_bounds_the_time_left() {
        let mut pace = pace(110.0);
        let short = pace.begin(10.0, 0.0);
        pace.begin(100.0, 0.0);
        pace.finish(short, 10.0, 1, true);
        // Two workers, but one task that nobody can share.
        close(pace.seconds_left(10.0), 90.0);
        // It takes longer than expected.
        close(pace.seconds_left(150.0), 0.0);
    }
}
