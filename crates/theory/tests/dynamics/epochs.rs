//! Lyapunov exponents and almost-sure edges of reshuffled epochs.

use flatmin_linalg::{RowMatrix, stream};
use flatmin_theory::{
    AlmostSureEdge, EdgeOptions, EdgeStatus, LinearisedSgd, LyapunovOptions, Minimum, Sampling,
    SimulationError, almost_sure_edge, lyapunov_exponent, threshold,
};
use rand_distr::{Distribution as _, StandardNormal};

use crate::exponents::{check_edge, first_root};
use crate::naive::{HEAVY, NESTEROV, Rule, SGD, batch, dynamics, minimum, periods};

const OPTIONS: LyapunovOptions = LyapunovOptions { replicas: 4, burn_in: 50, steps: 100, seed: 0 };

/// g² = 1, 4, 0.25: in one direction steps commute, so that every whole epoch multiplies by the
/// same number. Runs of part epochs would not.
#[test]
fn an_epoch_of_single_samples_in_one_direction_is_not_random() {
    let jacobian = RowMatrix::new(3, 1, vec![1.0, 2.0, 0.5]).unwrap();
    let minimum = minimum(&jacobian);
    let single = batch(1, Sampling::Reshuffling);
    for (decay, rate) in [(0.0, 0.7), (0.5, 0.7), (0.0, 1.6)] {
        let rule = Rule { coupled: decay, ..SGD };
        let factors = [1.0, 4.0, 0.25].map(|g: f64| (1.0 - rate * (g + decay)).abs());
        let expected = factors.iter().map(|f| libm::log(*f)).sum::<f64>() / 3.0;
        let exponent = lyapunov_exponent(&dynamics(&minimum, rule, single, rate), OPTIONS).unwrap();
        assert!((exponent.value - expected).abs() < 1e-13, "{exponent:?}, {expected}");
        assert!(exponent.standard_error < 1e-14);
        // 50 and 50 steps are 17 epochs each.
        assert_eq!((exponent.steps, exponent.replicas), (102, 4));
    }
}

#[test]
fn the_edge_of_single_samples_in_one_direction_is_where_the_product_turns() {
    for values in [vec![1.0, 2.0], vec![1.0, 2.0, 0.5], vec![1.0, 10.0]] {
        let jacobian = RowMatrix::new(values.len(), 1, values).unwrap();
        let minimum = minimum(&jacobian);
        let sum = |rate: f64| -> f64 {
            let squares = jacobian.values().iter().map(|g| (1.0 - rate * g * g).abs());
            squares.map(libm::log).sum()
        };
        let mut expected = 1e-4;
        while sum(expected) <= 0.0 {
            expected += 1e-6;
        }
        let single = batch(1, Sampling::Reshuffling);
        let options = EdgeOptions { tolerance: 1e-4, steps: 4096, ..EdgeOptions::with_seed(0) };
        let edge = almost_sure_edge(&minimum, &SGD.optimizer(), &single, options).unwrap();
        assert_eq!(edge.status, EdgeStatus::Resolved, "{edge:?}");
        let inside = edge.lower.learning_rate - 1e-6..=edge.upper.learning_rate + 1e-6;
        assert!(inside.contains(&expected), "{expected}: {edge:?}");
    }
}

/// Three samples in batches of two: the last one is on its own, or left out.
#[test]
fn the_short_batch_counts_with_its_own_size() {
    let jacobian = RowMatrix::new(3, 1, vec![1.0, 1.0, 3.0]).unwrap();
    let pairs = batch(2, Sampling::Reshuffling);
    let mut edges = Vec::new();
    for batch in [pairs, pairs.dropping_last()] {
        let periods = periods(&jacobian, batch);
        let edge = first_root(|rate| {
            let logs = periods.iter().map(|(probability, hessians)| {
                let factors = hessians.iter().map(|h| (1.0 - rate * h[(0, 0)]).abs());
                probability * factors.map(libm::log).sum::<f64>()
            });
            logs.sum()
        });
        check_edge(&jacobian, SGD, batch, edge);
        edges.push(edge);
    }
    assert!((edges[0] / edges[1] - 1.0).abs() > 0.05, "{edges:?}");
}

