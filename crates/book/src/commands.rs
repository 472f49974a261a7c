//! The commands of a page, and how each of them is tested.
//!
//! A block of code tagged `console` is a session: lines that begin with `$` are commands, the lines
//! below are what they print. A test runs them in a copy of the workspace's `docs` and compares.
//! `[..]` stands for anything within a line and `...` on a line of its own for any lines; where
//! nothing is shown nothing is compared, but a command must succeed unless `$ echo $?` below it shows
//! another exit status.
//!
//! A block tagged `sh` holds commands that are not run for their output, because they take long or
//! change the reader's machine, one a line, with `#` before a comment. A block tagged `transcript` is
//! written like a session and not run either, because it needs what the tests have not: Python and
//! its packages. [`Route`] says what a test makes sure of in both, and in code within the text that
//! calls one of the programs.

use std::fmt;

use crate::page::{Block, Page};

/// A program whose commands are run or parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `flatmin`.
    Flatmin,
    /// `cargo xtask`.
    Xtask,
}

/// How a command is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// It runs, and what it prints is compared.
    Run(Program),
    /// It runs with `--help` behind its arguments, so that they must be known ones.
    Parse(Program),
    /// It is a step of `.ci/run`, word by word.
    Ci,
    /// It builds or installs a package of the workspace, which must exist.
    Package,
    /// It runs a script of the book or of the folder `scripts`, which must exist.
    Script,
}

/// A command of the book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Its words.
    pub words: Vec<String>,
    /// What it prints, as shown below it; empty if nothing is shown.
    pub output: String,
    /// Whether the exit status is shown, and which.
    pub status: Option<i32>,
    /// Its line on the page, from 1.
    pub line: usize,
    /// Whether it is to be run, with its output compared.
    pub is_run: bool,
}

/// Why a block cannot be taken apart, and on which line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadBlock {
    /// What is wrong.
    pub reason: String,
    /// The line on the page, from 1.
    pub line: usize,
}

impl fmt::Display for Command {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.words.join(" "))
    }
}

impl Program {
    /// The words by which a reader calls it.
    pub fn words(self) -> &'static [&'static str] {
        match self {
            Self::Flatmin => &["flatmin"],
            Self::Xtask => &["cargo", "xtask"],
        }
    }

    /// The arguments of a command of this program.
    pub fn arguments(self, command: &Command) -> Option<&[String]> {
        let name = self.words();
        let is_name = command.words.iter().take(name.len()).eq(name);
        is_name.then(|| &command.words[name.len()..])
    }
}

impl Command {
    /// How the command is tested, if it is; `ci` is the text of `.ci/run`, and `exists` says whether
    /// a path of the workspace does.
    pub fn route(&self, ci: &str, exists: impl Fn(&str) -> bool) -> Option<Route> {
        let mut programs = [Program::Flatmin, Program::Xtask].into_iter();
        let program = programs.find(|program| program.arguments(self).is_some());
        if self.is_run {
            return program.map(Route::Run);
        }
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        let is_step = |line: &str| line.split_whitespace().skip(1).eq(words.iter().copied());
        if ci.lines().any(|line| line.trim_start().starts_with("run ") && is_step(line)) {
            return Some(Route::Ci);
        }
        // `NAME=value` before a command.
        let is_setting = |word: &&&str| word.contains('=') && !word.starts_with('-');
        match &words[words.iter().take_while(is_setting).count()..] {
            _ if program.is_some() => program.map(Route::Parse),
            ["cargo", "install", "--locked", "--path", folder] => {
                exists(&format!("{folder}/src/main.rs")).then_some(Route::Package)
            }
            ["cargo", "build", "--release", "-p", "flatmin"] => {
                exists("crates/cli/src/main.rs").then_some(Route::Package)
            }
            ["python" | "python3", script, ..] => exists(script).then_some(Route::Script),
            [script, ..] if script.starts_with("scripts/") => {
                exists(script).then_some(Route::Script)
            }
            _ => None,
        }
    }
}

/// The commands of every `console`, `sh` and `transcript` block of a page, and those within its text.
///
/// # Errors
/// [`BadBlock`] for each block that cannot be taken apart.
pub fn commands(page: &Page) -> Vec<Result<Command, BadBlock>> {
    let commands = |block: &Block| match block.language.as_str() {
        "console" => session(block, true),
        "transcript" => session(block, false),
        "sh" => script(block),
        _ => Vec::new(),
    };
    page.blocks.iter().flat_map(commands).chain(page.words.iter().filter_map(in_text)).collect()
}

