//! The rows of the metrics table.

use flatmin_curvature::training_curvature;
use flatmin_linalg::EigenError;
use flatmin_models::Dataset;
use flatmin_optim::Segment;
use flatmin_theory::{
    Batch, Gram, MinimumError, Optimizer, ThresholdError, ThresholdOptions, threshold_with,
};
use serde::{Serialize, Serializer};

use crate::network::Network;
use crate::output::Number;

/// The width of the interval for a threshold along the way, relative: several are wanted per second,
/// and the threshold itself moves faster.
const RELATIVE_WIDTH: f64 = 1e-6;

/// A column of the metrics table, after that of the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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
    /// All of them, by name.
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

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, column)| *column == self).map_or("", |(name, _)| name)
    }

    /// Whether it is a bound on the threshold.
    pub(super) fn is_threshold(self) -> bool {
        matches!(self, Self::ThresholdLower | Self::ThresholdUpper)
    }

    /// Whether it comes from the whole curvature.
    fn is_curvature(self) -> bool {
        matches!(self, Self::Trace | Self::FrobeniusNorm | Self::LambdaMax | Self::BatchSharpness)
    }

    /// The kind of model that alone has it.
    pub(crate) fn of_kind(self) -> Option<&'static str> {
        match self {
            Self::PathNorm => Some("two-layer-relu"),
            Self::L1Norm | Self::BalanceRatio => Some("diagonal-linear"),
            Self::L2Norm => Some("perceptron"),
            _ => None,
        }
    }

    /// Whether it takes an nk × nk matrix for k outputs.
    pub(super) fn is_quadratic(self) -> bool {
        self.is_threshold() || self.is_curvature()
    }
}

/// Why a row could not be measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MeasureError {
    #[error(transparent)]
    Eigen(#[from] EigenError),
    #[error(transparent)]
    Theory(#[from] ThresholdError),
}

/// What is measured of a run.
#[derive(Debug)]
pub(super) struct Measure<'a, N> {
    pub(super) network: &'a N,
    pub(super) train: &'a Dataset,
    pub(super) test: Option<&'a Dataset>,
    pub(super) columns: &'a [Column],
    /// The batches of the optimizer, for its threshold.
    pub(super) batch: Option<Batch>,
}

/// A number in a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Cell {
    Count(u64),
    Number(f64),
}

/// A row: the steps done, and a number per column; absent where it cannot be had, such as the
/// curvature of parameters that have diverged.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) step: u64,
    pub(super) cells: Vec<Option<Cell>>,
}

impl<N: Network> Measure<'_, N> {
    /// The row at these parameters. `since_last` is about the steps since the row before.
    pub(super) fn row(
        &self,
        step: u64,
        parameters: &[f64],
        since_last: Segment,
    ) -> Result<Row, MeasureError> {
        if !parameters.iter().all(|value| value.is_finite()) {
            // The run has left the range of numbers: what comes out of such parameters, among it the
            // zeros of neurons that see no number, is not a measurement.
            let cell = |column: &Column| match column {
                Column::ClippedSteps => Some(Cell::Count(since_last.clipped_steps)),
                _ => None,
            };
            return Ok(Row { step, cells: self.columns.iter().map(cell).collect() });
        }
        let curvature = if self.columns.iter().any(|column| column.is_curvature()) {
            match training_curvature(self.network, parameters, self.train) {
                Err(EigenError::NotFinite { .. }) => None,
                curvature => Some(curvature?),
            }
        } else {
            None
        };
        let threshold = match self.batch {
            Some(batch) if self.columns.iter().any(|column| column.is_threshold()) => {
                self.threshold(parameters, batch)?
            }
            _ => None,
        };
        let norms = self.network.norms(parameters);
        let sharpness = curvature.map(|curvature| curvature.sharpness);
        let value = |column: &Column| match column {
            Column::TrainLoss => Some(match curvature {
                Some(curvature) => curvature.loss,
                None => self.train.loss(self.network, parameters),
            }),
            Column::TestLoss => self.test.map(|test| test.loss(self.network, parameters)),
            Column::MaxGradientNorm => {
                (since_last.steps > 0).then_some(since_last.max_gradient_norm)
            }
            Column::ClippedSteps => None,
            Column::Trace => sharpness.map(|s| s.trace),
            Column::FrobeniusNorm => sharpness.map(|s| s.frobenius_norm),
            Column::LambdaMax => sharpness.map(|s| s.lambda_max),
            Column::BatchSharpness => curvature.and_then(|curvature| curvature.batch_sharpness),
            Column::PathNorm => norms.path_norm,
            Column::L1Norm => norms.l1_norm,
            Column::L2Norm => norms.l2_norm,
            Column::BalanceRatio => norms.balance_ratio,
            Column::ThresholdLower => threshold.map(|(lower, _)| lower),
            Column::ThresholdUpper => threshold.map(|(_, upper)| upper),
        };
        let cell = |column: &Column| match column {
            Column::ClippedSteps => Some(Cell::Count(since_last.clipped_steps)),
            column => value(column).filter(|value| !value.is_nan()).map(Cell::Number),
        };
        Ok(Row { step, cells: self.columns.iter().map(cell).collect() })
    }

    fn threshold(
        &self,
        parameters: &[f64],
        batch: Batch,
    ) -> Result<Option<(f64, f64)>, MeasureError> {
        let gram = self.network.gram(parameters, self.train.inputs());
        let gram = Gram::from_means(gram);
        let gram = match gram.and_then(|gram| gram.with_outputs(self.train.output_dim())) {
            Err(MinimumError::GramNotFinite { .. }) => return Ok(None),
            gram => gram.map_err(ThresholdError::from)?,
        };
        let options =
            ThresholdOptions { relative_width: RELATIVE_WIDTH, ..ThresholdOptions::default() };
        let threshold = threshold_with(&gram, &Optimizer::sgd(), &batch, &options)?;
        Ok(Some((threshold.lower, threshold.upper)))
    }
}

impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => count.serialize(serializer),
            Self::Number(value) => Number(*value).serialize(serializer),
        }
    }
}

/// The first line of the table.
pub(super) fn header(columns: &[Column]) -> String {
    let names = columns.iter().map(|column| column.name());
    std::iter::once("step").chain(names).collect::<Vec<_>>().join(",") + "\n"
}

impl Row {
    /// The row as a line of the table: the fewest digits that give a number back, nothing for an absent
    /// one, `inf` for infinity.
    pub(super) fn line(&self) -> String {
        let cells = self.cells.iter().map(|cell| match cell {
            None => String::new(),
            Some(Cell::Count(count)) => count.to_string(),
            Some(Cell::Number(value)) => format!("{value:?}"),
        });
        std::iter::once(self.step.to_string()).chain(cells).collect::<Vec<_>>().join(",") + "\n"
    }
}
