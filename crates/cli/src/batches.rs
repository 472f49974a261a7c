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
    /// How the samples of a batch are drawn [default: without-replacement].
    #[arg(long, value_parser = sampling())]
    pub(crate) sampling: Option<Sampling>,
}

impl Batches {
    /// The sampling, or the default.
    pub(crate) fn sampling(&self) -> Sampling {
        self.sampling.unwrap_or(Sampling::WithoutReplacement)
    }

    /// The sampling in words.
    pub(crate) fn sampling_words(&self) -> String {
        match self.sampling() {
            Sampling::Poisson => "by Poisson sampling".to_owned(),
            Sampling::Reshuffling => "in reshuffled epochs".to_owned(),
            other => other.name().replace('-', " "),
        }
    }
}

/// Reads the name of a sampling that has thresholds.
fn sampling() -> impl TypedValueParser<Value = Sampling> {
    let choices = [
        (Sampling::WithReplacement, "Every sample independently; a batch may hold one twice"),
        (Sampling::WithoutReplacement, "Distinct samples, drawn anew at every step"),
        (Sampling::Poisson, "Every sample with probability B/n, as differential privacy does"),
        (Sampling::Reshuffling, "A new order of all samples every epoch, as data loaders do"),
    ];
    PossibleValuesParser::new(choices.map(|(s, help)| PossibleValue::new(s.name()).help(help)))
        .try_map(|name| name.parse())
}