/// Orthogonal rows do not interact, so that the order of an epoch does not matter: for both
/// samplings the exponent per step is `(1/n) max_i ln |1 − η‖g_i‖²|`.
#[test]
fn orthogonal_rows_agree_with_independent_draws() {
    let jacobian = RowMatrix::new(2, 2, vec![1.0, 0.0, 0.0, 2.0]).unwrap();
    check_edge(&jacobian, SGD, batch(1, Sampling::Reshuffling), 0.5);
    check_edge(&jacobian, SGD, batch(1, Sampling::WithReplacement), 0.5);
}

/// Gaussian rows in more dimensions than samples, as at an interpolating minimum.
fn gaussian(samples: usize) -> RowMatrix {
    let mut rng = stream(3, "gaussian rows", 0);
    let mut values = vec![0.0; 33 * 40];
    values.fill_with(|| StandardNormal.sample(&mut rng));
    RowMatrix::from_fn(samples, 40, |i, k| values[i * 40 + k])
}

/// One short batch of a single sample, among 33 samples, takes most of the edge.
#[test]
fn a_short_last_batch_can_be_fatal() {
    let edge = |samples, batch, rule: Rule| {
        let minimum = Minimum::new(&gaussian(samples)).unwrap();
        let options = EdgeOptions { steps: 4096, ..EdgeOptions::with_seed(0) };
        almost_sure_edge(&minimum, &rule.optimizer(), &batch, options).unwrap()
    };
    let kept = batch(32, Sampling::Reshuffling);
    for (rule, most) in [(SGD, 0.35), (NESTEROV, 0.2), (HEAVY, 0.1)] {
        let short = edge(33, kept, rule);
        let dropped = edge(33, kept.dropping_last(), rule);
        let full = edge(32, kept, rule);
        assert_eq!(full.status, EdgeStatus::Exact);
        for edge in [short, dropped] {
            assert!(matches!(edge.status, EdgeStatus::Resolved | EdgeStatus::Wide), "{edge:?}");
        }
        let ratio = |edge: AlmostSureEdge| edge.upper.learning_rate / full.lower.learning_rate;
        assert!(ratio(short) < most, "{rule:?}: {}, {short:?}", ratio(short));
        assert!(ratio(dropped) > 0.95, "{rule:?}: {}, {dropped:?}", ratio(dropped));
    }
}

/// Without a short batch, reshuffled epochs and independent draws have edges that lie close
/// together, and both lie above the mean-square threshold of independent draws.
#[test]
fn equal_batches_have_an_edge_near_that_of_independent_draws() {
    let minimum = Minimum::new(&gaussian(32)).unwrap();
    let edge = |sampling| {
        let options = EdgeOptions { steps: 4096, ..EdgeOptions::with_seed(0) };
        almost_sure_edge(&minimum, &SGD.optimizer(), &batch(8, sampling), options).unwrap()
    };
    let [reshuffled, drawn] = [Sampling::Reshuffling, Sampling::WithoutReplacement].map(edge);
    let ratio = reshuffled.lower.learning_rate / drawn.lower.learning_rate;
    assert!((0.9..1.6).contains(&ratio), "{ratio}: {reshuffled:?}, {drawn:?}");
    let mean_square =
        threshold(&minimum, &SGD.optimizer(), &batch(8, Sampling::WithoutReplacement));
    assert!(reshuffled.upper.learning_rate > mean_square.unwrap().lower);
}

#[test]
fn runs_are_too_short_without_four_epochs() {
    let minimum = Minimum::new(&gaussian(33)).unwrap();
    let single = batch(1, Sampling::Reshuffling);
    let options = EdgeOptions { steps: 256, ..EdgeOptions::with_seed(0) };
    assert!(almost_sure_edge(&minimum, &SGD.optimizer(), &single, options).is_ok());
    let large = RowMatrix::from_fn(100, 1, |i, _| i as f64);
    let minimum = Minimum::new(&large).unwrap();
    let error = almost_sure_edge(&minimum, &SGD.optimizer(), &single, options).unwrap_err();
    let what = "the number of steps";
    assert_eq!(error, SimulationError::TooFew { what, got: 256, least: 400 });
}

#[test]
fn an_epoch_without_a_batch_is_refused() {
    let minimum = Minimum::new(&gaussian(5)).unwrap();
    let batch = batch(6, Sampling::Reshuffling);
    let new = |batch| LinearisedSgd::new(&minimum, &HEAVY.optimizer(), &batch, 0.1);
    assert!(new(batch).is_ok());
    let error = new(batch.dropping_last()).unwrap_err().to_string();
    assert_eq!(error, "5 samples have no whole batch of 6; keep the last batch of an epoch");
}
