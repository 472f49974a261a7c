//! The random step of linearised SGD.

#![expect(
    clippy::inline_always,
    reason = "a kernel that is not inlined loses the instruction set it was dispatched to"
)]

use flatmin_linalg::simd::{self, AlignedVec, LANES, Lanes};
use pulp::{Simd, WithSimd};

use super::linearised::{Law, LinearisedSgd, System};
use super::sampler::Sampler;

/// The number of replicas that move at once. The product of a step waits for the update before it,
/// and its sum is one chain of additions; independent replicas fill the waiting time.
const ABREAST: usize = 4;

/// The state of one replica.
#[derive(Debug)]
pub(crate) struct State {
    /// δ, padded with zeros to whole lane groups.
    pub(crate) position: AlignedVec,
    /// v, as long as δ; empty where the optimizer keeps none.
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
    law: Law,
    sampler: Sampler,
    /// The drawn batches, step by step, then replica by replica.
    samples: Vec<u32>,
    /// The ends of the batches in `samples`.
    ends: Vec<usize>,
    /// `−(κ/B) g_iᵀδ` for the samples of one batch, κ the rate of the law.
    scales: Vec<f64>,
    /// `−κ H_I δ` of one batch, padded like a position.
    push: AlignedVec,
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
            law: sgd.law(),
            sampler: Sampler::new(*sgd.batch(), sgd.minimum().sample_count()),
            samples: Vec::new(),
            ends: Vec::new(),
            scales: Vec::new(),
            push: AlignedVec::zeros(width),
        }
    }

    /// A state at rest at the origin.
    pub(crate) fn state(&self) -> State {
        let width = self.rows.width;
        let velocity = if self.law.has_velocity() { width } else { 0 };
        State { position: AlignedVec::zeros(width), velocity: AlignedVec::zeros(velocity) }
    }

    /// Lets every replica begin a new epoch with the next batch that is drawn.
    pub(crate) fn restart(&mut self) {
        self.sampler.restart();
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
        self.ends.clear();
        for _ in 0..steps {
            for replica in 0..replicas {
                draw(replica, &mut self.sampler, &mut self.samples);
                self.ends.push(self.samples.len());
            }
        }
    }

    /// Moves the states of all replicas through the drawn steps. Costs O(B r) per step and state.
    pub(crate) fn advance(&mut self, states: &mut [State]) {
        let replicas = states.len();
        let mut done = 0;
        if let Some((rate, momentum)) = self.single_steps() {
            let (fours, _) = states.as_chunks_mut::<ABREAST>();
            for states in fours {
                let samples = Samples::Apart(&self.samples[done..]);
                let steps =
                    Steps { factors: [-rate; ABREAST], momentum, samples, stride: replicas };
                steps.take(&self.rows, states.each_mut());
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
        if let Some((_, momentum)) = self.single_steps() {
            let ((sgds, _), (fours, _)) = (sgds.as_chunks(), states.as_chunks_mut::<ABREAST>());
            for (sgds, [a, b, c, d]) in sgds.iter().zip(fours) {
                let stride = a.len();
                let factors = sgds.each_ref().map(|sgd| -sgd.law().rate());
                for (replica, (((a, b), c), d)) in a.iter_mut().zip(b).zip(c).zip(d).enumerate() {
                    let samples = Samples::Shared(&self.samples[replica..]);
                    let steps = Steps { factors, momentum, samples, stride };
                    steps.take(&self.rows, [a, b, c, d]);
                }
                done += ABREAST;
            }
        }
        for (sgd, states) in sgds.iter().zip(states).skip(done) {
            self.law = sgd.law();
            self.advance(states);
        }
    }

    /// Rate and momentum if there are drawn steps, all with batches of one sample, of SGD with or
    /// without heavy-ball momentum.
    fn single_steps(&self) -> Option<(f64, f64)> {
        let Law::HeavyBall { momentum, rate } = self.law else { return None };
        let is_single = self.sampler.draws_single_samples() && !self.samples.is_empty();
        is_single.then_some((rate, momentum))
    }

    /// Moves the state of one of `replicas` replicas through the drawn steps.
    fn advance_one(&mut self, replica: usize, replicas: usize, state: &mut State) {
        for batch in (replica..self.ends.len()).step_by(replicas) {
            self.step(state, batch);
        }
    }

    /// Moves one state by one step, with the batch of this index.
    fn step(&mut self, state: &mut State, batch: usize) {
        let Self { rows, law, sampler, samples, ends, scales, push } = self;
        let start = batch.checked_sub(1).map_or(0, |before| ends[before]);
        let batch = &samples[start..ends[batch]];
        let factor = -law.rate() / sampler.divisor(batch.len()) as f64;
        // All products come before the first update: the gradients belong to one point.
        scales.clear();
        for &sample in batch {
            scales.push(factor * simd::dot(rows.get(sample), &state.position));
        }
        let momentum = match law {
            Law::HeavyBall { momentum, .. } => *momentum,
            Law::Linear(system) => {
                // A single row is not copied.
                if let ([sample], [scale]) = (batch, scales.as_slice()) {
                    let step = LinearStep { system, push: rows.get(*sample), scale: *scale, state };
                    simd::arch().dispatch(step);
                    return;
                }
                push.fill(0.0);
                for (&sample, &scale) in batch.iter().zip(&*scales) {
                    simd::axpy(scale, rows.get(sample), push);
                }
                simd::arch().dispatch(LinearStep { system, push, scale: 1.0, state });
                return;
            }
        };
        if state.velocity.is_empty() {
            for (&sample, &scale) in batch.iter().zip(&*scales) {
                simd::axpy(scale, rows.get(sample), &mut state.position);
            }
        } else {
            for v in &mut *state.velocity {
                *v *= momentum;
            }
            for (&sample, &scale) in batch.iter().zip(&*scales) {
                simd::axpy(scale, rows.get(sample), &mut state.velocity);
            }
            simd::axpy(1.0, &state.velocity, &mut state.position);
        }
    }
}

/// `z' = A z + b · (scale · push)`.
struct LinearStep<'a> {
    system: &'a System,
    push: &'a [f64],
    scale: f64,
    state: &'a mut State,
}

