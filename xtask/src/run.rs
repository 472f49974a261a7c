//! Runs cells in parallel, longest first, and stores each as soon as it is done.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use flatmin_experiments::cell::{CellKey, CellSpec, Results};

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

/// Computes and stores cells on `threads` threads (0: one a core).
///
/// # Errors
/// The first failure; cells that were running then are still stored.
/// [`Failure::Interrupted`] after an interruption.
pub(crate) fn run(
    store: &Store,
    mut cells: Vec<&CellSpec>,
    threads: usize,
) -> Result<Seconds, Failure> {
    cells.sort_by(|a, b| b.cost().total_cmp(&a.cost()));
    let progress =
        Progress::new(cells.len() as u64, cells.iter().map(|cell| cell.cost()).sum(), "cells");
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<Failure>> = Mutex::new(None);
    let failed = AtomicBool::new(false);
    let seconds: Mutex<Seconds> = Mutex::default();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    // Every thread takes the next cell of the list: longest first, whatever each takes.
    pool.broadcast(|_| {
        while !failed.load(Ordering::Relaxed) && !STOP.load(Ordering::Relaxed) {
            let Some(&spec) = cells.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            progress.started(&spec.label());
            let start = Instant::now();
            match compute(store, spec) {
                Ok(()) => {
                    let taken = start.elapsed().as_secs_f64();
                    let mut seconds = seconds.lock().unwrap_or_else(PoisonError::into_inner);
                    seconds.insert(spec.key(), taken);
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
    let seconds = seconds.into_inner().unwrap_or_else(PoisonError::into_inner);
    if seconds.len() < cells.len() {
        let folder = store.folder().to_owned();
        return Err(Failure::Interrupted { stored: seconds.len(), total: cells.len(), folder });
    }
    Ok(seconds)
}

/// Computes and stores one cell.
fn compute(store: &Store, spec: &CellSpec) -> Result<(), Failure> {
    let result = spec.run().map_err(|source| {
        let path = store.path(spec.key());
        Failure::Cell { path, label: spec.label(), source }
    })?;
    store.save(spec, &result)
}
