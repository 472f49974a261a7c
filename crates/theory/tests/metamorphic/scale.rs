//! Jacobians multiplied by a factor, up to the ends of the range of `f64`.

use faer::Mat;
use flatmin_linalg::{Parallelism, RowMatrix};
use flatmin_theory::{
    Bounds, Gram, GramSum, Minimum, Optimizer, Threshold, ThresholdStatus, alignment, bounds,
    threshold,
};
use proptest::prelude::{Just, prop_assert, prop_assert_eq, proptest};
use proptest::{collection, prop_oneof};

use super::cases::{
    Case, UNIT_ROUNDOFF, at_any_scale, case, meet, of_minimum, with_replacement,
    without_replacement,
};

/// 2^exponent times the matrix; rounded only where an entry is not a normal number.
fn scaled(jacobian: &RowMatrix, exponent: i32) -> RowMatrix {
    let at = |i: usize, j: usize| libm::scalbn(jacobian.row(i)[j], exponent);
    RowMatrix::from_fn(jacobian.rows(), jacobian.columns(), at)
}

fn all_bounds(bounds: &Bounds) -> [f64; 8] {
    [
        bounds.lambda_max,
        bounds.trace,
        bounds.frobenius_norm,
        bounds.sharp_frobenius_norm,
        bounds.centered_alignment,
        bounds.uncentered_alignment,
        bounds.spectral,
        bounds.sufficient,
    ]
}

/// A bound two units in the last place, and a few roundings, below `end`.
fn narrow(end: f64) -> f64 {
    let end = end.clamp(f64::MIN, f64::MAX);
    (end - 8.0 * UNIT_ROUNDOFF * end.abs()).next_down().next_down()
}

proptest! {
    /// η*(cJ) = η*(J)/c². For c = 2^e every operation is scaled exactly, so that the interval, the
    /// bounds and the number of products have the same bits as long as the result is a normal
    /// number.
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
            all_bounds(&bounds(&Minimum::with_outputs(jacobian, case.outputs).unwrap(), &case.batch).unwrap())
        });
        for (a, b) in a.into_iter().zip(b) {
            prop_assert_eq!(libm::scalbn(a, -2 * exponent).to_bits(), b.to_bits());
        }
    }

    /// If squares of entries, or η* itself, are not normal numbers, the interval is the scaled
    /// interval rounded outward by a unit in the last remaining place.
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
            // The upper end may overflow to infinity, but the lower end must stay finite.
            prop_assert!(b.lower < f64::INFINITY && b.lower >= narrow(lower), "{b:?} {lower:e}");
            prop_assert!(upper.is_infinite() || -b.upper >= narrow(-upper), "{b:?} {upper:e}");
        }
    }

    /// Bounds are numbers and keep their order where sharpness overflows or underflows.
    #[test]
    fn bounds_are_numbers_in_order_at_any_scale(
        case in case(),
        exponent in prop_oneof![490..=560_i32, -560..=-490_i32, Just(1000), Just(-1000)],
    ) {
        let jacobian = scaled(&case.jacobian, exponent);
        let minimum = Minimum::with_outputs(&jacobian, case.outputs).unwrap();
        let found = of_minimum(&minimum, case.batch, 0.0);
        let bounds = bounds(&minimum, &case.batch).unwrap();
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

    /// Any other factor rounds the entries. K moves by at most (2u + u²)‖J‖_F²/n in norm, and μ* by
    /// at most 4 + 4pn times that, where μ* ≥ λ_max ≥ ‖J‖_F²/(nr).
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

    /// A Jacobian in blocks of columns whose entries differ by up to 300 powers of ten gives the
    /// minimum of the whole Jacobian, in any order of the blocks.
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

/// Orthogonal gradients of lengths over a thousand powers of two, one at a time:
/// `η* = 2/max ‖g_i‖²`.
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
        all_bounds(&bounds(&minimum, &with_replacement(1)).unwrap())
            .iter()
            .all(|bound| *bound > 0.0)
    );
    assert!(alignment(&minimum).unwrap().chi_max.is_finite());
}

/// Entries that are the largest and the smallest `f64`.
#[test]
fn the_ends_of_the_range_are_ordinary() {
    let check = |value: f64, lower: f64, upper: f64| {
        for columns in [1, 100] {
            let jacobian =
                RowMatrix::from_fn(2, columns, |i, _| if i == 0 { value } else { -value });
            for batch in [with_replacement(1), with_replacement(usize::MAX), without_replacement(2)]
            {
                for momentum in [0.0, 0.9] {
                    let optimizer = Optimizer::sgd().momentum(momentum).unwrap();
                    let found = threshold(&jacobian, &optimizer, &batch).unwrap();
                    assert!(found.lower <= upper && lower <= found.upper, "{value:e}: {found:?}");
                    assert!(!found.lower.is_nan() && found.lower < f64::INFINITY, "{found:?}");
                }
            }
        }
    };
    // 2/x² underflows or overflows.
    check(f64::MAX, 0.0, f64::from_bits(1));
    check(f64::MIN_POSITIVE, f64::MAX, f64::INFINITY);
    check(f64::from_bits(1), f64::MAX, f64::INFINITY);
}

/// A Gram matrix with entries near both ends of the range.
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
