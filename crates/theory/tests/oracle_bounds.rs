//! Bounds and the dense threshold against reference values from an independent implementation.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod oracles;

use flatmin_theory::{bounds, dense_threshold};

use crate::oracles::{assert_close, cases, minimum_and_batch, number};

#[test]
fn sharpness_agrees() {
    for case in cases() {
        let (minimum, _) = minimum_and_batch(&case);
        let sharpness = minimum.sharpness();
        // Sums of at most 20 products and a symmetric eigenproblem of dimension at most 20: a few
        // hundred ε.
        assert_close(&case, "trace", sharpness.trace, 1e-13);
        assert_close(&case, "frobenius_norm", sharpness.frobenius_norm, 1e-13);
        assert_close(&case, "lambda_max", sharpness.lambda_max, 1e-13);
        assert_close(&case, "max_row_norm_sq", minimum.largest_row_norm_squared(), 1e-13);
    }
}

#[test]
fn bounds_agree() {
    for case in cases() {
        let (minimum, batch) = minimum_and_batch(&case);
        let noise = batch.noise_coefficient(minimum.sample_count()).unwrap();
        assert!((noise - number(&case, "noise_coefficient")).abs() <= 1e-15, "{}", case["id"]);
        let bounds = bounds(&minimum, batch).unwrap();
        for (field, value) in [
            ("s2", bounds.trace),
            ("s3", bounds.frobenius_norm),
            ("s3_sharp", bounds.sharp_frobenius_norm),
            ("s5", bounds.lambda_max),
            ("s6", bounds.spectral),
            ("s7", bounds.sufficient),
        ] {
            assert_close(&case, field, value, 1e-12);
        }
    }
}

#[test]
fn the_dense_threshold_agrees() {
    let mut compared = 0;
    for case in cases() {
        let (minimum, batch) = minimum_and_batch(&case);
        // Dimension r(r+1)/2 ≤ 120: beyond, O(r⁶) takes its time.
        if minimum.eigenvalues().len() > 15 {
            continue;
        }
        let threshold = dense_threshold(&minimum, batch).unwrap();
        assert_close(&case, "threshold", threshold, number(&case, "rel_tol"));
        compared += 1;
    }
    assert!(compared > 200, "{compared} cases");
}
