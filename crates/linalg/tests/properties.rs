//! Estimators on random and on degenerate operators.

mod operators;

use faer::Mat;
use flatmin_linalg::{
    EigenpairOptions, End, EstimateError, FnOperator, FrobeniusMethod, FrobeniusOptions,
    LanczosStatus, Operator as _, TraceMethod, TraceOptions, TraceStatus, TraceTarget,
    estimate_trace, frobenius_norm_squared, probe, stream, symmetric_eigenvalues, top_eigenpairs,
    trace,
};
use operators::{Dense, gaussian, rotated};
use proptest::prelude::*;

const METHODS: [TraceMethod; 4] = [
    TraceMethod::Hutchinson,
    TraceMethod::HutchPlusPlus,
    TraceMethod::XTrace,
    TraceMethod::XNysTrace,
];

/// Positive semidefinite spectra, including degenerate ones and extreme scales.
fn spectrum() -> impl Strategy<Value = Vec<f64>> {
    let scale = prop_oneof![Just(1.0), Just(1e-150), Just(1e150), Just(1e-8)];
    let shape = prop_oneof![
        (1_usize..24).prop_map(|n| vec![0.0; n]),
        (1_usize..24).prop_map(|n| vec![1.0; n]),
        (1_usize..24).prop_map(|n| (0..n).map(|k| f64::from(u8::from(k == 0))).collect()),
        prop::collection::vec(0.0..1.0_f64, 1..24),
        (1_u32..24).prop_map(|n| (1..=n).map(|k| f64::from(k).powi(-3)).collect()),
    ];
    (scale, shape).prop_map(|(scale, shape)| shape.iter().map(|v| scale * v).collect())
}

proptest! {
    #[test]
    fn no_budget_and_no_spectrum_breaks_an_estimator(
        spectrum in spectrum(), budget in 1_usize..40, seed in 0_u64..1000,
    ) {
        let operator = rotated(&spectrum, seed);
        let (dim, exact) = (operator.dim(), operator.trace());
        for method in METHODS {
            let options = TraceOptions { method, max_products: budget };
            let estimate = trace(&operator, &options, &mut stream(seed, "properties", 0)).unwrap();
            prop_assert!(estimate.products <= budget && estimate.products >= 1);
            let interval = estimate.interval(0.95);
            prop_assert!(interval.lower <= estimate.value && estimate.value <= interval.upper);
            // Forty standard errors and the rounding of a rotated matrix are exceeded only by a
            // wrong construction.
            let bound = 40.0 * interval.half_width() + 1e-13 * exact.abs();
            let error = (estimate.value - exact).abs();
            prop_assert!(error <= bound || budget < 4, "{method:?} {estimate:?} {exact}");
            if budget >= dim {
                prop_assert_eq!(estimate.standard_error.to_bits(), 0.0_f64.to_bits());
                prop_assert!(error <= 1e-14 * dim as f64 * exact.abs());
                prop_assert_eq!(estimate.products, dim);
            }
            let again = trace(&operator, &options, &mut stream(seed, "properties", 0)).unwrap();
            prop_assert_eq!(estimate, again);
        }
        for method in [FrobeniusMethod::Plain, FrobeniusMethod::Deflated] {
            let options = FrobeniusOptions { method, max_products: budget };
            let estimate =
                frobenius_norm_squared(&operator, &options, &mut stream(seed, "properties", 0));
            let estimate = estimate.unwrap();
            prop_assert!(estimate.products == budget.min(dim));
            prop_assert!(estimate.value >= 0.0 && estimate.standard_error >= 0.0);
            if budget >= dim {
                let exact = operator.frobenius_norm_squared();
                prop_assert!((estimate.value - exact).abs() <= 1e-13 * exact);
            }
        }
        prop_assert!(probe(&operator, &mut stream(seed, "properties", 1)).is_ok());
    }

    #[test]
    fn eigenpairs_are_those_of_the_dense_matrix(
        spectrum in spectrum(), flip in any::<bool>(), count in 1_usize..5, seed in 0_u64..1000,
    ) {
        let signed: Vec<f64> = spectrum
            .iter().enumerate().map(|(k, v)| if flip && k % 2 == 1 { -v } else { *v }).collect();
        let operator = rotated(&signed, seed);
        let dense = symmetric_eigenvalues(operator.0.as_ref()).unwrap();
        let scale = dense.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
        let count = count.min(signed.len());
        for end in [End::Largest, End::Smallest, End::LargestMagnitude] {
            let options = EigenpairOptions { count, end, ..EigenpairOptions::default() };
            let found =
                top_eigenpairs(&operator, &options, &mut stream(seed, "properties", 2)).unwrap();
            let mut expected = dense.clone();
            expected.sort_by(|a, b| match end {
                End::Smallest => a.total_cmp(b),
                End::LargestMagnitude => b.abs().total_cmp(&a.abs()),
                _ => b.total_cmp(a),
            });
            prop_assert_eq!(found.pairs.len(), count);
            for (pair, expected) in found.pairs.iter().zip(&expected) {
                let magnitude = end == End::LargestMagnitude;
                let value = if magnitude { pair.value.abs() } else { pair.value };
                let expected = if magnitude { expected.abs() } else { *expected };
                prop_assert!((value - expected).abs() <= 1e-11 * scale, "{value} {expected}");
                prop_assert!(pair.residual <= 1e-8 * scale);
            }
        }
    }
}

