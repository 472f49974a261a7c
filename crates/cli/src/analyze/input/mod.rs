//! Reading a minimum from a file.

mod kernel;
mod known;
mod minimum;
mod open;
mod opened;
mod source;
mod stream;

pub(super) use self::minimum::{Block, FileMinimum};
pub(super) use self::open::Input;
