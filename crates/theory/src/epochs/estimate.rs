//! The growth of second moments over an epoch, by means over random orders.
//!
//! T is linear, and its spectral radius ρ is an eigenvalue. For approximations Y to its eigenvector
//! and X to that of its adjoint, the quotient `⟨X, T(Y)⟩/⟨X, Y⟩` differs from ρ by the product of
//! their errors. `T(Y)` is a mean over random orders of the samples, each of which acts on a whole
//! matrix Y, so that the mean is over orders alone and not over states too. Every sample occurs in
//! every epoch: the terms vary little, where those of independent draws have heavy tails.
//!
//! X and Y come from a few steps of the power method, each with orders of its own, from the second
//! moments of independent batches at their threshold. With momentum, modes oscillate: T has complex
//! eigenvalues of the modulus of its largest one, and powers do not settle. X and Y are then
//! eigenvectors of means over a few orders, by Arnoldi's method. The orders are the same at every
//! learning rate. This makes the growth a smooth function, whose root is the edge.

mod oscillating;

use std::cell::RefCell;

use faer::{Accum, Mat, MatRef, Scale};
use flatmin_linalg::{matmul, matmul_lower, product, stream, symmetric_eigen};
use rand::seq::SliceRandom as _;

use super::last_batch::LastBatch;
use super::pencil::Pencil;
use super::step::{BatchRows, Coefficients, Direction, Epoch, Step};
use super::{CONFIDENCE, EpochEdge, EpochOptions, SCAN, scan};
use crate::ThresholdError;

/// The random orders of the scan.
const SCOUTS: usize = 8;

/// The random orders of the first search for the root.
const FIRST_ORDERS: usize = 64;

/// The largest number of orders times the numbers that an epoch reads for each.
const MAX_WORK: f64 = 8e9;

/// The parts in which orders are added up. Each may run on a thread of its own.
const PARTS: usize = 8;

/// The logarithm of a growth that power steps may miss where several samples end an epoch on their
/// own and the growth hardly changes with the learning rate. They see no growth that is not there.
const SLOW: f64 = 0.02;

/// The numbers that an epoch reads for each order, up to which it counts as short.
const SHORT: usize = 200_000;

/// The number of power steps in short epochs. Four leave a mixture of eigenvalues near 1, which
/// moved the edge by 2 % in 2 of 400 problems with n ≤ 10.
const SHORT_STEPS: usize = 16;

/// The largest number of random orders in a power step. Errors of X and Y enter as their product,
/// so that they may be larger than that of the quotient.
const STEP_ORDERS: usize = 256;

/// The largest number of power steps in other epochs.
const MAX_STEPS: usize = 4;

/// The largest number of power steps in the scan.
const SCOUT_STEPS: usize = 2;

/// The share of the standard error by which the last power step may change the growth.
const SETTLED: f64 = 0.2;

/// The share of the standard error that is left of the growth at its root.
const CLOSE: f64 = 0.05;

/// A change of the logarithm of the growth that is never too large.
const SMALL: f64 = 3e-4;

/// The share of second moments that is left out of their roots.
const LEFT_OUT: f64 = 1e-7;

/// The growth of second moments over the epochs of one minimum.
pub(super) struct Estimator<'a> {
    epoch: &'a Epoch<'a>,
    step: &'a Step,
    options: EpochOptions,
    /// Second moments from which the power method starts.
    start: Blocks,
}

/// The logarithm of the growth in an epoch, its standard error, and the power steps taken.
#[derive(Debug, Clone, Copy)]
struct Growth {
    log: f64,
    standard_error: f64,
    steps: usize,
}

/// Several second moments, as roots side by side.
#[derive(Debug, Clone)]
struct Blocks {
    roots: Mat<f64>,
    /// The column at which each root ends.
    ends: Vec<usize>,
}

