//! Runs cells in parallel, longest first, and stores each as soon as it is done. Processes that run in
//! one folder share the cells.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use flatmin_experiments::cell::{CellKey, CellSpec, Results};
use flatmin_host::Lock;

use crate::failure::Failure;
use crate::output;
use crate::progress::Progress;
use crate::store::{Loaded, Store};

/// Set by the first Ctrl-C or termination signal.
static STOP: AtomicBool = AtomicBool::new(false);

/// From now on an interruption lets running cells finish and starts no other; a second one ends the
/// program at once, which loses only the cells that are running.
pub(crate) fn stop_on_interrupt() {
    let handler = || {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(crate::exit::COULD_NOT_RUN));
        }
        output::warn(&"stopping when the running cells are done; interrupt again to end now");
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        output::warn(&format_args!("an interruption will not wait for running cells: {error}"));
    }
}

/// The stored results of `cells`, and the cells that have none. Says which files are damaged.
///
/// # Errors
/// As [`Store::load`].
pub(crate) fn load<'a>(
    store: &Store,
    cells: &'a [CellSpec],
) -> Result<(Results, Vec<&'a CellSpec>), Failure> {
    let (mut results, mut missing) = (Results::new(), Vec::new());
    for spec in cells {
        match store.load(spec)? {
            Loaded::Stored(result) => {
                results.insert(spec.key(), result);
            }
            Loaded::Missing => missing.push(spec),
            Loaded::Damaged { path, reason } => {
                let path = path.display();
                output::warn(&format_args!("{path}: {reason}; this cell is computed again"));
                missing.push(spec);
            }
        }
    }
    Ok((results, missing))
}

/// Seconds taken by each computed cell.
pub(crate) type Seconds = BTreeMap<CellKey, f64>;

/// Longest time until a cell that another process computes is looked at again.
const PAUSE: Duration = Duration::from_secs(1);

/// The same for the first time; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// A cell in the queue, and how often another process had it.
struct Queued<'a> {
    spec: &'a CellSpec,
    tries: u32,
}

/// What became of a cell in its turn.
enum Turn {
    /// Computed in so many seconds, and stored.
    Computed(f64),
    /// Another process had stored it.
    Stored,
    /// Another process is computing it.
    Taken,
}

/// Computes and stores cells on `threads` threads (0: one a core). Cells that another process computes
/// are left to it; they are stored at the end too.
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
    let progress = Progress::new(total as u64, cells.iter().map(|cell| cell.cost()).sum(), "cells");
    let queue = Mutex::new(cells.into_iter().map(|spec| Queued { spec, tries: 0 }).collect());
    let failure: Mutex<Option<Failure>> = Mutex::new(None);
    let failed = AtomicBool::new(false);
    let waits = Once::new();
    let stored = AtomicUsize::new(0);
    let seconds: Mutex<Seconds> = Mutex::default();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    // Every thread takes the next cell of the queue: longest first, whatever each takes.
    pool.broadcast(|_| {
        while !failed.load(Ordering::Relaxed) && !STOP.load(Ordering::Relaxed) {
            let (next, left) = pop(&queue);
            let Some(Queued { spec, tries }) = next else { break };
            if tries > 0 {
                waits.call_once(|| {
                    let cells = if left == 0 { "a cell" } else { "cells" };
                    output::note(&format_args!(
                        "waiting for {cells} that another process computes"
                    ));
                });
                // All that is left is computed by others: each is looked at once in a pause.
                let pause = FIRST_PAUSE.saturating_mul(1 << tries.min(10)).min(PAUSE);
                std::thread::sleep(pause / u32::try_from(left + 1).unwrap_or(u32::MAX));
            }
            progress.started(&spec.label());
            match turn(store, spec, fresh) {
                Ok(Turn::Taken) => push(&queue, Queued { spec, tries: tries + 1 }),
                Ok(done) => {
                    if let Turn::Computed(taken) = done {
                        let mut seconds = seconds.lock().unwrap_or_else(PoisonError::into_inner);
                        seconds.insert(spec.key(), taken);
                    }
                    stored.fetch_add(1, Ordering::Relaxed);
                    progress.finished(1, spec.cost());
                }
                Err(error) => {
                    failed.store(true, Ordering::Relaxed);
                    let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                    failure.get_or_insert(error);
                }
            }
        }
    });
    progress.end();
    if let Some(failure) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(failure);
    }
    let stored = stored.into_inner();
    if stored < total {
        let folder = store.folder().to_owned();
        return Err(Failure::Interrupted { stored, total, folder });
    }
    Ok(seconds.into_inner().unwrap_or_else(PoisonError::into_inner))
}

type Queue<'a> = Mutex<VecDeque<Queued<'a>>>;

/// The next cell, and how many are left then.
fn pop<'a>(queue: &Queue<'a>) -> (Option<Queued<'a>>, usize) {
    let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
    (queue.pop_front(), queue.len())
}

/// To the end: those that nobody computes come first.
fn push<'a>(queue: &Queue<'a>, cell: Queued<'a>) {
    queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(cell);
}

/// Computes and stores one cell, unless another process does or did; with `fresh` also then.
fn turn(store: &Store, spec: &CellSpec, fresh: bool) -> Result<Turn, Failure> {
    let Some(lock) = store.take(spec.key())? else { return Ok(Turn::Taken) };
    if !lock.excludes() {
        say_without_locks(store);
    }
    // Since the cells were looked through.
    if !fresh && matches!(store.load(spec)?, Loaded::Stored(_)) {
        return Ok(Turn::Stored);
    }
    let start = Instant::now();
    let result = spec.run().map_err(|source| {
        let path = store.path(spec.key());
        Failure::Cell { path, label: spec.label(), source }
    })?;
    store.save(spec, &result)?;
    Ok(Turn::Computed(start.elapsed().as_secs_f64()))
}

/// Says once what it means that the file system of the cells has no locks.
fn say_without_locks(store: &Store) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        let folder = store.folder().display();
        output::warn(&format_args!(
            "{folder}: this file system has no locks: another process with the same cells would \
             compute them too, to the same bytes"
        ));
    });
}

/// Takes the outputs of a folder, all but the cells, to write them; waits while another process does.
///
/// # Errors
/// [`Failure::Written`] when the folder is gone, [`Failure::Waiting`] after an interruption.
pub(crate) fn take_outputs(folder: &Path) -> Result<Lock, Failure> {
    loop {
        if let Some(lock) = Lock::try_take(folder, "outputs")? {
            return Ok(lock);
        }
        if STOP.load(Ordering::Relaxed) {
            return Err(Failure::Waiting { folder: folder.to_owned() });
        }
        std::thread::sleep(FIRST_PAUSE);
    }
}
