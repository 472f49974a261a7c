//! The random step of linearised SGD.

#![expect(
    clippy::inline_always,
    reason = "a kernel that is not inlined loses the instruction set it was dispatched to"
)]

use flatmin_linalg::simd::{self, AlignedVec, LANES, Lanes};
use pulp::{Simd, WithSimd};
use rand::{Rng, RngExt as _};

use super::linearised::LinearisedSgd;
use crate::{Batch, Sampling};

/// The number of replicas that move at once. The product of a step waits for the update before it,
/// and its sum is one chain of additions; independent replicas fill the waiting time.
const ABREAST: usize = 4;

/// The state of one replica.
#[derive(Debug)]
pub(crate) struct State {
    /// δ, padded with zeros to whole lane groups.
    pub(crate) position: AlignedVec,
    /// v, as long as δ; empty without momentum.
    pub(crate) velocity: AlignedVec,
}

impl State {
    /// Takes the values of another state of the same shape.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.position.copy_from_slice(&other.position);
        self.velocity.copy_from_slice(&other.velocity);
    }
}

/// The random step, in any orthonormal basis of range(G).
#[derive(Debug)]
pub(crate) struct Stepper {
    rows: PaddedRows,
    /// −η'/B.
    factor: f64,
    momentum: f64,
    sampler: Sampler,
    /// The drawn batches, step by step, then replica by replica.
    samples: Vec<u32>,
    /// `−(η'/B) g_iᵀδ` for the samples of one batch.
    scales: Vec<f64>,
}

/// The gradients `g_i`, padded with zeros to whole lane groups.
#[derive(Debug)]
struct PaddedRows {
    values: AlignedVec,
    width: usize,
}

impl PaddedRows {
    #[inline(always)]
    fn get(&self, sample: u32) -> &[f64] {
        &self.values[sample as usize * self.width..][..self.width]
    }
}

impl Stepper {
    /// The step of `sgd` for rows `g_i` given in some orthonormal basis of range(G), row by row.
    pub(crate) fn new(sgd: &LinearisedSgd<'_>, rows: &[f64], rank: usize) -> Self {
        let width = simd::padded(rank);
        let values =
            if rank == 0 { AlignedVec::zeros(0) } else { AlignedVec::from_rows(rows, rank, width) };
        Self {
            rows: PaddedRows { values, width },
            factor: factor(sgd),
            momentum: sgd.momentum(),
            sampler: Sampler::new(*sgd.batch(), sgd.minimum().sample_count()),
            samples: Vec::new(),
            scales: Vec::new(),
        }
    }

    /// A state at rest at the origin.
    pub(crate) fn state(&self) -> State {
        let width = self.rows.width;
        let velocity = if self.momentum > 0.0 { width } else { 0 };
        State { position: AlignedVec::zeros(width), velocity: AlignedVec::zeros(velocity) }
    }

    /// Draws the batches of `steps` steps of `replicas` replicas, replacing the batches drawn
    /// before.
    ///
    /// `draw` appends the next batch of the replica with the given index. It is called step by
    /// step, then replica by replica, so that replicas may share a stream.
    pub(crate) fn draw(
        &mut self,
        steps: usize,
        replicas: usize,
        mut draw: impl FnMut(usize, &mut Sampler, &mut Vec<u32>),
    ) {
        self.samples.clear();
        for _ in 0..steps {
            for replica in 0..replicas {
                draw(replica, &mut self.sampler, &mut self.samples);
            }
        }
    }

    /// Moves the states of all replicas through the drawn steps. Costs O(B r) per step and state.
    pub(crate) fn advance(&mut self, states: &mut [State]) {
        let replicas = states.len();
        let mut done = 0;
        if self.has_single_steps() {
            let (fours, _) = states.as_chunks_mut::<ABREAST>();
            for states in fours {
                let samples = Samples::Apart(&self.samples[done..]);
                self.single_steps([self.factor; ABREAST], samples, replicas, states.each_mut());
                done += ABREAST;
            }
        }
        for (replica, state) in states.iter_mut().enumerate().skip(done) {
            self.advance_one(replica, replicas, state);
        }
    }

