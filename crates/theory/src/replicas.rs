//! Many independent runs of linearised SGD.

use flatmin_linalg::{RowMatrix, Stream, product, simd, stream, symmetric_eigen};
use rand::RngExt as _;
use rand_distr::{Distribution as _, StandardNormal};

use crate::moments::symmetric_part;
use crate::stepper::{State, Stepper};
use crate::{LinearisedSgd, TheoryError};

/// Replicas that share a random stream and move together: enough independent products for the
/// processor to overlap, few enough that their states stay in the cache.
const BLOCK: usize = 16;

/// Where the replicas start, at rest. Both have `E[δδᵀ] = I` on range(G).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// `δ = Σ_k ±e_k` with independent signs, `e_k` the orthonormal eigenvectors of the quadratic
    /// form. Every replica has `δᵀYδ = tr Y` and `‖δ‖² = r` exactly.
    Signs,
    /// `δ ~ N(0, I)`.
    Gaussian,
}

/// What to simulate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SimulationOptions<'a> {
    /// Number of independent runs, at least 2.
    pub replicas: usize,
    /// Steps after which to record, in any order.
    pub steps: &'a [usize],
    /// Where they start.
    pub start: Start,
    /// Seed of start and batches.
    pub seed: u64,
}

/// A mean over replicas with its standard error, `√(sample variance / replicas)`.
///
/// Both are infinite when a replica has overflowed. Powers of δ are heavy-tailed after many steps:
/// the rare replicas that carry the expectation may all be missing, and then the standard error
/// does not know.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReplicaMean {
    /// The mean.
    pub value: f64,
    /// Its standard error.
    pub standard_error: f64,
}

/// The replicas after some steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Snapshot {
    /// Number of steps t.
    pub step: usize,
    /// `δ_tᵀYδ_t`.
    pub form: ReplicaMean,
    /// `δ_tᵀYδ_t − δ_0ᵀYδ_0`, replica by replica.
    pub form_change: ReplicaMean,
    /// `‖δ_t‖²`.
    pub norm_squared: ReplicaMean,
    /// `‖δ_t‖² − ‖δ_0‖²`, replica by replica.
    pub norm_squared_change: ReplicaMean,
}

/// Simulates linearised SGD and returns the replicas' means at the steps asked for, ascending.
///
/// `form` is a symmetric r × r matrix Y in the eigenbasis of G (of any other matrix the symmetric
/// part is meant), such as the Lyapunov function of theory S14. The simulation runs in the
/// eigenbasis of Y, where start and form cost O(r): O(n r² + r³) to get there, then O(B r) for a
/// step of a replica. Results do not depend on anything but the arguments. Beside it, exact:
/// [`SecondMoments`](crate::SecondMoments).
///
/// # Errors
/// [`TheoryError::TooFew`] for fewer than 2 replicas; [`TheoryError::Length`] or
/// [`TheoryError::MatrixNotFinite`] for a form of the wrong shape or with a bad entry; or its
/// eigenproblem fails.
pub fn simulate(
    sgd: &LinearisedSgd<'_>,
    form: &RowMatrix,
    options: SimulationOptions<'_>,
) -> Result<Vec<Snapshot>, TheoryError> {
    let SimulationOptions { replicas, start, seed, .. } = options;
    if replicas < 2 {
        let what = "the number of replicas";
        return Err(TheoryError::TooFew { what, got: replicas, least: 2 });
    }
    let (_, eigenvalues, rows) = sgd.minimum().scaled();
    let (n, rank) = (rows.rows(), eigenvalues.len());
    let eigen = symmetric_eigen(symmetric_part("the quadratic form", form, rank)?.as_ref())?;
    let rotated = product(rows.as_mat(), eigen.vectors.as_ref());
    let rotated = RowMatrix::from_fn(n, rank, |i, k| rotated[(i, k)]);

    let mut steps = options.steps.to_vec();
    steps.sort_unstable();
    steps.dedup();
    let mut simulation = Simulation {
        stepper: Stepper::new(sgd, rotated.values(), rank),
        weights: eigen.values,
        start,
        steps,
    };
    let mut totals = vec![[Tally::default(); 4]; simulation.steps.len()];
    for first in (0..replicas).step_by(BLOCK) {
        let rng = stream(seed, "linearised SGD replicas", (first / BLOCK) as u64);
        let block = simulation.block(BLOCK.min(replicas - first), rng);
        for (total, block) in totals.iter_mut().flatten().zip(block.iter().flatten()) {
            total.merge(block);
        }
    }
    let snapshots = simulation.steps.iter().zip(totals).map(|(step, total)| {
        let [form, form_change, norm_squared, norm_squared_change] = total.map(Tally::replica_mean);
        Snapshot { step: *step, form, form_change, norm_squared, norm_squared_change }
    });
    Ok(snapshots.collect())
}

