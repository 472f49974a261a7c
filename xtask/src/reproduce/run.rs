//! Runs cells in parallel, longest first, and stores each as soon as it is done. Processes that run
//! in the same folder share the cells.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use flatmin_experiments::cell::{CellKey, CellSpec, Results};
use flatmin_host::{Lock, Tasks, interrupt, note, shown};

use super::store::Store;
use crate::failure::Failure;
use crate::program::XTASK;

/// Makes an interruption let running cells finish and start no other. A second one ends the program
/// at once, which loses only the cells that are running.
pub(crate) fn stop_on_interrupt() {
    let first = "stopping when the running cells are done; interrupt again to end now";
    interrupt::watch(XTASK, "running cells", Some(first));
}

/// The stored results of `cells`, and the cells that have none. Warns of damaged files.
///
/// # Errors
/// The errors of [`Store::load`].
pub(crate) fn load<'a>(
    store: &Store,
    cells: &'a [CellSpec],
) -> Result<(Results, Vec<&'a CellSpec>), Failure> {
    let (mut results, mut missing) = (Results::new(), Vec::new());
    for spec in cells {
        match store.load(spec)? {
            Ok(result) => drop(results.insert(spec.key(), result)),
            Err(reason) => {
                if let Some(reason) = reason {
                    let path = shown(&store.path(spec.key()));
                    XTASK.warn(&format_args!("{path}: {reason}; this cell is computed again"));
                }
                missing.push(spec);
            }
        }
    }
    Ok((results, missing))
}

/// Seconds taken by each computed cell.
pub(crate) type Seconds = BTreeMap<CellKey, f64>;

/// Longest pause before a cell that another process computes is looked at again.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// The first pause. It doubles every time.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// A cell in the queue, and how often another process had it.
struct Queued<'a> {
    spec: &'a CellSpec,
    tries: u32,
}

/// The outcome of a cell's turn.
enum Turn {
    /// Computed in this many seconds, and stored.
    Computed(f64),
    /// Another process had stored it.
    Stored,
    /// Another process is computing it.
    Taken,
}

/// The threads that compute cells, and their shared state.
struct Workers<'a> {
    store: &'a Store,
    fresh: bool,
    tasks: Tasks,
    waits: Once,
    state: Mutex<State<'a>>,
}

#[derive(Default)]
struct State<'a> {
    /// Cells that another process had are at the end, so that those that nobody computes come
    /// first.
    queue: VecDeque<Queued<'a>>,
    stored: usize,
    seconds: Seconds,
    /// The first failure. After it no cell is started.
    failure: Option<Failure>,
}

/// Computes and stores cells on `threads` threads (0: one per core). Cells that another process
/// computes are left to it; they are stored at the end too.
///
/// Gives the seconds of the cells that this process computed.
///
/// # Errors
/// The first failure; cells that were running then are still stored.
/// [`Failure::Interrupted`] after an interruption.
pub(crate) fn run(
    store: &Store,
    mut cells: Vec<&CellSpec>,
    threads: usize,
    fresh: bool,
) -> Result<Seconds, Failure> {
    cells.sort_by(|a, b| b.cost().total_cmp(&a.cost()));
    let total = cells.len();
    let cost = cells.iter().map(|cell| cell.cost()).sum();
    let queue = cells.into_iter().map(|spec| Queued { spec, tries: 0 }).collect();
    let tasks = Tasks::new(total as u64, cost, "cells");
    let state = Mutex::new(State { queue, ..State::default() });
    let workers = Workers { store, fresh, tasks, waits: Once::new(), state };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    pool.broadcast(|_| workers.take_turns());
    let state = workers.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    let State { stored, seconds, failure, .. } = state;
    if let Some(failure) = failure {
        return Err(failure);
    }
    if stored < total {
        let folder = store.folder.clone();
        return Err(Failure::Interrupted { stored, total, folder });
    }
    Ok(seconds)
}

impl<'a> Workers<'a> {
    /// Takes the next cell of the queue, again and again: the longest first.
    fn take_turns(&self) {
        while !interrupt::requested()
            && let Some((Queued { spec, tries }, left)) = self.next()
        {
            if tries > 0 {
                self.pause(tries, left);
            }
            let task = self.tasks.start(&spec.label(), spec.cost());
            let turn = self.turn(spec);
            let mut state = self.state();
            match turn {
                Ok(Turn::Taken) => state.queue.push_back(Queued { spec, tries: tries + 1 }),
                Ok(Turn::Computed(seconds)) => {
                    state.seconds.insert(spec.key(), seconds);
                    state.stored += 1;
                    task.finish(1);
                }
                Ok(Turn::Stored) => {
                    state.stored += 1;
                    task.found_done(1);
                }
                Err(failure) => {
                    state.failure.get_or_insert(failure);
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next cell, and how many are left behind it; none after a failure.
    fn next(&self) -> Option<(Queued<'a>, usize)> {
        let mut state = self.state();
        let next = state.queue.pop_front().filter(|_| state.failure.is_none())?;
        Some((next, state.queue.len()))
    }

    /// Waits a share of the pause: everything left is computed by others, and each cell is looked
    /// at once in a pause.
    fn pause(&self, tries: u32, left: usize) {
        self.waits.call_once(|| {
            let cells = if left == 0 { "a cell" } else { "cells" };
            note(&format_args!("waiting for {cells} that another process computes"));
        });
        let pause = FIRST_PAUSE.saturating_mul(1 << tries.min(10)).min(MAX_PAUSE);
        std::thread::sleep(pause / u32::try_from(left + 1).unwrap_or(u32::MAX));
    }

    /// Computes and stores one cell, unless another process does or did. With `fresh` it is also
    /// computed when it is stored.
    fn turn(&self, spec: &CellSpec) -> Result<Turn, Failure> {
        let Some(lock) = self.store.take(spec.key())? else { return Ok(Turn::Taken) };
        if !lock.excludes() {
            warn_without_locks(self.store);
        }
        // Another process may have stored it since the store was read.
        if !self.fresh && self.store.load(spec)?.is_ok() {
            return Ok(Turn::Stored);
        }
        let start = Instant::now();
        let result = spec.run().map_err(|source| {
            let path = self.store.path(spec.key());
            Failure::Cell { path, label: spec.label(), source }
        })?;
        self.store.save(spec, result)?;
        Ok(Turn::Computed(start.elapsed().as_secs_f64()))
    }
}

/// Warns once that the file system of the cells has no locks.
fn warn_without_locks(store: &Store) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        let folder = shown(&store.folder);
        XTASK.warn(&format_args!(
            "{folder}: this file system has no locks: another process with the same cells would \
             compute them too, to the same bytes"
        ));
    });
}

/// Takes the outputs of a folder, all but the cells, to write them. Waits while another process
/// does.
///
/// # Errors
/// [`Failure::File`] when the folder is gone, [`Failure::Waiting`] after an interruption.
pub(crate) fn take_outputs(folder: &Path) -> Result<Lock, Failure> {
    loop {
        if let Some(lock) = Lock::try_take(folder, "outputs")? {
            return Ok(lock);
        }
        if interrupt::requested() {
            return Err(Failure::Waiting { folder: folder.to_owned() });
        }
        std::thread::sleep(FIRST_PAUSE);
    }
}
