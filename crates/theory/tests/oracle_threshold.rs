//! The exact threshold compared with reference values from an independent implementation, with
//! forty exact digits, and with the dense operator on second moments.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "oracles/decimal.rs"]
mod decimal;
#[path = "oracles/momentum.rs"]
mod momentum;
mod oracles;

use faer::Mat;
use flatmin_linalg::{Parallelism, RowMatrix, stream};
use flatmin_models::{Model as _, TwoLayerRelu, data};
use flatmin_theory::{
    Batch, BatchError, Gram, Minimum, MinimumError, Optimizer, Sampling, Stability, Threshold,
    ThresholdError, ThresholdOptions, ThresholdStatus, bounds, dense_threshold, lyapunov_function,
    threshold, threshold_with,
};
use rand::RngExt as _;

use crate::decimal::Decimal;
use crate::momentum::momentum_radius;
use crate::oracles::{assert_close, cases, minimum_and_batch, number};

#[test]
fn every_interval_contains_its_reference_and_is_narrow() {
    for case in cases() {
        let (minimum, batch) = minimum_and_batch(&case);
        let found = threshold(&minimum, &Optimizer::sgd(), &batch).unwrap();
        let expected = number(&case, "threshold");
        let id = &case["id"];
        assert_eq!(found.status, ThresholdStatus::Converged, "{id}: {found:?}");
        assert_close(&case, "threshold", found.midpoint(), 1e-9);
        assert!(found.relative_width() <= 2e-10, "{id}: {}", found.relative_width());
        // The reference value is rounded too.
        let tolerance = number(&case, "rel_tol").min(1e-14);
        assert!(found.lower <= expected * (1.0 + tolerance), "{id}: {found:?}, {expected:e}");
        assert!(expected * (1.0 - tolerance) <= found.upper, "{id}: {found:?}, {expected:e}");
    }
}

#[test]
fn intervals_contain_the_threshold_of_the_stored_numbers_to_forty_digits() {
    let mut compared = 0;
    // Rounding alone determines this width, so that no interval passes by being wide.
    let options = ThresholdOptions { relative_width: 1e-14, ..ThresholdOptions::default() };
    for case in cases() {
        let Some(decimal) = case["threshold_decimal"].as_str().filter(|text| *text != "inf") else {
            continue;
        };
        let (minimum, batch) = minimum_and_batch(&case);
        let found = threshold_with(&minimum, &Optimizer::sgd(), &batch, &options).unwrap();
        let exact = Decimal::parse(decimal);
        let id = &case["id"];
        let contains = Decimal::of(found.lower) <= exact && exact <= Decimal::of(found.upper);
        assert!(contains, "{id}: {found:?}");
        assert!(found.relative_width() < 1e-12, "{id}: {found:?}");
        compared += 1;
    }
    assert!(compared > 100, "{compared} cases");
}

fn random_jacobian(rows: usize, columns: usize, index: u64) -> RowMatrix {
    let mut rng = stream(index, "threshold test", 0);
    RowMatrix::from_fn(rows, columns, |_, _| rng.random_range(-1.0..1.0))
}

#[test]
fn momentum_agrees_with_the_dense_operator() {
    for (index, (rows, columns)) in
        [(2, 2), (3, 2), (4, 3), (5, 3), (3, 3), (6, 2)].into_iter().cycle().take(24).enumerate()
    {
        let index = index as u64;
        let jacobian = random_jacobian(rows, columns, index);
        let batch = Batch::new(1 + usize::try_from(index % 3).unwrap(), Sampling::WithReplacement);
        let (batch, momentum) = (batch.unwrap(), [0.0, 0.3, 0.7, 0.9][(index % 4) as usize]);
        let optimizer = Optimizer::sgd().momentum(momentum).unwrap();
        let found = threshold(&jacobian, &optimizer, &batch).unwrap();
        let noise = batch.noise_coefficient(rows).unwrap();
        let radius = |rate| momentum_radius(&jacobian, 1, noise, rate, momentum);
        assert!(found.relative_width() < 1e-8, "{found:?}");
        let below = radius(found.lower * (1.0 - 1e-5));
        let above = radius(found.upper * (1.0 + 1e-5));
        assert!(below < 1.0, "β = {momentum}: {below} below {found:?}");
        assert!(above > 1.0, "β = {momentum}: {above} above {found:?}");
    }
}

