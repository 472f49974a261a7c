//! Runs the experiment `linear_stability` alone.

fn main() -> std::process::ExitCode {
    flatmin_experiments::command::main(flatmin_experiments::Experiment::LinearStability)
}
