//! Lyapunov exponents and almost-sure edges of independent batches.

use faer::Mat;
use flatmin_linalg::{RowMatrix, stream};
use flatmin_theory::{
    Batch, EdgeOptions, EdgeStatus, LyapunovOptions, Sampling, almost_sure_edge, lyapunov_exponent,
};
use rand::RngExt as _;

use crate::moments::rows;
use crate::naive::{
    DAMPENED, HEAVY, NESTEROV, Rule, SGD, batch, dynamics, hessian, minimum, periods, rules,
};

const OPTIONS: LyapunovOptions =
    LyapunovOptions { replicas: 32, burn_in: 200, steps: 2000, seed: 0 };

/// The largest modulus of the eigenvalues of a dense matrix.
fn radius(matrix: &Mat<f64>) -> f64 {
    let values = matrix.eigenvalues().unwrap();
    values.iter().map(|z| libm::hypot(z.re, z.im)).fold(0.0, f64::max)
}

#[test]
fn gradient_descent_has_the_spectral_radius_of_its_step() {
    let jacobian = rows();
    let minimum = minimum(&jacobian);
    let full = [
        batch(4, Sampling::WithoutReplacement),
        batch(4, Sampling::Poisson),
        batch(4, Sampling::Reshuffling),
        batch(9, Sampling::Reshuffling),
    ];
    for rule in rules() {
        // Real and complex eigenvalues, decay and growth.
        for rate in [0.01, 0.3, 1.0, 2.5, 6.0] {
            let matrix = rule.matrix(rate, &hessian(&jacobian, &[0, 1, 2, 3], 4.0));
            let expected = libm::log(radius(&matrix));
            for batch in full {
                let sgd = dynamics(&minimum, rule, batch, rate);
                let exponent = lyapunov_exponent(&sgd, OPTIONS).unwrap();
                assert_eq!(exponent.replicas, 0, "not in closed form");
                let error = (exponent.value - expected).abs();
                // A double eigenvalue is the root of its rounding.
                assert!(error < 1e-7, "{rule:?} at {rate}: {} {expected}", exponent.value);
            }
        }
    }
}

#[test]
fn the_edge_of_gradient_descent_is_where_its_step_grows() {
    let jacobian = rows();
    let minimum = minimum(&jacobian);
    let full = batch(4, Sampling::Reshuffling);
    for rule in rules() {
        let edge = almost_sure_edge(&minimum, &rule.optimizer(), &full, EdgeOptions::with_seed(0));
        let edge = edge.unwrap();
        assert_eq!((edge.status, edge.evaluations), (EdgeStatus::Exact, 0));
        let growth = |factor: f64| {
            let rate = factor * edge.lower.learning_rate;
            radius(&rule.matrix(rate, &hessian(&jacobian, &[0, 1, 2, 3], 4.0)))
        };
        assert!(growth(1.0 - 1e-6) < 1.0 && growth(1.0 + 1e-6) > 1.0, "{rule:?}: {edge:?}");
        // No lower rate is unstable.
        assert!((1..100).all(|k| growth(f64::from(k) / 100.0) < 1.0), "{rule:?}");
    }
}

/// The mean and standard error of the growth per step, by PyTorch's rule in the coordinates of the
/// Jacobian.
fn naive(jacobian: &RowMatrix, rule: Rule, batch: Batch, rate: f64) -> [f64; 2] {
    let steps = 2000;
    let periods = periods(jacobian, batch);
    let growth: Vec<f64> = (0..32)
        .map(|replica| {
            let mut rng = stream(11, "naive exponent", replica);
            let (mut theta, mut buffer) = (vec![1.0, 0.3], vec![0.0; 2]);
            let mut log_norm = 0.0;
            for step in 0..200 + steps {
                let mut left: f64 = rng.random();
                let drawn = periods.iter().find(|(probability, _)| {
                    left -= probability;
                    left < 0.0
                });
                let (_, hessians) = drawn.unwrap_or(&periods[0]);
                rule.step(rate, &hessians[0], &mut theta, &mut buffer);
                let norm = theta.iter().map(|x| x * x).sum::<f64>().sqrt();
                for x in theta.iter_mut().chain(&mut buffer) {
                    *x /= norm;
                }
                log_norm += if step < 200 { 0.0 } else { libm::log(norm) };
            }
            log_norm / f64::from(steps)
        })
        .collect();
    let mean = growth.iter().sum::<f64>() / 32.0;
    let variance = growth.iter().map(|g| (g - mean) * (g - mean)).sum::<f64>() / 31.0;
    [mean, (variance / 32.0).sqrt()]
}

