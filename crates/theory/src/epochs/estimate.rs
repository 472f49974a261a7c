//! The gain of the noise of an epoch, by means over random orders.
//!
//! T is linear, and its spectral radius is an eigenvalue. It is 1 where the largest eigenvalue γ of
//! `(I − T₀)⁻¹(T − T₀)` is 1: the gain. T₀ is an epoch without noise ([`MeanEpoch`]). For
//! approximations Y to the eigenvector and X to that of the adjoint, the quotient
//! `⟨X, (T − T₀)(Y)⟩/⟨X, (I − T₀)(Y)⟩` differs from γ by the product of their errors. `T(Y)` is a
//! mean over random orders of the samples, each of which acts on a whole matrix Y, so that the mean
//! is over orders alone and not over states too. Every sample occurs in every epoch: the terms vary
//! little, where those of independent draws have heavy tails.
//!
//! X and Y come from power steps with orders of their own. Powers of T itself do not settle, because
//! slow and oscillating modes have eigenvalues of nearly the same modulus. The orders are the same
//! at every learning rate. This makes the gain a smooth function, whose root is the edge.
//!
//! In long epochs an order does not act on all of Y but on a few random combinations of its
//! columns, whose second moments are Y in the mean.

use faer::{Accum, Mat, Scale};
use flatmin_linalg::{Stream, matmul_lower, product, stream};
use rand::RngExt as _;
use rand::seq::SliceRandom as _;

use super::blocks::{Blocks, mirror, root_of};
use super::last_batch::LastBatch;
use super::mean_epoch::MeanEpoch;
use super::pencil::Pencil;
use super::step::{BatchRows, Coefficients, Direction, Epoch, Step};
use super::{CONFIDENCE, EpochEdge, EpochOptions, scan};
use crate::ThresholdError;

/// The random orders of the scan, and its power steps.
const SCOUTS: usize = 32;
const SCOUTING: Effort = Effort { steps: 4, orders: SCOUTS };

/// The random orders of the first search for the root.
const FIRST_ORDERS: usize = 64;

/// The largest number of orders times the numbers that an epoch reads for each.
const MAX_WORK: f64 = 8e9;

/// The parts in which orders are added up. Each may run on a thread of its own.
const PARTS: usize = 8;

/// The logarithm of a gain that power steps may miss where several samples end an epoch on their
/// own and the gain hardly changes with the learning rate. They see no gain that is not there.
const SLOW: f64 = 0.02;

/// The numbers that an epoch reads for each order, up to which it acts on all columns of Y.
const SHORT: usize = 200_000;

/// The number of combinations of the columns of Y in longer epochs.
const COMBINATIONS: usize = 8;

/// The number of power steps from the start, and from vectors of a learning rate close by.
const STEPS: usize = 8;
const WARM_STEPS: usize = 3;

/// The largest number of random orders in a power step. Errors of X and Y enter as their product,
/// so that they may be larger than that of the quotient.
const STEP_ORDERS: [usize; 2] = [256, 1024];

/// The least number of random orders in a power step.
const LEAST_ORDERS: usize = 8;

/// What a power step keeps of the vector before it. Eigenvalues may be negative.
const KEPT: f64 = 0.1;

/// The largest number of Newton's steps to a root, and the largest of them, in logarithms of the
/// learning rate.
const NEWTON_STEPS: usize = 24;
const LARGEST_MOVE: f64 = 0.1;

/// The changes of the logarithms of the learning rate and of the gain up to which vectors are kept.
const CLOSE: f64 = 0.01;
const CLOSE_GAIN: f64 = 0.02;

/// The number of standard errors at which the sign of a logarithm is certain, and the least share of
/// the first guess at which the root may lie.
const SIGNIFICANT: f64 = 3.0;
const LEAST_SHARE: f64 = 0.05;

/// The difference for the slope, and its number of orders.
const DIFFERENCE: f64 = 1e-3;
const SLOPE_ORDERS: usize = 64;

/// The share of the interval that is left of the distance to the root.
const SETTLED: f64 = 0.05;

/// The relative accuracy of a learning rate at which the mean of the epochs loses its stability.
const HARD: f64 = 1e-3;

/// A change of the logarithm of the gain that is never too large.
const SMALL: f64 = 3e-4;

/// The gain of second moments over the epochs of one minimum.
pub(super) struct Estimator<'a> {
    epoch: &'a Epoch<'a>,
    step: &'a Step,
    options: EpochOptions,
    /// Second moments from which the power method starts.
    start: Blocks,
    is_short: bool,
}

