//! Basis pursuit compared with brute force over supports, and checked on random problems of several
//! shapes.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use flatmin_ledger::{BASIS_PURSUIT_TOLERANCE, BasisPursuit, BasisPursuitError, basis_pursuit};
use flatmin_linalg::{RowMatrix, stream};
use flatmin_models::data::{cube_inputs, linear_targets, sparse_coefficients};
use proptest::prelude::{Just, Strategy, TestCaseError, prop_assert, prop_oneof, proptest};
use proptest::{collection, prop_assert_eq};

fn check_evidence(
    inputs: &RowMatrix,
    targets: &[f64],
    found: &BasisPursuit,
) -> Result<(), TestCaseError> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let size = targets.iter().fold(0.0_f64, |m, y| m.max(y.abs()));
    for (i, y) in targets.iter().enumerate() {
        let residual = (dot(inputs.row(i), &found.coefficients) - y).abs();
        prop_assert!(residual <= 2.0 * BASIS_PURSUIT_TOLERANCE * size, "residual {residual}");
    }
    for j in 0..inputs.columns() {
        let column: Vec<f64> = (0..inputs.rows()).map(|i| inputs.row(i)[j]).collect();
        prop_assert!(dot(&column, &found.dual).abs() <= 1.0 + 1e-12, "column {j}");
    }
    let gap = found.l1_norm - dot(targets, &found.dual);
    prop_assert!(gap.abs() <= 2.0 * BASIS_PURSUIT_TOLERANCE * found.l1_norm, "gap {gap}");
    Ok(())
}

/// Solves the integer equations `X_S z = y` for every set S of columns by Gaussian elimination and
/// returns the smallest ‖z‖_1: the minimum is attained where the columns of S are independent.
fn brute_force(inputs: &RowMatrix, targets: &[f64]) -> Option<f64> {
    let d = inputs.columns();
    let norms = (0..1_u32 << d).filter_map(|set| {
        let columns: Vec<usize> = (0..d).filter(|j| set >> j & 1 == 1).collect();
        let mut rows: Vec<Vec<f64>> = (0..inputs.rows())
            .map(|i| columns.iter().map(|&j| inputs.row(i)[j]).chain([targets[i]]).collect())
            .collect();
        for k in 0..columns.len() {
            // A pivot above 1e-6 is not a rounding error, because the matrix consists of small
            // integers.
            let best =
                (k..rows.len()).max_by(|&a, &b| rows[a][k].abs().total_cmp(&rows[b][k].abs()));
            let pivot = best.filter(|&i| rows[i][k].abs() > 1e-6)?;
            rows.swap(k, pivot);
            let pivot_row = rows[k].clone();
            for (_, row) in rows.iter_mut().enumerate().filter(|(i, _)| *i != k) {
                let factor = row[k] / pivot_row[k];
                row.iter_mut().zip(&pivot_row).for_each(|(a, b)| *a -= factor * b);
            }
        }
        let solved = rows[columns.len()..].iter().all(|row| row[columns.len()].abs() < 1e-6);
        solved.then(|| {
            (0..columns.len()).map(|k| (rows[k][columns.len()] / rows[k][k]).abs()).sum::<f64>()
        })
    });
    norms.min_by(f64::total_cmp)
}

/// Problems with small integers and many zeros, so that dependent rows, dependent columns and tied
/// solutions are common. Targets come from integer coefficients, or are random, so that many cannot
/// be interpolated.
fn problem() -> impl Strategy<Value = (RowMatrix, Vec<f64>)> {
    (1..=4_usize, 1..=6_usize)
        .prop_flat_map(|(n, d)| {
            let entry = || (-2_i32..=2).prop_map(f64::from);
            let targets = prop_oneof![
                2 => collection::vec(entry(), d).prop_map(|beta| (true, beta)),
                1 => collection::vec(entry(), n).prop_map(|targets| (false, targets)),
            ];
            (Just((n, d)), collection::vec(entry(), n * d), targets)
        })
        .prop_map(|((n, d), values, (linear, targets))| {
            let inputs = RowMatrix::new(n, d, values).unwrap();
            let targets = if linear { linear_targets(&inputs, &targets) } else { targets };
            (inputs, targets)
        })
}

proptest! {
    #[test]
    fn the_norm_is_that_of_the_best_support((inputs, targets) in problem()) {
        match basis_pursuit(&inputs, &targets) {
            Ok(found) => {
                check_evidence(&inputs, &targets, &found)?;
                let expected = brute_force(&inputs, &targets).unwrap();
                prop_assert!((found.l1_norm - expected).abs() <= 1e-8 * expected, "{expected}");
            }
            Err(error) => {
                prop_assert_eq!(error, BasisPursuitError::NoInterpolator);
                prop_assert_eq!(brute_force(&inputs, &targets), None);
            }
        }
    }
}

#[test]
fn random_designs_of_every_shape_are_certified() {
    // With few samples, β* is not recovered and least squares gives no certificate. With enough
    // samples it is recovered.
    for (n, d, recovered) in [(4, 60, false), (12, 60, true), (30, 60, true), (60, 60, true)] {
        for seed in 0..10 {
            let inputs = cube_inputs(n, d, &mut stream(seed, "basis pursuit test", n as u64));
            let target = sparse_coefficients(d, 2);
            let targets = linear_targets(&inputs, &target);
            let found = basis_pursuit(&inputs, &targets).unwrap();
            check_evidence(&inputs, &targets, &found).unwrap();
            assert!(found.l1_norm <= 2.0 + 1e-9, "n = {n}, seed {seed}: {}", found.l1_norm);
            let errors = found.coefficients.iter().zip(&target).map(|(b, t)| (b - t).abs());
            let error = errors.fold(0.0, f64::max);
            assert!(!recovered || error < 1e-9, "n = {n}, seed {seed}: {error}");
        }
    }
}

#[test]
fn dense_targets_are_certified() {
    // Without a sparse solution, the support has as many columns as there are samples.
    for (n, d) in [(20, 60), (60, 80)] {
        let mut rng = stream(3, "basis pursuit test", n as u64);
        let inputs = cube_inputs(n, d, &mut rng);
        let targets = cube_inputs(1, n, &mut rng).row(0).to_vec();
        let found = basis_pursuit(&inputs, &targets).unwrap();
        check_evidence(&inputs, &targets, &found).unwrap();
        assert_eq!(found.coefficients.iter().filter(|b| b.abs() > 1e-9).count(), n);
    }
}
