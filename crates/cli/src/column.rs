//! The columns of the metrics table.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::limits::{MAX_SAMPLES, MAX_SAMPLES_IN_BLOCKS};

/// A column of the metrics table, after that of the steps. Its variants stand in the order of the
/// table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub(crate) enum Column {
    TrainLoss,
    TestLoss,
    TrainAccuracy,
    TestAccuracy,
    MaxGradientNorm,
    ClippedSteps,
    Trace,
    FrobeniusNorm,
    LambdaMax,
    BatchSharpness,
    PathNorm,
    L1Norm,
    L2Norm,
    BalanceRatio,
    ThresholdLower,
    ThresholdUpper,
}

impl Column {
    /// The name of the column.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// True for an end of the threshold's interval.
    pub(crate) fn is_threshold(self) -> bool {
        matches!(self, Self::ThresholdLower | Self::ThresholdUpper)
    }

    /// True for a share of samples whose class is found.
    pub(crate) fn is_accuracy(self) -> bool {
        matches!(self, Self::TrainAccuracy | Self::TestAccuracy)
    }

    /// True for what is computed from the Gauss–Newton matrix.
    pub(crate) fn is_curvature(self) -> bool {
        matches!(self, Self::Trace | Self::FrobeniusNorm | Self::LambdaMax | Self::BatchSharpness)
    }

    /// The most samples times outputs for which the column is measured; `None` without a limit.
    pub(crate) fn size_limit(self) -> Option<usize> {
        match self {
            Self::ThresholdLower | Self::ThresholdUpper => Some(MAX_SAMPLES),
            Self::FrobeniusNorm => Some(MAX_SAMPLES_IN_BLOCKS),
            _ => None,
        }
    }

    /// The only kind of model that has the column; `None` if all models have it.
    pub(crate) fn model_kind(self) -> Option<&'static str> {
        match self {
            Self::PathNorm => Some("two-layer-relu"),
            Self::L1Norm | Self::BalanceRatio => Some("diagonal-linear"),
            Self::L2Norm => Some("perceptron"),
            _ => None,
        }
    }
}
