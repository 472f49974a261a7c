//! The edge of stability of one batch size, however it was found.

use flatmin_host::{Progress, significant, times};
use flatmin_linalg::Parallelism;
use flatmin_theory::{
    Batch, EdgeOptions, EdgeStatus, EpochEdge, EpochOptions, ExactEdges, Minimum, Optimizer,
    Sampling, SimulationError, Stability, Threshold, ThresholdError, ThresholdOptions,
    ThresholdStatus, almost_sure_edge, epoch_edge, threshold_with,
};
use serde::Serialize;

use crate::words::{Interval, Number};

/// The largest learning rate at which a minimum is stable in mean square.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edge {
    pub(crate) interval: Threshold,
    pub(crate) estimate: f64,
    pub(crate) kind: Kind,
    /// The confidence of an estimate.
    pub(crate) confidence: Option<f64>,
}

/// The certainty of an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// It is proved to hold the edge of the numbers given.
    Certified,
    /// The estimate is the edge up to rounding. The interval holds what rounding may be, which is
    /// not proved.
    Exact,
    /// It holds the edge with a confidence.
    Estimate,
    /// Its ends are bounds from leading modes, the lower one with a confidence.
    Bracket,
}

impl From<Threshold> for Edge {
    fn from(interval: Threshold) -> Self {
        let estimate = interval.midpoint();
        Self { interval, estimate, kind: Kind::Certified, confidence: None }
    }
}

impl Edge {
    /// The verdict on a learning rate.
    pub(crate) fn verdict(&self, learning_rate: f64) -> VerdictReport {
        VerdictReport {
            learning_rate,
            verdict: verdict_word(self.interval.stability(learning_rate)),
            margin: Number(self.estimate / learning_rate - 1.0),
        }
    }

    /// The interval in words.
    pub(crate) fn interval_words(&self) -> String {
        match self.kind {
            _ if self.interval.lower.is_infinite() => {
                "G = 0: stable at every learning rate".to_owned()
            }
            Kind::Exact if self.interval.lower >= self.interval.upper => {
                "exact up to rounding".to_owned()
            }
            _ => Interval::from(self.interval).text(),
        }
    }

    /// The edge between the ends of a bracket, the lower of which holds with this confidence.
    pub(crate) fn of_bracket((lower, upper): (f64, f64), estimate: f64, confidence: f64) -> Self {
        let status = ThresholdStatus::Converged;
        let interval = Threshold { lower, upper, iterations: 0, status };
        Self { interval, estimate, kind: Kind::Bracket, confidence: Some(confidence) }
    }

    /// The edge of reshuffled epochs, for `loss_scale` times the loss.
    pub(crate) fn of_epochs(edge: EpochEdge, loss_scale: f64) -> Self {
        let EpochEdge { lower, upper, estimate, confidence } = edge;
        let kind = if confidence.is_some() { Kind::Estimate } else { Kind::Exact };
        let status = ThresholdStatus::Converged;
        let interval = Threshold { lower, upper, iterations: 0, status };
        let interval = interval.for_loss_scale(loss_scale);
        Self { interval, estimate: estimate / loss_scale, kind, confidence }
    }
}

/// An edge as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct EdgeReport {
    #[serde(flatten)]
    interval: Interval,
    estimate: Number,
    kind: Kind,
    confidence: Option<f64>,
}

impl From<Edge> for EdgeReport {
    fn from(edge: Edge) -> Self {
        Self {
            interval: edge.interval.into(),
            estimate: Number(edge.estimate),
            kind: edge.kind,
            confidence: edge.confidence,
        }
    }
}

/// The verdict on a learning rate as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct VerdictReport {
    pub(crate) learning_rate: f64,
    pub(crate) verdict: &'static str,
    /// Negative where the learning rate is unstable.
    margin: Number,
}

/// The certainty of edges in a word, and the name of their intervals.
///
/// An interval is called certified if all are.
pub(crate) fn certainty(edges: &[Edge]) -> (&'static str, String) {
    let is_estimate = edges.iter().any(|edge| edge.kind == Kind::Estimate);
    let is_certified = edges.iter().all(|edge| edge.kind == Kind::Certified);
    let interval = match edges.iter().find_map(|edge| edge.confidence) {
        Some(confidence) => format!("{} % interval", significant(100.0 * confidence, 3)),
        None if is_certified => "certified interval".to_owned(),
        None => "interval".to_owned(),
    };
    (if is_estimate { "estimated" } else { "exact" }, interval)
}

/// A verdict in one word.
pub(crate) fn verdict_word(stability: Stability) -> &'static str {
    match stability {
        Stability::Stable => "stable",
        Stability::Unstable => "unstable",
        Stability::Undecided => "undecided",
    }
}

