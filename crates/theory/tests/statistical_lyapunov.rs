//! Lyapunov exponents and almost-sure edges compared with closed forms, over many seeds.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use flatmin_linalg::{RowMatrix, stream};
use flatmin_theory::{
    Batch, EdgeOptions, EdgeStatus, LinearisedSgd, LyapunovOptions, Minimum, Optimizer, Sampling,
    almost_sure_edge, dense_threshold, lyapunov_exponent,
};
use rand::RngExt as _;
use rand_distr::{Distribution as _, StandardNormal};

fn minimum(rows: usize, columns: usize, values: &[f64]) -> Minimum {
    Minimum::new(&RowMatrix::new(rows, columns, values.to_vec()).unwrap()).unwrap()
}

fn single() -> Batch {
    Batch::new(1, Sampling::WithReplacement).unwrap()
}

const OPTIONS: LyapunovOptions = LyapunovOptions { replicas: 32, burn_in: 50, steps: 200, seed: 0 };

/// Checks the fraction of seeds whose nominal 95 % interval (1.96 standard errors) covers
/// `expected`.
///
/// With 31 degrees of freedom a correct interval covers 94.1 % of the time. Over 400 seeds the
/// standard deviation of the fraction is 1.2 %. The bounds lie 3.4 and 4.1 standard deviations
/// away, and are crossed by chance less than once in 2000 runs.
#[track_caller]
fn check_coverage(minimum: &Minimum, batch: Batch, learning_rate: f64, expected: f64) {
    let sgd = LinearisedSgd::new(minimum, &Optimizer::sgd(), &batch, learning_rate).unwrap();
    let covered = (0..400).filter(|seed| {
        let exponent = lyapunov_exponent(&sgd, LyapunovOptions { seed: *seed, ..OPTIONS }).unwrap();
        exponent.lower(1.96) <= expected && expected <= exponent.upper(1.96)
    });
    let fraction = covered.count() as f64 / 400.0;
    assert!((0.90..=0.99).contains(&fraction), "{:.1} % cover {expected}", 100.0 * fraction);
}

#[test]
fn intervals_cover_the_exponent_of_one_direction() {
    // g² = 1 and 4, η = 0.7: factors 0.3 and −1.8 for single samples.
    let minimum = minimum(2, 1, &[1.0, 2.0]);
    let log = |factor: f64| libm::log(factor.abs());
    check_coverage(&minimum, single(), 0.7, 0.5 * (log(0.3) + log(-1.8)));
    // Pairs with replacement: mean g² is 1, 2.5 or 4.
    let pairs = Batch::new(2, Sampling::WithReplacement).unwrap();
    check_coverage(&minimum, pairs, 0.7, 0.25 * log(0.3) + 0.5 * log(-0.75) + 0.25 * log(-1.8));
    // Pairs out of g² = 1, 4, 9 without replacement: mean g² is 2.5, 5 or 6.5.
    let minimum = self::minimum(3, 1, &[1.0, 2.0, 3.0]);
    let pairs = Batch::new(2, Sampling::WithoutReplacement).unwrap();
    check_coverage(&minimum, pairs, 0.3, (log(0.25) + log(-0.5) + log(-0.95)) / 3.0);
}

#[test]
fn intervals_cover_the_exponent_of_orthogonal_rows() {
    // Squared norms 1 and 4: (1/2) ln |1 − η| and (1/2) ln |1 − 4η|.
    let minimum = minimum(2, 3, &[1.0, 0.0, 0.0, 0.0, 0.0, 2.0]);
    check_coverage(&minimum, single(), 0.2, 0.5 * libm::log(0.8));
    check_coverage(&minimum, single(), 0.6, 0.5 * libm::log(1.4));
}

