//! The command line.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use flatmin_host::{Exit, FileError, Program, print};
use flatmin_linalg::simd::{self, InstructionSetError};

use crate::failure::Failure;
use crate::words::PROGRAM;
use crate::{analyze, metrics, train};

/// The version, with the commit if it is known.
const VERSION: &str = match env!("FLATMIN_COMMIT").as_bytes() {
    [] => env!("CARGO_PKG_VERSION"),
    _ => concat!(env!("CARGO_PKG_VERSION"), " (", env!("FLATMIN_COMMIT"), ")"),
};

const AFTER_HELP: &str = "\
Exit status: 0 done; 1 with analyze --check, when a given learning rate is unstable; 2 wrong usage; \
3 bad input or another failure, with one line on standard error.

Examples:
  flatmin analyze jacobian.npy --batch-size 1,8 --learning-rate 0.1
  flatmin train run.toml
  flatmin metrics run.toml --parameters run/parameters.npz --data data.npz
  flatmin completions bash > ~/.local/share/bash-completion/completions/flatmin";

/// At which learning rates and batch sizes can SGD stay at a minimum?
#[derive(Debug, Parser)]
#[command(name = "flatmin", version = VERSION, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Analyze(Box<analyze::AnalyzeArguments>),
    Train(train::TrainArguments),
    Metrics(metrics::MetricsArguments),
    /// Write the manual pages into a folder.
    #[command(after_help = "\
Example:
  flatmin man ~/.local/share/man/man1 && man flatmin-analyze")]
    Man {
        /// The folder, which is made if it does not exist.
        folder: PathBuf,
    },
    /// Print the completions of a shell.
    #[command(after_help = "\
Example:
  flatmin completions zsh > ~/.zfunc/_flatmin")]
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// Runs the command that the arguments of the process name.
pub fn main() -> ExitCode {
    main_from(std::env::args_os()).into()
}

/// Runs the command of these words, the first of which is the name of the program.
///
/// A usage error and a request for help end the process.
pub fn main_from(words: impl IntoIterator<Item = OsString>) -> Exit {
    let arguments = Arguments::try_parse_from(words);
    let arguments = arguments.unwrap_or_else(|error| Program::end_parsing(&error));
    PROGRAM.end(run(&arguments.command), Failure::exit)
}

fn run(command: &Command) -> Result<Exit, Failure> {
    if let Some(wanted) = std::env::var_os(simd::VARIABLE) {
        let wanted = wanted.to_string_lossy().parse().map_err(InstructionSetError::from)?;
        simd::choose(wanted)?;
    }
    match command {
        Command::Analyze(arguments) => analyze::analyze(arguments),
        Command::Train(arguments) => train::train(arguments),
        Command::Metrics(arguments) => metrics::metrics(arguments),
        Command::Man { folder } => {
            fs::create_dir_all(folder).map_err(FileError::at(folder))?;
            let command = Arguments::command();
            clap_mangen::generate_to(command, folder).map_err(FileError::at(folder))?;
            Ok(Exit::Done)
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "flatmin", &mut script);
            print(&String::from_utf8_lossy(&script))?;
            Ok(Exit::Done)
        }
    }
}
