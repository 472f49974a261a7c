//! Changes of parameters, samples and outputs that do not change the threshold.

use flatmin_linalg::{RowMatrix, stream};
use proptest::prelude::{Just, Strategy as _, any, prop_assert_eq, proptest};
use proptest::{collection, sample};
use rand::RngExt as _;

use super::cases::{
    Case, case, case_of, integer, integers, interval, meet, with_replacement, without_replacement,
};
use super::support::entry;

proptest! {
    /// η*(JQ) = η*(J) for orthogonal Q, because K = JJᵀ/n does not change. Signs of columns change
    /// no product of two entries, and so no bit.
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

    /// Zero columns are parameters that no output depends on.
    #[test]
    fn parameters_without_effect_change_nothing(case in case(), extra in 1..=70_usize) {
        let columns = case.columns();
        let at = |i: usize, j: usize| if j < columns { case.at(i, j) } else { 0.0 };
        let wider = RowMatrix::from_fn(case.jacobian.rows(), columns + extra, at);
        meet(case.of(&wider), case.found())?;
    }

    /// Neither the order of the samples nor the order and signs of their outputs matter: a sample
    /// enters only through J_iᵀJ_i.
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

    /// An orthogonal change of the outputs of each sample does not change J_iᵀJ_i. Rotations by the
    /// angles of the triangle (3, 4, 5), some of them reflected, are exact on multiples of 5.
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

    /// If all outputs of each sample but one are zero, the network has one output, even where the
    /// nonzero one differs between samples.
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
}

/// Entry (i, j) of J·H/2 with the 4 × 4 matrix H of signs whose columns are orthogonal; exact on
/// integers.
fn hadamard(case: &Case, i: usize, j: usize) -> f64 {
    let sign = |l: usize| if (l & j).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
    0.5 * (0..4).map(|l| sign(l) * case.at(i, l)).sum::<f64>()
}

/// The properties above, at a size where sums of many terms are rounded: all of these Jacobians
/// have the same η*.
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

/// One nonzero output among three, or one sample alone, with momentum: once the answer was an
/// unbounded interval that was reported as converged.
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