/// A simulation in the eigenbasis of the form.
struct Simulation {
    stepper: Stepper,
    /// The eigenvalues of the form.
    weights: Vec<f64>,
    start: Start,
    /// Ascending, distinct.
    steps: Vec<usize>,
}

impl Simulation {
    /// Runs `count` replicas and sums up what a [`Snapshot`] holds, step by step.
    fn block(&mut self, count: usize, mut rng: Stream) -> Vec<[Tally; 4]> {
        let rank = self.weights.len();
        let mut states: Vec<State> = (0..count)
            .map(|_| {
                let mut state = self.stepper.state();
                for x in &mut state.position[..rank] {
                    *x = match self.start {
                        Start::Signs if rng.random::<bool>() => 1.0,
                        Start::Signs => -1.0,
                        Start::Gaussian => StandardNormal.sample(&mut rng),
                    };
                }
                state
            })
            .collect();
        let starts: Vec<[f64; 2]> = states.iter().map(|state| self.measure(state)).collect();
        let mut done = 0;
        let mut out = Vec::with_capacity(self.steps.len());
        for index in 0..self.steps.len() {
            let more = self.steps[index] - done;
            self.stepper.advance(&mut states, more, |_, sampler, samples| {
                sampler.draw(&mut rng, samples);
            });
            done += more;
            let mut tallies = [Tally::default(); 4];
            for (state, [form_start, norm_start]) in states.iter().zip(&starts) {
                let [form, norm] = self.measure(state);
                let values = [form, form - form_start, norm, norm - norm_start];
                for (tally, value) in tallies.iter_mut().zip(values) {
                    tally.push(value);
                }
            }
            out.push(tallies);
        }
        out
    }

    /// `δᵀYδ` and `‖δ‖²`.
    fn measure(&self, state: &State) -> [f64; 2] {
        let position = &state.position[..self.weights.len()];
        let weighted: Vec<f64> = self.weights.iter().zip(position).map(|(y, x)| y * x).collect();
        [simd::dot(&weighted, position), simd::norm_squared(position)]
    }
}

/// Count, mean and sum of squared deviations, updated without cancellation.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    count: f64,
    mean: f64,
    squares: f64,
    overflowed: bool,
}

impl Tally {
    pub(crate) fn push(&mut self, value: f64) {
        self.merge(&Self { count: 1.0, mean: value, squares: 0.0, overflowed: !value.is_finite() });
    }

    fn merge(&mut self, other: &Self) {
        let count = self.count + other.count;
        let difference = other.mean - self.mean;
        self.mean += difference * (other.count / count);
        self.squares +=
            other.squares + difference * difference * (self.count * other.count / count);
        self.count = count;
        self.overflowed |= other.overflowed;
    }

