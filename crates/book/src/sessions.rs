//! The commands of the book, given to trycmd.

use std::fs;
use std::path::Path;

use trycmd::schema::Bin;

use crate::commands::{PROGRAMS, shown};
use crate::pages::{files, pages};

/// Runs the commands of the book of the workspace at `root` that call a program, in a copy of the
/// folder `docs`. `program` is the first word of such a command; `executable` is run in its place,
/// with these variables in its environment.
///
/// The sessions in `console` blocks must print what the pages show; with `TRYCMD=overwrite` in the
/// environment the pages are written again instead. Commands that no session runs are called with
/// `--help` behind their arguments, so that all of these must exist.
///
/// # Panics
/// If a command does not behave as shown, or the book cannot be read.
pub fn try_commands(root: &Path, program: &str, executable: &Path, variables: &[(&str, &str)]) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    for path in files(root, "docs").expect("the book can be read") {
        let to = folder.path().join(&path);
        fs::create_dir_all(to.with_file_name("")).expect("a temporary folder can be made");
        fs::copy(root.join(path), to).expect("a file of the book can be copied");
    }
    let mut parsed = String::new();
    for (path, text) in pages(root).expect("the book can be read") {
        let commands = shown(&text).into_iter().flatten();
        for command in commands.filter(|command| command.is_ours() && command.words[0] == program) {
            let words = command.words.iter().map(String::as_str);
            let line = shlex::try_join(words).expect("words of a page have no NUL");
            let help = format!("{path}\n```console\n$ {line} --help\n...\n```\n");
            parsed.push_str(&help);
        }
    }
    let shown = folder.path().join("shown_only.md");
    fs::write(&shown, parsed).expect("a temporary file can be written");
    std::env::set_current_dir(folder.path()).expect("the folder exists");
    let cases = trycmd::TestCases::new();
    for words in PROGRAMS {
        cases.register_bin(words[0], Bin::Ignore);
    }
    cases.register_bin(program, Bin::Path(executable.to_owned())).env("NO_COLOR", "1");
    for (name, value) in variables {
        cases.env(*name, *value);
    }
    cases.case(root.join("README.md")).case(root.join("docs/**/*.md")).case(shown).run();
}