/// With equal rows every random batch is the same: the simulation must find the exponent of
/// gradient descent.
#[test]
fn momentum_has_the_exponent_of_its_modes() {
    let minimum = minimum(2, 1, &[1.0, 1.0]);
    for (learning_rate, momentum) in [(0.5, 0.0), (0.01, 0.5), (4.0, 0.5), (0.5, 0.5), (4.5, 0.9)] {
        let sgd = |size, sampling| {
            let batch = Batch::new(size, sampling).unwrap();
            let optimizer = Optimizer::sgd().momentum(momentum).unwrap();
            let sgd = LinearisedSgd::new(&minimum, &optimizer, &batch, learning_rate).unwrap();
            lyapunov_exponent(&sgd, OPTIONS).unwrap()
        };
        let simulated = sgd(1, Sampling::WithReplacement);
        let exact = sgd(2, Sampling::WithoutReplacement);
        assert_eq!((exact.replicas, exact.standard_error.to_bits()), (0, 0));
        // Complex eigenvalues turn (δ, v) on an ellipse whose axes have a ratio below e³.
        let slack = 3.0 / 200.0;
        assert!((simulated.value - exact.value).abs() < slack, "{simulated:?}, {exact:?}");
        assert!(simulated.replicas == 32 && simulated.steps == 200);
    }
}

#[test]
fn gradient_descent_is_exact() {
    let minimum = minimum(2, 2, &[1.0, 0.0, 0.0, 2.0]);
    let full = Batch::new(2, Sampling::WithoutReplacement).unwrap();
    let value = |learning_rate| {
        let sgd = LinearisedSgd::new(&minimum, &Optimizer::sgd(), &full, learning_rate).unwrap();
        lyapunov_exponent(&sgd, OPTIONS).unwrap().value
    };
    // λ = 1/2 and 2.
    assert!((value(0.1) - libm::log(0.95)).abs() < 1e-15);
    assert!((value(1.5) - libm::log(2.0)).abs() < 1e-15);
    assert!((value(1e-20) / -5e-21 - 1.0).abs() < 1e-15);
    assert_eq!(value(0.0).to_bits(), 0);
}

#[test]
fn a_product_that_vanishes_has_exponent_minus_infinity() {
    let one_row = minimum(1, 1, &[1.0]);
    let sgd = LinearisedSgd::new(&one_row, &Optimizer::sgd(), &single(), 1.0).unwrap();
    let exponent = lyapunov_exponent(&sgd, OPTIONS).unwrap();
    assert_eq!(exponent.value.to_bits(), f64::NEG_INFINITY.to_bits());
    assert_eq!(exponent.standard_error.to_bits(), 0);
    // With rounded eigenvectors, an exact cancellation leaves zero or about ε.
    let repeated = minimum(2, 1, &[1.0, 1.0]);
    let axes = minimum(2, 2, &[1.0, 0.0, 0.0, 1.0]);
    for (minimum, most) in [(&repeated, -30.0), (&axes, -15.0)] {
        let sgd = LinearisedSgd::new(minimum, &Optimizer::sgd(), &single(), 1.0).unwrap();
        let exponent = lyapunov_exponent(&sgd, OPTIONS).unwrap();
        assert!(exponent.upper(3.0) < most, "{exponent:?}");
    }
}

#[test]
fn degenerate_minima_are_ordinary() {
    let zero = minimum(3, 2, &[0.0; 6]);
    let sgd = LinearisedSgd::new(&zero, &Optimizer::sgd().momentum(0.9).unwrap(), &single(), 7.0)
        .unwrap();
    assert_eq!(lyapunov_exponent(&sgd, OPTIONS).unwrap().value.to_bits(), 0);
    // The zero row is drawn every second time.
    let half = minimum(2, 1, &[0.0, 1.0]);
    check_coverage(&half, single(), 0.5, 0.5 * libm::log(0.5));
    // One row with momentum and replacement is gradient descent.
    let one = minimum(1, 2, &[3.0, 4.0]);
    let sgd = LinearisedSgd::new(&one, &Optimizer::sgd(), &single(), 1.0).unwrap();
    let exponent = lyapunov_exponent(&sgd, OPTIONS).unwrap();
    assert!((exponent.value - libm::log(24.0)).abs() < 1e-14);
}

