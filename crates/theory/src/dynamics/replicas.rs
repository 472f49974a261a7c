//! Many independent runs of linearised SGD.

#![expect(
    clippy::inline_always,
    reason = "a kernel that is not inlined loses the instruction set it was dispatched to"
)]

use flatmin_linalg::simd::{AlignedVec, LANES, Lanes};
use flatmin_linalg::{RowMatrix, Stream, product, simd, stream, symmetric_eigen};
use pulp::{Simd, WithSimd};
use rand::RngExt as _;
use rand_distr::{Distribution as _, StandardNormal};

use super::linearised::LinearisedSgd;
use super::moments::symmetric_part;
use super::stepper::{State, Stepper};
use super::tally::{ReplicaMean, Tally};
use crate::SimulationError;

/// The purpose of the random streams, one for each block of replicas.
const REPLICA_STREAM: &str = "linearised SGD replicas";

/// The number of replicas that share a random stream and move together. Their independent products
/// overlap in the processor, and their states fit into the cache.
const REPLICA_BLOCK: usize = 16;

/// The largest number of steps whose batches are drawn ahead.
const MAX_DRAWN_STEPS: usize = 64;

/// The distribution of the starts of the replicas, at rest. Both have `E[δδᵀ] = I` on range(G).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// `δ = Σ_k ±e_k` with independent signs, `e_k` the orthonormal eigenvectors of the quadratic
    /// form. Every replica has `δᵀYδ = tr Y` and `‖δ‖² = r` exactly.
    Signs,
    /// `δ ~ N(0, I)`.
    Gaussian,
}

/// The settings of a simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SimulationOptions<'a> {
    /// Number of independent runs, at least 2.
    pub replicas: usize,
    /// The steps after which the means are recorded, in any order.
    pub steps: &'a [usize],
    /// The distribution of the starts.
    pub start: Start,
    /// Seed of the starts and batches.
    pub seed: u64,
}

/// Means over the replicas after some steps.
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

/// Simulates linearised SGD and returns means over the replicas at the requested steps, in
/// ascending order.
///
/// `form` is an r × r matrix Y in the eigenbasis of G, such as the Lyapunov function of theory S14;
/// only its symmetric part counts. The simulation runs in the eigenbasis of Y, where starts and
/// forms cost O(r). The change of basis costs O(n r² + r³), a step of a replica O(B r). The results
/// depend on the arguments alone. For independent batches
/// [`SecondMoments`](crate::SecondMoments) are the exact expectations. Reshuffled replicas begin a
/// new epoch at step 0, each in an order of its own; the requested steps may lie within an epoch.
///
/// # Errors
/// [`SimulationError::TooFew`] for fewer than 2 replicas; [`SimulationError::Shape`] or
/// [`SimulationError::NotFinite`] for a form of the wrong shape or with a bad entry;
/// [`SimulationError::Eigen`] when its eigenproblem fails.
pub fn simulate(
    sgd: &LinearisedSgd<'_>,
    form: &RowMatrix,
    options: SimulationOptions<'_>,
) -> Result<Vec<Snapshot>, SimulationError> {
    Ok(run(std::slice::from_ref(sgd), form, options)?.swap_remove(0))
}

/// Runs [`simulate`] at each of several learning rates in place of the one of `sgd`. The results
/// have the same bits as separate calls.
///
/// The starts and batches are the same at every rate. They are drawn once, and the eigenbasis of Y
/// is computed once.
///
/// # Errors
/// The errors of [`simulate`], and [`SimulationError::LearningRate`] under the conditions of
/// [`LinearisedSgd::new`].
pub fn simulate_at(
    sgd: &LinearisedSgd<'_>,
    learning_rates: &[f64],
    form: &RowMatrix,
    options: SimulationOptions<'_>,
) -> Result<Vec<Vec<Snapshot>>, SimulationError> {
    let rates = learning_rates.iter();
    let sgds: Result<Vec<_>, _> = rates.map(|rate| sgd.with_learning_rate(*rate)).collect();
    run(&sgds?, form, options)
}

