//! The commands of the book that are `flatmin`'s.

use std::ffi::OsStr;
use std::path::Path;

use flatmin_book::commands::Program;

#[test]
fn the_commands_of_the_book_do_what_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let executable = OsStr::new(env!("CARGO_BIN_EXE_flatmin"));
    let failures = flatmin_book::run(&root, Program::Flatmin, executable);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
