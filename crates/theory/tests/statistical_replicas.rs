//! Simulated replicas of linearised SGD compared with the exact recursion of second moments.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use flatmin_linalg::RowMatrix;
use flatmin_theory::{
    Batch, LinearisedSgd, Minimum, Optimizer, ReplicaMean, Sampling, SecondMoments,
    SimulationOptions, Start, dense_threshold, simulate,
};

/// Five rows in three dimensions, two of them equal and one zero; rank 3.
fn minimum() -> Minimum {
    let values = vec![
        1.0, 0.5, 0.0, //
        1.0, 0.5, 0.0, //
        0.0, 0.0, 0.0, //
        -0.3, 1.2, 0.7, //
        0.2, -0.1, 1.5, //
    ];
    Minimum::new(&RowMatrix::new(5, 3, values).unwrap()).unwrap()
}

fn form() -> RowMatrix {
    RowMatrix::new(3, 3, vec![2.0, 0.5, 0.0, 0.5, 1.0, -0.3, 0.0, -0.3, 0.7]).unwrap()
}

/// Deviations of a correct simulation, in standard errors, are close to normal: each exceeds five
/// with probability 6e-7, and there are fewer than 300 comparisons in this file.
#[track_caller]
fn assert_near(what: &str, got: ReplicaMean, expected: f64) {
    let slack = 5.0 * got.standard_error + 1e-12 * expected.abs();
    assert!((got.value - expected).abs() <= slack, "{what}: {got:?}, expected {expected}");
}

#[track_caller]
fn check(batch_size: usize, sampling: Sampling, start: Start, momentum: f64) {
    let (minimum, form) = (minimum(), form());
    let batch = Batch::new(batch_size, sampling).unwrap();
    let sgd =
        LinearisedSgd::new(&minimum, &Optimizer::sgd().momentum(momentum).unwrap(), &batch, 0.4)
            .unwrap();
    let steps = [0, 1, 2, 3, 6];
    let options = SimulationOptions { replicas: 20_000, steps: &steps, start, seed: 5 };
    let snapshots = simulate(&sgd, &form, options).unwrap();
    let mut moments = SecondMoments::new(&sgd).unwrap();
    let [form_start, norm_start] = [moments.quadratic_form(&form).unwrap(), 3.0];
    for (snapshot, step) in snapshots.iter().zip(steps) {
        while moments.steps() < step {
            moments.step();
        }
        assert_eq!(snapshot.step, step);
        let (exact, norm) = (moments.quadratic_form(&form).unwrap(), moments.norm_squared());
        assert_near("form", snapshot.form, exact);
        assert_near("norm", snapshot.norm_squared, norm);
        // The change of a Gaussian start is compared with the change of the exact moments.
        assert_near("change of the form", snapshot.form_change, exact - form_start);
        assert_near("change of the norm", snapshot.norm_squared_change, norm - norm_start);
    }
}

#[test]
fn single_samples_agree() {
    check(1, Sampling::WithReplacement, Start::Signs, 0.0);
    check(1, Sampling::WithoutReplacement, Start::Gaussian, 0.0);
}

#[test]
fn batches_agree() {
    check(3, Sampling::WithReplacement, Start::Gaussian, 0.0);
    check(3, Sampling::WithoutReplacement, Start::Signs, 0.0);
    check(7, Sampling::WithReplacement, Start::Signs, 0.0);
    check(5, Sampling::WithoutReplacement, Start::Gaussian, 0.0);
}

#[test]
fn momentum_agrees() {
    check(1, Sampling::WithReplacement, Start::Signs, 0.9);
    check(2, Sampling::WithoutReplacement, Start::Gaussian, 0.5);
    check(3, Sampling::WithReplacement, Start::Gaussian, 0.7);
}

/// The mutant: the same simulation refutes the moments of another batch size.
#[test]
fn the_wrong_noise_is_refuted() {
    let (minimum, form) = (minimum(), form());
    let sgd = |size| {
        let batch = Batch::new(size, Sampling::WithReplacement).unwrap();
        LinearisedSgd::new(&minimum, &Optimizer::sgd(), &batch, 0.4).unwrap()
    };
    let start = Start::Signs;
    let options = SimulationOptions { replicas: 20_000, steps: &[2], start, seed: 5 };
    let snapshot = simulate(&sgd(1), &form, options).unwrap()[0];
    let mut moments = SecondMoments::new(&sgd(2)).unwrap();
    moments.step();
    moments.step();
    let exact = moments.quadratic_form(&form).unwrap();
    let deviation = (snapshot.form.value - exact).abs();
    assert!(deviation > 10.0 * snapshot.form.standard_error, "{:?}, {exact}", snapshot.form);
}

/// Orthonormal rows: ‖δ‖² is the Lyapunov function of theory S14, and its expectation turns from
/// decay to growth at the threshold.
#[test]
fn the_lyapunov_function_turns_at_the_threshold() {
    let jacobian = RowMatrix::from_fn(4, 6, |i, j| if i == j { 1.0 } else { 0.0 });
    let minimum = Minimum::new(&jacobian).unwrap();
    let batch = Batch::new(2, Sampling::WithReplacement).unwrap();
    let threshold = dense_threshold(&minimum, &batch).unwrap();
    let form = RowMatrix::from_fn(4, 4, |i, j| if i == j { 1.0 } else { 0.0 });
    for (factor, sign) in [(0.8, -1.0), (0.95, -1.0), (1.05, 1.0), (1.2, 1.0)] {
        let sgd =
            LinearisedSgd::new(&minimum, &Optimizer::sgd(), &batch, factor * threshold).unwrap();
        let options =
            SimulationOptions { replicas: 40_000, steps: &[1, 2], start: Start::Signs, seed: 9 };
        for snapshot in simulate(&sgd, &form, options).unwrap() {
            let change = snapshot.form_change;
            assert!(sign * change.value > 3.0 * change.standard_error, "{factor}: {change:?}");
        }
    }
}

/// A change of these numbers is a change of published numbers.
#[test]
fn the_random_stream_is_pinned() {
    let minimum = Minimum::new(&RowMatrix::new(2, 1, vec![1.0, 3.0]).unwrap()).unwrap();
    let batch = Batch::new(1, Sampling::WithReplacement).unwrap();
    let sgd = LinearisedSgd::new(&minimum, &Optimizer::sgd(), &batch, 0.1).unwrap();
    let form = RowMatrix::new(1, 1, vec![1.0]).unwrap();
    let start = Start::Gaussian;
    let options = SimulationOptions { replicas: 20, steps: &[0, 8], start, seed: 0 };
    let got: Vec<f64> =
        simulate(&sgd, &form, options).unwrap().iter().map(|s| s.norm_squared.value).collect();
    // The eigenvalue of a 1 × 1 matrix is exact up to rounding.
    for (got, expected) in got.iter().zip([0.820_572_234_205_145_8, 8.375_034_732_170_98e-7]) {
        assert!((got / expected - 1.0).abs() < 1e-12, "{got:?}");
    }
}
