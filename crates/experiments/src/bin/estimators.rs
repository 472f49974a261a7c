//! Runs the experiment `estimators` alone.

fn main() -> std::process::ExitCode {
    flatmin_experiments::command::main(flatmin_experiments::Experiment::Estimators)
}
