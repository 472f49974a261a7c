//! Runs the experiment `batch_size` alone.

fn main() -> std::process::ExitCode {
    flatmin_experiments::command::main(flatmin_experiments::Experiment::BatchSize)
}