/// The command that code within the text is, if it calls a program.
fn in_text((code, line): &(String, usize)) -> Option<Result<Command, BadBlock>> {
    let calls = |program: Program| {
        code.split_whitespace().take(program.words().len()).eq(program.words().iter().copied())
    };
    [Program::Flatmin, Program::Xtask].into_iter().any(calls).then(|| words(code, *line, false))
}

fn session(block: &Block, is_run: bool) -> Vec<Result<Command, BadBlock>> {
    let mut commands: Vec<Result<Command, BadBlock>> = Vec::new();
    let mut asks_status = false;
    for (offset, text) in block.text.lines().enumerate() {
        let line = block.line + 1 + offset;
        let bad = |reason: &str| Err(BadBlock { reason: reason.to_owned(), line });
        let last = commands.last_mut();
        match (text.strip_prefix("$ ").map(str::trim), last) {
            (Some("echo $?"), Some(Ok(_))) => asks_status = true,
            (Some(command), _) => {
                asks_status = false;
                commands.push(words(command, line, is_run));
            }
            (None, Some(Ok(last))) if asks_status => {
                last.status = text.trim().parse().ok();
                asks_status = false;
                if last.status.is_none() {
                    commands.push(bad("is not an exit status"));
                }
            }
            (None, Some(Ok(last))) => {
                last.output += text;
                last.output.push('\n');
            }
            (None, Some(Err(_))) => {}
            (None, None) => commands.push(bad("a session begins with `$ ` and a command")),
        }
    }
    if commands.is_empty() {
        let reason = "a session without a command".to_owned();
        commands.push(Err(BadBlock { reason, line: block.line }));
    }
    commands
}

fn script(block: &Block) -> Vec<Result<Command, BadBlock>> {
    let mut commands = Vec::new();
    let (mut text, mut first) = (String::new(), 0);
    for (offset, piece) in block.text.lines().enumerate() {
        let line = block.line + 1 + offset;
        if text.is_empty() {
            first = line;
        }
        if let Some(piece) = piece.strip_suffix('\\') {
            text += piece;
            continue;
        }
        text += piece;
        let command = std::mem::take(&mut text);
        if !command.trim().is_empty() && !command.trim_start().starts_with('#') {
            commands.push(words(&command, first, false));
        }
    }
    if !text.is_empty() {
        let reason = "ends in the middle of a command".to_owned();
        commands.push(Err(BadBlock { reason, line: first }));
    }
    commands
}

/// The words of a command as a shell would see them; what only a shell can do is refused.
fn words(text: &str, line: usize, is_run: bool) -> Result<Command, BadBlock> {
    let bad = |reason: String| BadBlock { reason, line };
    let words = shlex::split(text).ok_or_else(|| bad(format!("`{text}`: quotes do not match")))?;
    let is_shell = |word: &String| {
        matches!(word.as_str(), "|" | "&&" | "||" | ";" | ">" | ">>" | "<" | "&" | "$")
            || word.contains("$(")
    };
    if let Some(word) = words.iter().find(|word| is_shell(word)) {
        return Err(bad(format!("`{text}`: `{word}` needs a shell, which the tests have not")));
    }
    if words.is_empty() {
        return Err(bad("an empty command".to_owned()));
    }
    Ok(Command { words, output: String::new(), status: None, line, is_run })
}

#[cfg(test)]
mod tests {
    use super::{Command, Program, Route, commands};
    use crate::Page;

    fn of(text: &str) -> Vec<Result<Command, String>> {
        let page = Page::new("docs/page.md".to_owned(), text.to_owned());
        let bad = |bad: super::BadBlock| format!("{}: {}", bad.line, bad.reason);
        commands(&page).into_iter().map(|command| command.map_err(bad)).collect()
    }

    fn route(text: &str) -> Option<Route> {
        let command = of(text).remove(0).unwrap();
        let paths = ["crates/cli/src/main.rs", "docs/a.py", "scripts/a.sh"];
        let exists = |path: &str| paths.contains(&path);
        command.route("run cargo test --workspace\nrun cargo xtask verify --instances 3\n", exists)
    }

