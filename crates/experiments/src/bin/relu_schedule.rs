//! Runs the experiment `relu_schedule` alone.

fn main() -> std::process::ExitCode {
    flatmin_experiments::command::main(flatmin_experiments::Experiment::ReluSchedule)
}
