//! Running other programs: what they wrote, and the reason of their failure.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde::Deserialize;

use crate::failure::Failure;

/// Runs a program.
///
/// # Errors
/// [`Failure::File`] when it cannot be started.
pub(crate) fn output(command: &mut Command) -> Result<Output, Failure> {
    command.stdin(Stdio::null());
    command.output().map_err(Failure::file(Path::new(command.get_program())))
}

/// Runs a program that `remedy` installs.
///
/// # Errors
/// [`Failure::NotInstalled`] when it is not there, else as [`output`].
pub(crate) fn installed(command: &mut Command, remedy: &'static str) -> Result<Output, Failure> {
    match output(command) {
        Err(Failure::File(error)) if error.source.kind() == ErrorKind::NotFound => {
            Err(Failure::NotInstalled { error, remedy })
        }
        output => output,
    }
}

/// Runs a program that must succeed. Gives its standard output.
///
/// # Errors
/// The errors of [`output`], and [`failed`] for another exit status than 0.
pub(crate) fn stdout(command: &mut Command) -> Result<String, Failure> {
    let output = output(command)?;
    if !output.status.success() {
        return Err(failed(command, &output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The last line that a program wrote to standard error, or its status if there is none.
pub(crate) fn last_line(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().rev().map(str::trim).find(|line| !line.is_empty());
    line.map_or_else(|| output.status.to_string(), str::to_owned)
}

/// The failure of a program, with its last line.
pub(crate) fn failed(command: &Command, output: &Output) -> Failure {
    let program = Path::new(command.get_program()).display();
    Failure::Program(format!("{program}: {}", last_line(output)))
}

/// Reads a JSON file that a program wrote.
///
/// # Errors
/// [`Failure::File`] when it cannot be read, or is not the JSON of the value.
pub(crate) fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, Failure> {
    let bytes = fs::read(path).map_err(Failure::file(path))?;
    serde_json::from_slice(&bytes).map_err(|error| Failure::file(path)(error.into()))
}
