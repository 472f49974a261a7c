//! Runs the experiment `deep_sharpness` alone.

fn main() -> std::process::ExitCode {
    flatmin_experiments::command::main(flatmin_experiments::Experiment::DeepSharpness)
}
