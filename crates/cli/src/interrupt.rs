//! Ctrl-C and termination signals.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::Exit;
use crate::output;

/// Set by the first signal.
static STOP: AtomicBool = AtomicBool::new(false);

/// From now on a first signal only sets what [`requested`] tells; a second one ends the program.
pub(crate) fn watch() {
    let handler = || {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(Exit::Failed as i32);
        }
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        output::warn(&format_args!("an interruption will not wait for a checkpoint: {error}"));
    }
}

/// Whether a signal came.
pub(crate) fn requested() -> bool {
    STOP.load(Ordering::Relaxed)
}