/// Checks thousands of steps that each grow or decay by many orders of magnitude.
#[test]
fn growth_and_decay_do_not_overflow() {
    let check = |scale: f64, learning_rate: f64| {
        let values = [1.0, 0.0, 1.0, 1.0, 0.5, -1.0].map(|v| v * scale);
        let minimum = minimum(3, 2, &values);
        let sgd = LinearisedSgd::new(
            &minimum,
            &Optimizer::sgd(),
            &single(),
            learning_rate / scale / scale,
        )
        .unwrap();
        let options = LyapunovOptions { steps: 2000, ..OPTIONS };
        lyapunov_exponent(&sgd, options).unwrap()
    };
    let large = check(1.0, 4e29);
    // A step multiplies the state by about η‖g‖² cos of an angle, hence by at most e^68.
    assert!(large.value > 60.0 && large.value < 70.0, "{large:?}");
    assert!(large.standard_error < 0.1);
    let [plain, scaled] = [check(1.0, 0.3), check(1e150, 0.3)];
    assert!((plain.value - scaled.value).abs() < 1e-6, "{plain:?} {scaled:?}");
    // η‖g‖² = 1 + 2^−40 for the only direction.
    let repeated = minimum(2, 1, &[1.0, 1.0]);
    let near = 1.0 + 2.0_f64.powi(-40);
    let sgd = LinearisedSgd::new(&repeated, &Optimizer::sgd(), &single(), near).unwrap();
    let exponent = lyapunov_exponent(&sgd, OPTIONS).unwrap();
    // Each rounding moves the product by a few ε, which is 2^−12 times the difference from 1.
    assert!((exponent.value + 40.0 * std::f64::consts::LN_2).abs() < 2e-3, "{exponent:?}");
}

/// Orthogonal rows of squared norms 1 and 0.01: the slow direction takes over after a while.
#[test]
fn a_run_that_has_not_settled_says_so() {
    let rows = minimum(2, 2, &[1.0, 0.0, 0.0, 0.1]);
    let sgd = LinearisedSgd::new(&rows, &Optimizer::sgd(), &single(), 0.5).unwrap();
    let short = LyapunovOptions { burn_in: 0, steps: 40, ..OPTIONS };
    let exponent = lyapunov_exponent(&sgd, short).unwrap();
    assert!(!exponent.is_settled(5.0) && exponent.drift.value > 0.0, "{exponent:?}");
    assert!(exponent.value < -0.03);
    let exponent = lyapunov_exponent(&sgd, OPTIONS).unwrap();
    // Exceeded by chance once in 10⁴ runs.
    assert!(exponent.is_settled(4.5), "{exponent:?}");
    assert!((exponent.value - 0.5 * libm::log(0.995)).abs() <= 5.0 * exponent.standard_error);
}

/// Mean-square stability implies almost-sure stability.
#[test]
fn the_exponent_is_not_positive_at_the_mean_square_threshold() {
    let minimum = minimum(4, 3, &[1.0, 0.5, 0.0, -0.3, 1.2, 0.7, 0.2, -0.1, 1.5, 0.9, 0.9, 0.1]);
    for (size, sampling) in [
        (1, Sampling::WithReplacement),
        (2, Sampling::WithReplacement),
        (3, Sampling::WithoutReplacement),
    ] {
        let batch = Batch::new(size, sampling).unwrap();
        let threshold = dense_threshold(&minimum, &batch).unwrap();
        let sgd = LinearisedSgd::new(&minimum, &Optimizer::sgd(), &batch, threshold).unwrap();
        let exponent = lyapunov_exponent(&sgd, OPTIONS).unwrap();
        assert!(exponent.upper(5.0) < 0.0, "{exponent:?}");
        let options = EdgeOptions { known_stable: Some(threshold), ..EdgeOptions::with_seed(3) };
        let edge = almost_sure_edge(&minimum, &Optimizer::sgd(), &batch, options).unwrap();
        assert!(edge.lower.learning_rate > threshold, "{edge:?}");
    }
}