    /// Moves replicas at several learning rates through the drawn steps: `states[k]` belong to
    /// `sgds[k]`, and the `sgds` differ in the learning rate alone. Gives the bits of
    /// [`advance`](Self::advance) at each rate, but reads a row once for several rates.
    pub(crate) fn advance_at(&mut self, sgds: &[LinearisedSgd<'_>], states: &mut [Vec<State>]) {
        let mut done = 0;
        if self.has_single_steps() {
            let ((sgds, _), (fours, _)) = (sgds.as_chunks(), states.as_chunks_mut::<ABREAST>());
            for (sgds, [a, b, c, d]) in sgds.iter().zip(fours) {
                let replicas = a.len();
                for (replica, (((a, b), c), d)) in a.iter_mut().zip(b).zip(c).zip(d).enumerate() {
                    let samples = Samples::Shared(&self.samples[replica..]);
                    self.single_steps(sgds.each_ref().map(factor), samples, replicas, [a, b, c, d]);
                }
                done += ABREAST;
            }
        }
        for (sgd, states) in sgds.iter().zip(states).skip(done) {
            self.factor = factor(sgd);
            self.advance(states);
        }
    }

    /// True if there are drawn steps, with batches of one sample.
    fn has_single_steps(&self) -> bool {
        self.sampler.batch.size() == 1 && !self.samples.is_empty()
    }

    fn single_steps(
        &self,
        factors: [f64; ABREAST],
        samples: Samples<'_>,
        stride: usize,
        states: [&mut State; ABREAST],
    ) {
        let (rows, momentum) = (&self.rows, self.momentum);
        simd::arch().dispatch(SingleSteps { rows, factors, momentum, samples, stride, states });
    }

    /// Moves the state of one of `replicas` replicas through the drawn steps.
    fn advance_one(&mut self, replica: usize, replicas: usize, state: &mut State) {
        let batches = self.samples.len() / self.sampler.batch.size().max(1);
        for batch in (replica..batches).step_by(replicas) {
            self.step(state, batch);
        }
    }

    /// Moves one state by one step, with the batch of this index.
    fn step(&mut self, state: &mut State, batch: usize) {
        let Self { rows, factor, samples, scales, .. } = self;
        let size = self.sampler.batch.size();
        let batch = &samples[batch * size..][..size];
        // All products come before the first update: the gradients belong to one point.
        scales.clear();
        for &sample in batch {
            scales.push(*factor * simd::dot(rows.get(sample), &state.position));
        }
        if state.velocity.is_empty() {
            for (&sample, &scale) in batch.iter().zip(&*scales) {
                simd::axpy(scale, rows.get(sample), &mut state.position);
            }
        } else {
            for v in &mut *state.velocity {
                *v *= self.momentum;
            }
            for (&sample, &scale) in batch.iter().zip(&*scales) {
                simd::axpy(scale, rows.get(sample), &mut state.velocity);
            }
            simd::axpy(1.0, &state.velocity, &mut state.position);
        }
    }
}

/// −η'/B.
fn factor(sgd: &LinearisedSgd<'_>) -> f64 {
    -sgd.scaled_learning_rate() / sgd.batch().size() as f64
}

/// The samples of a step for several states. The samples of the next step begin one stride later.
#[derive(Debug, Clone, Copy)]
enum Samples<'a> {
    /// A separate sample for each state, one after another.
    Apart(&'a [u32]),
    /// One sample for all states.
    Shared(&'a [u32]),
}

/// Steps of several states with batches of one sample. One pass over a state does the update of one
/// step and the product of the next, with the same bits as two passes.
struct SingleSteps<'a> {
    rows: &'a PaddedRows,
    /// −η'/B of each state.
    factors: [f64; ABREAST],
    momentum: f64,
    samples: Samples<'a>,
    stride: usize,
    states: [&'a mut State; ABREAST],
}

impl WithSimd for SingleSteps<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.samples {
            Samples::Apart(samples) => self.run::<S, ABREAST>(simd, samples),
            Samples::Shared(samples) => self.run::<S, 1>(simd, samples),
        }
    }
}