/// The logarithm of the gain, and its standard error.
#[derive(Debug, Clone, Copy)]
struct Gain {
    log: f64,
    standard_error: f64,
}

/// Approximate eigenvectors of T and of its adjoint at a learning rate.
#[derive(Debug, Clone)]
struct Vectors {
    right: Blocks,
    left: Blocks,
    /// `⟨X_a, Y_b⟩` and `⟨X_a, T₀(Y_b)⟩`.
    products: Mat<f64>,
    carried: Mat<f64>,
    rate: f64,
}

/// Power steps, and the number of random orders of the last one.
#[derive(Debug, Clone, Copy)]
struct Effort {
    steps: usize,
    orders: usize,
}

/// A mean over random orders.
#[derive(Clone, Copy)]
struct OrderMean<'b> {
    coefficients: &'b Coefficients,
    last: Option<&'b LastBatch>,
    direction: Direction,
    orders: usize,
    /// Means of the same stage have the same orders.
    stage: usize,
}

impl<'a> Estimator<'a> {
    /// `moments` are roots of second moments of positions that may grow fast.
    pub(super) fn new(
        epoch: &'a Epoch<'a>,
        step: &'a Step,
        options: EpochOptions,
        moments: &[Mat<f64>],
    ) -> Self {
        let side = epoch.rank() * step.parts;
        let start = Blocks::new(side, moments);
        Self { epoch, step, options, start, is_short: Self::is_short(epoch, step) }
    }

    /// The first unstable learning rate from `start` on.
    pub(super) fn edge(&self, start: f64) -> Result<EpochEdge, ThresholdError> {
        let (stable, unstable) = scan(start, |rate| {
            let last = self.last_batch(rate);
            let Some(vectors) = self.vectors(rate, last.as_ref(), SCOUTING, None)? else {
                return Ok(true);
            };
            let gain = self.gain(rate, last.as_ref(), SCOUTS, &vectors);
            Ok(gain.log > gain.standard_error)
        })?;
        self.edge_near((stable * unstable).sqrt())
    }

