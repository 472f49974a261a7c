//! Runs the experiment `too_weak` alone.

fn main() -> std::process::ExitCode {
    flatmin_experiments::command::main(flatmin_experiments::Experiment::TooWeak)
}