impl WithSimd for LinearStep<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Self { system, push, scale, state } = self;
        let [[a, b], [c, d]] = system.transition;
        let [to_position, to_velocity] = system.input.map(|input| input * scale);
        let len = push.len();
        // With known equal lengths the compiler vectorises the loops.
        let position = &mut state.position[..len];
        if state.velocity.is_empty() {
            for k in 0..len {
                position[k] = a * position[k] + to_position * push[k];
            }
            return;
        }
        let velocity = &mut state.velocity[..len];
        for k in 0..len {
            let (x, v, g) = (position[k], velocity[k], push[k]);
            position[k] = (a * x + b * v) + to_position * g;
            velocity[k] = (c * x + d * v) + to_velocity * g;
        }
    }
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
#[derive(Debug, Clone, Copy)]
struct Steps<'a> {
    /// −κ of each state, κ the rate of its law.
    factors: [f64; ABREAST],
    momentum: f64,
    samples: Samples<'a>,
    stride: usize,
}

impl Steps<'_> {
    fn take(self, rows: &PaddedRows, states: [&mut State; ABREAST]) {
        simd::arch().dispatch(SingleSteps { rows, steps: self, states });
    }
}

/// The steps with the states that they move.
struct SingleSteps<'a> {
    rows: &'a PaddedRows,
    steps: Steps<'a>,
    states: [&'a mut State; ABREAST],
}

impl WithSimd for SingleSteps<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.steps.samples {
            Samples::Apart(samples) => self.run::<S, ABREAST>(simd, samples),
            Samples::Shared(samples) => self.run::<S, 1>(simd, samples),
        }
    }
}

impl SingleSteps<'_> {
    /// Takes the steps. Each step reads `ROWS` rows: one for each state, or one for all states.
    #[inline(always)]
    fn run<S: Simd, const ROWS: usize>(self, simd: S, samples: &[u32]) {
        let Self { rows, steps: Steps { factors, momentum, stride, .. }, states } = self;
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

#[cfg(test)]
mod tests {
    use flatmin_linalg::{RowMatrix, simd, stream};

    use super::super::sampler::Sampler;
    use super::{State, Stepper};
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
        stepper.draw(steps, 1, |replica, sampler, samples| {
            sampler.draw(replica, &mut rng, samples);
        });
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
                    stepper.draw(steps, REPLICAS, |replica, sampler, samples| {
                        sampler.draw(replica, &mut rng, samples);
                    });
                    stepper.advance(&mut states);
                }
                let mut rng = stream(0, "abreast test", 0);
                let mut sampler = Sampler::new(batch, 40);
                let factor = -sgd.law().rate();
                for _ in 0..3 * steps {
                    for state in &mut expected {
                        let mut samples = Vec::new();
                        sampler.draw(0, &mut rng, &mut samples);
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
}
