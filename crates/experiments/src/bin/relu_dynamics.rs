//! Runs the experiment `relu_dynamics` alone.

fn main() -> std::process::ExitCode {
    flatmin_experiments::command::main(flatmin_experiments::Experiment::ReluDynamics)
}
