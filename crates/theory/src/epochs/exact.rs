//! The map T of an epoch on second moments, without sampling error.
//!
//! Let `S(I) P` be the mean second moments after the samples of I were used, in all orders and cuts
//! that an epoch allows. Then `S(∅)P = P` and `S(I)P` is the mean of `A_b S(I∖b)P A_bᵀ` over the
//! batches b ⊂ I that may have come last. `S(all)` is T.

use std::cell::RefCell;
use std::collections::HashMap;

use faer::{Accum, Mat, Scale};
use flatmin_linalg::{matmul, product};

use super::step::{Epoch, Step};

/// The largest number of pairs of a set and its last batch.
const MAX_PAIRS: f64 = 50_000.0;

/// The largest number of pairs times the cube of the size of a state.
const MAX_WORK: f64 = 5e7;

/// The largest number of numbers that the sets of one size hold.
const MAX_NUMBERS: f64 = 5e7;

/// The least number of applications of T for one growth.
const LEAST_APPLICATIONS: usize = 12;

/// The largest number of applications of T for one growth.
const MAX_APPLICATIONS: usize = 3000;

/// The epochs of a minimum that are short enough.
pub(super) struct Exact<'a> {
    epoch: &'a Epoch<'a>,
    step: &'a Step,
    /// The second moments of the last growth, from which the next one starts.
    moments: RefCell<Mat<f64>>,
}

/// A set of samples, as bits.
type Set = u64;

/// The A_b of every batch b at one learning rate.
type Operators = HashMap<Set, Mat<f64>>;

impl<'a> Exact<'a> {
    /// `None` if the recursion would take too long.
    pub(super) fn affordable(epoch: &'a Epoch<'a>, step: &'a Step) -> Option<Self> {
        let n = epoch.samples;
        if n > 64 {
            return None;
        }
        let side = epoch.rank() * step.parts;
        let cube = (side * side * side) as f64;
        let (mut pairs, mut numbers) = (0.0, 0.0_f64);
        let mut used = 0;
        for &size in &epoch.sizes {
            used += size;
            pairs += choose(n, used) * choose(used, size);
            let matrices = choose(n, used) + choose(n, size);
            numbers = numbers.max(matrices * (side * side) as f64);
        }
        let fits = pairs <= MAX_PAIRS && pairs * cube <= MAX_WORK && numbers <= MAX_NUMBERS;
        let moments = RefCell::new(Mat::identity(side, side));
        fits.then_some(Self { epoch, step, moments })
    }

    /// The logarithm of the spectral radius of T at a learning rate, by power iteration to this
    /// accuracy.
    pub(super) fn log_growth(&self, learning_rate: f64, accuracy: f64) -> f64 {
        let operators = self.operators(learning_rate);
        let mut moments = self.moments.borrow().clone();
        let (mut last, mut change) = (f64::NAN, f64::INFINITY);
        for applications in 1..=MAX_APPLICATIONS {
            moments *= Scale(1.0 / trace(&moments));
            moments = self.apply(&operators, &moments);
            let growth = trace(&moments);
            if !growth.is_finite() {
                return f64::INFINITY;
            }
            // Errors shrink like a power: what is left is about the change times ratio/(1−ratio).
            let next_change = (growth - last).abs();
            let ratio = (next_change / change).clamp(0.0, 0.999);
            let left = next_change * ratio / (1.0 - ratio);
            (last, change) = (growth, next_change);
            if applications < LEAST_APPLICATIONS {
                // Directions that were lost at the last learning rate have to grow back first.
                continue;
            }
            let is_clear = (growth - 1.0).abs() > 20.0 * (next_change + left);
            let is_exact = left <= accuracy * growth && next_change <= 1e3 * accuracy * growth;
            if is_exact || (accuracy > 1e-6 && is_clear) {
                break;
            }
        }
        // A share of the identity, so that no direction is lost.
        let share = 0.1 * trace(&moments) / moments.nrows() as f64;
        for k in 0..moments.nrows() {
            moments[(k, k)] += share;
        }
        *self.moments.borrow_mut() = moments;
        libm::log(last)
    }

    /// The learning rate between a stable and an unstable one at which the spectral radius is 1, by
    /// false positions.
    pub(super) fn root(&self, stable: f64, unstable: f64) -> f64 {
        const ACCURACY: f64 = 1e-14;
        const MAX_STEPS: usize = 60;
        let (mut low, mut high) = (stable, unstable);
        let mut at_low = self.log_growth(low, ACCURACY);
        let mut at_high = self.log_growth(high, ACCURACY);
        for _ in 0..MAX_STEPS {
            if high - low <= 1e-12 * high {
                break;
            }
            let share = (at_low / (at_low - at_high)).clamp(1e-3, 1.0 - 1e-3);
            let middle = low + share * (high - low);
            let value = self.log_growth(middle, ACCURACY);
            if value.abs() <= 4.0 * ACCURACY {
                return middle;
            }
            if value > 0.0 {
                (high, at_high) = (middle, value);
                at_low *= 0.5;
            } else {
                (low, at_low) = (middle, value);
                at_high *= 0.5;
            }
        }
        f64::midpoint(low, high)
    }

    fn operators(&self, learning_rate: f64) -> Operators {
        let coefficients = self.step.coefficients(learning_rate);
        let mut operators = Operators::new();
        let mut force = vec![0.0; self.epoch.rank()];
        for &size in &self.epoch.sizes {
            for_subsets(full(self.epoch.samples), size, &mut |batch| {
                operators.entry(batch).or_insert_with(|| {
                    let samples = (0..self.epoch.samples).filter(|i| batch >> i & 1 == 1);
                    let rows: Vec<&[f64]> = samples.flat_map(|i| self.epoch.rows_of(i)).collect();
                    let side = self.epoch.rank() * self.step.parts;
                    let mut operator = Mat::identity(side, side);
                    for k in 0..side {
                        let column = operator.col_as_slice_mut(k);
                        coefficients.apply(&rows, size, column, &mut force);
                    }
                    operator
                });
            });
        }
        operators
    }

    /// `T(P)`.
    fn apply(&self, operators: &Operators, moments: &Mat<f64>) -> Mat<f64> {
        let side = moments.nrows();
        let all = full(self.epoch.samples);
        let mut sets: HashMap<Set, Mat<f64>> = HashMap::from([(0, moments.clone())]);
        let mut used = 0;
        for &size in &self.epoch.sizes {
            used += size;
            let mut next = HashMap::new();
            for_subsets(all, used, &mut |set| {
                let mut sum = Mat::<f64>::zeros(side, side);
                let mut count = 0.0;
                for_subsets(set, size, &mut |batch| {
                    if let Some(before) = sets.get(&(set & !batch)) {
                        let operator = operators[&batch].as_ref();
                        let half = product(operator, before.as_ref());
                        matmul(sum.as_mut(), Accum::Add, half.as_ref(), operator.transpose(), 1.0);
                        count += 1.0;
                    }
                });
                next.insert(set, sum * Scale(1.0 / count));
            });
            sets = next;
        }
        // One set; or, if the last batch is dropped, all sets that an epoch may use, in a fixed
        // order.
        let (mut mean, mut count) = (Mat::zeros(side, side), 0.0);
        for_subsets(all, used, &mut |set| {
            mean += &sets[&set];
            count += 1.0;
        });
        mean * Scale(1.0 / count)
    }
}

fn trace(matrix: &Mat<f64>) -> f64 {
    (0..matrix.nrows()).map(|k| matrix[(k, k)]).sum()
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
                after = &operators[&batch] * after * operators[&batch].transpose();
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
