//! Runs the experiment `diagonal_sharpness` alone.

fn main() -> std::process::ExitCode {
    flatmin_experiments::command::main(flatmin_experiments::Experiment::DiagonalSharpness)
}
