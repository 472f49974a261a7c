//! The questions of stability theory about the minimum that a run ends at, and the answers.

use flatmin_linalg::RowMatrix;
use flatmin_optim::{Method, Sampling};
use flatmin_theory::{
    Alignment, AlmostSureEdge, Batch, Bounds, DEFAULT_RELATIVE_WIDTH, EdgeOptions, EdgeStatus,
    LinearisedSgd, LyapunovExponent, LyapunovOptions, Minimum, Optimizer, ReplicaMean,
    SecondMoments, SimulationOptions, Start, Threshold, ThresholdOptions, alignment,
    almost_sure_edge, lyapunov_exponent, lyapunov_function, simulate_at, threshold, threshold_with,
};
use serde::{Deserialize, Serialize};

use super::error::CellError;
use super::linearised::{LinearisedPoint, theory_batch};

/// The questions asked of a minimum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StabilityStudy {
    /// Nothing.
    None,
    /// Exact thresholds beside every bound for a few batch sizes; for SGD also the Lyapunov
    /// exponent and the edge of almost-sure stability.
    Threshold,
    /// As [`Self::Threshold`] for batches of every size; also the second moments of linearised SGD,
    /// simulated and exact, with and without momentum.
    Dynamics {
        /// Replicas of the simulation.
        replicas: usize,
    },
}

/// Factors of η* at which linearised SGD is simulated.
pub(crate) const FACTORS: [f64; 4] = [0.8, 0.95, 1.05, 1.2];
/// Heavy-ball momentum that is tried beside none.
pub(crate) const MOMENTUM: f64 = 0.9;
/// Steps at which simulated replicas are measured.
pub(crate) const SIMULATED_STEPS: [usize; 2] = [2, 20];
/// Steps at which exact second moments are recorded.
const EXACT_STEPS: [usize; 8] = [0, 1, 2, 5, 10, 20, 50, 100];

/// Thresholds and bounds of a minimum for one way of drawing batches, as learning rates; absent
/// where infinite.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the statements are documented in the ledger")]
pub struct BatchThresholds {
    /// Batch size B.
    pub batch_size: usize,
    /// The sampling.
    pub sampling: Sampling,
    /// The noise coefficient p.
    pub noise_coefficient: f64,
    /// Lower end of the exact threshold η*.
    pub threshold_lower: Option<f64>,
    /// Its upper end.
    pub threshold_upper: Option<f64>,
    pub s2: Option<f64>,
    pub s3: Option<f64>,
    pub s3_sharp: Option<f64>,
    pub s4: Option<f64>,
    pub s5: Option<f64>,
    pub s6: Option<f64>,
    pub s7: Option<f64>,
}

/// A Lyapunov exponent, as stored; the value is absent where it is −∞.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StoredExponent {
    /// Growth of ln ‖δ‖ per step.
    pub value: Option<f64>,
    /// Its standard error.
    pub standard_error: f64,
}

impl From<LyapunovExponent> for StoredExponent {
    fn from(exponent: LyapunovExponent) -> Self {
        let LyapunovExponent { value, standard_error, .. } = exponent;
        Self { value: finite(value), standard_error }
    }
}

/// The edge of almost-sure stability, as stored.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StoredEdge {
    /// A learning rate below the edge.
    pub lower: Option<f64>,
    /// A learning rate above the edge.
    pub upper: Option<f64>,
    /// True where both ends are decided by three standard errors.
    pub decided: bool,
}

impl From<AlmostSureEdge> for StoredEdge {
    fn from(edge: AlmostSureEdge) -> Self {
        Self {
            lower: finite(edge.lower.learning_rate),
            upper: finite(edge.upper.learning_rate),
            decided: edge.status != EdgeStatus::Undecided,
        }
    }
}

/// Almost-sure stability of a minimum: what a single run of SGD (B = 1) sees.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SingleRuns {
    /// The Lyapunov exponent at the learning rate of the run.
    pub exponent: StoredExponent,
    /// The edge of almost-sure stability.
    pub edge: StoredEdge,
}

/// Linearised SGD (B = 1) at one learning rate after some steps, relative to the start: V is the
/// Lyapunov function of S14 (absent with momentum), the start has second moment I.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SimulatedPoint {
    /// Steps done.
    pub step: usize,
    /// `E V(δ_t) / V(δ_0)`, exact.
    pub form: Option<f64>,
    /// `E‖δ_t‖² / E‖δ_0‖²`, exact.
    pub norm_squared: f64,
    /// `E V(δ_t) / V(δ_0)` over replicas that start from random signs in the eigenbasis of Y*.
    pub simulated_form: Option<ReplicaMean>,
    /// `(E‖δ_t‖² − E‖δ_0‖²) / r + 1` over replicas that start from N(0, I).
    pub simulated_norm_squared: Option<ReplicaMean>,
}