impl SingleSteps<'_> {
    /// Takes the steps. Each step reads `ROWS` rows: one for each state, or one for all states.
    #[inline(always)]
    fn run<S: Simd, const ROWS: usize>(self, simd: S, samples: &[u32]) {
        let Self { rows, factors, momentum, stride, states, .. } = self;
        let registers = rows.width / S::F64_LANES;
        let mut positions: [&mut [S::f64s]; ABREAST] = std::array::from_fn(|_| Default::default());
        let mut velocities: [&mut [S::f64s]; ABREAST] = std::array::from_fn(|_| Default::default());
        for (k, state) in states.into_iter().enumerate() {
            positions[k] = S::as_mut_simd_f64s(&mut state.position).0;
            velocities[k] = S::as_mut_simd_f64s(&mut state.velocity).0;
        }
        let has_momentum = !velocities[0].is_empty();
        let (momentum, one) = (simd.splat_f64s(momentum), simd.splat_f64s(1.0));
        let mut now: [_; ROWS] = pick::<S, ROWS>(rows, registers, samples);
        let mut sums = products(simd, registers, &positions, now);
        let mut rest = samples;
        loop {
            let mut scales = [one; ABREAST];
            for k in 0..ABREAST {
                scales[k] = simd.splat_f64s(factors[k] * sums[k].sum(simd));
            }
            let is_last = rest.len() < stride + ROWS;
            // The products after the last step are not used.
            rest = if is_last { rest } else { &rest[stride..] };
            let next = pick::<S, ROWS>(rows, registers, rest);
            sums = if has_momentum {
                accelerate(simd, registers, &mut velocities, momentum, scales, now);
                let [a, b, c, d] = &velocities;
                let changes: [&[S::f64s]; ABREAST] = [a, b, c, d];
                move_on(simd, registers, &mut positions, [one; ABREAST], changes, next)
            } else {
                move_on(simd, registers, &mut positions, scales, now, next)
            };
            if is_last {
                return;
            }
            now = next;
        }
    }
}

/// The item of state k, from items for each state or one for all.
#[inline(always)]
fn of<T: Copy, const ROWS: usize>(rows: [T; ROWS], k: usize) -> T {
    rows[if ROWS == 1 { 0 } else { k }]
}

/// The rows of the first samples.
#[inline(always)]
fn pick<'a, S: Simd, const ROWS: usize>(
    rows: &'a PaddedRows,
    registers: usize,
    samples: &[u32],
) -> [&'a [S::f64s]; ROWS] {
    let values = S::as_simd_f64s(&rows.values).0;
    let mut picked = [&values[..0]; ROWS];
    for k in 0..ROWS {
        picked[k] = &values[samples[k] as usize * registers..][..registers];
    }
    picked
}

/// `g_kᵀδ_k`, lane by lane.
#[inline(always)]
fn products<S: Simd, const ROWS: usize>(
    simd: S,
    registers: usize,
    positions: &[&mut [S::f64s]; ABREAST],
    rows: [&[S::f64s]; ROWS],
) -> [Lanes<S>; ABREAST] {
    let group = LANES / S::F64_LANES;
    let mut sums = [Lanes::splat(simd, 0.0); ABREAST];
    for k in 0..ABREAST {
        let (x, g) = (&positions[k][..registers], &of(rows, k)[..registers]);
        let mut i = 0;
        while i < registers {
            for lane in 0..group {
                sums[k].accumulate(simd, lane, g[i + lane], x[i + lane]);
            }
            i += group;
        }
    }
    sums
}

/// `v_k = β v_k + scale_k g_k`.
#[expect(clippy::too_many_arguments, reason = "the kernel keeps all of them in registers")]
#[inline(always)]
fn accelerate<S: Simd, const ROWS: usize>(
    simd: S,
    registers: usize,
    velocities: &mut [&mut [S::f64s]; ABREAST],
    momentum: S::f64s,
    scales: [S::f64s; ABREAST],
    rows: [&[S::f64s]; ROWS],
) {
    for k in 0..ABREAST {
        let (v, g) = (&mut velocities[k][..registers], &of(rows, k)[..registers]);
        for i in 0..registers {
            v[i] = simd.mul_add_f64s(g[i], scales[k], simd.mul_f64s(v[i], momentum));
        }
    }
}

