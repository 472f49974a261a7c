//! The map T of an epoch on second moments, without sampling error.
//!
//! Let `S(I) P` be the mean second moments after the samples of I were used, in all orders and cuts
//! that an epoch allows. Then `S(∅)P = P` and `S(I)P` is the mean of `A_b S(I∖b)P A_bᵀ` over the
//! batches b ⊂ I that may have come last. `S(all)` is T.

use std::cell::RefCell;
use std::collections::BTreeMap;

use faer::{Accum, Mat, Scale};

use flatmin_linalg::matmul;

use super::krylov::ritz_pair;
use super::step::{BatchRows, Direction, Epoch, Step};

/// The largest number of pairs of a set and its last batch.
const MAX_PAIRS: f64 = 50_000.0;

/// The largest number of pairs times the cube of the size of a state: for few samples, whose edge
/// is promised to be exact, and for more.
const MAX_WORK: [f64; 2] = [5e7, 5e6];

/// The largest number of samples that count as few.
const FEW: usize = 12;

/// The relative width of the interval for the root.
const ROOT_WIDTH: f64 = 2e-11;

/// The largest number of steps to the root.
const MAX_ROUNDS: usize = 200;

/// The largest number of numbers that the sets of one size hold.
const MAX_NUMBERS: f64 = 5e7;

/// The largest dimension of a Krylov space.
const DIRECTIONS: usize = 20;

/// The least number of Krylov spaces for one growth.
const LEAST_RESTARTS: usize = 6;

/// The largest logarithm of a growth that counts as 1.
const NEUTRAL: f64 = 1e-12;

/// The accuracy of a growth near 1.
const ACCURACY: f64 = 1e-13;

/// The largest number of Krylov spaces for one growth.
const MAX_RESTARTS: usize = 60;

/// The epochs of a minimum that are short enough.
pub(super) struct Exact<'a> {
    epoch: &'a Epoch<'a>,
    step: &'a Step,
    /// The batches that an epoch may draw, with their sizes.
    batches: Vec<(Set, usize)>,
    /// The sets that an epoch may have used after each of its batches.
    levels: Vec<Level>,
    /// Products of states for one application of T, about.
    pub(super) work: f64,
    /// The second moments of the last growth, from which the next one starts.
    moments: RefCell<Mat<f64>>,
    /// Room for the S(I)P of each level. Allocating it anew costs more than the products.
    room: RefCell<Vec<Vec<Mat<f64>>>>,
}

/// A set of samples, as bits.
type Set = u64;

/// For each set of a size, the batches that may have come last, and the set before each, by their
/// places.
type Level = Vec<Vec<(usize, usize)>>;

/// The `A_b` of every batch b at one learning rate.
type Operators = Vec<Mat<f64>>;

impl<'a> Exact<'a> {
    /// `None` if the recursion would take too long.
    pub(super) fn affordable(epoch: &'a Epoch<'a>, step: &'a Step) -> Option<Self> {
        let n = epoch.samples;
        if n > 64 {
            return None;
        }
        let side = epoch.rank() * step.parts;
        let square = (side * side) as f64;
        let (mut pairs, mut numbers) = (0.0, 0.0_f64);
        let mut used = 0;
        for &size in &epoch.sizes {
            used += size;
            pairs += choose(n, used) * choose(used, size);
            numbers += (choose(n, used) + choose(n, size)) * square;
        }
        let work = pairs * square * side as f64;
        let fits =
            pairs <= MAX_PAIRS && work <= MAX_WORK[usize::from(n > FEW)] && numbers <= MAX_NUMBERS;
        fits.then(|| {
            let (batches, levels) = plan(n, &epoch.sizes);
            let room = |level: &Level| vec![Mat::zeros(side, side); level.len()];
            Self {
                epoch,
                step,
                batches,
                work,
                moments: RefCell::new(Mat::identity(side, side)),
                room: RefCell::new(levels.iter().map(room).collect()),
                levels,
            }
        })
    }

