//! The columns of the metrics table.

use serde::{Deserialize, Serialize};

/// A column of the metrics table, after that of the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Column {
    TrainLoss,
    TestLoss,
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
    /// Every column with its name, in the order of the table.
    pub(crate) const ALL: &[(&str, Self)] = &[
        ("train_loss", Self::TrainLoss),
        ("test_loss", Self::TestLoss),
        ("max_gradient_norm", Self::MaxGradientNorm),
        ("clipped_steps", Self::ClippedSteps),
        ("trace", Self::Trace),
        ("frobenius_norm", Self::FrobeniusNorm),
        ("lambda_max", Self::LambdaMax),
        ("batch_sharpness", Self::BatchSharpness),
        ("path_norm", Self::PathNorm),
        ("l1_norm", Self::L1Norm),
        ("l2_norm", Self::L2Norm),
        ("balance_ratio", Self::BalanceRatio),
        ("threshold_lower", Self::ThresholdLower),
        ("threshold_upper", Self::ThresholdUpper),
    ];

    /// The name of the column.
    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, column)| *column == self).map_or("", |(name, _)| name)
    }

    /// True for an end of the threshold's interval.
    pub(crate) fn is_threshold(self) -> bool {
        matches!(self, Self::ThresholdLower | Self::ThresholdUpper)
    }

    /// True for what is computed from the Gauss–Newton matrix.
    pub(crate) fn is_curvature(self) -> bool {
        matches!(self, Self::Trace | Self::FrobeniusNorm | Self::LambdaMax | Self::BatchSharpness)
    }

    /// True for what takes an nk × nk matrix, for n samples with k outputs.
    pub(crate) fn is_quadratic(self) -> bool {
        self.is_threshold() || self.is_curvature()
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