    /// The unstable learning rate close to `near`, with an interval of the width of the options.
    pub(super) fn edge_near(&self, mut near: f64) -> Result<EpochEdge, ThresholdError> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let affordable = ((MAX_WORK / self.work() as f64) as usize).max(SCOUTS);
        let most = self.options.max_orders.min(affordable);
        let mut orders = FIRST_ORDERS.min(most);
        let mut vectors = None;
        loop {
            let edge = self.root(near, orders, &mut vectors)?;
            let half_width = edge.upper - edge.estimate;
            let is_narrow = half_width <= 0.5 * self.options.relative_width * edge.estimate;
            if is_narrow || 2 * orders > most {
                return Ok(edge);
            }
            near = edge.estimate;
            orders = (4 * orders).min(most);
        }
    }

    /// The numbers that an epoch reads for each order.
    fn work(&self) -> usize {
        let columns = if self.is_short { self.side() } else { COMBINATIONS };
        self.epoch.rows.rows() * self.side() * columns
    }

    /// True if epochs act on all columns of a root, at little cost.
    pub(super) fn is_short(epoch: &Epoch<'_>, step: &Step) -> bool {
        let side = epoch.rank() * step.parts;
        side <= 2 * COMBINATIONS || epoch.rows.rows() * side * side <= SHORT
    }

    /// The numbers of a state.
    fn side(&self) -> usize {
        self.epoch.rank() * self.step.parts
    }

    /// The root of the gain near a learning rate, with its interval: by Newton's method, for which
    /// the slope at fixed eigenvectors is that of the eigenvalue.
    fn root(
        &self,
        near: f64,
        orders: usize,
        vectors: &mut Option<Vectors>,
    ) -> Result<EpochEdge, ThresholdError> {
        // The same at every learning rate, so that the gain stays smooth.
        let last = self.last_batch(near);
        let step_orders = STEP_ORDERS[usize::from(self.is_short)];
        let mut rate = near;
        let (mut stable, mut unstable) = (near * LEAST_SHARE, f64::INFINITY);
        // Where the mean of the epochs loses its stability, whatever the noise is.
        let mut hard = f64::INFINITY;
        let (mut half_width, mut missed, mut last_slope) = (f64::INFINITY, 0.0, 1.0);
        for _ in 0..NEWTON_STEPS {
            let start = vectors.take();
            let steps = if start.is_some() { WARM_STEPS } else { STEPS };
            let effort = Effort { steps, orders: step_orders };
            let is_fresh = |vectors: &Vectors| {
                let moved = libm::log(vectors.rate / rate).abs();
                moved <= CLOSE && moved * last_slope <= CLOSE_GAIN
            };
            let found = match start {
                Some(start) if is_fresh(&start) => Some(start),
                start => self.vectors(rate, last.as_ref(), effort, start)?,
            };
            let mut next = rate * libm::exp(-LARGEST_MOVE);
            let mut is_settled = false;
            if let Some(found) = found {
                let gain = |rate: f64, orders| self.gain(rate, last.as_ref(), orders, &found);
                let here = gain(rate, orders);
                let few = orders.min(SLOPE_ORDERS);
                let beyond = gain(rate * libm::exp(DIFFERENCE), few).log;
                let slope = (beyond - gain(rate, few).log) / DIFFERENCE;
                *vectors = Some(found);
                last_slope = slope;
                let error = libm::hypot(quantile(orders - 1) * here.standard_error, SMALL);
                let is_rising = slope > 0.0 && (here.log / slope).is_finite() && slope.is_finite();
                let step = if is_rising { -here.log / slope } else { -here.log.signum() };
                half_width =
                    if is_rising { (error + here.log.abs()) / slope } else { f64::INFINITY };
                missed =
                    if last.is_some() && is_rising && slope < 1.0 { SLOW / slope } else { 0.0 };
                is_settled = is_rising && step.abs() <= SETTLED * error / slope;
                next = rate * libm::exp(step.clamp(-LARGEST_MOVE, LARGEST_MOVE));
                // What is certain bounds Newton's steps.
                if here.log < -SIGNIFICANT * here.standard_error {
                    stable = rate.max(stable);
                } else if here.log > SIGNIFICANT * here.standard_error {
                    unstable = rate.min(unstable);
                }
            } else {
                (hard, unstable) = (rate, rate);
            }
            if is_settled || unstable <= stable * (1.0 + HARD) {
                break;
            }
            if next >= unstable || next <= stable {
                next = (stable * if unstable.is_finite() { unstable } else { rate }).sqrt();
            }
            rate = next;
        }
        if hard < rate * libm::exp(half_width) {
            half_width = libm::log(hard / rate) + HARD;
        }
        let half_width = half_width.min(1.0);
        let (lower, upper) = (-half_width - missed, half_width);
        let [lower, upper] = [lower, upper].map(|move_| rate * libm::exp(move_));
        Ok(EpochEdge { lower, upper, estimate: rate, confidence: Some(CONFIDENCE) })
    }

    /// The law of a short last batch at a learning rate.
    fn last_batch(&self, rate: f64) -> Option<LastBatch> {
        LastBatch::new(self.epoch, &self.step.coefficients(rate), &self.start.roots)
    }

    /// Approximate eigenvectors of T and of its adjoint by power steps; `None` where the epoch
    /// without noise is not stable, or images overflow.
    fn vectors(
        &self,
        rate: f64,
        last: Option<&LastBatch>,
        Effort { steps, orders }: Effort,
        start: Option<Vectors>,
    ) -> Result<Option<Vectors>, ThresholdError> {
        let coefficients = self.step.coefficients(rate);
        let (mut right, mut left) = match start {
            Some(Vectors { right, left, .. }) => (right, left),
            None => (self.start.clone(), self.start.clone()),
        };
        let mean = OrderMean { stage: 1, ..OrderMean::new(&coefficients, last, orders) };
        let Some(forward) = self.mean_epoch(mean) else { return Ok(None) };
        let backward = forward.clone().transposed();
        for step in 0..steps {
            // The last steps decide.
            let orders = (orders >> (steps - 1 - step)).max(LEAST_ORDERS);
            let mean = OrderMean { stage: 2 * step + 2, orders, ..mean };
            let Some(image) = self.image(mean, &forward, &right)? else { return Ok(None) };
            right = image;
            let mean = OrderMean { direction: Direction::Backward, stage: 2 * step + 3, ..mean };
            let Some(image) = self.image(mean, &backward, &left)? else { return Ok(None) };
            left = image;
        }
        let products = left.products(right.roots.as_ref(), &right.ends);
        let carried = left.products(forward.carry(&right.roots).as_ref(), &right.ends);
        Ok(Some(Vectors { right, left, products, carried, rate }))
    }

    /// The gain at a learning rate, for eigenvectors of one close to it.
    fn gain(&self, rate: f64, last: Option<&LastBatch>, orders: usize, vectors: &Vectors) -> Gain {
        let coefficients = self.step.coefficients(rate);
        let mean = OrderMean::new(&coefficients, last, orders);
        self.quotient(mean, vectors)
    }

    /// The largest root γ of `det(H − γB) = 0`, where H has the entries `⟨X_a, (T − T₀)(Y_b)⟩` and B
    /// the entries `⟨X_a, (I − T₀)(Y_b)⟩`: the quotient of these, for one block.
    fn quotient(&self, mean: OrderMean<'_>, vectors: &Vectors) -> Gain {
        let Vectors { right, left, products: matrix, carried, .. } = vectors;
        let pencil = Pencil::new(&(matrix - carried));
        let parts = self.over_orders(mean, Vec::new, |terms, pass| {
            let mut states = self.combinations(right, &mut pass.rng);
            // Combinations that are large by chance are so before and after the epoch.
            let excess = if states.ends == right.ends {
                Mat::zeros(matrix.nrows(), matrix.ncols())
            } else {
                left.products(states.roots.as_ref(), &states.ends) - matrix
            };
            pass.run(&mut states.roots);
            let after = left.products(states.roots.as_ref(), &states.ends);
            terms.push((pass.weight, after - excess - carried));
        });
        let terms: Vec<(f64, Mat<f64>)> = parts.into_iter().flatten().collect();
        let count = terms.len() as f64;
        // Divided by the mean weight: directions that no order changes then have no error.
        let total: f64 = terms.iter().map(|(weight, _)| weight).sum();
        let mut products = Mat::zeros(right.ends.len(), right.ends.len());
        for (weight, term) in &terms {
            products += term * Scale(weight / total);
        }
        if !products.is_all_finite() {
            return Gain { log: f64::INFINITY, standard_error: 0.0 };
        }
        let Some(pair) = pencil.and_then(|pencil| pencil.largest(&products)) else {
            // Next to no noise: a gain of zero, or less by chance.
            return Gain { log: f64::NEG_INFINITY, standard_error: 0.0 };
        };
        let squares: f64 = terms
            .iter()
            .map(|(weight, term)| (weight * (pair.value_of(term) - pair.value)).powi(2))
            .sum();
        let standard_error = (squares * count / (count - 1.0)).sqrt() / (total * pair.value);
        Gain { log: libm::log(pair.value), standard_error }
    }

    /// The mean of the epochs, or close to it; `None` where it is not stable.
    fn mean_epoch(&self, mean: OrderMean<'_>) -> Option<MeanEpoch> {
        let Epoch { eigenvalues, sizes, .. } = self.epoch;
        if !self.is_short {
            return MeanEpoch::of_modes(mean.coefficients, eigenvalues, sizes.len());
        }
        let side = self.side();
        let zero = || (0.0, Mat::<f64>::zeros(side, side));
        let parts = self.over_orders(mean, zero, |(total, sum), pass| {
            let mut states = Mat::<f64>::identity(side, side);
            pass.run(&mut states);
            *total += pass.weight;
            *sum += states * Scale(pass.weight);
        });
        let (mut total, mut sum) = zero();
        for part in parts {
            total += part.0;
            sum += part.1;
        }
        MeanEpoch::of_matrix(sum * Scale(1.0 / total))
    }

    /// A power step for each block Y. `None` where the image overflows.
    fn image(
        &self,
        mean: OrderMean<'_>,
        epoch: &MeanEpoch,
        blocks: &Blocks,
    ) -> Result<Option<Blocks>, ThresholdError> {
        let side = blocks.roots.nrows();
        let zeros = || vec![Mat::<f64>::zeros(side, side); blocks.ends.len()];
        let parts = self.over_orders(
            mean,
            || (0.0, zeros(), zeros()),
            |(total, before, after), pass| {
                let mut states = self.combinations(blocks, &mut pass.rng);
                *total += pass.weight;
                states.add_moments(pass.weight, before);
                pass.run(&mut states.roots);
                states.add_moments(pass.weight, after);
            },
        );
        let (mut total, mut before, mut after) = (0.0, zeros(), zeros());
        for part in parts {
            total += part.0;
            before.iter_mut().zip(part.1).for_each(|(sum, part)| *sum += part);
            after.iter_mut().zip(part.2).for_each(|(sum, part)| *sum += part);
        }
        let mut roots = Vec::with_capacity(before.len());
        for ((mut before, mut after), range) in before.into_iter().zip(after).zip(blocks.ranges()) {
            let kept = blocks.roots.get(.., range);
            mirror(&mut before);
            mirror(&mut after);
            let mut next = epoch.noise_response(&after, &before);
            if !next.is_all_finite() {
                return Ok(None);
            }
            matmul_lower(next.as_mut(), Accum::Add, kept, kept.transpose(), KEPT * total);
            roots.push(root_of(&next)?);
        }
        Ok(Some(Blocks::new(side, &roots)))
    }

    /// The states that an epoch acts on: the columns of the roots, or in long epochs a few random
    /// combinations of them for each block.
    fn combinations(&self, blocks: &Blocks, rng: &mut Stream) -> Blocks {
        if self.is_short {
            return blocks.clone();
        }
        let mut roots = Vec::with_capacity(blocks.ends.len());
        for range in blocks.ranges() {
            let size = 1.0 / (COMBINATIONS as f64).sqrt();
            let sign = |_, _| if rng.random::<bool>() { size } else { -size };
            let signs = Mat::from_fn(range.len(), COMBINATIONS, sign);
            roots.push(if range.len() <= COMBINATIONS {
                blocks.roots.get(.., range).to_owned()
            } else {
                product(blocks.roots.get(.., range), signs.as_ref())
            });
        }
        Blocks::new(blocks.roots.nrows(), &roots)
    }

    /// Calls `add` for each order of a mean. Returns the sums of the parts.
    fn over_orders<S: Send>(
        &self,
        mean: OrderMean<'_>,
        zero: impl Fn() -> S + Sync,
        add: impl Fn(&mut S, &mut Pass<'_>) + Sync,
    ) -> Vec<S> {
        let parts = PARTS.min(mean.orders);
        self.options.parallelism.map((0..parts).collect(), |part| {
            let mut sum = zero();
            let mut order: Vec<usize> = (0..self.epoch.samples).collect();
            let mut rows = BatchRows::default();
            for index in (part..mean.orders).step_by(parts) {
                let index = (mean.stage << 32 | index) as u64;
                let mut rng = stream(self.options.seed, "reshuffled epochs", index);
                order.sort_unstable();
                order.shuffle(&mut rng);
                let weight = mean.last.map_or(1.0, |last| last.draw(&mut order, &mut rng));
                let (epoch, order, rows) = (self.epoch, &order[..], &mut rows);
                add(&mut sum, &mut Pass { epoch, mean, order, weight, rng, rows });
            }
            sum
        })
    }
}