/// The number of power steps to take.
#[derive(Debug, Clone, Copy)]
enum Steps {
    Exactly(usize),
    /// Until the growth settles.
    AtMost(usize),
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
        Self { epoch, step, options, start }
    }

    /// The first unstable learning rate from `start` on.
    pub(super) fn edge(&self, start: f64) -> Result<EpochEdge, ThresholdError> {
        // Eigenvectors of one learning rate are close to those of the next.
        let near = RefCell::new(self.start.product());
        let (stable, unstable) = scan(start, |rate| {
            let last = self.last_batch(rate);
            if self.oscillates() {
                let coefficients = self.step.coefficients(rate);
                let mean = OrderMean::new(&coefficients, last.as_ref(), SCOUTS);
                let found = self.leading(mean, &near.borrow(), true)?;
                return Ok(found.is_none_or(|(value, root)| {
                    *near.borrow_mut() = product(root.as_ref(), root.transpose());
                    value > 1.0
                }));
            }
            let growth = self.growth(rate, last.as_ref(), SCOUTS, Steps::AtMost(SCOUT_STEPS))?;
            Ok(growth.log > 2.0 * growth.standard_error)
        })?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let affordable = ((MAX_WORK / self.work() as f64) as usize).max(SCOUTS);
        let most = self.options.max_orders.min(affordable);
        let mut orders = FIRST_ORDERS.min(most);
        let (mut low, mut high) = (stable, unstable);
        loop {
            let edge = self.root(low, high, orders)?;
            let half_width = edge.upper - edge.estimate;
            let is_narrow = half_width <= 0.5 * self.options.relative_width * edge.estimate;
            if is_narrow || 2 * orders > most {
                return Ok(edge);
            }
            let margin = (half_width / edge.estimate).min(SCAN - 1.0);
            (low, high) = (edge.estimate * (1.0 - margin), edge.estimate * (1.0 + margin));
            orders = (4 * orders).min(most);
        }
    }

    /// True if states have velocities, so that modes may oscillate.
    fn oscillates(&self) -> bool {
        self.step.parts == 2
    }

    /// The numbers that an epoch reads for each order.
    fn work(&self) -> usize {
        self.epoch.rows.rows() * self.start.roots.nrows() * self.start.roots.ncols()
    }

    /// The root of the growth near `low` and `high`, with its interval.
    fn root(&self, low: f64, high: f64, orders: usize) -> Result<EpochEdge, ThresholdError> {
        // The same at every learning rate, so that the growth stays smooth.
        let last = self.last_batch(high);
        if self.oscillates() {
            return self.oscillating_root((low * high).sqrt(), last.as_ref(), orders);
        }
        let is_short = self.work() <= SHORT;
        let steps = if is_short { Steps::Exactly(SHORT_STEPS) } else { Steps::AtMost(MAX_STEPS) };
        let first = self.growth(high, last.as_ref(), orders, steps)?;
        let steps = Steps::Exactly(first.steps);
        let growth = |log_rate: f64| self.growth(libm::exp(log_rate), last.as_ref(), orders, steps);
        let mut a = (libm::log(low), growth(libm::log(low))?.log);
        let mut b = (libm::log(high), first.log);
        // What the scan saw may lie to one side of the root.
        for _ in 0..40 {
            let width = (b.0 - a.0).max(1e-3);
            if a.1 > 0.0 {
                b = a;
                a.0 -= width;
                a.1 = growth(a.0)?.log;
            } else if b.1 <= 0.0 {
                a = b;
                b.0 += width;
                b.1 = growth(b.0)?.log;
            } else {
                break;
            }
        }
        // The Illinois variant of regula falsi: an end that stays twice counts half.
        let (mut weights, mut last_moved_low) = ((a.1, b.1), None);
        let mut found;
        let mut root;
        let mut rounds = 0;
        loop {
            root = (a.0 * weights.1 - b.0 * weights.0) / (weights.1 - weights.0);
            found = growth(root)?;
            rounds += 1;
            let is_close = found.log.abs() <= CLOSE * found.standard_error.max(1e-9);
            if is_close || rounds == 12 || !root.is_finite() {
                break;
            }
            if found.log > 0.0 {
                b = (root, found.log);
                let kept = if last_moved_low == Some(false) { 0.5 } else { 1.0 };
                weights = (weights.0 * kept, found.log);
                last_moved_low = Some(false);
            } else {
                a = (root, found.log);
                let kept = if last_moved_low == Some(true) { 0.5 } else { 1.0 };
                weights = (found.log, weights.1 * kept);
                last_moved_low = Some(true);
            }
        }
        let slope = (b.1 - a.1) / (b.0 - a.0);
        let error = libm::hypot(quantile(orders - 1) * found.standard_error, SMALL);
        let half_width = if slope > 0.0 && root.is_finite() {
            (error + found.log.abs()) / slope
        } else {
            root = f64::midpoint(a.0, b.0);
            b.0 - a.0
        };
        let is_soft = last.is_some() && slope > 0.0 && slope < 1.0;
        let missed = if is_soft { SLOW / slope } else { 0.0 };
        let estimate = libm::exp(root);
        let lower = estimate * libm::exp(-half_width - missed);
        let upper = estimate * libm::exp(half_width);
        Ok(EpochEdge { lower, upper, estimate, confidence: Some(CONFIDENCE) })
    }

    /// The law of a short last batch at a learning rate.
    fn last_batch(&self, rate: f64) -> Option<LastBatch> {
        LastBatch::new(self.epoch, &self.step.coefficients(rate), &self.start.roots)
    }

    /// The growth at a learning rate.
    fn growth(
        &self,
        rate: f64,
        last: Option<&LastBatch>,
        orders: usize,
        steps: Steps,
    ) -> Result<Growth, ThresholdError> {
        let coefficients = self.step.coefficients(rate);
        let (mut right, mut left) = (self.start.clone(), self.start.clone());
        let mut last_log = f64::NAN;
        let mut taken = 0;
        loop {
            let mean = OrderMean::new(&coefficients, last, orders);
            let is_last = match steps {
                Steps::Exactly(steps) | Steps::AtMost(steps) => taken == steps,
            };
            if is_last || matches!(steps, Steps::AtMost(_)) {
                let growth = Growth { steps: taken, ..self.quotient(mean, &right, &left) };
                let change = (growth.log - last_log).abs();
                let is_settled = change <= (SETTLED * growth.standard_error).max(SMALL);
                if is_last || is_settled || !growth.log.is_finite() {
                    return Ok(growth);
                }
                last_log = growth.log;
            }
            taken += 1;
            let orders = orders.min(STEP_ORDERS);
            let next = OrderMean { stage: 2 * taken, orders, ..mean };
            right = self.image(next, &right)?;
            let next = OrderMean { direction: Direction::Backward, stage: 2 * taken + 1, ..next };
            left = self.image(next, &left)?;
        }
    }

    /// The largest root ρ of `det(H − ρB) = 0`, where H has the entries `⟨X_a, T(Y_b)⟩` and B the
    /// entries `⟨X_a, Y_b⟩`: the quotient of these, for one block.
    fn quotient(&self, mean: OrderMean<'_>, right: &Blocks, left: &Blocks) -> Growth {
        let pencil = Pencil::new(&left.products(right.roots.as_ref(), &right.ends));
        let zero = || (Vec::new(), right.roots.clone());
        let parts = self.over_orders(mean, zero, |(terms, states), weight, pass| {
            states.copy_from(&right.roots);
            pass(states);
            terms.push((weight, left.products(states.as_ref(), &right.ends)));
        });
        let terms: Vec<(f64, Mat<f64>)> = parts.into_iter().flat_map(|part| part.0).collect();
        let count = terms.len() as f64;
        // Divided by the mean weight: directions that no order changes then have no error.
        let total: f64 = terms.iter().map(|(weight, _)| weight).sum();
        let mut products = Mat::zeros(right.ends.len(), right.ends.len());
        for (weight, term) in &terms {
            products += term * Scale(weight / total);
        }
        let Some(pair) = pencil.and_then(|pencil| pencil.largest(&products)) else {
            return Growth { log: f64::INFINITY, standard_error: 0.0, steps: 0 };
        };
        let squares: f64 = terms
            .iter()
            .map(|(weight, term)| (weight * (pair.value_of(term) - pair.value)).powi(2))
            .sum();
        let standard_error = (squares * count / (count - 1.0)).sqrt() / (total * pair.value);
        Growth { log: libm::log(pair.value), standard_error, steps: 0 }
    }

    /// `T(Y)` for each block Y, or its adjoint.
    fn image(&self, mean: OrderMean<'_>, blocks: &Blocks) -> Result<Blocks, ThresholdError> {
        let side = blocks.roots.nrows();
        let sums = || vec![Mat::<f64>::zeros(side, side); blocks.ends.len()];
        let zero = || (sums(), blocks.roots.clone());
        let parts = self.over_orders(mean, zero, |(sums, states), weight, pass| {
            states.copy_from(&blocks.roots);
            pass(states);
            for (sum, range) in sums.iter_mut().zip(blocks.ranges()) {
                let states = states.get(.., range);
                matmul_lower(sum.as_mut(), Accum::Add, states, states.transpose(), weight);
            }
        });
        let roots: Result<Vec<Mat<f64>>, ThresholdError> = (0..blocks.ends.len())
            .map(|block| {
                let mut total = Mat::<f64>::zeros(side, side);
                for (part, _) in &parts {
                    total += &part[block];
                }
                root_of(&total)
            })
            .collect();
        Ok(Blocks::new(side, &roots?))
    }

    /// Calls `add` for each order of a mean, with its weight and with a function that takes states,
    /// side by side, through an epoch in this order. Returns the sums of the parts.
    fn over_orders<S: Send>(
        &self,
        mean: OrderMean<'_>,
        zero: impl Fn() -> S + Sync,
        add: impl Fn(&mut S, f64, &mut dyn FnMut(&mut Mat<f64>)) + Sync,
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
                add(&mut sum, weight, &mut |states| self.run(mean, &order, states, &mut rows));
            }
            sum
        })
    }

    /// Takes the states, side by side, through the epoch in this order. `rows` is room for a batch.
    fn run(
        &self,
        mean: OrderMean<'_>,
        order: &[usize],
        states: &mut Mat<f64>,
        rows: &mut BatchRows,
    ) {
        let mut used = 0;
        let mut batches: Vec<&[usize]> = Vec::with_capacity(self.epoch.sizes.len());
        for &size in &self.epoch.sizes {
            batches.push(&order[used..used + size]);
            used += size;
        }
        if mean.direction == Direction::Backward {
            batches.reverse();
        }
        for batch in batches {
            self.epoch.gather(batch, rows);
            mean.coefficients.apply(mean.direction, rows, states);
        }
    }
}

