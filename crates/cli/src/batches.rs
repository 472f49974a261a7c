//! The batches and learning rates in the arguments of a command.

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use flatmin_theory::{Batch, BatchError, Sampling};

use crate::failure::Failure;
use crate::values;

/// The batches to compute thresholds for, and the learning rates to judge.
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
    /// The short last batch of a reshuffled epoch is left out.
    #[arg(long, conflicts_with_all = ["rank", "relative_width"])]
    pub(crate) drop_last: bool,
    /// Learning rates to judge.
    #[arg(
        long,
        alias = "lr",
        value_name = "η,…",
        value_delimiter = ',',
        value_parser = values::positive
    )]
    pub(crate) learning_rate: Vec<f64>,
}

impl Batches {
    /// Checks that the options fit each other.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.drop_last && self.sampling.is_some_and(|drawn| drawn != Sampling::Reshuffling) {
            let text = "--drop-last is about --sampling reshuffling: other batches have no epochs";
            return Err(Failure::Usage(text.to_owned()));
        }
        Ok(())
    }

    /// The batches of this size.
    pub(crate) fn of_size(&self, batch_size: usize) -> Result<Batch, BatchError> {
        let batch = Batch::new(batch_size, self.sampling())?;
        Ok(if self.drop_last { batch.dropping_last() } else { batch })
    }

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