/// Simulates each of `sgds`, which differ in the learning rate alone.
fn run(
    sgds: &[LinearisedSgd<'_>],
    form: &RowMatrix,
    options: SimulationOptions<'_>,
) -> Result<Vec<Vec<Snapshot>>, SimulationError> {
    let SimulationOptions { replicas, start, seed, .. } = options;
    SimulationError::check(&[("the number of replicas", replicas, 2)])?;
    let Some(sgd) = sgds.first() else { return Ok(Vec::new()) };
    let (_, eigenvalues, rows) = sgd.minimum().scaled();
    let (n, rank) = (rows.rows(), eigenvalues.len());
    let eigen = symmetric_eigen(symmetric_part("the quadratic form", form, rank)?.as_ref())?;
    let rotated = product(rows.as_mat(), eigen.vectors.as_ref());
    let rotated = RowMatrix::from_fn(n, rank, |i, k| rotated[(i, k)]);

    let mut steps = options.steps.to_vec();
    steps.sort_unstable();
    steps.dedup();
    let mut weights = AlignedVec::zeros(simd::padded(rank));
    weights[..rank].copy_from_slice(&eigen.values);
    let mut simulation = Simulation {
        sgds,
        stepper: Stepper::new(sgd, rotated.values(), rank),
        rank,
        weights,
        start,
        steps,
    };
    let mut totals = vec![vec![[Tally::default(); 4]; simulation.steps.len()]; sgds.len()];
    let mut storage = simulation.replicas(REPLICA_BLOCK.min(replicas));
    for first in (0..replicas).step_by(REPLICA_BLOCK) {
        let rng = stream(seed, REPLICA_STREAM, (first / REPLICA_BLOCK) as u64);
        simulation.block(REPLICA_BLOCK.min(replicas - first), rng, &mut storage, &mut totals);
    }
    let snapshots = |totals: Vec<[Tally; 4]>| {
        let snapshot = |(step, total): (&usize, [Tally; 4])| {
            let [form, form_change, norm_squared, norm_squared_change] =
                total.map(Tally::replica_mean);
            Snapshot { step: *step, form, form_change, norm_squared, norm_squared_change }
        };
        simulation.steps.iter().zip(totals).map(snapshot).collect()
    };
    Ok(totals.into_iter().map(snapshots).collect())
}

/// A simulation in the eigenbasis of the form.
struct Simulation<'a> {
    sgds: &'a [LinearisedSgd<'a>],
    stepper: Stepper,
    rank: usize,
    /// The eigenvalues of the form, padded with zeros like a position.
    weights: AlignedVec,
    start: Start,
    /// The steps after which means are recorded, ascending and distinct.
    steps: Vec<usize>,
}

impl Simulation<'_> {
    /// Runs `count` replicas and adds the four quantities of a [`Snapshot`] to `totals`, rate by
    /// rate and step by step.
    fn block(
        &mut self,
        count: usize,
        mut rng: Stream,
        replicas: &mut Replicas,
        totals: &mut [Vec<[Tally; 4]>],
    ) {
        for start in &mut replicas.starts[..count] {
            self.start(&mut rng, start);
        }
        let starts = &replicas.starts[..count];
        let measured: Vec<[f64; 2]> = starts.iter().map(|state| self.measure(state)).collect();
        for states in &mut replicas.states {
            states.truncate(count);
            for (state, start) in states.iter_mut().zip(starts) {
                state.copy_from(start);
            }
        }
        // The replicas of the block before may have stopped within an epoch.
        self.stepper.restart();
        let mut done = 0;
        for index in 0..self.steps.len() {
            while done < self.steps[index] {
                let more = MAX_DRAWN_STEPS.min(self.steps[index] - done);
                self.stepper.draw(more, count, |replica, sampler, samples| {
                    sampler.draw(replica, &mut rng, samples);
                });
                self.stepper.advance_at(self.sgds, &mut replicas.states);
                done += more;
            }
            for (states, totals) in replicas.states.iter().zip(&mut *totals) {
                let mut tallies = [Tally::default(); 4];
                for (state, [form_start, norm_start]) in states.iter().zip(&measured) {
                    let [form, norm] = self.measure(state);
                    let values = [form, form - form_start, norm, norm - norm_start];
                    for (tally, value) in tallies.iter_mut().zip(values) {
                        tally.push(value);
                    }
                }
                for (total, tally) in totals[index].iter_mut().zip(&tallies) {
                    total.merge(tally);
                }
            }
        }
    }

    /// Storage for blocks of at most `count` replicas.
    fn replicas(&self, count: usize) -> Replicas {
        let states = || (0..count).map(|_| self.stepper.state()).collect();
        Replicas { starts: states(), states: self.sgds.iter().map(|_| states()).collect() }
    }

    /// Moves a replica to its start.
    fn start(&self, rng: &mut Stream, state: &mut State) {
        let position = &mut state.position[..self.rank];
        match self.start {
            Start::Signs => random_signs(rng, position),
            Start::Gaussian => {
                for x in position {
                    *x = StandardNormal.sample(rng);
                }
            }
        }
    }

    /// `δᵀYδ` and `‖δ‖²`.
    fn measure(&self, state: &State) -> [f64; 2] {
        simd::arch().dispatch(Measure { weights: &self.weights, position: &state.position })
    }
}