/// Differences of two means over 32 replicas each exceed five standard errors about once in 10⁵.
#[test]
fn exponents_are_those_of_a_naive_simulation() {
    let jacobian = rows();
    let minimum = minimum(&jacobian);
    let decayed = [Rule { coupled: 0.3, ..NESTEROV }, Rule { decoupled: 0.4, ..HEAVY }];
    for rule in [NESTEROV, DAMPENED, decayed[0], decayed[1], Rule { coupled: 0.3, ..SGD }] {
        for (batch, rate) in [
            (batch(1, Sampling::WithReplacement), 0.6),
            (batch(2, Sampling::Poisson), 0.5),
            (batch(2, Sampling::WithoutReplacement), 3.0),
        ] {
            let [expected, error] = naive(&jacobian, rule, batch, rate);
            let got = lyapunov_exponent(&dynamics(&minimum, rule, batch, rate), OPTIONS).unwrap();
            let error = libm::hypot(error, got.standard_error);
            let context = format!("{rule:?}, {batch:?}: {got:?} instead of {expected} ± {error}");
            assert!((got.value - expected).abs() < 5.0 * error, "{context}");
            // The mutant: another momentum is refuted.
            let other = Rule { momentum: 0.2, dampening: 0.0, nesterov: false, ..rule };
            let other =
                lyapunov_exponent(&dynamics(&minimum, other, batch, rate), OPTIONS).unwrap();
            let is_refuted = (other.value - expected).abs() > 8.0 * error;
            assert!(is_refuted || rule.momentum <= 0.0, "{context}, {other:?}");
            assert!(error < 0.02, "{context}");
        }
    }
}

/// The least root of an increasing crossing of zero, by scan and bisection.
pub(crate) fn first_root(exponent: impl Fn(f64) -> f64) -> f64 {
    let mut high = 0.01;
    while exponent(high) <= 0.0 {
        high += 0.01;
    }
    let mut low = high - 0.01;
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if exponent(middle) > 0.0 { high = middle } else { low = middle }
    }
    low
}

/// Checks that each of four seeds finds an interval around `expected`. At most 2 of 400 seeds miss
/// an edge, see `statistical_lyapunov.rs`.
#[track_caller]
pub(crate) fn check_edge(jacobian: &RowMatrix, rule: Rule, batch: Batch, expected: f64) {
    let minimum = minimum(jacobian);
    for seed in 0..4 {
        let options = EdgeOptions { steps: 4096, ..EdgeOptions::with_seed(seed) };
        let edge = almost_sure_edge(&minimum, &rule.optimizer(), &batch, options).unwrap();
        let [lower, upper] = [edge.lower.learning_rate, edge.upper.learning_rate];
        assert!(lower <= expected && expected <= upper, "{rule:?}, {expected}: {edge:?}");
        assert!(matches!(edge.status, EdgeStatus::Resolved | EdgeStatus::Wide), "{edge:?}");
        assert!(upper / lower < 1.1, "{edge:?}");
    }
}

/// One direction, with squared gradients 1 and 4: steps commute without momentum.
#[test]
fn the_edge_of_one_direction_is_found_with_decay_and_poisson_batches() {
    let jacobian = RowMatrix::new(2, 1, vec![1.0, 2.0]).unwrap();
    let decayed = [Rule { coupled: 0.5, ..SGD }, Rule { decoupled: 0.5, ..SGD }];
    for (rule, decay) in [(SGD, 0.0), (decayed[0], 0.5), (decayed[1], 0.5)] {
        for batch in [batch(1, Sampling::WithReplacement), batch(1, Sampling::Poisson)] {
            let periods = periods(&jacobian, batch);
            let edge = first_root(|rate| {
                let logs = periods.iter().map(|(probability, hessians)| {
                    let factor: f64 = 1.0 - rate * (hessians[0][(0, 0)] + decay);
                    probability * libm::log(factor.abs())
                });
                logs.sum()
            });
            check_edge(&jacobian, rule, batch, edge);
        }
    }
}

/// Equal rows make every batch the same, so that random batches have the edge of gradient descent.
#[test]
fn the_edge_with_momentum_is_found_from_a_heuristic_start() {
    let jacobian = RowMatrix::new(2, 1, vec![1.0, 1.0]).unwrap();
    let beta = HEAVY.momentum;
    let single = batch(1, Sampling::WithReplacement);
    check_edge(&jacobian, NESTEROV, single, 2.0 * (1.0 + beta) / (1.0 + 2.0 * beta));
    check_edge(&jacobian, DAMPENED, single, 2.0 * (1.0 + beta) / 0.7);
    // 2(1+β) = η(1 + w) and 2(1+β) = η(1 + (1+β)w).
    check_edge(&jacobian, Rule { coupled: 0.5, ..HEAVY }, single, 2.0 * (1.0 + beta) / 1.5);
    let decoupled = 2.0 * (1.0 + beta) / (1.0 + (1.0 + beta) * 0.5);
    check_edge(&jacobian, Rule { decoupled: 0.5, ..HEAVY }, single, decoupled);
}
