//! Runs the commands of the book and compares what they print.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command as Process, Output};

use snapbox::{Assert, Data};
use tempfile::TempDir;

use crate::check::{FOLDER, files};
use crate::commands::{Command, Program, Route, commands};
use crate::{Book, Page};

/// With this variable set to `overwrite` the pages get what the commands print.
const UPDATE: &str = "FLATMIN_BOOK";

/// Runs every command of one program in the book of the workspace at `root`, page by page in a copy
/// of the folder `docs`, and gives what does not behave as shown, a text each.
///
/// Commands of `sh` blocks only have their arguments parsed. With `FLATMIN_BOOK=overwrite` in the
/// environment pages whose output differs are written again instead.
///
/// # Panics
/// If the book cannot be read, a command cannot be started, or there is none.
pub fn run(root: &Path, program: Program, executable: &OsStr) -> Vec<String> {
    let book = Book::read(root).expect("the book can be read");
    let is_update = std::env::var_os(UPDATE).is_some_and(|value| value == "overwrite");
    let (mut failures, mut count) = (Vec::new(), 0);
    for page in book.pages() {
        // What a step of `.ci/run` does is not done again.
        let is_ours = |command: &Command| {
            let routes = [Route::Run(program), Route::Parse(program)];
            book.route(command).is_some_and(|route| routes.contains(&route))
        };
        let commands: Vec<Command> = commands(page).into_iter().flatten().filter(is_ours).collect();
        if commands.is_empty() {
            continue;
        }
        count += commands.len();
        let clone = copy(root);
        let mut changes = Vec::new();
        for mut command in commands {
            let arguments = program.arguments(&command).unwrap_or_default();
            let mut process = Process::new(executable);
            process.args(arguments).current_dir(clone.path()).env("NO_COLOR", "1");
            if book.route(&command) == Some(Route::Parse(program)) {
                process.arg("--help");
                command = Command { output: String::new(), status: None, ..command };
            }
            let output = process.output().expect("the program can be started");
            match compare(&command, &output) {
                Ok(()) => {}
                Err(Difference::Printed(_, printed)) if is_update => {
                    changes.push((command, printed));
                }
                Err(Difference::Printed(reason, _) | Difference::Status(reason)) => {
                    failures.push(format!("{}:{}: {reason}", page.path, command.line));
                }
            }
        }
        if !changes.is_empty() {
            let text = overwritten(page, &changes);
            fs::write(root.join(&page.path), text).expect("the page can be written");
        }
    }
    assert!(count > 0, "the book has no command of {program:?}");
    failures
}

/// How a command behaves otherwise than shown.
#[derive(Debug)]
enum Difference {
    /// Its exit status.
    Status(String),
    /// What it prints, and that.
    Printed(String, String),
}

fn compare(command: &Command, output: &Output) -> Result<(), Difference> {
    // Progress and notes, on standard error, are gone when a command is done; only a command that
    // has nothing else to say is judged by them.
    let said = if output.stdout.is_empty() { &output.stderr } else { &output.stdout };
    let mut printed = String::from_utf8_lossy(said).into_owned();
    if !printed.is_empty() && !printed.ends_with('\n') {
        printed.push('\n');
    }
    let (expected, status) = (command.status.unwrap_or(0), output.status.code());
    if status != Some(expected) {
        let status = status.map_or("no exit status".to_owned(), |code| format!("status {code}"));
        return Err(Difference::Status(format!(
            "`{command}` exits with {status} and not {expected}:\n{printed}"
        )));
    }
    if command.output.is_empty() {
        return Ok(());
    }
    let (shown, actual) = (Data::text(command.output.as_str()), Data::text(printed.as_str()));
    // What is left out where it fits is left out of what was printed, too.
    let (actual, shown) = Assert::new().normalize(actual, shown);
    let printed = actual.to_string();
    Assert::new()
        .try_eq(None, actual, shown)
        .map_err(|difference| Difference::Printed(format!("`{command}`{difference}"), printed))
}

/// The text of a page with what some of its commands print, in the order of lines.
fn overwritten(page: &Page, changes: &[(Command, String)]) -> String {
    let mut lines: Vec<&str> = page.text.split_inclusive('\n').collect();
    for (command, printed) in changes.iter().rev() {
        let shown = command.output.lines().count();
        lines.splice(command.line..command.line + shown, printed.split_inclusive('\n'));
    }
    lines.concat()
}

/// A folder with a copy of the pages and what lies beside them.
fn copy(root: &Path) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let mut paths = Vec::new();
    files(root, FOLDER, &mut paths).expect("the book can be read");
    for path in paths {
        let to = folder.path().join(&path);
        fs::create_dir_all(to.parent().expect("it is below the folder"))
            .and_then(|()| fs::copy(root.join(&path), &to))
            .expect("a file of the book can be copied");
    }
    folder
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;

    use super::{overwritten, run};
    use crate::Page;
    use crate::commands::{Program, commands};

    /// What differs on a page when `flatmin` is the program `printf`.
    fn failures(page: &str) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [("docs/page.md", page), (".ci/run", "")] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        run(root.path(), Program::Flatmin, OsStr::new("printf"))
    }

    #[test]
    fn a_command_must_print_what_is_shown() {
        assert_eq!(failures("```console\n$ flatmin 'a 7 b\\nc\\n'\na [..] b\nc\n```\n"), [""; 0]);
        assert_eq!(failures("```console\n$ flatmin 'a\\nb\\nc\\n'\na\n...\nc\n```\n"), [""; 0]);
        // Nothing is shown.
        assert_eq!(failures("```console\n$ flatmin a\n```\n"), [""; 0]);
        let failures = failures("x\n\n```console\n$ flatmin b\na\n```\n");
        let [failure] = failures.as_slice() else { panic!("{failures:?}") };
        assert!(failure.starts_with("docs/page.md:4: `flatmin b`"), "{failure}");
    }

    #[test]
    fn a_command_must_succeed_unless_another_status_is_shown() {
        let failure = failures("```console\n$ flatmin %y\n```\n").remove(0);
        assert!(failure.contains("`flatmin %y` exits with status 1 and not 0"), "{failure}");
        assert_eq!(failures("```console\n$ flatmin %y\n$ echo $?\n1\n```\n"), [""; 0]);
        let failure = failures("```console\n$ flatmin a\n$ echo $?\n1\n```\n").remove(0);
        assert!(failure.contains("exits with status 0 and not 1"), "{failure}");
    }

    #[test]
    fn arguments_of_scripts_are_parsed_only() {
        // `--help`, which is put behind, is not a number.
        assert_eq!(failures("```sh\nflatmin %d\n```\n").len(), 1);
        assert_eq!(failures("```sh\nflatmin a\n```\n"), [""; 0]);
        assert_eq!(failures("```transcript\n$ flatmin a\nb\n$ echo $?\n1\n```\n"), [""; 0]);
    }

    #[test]
    fn a_page_gets_what_its_commands_print() {
        let text = "x\n```console\n$ flatmin a\n1\n2\n$ flatmin b\n3\n```\ny\n";
        let page = Page::new("docs/page.md".to_owned(), text.to_owned());
        let changes =
            commands(&page).into_iter().flatten().zip(["4\n".to_owned(), "5\n6\n".to_owned()]);
        assert_eq!(
            overwritten(&page, &changes.collect::<Vec<_>>()),
            "x\n```console\n$ flatmin a\n4\n$ flatmin b\n5\n6\n```\ny\n"
        );
    }
}