/// A margin in words: by how much the larger of η and η* exceeds the smaller.
pub(crate) fn margin(threshold: f64, rate: f64) -> String {
    // Dividing the larger by the smaller keeps all digits when they are far apart.
    let (larger, smaller, ratio) = if threshold < rate {
        ("η", "η*", rate / threshold)
    } else {
        ("η*", "η", threshold / rate)
    };
    let percent = 100.0 * (ratio - 1.0);
    match ratio {
        _ if threshold.is_infinite() => "unlimited".to_owned(),
        ratio if ratio >= 2.0 => format!("{larger} is {} {smaller}", times(ratio)),
        _ if percent < 0.01 => format!("{larger} is {percent:.1e} % above {smaller}"),
        _ => format!("{larger} is {percent:.2} % above {smaller}"),
    }
}

/// The stability of an optimizer at a minimum, for the unscaled loss.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) minimum: &'a Minimum,
    /// The optimizer for learning rates of the unscaled loss.
    pub(crate) optimizer: &'a Optimizer,
    pub(crate) loss_scale: f64,
    pub(crate) parallelism: Parallelism,
}

/// The short last batch of an epoch, and its effect on the edge.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShortBatch {
    /// Its samples.
    pub(crate) size: usize,
    /// The edge of epochs with it, where it is cheap to find.
    pub(crate) edge: Option<Edge>,
}

/// The numbers of a minimum, n × r, up to which the edge of epochs is found without being asked
/// for; a state with velocities counts four times.
const CHEAP: usize = 4000;

impl Question<'_> {
    /// The edge for these batches, with an interval of this relative width where it is certified.
    pub(crate) fn edge(&self, batch: &Batch, relative_width: f64) -> Result<Edge, ThresholdError> {
        if batch.sampling() == Sampling::Reshuffling {
            return self.epochs(batch);
        }
        let settings = ThresholdOptions {
            relative_width,
            parallelism: self.parallelism,
            ..ThresholdOptions::default()
        };
        let found = threshold_with(self.minimum, self.optimizer, batch, &settings)?;
        let mut edge = Edge::from(found.for_loss_scale(self.loss_scale));
        if self.optimizer.is_nesterov() && self.optimizer.decoupled_decay() > 0.0 {
            // W is not proved to be semidefinite for this optimizer.
            edge.kind = Kind::Estimate;
        } else if *self.optimizer != Optimizer::sgd() {
            // With momentum or decay the effect of rounding is estimated, not proved.
            edge.kind = Kind::Exact;
        }
        Ok(edge)
    }

    /// The edge of reshuffled epochs.
    fn epochs(&self, batch: &Batch) -> Result<Edge, ThresholdError> {
        let _progress = Progress::steps("edge of reshuffled epochs", 1);
        let options = EpochOptions { parallelism: self.parallelism, ..EpochOptions::default() };
        let edge = epoch_edge(self.minimum, self.optimizer, batch, &options)?;
        Ok(Edge::of_epochs(edge, self.loss_scale))
    }

    /// The short last batch of epochs of this batch size, if there is one.
    pub(crate) fn short_batch(&self, size: usize) -> Option<ShortBatch> {
        let n = self.minimum.sample_count();
        let rest = n.checked_rem(size).filter(|rest| *rest > 0 && size < n)?;
        let numbers = n * self.minimum.output_count() * self.minimum.eigenvalues().len();
        let batch = Batch::new(size, Sampling::Reshuffling).ok()?;
        let has_velocity = self.optimizer.momentum_coefficient() > 0.0;
        let edge = (numbers * if has_velocity { 4 } else { 1 } <= CHEAP).then(|| {
            // Nobody asked for this edge, so that it must be quick.
            let options = EpochOptions {
                exact: ExactEdges::WhereQuick,
                relative_width: 0.05,
                max_orders: 256,
                parallelism: self.parallelism,
                ..EpochOptions::default()
            };
            let edge = epoch_edge(self.minimum, self.optimizer, &batch, &options).ok()?;
            Some(Edge::of_epochs(edge, self.loss_scale))
        });
        Some(ShortBatch { size: rest, edge: edge.flatten() })
    }

    /// The edge up to which single runs converge: its ends, and whether it is exact.
    pub(crate) fn almost_sure(&self, batch: &Batch) -> Result<AlmostSure, SimulationError> {
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
pub(crate) struct AlmostSure {
    pub(crate) lower: f64,
    pub(crate) upper: f64,
    /// False if an end is not decided by three standard errors.
    pub(crate) is_decided: bool,
    pub(crate) is_exact: bool,
}
