//! What must happen to the threshold when a minimum is changed in a way whose effect is known.
//!
//! A certified interval contains the threshold of the numbers that it was given. Where a change leaves the
//! threshold of the real numbers as it is, and is made without rounding, the two intervals must therefore
//! meet, however narrow they are: the width asked for is such that rounding alone decides it. Equal bits are
//! expected only where every operation is the same up to exact factors.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use faer::Mat;
use flatmin_linalg::{Parallelism, RowMatrix, stream, symmetric_eigenvalues};
use flatmin_theory::{
    Batch, Bounds, Gram, GramSum, Minimum, Sampling, Threshold, ThresholdOptions, ThresholdStatus,
    alignment, bounds, threshold_with,
};
use proptest::prelude::{
    Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, proptest,
};
use proptest::test_runner::TestCaseError;
use proptest::{collection, prop_oneof, sample};
use rand::RngExt as _;

const UNIT_ROUNDOFF: f64 = f64::EPSILON / 2.0;

fn with_replacement(size: usize) -> Batch {
    Batch::new(size, Sampling::WithReplacement).unwrap()
}

fn without_replacement(size: usize) -> Batch {
    Batch::new(size, Sampling::WithoutReplacement).unwrap()
}

/// The interval that rounding alone decides.
fn interval(jacobian: &RowMatrix, outputs: usize, batch: Batch, momentum: f64) -> Threshold {
    let found = at_any_scale(jacobian, outputs, batch, momentum);
    // So narrow that meeting says something; rounding grows with the ζ of momentum.
    let coupling = momentum / ((1.0 - momentum).powi(2) * (1.0 + momentum));
    let width = 2e-11 + 1e-12 * coupling * outputs as f64;
    assert!(found.relative_width() < width, "{:e} {found:?}", found.relative_width());
    found
}

/// The same, however wide subnormal numbers make it.
fn at_any_scale(jacobian: &RowMatrix, outputs: usize, batch: Batch, momentum: f64) -> Threshold {
    of_minimum(&Minimum::with_outputs(jacobian, outputs).unwrap(), batch, momentum)
}

fn of_minimum(minimum: &Minimum, batch: Batch, momentum: f64) -> Threshold {
    let options =
        ThresholdOptions { relative_width: 1e-15, momentum, ..ThresholdOptions::default() };
    threshold_with(minimum, batch, &options).unwrap()
}

/// Both may contain one number.
fn meet(a: Threshold, b: Threshold) -> Result<(), TestCaseError> {
    prop_assert!(a.lower <= b.upper && b.lower <= a.upper, "{a:?}\n{b:?}");
    Ok(())
}

/// The interval of `factor` times the threshold.
fn times(factor: f64, found: Threshold) -> Threshold {
    let lower = (factor * found.lower).next_down();
    let upper = (factor * found.upper).next_up();
    // The factor is a quotient of integers, rounded itself.
    Threshold { lower: lower * (1.0 - f64::EPSILON), upper: upper * (1.0 + f64::EPSILON), ..found }
}

/// 2^exponent times the matrix, rounded only where it leaves the range of normal numbers.
fn scaled(jacobian: &RowMatrix, exponent: i32) -> RowMatrix {
    let at = |i: usize, j: usize| libm::scalbn(jacobian.row(i)[j], exponent);
    RowMatrix::from_fn(jacobian.rows(), jacobian.columns(), at)
}

/// Zeros, small integers (exact ties and dependencies), and numbers over eight decades.
fn entry() -> impl Strategy<Value = f64> {
    prop_oneof![
        1 => Just(0.0),
        3 => (-3_i32..=3).prop_map(f64::from),
        3 => -2.0..2.0_f64,
        1 => (-1.0..1.0_f64, -4_i32..=4).prop_map(|(x, e)| x * 10.0_f64.powi(e)),
    ]
}

/// Integers, of which sums and products are exact.
fn integer() -> impl Strategy<Value = f64> {
    (-9_i32..=9).prop_map(f64::from)
}

fn momentum() -> impl Strategy<Value = f64> {
    prop_oneof![2 => Just(0.0), 1 => Just(0.9), 1 => 0.0..0.95_f64]
}

fn batch(sample_count: usize) -> impl Strategy<Value = Batch> {
    prop_oneof![
        (1..=sample_count).prop_map(without_replacement),
        (1..=2 * sample_count).prop_map(with_replacement),
    ]
}

/// A Jacobian of a few samples with some outputs, of which rows may be repeated.
#[derive(Debug, Clone)]
struct Case {
    jacobian: RowMatrix,
    outputs: usize,
    batch: Batch,
    momentum: f64,
}

impl Case {
    fn samples(&self) -> usize {
        self.jacobian.rows() / self.outputs
    }

    fn columns(&self) -> usize {
        self.jacobian.columns()
    }

    fn found(&self) -> Threshold {
        self.of(&self.jacobian)
    }

    /// The interval of another Jacobian, of the same batches.
    fn of(&self, jacobian: &RowMatrix) -> Threshold {
        interval(jacobian, self.outputs, self.batch, self.momentum)
    }