#[test]
fn little_momentum_is_none() {
    let jacobian = random_jacobian(7, 5, 100);
    for size in [1, 3] {
        let batch = Batch::new(size, Sampling::WithoutReplacement).unwrap();
        let at = |momentum| {
            let optimizer = Optimizer::sgd().momentum(momentum).unwrap();
            threshold(&jacobian, &optimizer, &batch).unwrap().midpoint()
        };
        assert!((at(1e-12) / at(0.0) - 1.0).abs() < 1e-9);
    }
}

#[test]
fn any_positive_width_may_be_asked_for() {
    let jacobian = random_jacobian(6, 4, 7);
    for size in [1, 2, 5] {
        let batch = Batch::new(size, Sampling::WithReplacement).unwrap();
        let exact = dense_threshold(&Minimum::new(&jacobian).unwrap(), &batch).unwrap();
        for relative_width in [1e-300, 1e-6, 1e-3, 0.5, 2.0, 1e10, f64::MAX] {
            let options = ThresholdOptions { relative_width, ..ThresholdOptions::default() };
            let found = threshold_with(&jacobian, &Optimizer::sgd(), &batch, &options).unwrap();
            let contains =
                found.lower <= exact * (1.0 + 1e-13) && exact <= found.upper * (1.0 + 1e-13);
            assert!(contains, "{relative_width:e}: {found:?}, {exact}");
            assert!(
                found.relative_width() <= relative_width + 1e-12,
                "{relative_width:e}: {found:?}"
            );
        }
    }
}

#[test]
fn many_blocks_of_nearly_the_same_strength_converge() {
    let samples: usize = 300;
    let check = |norm_squared: &dyn Fn(usize) -> f64| {
        let norm = |i: usize| norm_squared(i).sqrt();
        let jacobian =
            RowMatrix::from_fn(samples, samples, |i, j| if i == j { norm(i) } else { 0.0 });
        let minimum = Minimum::new(&jacobian).unwrap();
        let n = samples as f64;
        for (size, sampling) in [(1, Sampling::WithoutReplacement), (7, Sampling::WithReplacement)]
        {
            let batch = Batch::new(size, sampling).unwrap();
            let found = threshold(&minimum, &Optimizer::sgd(), &batch).unwrap();
            // Only one sample has a gradient, of norm 1: K = 1/n.
            let p = batch.noise_coefficient(samples).unwrap();
            let exact = 2.0 / ((1.0 - p) / n + p);
            assert!(found.lower <= exact && exact <= found.upper, "{found:?}, {exact}");
            assert!(found.relative_width() < 2e-10, "{}", found.relative_width());
            assert_eq!(found.status, ThresholdStatus::Converged, "{found:?}");
        }
    };
    check(&|_| 1.0);
    check(&|i| if i == 0 { 1.0 } else { 1.0 - 8e-10 });
    check(&|i| 1.0 - 1e-6 * i as f64 / samples as f64);
    check(&|i| 1.0 - 1e-9 * i as f64 / samples as f64);
}

/// Samples that hardly overlap, with squared norms that differ by about the requested width. The
/// top eigenvalues of M are then as close together as the level of a supersolution is to them, and
/// their eigenvectors mix in it.
#[test]
fn eigenvalues_a_width_apart_are_told_from_the_root_as_far_as_asked() {
    let batch = Batch::new(1, Sampling::WithReplacement).unwrap();
    for relative_width in [1e-6, 1e-8, 1e-10] {
        let options = ThresholdOptions { relative_width, ..ThresholdOptions::default() };
        for spread in [3.0, 10.0, 30.0, 100.0, 300.0, 1000.0] {
            for (n, overlap, seed) in [(40, 1e-2, 0), (40, 1e-3, 1), (120, 1e-4, 0), (120, 1e-3, 2)]
            {
                let mut rng = stream(seed, "a width apart", 0);
                let jacobian = RowMatrix::from_fn(n, n, |i, j| {
                    let random: f64 = rng.random();
                    if i == j {
                        (1.0 + spread * relative_width * random).sqrt()
                    } else {
                        overlap * (random - 0.5) / n as f64
                    }
                });
                let found = threshold_with(&jacobian, &Optimizer::sgd(), &batch, &options).unwrap();
                let case = (relative_width, spread, n, overlap, seed);
                assert_eq!(found.status, ThresholdStatus::Converged, "{case:?}: {found:?}");
            }
        }
    }
}

