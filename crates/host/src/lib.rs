// Marks on docs.rs what needs a feature.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![doc = include_str!("../README.md")]
//!
//! # Parts
//!
//! **Files.** [`write()`] writes under a temporary name in the same folder, syncs, and renames, so
//! that a killed program or a full disk leaves the file as it was; [`sweep`] removes what a killed
//! program left behind. A [`Lock`] is a name that one process holds at a time. [`read_small`]
//! bounds how much of a file comes into memory. [`FileError`] is the error of all of them.
//!
//! **Text.** [`printable`] makes text from elsewhere fit for a terminal, [`aligned`] lays out
//! columns, [`significant`], [`times`] and [`duration`] write numbers for a reader.
//!
//! **Programs**, with the feature `program`: [`Program`] says what went wrong and ends with an
//! [`Exit`] status; [`print()`] and [`print_json`] write standard output; [`Progress`] and
//! [`Tasks`] show how far long work is; [`interrupt`] lets it stop cleanly. A [`SealedFile`] is a
//! JSON file with a schema name and a checksum, both verified when it is read. A [`Machine`] is a
//! record of what it ran on.
//!
//! The crate holds no mathematics and knows no other crate of flatmin.

mod error;
mod lock;
mod number;
#[cfg(feature = "program")]
mod program;
mod read;
mod seal;
mod sweep;
mod table;
mod text;
mod write;

pub use error::FileError;
pub use lock::{Lock, is_at};
pub use number::{duration, significant, times};
#[cfg(feature = "program")]
pub use program::*;
pub use read::{read_own, read_small, refuse_link};
pub use seal::{is_sealed, seal};
pub use sweep::sweep;
pub use table::{Align, aligned};
pub use text::{is_printable, printable, said, short, shortened, shown};
pub use write::{check_writable, make_writable, write, write_if, write_own, write_with};