/// Writes independent signs, each from one random bit.
fn random_signs(rng: &mut Stream, signs: &mut [f64]) {
    for some in signs.chunks_mut(64) {
        let mut bits: u64 = rng.random();
        for x in some {
            // Arithmetic instead of a branch, which would be mispredicted every other time.
            *x = 2.0 * f64::from(u8::from(bits & 1 == 1)) - 1.0;
            bits >>= 1;
        }
    }
}

/// The replicas of a block.
struct Replicas {
    starts: Vec<State>,
    /// The current states at each learning rate.
    states: Vec<Vec<State>>,
}

/// `Σ y_k x_k²` and `Σ x_k²`, in one pass.
struct Measure<'a> {
    /// The weights, as long as the position; both are padded with zeros.
    weights: &'a [f64],
    position: &'a [f64],
}

impl WithSimd for Measure<'_> {
    type Output = [f64; 2];

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> [f64; 2] {
        let (weights, position) =
            (S::as_simd_f64s(self.weights).0, S::as_simd_f64s(self.position).0);
        let registers = position.len();
        let weights = &weights[..registers];
        let mut sums = [Lanes::splat(simd, 0.0); 2];
        let group = LANES / S::F64_LANES;
        let mut i = 0;
        while i < registers {
            for lane in 0..group {
                let (y, x) = (weights[i + lane], position[i + lane]);
                sums[0].accumulate(simd, lane, simd.mul_f64s(y, x), x);
                sums[1].accumulate(simd, lane, x, x);
            }
            i += group;
        }
        sums.map(|sum| sum.sum(simd))
    }
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::{RowMatrix, stream};

    use super::{MAX_DRAWN_STEPS, SimulationOptions, Start, random_signs, simulate, simulate_at};
    use crate::{Batch, LinearisedSgd, Minimum, Optimizer, Sampling, SimulationError};

    const OPTIONS: SimulationOptions<'_> =
        SimulationOptions { replicas: 40, steps: &[3, 0, 3], start: Start::Signs, seed: 0 };

    #[test]
    fn signs_are_independent() {
        const DRAWS: i32 = 10_000;
        let mut rng = stream(0, "signs test", 0);
        let mut signs = [0.0; 130];
        // Sums of each sign, of its product with the next sign, and of its product with the same
        // sign of the next word.
        let mut sums = [[0.0; 3]; 130];
        for _ in 0..DRAWS {
            random_signs(&mut rng, &mut signs);
            for (k, [alone, next, word]) in sums.iter_mut().enumerate() {
                *alone += signs[k];
                *next += signs[k] * signs[(k + 1) % 130];
                *word += signs[k] * signs[(k + 64) % 130];
            }
        }
        // These are 390 sums of standard deviation 100. One of them exceeds five standard
        // deviations once in 4000 runs.
        assert!(signs.iter().all(|sign| (sign.abs() - 1.0).abs() <= 0.0));
        assert!(sums.as_flattened().iter().all(|sum| sum.abs() < 500.0), "{sums:?}");
    }

    #[test]
    fn steps_come_out_ascending_and_once() {
        let minimum = Minimum::new(&RowMatrix::new(2, 1, vec![1.0, 3.0]).unwrap()).unwrap();
        let batch = Batch::new(1, Sampling::WithReplacement).unwrap();
        let sgd = LinearisedSgd::new(&minimum, &Optimizer::sgd(), &batch, 0.1).unwrap();
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
    fn learning_rates_together_have_the_bits_of_each_on_its_own() {
        let jacobian = RowMatrix::from_fn(19, 11, |i, k| {
            ((i * 37 + k * k * 11 + i * i * k) % 103) as f64 / 50.0 - 1.0
        });
        let minimum = Minimum::new(&jacobian).unwrap();
        assert_eq!(minimum.eigenvalues().len(), 11);
        let form = RowMatrix::from_fn(11, 11, |i, k| if i == k { 2.0 + i as f64 } else { 0.3 });
        // Without replacement, the next batch starts from the order that the previous batch left.
        for (size, sampling, momentum) in [
            (1, Sampling::WithReplacement, 0.0),
            (1, Sampling::WithReplacement, 0.9),
            (3, Sampling::WithoutReplacement, 0.0),
        ] {
            let batch = Batch::new(size, sampling).unwrap();
            let optimizer = Optimizer::sgd().momentum(momentum).unwrap();
            let sgd = LinearisedSgd::new(&minimum, &optimizer, &batch, 0.5).unwrap();
            for start in [Start::Signs, Start::Gaussian] {
                let steps = &[3, MAX_DRAWN_STEPS + 5];
                let options = SimulationOptions { steps, start, ..OPTIONS };
                // Four rates that share rows, and one on its own.
                let rates = [0.001, 0.002, 0.005, 0.003, 0.004];
                let together = simulate_at(&sgd, &rates, &form, options).unwrap();
                let alone = rates.map(|rate| {
                    simulate(&sgd.with_learning_rate(rate).unwrap(), &form, options).unwrap()
                });
                assert_eq!(together, alone);
                assert_ne!(together[0], together[1]);
            }
        }
        let batch = Batch::new(1, Sampling::WithReplacement).unwrap();
        let sgd = LinearisedSgd::new(&minimum, &Optimizer::sgd(), &batch, 0.0).unwrap();
        assert_eq!(simulate_at(&sgd, &[], &form, OPTIONS), Ok(Vec::new()));
        let error = simulate_at(&sgd, &[0.1, -1.0], &form, OPTIONS).unwrap_err();
        assert_eq!(error, SimulationError::LearningRate { value: -1.0 });
    }

    #[test]
    fn bad_settings_are_refused_and_flat_minima_stay() {
        let minimum = Minimum::new(&RowMatrix::zeros(2, 3)).unwrap();
        let batch = Batch::new(1, Sampling::WithReplacement).unwrap();
        let sgd = LinearisedSgd::new(&minimum, &Optimizer::sgd(), &batch, 0.1).unwrap();
        let form = RowMatrix::zeros(0, 0);
        let error = simulate(&sgd, &form, SimulationOptions { replicas: 1, ..OPTIONS });
        let what = "the number of replicas";
        assert_eq!(error, Err(SimulationError::TooFew { what, got: 1, least: 2 }));
        assert!(simulate(&sgd, &RowMatrix::zeros(1, 1), OPTIONS).is_err());
        let snapshots = simulate(&sgd, &form, OPTIONS).unwrap();
        assert_eq!(snapshots[1].norm_squared.value.to_bits(), 0);
    }

    #[test]
    fn an_overflow_is_infinite_not_nan() {
        let minimum = Minimum::new(&RowMatrix::new(1, 1, vec![1.0]).unwrap()).unwrap();
        let batch = Batch::new(1, Sampling::WithReplacement).unwrap();
        let sgd = LinearisedSgd::new(&minimum, &Optimizer::sgd(), &batch, 1e30).unwrap();
        let form = RowMatrix::new(1, 1, vec![1.0]).unwrap();
        let options = SimulationOptions { steps: &[12], ..OPTIONS };
        let snapshot = simulate(&sgd, &form, options).unwrap()[0];
        assert!(snapshot.form_change.value.is_infinite());
        assert!(snapshot.norm_squared.standard_error.is_infinite());
    }
}
