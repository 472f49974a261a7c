//! `cargo xtask docs`: the book, checked and built with mdBook.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use flatmin_book::Book;
use flatmin_host::{Exit, note, print, shown};

use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  cargo xtask docs            check the book and write target/book/index.html
  cargo xtask docs --check    only check it, without mdBook

Exit status: 0 the book is built; 1 something is wrong with it, a line each on standard output;
2 wrong usage; 3 could not run.";

/// The command that installs mdBook. `.ci/run` has the same.
const INSTALL: &str = "install it with `cargo install mdbook --version 0.5.4 --locked --debug \
                       --no-default-features --features search`";

/// Arguments of `docs`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DocsArguments {
    /// The folder for the built book; what is in it is replaced.
    #[arg(long, value_name = "DIR", default_value = "target/book")]
    out: PathBuf,
    /// Only check pages, links and code; build nothing.
    #[arg(long)]
    check: bool,
}

/// Runs the task and gives the exit status.
///
/// # Errors
/// [`Failure`] when it could not be done.
pub(crate) fn docs(arguments: &DocsArguments) -> Result<Exit, Failure> {
    let root = Path::new(".");
    let book = Book::read(root)?;
    let problems: Vec<String> = book.problems().iter().map(ToString::to_string).collect();
    if !problems.is_empty() {
        print(&(problems.join("\n") + "\n"))?;
        return Ok(Exit::CheckFailed);
    }
    if arguments.check {
        return Ok(Exit::Done);
    }
    let sources = tempfile::tempdir().map_err(Failure::file(&std::env::temp_dir()))?;
    lay_out(&book, root, sources.path())?;
    build(sources.path(), &arguments.out)?;
    note(&shown(&arguments.out.join("index.html")));
    Ok(Exit::Done)
}

/// Writes the sources of the book in the form that mdBook expects.
fn lay_out(book: &Book, root: &Path, to: &Path) -> Result<(), Failure> {
    put(&to.join("book.toml"), &read(&root.join("book.toml"))?)?;
    for page in book.pages() {
        if let Some(source) = book.source(page) {
            put(&to.join(&page.path), source.as_bytes())?;
        }
    }
    for path in book.attachments() {
        put(&to.join(path), &read(&root.join(path))?)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(Failure::file(path))
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(folder).and_then(|()| fs::write(path, bytes)).map_err(Failure::file(path))
}

fn build(sources: &Path, out: &Path) -> Result<(), Failure> {
    fs::create_dir_all(out).map_err(Failure::file(out))?;
    // mdBook takes a relative path from the folder of the book.
    let out = out.canonicalize().map_err(Failure::file(out))?;
    let mut command = Command::new("mdbook");
    command.arg("build").arg(sources).arg("--dest-dir").arg(out).stdin(Stdio::null());
    let run = command.output();
    let run =
        run.map_err(|source| Failure::NotInstalled { program: "mdbook", source, remedy: INSTALL })?;
    let said = String::from_utf8_lossy(&run.stderr).trim().replace('\n', "; ");
    // A complaint of mdBook is about something that the checks have missed.
    let is_clean =
        run.status.success() && !["WARN", "ERROR"].iter().any(|level| said.contains(level));
    if is_clean {
        return Ok(());
    }
    let colon = if said.is_empty() { "" } else { ": " };
    Err(Failure::Program(format!("mdbook: {}{colon}{said}", run.status)))
}
