//! The commands on a page that no session runs.

use crate::pages::{Piece, Problem, pieces};

/// The programs of this workspace, each as the words that call it.
pub const PROGRAMS: [&[&str]; 2] = [&["flatmin"], &["cargo", "xtask"]];

/// A command that a page shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its words, split as a shell does.
    pub words: Vec<String>,
    /// Its line on the page, counted from 1.
    pub line: usize,
}

impl Shown {
    /// The arguments, if the command begins with the words `program`.
    pub fn arguments(&self, program: &[&str]) -> Option<&[String]> {
        let (name, arguments) = self.words.split_at_checked(program.len())?;
        (name == program).then_some(arguments)
    }

    /// True if the command calls a program of this workspace.
    pub fn is_ours(&self) -> bool {
        PROGRAMS.iter().any(|program| self.arguments(program).is_some())
    }
}

/// The commands that a page shows and no session runs, in order.
///
/// # Errors
/// In place of a command: [`Problem`] if its quotes do not match, or if it needs a shell.
pub fn shown(page: &str) -> Vec<Result<Shown, Problem>> {
    let mut commands = Vec::new();
    for placed in pieces(page) {
        match placed.piece {
            Piece::Block { language, text } if language == "sh" => {
                let mut command = String::new();
                let mut start = None;
                for (line, text) in (placed.line + 1..).zip(text.lines()) {
                    let first = *start.get_or_insert(line);
                    if let Some(piece) = text.strip_suffix('\\') {
                        command += piece;
                        continue;
                    }
                    commands.push(split(&(std::mem::take(&mut command) + text), first));
                    start = None;
                }
                if let Some(line) = start {
                    let reason = "ends in the middle of a command".to_owned();
                    commands.push(Err(Problem { line, reason }));
                }
            }
            Piece::Block { language, text } if language == "transcript" => {
                commands.extend(session(&text, placed.line));
            }
            Piece::Code(code) => {
                commands.extend(split(&code, placed.line).ok().filter(Shown::is_ours).map(Ok));
            }
            _ => {}
        }
    }
    let is_empty = |command: &Result<Shown, Problem>| {
        command.as_ref().is_ok_and(|command| command.words.is_empty())
    };
    commands.retain(|command| !is_empty(command));
    commands
}

/// The commands of a session: the lines behind `$ `. The fence of its block is on `line`.
pub(crate) fn session(text: &str, line: usize) -> Vec<Result<Shown, Problem>> {
    let lines = (line + 1..).zip(text.lines());
    lines.filter_map(|(line, text)| Some(split(text.strip_prefix("$ ")?, line))).collect()
}

/// Splits a command into words as a shell does. A comment gives no words.
fn split(command: &str, line: usize) -> Result<Shown, Problem> {
    let bad = |reason: String| Problem { line, reason: format!("`{}`: {reason}", command.trim()) };
    let words = shlex::split(command).ok_or_else(|| bad("quotes do not match".to_owned()))?;
    let is_for_shells = |word: &&String| {
        matches!(word.as_str(), "|" | "&&" | "||" | ";" | ">" | ">>" | "<" | "&" | "$")
            || word.contains("$(")
    };
    match words.iter().find(is_for_shells) {
        Some(word) => Err(bad(format!("`{word}` needs a shell, and the tests have none"))),
        None => Ok(Shown { words, line }),
    }
}

#[cfg(test)]
mod tests {
    use super::shown;

    /// The commands of a page, each with its line; for a command that cannot be split, its problem.
    fn of(page: &str) -> Vec<(usize, String)> {
        let text = |command| match command {
            Ok(super::Shown { words, line }) => (line, words.join("|")),
            Err(super::Problem { line, reason }) => (line, reason),
        };
        shown(page).into_iter().map(text).collect()
    }

    #[test]
    fn a_script_has_one_command_a_line() {
        assert_eq!(
            of("```sh\n# First.\nflatmin a \\\n  'b c'\n\ncargo xtask d\n```\n"),
            [(3, "flatmin|a|b c".to_owned()), (6, "cargo|xtask|d".to_owned())]
        );
    }

    #[test]
    fn a_transcript_has_commands_and_what_they_print() {
        assert_eq!(
            of("```transcript\n$ python a\nb\n$ flatmin\n```\n"),
            [(2, "python|a".to_owned()), (4, "flatmin".to_owned())]
        );
        // trycmd runs these.
        assert_eq!(of("```console\n$ flatmin a\n```\n"), []);
    }

    #[test]
    fn code_that_calls_a_program_is_a_command() {
        assert_eq!(
            of("See `flatmin a` and\n`cargo xtask b`, not `flatmin_theory::c`.\n"),
            [(1, "flatmin|a".to_owned()), (2, "cargo|xtask|b".to_owned())]
        );
    }

    #[test]
    fn what_cannot_be_split_is_refused_with_its_line() {
        for (page, line, reason) in [
            ("```transcript\n$ flatmin 'a\n```\n", 2, "`flatmin 'a`: quotes do not match"),
            (
                "```sh\n\nflatmin a > b\n```\n",
                3,
                "`flatmin a > b`: `>` needs a shell, and the tests have none",
            ),
            ("```sh\nflatmin \\\n```\n", 2, "ends in the middle of a command"),
        ] {
            assert_eq!(of(page), [(line, reason.to_owned())], "{page}");
        }
    }
}