impl<'b> OrderMean<'b> {
    /// The mean of forward epochs over the first orders.
    fn new(coefficients: &'b Coefficients, last: Option<&'b LastBatch>, orders: usize) -> Self {
        Self { coefficients, last, direction: Direction::Forward, orders, stage: 0 }
    }
}

impl Blocks {
    /// Blocks of `side` rows; roots of positions alone get velocities of zero.
    fn new(side: usize, roots: &[Mat<f64>]) -> Self {
        let mut ends = Vec::new();
        let mut columns = 0;
        for root in roots {
            columns += root.ncols();
            ends.push(columns);
        }
        let mut all = Mat::zeros(side, columns);
        for (root, end) in roots.iter().zip(&ends) {
            all.get_mut(..root.nrows(), end - root.ncols()..*end).copy_from(root);
        }
        Self { roots: all, ends }
    }

    /// The second moments whose root is the first block.
    fn product(&self) -> Mat<f64> {
        let root = self.roots.get(.., ..self.ends[0]);
        product(root, root.transpose())
    }

    /// The columns of each root.
    fn ranges(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| start..*end)
    }

    /// The inner products of these blocks with others, whose roots are `states`.
    fn products(&self, states: MatRef<'_, f64>, ends: &[usize]) -> Mat<f64> {
        let mut all = Mat::zeros(self.roots.ncols(), states.ncols());
        matmul(all.as_mut(), Accum::Replace, self.roots.transpose(), states, 1.0);
        let mut products = Mat::zeros(self.ends.len(), ends.len());
        for (a, rows) in self.ranges().enumerate() {
            let mut start = 0;
            for (b, end) in ends.iter().enumerate() {
                products[(a, b)] = all.get(rows.clone(), start..*end).squared_norm_l2();
                start = *end;
            }
        }
        products
    }
}

/// A root of a matrix whose lower triangle is given, of trace 1.
pub(super) fn root_of(moments: &Mat<f64>) -> Result<Mat<f64>, ThresholdError> {
    let eigen = symmetric_eigen(moments.as_ref())?;
    let trace: f64 = eigen.values.iter().map(|value| value.max(0.0)).sum();
    let mut left_out = 0.0;
    let first = eigen.values.iter().position(|value| {
        left_out += value.max(0.0);
        left_out > LEFT_OUT * trace
    });
    let first = first.unwrap_or(0);
    Ok(Mat::from_fn(moments.nrows(), eigen.values.len() - first, |row, column| {
        let share = eigen.values[first + column].max(0.0) / trace;
        share.sqrt() * eigen.vectors[(row, first + column)]
    }))
}

/// The quantile of Student's distribution for the confidence, by its expansion in 1/degrees.
fn quantile(degrees: usize) -> f64 {
    let (z, degrees) = (1.959_963_984_540_054_f64, degrees as f64);
    let (cube, fifth) = (z.powi(3), z.powi(5));
    z + (cube + z) / (4.0 * degrees)
        + (5.0 * fifth + 16.0 * cube + 3.0 * z) / (96.0 * degrees * degrees)
}