    /// The logarithm of the spectral radius of T at a learning rate, to a few per cent or to
    /// [`ACCURACY`], by Arnoldi's method. T keeps the cone of positive semidefinite matrices, so
    /// that its spectral radius is an eigenvalue.
    pub(super) fn log_growth(&self, learning_rate: f64) -> f64 {
        let operators = self.operators(learning_rate);
        let mut moments = self.moments.borrow().clone();
        let mut growth = f64::INFINITY;
        for restart in 1..=MAX_RESTARTS {
            let apply = |moments: &Mat<f64>| self.apply(&operators, moments);
            let Some(ritz) = ritz_pair(&apply, &moments, DIRECTIONS) else { break };
            growth = ritz.value;
            moments = ritz.vector;
            // A direction that begins to grow takes a few Krylov spaces to show.
            let is_decided = ritz.residual <= 0.02 * (growth - 1.0).abs();
            let is_exact = ritz.residual <= ACCURACY * growth;
            if !growth.is_finite() || is_exact || (restart >= LEAST_RESTARTS && is_decided) {
                break;
            }
        }
        if growth.is_finite() {
            // A share of the identity, so that the next learning rate loses no direction.
            let share = 0.1 * moments.norm_l2() / (moments.nrows() as f64).sqrt();
            for k in 0..moments.nrows() {
                moments[(k, k)] += share;
            }
            *self.moments.borrow_mut() = moments;
        }
        libm::log(growth)
    }

    /// True if the spectral radius exceeds 1. Flat directions, whose eigenvalues are 1 up to
    /// rounding, do not count.
    pub(super) fn is_unstable(&self, learning_rate: f64) -> bool {
        !(self.log_growth(learning_rate) <= NEUTRAL)
    }

    /// The learning rate between a stable and an unstable one at which the spectral radius leaves 1.
    ///
    /// Below it the spectral radius may rest at that of flat directions, so that only unstable
    /// learning rates tell where the growth that begins there comes from: the secant of the last two
    /// gives the next one.
    pub(super) fn root(&self, stable: f64, unstable: f64) -> f64 {
        let (mut low, mut high) = (stable, (unstable, self.log_growth(unstable)));
        let mut before: Option<(f64, f64)> = None;
        for round in 0..MAX_ROUNDS {
            let least = ROOT_WIDTH * high.0;
            if high.0 - low <= least {
                break;
            }
            let secant = before
                .filter(|before| before.1 > high.1 && round % 4 != 3)
                .map(|before| high.0 - high.1 * (before.0 - high.0) / (before.1 - high.1));
            let middle = f64::midpoint(low, high.0);
            // One step past the root, when the secant has found it, closes the interval.
            let next = secant.map_or(middle, |rate| rate.min(high.0 - 0.5 * least));
            let next = if next > low { next } else { middle };
            let log = self.log_growth(next);
            if log <= NEUTRAL {
                low = next;
            } else {
                before = Some(high);
                high = (next, log);
            }
        }
        f64::midpoint(low, high.0)
    }

    fn operators(&self, learning_rate: f64) -> Operators {
        let coefficients = self.step.coefficients(learning_rate);
        let side = self.epoch.rank() * self.step.parts;
        let operator = |&(batch, _): &(Set, usize)| {
            let samples: Vec<usize> =
                (0..self.epoch.samples).filter(|i| batch >> i & 1 == 1).collect();
            let mut rows = BatchRows::default();
            self.epoch.gather(&samples, &mut rows);
            let mut operator = Mat::identity(side, side);
            coefficients.apply(Direction::Forward, &rows, &mut operator);
            operator
        };
        self.batches.iter().map(operator).collect()
    }

    /// `T(P)`.
    fn apply(&self, operators: &Operators, moments: &Mat<f64>) -> Mat<f64> {
        let side = moments.nrows();
        let mut half = Mat::zeros(side, side);
        let mut room = self.room.borrow_mut();
        for (level, ways) in self.levels.iter().enumerate() {
            let (before, sums) = room.split_at_mut(level);
            for (sum, ways) in sums[0].iter_mut().zip(ways) {
                let mut accumulate = Accum::Replace;
                for &(batch, set) in ways {
                    let before = before.last().map_or(moments, |sets| &sets[set]);
                    let operator = operators[batch].as_ref();
                    matmul(half.as_mut(), Accum::Replace, operator, before.as_ref(), 1.0);
                    let weight = 1.0 / ways.len() as f64;
                    matmul(sum.as_mut(), accumulate, half.as_ref(), operator.transpose(), weight);
                    accumulate = Accum::Add;
                }
            }
        }
        // One set; or, if the last batch is dropped, all sets that an epoch may use.
        let last = room.last().map_or(&[][..], Vec::as_slice);
        let mut mean = Mat::zeros(side, side);
        for set in last {
            mean += set;
        }
        mean * Scale(1.0 / last.len() as f64)
    }
}

