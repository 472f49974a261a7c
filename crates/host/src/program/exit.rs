//! A program: its name, the format of its output and the status with which it ends.

use std::fmt::Display;
use std::process::ExitCode;

use clap::ValueEnum;

use crate::{is_printable, note};

/// The exit statuses of every program of flatmin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// 0: done.
    Done = 0,
    /// 1: done, and something that was to be checked does not hold. All output was still written.
    CheckFailed = 1,
    /// 2: wrong usage. clap ends a program with the same status.
    Usage = 2,
    /// 3: bad input, or the program could not run.
    Failed = 3,
}

impl Exit {
    /// [`Done`](Self::Done) when the check holds, else [`CheckFailed`](Self::CheckFailed).
    pub fn of_check(holds: bool) -> Self {
        if holds { Self::Done } else { Self::CheckFailed }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Format of standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For a reader.
    Text,
    /// For a program.
    Json,
}

/// A program, by the name with which its messages start.
///
/// ```
/// use flatmin_host::{Exit, FileError, Program};
///
/// const PROGRAM: Program = Program::new("tool");
///
/// fn run() -> Result<Exit, FileError> {
///     flatmin_host::print("done\n")?;
///     Ok(Exit::Done)
/// }
///
/// let code: std::process::ExitCode = PROGRAM.end(run(), |_| Exit::Failed).into();
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Program {
    name: &'static str,
}

impl Program {
    /// A program with this name.
    pub const fn new(name: &'static str) -> Self {
        Self { name }
    }

    /// Writes `NAME: message` to standard error, with control characters escaped.
    pub fn warn(self, message: &dyn Display) {
        note(&format_args!("{}: {message}", self.name));
    }

    /// Prints what clap has to say about the arguments, an error or the help text, and ends the
    /// program. An argument may be the name of a file that a shell inserted, so control characters
    /// are escaped.
    pub fn end_parsing(error: &clap::Error) -> ! {
        let text = error.render().to_string();
        if text.chars().all(|character| character == '\n' || is_printable(character)) {
            error.exit();
        }
        text.lines().for_each(|line| note(&line));
        std::process::exit(Exit::Usage as i32);
    }

    /// The status of a program that ends with this result; a failure is first said on standard
    /// error. `status` gives the status of a failure.
    pub fn end<E: Display>(self, result: Result<Exit, E>, status: impl Fn(&E) -> Exit) -> Exit {
        result.unwrap_or_else(|failure| {
            self.warn(&failure);
            status(&failure)
        })
    }
}