/// Linearised SGD (B = 1) at one multiple of the threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SimulatedDynamics {
    /// Heavy-ball momentum β.
    pub momentum: f64,
    /// The middle of the interval for η* with this momentum.
    pub threshold: f64,
    /// The learning rate is this times η*.
    pub factor: f64,
    /// The Lyapunov exponent there.
    pub exponent: StoredExponent,
    /// Second moments at a few steps.
    pub path: Vec<SimulatedPoint>,
}

/// All answers at one minimum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StabilityResult {
    /// Rank r of the Gauss–Newton matrix.
    pub rank: usize,
    /// Thresholds and bounds for every batch size and sampling; batches of one come first.
    pub batches: Vec<BatchThresholds>,
    /// Almost-sure stability; present where SGD led to the minimum.
    pub single_runs: Option<SingleRuns>,
    /// Linearised SGD; empty unless asked for.
    pub dynamics: Vec<SimulatedDynamics>,
    /// The almost-sure edge with momentum; absent unless asked for.
    pub momentum_edge: Option<StoredEdge>,
}

impl StabilityResult {
    /// Thresholds and bounds for batches of one.
    pub fn single(&self) -> Option<&BatchThresholds> {
        self.batches.first()
    }
}

impl BatchThresholds {
    /// The middle of the interval for η*; infinite where it is.
    pub fn threshold(&self) -> f64 {
        match (self.threshold_lower, self.threshold_upper) {
            (Some(lower), Some(upper)) => f64::midpoint(lower, upper),
            _ => f64::INFINITY,
        }
    }
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

impl StabilityStudy {
    /// Runs the study at `point`, where `method` with this learning rate came to rest.
    pub(super) fn run(
        self,
        point: &LinearisedPoint,
        method: Method,
        learning_rate: f64,
        seed: u64,
    ) -> Result<Option<StabilityResult>, CellError> {
        if self == Self::None {
            return Ok(None);
        }
        let minimum = point.minimum()?;
        let alignment = alignment(minimum)?;
        let batches = self
            .batches(minimum.sample_count())
            .filter_map(|(size, sampling)| {
                batch_study(minimum, &alignment, size, sampling).transpose()
            })
            .collect::<Result<Vec<_>, _>>()?;
        let single = Batch::new(1, Sampling::WithReplacement)?;
        let stable = batches.first().and_then(|study| study.threshold_lower);
        let mut result = StabilityResult {
            rank: minimum.eigenvalues().len(),
            batches,
            single_runs: None,
            dynamics: Vec::new(),
            momentum_edge: None,
        };
        if let (Method::Sgd { batch_size: 1, .. }, Some(stable)) = (method, stable) {
            let sgd = LinearisedSgd::new(minimum, &Optimizer::sgd(), &single, learning_rate)?;
            let exponent = lyapunov_exponent(&sgd, LyapunovOptions::with_seed(seed))?.into();
            let known_stable = Some(stable);
            let options = EdgeOptions { known_stable, ..EdgeOptions::with_seed(seed) };
            let edge = almost_sure_edge(minimum, &Optimizer::sgd(), &single, options)?.into();
            result.single_runs = Some(SingleRuns { exponent, edge });
        }
        if let (Self::Dynamics { replicas }, Some(_)) = (self, stable) {
            let form = lyapunov_function(minimum, &single, &ThresholdOptions::default())?.matrix;
            for momentum in [0.0, MOMENTUM] {
                let optimizer = Optimizer::sgd().momentum(momentum)?;
                let sgd = LinearisedSgd::new(minimum, &optimizer, &single, 0.0)?;
                result.dynamics.extend(dynamics(&sgd, &form, replicas, seed)?);
            }
            let optimizer = Optimizer::sgd().momentum(MOMENTUM)?;
            let edge =
                almost_sure_edge(minimum, &optimizer, &single, EdgeOptions::with_seed(seed))?;
            result.momentum_edge = Some(edge.into());
        }
        Ok(Some(result))
    }

