//! Bounds and the dense threshold compared with reference values from an independent
//! implementation.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod oracles;

use flatmin_theory::{alignment, bounds, dense_threshold};

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
        assert_close(&case, "max_row_norm_sq", minimum.largest_gradient_norm_squared(), 1e-13);
    }
}

#[test]
fn bounds_agree() {
    for case in cases() {
        let (minimum, batch) = minimum_and_batch(&case);
        let noise = batch.noise_coefficient(minimum.sample_count()).unwrap();
        assert!((noise - number(&case, "noise_coefficient")).abs() <= 1e-15, "{}", case["id"]);
        let bounds = bounds(&minimum, &batch).unwrap();
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
fn alignment_agrees() {
    let mut compared = 0;
    for case in cases() {
        // An all-zero Jacobian has no alignment, and every bound is infinite.
        let is_flat = case["chi_min"].is_null();
        let (minimum, batch) = minimum_and_batch(&case);
        let bounds = bounds(&minimum, &batch).unwrap();
        if is_flat {
            assert!(bounds.centered_alignment.is_infinite(), "{}", case["id"]);
            continue;
        }
        let alignment = alignment(&minimum).unwrap();
        // Eigenvectors of the Gram matrix lose as many digits as its condition number has, and
        // beyond 1e15 the smallest eigenvalues are dropped.
        let condition_number = number(&case, "condition_number");
        if condition_number > 1e10 {
            for bound in [bounds.centered_alignment, bounds.uncentered_alignment] {
                assert!(bound >= number(&case, "threshold"), "{}: {bound:e}", case["id"]);
            }
            continue;
        }
        // Sums and differences of terms as large as χ_max: small values keep few digits.
        let tolerance = 1e-15 * condition_number.max(1e3) * alignment.chi_max;
        for (field, computed) in [
            ("chi_min", alignment.chi_min),
            ("chi_max", alignment.chi_max),
            ("centered_alignment_min", alignment.centered),
        ] {
            let error = (computed - number(&case, field)).abs();
            assert!(error <= tolerance, "{}: error of {field} is {error:e}", case["id"]);
        }
        for (field, alignment, bound) in [
            ("s4_centered", alignment.centered, bounds.centered_alignment),
            ("s4_chi_min_corrected", alignment.chi_min, bounds.uncentered_alignment),
        ] {
            if alignment > 1e-6 {
                assert_close(&case, field, bound, 1e-9);
                compared += 1;
            } else {
                assert!(bound >= number(&case, "threshold"), "{}: {field}", case["id"]);
            }
        }
    }
    assert!(compared > 300, "{compared} cases");
}

#[test]
fn the_dense_threshold_agrees() {
    let mut compared = 0;
    for case in cases() {
        let (minimum, batch) = minimum_and_batch(&case);
        // Dimension r(r+1)/2 ≤ 120: beyond that O(r⁶) is too slow.
        if minimum.eigenvalues().len() > 15 {
            continue;
        }
        let threshold = dense_threshold(&minimum, &batch).unwrap();
        assert_close(&case, "threshold", threshold, number(&case, "rel_tol"));
        compared += 1;
    }
    assert!(compared > 200, "{compared} cases");
}
