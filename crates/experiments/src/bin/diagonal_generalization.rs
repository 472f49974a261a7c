//! Runs the experiment `diagonal_generalization` alone.

fn main() -> std::process::ExitCode {
    flatmin_experiments::command::main(flatmin_experiments::Experiment::DiagonalGeneralization)
}