    /// Batch sizes and samplings, batches of one first.
    fn batches(self, sample_count: usize) -> impl Iterator<Item = (usize, Sampling)> {
        let every = matches!(self, Self::Dynamics { .. });
        let sizes = [1, 2, 4, 8, 16, 64]
            .into_iter()
            .filter(move |size| every || [1, 8, 64].contains(size))
            .chain(every.then_some(sample_count))
            .filter(move |size| *size <= sample_count);
        let without = Some((Sampling::WithoutReplacement, 1));
        // With one sample a batch both samplings are the same.
        let with = every.then_some((Sampling::WithReplacement, 2));
        sizes.flat_map(move |size| {
            let samplings = without.into_iter().chain(with);
            samplings
                .filter_map(move |(sampling, least)| (size >= least).then_some((size, sampling)))
        })
    }
}

fn batch_study(
    minimum: &Minimum,
    alignment: &Alignment,
    batch_size: usize,
    sampling: Sampling,
) -> Result<Option<BatchThresholds>, CellError> {
    let Some(batch) = theory_batch(batch_size, sampling)? else { return Ok(None) };
    let noise = batch.noise(minimum.sample_count())?;
    let width = if batch_size == 1 { DEFAULT_RELATIVE_WIDTH } else { 1e-8 };
    let options = ThresholdOptions { relative_width: width, ..ThresholdOptions::default() };
    let Threshold { lower, upper, .. } =
        threshold_with(minimum, &Optimizer::sgd(), &batch, &options)?;
    let bounds = Bounds::new(minimum, alignment, noise);
    Ok(Some(BatchThresholds {
        batch_size,
        sampling,
        noise_coefficient: noise.coefficient,
        threshold_lower: finite(lower),
        threshold_upper: finite(upper),
        s2: finite(bounds.trace),
        s3: finite(bounds.frobenius_norm),
        s3_sharp: finite(bounds.sharp_frobenius_norm),
        s4: finite(bounds.centered_alignment),
        s5: finite(bounds.lambda_max),
        s6: finite(bounds.spectral),
        s7: finite(bounds.sufficient),
    }))
}

/// The dynamics of `sgd` at several learning rates, with the Lyapunov function `form` of its
/// minimum.
fn dynamics(
    sgd: &LinearisedSgd<'_>,
    form: &RowMatrix,
    replicas: usize,
    seed: u64,
) -> Result<Vec<SimulatedDynamics>, CellError> {
    let (minimum, momentum) = (sgd.minimum(), sgd.optimizer().momentum_coefficient());
    let plain = momentum <= 0.0;
    let rank = minimum.eigenvalues().len() as f64;
    let threshold = threshold(minimum, sgd.optimizer(), sgd.batch())?.midpoint();
    let trace: f64 = (0..form.rows()).map(|k| form.row(k)[k]).sum();
    let rates = FACTORS.map(|factor| factor * threshold);
    let run = |start, replicas| {
        let options = SimulationOptions { replicas, steps: &SIMULATED_STEPS, start, seed };
        simulate_at(sgd, &rates, form, options)
    };
    let signs = if plain { run(Start::Signs, replicas)? } else { vec![Vec::new(); rates.len()] };
    let gaussian = run(Start::Gaussian, (replicas / 4).max(2))?;
    let mut studies = Vec::new();
    for (index, factor) in FACTORS.into_iter().enumerate() {
        let sgd = sgd.with_learning_rate(rates[index])?;
        let mut moments = SecondMoments::new(&sgd)?;
        let mut path = Vec::new();
        for step in EXACT_STEPS {
            while moments.steps() < step {
                moments.step();
            }
            let mean = |change: ReplicaMean, scale: f64| ReplicaMean {
                value: 1.0 + change.value / scale,
                standard_error: change.standard_error / scale,
            };
            let signs = signs[index].iter().find(|snapshot| snapshot.step == step);
            let gaussian = gaussian[index].iter().find(|snapshot| snapshot.step == step);
            path.push(SimulatedPoint {
                step,
                form: if plain { Some(moments.quadratic_form(form)? / trace) } else { None },
                norm_squared: moments.norm_squared() / rank,
                simulated_form: signs.map(|s| mean(s.form_change, trace)),
                simulated_norm_squared: gaussian.map(|s| mean(s.norm_squared_change, rank)),
            });
        }
        let exponent = lyapunov_exponent(&sgd, LyapunovOptions::with_seed(seed))?.into();
        studies.push(SimulatedDynamics { momentum, threshold, factor, exponent, path });
    }
    Ok(studies)
}