/// The batches of epochs of n samples with these sizes, and the sets that they use up.
fn plan(n: usize, sizes: &[usize]) -> (Vec<(Set, usize)>, Vec<Level>) {
    let (mut batches, mut places) = (Vec::new(), BTreeMap::new());
    let mut before: BTreeMap<Set, usize> = BTreeMap::from([(0, 0)]);
    let (mut levels, mut used) = (Vec::new(), 0);
    for &size in sizes {
        used += size;
        let (mut level, mut sets) = (Level::new(), BTreeMap::new());
        for_subsets(full(n), used, &mut |set| {
            let mut ways = Vec::new();
            for_subsets(set, size, &mut |batch| {
                let place = *places.entry(batch).or_insert_with(|| {
                    batches.push((batch, size));
                    batches.len() - 1
                });
                ways.extend(before.get(&(set & !batch)).map(|before| (place, *before)));
            });
            sets.insert(set, level.len());
            level.push(ways);
        });
        before = sets;
        levels.push(level);
    }
    (batches, levels)
}

fn full(n: usize) -> Set {
    if n == 64 { Set::MAX } else { (1 << n) - 1 }
}

/// Calls `visit` with every subset of `set` that has `size` elements.
fn for_subsets(set: Set, size: usize, visit: &mut dyn FnMut(Set)) {
    fn extend(rest: Set, chosen: Set, left: u32, visit: &mut dyn FnMut(Set)) {
        if left == 0 {
            visit(chosen);
            return;
        }
        let mut rest = rest;
        while rest.count_ones() >= left {
            let lowest = rest & rest.wrapping_neg();
            rest &= !lowest;
            extend(rest, chosen | lowest, left - 1, visit);
        }
    }
    #[expect(clippy::cast_possible_truncation, reason = "a set has at most 64 elements")]
    extend(set, 0, size as u32, visit);
}

/// The binomial coefficient.
fn choose(n: usize, k: usize) -> f64 {
    (0..k.min(n - k)).map(|i| (n - i) as f64 / (i + 1) as f64).product()
}

#[cfg(test)]
mod tests {
    use faer::{Mat, Scale};
    use flatmin_linalg::{RowMatrix, stream};
    use rand::RngExt as _;

    use super::{Epoch, Exact, Operators, Step};
    use crate::{Batch, Minimum, Optimizer, Sampling};

    /// The mean of `A_π P A_πᵀ` over all orders of the samples, one after the other.
    fn enumerated(exact: &Exact<'_>, operators: &Operators, moments: &Mat<f64>) -> Mat<f64> {
        let mut order: Vec<usize> = (0..exact.epoch.samples).collect();
        let (mut mean, mut count) = (Mat::zeros(moments.nrows(), moments.nrows()), 0.0);
        loop {
            let mut after = moments.clone();
            let mut first = 0;
            for &size in &exact.epoch.sizes {
                let batch: u64 = order[first..first + size].iter().map(|i| 1 << i).sum();
                let place = exact.batches.iter().position(|(set, _)| *set == batch).unwrap();
                after = &operators[place] * after * operators[place].transpose();
                first += size;
            }
            mean += after;
            count += 1.0;
            // The next order.
            let Some(i) = (1..order.len()).rev().find(|&i| order[i - 1] < order[i]) else { break };
            let j = (i..order.len()).rev().find(|&j| order[j] > order[i - 1]).unwrap();
            order.swap(i - 1, j);
            order[i..].reverse();
        }
        mean * Scale(1.0 / count)
    }

    #[test]
    fn the_recursion_is_the_mean_over_all_orders() {
        let mut rng = stream(3, "epochs", 0);
        let sgd = Optimizer::sgd();
        let nesterov = sgd.momentum(0.5).unwrap().nesterov().unwrap().weight_decay(0.2).unwrap();
        let cases = [(5, 1, false), (7, 1, false), (6, 2, false), (7, 3, false), (7, 3, true)];
        for ((n, size, drops_last), optimizer) in
            cases.into_iter().flat_map(|case| [(case, sgd), (case, nesterov)])
        {
            let jacobian = RowMatrix::from_fn(n, 3, |_, _| rng.random_range(-1.0..1.0));
            let minimum = Minimum::new(&jacobian).unwrap();
            let batch = Batch::new(size, Sampling::Reshuffling).unwrap();
            let batch = if drops_last { batch.dropping_last() } else { batch };
            let epoch = Epoch::new(&minimum, &batch).unwrap();
            let step = Step::new(optimizer);
            let side = epoch.rank() * step.parts;
            let start = Mat::from_fn(side, side, |k, l| if k == l { 1.0 } else { 0.1 });
            let exact = Exact::affordable(&epoch, &step).unwrap();
            let operators = exact.operators(0.3);
            let expected = enumerated(&exact, &operators, &start);
            let error = (exact.apply(&operators, &start) - &expected).norm_max();
            assert!(error <= 1e-12 * expected.norm_max(), "n = {n}, B = {size}: {error}");
        }
    }
}
