//! Runs the experiment `progressive_sharpening` alone.

fn main() -> std::process::ExitCode {
    flatmin_experiments::command::main(flatmin_experiments::Experiment::ProgressiveSharpening)
}
