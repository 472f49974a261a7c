//! The batches in the arguments of a command.

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use flatmin_theory::Sampling;

use crate::values;

/// The batches to compute thresholds for.
#[derive(Debug, Args)]
pub(crate) struct Batches {
    /// Samples per step.
    #[arg(
        long,
        value_name = "B,…",
        value_delimiter = ',',
        default_value = "1",
        value_parser = values::positive_count
    )]
    pub(crate) batch_size: Vec<usize>,
    /// How the samples of a batch are drawn.
    #[arg(long, default_value_t = Sampling::WithoutReplacement, value_parser = sampling())]
    pub(crate) sampling: Sampling,
}

impl Batches {
    /// The sampling in words.
    pub(crate) fn sampling_words(&self) -> String {
        self.sampling.name().replace('-', " ")
    }
}

/// Reads the name of a sampling that has thresholds.
fn sampling() -> impl TypedValueParser<Value = Sampling> {
    let choices = [
        (Sampling::WithReplacement, "Every sample independently; a batch may hold one twice"),
        (Sampling::WithoutReplacement, "Distinct samples, as data loaders draw them"),
    ];
    PossibleValuesParser::new(choices.map(|(s, help)| PossibleValue::new(s.name()).help(help)))
        .try_map(|name| name.parse())
}
