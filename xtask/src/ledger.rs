//! `cargo xtask ledger`: the page `docs/ledger.md`, written from the statements themselves.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::PathBuf;

use clap::Args;
use flatmin_host::{Exit, write};
use flatmin_ledger::{STATEMENTS, Statement};

use crate::failure::Failure;
use crate::markdown::escaped;
use crate::program::XTASK;

/// The ids of a part of the theory begin with its letter.
const PARTS: [(char, &str); 5] = [
    ('S', "Stability of minima"),
    ('R', "Two-layer ReLU networks"),
    ('D', "Diagonal linear networks"),
    ('F', "Matrix sensing"),
    ('U', "ReLU networks on one input"),
];

const HEAD: &str = "\
# The ledger

Written by `cargo xtask ledger` from `flatmin_ledger::STATEMENTS`; a test fails when it is not current. `cargo xtask verify` tries every
entry and its mutant on random instances that are hard on purpose: heavy-tailed and nearly equal gradients, zeros, repetitions, low rank, tight frames,
networks fitted by SGD. The statement must hold on all of them, and every comparison of the mutant must fail on some.

Notation is that of the [statements](theory.md).
";

/// Arguments of `ledger`.
#[derive(Debug, Args)]
pub(crate) struct LedgerArguments {
    /// The page.
    #[arg(long, value_name = "FILE", default_value = "docs/ledger.md")]
    out: PathBuf,
    /// Write nothing, and exit with 1 when the page is not current.
    #[arg(long)]
    check: bool,
}

/// Runs the task and gives the exit status.
///
/// # Errors
/// [`Failure`] when it could not be done.
pub(crate) fn ledger(arguments: &LedgerArguments) -> Result<Exit, Failure> {
    let page = page();
    if !arguments.check {
        write(&arguments.out, page.as_bytes())?;
        return Ok(Exit::Done);
    }
    let is_current = match fs::read(&arguments.out) {
        Ok(bytes) => bytes == page.as_bytes(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(Failure::file(&arguments.out)(error)),
    };
    if is_current {
        return Ok(Exit::Done);
    }
    let path = arguments.out.display();
    XTASK.warn(&format_args!("{path}: not current; `cargo xtask ledger` writes it again"));
    Ok(Exit::CheckFailed)
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    for (letter, title) in PARTS {
        // Writing to a String cannot fail.
        let _ = write!(page, "\n## {title}\n");
        for statement in STATEMENTS.iter().filter(|statement| statement.id.starts_with(letter)) {
            page += &section(statement);
        }
    }
    page
}

fn section(statement: &Statement) -> String {
    let (title, words) = (escaped(statement.title), escaped(statement.words));
    let mut section = format!("\n### {statement}. {title}\n\n{words}\n");
    let _ = write!(section, "\n$$\n{}\n$$\n\n", statement.latex);
    for (name, text) in [
        ("Hypotheses", statement.hypotheses),
        ("Source", statement.source),
        ("Check", statement.check_words),
        ("Mutant", statement.mutant_words),
    ] {
        let _ = writeln!(section, "- **{name}**: {}", escaped(text));
    }
    section
}

#[cfg(test)]
mod tests {
    use flatmin_ledger::STATEMENTS;

    use super::page;

    #[test]
    fn every_statement_is_on_the_page_once() {
        let page = page();
        for statement in STATEMENTS {
            assert_eq!(page.matches(&format!("### {statement}. ")).count(), 1, "{statement}");
        }
    }
}
