//! Batches on the command line.

use clap::{Args, ValueEnum};
use flatmin_theory::Sampling;

use crate::values;

/// The batches that thresholds are wanted for.
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
    #[arg(long, value_enum, default_value_t = SamplingName::WithoutReplacement)]
    pub(crate) sampling: SamplingName,
}

/// How the samples of a batch are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SamplingName {
    /// Every sample independently; a batch may hold one twice.
    WithReplacement,
    /// Distinct samples, as data loaders draw them.
    WithoutReplacement,
}

impl SamplingName {
    pub(crate) fn sampling(self) -> Sampling {
        match self {
            Self::WithReplacement => Sampling::WithReplacement,
            Self::WithoutReplacement => Sampling::WithoutReplacement,
        }
    }

    /// As JSON says it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::WithReplacement => "with_replacement",
            Self::WithoutReplacement => "without_replacement",
        }
    }

    /// As text says it.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::WithReplacement => "with replacement",
            Self::WithoutReplacement => "without replacement",
        }
    }
}