/// `δ_k += scale_k change_k`, then `g_kᵀδ_k` for the next g.
#[expect(clippy::too_many_arguments, reason = "the kernel keeps all of them in registers")]
#[inline(always)]
fn move_on<S: Simd, const CHANGES: usize, const ROWS: usize>(
    simd: S,
    registers: usize,
    positions: &mut [&mut [S::f64s]; ABREAST],
    scales: [S::f64s; ABREAST],
    changes: [&[S::f64s]; CHANGES],
    next: [&[S::f64s]; ROWS],
) -> [Lanes<S>; ABREAST] {
    let group = LANES / S::F64_LANES;
    let mut sums = [Lanes::splat(simd, 0.0); ABREAST];
    // The loop checks no bounds, because all slices have the same length.
    let (changes, next) = (cut(changes, registers), cut(next, registers));
    let [a, b, c, d] = positions;
    let positions =
        [&mut a[..registers], &mut b[..registers], &mut c[..registers], &mut d[..registers]];
    let mut i = 0;
    while i < registers {
        for lane in 0..group {
            let j = i + lane;
            // Read before anything is written, so that shared rows are read once.
            let (change, next) = (at(simd, changes, j), at(simd, next, j));
            for k in 0..ABREAST {
                let x = simd.mul_add_f64s(of(change, k), scales[k], positions[k][j]);
                positions[k][j] = x;
                sums[k].accumulate(simd, lane, of(next, k), x);
            }
        }
        i += group;
    }
    sums
}

#[inline(always)]
fn cut<T, const COUNT: usize>(mut slices: [&[T]; COUNT], len: usize) -> [&[T]; COUNT] {
    for slice in &mut slices {
        *slice = &slice[..len];
    }
    slices
}

/// The registers at one index of several slices.
#[inline(always)]
fn at<S: Simd, const COUNT: usize>(
    simd: S,
    slices: [&[S::f64s]; COUNT],
    index: usize,
) -> [S::f64s; COUNT] {
    let mut registers = [simd.splat_f64s(0.0); COUNT];
    for k in 0..COUNT {
        registers[k] = slices[k][index];
    }
    registers
}

/// Draws the samples of one batch after another.
#[derive(Debug)]
pub(crate) struct Sampler {
    batch: Batch,
    sample_count: u32,
    /// A permutation of the samples if batches hold distinct ones; empty otherwise.
    order: Vec<u32>,
}

impl Sampler {
    fn new(batch: Batch, sample_count: usize) -> Self {
        // Fits, because a minimum has an n × n Gram matrix in memory.
        let sample_count = u32::try_from(sample_count).unwrap_or(u32::MAX);
        let distinct = batch.sampling() == Sampling::WithoutReplacement && batch.size() > 1;
        let order = if distinct { (0..sample_count).collect() } else { Vec::new() };
        Self { batch, sample_count, order }
    }

    /// Appends the samples of a batch.
    pub(crate) fn draw(&mut self, rng: &mut impl Rng, samples: &mut Vec<u32>) {
        let n = self.sample_count;
        let size = self.batch.size();
        if self.order.is_empty() {
            for _ in 0..size {
                samples.push(rng.random_range(0..n));
            }
            return;
        }
        // The first B places of a Fisher–Yates shuffle are a uniform subset from any initial order,
        // so no new order is needed after the last batch.
        for k in 0..size {
            #[expect(clippy::cast_possible_truncation, reason = "B ≤ n, which is a u32")]
            let other = rng.random_range(k as u32..n) as usize;
            self.order.swap(k, other);
        }
        samples.extend_from_slice(&self.order[..size]);
    }
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::{RowMatrix, simd, stream};

    use super::{Sampler, State, Stepper};
    use crate::{Batch, LinearisedSgd, Minimum, Optimizer, Sampling};

    fn minimum() -> Minimum {
        Minimum::new(&RowMatrix::new(2, 2, vec![1.0, 0.0, 0.0, 2.0]).unwrap()).unwrap()
    }