/// Mean-square stability implies almost-sure stability on random minima too, of ranks 1 to 4.
#[test]
fn mean_square_stability_implies_almost_sure_stability() {
    for index in 0..80 {
        let mut rng = stream(1, "random minima", index);
        let (n, columns) = (rng.random_range(1..=6), rng.random_range(1..=4));
        let jacobian = RowMatrix::from_fn(n, columns, |i, _| {
            let normal: f64 = StandardNormal.sample(&mut rng);
            // Norms over two decades, and an occasional zero row.
            if i == 4 { 0.0 } else { normal * [0.1, 1.0, 10.0][i % 3] }
        });
        let minimum = Minimum::new(&jacobian).unwrap();
        let (size, sampling) = match rng.random_range(0..3) {
            0 => (1, Sampling::WithReplacement),
            1 => (3, Sampling::WithReplacement),
            _ => (rng.random_range(1..=n), Sampling::WithoutReplacement),
        };
        let batch = Batch::new(size, sampling).unwrap();
        let threshold = dense_threshold(&minimum, &batch).unwrap();
        let sgd = LinearisedSgd::new(&minimum, &Optimizer::sgd(), &batch, threshold).unwrap();
        let options = LyapunovOptions { steps: 2000, ..OPTIONS };
        let exponent = lyapunov_exponent(&sgd, options).unwrap();
        // The mean of ln V does not grow, and ln ‖δ‖ differs from it by a bounded amount, divided
        // by 2000 steps.
        assert!(exponent.lower(5.0) <= 2e-3, "{index}: {exponent:?}");
    }
}

/// Checks that each of ten seeds finds an interval around `expected`.
///
/// An end is wrong when the exponent of a rate near the edge comes out 3 standard errors on the
/// wrong side of zero, with 15 degrees of freedom. At most 2 of 400 seeds failed in an experiment,
/// so that ten others all pass with probability above 95 %.
#[track_caller]
fn check_edge(minimum: &Minimum, batch: Batch, momentum: f64, expected: f64) {
    for seed in 0..10 {
        let optimizer = Optimizer::sgd().momentum(momentum).unwrap();
        let options = EdgeOptions { steps: 4096, ..EdgeOptions::with_seed(seed) };
        let edge = almost_sure_edge(minimum, &optimizer, &batch, options).unwrap();
        let [lower, upper] = [edge.lower.learning_rate, edge.upper.learning_rate];
        assert!(lower <= expected && expected <= upper, "{expected}: {edge:?}");
        assert!(matches!(edge.status, EdgeStatus::Resolved | EdgeStatus::Wide), "{edge:?}");
        assert!(upper / lower < 1.1, "{edge:?}");
        assert!(edge.upper.exponent.lower(3.0) > 0.0 && edge.evaluations <= 24);
        assert!(edge.lower.exponent.lower(3.0) < 0.0);
    }
}

#[test]
fn the_edge_of_one_direction_is_found() {
    // g² = 1 and 4: |(1 − η)(1 − 4η)| = 1 at η = 5/4, far beyond η* = 10/17.
    check_edge(&minimum(2, 1, &[1.0, 2.0]), single(), 0.0, 1.25);
    // g² = 1 and 100: |(1 − η)(1 − 100η)| = 1 at 0.0202; it is below 1 again around η = 1.
    let first = (101.0 - 9401.0_f64.sqrt()) / 200.0;
    check_edge(&minimum(2, 1, &[1.0, 10.0]), single(), 0.0, first);
}

#[test]
fn the_edge_of_orthogonal_rows_is_that_of_the_largest() {
    let rows = minimum(3, 3, &[1.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.1]);
    check_edge(&rows, single(), 0.0, 0.5);
}

