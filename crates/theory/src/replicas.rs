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

use crate::moments::symmetric_part;
use crate::stepper::{State, Stepper};
use crate::{LinearisedSgd, TheoryError};

/// Replicas that share a random stream and move together: enough independent products for the
/// processor to overlap, few enough that their states stay in the cache.
const BLOCK: usize = 16;

/// Most steps whose batches are held at a time.
const MOST_DRAWN: usize = 64;

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
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
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
    Ok(run(std::slice::from_ref(sgd), form, options)?.swap_remove(0))
}

/// As [`simulate`] for each of several learning rates in place of that of `sgd`, with the same bits.
///
/// The starts and batches are the same at every rate, and are drawn once, like the way into the
/// eigenbasis of Y is gone once.
///
/// # Errors
/// As [`simulate`]; [`TheoryError::LearningRate`] as [`LinearisedSgd::new`].
pub fn simulate_at(
    sgd: &LinearisedSgd<'_>,
    learning_rates: &[f64],
    form: &RowMatrix,
    options: SimulationOptions<'_>,
) -> Result<Vec<Vec<Snapshot>>, TheoryError> {
    let rates = learning_rates.iter();
    let sgds: Result<Vec<_>, _> = rates.map(|rate| sgd.with_learning_rate(*rate)).collect();
    run(&sgds?, form, options)
}