/// Long random gradients are nearly orthogonal, so that M is nearly diagonal. With evenly growing
/// lengths its top eigenvalues lie 1/n apart, and a Krylov space of M alone needs hundreds of
/// products.
#[test]
fn nearly_orthogonal_gradients_of_different_length_take_few_products() {
    let samples = 300;
    let mut rng = stream(5, "nearly orthogonal gradients", 0);
    let length = |i: usize| 1.0 + i as f64 / samples as f64;
    let mut gram = Mat::zeros(samples, samples);
    for i in 0..samples {
        gram[(i, i)] = length(i).powi(2);
        for j in 0..i {
            // Random gradients with 10⁶ entries have such products: small compared with the squared
            // norms.
            gram[(i, j)] = 1e-3 * rng.random_range(-1.0..1.0) * length(i) * length(j);
            gram[(j, i)] = gram[(i, j)];
        }
    }
    let gram = Gram::from_sums(gram).unwrap();
    let minimum = Minimum::from_gram(gram, Parallelism::Sequential).unwrap();
    for size in [1, 8, 100] {
        let batch = Batch::new(size, Sampling::WithoutReplacement).unwrap();
        let found = threshold(&minimum, &Optimizer::sgd(), &batch).unwrap();
        assert_eq!(found.status, ThresholdStatus::Converged, "{found:?}");
        assert!(found.iterations < 120, "B = {size}: {found:?}");
        let bounds = bounds(&minimum, &batch).unwrap();
        let order = [bounds.sufficient, found.midpoint(), bounds.spectral];
        assert!(order.is_sorted(), "B = {size}: {order:?}");
    }
}

#[test]
fn nearly_orthonormal_gradients_have_narrow_intervals() {
    for (n, p, size) in [(4, 8, 1e-7), (5, 10, 3e-7), (5, 5, 2e-6), (60, 90, 1e-6)] {
        let jacobian = RowMatrix::from_fn(n, p, |i, j| {
            let noise = ((i * 31 + j * 17 + i * j) % 101) as f64 / 50.0 - 1.0;
            if i == j { 1.0 + size * noise } else { size * noise }
        });
        for batch_size in [1, 2, 7, 25] {
            let batch = Batch::new(batch_size, Sampling::WithReplacement).unwrap();
            // The search must not stop at a vector whose smallest entries are rounding errors, even
            // if the requested width is smaller than rounding errors.
            for relative_width in [1e-10, 1e-13] {
                let options = ThresholdOptions { relative_width, ..ThresholdOptions::default() };
                let found = threshold_with(&jacobian, &Optimizer::sgd(), &batch, &options).unwrap();
                assert!(found.relative_width() < 2e-10, "{n} {size} {batch_size}: {found:?}");
            }
        }
    }
}

#[test]
fn momentum_converges_on_blocks_and_on_one_mode_at_any_width() {
    let rows = |values: &[f64]| RowMatrix::new(values.len() / 2, 2, values.to_vec()).unwrap();
    for jacobian in [rows(&[1.0, 1.0, 1.0, -1.0, 1.0, 1.0]), rows(&[0.6, 0.8])] {
        for momentum in [0.3, 0.9, 0.999] {
            for relative_width in [1e-2, 1e-4, 1e-6, 1e-10, 1e-14] {
                let optimizer = Optimizer::sgd().momentum(momentum).unwrap();
                let options = ThresholdOptions { relative_width, ..ThresholdOptions::default() };
                let batch = Batch::new(2, Sampling::WithReplacement).unwrap();
                let found = threshold_with(&jacobian, &optimizer, &batch, &options).unwrap();
                let case = format!("{optimizer}, {options:?}: {found:?}");
                assert_eq!(found.status, ThresholdStatus::Converged, "{case}");
                // Constants of order 1/(1 − β) are rounded. ζ, about 5e5, must not enter.
                assert!(found.relative_width() <= relative_width + 1e-10, "{case}");
            }
        }
    }
}

