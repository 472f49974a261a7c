//! Long work beside the interpreter.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use flatmin_linalg::Parallelism;
use pyo3::prelude::*;

/// The time between two looks for signals, such as that of Ctrl-C.
const SIGNALS: Duration = Duration::from_millis(50);

/// Problems with fewer rows are solved before other threads have started.
const MANY_ROWS: usize = 200;

/// A request that work in the background should stop.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Does work on a thread of its own, while other threads of Python run and signals are honoured.
///
/// After an interrupt the call returns at once. The work stops when it next reads a number of an
/// array; what remains after the last of them is finished unheard.
pub(crate) fn in_background<T: Send + 'static>(
    py: Python<'_>,
    stop: Option<&Stop>,
    work: impl FnOnce() -> T + Send + 'static,
) -> PyResult<T> {
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::spawn(move || {
        // Nobody listens after an interrupt.
        let _ = sender.send(work());
    });
    let mut receiver = receiver;
    loop {
        let (received, again) = py.detach(move || (receiver.recv_timeout(SIGNALS), receiver));
        receiver = again;
        match received {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Disconnected) => return Err(crate::broken()),
            Err(RecvTimeoutError::Timeout) => {
                if let Err(interrupt) = py.check_signals() {
                    if let Some(stop) = stop {
                        stop.0.store(true, Ordering::Relaxed);
                    }
                    return Err(interrupt);
                }
            }
        }
    }
}

/// The threads that a problem is worth.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    threads: usize,
}

impl Pace {
    /// At most one thread for each processor, and one for a small problem.
    pub(crate) fn of_size(rows: usize, threads: Option<NonZero<usize>>) -> Self {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        let threads = threads.map_or(processors, |threads| threads.get().min(processors));
        Self { threads: if rows < MANY_ROWS { 1 } else { threads } }
    }

    /// Does work with these threads. They end with it, so that a process can fork between two calls.
    pub(crate) fn run<T: Send>(self, work: impl FnOnce(Parallelism) -> T + Send) -> T {
        if self.threads > 1
            && let Ok(pool) = rayon::ThreadPoolBuilder::new().num_threads(self.threads).build()
        {
            return pool.install(|| work(Parallelism::Rayon));
        }
        work(Parallelism::Sequential)
    }
}