    pub(crate) fn replica_mean(self) -> ReplicaMean {
        if self.overflowed || !self.squares.is_finite() {
            return ReplicaMean { value: f64::INFINITY, standard_error: f64::INFINITY };
        }
        let variance = self.squares / (self.count - 1.0);
        ReplicaMean { value: self.mean, standard_error: (variance / self.count).sqrt() }
    }
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::RowMatrix;

    use super::{SimulationOptions, Start, Tally, simulate};
    use crate::{Batch, LinearisedSgd, Minimum, Sampling, TheoryError};

    const OPTIONS: SimulationOptions<'_> =
        SimulationOptions { replicas: 40, steps: &[3, 0, 3], start: Start::Signs, seed: 0 };

    #[test]
    fn a_tally_knows_mean_and_spread_of_all_values() {
        let mut all = Tally::default();
        for value in [1e9 + 1.0, 1e9 + 2.0, 1e9 + 3.0, 1e9 + 6.0] {
            all.push(value);
        }
        let mean = all.replica_mean();
        assert!((mean.value - (1e9 + 3.0)).abs() < 1e-6);
        assert!((mean.standard_error - (14.0_f64 / 3.0 / 4.0).sqrt()).abs() < 1e-6);
        all.push(f64::INFINITY);
        assert!(all.replica_mean().standard_error.is_infinite());
    }

    #[test]
    fn steps_come_out_ascending_and_once() {
        let minimum = Minimum::new(&RowMatrix::new(2, 1, vec![1.0, 3.0]).unwrap()).unwrap();
        let batch = Batch::new(1, Sampling::WithReplacement).unwrap();
        let sgd = LinearisedSgd::new(&minimum, batch, 0.1).unwrap();
        let form = RowMatrix::new(1, 1, vec![2.0]).unwrap();
        let snapshots = simulate(&sgd, &form, OPTIONS).unwrap();
        assert_eq!(snapshots.iter().map(|s| s.step).collect::<Vec<_>>(), [0, 3]);
        // Every replica starts at ±1.
        assert_eq!(snapshots[0].form.value.to_bits(), 2.0_f64.to_bits());
        assert_eq!(snapshots[0].form.standard_error.to_bits(), 0);
        assert_eq!(snapshots[0].form_change.value.to_bits(), 0);
        let ratio = snapshots[1].form.value / snapshots[1].norm_squared.value;
        assert!((ratio - 2.0).abs() < 1e-15);
    }

    #[test]
    fn bad_settings_are_refused_and_flat_minima_stay() {
        let minimum = Minimum::new(&RowMatrix::zeros(2, 3)).unwrap();
        let batch = Batch::new(1, Sampling::WithReplacement).unwrap();
        let sgd = LinearisedSgd::new(&minimum, batch, 0.1).unwrap();
        let form = RowMatrix::zeros(0, 0);
        let error = simulate(&sgd, &form, SimulationOptions { replicas: 1, ..OPTIONS });
        let what = "the number of replicas";
        assert_eq!(error, Err(TheoryError::TooFew { what, got: 1, least: 2 }));
        assert!(simulate(&sgd, &RowMatrix::zeros(1, 1), OPTIONS).is_err());
        let snapshots = simulate(&sgd, &form, OPTIONS).unwrap();
        assert_eq!(snapshots[1].norm_squared.value.to_bits(), 0);
    }

    #[test]
    fn an_overflow_is_infinite_not_nan() {
        let minimum = Minimum::new(&RowMatrix::new(1, 1, vec![1.0]).unwrap()).unwrap();
        let batch = Batch::new(1, Sampling::WithReplacement).unwrap();
        let sgd = LinearisedSgd::new(&minimum, batch, 1e30).unwrap();
        let form = RowMatrix::new(1, 1, vec![1.0]).unwrap();
        let options = SimulationOptions { steps: &[12], ..OPTIONS };
        let snapshot = simulate(&sgd, &form, options).unwrap()[0];
        assert!(snapshot.form_change.value.is_infinite());
        assert!(snapshot.norm_squared.standard_error.is_infinite());
    }
}