#[test]
fn degenerate_minima_are_ordinary() {
    let check = |jacobian: &RowMatrix, size: usize, expected: f64| {
        for momentum in [0.0, 0.5] {
            let batch = Batch::new(size, Sampling::WithoutReplacement).unwrap();
            let optimizer = Optimizer::sgd().momentum(momentum).unwrap();
            let found = threshold(jacobian, &optimizer, &batch).unwrap();
            if momentum > 0.0 {
                assert!(!found.lower.is_nan() && found.lower <= found.upper, "{found:?}");
                continue;
            }
            assert!(found.lower <= expected && expected <= found.upper, "{found:?} {expected}");
            assert!(found.relative_width() < 2e-10, "{found:?}");
        }
    };
    let rows = |values: &[f64], columns: usize| {
        RowMatrix::new(values.len() / columns, columns, values.to_vec()).unwrap()
    };
    check(&rows(&[3.0, 4.0], 2), 1, 2.0 / 25.0);
    check(&RowMatrix::zeros(3, 2), 2, f64::INFINITY);
    check(&RowMatrix::zeros(3, 0), 2, f64::INFINITY);
    // Orthogonal rows decouple: η* = 2/max ‖g_i‖².
    check(&rows(&[1.0, 0.0, 0.0, 2.0, 0.0, 0.0], 2), 1, 0.5);
    check(&rows(&[1e150, 0.0, 0.0, 2e150], 2), 1, 0.5e-300);
    check(&rows(&[1e-150, 0.0, 0.0, 2e-150], 2), 1, 0.5e300);
    // All rows equal, and two blocks of different strength.
    check(&rows(&[1.0, 2.0, 1.0, 2.0, 1.0, 2.0], 2), 2, 2.0 / 5.0);
    check(&rows(&[1.0, 0.0, 1.0, 0.0, 0.0, 3.0, 0.0, 3.0], 2), 1, 2.0 / 9.0);
    // Full batch: gradient descent.
    check(&rows(&[1.0, 0.0, 0.0, 2.0], 2), 2, 1.0);
    // Gradients of 1e-160: every finite learning rate is stable.
    let batch = Batch::new(1, Sampling::WithoutReplacement).unwrap();
    let found =
        threshold(&rows(&[1e-160, 0.0, 0.0, 2e-160], 2), &Optimizer::sgd(), &batch).unwrap();
    assert_eq!(found.stability(f64::MAX), Stability::Stable);
}

#[test]
fn wrong_options_and_matrices_are_refused() {
    let jacobian = random_jacobian(3, 2, 0);
    let batch = Batch::new(1, Sampling::WithReplacement).unwrap();
    let reshuffled = Batch::new(1, Sampling::Reshuffling).unwrap();
    let error = threshold(&jacobian, &Optimizer::sgd(), &reshuffled).unwrap_err();
    assert_eq!(error, BatchError::Dependent.into());
    for relative_width in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let options = ThresholdOptions { relative_width, ..ThresholdOptions::default() };
        let error = threshold_with(&jacobian, &Optimizer::sgd(), &batch, &options).unwrap_err();
        assert!(matches!(error, ThresholdError::RelativeWidth { .. }), "{error}");
    }
    let batch = Batch::new(4, Sampling::WithoutReplacement).unwrap();
    let error = threshold(&jacobian, &Optimizer::sgd(), &batch).unwrap_err();
    assert_eq!(error, BatchError::TooLarge { batch_size: 4, sample_count: 3 }.into());
    // Every 2 × 2 minor of this matrix is nonnegative, but its determinant is negative.
    let indefinite = Mat::from_fn(3, 3, |i, j| match (i, j) {
        _ if i == j => 1.0,
        (0, 2) | (2, 0) => -0.9,
        _ => 0.9,
    });
    let gram = Gram::from_sums(indefinite).unwrap();
    let error = Minimum::from_gram(gram, Parallelism::Sequential).unwrap_err();
    assert!(matches!(error, MinimumError::GramIndefinite { .. }), "{error}");
}

fn relu_gram(samples: usize) -> Mat<f64> {
    let model = TwoLayerRelu::new(30, 20).unwrap();
    let parameters = model.initial_parameters(&mut stream(0, "threshold test parameters", 0));
    let inputs = data::sphere_inputs(samples, 20, &mut stream(0, "threshold test inputs", 0));
    model.gram(&parameters, &inputs)
}

#[test]
fn threads_change_no_bit() {
    let gram = || Gram::from_means(relu_gram(600)).unwrap();
    let batch = Batch::new(1, Sampling::WithoutReplacement).unwrap();
    let found = |parallelism| {
        let options = ThresholdOptions { parallelism, ..ThresholdOptions::default() };
        let minimum = Minimum::from_gram(gram(), parallelism).unwrap();
        threshold_with(&minimum, &Optimizer::sgd(), &batch, &options).unwrap()
    };
    assert_eq!(found(Parallelism::Sequential), found(Parallelism::Rayon));
}

