//! The rows of the metrics table, `metrics.csv`.

use flatmin_linalg::EigenError;
use flatmin_models::Dataset;
use flatmin_optim::Segment;
use flatmin_theory::{
    Batch, Gram, LossError, MinimumError, Optimizer, ThresholdError, ThresholdOptions,
    threshold_with,
};
use serde::{Serialize, Serializer};

use crate::column::Column;
use crate::curvature::curvature;
use crate::gram::weighted_gram;
use crate::network::Network;
use crate::words::Number;

/// Relative width of the interval for a threshold during a run.
///
/// Several thresholds are computed per second, and the threshold itself changes faster than this.
const RELATIVE_WIDTH: f64 = 1e-6;

/// The reason why a row could not be measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MeasureError {
    #[error(transparent)]
    Eigen(#[from] EigenError),
    #[error(transparent)]
    Loss(#[from] LossError),
    #[error(transparent)]
    Theory(#[from] ThresholdError),
}

/// Measures the rows of a run.
#[derive(Debug)]
pub(super) struct Measure<'a> {
    pub(super) network: &'a (dyn Network + 'static),
    pub(super) train: &'a Dataset,
    pub(super) test: Option<&'a Dataset>,
    pub(super) columns: &'a [Column],
    /// The optimizer and its batches, for thresholds; `None` if there is no threshold for them.
    pub(super) threshold: Option<(Optimizer, Batch)>,
}

/// An entry of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Cell {
    Count(u64),
    Number(f64),
}

/// A row: the number of steps done, and an entry per column. An entry is `None` if it has no value,
/// such as the curvature of parameters that have diverged.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) step: u64,
    pub(super) cells: Vec<Option<Cell>>,
}

impl Measure<'_> {
    /// The row at these parameters; `since_last` sums up the steps since the row before.
    pub(super) fn row(
        &self,
        step: u64,
        parameters: &[f64],
        since_last: Segment,
    ) -> Result<Row, MeasureError> {
        // Parameters that are not finite yield numbers that are not measurements, such as the zero
        // gradients of neurons whose inputs are NaN.
        let is_finite = parameters.iter().all(|value| value.is_finite());
        let wants =
            |kind: fn(Column) -> bool| is_finite && self.columns.iter().any(|column| kind(*column));
        let curvature = if wants(Column::is_curvature) {
            match curvature(self.network, parameters, self.train, self.columns) {
                Err(EigenError::NotFinite { .. }) => None,
                curvature => Some(curvature?),
            }
        } else {
            None
        };
        let threshold = match &self.threshold {
            Some((optimizer, batch)) if wants(Column::is_threshold) => {
                self.threshold(parameters, optimizer, batch)?
            }
            _ => None,
        };
        let norms = self.network.norms(parameters);
        let value = |column: &Column| match column {
            Column::TrainLoss => Some(match curvature {
                Some(curvature) => curvature.loss,
                None => self.train.loss(self.network, parameters),
            }),
            Column::TestLoss => self.test.map(|test| test.loss(self.network, parameters)),
            Column::TrainAccuracy => Some(self.train.accuracy(self.network, parameters)),
            Column::TestAccuracy => self.test.map(|test| test.accuracy(self.network, parameters)),
            Column::MaxGradientNorm => {
                (since_last.steps > 0).then_some(since_last.max_gradient_norm)
            }
            Column::ClippedSteps => None,
            Column::Trace => curvature.map(|curvature| curvature.trace),
            Column::FrobeniusNorm => curvature.map(|curvature| curvature.frobenius_norm),
            Column::LambdaMax => curvature.map(|curvature| curvature.lambda_max),
            Column::BatchSharpness => curvature.and_then(|curvature| curvature.batch_sharpness),
            Column::PathNorm => norms.path_norm.map(|norm| norm.0),
            Column::L1Norm => norms.l1_norm.map(|norm| norm.0),
            Column::L2Norm => norms.l2_norm.map(|norm| norm.0),
            Column::BalanceRatio => norms.balance_ratio.map(|norm| norm.0),
            Column::ThresholdLower => threshold.map(|(lower, _)| lower),
            Column::ThresholdUpper => threshold.map(|(_, upper)| upper),
        };
        let cell = |column: &Column| match column {
            Column::ClippedSteps => Some(Cell::Count(since_last.clipped_steps)),
            _ if !is_finite => None,
            column => value(column).filter(|value| !value.is_nan()).map(Cell::Number),
        };
        Ok(Row { step, cells: self.columns.iter().map(cell).collect() })
    }

    /// The ends of the threshold's interval; `None` if the Gram matrix is not finite.
    fn threshold(
        &self,
        parameters: &[f64],
        optimizer: &Optimizer,
        batch: &Batch,
    ) -> Result<Option<(f64, f64)>, MeasureError> {
        let gram = match weighted_gram(self.network, parameters, self.train) {
            Err(LossError::NotFinite { .. }) => return Ok(None),
            gram => gram?,
        };
        let outputs = self.train.output_dim();
        let gram = match Gram::from_means(gram).and_then(|gram| gram.with_outputs(outputs)) {
            Err(MinimumError::GramNotFinite { .. }) => return Ok(None),
            gram => gram.map_err(ThresholdError::from)?,
        };
        let options =
            ThresholdOptions { relative_width: RELATIVE_WIDTH, ..ThresholdOptions::default() };
        let threshold = threshold_with(&gram, optimizer, batch, &options)?;
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
    std::iter::once("step".to_owned()).chain(names).collect::<Vec<_>>().join(",") + "\n"
}

impl Row {
    /// The row as a line of the table. Numbers have the fewest digits that give them back, infinity
    /// is `inf`, and an entry without a value is empty.
    pub(super) fn line(&self) -> String {
        let cells = self.cells.iter().map(|cell| match cell {
            None => String::new(),
            Some(Cell::Count(count)) => count.to_string(),
            Some(Cell::Number(value)) => format!("{value:?}"),
        });
        std::iter::once(self.step.to_string()).chain(cells).collect::<Vec<_>>().join(",") + "\n"
    }
}
