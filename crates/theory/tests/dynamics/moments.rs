//! Exact second moments and simulated replicas.

use flatmin_linalg::RowMatrix;
use flatmin_theory::{
    Batch, BatchError, ReplicaMean, Sampling, SecondMoments, SimulationError, SimulationOptions,
    Start, simulate,
};

use crate::naive::{
    DAMPENED, HEAVY, NESTEROV, Rule, SGD, batch, dynamics, minimum, moments, rules,
};

const STEPS: [usize; 5] = [0, 1, 2, 3, 6];

/// Four rows in two dimensions; rank 2, and no row is like another.
pub(crate) fn rows() -> RowMatrix {
    RowMatrix::new(4, 2, vec![1.0, 0.5, -0.3, 1.2, 0.2, -0.1, 0.6, 0.9]).unwrap()
}

fn independent() -> [Batch; 5] {
    [
        batch(1, Sampling::WithReplacement),
        batch(2, Sampling::WithReplacement),
        batch(3, Sampling::WithoutReplacement),
        batch(1, Sampling::Poisson),
        batch(3, Sampling::Poisson),
    ]
}

#[test]
fn the_recursion_is_the_average_over_all_batches() {
    let (jacobian, rate) = (rows(), 0.7);
    let minimum = minimum(&jacobian);
    for rule in rules() {
        for batch in independent() {
            let mut got = SecondMoments::new(&dynamics(&minimum, rule, batch, rate)).unwrap();
            for (step, expected) in moments(&jacobian, batch, rule, rate, 8).into_iter().enumerate()
            {
                let error = (got.norm_squared() / expected - 1.0).abs();
                assert!(error < 1e-12, "{rule:?}, {batch:?}, step {step}: {error:e}");
                got.step();
            }
        }
    }
}

/// Weight decay is a number per learning rate, which large gradients do not change.
#[test]
fn scaling_the_gradients_does_not_scale_what_decays() {
    for scale in [1e-150, 1e-3, 1e120] {
        let values = rows().values().iter().map(|v| v * scale).collect();
        let scaled = RowMatrix::new(4, 2, values).unwrap();
        let (plain, scaled) = (minimum(&rows()), minimum(&scaled));
        for rule in rules() {
            let unit = scale * scale;
            let same =
                Rule { coupled: rule.coupled * unit, decoupled: rule.decoupled * unit, ..rule };
            let batch = batch(2, Sampling::Poisson);
            let mut all =
                [(&plain, rule, 0.7), (&scaled, same, 0.7 / unit)].map(|(minimum, rule, rate)| {
                    SecondMoments::new(&dynamics(minimum, rule, batch, rate)).unwrap()
                });
            for _ in 0..4 {
                all.iter_mut().for_each(SecondMoments::step);
            }
            let [plain, scaled] = all.map(|moments| moments.norm_squared());
            assert!((scaled / plain - 1.0).abs() < 1e-12, "{rule:?}: {plain} {scaled}");
        }
    }
}

/// `‖δ_t‖²` over many replicas at learning rate 0.7.
fn simulated(rule: Rule, batch: Batch, replicas: usize) -> Vec<ReplicaMean> {
    let (jacobian, rate) = (&rows(), 0.7);
    let minimum = minimum(jacobian);
    let sgd = dynamics(&minimum, rule, batch, rate);
    let form = RowMatrix::new(2, 2, vec![2.0, 0.5, 0.5, 1.0]).unwrap();
    let options = SimulationOptions { replicas, steps: &STEPS, start: Start::Signs, seed: 5 };
    simulate(&sgd, &form, options).unwrap().iter().map(|snapshot| snapshot.norm_squared).collect()
}

/// The largest deviation of the replicas from exact moments, in standard errors.
fn deviation(got: &[ReplicaMean], expected: &[f64]) -> f64 {
    let deviations = STEPS.iter().zip(got).map(|(step, got)| {
        let rounding = 1e-12 * expected[*step];
        assert!(*step == 0 || got.standard_error < 0.05 * got.value, "{got:?}");
        (got.value - expected[*step]).abs() / (got.standard_error + rounding)
    });
    deviations.fold(0.0, f64::max)
}

/// Each of about 400 comparisons exceeds five standard errors with probability 6e-7.
#[test]
fn replicas_agree_with_the_exact_moments() {
    let (jacobian, rate) = (rows(), 0.7);
    let batches = [
        batch(2, Sampling::WithReplacement),
        batch(1, Sampling::Poisson),
        batch(3, Sampling::Poisson),
        batch(1, Sampling::Reshuffling),
        batch(3, Sampling::Reshuffling),
        batch(3, Sampling::Reshuffling).dropping_last(),
    ];
    for rule in rules() {
        for batch in batches {
            let got = simulated(rule, batch, 10_000);
            let expected = moments(&jacobian, batch, rule, rate, 6);
            let worst = deviation(&got, &expected);
            assert!(worst < 5.0, "{rule:?}, {batch:?}: {worst} standard errors");
        }
    }
}

/// The mutants: the same replicas refute other optimizers and samplings.
#[test]
fn replicas_refute_what_they_do_not_follow() {
    let (jacobian, rate) = (rows(), 0.7);
    let refutes = |rule, batch, other_rule, other_batch| {
        let got = simulated(rule, batch, 50_000);
        let worst = deviation(&got, &moments(&jacobian, other_batch, other_rule, rate, 6));
        assert!(worst > 8.0, "{rule:?}, {batch:?}, {other_batch:?}: {worst} standard errors");
    };
    let one = batch(1, Sampling::Poisson);
    for (rule, other) in [
        (NESTEROV, HEAVY),
        (DAMPENED, HEAVY),
        (Rule { coupled: 0.3, ..SGD }, SGD),
        (Rule { coupled: 0.3, ..HEAVY }, Rule { decoupled: 0.3, ..HEAVY }),
        (Rule { coupled: 0.3, ..NESTEROV }, Rule { decoupled: 0.3, ..NESTEROV }),
    ] {
        refutes(rule, one, other, one);
    }
    let three = batch(3, Sampling::Reshuffling);
    for (drawn, other) in [
        (one, batch(1, Sampling::WithoutReplacement)),
        (batch(1, Sampling::Reshuffling), batch(1, Sampling::WithoutReplacement)),
        (three, batch(3, Sampling::WithoutReplacement)),
        (three, three.dropping_last()),
    ] {
        refutes(NESTEROV, drawn, NESTEROV, other);
    }
}

#[test]
fn moments_of_reshuffled_epochs_are_refused_by_name() {
    let minimum = minimum(&rows());
    let sgd = dynamics(&minimum, SGD, batch(2, Sampling::Reshuffling), 0.1);
    let error = SecondMoments::new(&sgd).unwrap_err();
    assert_eq!(error, SimulationError::Batch(BatchError::Dependent));
    assert!(error.to_string().contains("reshuffling"), "{error}");
    assert!(SecondMoments::starting_from(&sgd, &RowMatrix::zeros(2, 2)).is_err());
}