#[test]
fn top_eigenvalues_of_indefinite_matrices_are_accurate() {
    for (dim, index) in [(60, 1), (180, 2), (400, 3)] {
        let g = gaussian(dim, dim, index);
        let operator = Dense(Mat::from_fn(dim, dim, |i, j| g[(i, j)] + g[(j, i)]));
        let dense = symmetric_eigenvalues(operator.0.as_ref()).unwrap();
        let options = EigenpairOptions { count: 5, ..EigenpairOptions::default() };
        let found = top_eigenpairs(&operator, &options, &mut stream(0, "top", index)).unwrap();
        assert_eq!(found.status, LanczosStatus::Converged, "{}", found.products);
        for (pair, expected) in found.pairs.iter().zip(dense.iter().rev()) {
            assert!((pair.value - expected).abs() <= 1e-12 * expected, "{} {expected}", pair.value);
        }
    }
}

#[test]
fn the_budget_of_products_is_kept() {
    let identity = [1.0; 9];
    let projector: Vec<f64> = (0..9).map(|k| f64::from(u8::from(k < 3))).collect();
    let decaying: Vec<f64> = (1..=9).map(|k| 1.0 / f64::from(k)).collect();
    for spectrum in [&identity[..], &[0.0; 9], &projector, &decaying] {
        let operator = rotated(spectrum, 5);
        for max_products in 1..12 {
            let options = EigenpairOptions { count: 4, max_products, ..Default::default() };
            let found = top_eigenpairs(&operator, &options, &mut stream(0, "budget", 0)).unwrap();
            assert!(found.products <= max_products, "{spectrum:?} {max_products}");
            // Four pairs need four products. One more product proves that there are no others.
            let is_short = found.status == LanczosStatus::OutOfProducts;
            assert!(is_short || max_products > 4, "{spectrum:?} {max_products} {:?}", found.status);
        }
    }
}

#[test]
fn targets_that_make_no_sense_are_refused() {
    let operator = rotated(&[1.0; 20], 0);
    let refused = |target: TraceTarget, message: &str| {
        let error = estimate_trace(&operator, &target, &mut stream(0, "targets", 0)).unwrap_err();
        assert!(error.to_string().starts_with(message), "{error}");
    };
    for confidence in [0.0, -1.0, 1.0, f64::NAN] {
        let target = TraceTarget { confidence, ..TraceTarget::default() };
        refused(target, &format!("the confidence is {confidence}"));
    }
    for relative_error in [-0.1, f64::NAN, f64::INFINITY] {
        let target = TraceTarget { relative_error, ..TraceTarget::default() };
        refused(target, &format!("the relative error is {relative_error}"));
    }
}

