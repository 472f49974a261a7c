//! The edge of stability of one batch size, however it was found.

use flatmin_host::Progress;
use flatmin_linalg::Parallelism;
use flatmin_theory::{
    Batch, EdgeOptions, EdgeStatus, EpochEdge, EpochOptions, ExactEdges, Minimum, Optimizer,
    Sampling, SimulationError, Threshold, ThresholdError, ThresholdStatus, almost_sure_edge,
    epoch_edge,
};
use serde::Serialize;

/// The largest learning rate at which a minimum is stable in mean square.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edge {
    pub(super) interval: Threshold,
    pub(super) estimate: f64,
    pub(super) kind: Kind,
    /// The confidence of an estimate.
    pub(super) confidence: Option<f64>,
}

/// How sure an interval is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// It holds the edge of the numbers given.
    Certified,
    /// Its middle is the edge up to rounding, which is not bounded.
    Exact,
    /// It holds the edge with a confidence.
    Estimate,
}

impl From<Threshold> for Edge {
    fn from(interval: Threshold) -> Self {
        let estimate = interval.midpoint();
        Self { interval, estimate, kind: Kind::Certified, confidence: None }
    }
}

impl Edge {
    /// The edge of reshuffled epochs, for `loss_scale` times the loss.
    pub(super) fn of_epochs(edge: EpochEdge, loss_scale: f64) -> Self {
        let EpochEdge { lower, upper, estimate, confidence } = edge;
        let kind = if confidence.is_some() { Kind::Estimate } else { Kind::Exact };
        let status = ThresholdStatus::Converged;
        let interval = Threshold { lower, upper, iterations: 0, status };
        let interval = interval.for_loss_scale(loss_scale);
        Self { interval, estimate: estimate / loss_scale, kind, confidence }
    }
}

/// The stability of an optimizer at a minimum, for the unscaled loss.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) minimum: &'a Minimum,
    /// The optimizer for learning rates of the unscaled loss.
    pub(super) optimizer: &'a Optimizer,
    pub(super) loss_scale: f64,
    pub(super) parallelism: Parallelism,
}

/// The short last batch of an epoch, and its effect on the edge.
#[derive(Debug, Clone, Copy)]
pub(super) struct ShortBatch {
    /// Its samples.
    pub(super) size: usize,
    /// The edge of epochs with it, where it is cheap to find.
    pub(super) edge: Option<Edge>,
}

/// The numbers of a minimum, n × r, up to which the edge of epochs is found without being asked
/// for; a state with velocities counts four times.
const CHEAP: usize = 4000;

impl Question<'_> {
    /// The edge of reshuffled epochs.
    pub(super) fn epochs(&self, batch: &Batch) -> Result<Edge, ThresholdError> {
        let _progress = Progress::steps("edge of reshuffled epochs", 1);
        let options = EpochOptions { parallelism: self.parallelism, ..EpochOptions::default() };
        let edge = epoch_edge(self.minimum, self.optimizer, batch, &options)?;
        Ok(Edge::of_epochs(edge, self.loss_scale))
    }

    /// The short last batch of epochs of this batch size, if there is one.
    pub(super) fn short_batch(&self, size: usize) -> Option<ShortBatch> {
        let n = self.minimum.sample_count();
        let rest = n.checked_rem(size).filter(|rest| *rest > 0 && size < n)?;
        let numbers = n * self.minimum.output_count() * self.minimum.eigenvalues().len();
        let batch = Batch::new(size, Sampling::Reshuffling).ok()?;
        let has_velocity = self.optimizer.momentum_coefficient() > 0.0;
        let edge = (numbers * if has_velocity { 4 } else { 1 } <= CHEAP).then(|| {
            // Nobody asked for this edge, so that it must be quick.
            let options = EpochOptions {
                exact: ExactEdges::WhereQuick,
                parallelism: self.parallelism,
                ..EpochOptions::default()
            };
            let edge = epoch_edge(self.minimum, self.optimizer, &batch, &options).ok()?;
            Some(Edge::of_epochs(edge, self.loss_scale))
        });
        Some(ShortBatch { size: rest, edge: edge.flatten() })
    }

    /// The edge up to which single runs converge: its ends, and whether it is exact.
    pub(super) fn almost_sure(&self, batch: &Batch) -> Result<AlmostSure, SimulationError> {
        let _progress = Progress::steps("edge of single runs", 1);
        let options = EdgeOptions::with_seed(0);
        let edge = almost_sure_edge(self.minimum, self.optimizer, batch, options)?;
        Ok(AlmostSure {
            lower: edge.lower.learning_rate / self.loss_scale,
            upper: edge.upper.learning_rate / self.loss_scale,
            is_decided: edge.status != EdgeStatus::Undecided,
            is_exact: edge.status == EdgeStatus::Exact,
        })
    }
}

/// The edge of almost-sure stability.
#[derive(Debug, Clone, Copy)]
pub(super) struct AlmostSure {
    pub(super) lower: f64,
    pub(super) upper: f64,
    /// False if an end is not decided by three standard errors.
    pub(super) is_decided: bool,
    pub(super) is_exact: bool,
}