    /// The Jacobian with its entries replaced.
    fn map(&self, entry: impl FnMut(usize, usize) -> f64) -> RowMatrix {
        RowMatrix::from_fn(self.jacobian.rows(), self.columns(), entry)
    }

    fn at(&self, row: usize, column: usize) -> f64 {
        self.jacobian.row(row)[column]
    }
}

fn case_of(
    entry: impl Strategy<Value = f64> + Clone,
    columns: impl Strategy<Value = usize>,
    outputs: impl Strategy<Value = usize>,
) -> impl Strategy<Value = Case> {
    (1..=5_usize, columns, outputs, 1..=6_usize)
        .prop_flat_map(move |(distinct, columns, outputs, samples)| {
            let values = collection::vec(entry.clone(), distinct * columns);
            let order = collection::vec(0..distinct, samples * outputs);
            (Just((columns, outputs)), values, order, batch(samples), momentum())
        })
        .prop_map(|((columns, outputs), values, order, batch, momentum)| {
            let at = |i: usize, j: usize| values[order[i] * columns + j];
            let jacobian = RowMatrix::from_fn(order.len(), columns, at);
            Case { jacobian, outputs, batch, momentum }
        })
}

fn case() -> impl Strategy<Value = Case> {
    case_of(entry().boxed(), 1..=5_usize, prop_oneof![3 => Just(1_usize), 1 => 2..=3_usize])
}

fn integers(columns: usize) -> impl Strategy<Value = Case> {
    let outputs = prop_oneof![3 => Just(1_usize), 1 => 2..=3_usize];
    case_of(integer().boxed(), Just(columns), outputs)
}