#[test]
fn bad_requests_and_operators_are_named() {
    let nan = FnOperator::new(50, |_: &[f64], out: &mut [f64]| out[3] = f64::NAN);
    let empty = FnOperator::new(0, |_: &[f64], _: &mut [f64]| {});
    let negative = rotated(&[-1.0; 20], 0);
    let huge = rotated(&[1e200; 20], 0);
    for method in METHODS {
        for max_products in [1, 2, 10, 50] {
            let options = TraceOptions { method, max_products };
            let error = trace(&nan, &options, &mut stream(0, "bad", 0)).unwrap_err();
            assert!(matches!(error, EstimateError::NotFinite { row: 3, .. }), "{error}");
        }
        let none = TraceOptions { method, max_products: 0 };
        assert_eq!(
            trace(&negative, &none, &mut stream(0, "bad", 0)),
            Err(EstimateError::NoProducts)
        );
        let some = TraceOptions { method, max_products: 10 };
        assert_eq!(trace(&empty, &some, &mut stream(0, "bad", 0)), Err(EstimateError::Empty));
    }
    let options = TraceOptions { method: TraceMethod::XNysTrace, max_products: 10 };
    match trace(&negative, &options, &mut stream(0, "bad", 0)) {
        Err(EstimateError::NotPositive { form }) => assert!(form < 0.0, "{form}"),
        other => panic!("{other:?}"),
    }
    let options = FrobeniusOptions::default();
    assert_eq!(
        frobenius_norm_squared(&huge, &options, &mut stream(0, "bad", 0)),
        Err(EstimateError::OutOfRange)
    );
}

#[test]
fn the_driver_says_how_it_ended() {
    let spectrum: Vec<f64> = (1..=300).map(|k| 1.0 / f64::from(k)).collect();
    let operator = rotated(&spectrum, 7);
    let run = |relative_error, max_products| {
        let target = TraceTarget { relative_error, max_products, ..TraceTarget::default() };
        estimate_trace(&operator, &target, &mut stream(0, "driver", 0)).unwrap()
    };
    // The memory determines the method: 250 vectors are enough for 125 products of XTrace, 80 for a
    // few directions, 10 for none.
    for (vectors, method) in [
        (250, TraceMethod::XTrace),
        (80, TraceMethod::HutchPlusPlus),
        (10, TraceMethod::Hutchinson),
    ] {
        let max_bytes = vectors * size_of::<f64>() * 300;
        let target = TraceTarget {
            relative_error: 1e-6,
            max_products: 124,
            max_bytes,
            ..Default::default()
        };
        let run = estimate_trace(&operator, &target, &mut stream(0, "driver", 0)).unwrap();
        assert_eq!(run.method, method, "{vectors}");
        let error = (run.estimate.value - operator.trace()).abs();
        assert!(error < 4.0 * run.estimate.standard_error, "{vectors}");
    }
    let easy = run(0.2, 1000);
    assert_eq!(easy.status, TraceStatus::Converged);
    assert!(easy.estimate.interval(0.95).half_width() <= 0.2 * easy.estimate.value);
    let short = run(1e-6, 200);
    assert_eq!(short.status, TraceStatus::OutOfProducts);
    assert!(short.products <= 200 && short.estimate.products >= 100);
    // With enough products for every unit vector the answer is exact.
    let exact = run(1e-12, 5000);
    assert_eq!(exact.status, TraceStatus::Converged);
    assert!(exact.estimate.standard_error <= 0.0);
}

/// The Krylov space of a start is invariant after two products. The next direction then consists of
/// rounding errors, which must not bring back pairs that were found before.
#[test]
fn repeated_eigenvalues_of_both_signs_are_all_found() {
    let signed = [1.0, -1.0, 1.0, -1.0, 1.0];
    for seed in 0..300 {
        let operator = rotated(&signed, seed);
        let options =
            EigenpairOptions { count: 3, end: End::Largest, ..EigenpairOptions::default() };
        let found =
            top_eigenpairs(&operator, &options, &mut stream(seed, "properties", 2)).unwrap();
        for pair in &found.pairs {
            assert!((pair.value - 1.0).abs() <= 1e-13, "{seed}: {}", pair.value);
            assert!(pair.residual <= 1e-12, "{seed}: {}", pair.residual);
        }
    }
}