/// An epoch in one order.
struct Pass<'b> {
    epoch: &'b Epoch<'b>,
    mean: OrderMean<'b>,
    order: &'b [usize],
    weight: f64,
    /// The stream that drew the order.
    rng: Stream,
    /// Room for a batch.
    rows: &'b mut BatchRows,
}

impl Pass<'_> {
    /// Takes states, side by side, through the epoch.
    fn run(&mut self, states: &mut Mat<f64>) {
        let mut used = 0;
        let mut batches: Vec<&[usize]> = Vec::with_capacity(self.epoch.sizes.len());
        for &size in &self.epoch.sizes {
            batches.push(&self.order[used..used + size]);
            used += size;
        }
        if self.mean.direction == Direction::Backward {
            batches.reverse();
        }
        for batch in batches {
            self.epoch.gather(batch, self.rows);
            self.mean.coefficients.apply(self.mean.direction, self.rows, states);
        }
    }
}

impl<'b> OrderMean<'b> {
    /// The mean of forward epochs over the first orders.
    fn new(coefficients: &'b Coefficients, last: Option<&'b LastBatch>, orders: usize) -> Self {
        Self { coefficients, last, direction: Direction::Forward, orders, stage: 0 }
    }
}

/// The quantile of Student's distribution for the confidence, by its expansion in 1/degrees.
fn quantile(degrees: usize) -> f64 {
    let (z, degrees) = (1.959_963_984_540_054_f64, degrees as f64);
    let (cube, fifth) = (z.powi(3), z.powi(5));
    z + (cube + z) / (4.0 * degrees)
        + (5.0 * fifth + 16.0 * cube + 3.0 * z) / (96.0 * degrees * degrees)
}