    #[test]
    fn a_session_has_commands_with_output_and_exit_status() {
        let text = "```console\n$ flatmin a 'b c'\none\n\ntwo\n$ flatmin d\n$ echo $?\n3\n```\n";
        let [first, second] = of(text).try_into().unwrap();
        let (first, second) = (first.unwrap(), second.unwrap());
        assert_eq!(first.words, ["flatmin", "a", "b c"]);
        assert_eq!((first.output.as_str(), first.status, first.line), ("one\n\ntwo\n", None, 2));
        assert_eq!((second.output.as_str(), second.status, second.line), ("", Some(3), 6));
    }

    #[test]
    fn a_script_has_one_command_a_line() {
        let text = "```sh\n# First.\nflatmin a \\\n  b\n\ncargo xtask c\n```\n";
        let [first, second] = of(text).try_into().unwrap();
        assert_eq!(first.clone().unwrap().words, ["flatmin", "a", "b"]);
        assert_eq!(first.unwrap().line, 3);
        assert_eq!(second.unwrap().words, ["cargo", "xtask", "c"]);
    }

    #[test]
    fn code_that_calls_a_program_is_a_command() {
        let text = "See `flatmin a` and\n`cargo xtask b`, not `flatmin_theory::c`.\n";
        let [first, second] = of(text).try_into().unwrap();
        assert_eq!(first.unwrap().words, ["flatmin", "a"]);
        assert_eq!(second.clone().unwrap().words, ["cargo", "xtask", "b"]);
        assert_eq!(second.unwrap().line, 2);
    }

    #[test]
    fn what_cannot_be_run_is_refused_with_its_line() {
        for (text, expected) in [
            ("```console\nflatmin\n```\n", "2: a session begins with `$ ` and a command"),
            ("a\n\n```console\n```\n", "3: a session without a command"),
            ("```console\n$ flatmin 'a\n```\n", "2: `flatmin 'a`: quotes do not match"),
            ("```console\n$ flatmin a\n$ echo $?\nb\n```\n", "4: is not an exit status"),
            (
                "```sh\n\nflatmin a > b\n```\n",
                "3: `flatmin a > b`: `>` needs a shell, which the tests have not",
            ),
            ("```sh\nflatmin \\\n```\n", "2: ends in the middle of a command"),
        ] {
            let bad: Vec<String> = of(text).into_iter().filter_map(Result::err).collect();
            assert_eq!(bad, [expected], "{text}");
        }
    }

    #[test]
    fn every_command_has_a_route_or_none() {
        let (flatmin, xtask) = (Program::Flatmin, Program::Xtask);
        for (text, expected) in [
            ("```console\n$ flatmin a\n```\n", Some(Route::Run(flatmin))),
            ("```console\n$ cargo xtask verify\n```\n", Some(Route::Run(xtask))),
            ("```console\n$ cargo test --workspace\n```\n", None),
            ("```sh\nflatmin a\n```\n", Some(Route::Parse(flatmin))),
            ("```sh\ncargo xtask verify\n```\n", Some(Route::Parse(xtask))),
            ("```sh\ncargo xtask verify --instances 3\n```\n", Some(Route::Ci)),
            ("```sh\ncargo test --workspace\n```\n", Some(Route::Ci)),
            ("```sh\ncargo test\n```\n", None),
            ("```sh\ncargo install --locked --path crates/cli\n```\n", Some(Route::Package)),
            ("```sh\ncargo build --release -p flatmin\n```\n", Some(Route::Package)),
            ("```sh\ncargo install --locked --path crates/clo\n```\n", None),
            ("```sh\npython3 docs/a.py --b\n```\n", Some(Route::Script)),
            ("```sh\nA=b python docs/a.py\n```\n", Some(Route::Script)),
            ("```sh\npython3 docs/b.py\n```\n", None),
            ("```transcript\n$ python3 docs/a.py\na\n```\n", Some(Route::Script)),
            ("```transcript\n$ flatmin a\nb\n```\n", Some(Route::Parse(flatmin))),
            ("```sh\nscripts/a.sh --b\n```\n", Some(Route::Script)),
            ("```sh\nscripts/b.sh\n```\n", None),
            ("```sh\nrm -rf a\n```\n", None),
        ] {
            assert_eq!(route(text), expected, "{text}");
        }
    }
}
