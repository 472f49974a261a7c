//! Runs the experiment `diagonal_balance` alone.

fn main() -> std::process::ExitCode {
    flatmin_experiments::command::main(flatmin_experiments::Experiment::DiagonalBalance)
}
