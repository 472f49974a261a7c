//! `flatmin analyze`: at which learning rates can SGD stay at the minimum in a file?

mod analysis;
mod archive;
mod arguments;
mod axes;
mod blocks;
mod bracket;
mod conclusion;
mod doubts;
mod figure;
mod input;
mod inquiry;
mod point;
mod reading;
mod report;
mod subsets;
mod text;
mod training;

use std::num::NonZero;
use std::thread;

use flatmin_host::{Exit, Format, check_writable, print, print_json, write};
use flatmin_linalg::Parallelism;

use self::analysis::Analysis;
pub(crate) use self::arguments::AnalyzeArguments;
pub(crate) use self::blocks::Blocks;
use self::input::Input;
pub(crate) use self::inquiry::answer_about_file;
pub use self::inquiry::{Answer, History, Inquiry, Refusal};
use crate::failure::Failure;

/// Analyses one file.
pub(crate) fn analyze(arguments: &AnalyzeArguments) -> Result<Exit, Failure> {
    subsets::check(arguments)?;
    let parallelism = parallelism(arguments.threads);
    let input = Input::open(arguments)?;
    bracket::check(arguments)?;
    if arguments.bracket.is_wanted() || input.excess().is_some() {
        return bracket::run(arguments, input, parallelism);
    }
    // An answer that cannot be written is worth nothing, so this is checked before the long work.
    if let Some(path) = &arguments.figure {
        check_writable(path)?;
    }
    let minimum = input.minimum(parallelism)?;
    let analysis = Analysis::new(arguments, minimum, parallelism)?;
    if let Some(path) = &arguments.figure {
        let curve = analysis.curve(arguments, parallelism)?;
        write(path, figure::figure(arguments, &analysis, &curve).to_svg().as_bytes())?;
    }
    match arguments.format {
        Format::Text => print(&text::render(arguments, &analysis))?,
        Format::Json => print_json(&report::report(arguments, &analysis))?,
    }
    let is_doubtful = analysis.is_doubtful(arguments);
    Ok(Exit::of_check(!(arguments.check && (analysis.has_unstable() || is_doubtful))))
}

/// Sets up the threads, at most one per processor. Without threads the same numbers take longer.
fn parallelism(count: Option<usize>) -> Parallelism {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let count = count.map_or(processors, |count| count.min(processors));
    if count == 1 || rayon::ThreadPoolBuilder::new().num_threads(count).build_global().is_err() {
        return Parallelism::Sequential;
    }
    Parallelism::Rayon
}