/// Simulates each of `sgds`, which differ in the learning rate only.
fn run(
    sgds: &[LinearisedSgd<'_>],
    form: &RowMatrix,
    options: SimulationOptions<'_>,
) -> Result<Vec<Vec<Snapshot>>, TheoryError> {
    let SimulationOptions { replicas, start, seed, .. } = options;
    if replicas < 2 {
        let what = "the number of replicas";
        return Err(TheoryError::TooFew { what, got: replicas, least: 2 });
    }
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
    let mut room = simulation.room(BLOCK.min(replicas));
    for first in (0..replicas).step_by(BLOCK) {
        let rng = stream(seed, "linearised SGD replicas", (first / BLOCK) as u64);
        simulation.block(BLOCK.min(replicas - first), rng, &mut room, &mut totals);
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
    /// The eigenvalues of the form, filled up with zeros like a position.
    weights: AlignedVec,
    start: Start,
    /// Ascending, distinct.
    steps: Vec<usize>,
}

impl Simulation<'_> {
    /// Runs `count` replicas and adds what a [`Snapshot`] holds to `totals`, rate by rate and step by
    /// step.
    fn block(
        &mut self,
        count: usize,
        mut rng: Stream,
        room: &mut Room,
        totals: &mut [Vec<[Tally; 4]>],
    ) {
        for start in &mut room.starts[..count] {
            self.start(&mut rng, start);
        }
        let starts = &room.starts[..count];
        let measured: Vec<[f64; 2]> = starts.iter().map(|state| self.measure(state)).collect();
        for states in &mut room.states {
            states.truncate(count);
            for (state, start) in states.iter_mut().zip(starts) {
                state.copy_from(start);
            }
        }
        let mut done = 0;
        for index in 0..self.steps.len() {
            while done < self.steps[index] {
                let more = MOST_DRAWN.min(self.steps[index] - done);
                self.stepper.draw(more, count, |_, sampler, samples| {
                    sampler.draw(&mut rng, samples);
                });
                self.stepper.advance_at(self.sgds, &mut room.states);
                done += more;
            }
            for (states, totals) in room.states.iter().zip(&mut *totals) {
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

    /// Room for blocks of at most so many replicas, the last of which may be smaller.
    fn room(&self, count: usize) -> Room {
        let states = || (0..count).map(|_| self.stepper.state()).collect();
        Room { starts: states(), states: self.sgds.iter().map(|_| states()).collect() }
    }

    /// Puts a replica to its start.
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

/// Independent signs, a random bit each.
fn random_signs(rng: &mut Stream, signs: &mut [f64]) {
    for some in signs.chunks_mut(64) {
        let mut bits: u64 = rng.random();
        for x in some {
            // A product instead of a branch, which would be mispredicted every other time.
            *x = 2.0 * f64::from(u8::from(bits & 1 == 1)) - 1.0;
            bits >>= 1;
        }
    }
}

/// Room for the replicas of a block.
struct Room {
    starts: Vec<State>,
    /// For each learning rate.
    states: Vec<Vec<State>>,
}

/// `Σ y_k x_k²` and `Σ x_k²`, in one pass.
struct Measure<'a> {
    /// Of the length of the position, which is filled up with zeros.
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
    use flatmin_linalg::{RowMatrix, stream};

    use super::{MOST_DRAWN, SimulationOptions, Start, Tally, random_signs, simulate, simulate_at};
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
    fn signs_are_independent() {
        const DRAWS: i32 = 10_000;
        let mut rng = stream(0, "signs test", 0);
        let mut signs = [0.0; 130];
        // Of each sign, and of its product with the next one and with that of the next word.
        let mut sums = [[0.0; 3]; 130];
        for _ in 0..DRAWS {
            random_signs(&mut rng, &mut signs);
            for (k, [alone, next, word]) in sums.iter_mut().enumerate() {
                *alone += signs[k];
                *next += signs[k] * signs[(k + 1) % 130];
                *word += signs[k] * signs[(k + 64) % 130];
            }
        }
        // 390 sums of standard deviation 100: five of them are exceeded once in 4000 runs.
        assert!(signs.iter().all(|sign| (sign.abs() - 1.0).abs() <= 0.0));
        assert!(sums.as_flattened().iter().all(|sum| sum.abs() < 500.0), "{sums:?}");
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
    fn learning_rates_together_have_the_bits_of_each_on_its_own() {
        let jacobian = RowMatrix::from_fn(19, 11, |i, k| {
            ((i * 37 + k * k * 11 + i * i * k) % 103) as f64 / 50.0 - 1.0
        });
        let minimum = Minimum::new(&jacobian).unwrap();
        assert_eq!(minimum.eigenvalues().len(), 11);
        let form = RowMatrix::from_fn(11, 11, |i, k| if i == k { 2.0 + i as f64 } else { 0.3 });
        // Batches without replacement: the order that one leaves is where the next one starts.
        for (size, sampling, momentum) in [
            (1, Sampling::WithReplacement, 0.0),
            (1, Sampling::WithReplacement, 0.9),
            (3, Sampling::WithoutReplacement, 0.0),
        ] {
            let batch = Batch::new(size, sampling).unwrap();
            let sgd = LinearisedSgd::new(&minimum, batch, 0.5).unwrap();
            let sgd = sgd.with_momentum(momentum).unwrap();
            for start in [Start::Signs, Start::Gaussian] {
                let steps = &[3, MOST_DRAWN + 5];
                let options = SimulationOptions { steps, start, ..OPTIONS };
                // Four that share rows, and one on its own.
                let rates = [0.001, 0.002, 0.005, 0.003, 0.004];
                let together = simulate_at(&sgd, &rates, &form, options).unwrap();
                let alone = rates.map(|rate| {
                    simulate(&sgd.with_learning_rate(rate).unwrap(), &form, options).unwrap()
                });
                assert_eq!(together, alone);
                assert_ne!(together[0], together[1]);
            }
        }
        let sgd =
            LinearisedSgd::new(&minimum, Batch::new(1, Sampling::WithReplacement).unwrap(), 0.0);
        let sgd = sgd.unwrap();
        assert_eq!(simulate_at(&sgd, &[], &form, OPTIONS), Ok(Vec::new()));
        let error = simulate_at(&sgd, &[0.1, -1.0], &form, OPTIONS).unwrap_err();
        assert_eq!(error, TheoryError::LearningRate { value: -1.0 });
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
