//! Parts that programs need and libraries do not.

mod exit;
pub mod interrupt;
mod machine;
mod output;
mod progress;
mod sealed;
mod tasks;

pub use exit::{Exit, Format, Program};
pub use machine::{Machine, peak_memory_bytes, utc_now};
pub use output::{note, print, print_json, to_json};
pub use progress::Progress;
pub use sealed::{Layout, SealError, SealedFile};
pub use tasks::{Task, Tasks};