    /// Steps of full batches on rows (1, 0), (0, 2): G = diag(1/2, 2).
    fn check(sampling: Sampling, momentum: f64, steps: usize, expected: [f64; 2]) {
        let minimum = minimum();
        let optimizer = Optimizer::sgd().momentum(momentum).unwrap();
        let batch = Batch::new(2, sampling).unwrap();
        let sgd = LinearisedSgd::new(&minimum, &optimizer, &batch, 0.25).unwrap();
        // The Jacobian is scaled by ½ inside.
        let mut stepper = Stepper::new(&sgd, &[0.5, 0.0, 0.0, 1.0], 2);
        let mut state = stepper.state();
        state.position[..2].copy_from_slice(&[1.0, 1.0]);
        let mut states = [state];
        let mut rng = stream(0, "stepper test", 0);
        stepper.draw(steps, 1, |_, sampler, samples| sampler.draw(&mut rng, samples));
        stepper.advance(&mut states);
        for (got, expected) in states[0].position.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-15, "{:?}", &states[0].position[..2]);
        }
    }

    #[test]
    fn a_full_batch_makes_the_step_of_gradient_descent() {
        check(Sampling::WithoutReplacement, 0.0, 1, [0.875, 0.5]);
        check(Sampling::WithoutReplacement, 0.0, 2, [0.875 * 0.875, 0.25]);
        // v = −(0.125, 0.5), then v = v/2 − (0.125·0.875, 0.5·0.5).
        check(Sampling::WithoutReplacement, 0.5, 2, [0.875 - 0.0625 - 0.109_375, 0.0]);
    }

    /// A step on one sample, by the plain definition.
    fn plain_step(row: &[f64], factor: f64, momentum: f64, state: &mut State) {
        let scale = factor * simd::dot(row, &state.position);
        if momentum > 0.0 {
            for v in &mut *state.velocity {
                *v *= momentum;
            }
            simd::axpy(scale, row, &mut state.velocity);
            simd::axpy(1.0, &state.velocity, &mut state.position);
        } else {
            simd::axpy(scale, row, &mut state.position);
        }
    }

    #[test]
    fn states_abreast_have_the_bits_of_the_definition() {
        const RANK: usize = 21;
        // Two groups of four replicas, and three single replicas.
        const REPLICAS: usize = 11;
        let rows =
            RowMatrix::from_fn(40, RANK, |i, k| ((i * 31 + k * k * 17) % 101) as f64 / 50.0 - 1.0);
        let minimum = Minimum::new(&rows).unwrap();
        let batch = Batch::new(1, Sampling::WithReplacement).unwrap();
        for momentum in [0.0, 0.9] {
            for steps in [0, 1, 2, 7] {
                let optimizer = Optimizer::sgd().momentum(momentum).unwrap();
                let sgd = LinearisedSgd::new(&minimum, &optimizer, &batch, 0.01).unwrap();
                let mut stepper = Stepper::new(&sgd, rows.values(), RANK);
                let start = |replica: usize| {
                    let mut state = stepper.state();
                    for (k, x) in state.position[..RANK].iter_mut().enumerate() {
                        *x = ((replica * 13 + k * 7) % 29) as f64 / 7.0 - 2.0;
                    }
                    state
                };
                let mut expected: Vec<State> = (0..REPLICAS).map(start).collect();
                let mut states: Vec<State> = (0..REPLICAS).map(start).collect();
                let mut rng = stream(0, "abreast test", 0);
                // The second and third repetition start from states in motion.
                for _ in 0..3 {
                    stepper.draw(steps, REPLICAS, |_, sampler, samples| {
                        sampler.draw(&mut rng, samples);
                    });
                    stepper.advance(&mut states);
                }
                let mut rng = stream(0, "abreast test", 0);
                let mut sampler = Sampler::new(batch, 40);
                let factor = -sgd.scaled_learning_rate();
                for _ in 0..3 * steps {
                    for state in &mut expected {
                        let mut samples = Vec::new();
                        sampler.draw(&mut rng, &mut samples);
                        let row = stepper.rows.get(samples[0]);
                        plain_step(row, factor, momentum, state);
                    }
                }
                for (state, expected) in states.iter().zip(&expected) {
                    let numbers = state.position.iter().chain(&*state.velocity);
                    let expected = expected.position.iter().chain(&*expected.velocity);
                    for (got, expected) in numbers.zip(expected) {
                        assert_eq!(got.to_bits(), expected.to_bits());
                    }
                }
            }
        }
    }

    #[test]
    fn subsets_are_uniform_and_distinct() {
        let batch = Batch::new(3, Sampling::WithoutReplacement).unwrap();
        let mut sampler = Sampler::new(batch, 5);
        let mut rng = stream(0, "sampler test", 0);
        let mut counts = [0_i32; 32];
        let mut samples = Vec::new();
        for _ in 0..10_000 {
            samples.clear();
            sampler.draw(&mut rng, &mut samples);
            let subset = samples.iter().fold(0_usize, |subset, i| subset | 1 << i);
            assert_eq!(subset.count_ones(), 3);
            counts[subset] += 1;
        }
        // Each of ten subsets is drawn 1000 times on average, with standard deviation 30. Six
        // standard deviations are exceeded by chance about once in 10⁷ runs.
        let all = counts.iter().enumerate().filter(|(subset, _)| subset.count_ones() == 3);
        assert!(all.into_iter().all(|(_, count)| (count - 1000).abs() < 180), "{counts:?}");
    }
}
