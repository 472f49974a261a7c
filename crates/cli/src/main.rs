//! The command `flatmin`.

use std::process::ExitCode;

fn main() -> ExitCode {
    flatmin_cli::main()
}
