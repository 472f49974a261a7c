//! The effect of batches, repeated samples, samples without gradient and more parameters on the
//! threshold.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use faer::Mat;
use flatmin_linalg::{RowMatrix, symmetric_eigenvalues};
use flatmin_theory::{Batch, Sampling, Threshold};
use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert, proptest};
use proptest::test_runner::TestCaseError;
use proptest::{collection, prop_oneof, sample};

use super::cases::{
    Case, UNIT_ROUNDOFF, case, integer, interval, meet, momentum, with_replacement,
    without_replacement,
};

proptest! {
    /// Every sample is repeated c times. G and (1/n) Σ J_iᵀJ_i X J_iᵀJ_i are means over samples and
    /// do not change, so that η* depends on p alone (S8, S13).
    ///
    /// - With replacement p = 1/B does not depend on n, and η* is the same.
    /// - Without replacement p = (cn − B)/(B(cn − 1)) is larger than (n − B)/(B(n − 1)), because a
    ///   batch may now hold a sample twice. For c → ∞ it is 1/B. With N = cn even and B = N/2 it is
    ///   `(N/2)/((N/2)(N − 1)) = 1/(N − 1)`: half of the samples without replacement are as noisy
    ///   as N − 1 samples with replacement.
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

    /// With z samples without gradient and s = n/(n + z), G becomes sG, and the mean of the J_iᵀJ_i
    /// X J_iᵀJ_i is multiplied by s. With the p of the larger set,
    /// `μ* = max [(1−p) s² tr(XGXG) + p s Σ…] / (s tr(XGX))` is `w = (1−p)s + p` times the μ* of
    /// the smaller set at the noise coefficient q = p/w:
    ///
    ///     η*(larger set, p) = η*(smaller set, p/w) / w.
    ///
    /// One sample at a time has p = q = w = 1, and η* does not change. With replacement, z = (j−1)n
    /// and B = j(m−1) + 1, `w = ((B−1)/j + 1)/B = m/B` and q = 1/m, which gives B/m times the η* of
    /// batches of m. (If one of the B draws has a gradient, on average m do, and the step is
    /// divided by B.)
    #[test]
    fn samples_without_gradient_count_as_derived(
        case in case(), factor in 2..=4_usize, size in 1..=5_usize,
    ) {
        // The relation follows from S8, which is about SGD without momentum.
        let (n, k) = (case.samples(), case.outputs);
        let padded = RowMatrix::from_fn(factor * n * k, case.columns(), |row, j| {
            // Every sample whose index is a multiple of `factor` is one of the given samples.
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

    /// μ* is a maximum over X of affine functions of p, and so convex in p; with momentum too,
    /// where P and κ are affine in p. At a maximiser X, which is positive semidefinite, the
    /// coefficient of p is `(1/n) Σ ‖X^½ (J_iᵀJ_i − G) X^½‖_F² ≥ 0` over tr(XGX), so that μ* grows
    /// with p, and η* with B (S8). Between p = 0 and p = 1 convexity says
    /// `η* ≥ 1/((1−p)/η*(p=0) + p/η*(p=1))`, which is sharper than S7.
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

    /// More parameters make K larger in the Loewner order, and without momentum μ* is monotone in
    /// K.
    #[test]
    fn more_parameters_never_raise_the_threshold(case in case(), keep in any::<sample::Index>()) {
        let plain = Case { momentum: 0.0, ..case };
        let fewer = keep.index(plain.columns());
        let part = RowMatrix::from_fn(plain.jacobian.rows(), fewer, |i, j| plain.at(i, j));
        let (part, whole) = (plain.of(&part), plain.found());
        prop_assert!(whole.lower <= part.upper, "{whole:?} {part:?}");
    }

    /// With one sample every batch is the same: η* = 2(1+β)/λ_max(J_1 J_1ᵀ) for every B.
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

    /// By convexity `μ*(p) ≤ μ*(0) + p μ*(1) ≤ (1 + pn) μ*(0)`: the noise of huge batches with
    /// replacement is below rounding, and the interval meets the interval of gradient descent.
    #[test]
    fn huge_batches_are_gradient_descent(case in case(), size in usize::MAX / 1000..=usize::MAX) {
        let n = case.samples();
        let of = |batch| interval(&case.jacobian, case.outputs, batch, case.momentum);
        meet(of(with_replacement(size)), of(without_replacement(n)))?;
    }
}

/// The interval for `factor` times the threshold.
fn times(factor: f64, found: Threshold) -> Threshold {
    let lower = (factor * found.lower).next_down();
    let upper = (factor * found.upper).next_up();
    // The factor is a quotient of integers, itself rounded.
    Threshold { lower: lower * (1.0 - f64::EPSILON), upper: upper * (1.0 + f64::EPSILON), ..found }
}

/// Minima with one output and no momentum, without extreme ratios.
fn plain(rows: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = RowMatrix> {
    (rows, 1..=3_usize).prop_flat_map(|(rows, columns)| {
        collection::vec(prop_oneof![-2.0..2.0_f64, integer()], rows * columns)
            .prop_map(move |values| RowMatrix::new(rows, columns, values).unwrap())
    })
}

/// `E[A ⊗ A]` with `A = I − η (1/B) Σ g_i g_iᵀ`, as the mean over all batches.
fn enumerated(jacobian: &RowMatrix, batch: Batch, rate: f64) -> Mat<f64> {
    let (n, p, size) = (jacobian.rows(), jacobian.columns(), batch.size());
    let mut sum = Mat::<f64>::zeros(p * p, p * p);
    let mut count = 0.0;
    let batch_size = u32::try_from(size).unwrap();
    for code in 0..n.pow(batch_size) {
        let drawn: Vec<usize> = (0..batch_size).map(|place| code / n.pow(place) % n).collect();
        let is_drawn = match batch.sampling() {
            Sampling::WithReplacement => true,
            Sampling::Poisson | Sampling::Reshuffling => unreachable!("no case draws so"),
            // Each set is counted once.
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

/// `E[A ⊗ A]` from the noise coefficient: `I − η(G⊗I + I⊗G) + η²[(1−p) G⊗G + (p/n) Σ H_i⊗H_i]`.
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

    /// Repeated samples, for the operator on second moments itself: the mean over all batches of
    /// the repeated set is the operator of the single set with the p of the larger set.
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

    /// Samples without gradient, compared with the edge of the smaller set at the derived noise
    /// coefficient.
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
            // The smaller set, at the ends of its interval.
            let at = |rate: f64| growth(&by_noise(&jacobian, p / w, w * rate));
            prop_assert!(at(found.lower) <= 1.0 + 1e-11, "{}", at(found.lower));
            prop_assert!(at(1.01 * found.upper) > 1.0, "{}", at(1.01 * found.upper));
        }
    }
}

/// The mean over all batches grows above the interval and not below it.
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