#[test]
fn sums_means_and_the_jacobian_give_the_same_threshold() {
    let jacobian = random_jacobian(9, 12, 3);
    let sums = jacobian.as_mat() * jacobian.as_mat().transpose();
    let means: Mat<f64> = faer::Scale(1.0 / 9.0) * &sums;
    let batch = Batch::new(2, Sampling::WithoutReplacement).unwrap();
    let expected = threshold(&jacobian, &Optimizer::sgd(), &batch).unwrap();
    let overlap = |found: Threshold| found.lower <= expected.upper && expected.lower <= found.upper;
    assert!(overlap(
        threshold(&Gram::from_sums(sums).unwrap(), &Optimizer::sgd(), &batch).unwrap()
    ));
    assert!(overlap(
        threshold(&Gram::from_means(means).unwrap(), &Optimizer::sgd(), &batch).unwrap()
    ));
    let dense = dense_threshold(&Minimum::new(&jacobian).unwrap(), &batch).unwrap();
    assert!((expected.midpoint() / dense - 1.0).abs() < 1e-10);
}

#[test]
fn a_network_of_many_samples_keeps_the_order_of_the_bounds() {
    let gram = Gram::from_means(relu_gram(200)).unwrap();
    let minimum = Minimum::from_gram(gram, Parallelism::Sequential).unwrap();
    let mut last = 0.0;
    for size in [1, 2, 5, 20, 100, 199, 200] {
        let batch = Batch::new(size, Sampling::WithoutReplacement).unwrap();
        let found = threshold(&minimum, &Optimizer::sgd(), &batch).unwrap();
        let bounds = bounds(&minimum, &batch).unwrap();
        assert!(found.relative_width() < 2e-10, "{found:?}");
        assert!(bounds.sufficient <= found.upper && found.lower <= bounds.spectral);
        assert!(found.midpoint() >= last, "B = {size}");
        last = found.midpoint();
        assert_eq!(found.stability(found.lower), Stability::Stable);
        assert_eq!(found.stability(found.upper * 1.01), Stability::Unstable);
    }
}

/// Checks S14 in the eigenbasis, where the Jacobian is `J V` for the eigenvectors V of G.
#[test]
fn the_lyapunov_function_decays_exactly_below_the_threshold() {
    let jacobian = RowMatrix::new(3, 2, vec![1.0, 0.0, 0.6, 1.1, -0.4, 0.7]).unwrap();
    let minimum = Minimum::new(&jacobian).unwrap();
    let batch = Batch::new(1, Sampling::WithoutReplacement).unwrap();
    let function = lyapunov_function(&minimum, &batch, &ThresholdOptions::default()).unwrap();
    let gauss_newton = jacobian.as_mat().transpose() * jacobian.as_mat();
    let gauss_newton: Mat<f64> = faer::Scale(1.0 / 3.0) * gauss_newton;
    let eigen = flatmin_linalg::symmetric_eigen(gauss_newton.as_ref()).unwrap();
    let rows = jacobian.as_mat() * &eigen.vectors;
    // Eigenvectors, and Y* with them, are determined up to signs: find the signs that fit.
    let ratios: Vec<f64> = [1.0, -1.0]
        .into_iter()
        .map(|sign| {
            let y = Mat::from_fn(2, 2, |k, l| {
                function.matrix.row(k)[l] * if k == l { 1.0 } else { sign }
            });
            let value = |d: [f64; 2]| {
                d[0] * d[0] * y[(0, 0)] + 2.0 * d[0] * d[1] * y[(0, 1)] + d[1] * d[1] * y[(1, 1)]
            };
            let change = |delta: [f64; 2], rate: f64| {
                let step = |i: usize| {
                    let slope = rows[(i, 0)] * delta[0] + rows[(i, 1)] * delta[1];
                    value([0, 1].map(|k| delta[k] - rate * slope * rows[(i, k)]))
                };
                (0..3).map(step).sum::<f64>() / 3.0 - value(delta)
            };
            // No change at the threshold, from any start.
            let star = function.threshold.midpoint();
            [[1.0, 0.0], [0.3, -1.0], [1.0, 1.0]]
                .into_iter()
                .map(|delta| change(delta, star).abs() / change(delta, 0.5 * star).abs())
                .fold(0.0, f64::max)
        })
        .collect();
    assert!(ratios.iter().any(|ratio| *ratio < 1e-8), "{ratios:?}");
}
