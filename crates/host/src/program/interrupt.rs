//! Ctrl-C and termination signals.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Exit, Program};

/// Set by the first signal.
static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Makes the first signal set what [`requested`] returns, and a second one end the program at once
/// with [`Exit::Failed`].
///
/// After the first signal `first` is said on standard error, if given. `awaited` names what an
/// interruption waits for, such as "a checkpoint", for the warning that signals cannot be caught.
pub fn watch(program: Program, awaited: &str, first: Option<&'static str>) {
    let handler = move || {
        if REQUESTED.swap(true, Ordering::Relaxed) {
            std::process::exit(Exit::Failed as i32);
        }
        if let Some(first) = first {
            program.warn(&first);
        }
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        program.warn(&format_args!("an interruption will not wait for {awaited}: {error}"));
    }
}

/// Tells if a signal came after [`watch`] was called.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}
