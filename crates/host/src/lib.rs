//! What a command-line program needs of its host.
//!
//! **Files.** [`write()`] writes under a temporary name in the same folder, syncs, and renames, so that
//! a killed program or a full disk leaves the file as it was; [`sweep`] removes what a killed program
//! left behind. A [`Lock`] is a name that one process holds at a time. [`read_small`] bounds how much of
//! a file comes into memory. [`FileError`] is the error of all of them.
//!
//! **Text.** [`printable`] makes text from elsewhere fit for a terminal, [`aligned`] lays out columns,
//! [`significant`], [`times`] and [`duration`] write numbers for a reader.
//!
//! **Programs**, with the feature `program`: [`Program`] says what went wrong and ends with an
//! [`Exit`] status; [`print()`] and [`print_json`] write standard output; [`Progress`] and [`Tasks`] show
//! how far long work is; [`interrupt`] lets it stop cleanly. A [`SealedFile`] is a JSON file with a
//! schema name and a checksum, both verified when it is read.
//!
//! The crate holds no mathematics and knows no other crate of flatmin.
//!
//! ```
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("numbers.txt");
//! flatmin_host::write(&path, b"1 2 3")?;
//! assert_eq!(flatmin_host::read_small(&path, 100, "three numbers")?, b"1 2 3");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod lock;
mod number;
mod read;
mod seal;
mod sweep;
mod table;
mod text;
mod write;

#[cfg(feature = "program")]
pub mod interrupt;
#[cfg(feature = "program")]
mod output;
#[cfg(feature = "program")]
mod program;
#[cfg(feature = "program")]
mod progress;
#[cfg(feature = "program")]
mod sealed;
#[cfg(feature = "program")]
mod tasks;

pub use error::FileError;
pub use lock::{Lock, is_at};
pub use number::{duration, significant, times};
#[cfg(feature = "program")]
pub use output::{note, print, print_json, to_json};
#[cfg(feature = "program")]
pub use program::{Exit, Format, Program};
#[cfg(feature = "program")]
pub use progress::Progress;
pub use read::{read_own, read_small, refuse_link};
pub use seal::{is_sealed, seal};
#[cfg(feature = "program")]
pub use sealed::{Layout, SealError, SealedFile};
pub use sweep::sweep;
pub use table::{Align, aligned};
#[cfg(feature = "program")]
pub use tasks::{Task, Tasks};
pub use text::{is_printable, printable, said, short, shortened, shown};
pub use write::{check_writable, make_writable, write, write_if, write_own};