/// One output, no momentum, no extreme ratio.
fn plain(rows: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = RowMatrix> {
    (rows, 1..=3_usize).prop_flat_map(|(rows, columns)| {
        collection::vec(prop_oneof![-2.0..2.0_f64, integer()], rows * columns)
            .prop_map(move |values| RowMatrix::new(rows, columns, values).unwrap())
    })
}

fn all_bounds(bounds: &Bounds) -> [f64; 8] {
    let &Bounds {
        lambda_max,
        trace,
        frobenius_norm,
        sharp_frobenius_norm,
        centered_alignment,
        uncentered_alignment,
        spectral,
        sufficient,
    } = bounds;
    [
        lambda_max,
        trace,
        frobenius_norm,
        sharp_frobenius_norm,
        centered_alignment,
        uncentered_alignment,
        spectral,
        sufficient,
    ]
}

proptest! {
    /// η*(cJ) = η*(J)/c². For c = 2^e every operation is scaled exactly: the interval, the bounds and the
    /// number of products are the same to the bit, as long as the result is a normal number.
    #[test]
    fn a_power_of_two_scales_every_bit(case in case(), exponent in -480_i32..=480) {
        let other = scaled(&case.jacobian, exponent);
        let (a, b) = (case.found(), case.of(&other));
        let expected = Threshold {
            lower: libm::scalbn(a.lower, -2 * exponent),
            upper: libm::scalbn(a.upper, -2 * exponent),
            ..a
        };
        prop_assert_eq!(b, expected);
        let [a, b] = [&case.jacobian, &other].map(|jacobian| {
            all_bounds(&bounds(&Minimum::with_outputs(jacobian, case.outputs).unwrap(), case.batch).unwrap())
        });
        for (a, b) in a.into_iter().zip(b) {
            prop_assert_eq!(libm::scalbn(a, -2 * exponent).to_bits(), b.to_bits());
        }
    }

    /// The same where squares of entries, or η* itself, leave the range of normal numbers: the interval is the
    /// scaled one, rounded outward by a unit of the last place that is left.
    #[test]
    fn a_power_of_two_beyond_the_range_rounds_outward(
        case in case(),
        exponent in prop_oneof![490..=560_i32, -560..=-490_i32, Just(1000), Just(-1000)],
    ) {
        let other = scaled(&case.jacobian, exponent);
        let (a, b) = (case.found(), at_any_scale(&other, case.outputs, case.batch, case.momentum));
        let [lower, upper] = [a.lower, a.upper].map(|end| libm::scalbn(end, -2 * exponent));
        prop_assert!(b.lower <= lower && upper <= b.upper, "{lower:e} {upper:e} {b:?}");
        if a.lower.is_infinite() {
            prop_assert!(b.lower.is_infinite());
        } else {
            // There is no largest stable learning rate to be had, but η* is no more than it was.
            prop_assert!(b.lower < f64::INFINITY && b.lower >= narrow(lower), "{b:?} {lower:e}");
            prop_assert!(upper.is_infinite() || -b.upper >= narrow(-upper), "{b:?} {upper:e}");
        }
    }

    /// Bounds keep their order where sharpness overflows or underflows, and are numbers.
    #[test]
    fn bounds_are_numbers_in_order_at_any_scale(
        case in case(),
        exponent in prop_oneof![490..=560_i32, -560..=-490_i32, Just(1000), Just(-1000)],
    ) {
        let jacobian = scaled(&case.jacobian, exponent);
        let minimum = Minimum::with_outputs(&jacobian, case.outputs).unwrap();
        let found = of_minimum(&minimum, case.batch, 0.0);
        let bounds = bounds(&minimum, case.batch).unwrap();
        prop_assert!(all_bounds(&bounds).iter().all(|bound| *bound >= 0.0), "{bounds:?}");
        let slack = |rate: f64| (rate * (1.0 + 1e-12)).next_up();
        prop_assert!(bounds.sufficient <= slack(found.upper), "{bounds:?} {found:?}");
        let least = [bounds.trace, bounds.sharp_frobenius_norm, bounds.lambda_max];
        for bound in least {
            prop_assert!(bounds.spectral <= slack(bound), "{bounds:?}");
        }
        prop_assert!(found.lower <= slack(bounds.spectral), "{bounds:?} {found:?}");
        prop_assert!(found.lower <= slack(bounds.centered_alignment), "{bounds:?} {found:?}");
    }

    /// Any other factor rounds the entries: K moves by at most (2u + u²)‖J‖_F²/n in norm, μ* by at most 4 + 4pn
    /// times that, and μ* ≥ λ_max ≥ ‖J‖_F²/(nr).
    #[test]
    fn another_factor_scales_up_to_the_rounding_of_the_entries(
        case in case(), factor in prop_oneof![1e-3..1e3_f64, -3.0..-1e-3_f64],
    ) {
        let jacobian = case.map(|i, j| factor * case.at(i, j));
        let plain = Case { momentum: 0.0, ..case };
        let (a, b) = (plain.found(), plain.of(&jacobian));
        if a.lower.is_infinite() {
            prop_assert!(b.lower.is_infinite());
            return Ok(());
        }
        let rank = plain.columns().min(plain.jacobian.rows()) as f64;
        let moved = (4.0 + 4.0 * plain.samples() as f64) * 2.01 * UNIT_ROUNDOFF * rank;
        // c² and the product with it are rounded.
        let (low, high) = (1.0 - moved - 8.0 * UNIT_ROUNDOFF, 1.0 + moved + 8.0 * UNIT_ROUNDOFF);
        let square = factor * factor;
        prop_assert!(square * b.lower * low <= a.upper, "{a:?} {b:?}");
        prop_assert!(a.lower <= square * b.upper * high, "{a:?} {b:?}");
    }

    /// η*(JQ) = η*(J) for orthogonal Q: K = JJᵀ/n stays as it is. Signs of columns leave every product of two
    /// entries, and with them every bit.
    #[test]
    fn orthogonal_changes_of_the_parameters_change_nothing(
        case in integers(4), signs in collection::vec(any::<bool>(), 4), order in Just(vec![0, 1, 2, 3]).prop_shuffle(),
    ) {
        let found = case.found();
        let sign = |j: usize| if signs[j] { -1.0 } else { 1.0 };
        prop_assert_eq!(case.of(&case.map(|i, j| sign(j) * case.at(i, j))), found);
        meet(case.of(&case.map(|i, j| sign(j) * case.at(i, order[j]))), found)?;
        meet(case.of(&case.map(|i, j| hadamard(&case, i, j))), found)?;
    }

    /// Zero columns are parameters on which nothing depends.
    #[test]
    fn parameters_without_effect_change_nothing(case in case(), extra in 1..=70_usize) {
        let columns = case.columns();
        let at = |i: usize, j: usize| if j < columns { case.at(i, j) } else { 0.0 };
        let wider = RowMatrix::from_fn(case.jacobian.rows(), columns + extra, at);
        meet(case.of(&wider), case.found())?;
    }

    /// The order of the samples, the signs of their outputs and the order of these do not enter: J_iᵀJ_i is all
    /// there is of a sample.
    #[test]
    fn order_and_signs_of_rows_change_nothing(
        case in case(),
        flips in collection::vec(any::<bool>(), 18),
        shift in any::<sample::Index>(),
        turn in any::<sample::Index>(),
    ) {
        let (n, k) = (case.samples(), case.outputs);
        let (shift, turn) = (shift.index(n), turn.index(k));
        let row = |i: usize| (n - 1 - (i / k + shift) % n) * k + (i % k + turn) % k;
        let sign = |i: usize| if flips[i] { -1.0 } else { 1.0 };
        let found = case.found();
        meet(case.of(&case.map(|i, j| case.at(row(i), j))), found)?;
        meet(case.of(&case.map(|i, j| sign(i) * case.at(i, j))), found)?;
    }

    /// An orthogonal change of the outputs of each sample leaves J_iᵀJ_i. Rotations by the angles of the triangle
    /// (3, 4, 5), some of them reflected, are exact on multiples of 5.
    #[test]
    fn orthogonal_changes_of_the_outputs_change_nothing(
        case in case_of(integer().boxed(), 1..=4_usize, 2..=3_usize), turns in collection::vec(any::<u8>(), 6),
    ) {
        let k = case.outputs;
        let five = Case { jacobian: case.map(|i, j| 5.0 * case.at(i, j)), ..case.clone() };
        let turned = case.map(|row, j| {
            let turn = turns[row / k];
            let at = |output: usize| case.at(row / k * k + output, j);
            let (first, second) = (usize::from(turn) % k, (usize::from(turn) + 1) % k);
            let sign = if turn >= 128 { -1.0 } else { 1.0 };
            match row % k {
                output if output == first => 3.0 * at(first) - 4.0 * at(second),
                output if output == second => sign * (4.0 * at(first) + 3.0 * at(second)),
                output => 5.0 * at(output),
            }
        });
        meet(five.of(&turned), five.found())?;
    }

    /// Outputs that are zero, here and there another one of each sample, leave a network with one output.
    #[test]
    fn one_output_among_zeros_is_one_output(
        case in case_of(entry().boxed(), 1..=4_usize, Just(1_usize)), places in collection::vec(0..3_usize, 6),
    ) {
        let (n, k) = (case.samples(), 3);
        let padded = RowMatrix::from_fn(n * k, case.columns(), |row, j| {
            if row % k == places[row / k] { case.at(row / k, j) } else { 0.0 }
        });
        meet(interval(&padded, k, case.batch, case.momentum), case.found())?;
    }

    /// Every sample c times: G and (1/n) Σ J_iᵀJ_i X J_iᵀJ_i are means over samples and stay what they are, so that
    /// η* is a function of p alone (S8, S13).
    ///
    /// - With replacement p = 1/B does not know n: the same η*.
    /// - Without replacement p = (cn − B)/(B(cn − 1)), which is more than (n − B)/(B(n − 1)): the set may now be
    ///   drawn twice. For c → ∞ it is 1/B. With N = cn even and B = N/2 it is
    ///   `(N/2)/((N/2)(N − 1)) = 1/(N − 1)`: half of the samples without replacement are as noisy as N − 1 with.
    #[test]
    fn every_sample_several_times_counts_through_the_noise_coefficient_alone(
        case in case(), copies in 2..=3_usize,
    ) {
        let (n, k) = (case.samples(), case.outputs);
        let at = |row: usize, j: usize| case.at(row % (n * k), j);
        let repeated = RowMatrix::from_fn(copies * n * k, case.columns(), at);
        let of = |jacobian: &RowMatrix, batch| interval(jacobian, k, batch, case.momentum);
        let with = with_replacement(case.batch.size());
        meet(of(&repeated, with), of(&case.jacobian, with))?;
        // p = 1 without replacement too.
        meet(of(&repeated, without_replacement(1)), of(&case.jacobian, with_replacement(1)))?;
        let total = copies * n;
        if total.is_multiple_of(2) {
            let half = of(&repeated, without_replacement(total / 2));
            meet(half, of(&case.jacobian, with_replacement(total - 1)))?;
        }
    }

    /// z samples without gradient, s = n/(n + z): G becomes sG and the mean of the J_iᵀJ_i X J_iᵀJ_i s times what it
    /// was. With the p of the larger set, `μ* = max [(1−p) s² tr(XGXG) + p s Σ…] / (s tr(XGX))` is
    /// `w = (1−p)s + p` times the μ* of the smaller set at the noise coefficient q = p/w:
    ///
    ///     η*(larger set, p) = η*(smaller set, p/w) / w.
    ///
    /// One sample at a time has p = q = w = 1: η* does not change. With replacement, z = (j−1)n and B = j(m−1) + 1,
    /// `w = ((B−1)/j + 1)/B = m/B` and q = 1/m: B/m times the η* of batches of m. (On average m of the B draws
    /// meet gradients if one does, and the step is divided by B.)
    #[test]
    fn samples_without_gradient_count_as_derived(
        case in case(), factor in 2..=4_usize, size in 1..=5_usize,
    ) {
        // The relation is one of S8: without momentum.
        let (n, k) = (case.samples(), case.outputs);
        let padded = RowMatrix::from_fn(factor * n * k, case.columns(), |row, j| {
            // The first sample of every `factor` is one of the given ones.
            let (sample, output) = (row / k, row % k);
            if sample % factor == 0 { case.at(sample / factor * k + output, j) } else { 0.0 }
        });
        let of = |jacobian: &RowMatrix, batch| interval(jacobian, k, batch, 0.0);
        meet(of(&padded, without_replacement(1)), of(&case.jacobian, with_replacement(1)))?;
        let draws = factor * (size - 1) + 1;
        let larger = of(&padded, with_replacement(draws));
        let smaller = of(&case.jacobian, with_replacement(size));
        meet(larger, times(draws as f64 / size as f64, smaller))?;
    }

    /// μ* is a maximum over X of affine functions of p (and stays one with momentum, where P and κ are affine in
    /// p): convex in p. At a maximiser X, which is positive semidefinite, the factor of p is
    /// `(1/n) Σ ‖X^½ (J_iᵀJ_i − G) X^½‖_F² ≥ 0`, over tr(XGX): μ* grows with p, and η* with B (S8).
    /// Between p = 0 and p = 1 convexity says `η* ≥ 1/((1−p)/η*(p=0) + p/η*(p=1))`, which is sharper than S7.
    #[test]
    fn the_threshold_is_monotone_and_convex_in_the_noise(case in case()) {
        let n = case.samples();
        let of = |batch| interval(&case.jacobian, case.outputs, batch, case.momentum);
        let with: Vec<Threshold> = (1..=n + 2).map(|size| of(with_replacement(size))).collect();
        let without: Vec<Threshold> = (1..=n).map(|size| of(without_replacement(size))).collect();
        for list in [&with, &without] {
            for pair in list.windows(2) {
                prop_assert!(pair[0].lower <= pair[1].upper, "{pair:?}");
            }
        }
        for (a, b) in with.iter().zip(&without) {
            prop_assert!(a.lower <= b.upper, "{a:?} {b:?}");
        }
        let (quiet, loud) = (without[n - 1], with[0]);
        for (size, found) in (1..).zip(&with) {
            let p = 1.0 / f64::from(size);
            let least = 1.0 / ((1.0 - p) / quiet.lower + p / loud.lower);
            prop_assert!(found.upper >= least * (1.0 - 8.0 * UNIT_ROUNDOFF), "{size}: {found:?}, {least}");
        }
        for triple in (1..).zip(&with).collect::<Vec<_>>().windows(3) {
            let [(a, first), (b, second), (c, third)] = triple else { continue };
            let [a, b, c] = [a, b, c].map(|size| 1.0 / f64::from(*size));
            let weight = (b - c) / (a - c);
            let least = 1.0 / (weight / first.lower + (1.0 - weight) / third.lower);
            prop_assert!(second.upper >= least * (1.0 - 8.0 * UNIT_ROUNDOFF), "{triple:?}");
        }
    }

    /// More parameters make K larger in the Loewner order, and without momentum μ* is monotone in K.
    #[test]
    fn more_parameters_never_raise_the_threshold(case in case(), keep in any::<sample::Index>()) {
        let plain = Case { momentum: 0.0, ..case };
        let fewer = keep.index(plain.columns());
        let part = RowMatrix::from_fn(plain.jacobian.rows(), fewer, |i, j| plain.at(i, j));
        let (part, whole) = (plain.of(&part), plain.found());
        prop_assert!(whole.lower <= part.upper, "{whole:?} {part:?}");
    }

    /// One sample is the same in every batch: η* = 2(1+β)/λ_max(J_1 J_1ᵀ), whatever B is.
    #[test]
    fn one_sample_has_no_noise(
        row in collection::vec(integer(), 1..=5), momentum in momentum(), size in 1..=usize::MAX,
    ) {
        let jacobian = RowMatrix::new(1, row.len(), row).unwrap();
        let square: f64 = jacobian.row(0).iter().map(|value| value * value).sum();
        let expected = 2.0 * (1.0 + momentum) / square;
        for batch in [with_replacement(size), with_replacement(1), without_replacement(1)] {
            let found = interval(&jacobian, 1, batch, momentum);
            prop_assert!(found.lower <= expected * (1.0 + f64::EPSILON), "{found:?}, {expected}");
            prop_assert!(expected * (1.0 - f64::EPSILON) <= found.upper, "{found:?}, {expected}");
        }
    }

    /// By convexity `μ*(p) ≤ μ*(0) + p μ*(1) ≤ (1 + pn) μ*(0)`: what huge batches with replacement leave of the noise
    /// is below rounding, and the interval meets that of gradient descent.
    #[test]
    fn huge_batches_are_gradient_descent(case in case(), size in usize::MAX / 1000..=usize::MAX) {
        let n = case.samples();
        let of = |batch| interval(&case.jacobian, case.outputs, batch, case.momentum);
        meet(of(with_replacement(size)), of(without_replacement(n)))?;
    }

    /// A Jacobian in blocks of columns whose sizes differ by up to 300 powers of ten is the same minimum as the
    /// whole, in any order of the blocks.
    #[test]
    fn blocks_of_very_different_size_are_summed_without_overflow(
        case in case(),
        exponents in collection::vec(-540..=500_i32, 5),
    ) {
        let outputs = case.outputs;
        let at = |i: usize, j: usize| libm::scalbn(case.at(i, j), exponents[j]);
        let jacobian = case.map(at);
        let plain = Case { momentum: 0.0, ..case };
        let whole = of_minimum(&Minimum::with_outputs(&jacobian, outputs).unwrap(), plain.batch, 0.0);
        for reverse in [false, true] {
            let mut sum = GramSum::with_outputs(plain.samples(), outputs, Parallelism::Sequential).unwrap();
            for j in 0..plain.columns() {
                let j = if reverse { plain.columns() - 1 - j } else { j };
                sum.add(jacobian.as_mat().get(.., j..j + 1)).unwrap();
            }
            meet(of_minimum(&sum.minimum().unwrap(), plain.batch, 0.0), whole)?;
        }
    }
}

/// Two units of the last place below, and the rounding of a few more.
fn narrow(end: f64) -> f64 {
    let end = end.clamp(f64::MIN, f64::MAX);
    (end - 8.0 * UNIT_ROUNDOFF * end.abs()).next_down().next_down()
}

/// Entry (i, j) of J·H/2 with the 4 × 4 matrix H of signs whose columns are orthogonal: exact on integers.
fn hadamard(case: &Case, i: usize, j: usize) -> f64 {
    let sign = |l: usize| if (l & j).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
    0.5 * (0..4).map(|l| sign(l) * case.at(i, l)).sum::<f64>()
}

/// `E[A ⊗ A]` with `A = I − η (1/B) Σ g_i g_iᵀ`, the mean over every batch there is.
fn enumerated(jacobian: &RowMatrix, batch: Batch, rate: f64) -> Mat<f64> {
    let (n, p, size) = (jacobian.rows(), jacobian.columns(), batch.size());
    let mut sum = Mat::<f64>::zeros(p * p, p * p);
    let mut count = 0.0;
    let batch_size = u32::try_from(size).unwrap();
    for code in 0..n.pow(batch_size) {
        let drawn: Vec<usize> = (0..batch_size).map(|place| code / n.pow(place) % n).collect();
        let is_drawn = match batch.sampling() {
            Sampling::WithReplacement => true,
            // Every set once.
            Sampling::WithoutReplacement => drawn.windows(2).all(|pair| pair[0] < pair[1]),
        };
        if is_drawn {
            let step = Mat::from_fn(p, p, |a, b| {
                let curvature: f64 =
                    drawn.iter().map(|&i| jacobian.row(i)[a] * jacobian.row(i)[b]).sum();
                (if a == b { 1.0 } else { 0.0 }) - rate * curvature / size as f64
            });
            sum += Mat::from_fn(p * p, p * p, |x, y| step[(x / p, y / p)] * step[(x % p, y % p)]);
            count += 1.0;
        }
    }
    faer::Scale(1.0 / count) * sum
}

/// The same by the noise coefficient: `I − η(G⊗I + I⊗G) + η²[(1−p) G⊗G + (p/n) Σ H_i⊗H_i]`.
fn by_noise(jacobian: &RowMatrix, noise: f64, rate: f64) -> Mat<f64> {
    let (n, p) = (jacobian.rows(), jacobian.columns());
    let gauss_newton =
        faer::Scale(1.0 / n as f64) * (jacobian.as_mat().transpose() * jacobian.as_mat());
    Mat::from_fn(p * p, p * p, |x, y| {
        let (i, j, k, l) = (x / p, x % p, y / p, y % p);
        let delta = |a: usize, b: usize| if a == b { 1.0 } else { 0.0 };
        let g = |a: usize, b: usize| gauss_newton[(a, b)];
        let fourth: f64 =
            (0..n).map(|s| jacobian.row(s)).map(|row| row[i] * row[k] * row[j] * row[l]).sum();
        delta(i, k) * delta(j, l) - rate * (g(i, k) * delta(j, l) + delta(i, k) * g(j, l))
            + rate * rate * ((1.0 - noise) * g(i, k) * g(j, l) + noise / n as f64 * fourth)
    })
}

fn growth(operator: &Mat<f64>) -> f64 {
    symmetric_eigenvalues(operator.as_ref()).unwrap().last().copied().unwrap()
}

fn largest_difference(a: &Mat<f64>, b: &Mat<f64>) -> f64 {
    (a - b).norm_max() / a.norm_max()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What is said above about repeated samples, for the operator on second moments itself: the mean over
    /// every batch of the repeated set is that of the single set with the p of the larger one.
    #[test]
    fn the_operator_of_repeated_samples_is_that_of_the_noise_coefficient(
        jacobian in plain(1..=3), copies in 2..=3_usize, size in 1..=3_usize, replacement in any::<bool>(),
    ) {
        let n = jacobian.rows();
        let repeated = RowMatrix::from_fn(copies * n, jacobian.columns(), |i, j| jacobian.row(i % n)[j]);
        let total = (copies * n) as f64;
        let b = size as f64;
        if size > copies * n {
            return Ok(());
        }
        let (batch, noise) = if replacement {
            (with_replacement(size), 1.0 / b)
        } else {
            (without_replacement(size), (total - b) / (b * (total - 1.0)))
        };
        let found = interval(&repeated, 1, batch, 0.0);
        let rate = if found.upper.is_finite() { found.lower } else { 1.0 };
        let operator = enumerated(&repeated, batch, rate);
        let difference = largest_difference(&operator, &by_noise(&jacobian, noise, rate));
        prop_assert!(difference < 1e-12, "{difference:e}");
        check_edge(&repeated, batch)?;
    }

    /// The same for samples without gradient, by the edge of the smaller set at the derived noise coefficient.
    #[test]
    fn the_edge_with_samples_without_gradient_is_the_derived_one(
        jacobian in plain(1..=3), zeros in 1..=3_usize, size in 1..=3_usize, replacement in any::<bool>(),
    ) {
        let (n, columns) = (jacobian.rows(), jacobian.columns());
        let total = n + zeros;
        let padded = RowMatrix::from_fn(total, columns, |i, j| if i < n { jacobian.row(i)[j] } else { 0.0 });
        let batch = if replacement { with_replacement(size) } else { without_replacement(size.min(total)) };
        check_edge(&padded, batch)?;
        let (p, s) = (batch.noise_coefficient(total).unwrap(), n as f64 / total as f64);
        let w = (1.0 - p) * s + p;
        let found = interval(&padded, 1, batch, 0.0);
        if found.upper.is_finite() {
            // In the smaller set, at the ends.
            let at = |rate: f64| growth(&by_noise(&jacobian, p / w, w * rate));
            prop_assert!(at(found.lower) <= 1.0 + 1e-11, "{}", at(found.lower));
            prop_assert!(at(1.01 * found.upper) > 1.0, "{}", at(1.01 * found.upper));
        }
    }
}

/// The mean over every batch grows past the interval and not before.
fn check_edge(jacobian: &RowMatrix, batch: Batch) -> Result<(), TestCaseError> {
    let found = interval(jacobian, 1, batch, 0.0);
    if found.upper.is_finite() {
        let at = |rate: f64| growth(&enumerated(jacobian, batch, rate));
        prop_assert!(at(found.lower) <= 1.0 + 1e-11, "{} at {found:?}", at(found.lower));
        prop_assert!(
            at(1.01 * found.upper) > 1.0 + 1e-9,
            "{} past {found:?}",
            at(1.01 * found.upper)
        );
    }
    Ok(())
}

/// As the properties above, at a size where sums of many terms are rounded: every one of these has the same
/// η*.
#[test]
fn exact_changes_of_many_samples_change_nothing() {
    let (n, p) = (60, 16);
    for (index, bound) in [(0, 9), (1, 1000), (2, 100_000)] {
        let mut rng = stream(index, "metamorphic integers", 0);
        let jacobian = RowMatrix::from_fn(n, p, |_, _| f64::from(rng.random_range(-bound..=bound)));
        let at = |i: usize, j: usize| jacobian.row(i)[j];
        let mixed = |i: usize, j: usize| {
            let sign = |l: usize| if (l & j).count_ones().is_multiple_of(2) { 0.25 } else { -0.25 };
            (0..p).map(|l| sign(l) * at(i, l)).sum::<f64>()
        };
        let variants = [
            RowMatrix::from_fn(n, p, mixed),
            RowMatrix::from_fn(n, p, |i, j| at((7 * i + 3) % n, (5 * j + 1) % p)),
            RowMatrix::from_fn(n, p, |i, j| if i % 3 == 0 { -at(i, j) } else { at(i, j) }),
            RowMatrix::from_fn(n, p + 100, |i, j| if j < p { at(i, j) } else { 0.0 }),
        ];
        for momentum in [0.0, 0.9] {
            for batch in [
                with_replacement(1),
                with_replacement(5),
                without_replacement(30),
                without_replacement(n),
            ] {
                let found = interval(&jacobian, 1, batch, momentum);
                for variant in &variants {
                    meet(interval(variant, 1, batch, momentum), found).unwrap();
                }
            }
        }
    }
}

/// Orthogonal gradients of lengths over a thousand powers of two, one at a time: `η* = 2/max ‖g_i‖²`.
#[test]
fn gradients_of_any_length_share_a_minimum() {
    let exponents = [510, 300, 0, -300, -540, -1070];
    let size = exponents.len();
    let jacobian =
        RowMatrix::from_fn(
            size,
            size,
            |i, j| {
                if i == j { libm::scalbn(1.5, exponents[i]) } else { 0.0 }
            },
        );
    let minimum = Minimum::new(&jacobian).unwrap();
    let found = of_minimum(&minimum, with_replacement(1), 0.0);
    let expected = libm::scalbn(2.0 / 2.25, -1020);
    assert!(found.lower <= expected && expected <= found.upper, "{found:?} {expected:e}");
    assert!(found.relative_width() < 1e-12, "{found:?}");
    assert_eq!(found.status, ThresholdStatus::Converged);
    assert!(
        all_bounds(&bounds(&minimum, with_replacement(1)).unwrap())
            .iter()
            .all(|bound| *bound > 0.0)
    );
    assert!(alignment(&minimum).unwrap().chi_max.is_finite());
}

/// The largest and the smallest numbers there are.
#[test]
fn the_ends_of_the_range_are_ordinary() {
    let check = |value: f64, lower: f64, upper: f64| {
        for columns in [1, 100] {
            let jacobian =
                RowMatrix::from_fn(2, columns, |i, _| if i == 0 { value } else { -value });
            for batch in [with_replacement(1), with_replacement(usize::MAX), without_replacement(2)]
            {
                for momentum in [0.0, 0.9] {
                    let options = ThresholdOptions { momentum, ..ThresholdOptions::default() };
                    let found = threshold_with(&jacobian, batch, &options).unwrap();
                    assert!(found.lower <= upper && lower <= found.upper, "{value:e}: {found:?}");
                    assert!(!found.lower.is_nan() && found.lower < f64::INFINITY, "{found:?}");
                }
            }
        }
    };
    // 2/x² is below the smallest number, or above the largest.
    check(f64::MAX, 0.0, f64::from_bits(1));
    check(f64::MIN_POSITIVE, f64::MAX, f64::INFINITY);
    check(f64::from_bits(1), f64::MAX, f64::INFINITY);
}

/// A Gram matrix of numbers near both ends of the range.
#[test]
fn gram_matrices_at_the_ends_of_the_range_are_ordinary() {
    let of = |exponent: i32, entries: [[f64; 2]; 2]| {
        let matrix = Mat::from_fn(2, 2, |i, j| libm::scalbn(entries[i][j], exponent));
        let minimum = Minimum::from_gram(Gram::from_sums(matrix).unwrap(), Parallelism::Sequential);
        of_minimum(&minimum.unwrap(), with_replacement(1), 0.0)
    };
    let entries = [[3.0, 1.0], [1.0, 2.0]];
    let plain = of(0, entries);
    for exponent in [1020, 900, -900, -1000] {
        let found = of(exponent, entries);
        let [lower, upper] = [plain.lower, plain.upper].map(|end| libm::scalbn(end, -exponent));
        assert!(found.lower <= lower && upper <= found.upper, "{exponent}: {found:?}, {lower:e}");
    }
}

/// One gradient whose squared length is 1 and 2²⁰ terms of 2⁻⁶⁴: the sum over each panel of them is less than half
/// a unit of the last place of 1 and lost, all of them are 256 units. The Gram matrix is wrong by so much, and the
/// interval knows.
#[test]
fn small_terms_that_the_gram_matrix_loses_are_in_the_interval() {
    let columns = 1 << 20;
    let jacobian =
        RowMatrix::from_fn(1, columns, |_, j| if j == 0 { 1.0 } else { libm::scalbn(1.0, -32) });
    let minimum = Minimum::new(&jacobian).unwrap();
    let square = 1.0 + libm::scalbn(1.0, -44);
    assert!(minimum.sharpness().trace < square, "nothing is lost");
    for batch in [without_replacement(1), with_replacement(1), with_replacement(2)] {
        for momentum in [0.0, 0.1] {
            let found = of_minimum(&minimum, batch, momentum);
            // Four roundings.
            let expected = 2.0 * (1.0 + momentum) / square;
            assert!(found.lower <= expected * (1.0 - 2.0 * f64::EPSILON), "{found:?}, {expected}");
            assert!(expected <= found.upper, "{found:?}, {expected}");
        }
    }
}

/// Small gradients have small entries in the vector of the certificate. A level within rounding of the root gives
/// no certificate: intervals a million times as wide as the narrowest were the answer to requests of 1e-15.
#[test]
fn asking_for_less_than_rounding_leaves_gives_no_wider_intervals() {
    let first = [
        [-1.0, 0.0, 1.0, -0.874_267_016_592_164_9, -1.060_601_872_346_339_7],
        [-0.507_810_060_520_511_7, 0.0, -0.000_411_445_385_992_108_26, 0.0, 0.0],
        [-0.507_810_060_520_511_7, 0.0, -0.000_411_445_385_992_108_26, 0.0, 0.0],
        [-1.0, -727.563_054_006_120_5, -0.808_950_461_315_104_7, 0.0, -1.0],
    ];
    let second = [
        [0.0, 0.0, 0.0, -7_123.102_262_389_075],
        [642.802_778_016_234_3, -0.266_547_848_682_223_14, 0.0, -0.881_038_408_777_906_2],
        [0.0, 0.0, 0.0, -7_123.102_262_389_075],
        [0.0, 0.0, 0.0, -7_123.102_262_389_075],
    ];
    let first = RowMatrix::from_fn(4, 5, |i, j| first[i][j]);
    let second = RowMatrix::from_fn(8, 4, |i, j| second[i % 4][j]);
    for jacobian in [first, second] {
        for size in 1..=5 {
            for momentum in [0.0, 0.678_128_553_428_221_3, 0.9] {
                // Narrow, or it does not return.
                let batch = with_replacement(size);
                let found = interval(&jacobian, 1, batch, momentum);
                let options = |relative_width| ThresholdOptions {
                    relative_width,
                    momentum,
                    ..ThresholdOptions::default()
                };
                for relative_width in [1e-14, 1e-300] {
                    let other = threshold_with(&jacobian, batch, &options(relative_width)).unwrap();
                    assert_eq!(other, found, "{relative_width:e}");
                }
            }
        }
    }
}

/// One output among three, or of one sample alone, with momentum: no interval was found, and said to be narrow.
#[test]
fn momentum_and_outputs_that_are_zero_leave_an_interval() {
    let jacobian = RowMatrix::from_fn(3, 1, |i, _| if i == 2 { -1.0 } else { 0.0 });
    for momentum in [0.5, 0.9, 0.99] {
        for size in [1, 2, 7] {
            let found = interval(&jacobian, 3, with_replacement(size), momentum);
            let expected = 2.0 * (1.0 + momentum);
            assert!(found.lower <= expected && expected <= found.upper, "{found:?}, {expected}");
        }
    }
}
