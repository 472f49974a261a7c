//! Runs the experiment `norm_equivalence` alone.

fn main() -> std::process::ExitCode {
    flatmin_experiments::command::main(flatmin_experiments::Experiment::NormEquivalence)
}