#[test]
fn the_edge_with_momentum_is_found() {
    check_edge(&minimum(2, 1, &[1.0, 1.0]), single(), 0.9, 3.8);
}

#[test]
fn gradient_descent_has_an_exact_edge_and_flat_minima_none() {
    let full = Batch::new(2, Sampling::WithoutReplacement).unwrap();
    let axes = minimum(2, 2, &[1.0, 0.0, 0.0, 2.0]);
    let optimizer = Optimizer::sgd().momentum(0.5).unwrap();
    let options = EdgeOptions::with_seed(0);
    let edge = almost_sure_edge(&axes, &optimizer, &full, options).unwrap();
    assert_eq!((edge.status, edge.evaluations), (EdgeStatus::Exact, 0));
    assert!((edge.lower.learning_rate - 1.5).abs() < 1e-15);
    assert_eq!(edge.lower, edge.upper);
    let flat = almost_sure_edge(&minimum(2, 1, &[0.0, 0.0]), &Optimizer::sgd(), &single(), options)
        .unwrap();
    assert!(flat.lower.learning_rate.is_infinite());
}

#[test]
fn a_search_without_means_says_so() {
    let rows = minimum(2, 1, &[1.0, 2.0]);
    let options = EdgeOptions { replicas: 2, steps: 256, ..EdgeOptions::with_seed(0) };
    let starved = EdgeOptions { evaluations: 2, ..options };
    let edge = almost_sure_edge(&rows, &Optimizer::sgd(), &single(), starved).unwrap();
    assert_eq!(edge.status, EdgeStatus::Undecided);
    assert_eq!(edge.evaluations, 2);
    // A wrong hint is detected: the search goes down from it.
    let hint = EdgeOptions { known_stable: Some(5.0), ..EdgeOptions::with_seed(0) };
    let edge = almost_sure_edge(&rows, &Optimizer::sgd(), &single(), hint).unwrap();
    assert!(edge.lower.learning_rate <= 1.25 && 1.25 <= edge.upper.learning_rate, "{edge:?}");
    for (wrong, message) in [
        (
            EdgeOptions { replicas: 1, ..options },
            "the number of replicas is 1, expected at least 2",
        ),
        (
            EdgeOptions { steps: 255, ..options },
            "the number of steps is 255, expected at least 256",
        ),
        (
            EdgeOptions { evaluations: 1, ..options },
            "the number of evaluations is 1, expected at least 2",
        ),
    ] {
        let error = almost_sure_edge(&rows, &Optimizer::sgd(), &single(), wrong).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    for known in [0.0, -1.0, f64::NAN] {
        let wrong = EdgeOptions { known_stable: Some(known), ..options };
        assert!(almost_sure_edge(&rows, &Optimizer::sgd(), &single(), wrong).is_err());
    }
    let sgd = LinearisedSgd::new(&rows, &Optimizer::sgd(), &single(), 0.1).unwrap();
    let error = lyapunov_exponent(&sgd, LyapunovOptions { steps: 1, ..OPTIONS }).unwrap_err();
    assert_eq!(error.to_string(), "the number of steps is 1, expected at least 2");
    assert!(lyapunov_exponent(&sgd, LyapunovOptions { replicas: 1, ..OPTIONS }).is_err());
}

/// A change of these numbers is a change of published numbers.
#[test]
fn the_random_stream_is_pinned() {
    let rows = minimum(2, 1, &[1.0, 2.0]);
    let sgd = LinearisedSgd::new(&rows, &Optimizer::sgd(), &single(), 0.7).unwrap();
    let options = LyapunovOptions { replicas: 2, burn_in: 1, steps: 25, seed: 0 };
    let exponent = lyapunov_exponent(&sgd, options).unwrap();
    assert!((exponent.value / -0.415_598_637_865_592 - 1.0).abs() < 1e-12, "{exponent:?}");
}
