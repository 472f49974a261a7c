//! Reading a minimum from a file.

mod kernel;
mod known;
mod minimum;
mod open;
mod opened;
mod passes;
mod source;
mod stream;

pub(super) use self::minimum::{Block, FileMinimum, LargeMinimum};
pub(super) use self::open::Input;
pub(super) use self::passes::pass_bytes;
