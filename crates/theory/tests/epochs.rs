//! The stability edge of reshuffled epochs (S21).

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use flatmin_linalg::{RowMatrix, stream};
use flatmin_theory::{
    Batch, EpochEdge, EpochOptions, ExactEdges, Minimum, Optimizer, Sampling, epoch_edge, threshold,
};
use rand::RngExt as _;

fn random(n: usize, columns: usize, index: u64) -> Minimum {
    let mut rng = stream(21, "random minimum", index);
    Minimum::new(&RowMatrix::from_fn(n, columns, |_, _| rng.random_range(-1.0..1.0))).unwrap()
}

fn edge(minimum: &Minimum, size: usize) -> EpochEdge {
    let batch = Batch::new(size, Sampling::Reshuffling).unwrap();
    epoch_edge(minimum, &Optimizer::sgd(), &batch, &EpochOptions::default()).unwrap()
}

fn independent(minimum: &Minimum, size: usize) -> f64 {
    let batch = Batch::new(size, Sampling::WithoutReplacement).unwrap();
    threshold(minimum, &Optimizer::sgd(), &batch).unwrap().midpoint()
}

#[test]
fn one_parameter_has_the_almost_sure_edge() {
    // The step is multiplication by 1 − ηg²: an epoch is their product, in any order.
    let minimum = Minimum::new(&RowMatrix::new(3, 1, vec![1.0, 0.5, 2.0]).unwrap()).unwrap();
    let found = edge(&minimum, 1);
    let product = |rate: f64| {
        [1.0, 0.25, 4.0].iter().map(|square: &f64| (1.0 - rate * square).abs()).product::<f64>()
    };
    assert!(found.confidence.is_none());
    assert!((product(found.estimate) - 1.0).abs() < 1e-9, "{found:?}");
    assert!(product(0.999 * found.estimate) < 1.0);
}

#[test]
fn orthogonal_samples_do_not_notice_their_order() {
    let minimum =
        Minimum::new(&RowMatrix::from_fn(4, 4, |i, j| if i == j { 1.0 + i as f64 } else { 0.0 }))
            .unwrap();
    let found = edge(&minimum, 1).estimate / independent(&minimum, 1);
    assert!((found - 1.0).abs() < 1e-9, "{found}");
}

#[test]
fn a_whole_epoch_in_one_batch_is_gradient_descent() {
    let minimum = random(6, 4, 0);
    let found = edge(&minimum, 6).estimate * minimum.sharpness().lambda_max;
    assert!((found - 2.0).abs() < 1e-10, "{found}");
}

/// 32 of 33 samples in the first batch: the last one is on its own.
#[test]
fn a_short_last_batch_can_be_fatal() {
    let minimum = random(33, 12, 1);
    let found = edge(&minimum, 32);
    assert!(found.confidence.is_none(), "{found:?}");
    let batch = Batch::new(32, Sampling::Reshuffling).unwrap().dropping_last();
    let sgd = Optimizer::sgd();
    let dropped = epoch_edge(&minimum, &sgd, &batch, &EpochOptions::default()).unwrap();
    assert!(found.estimate < 0.6 * independent(&minimum, 32), "{found:?}");
    assert!(dropped.estimate > 0.99 * independent(&minimum, 32), "{dropped:?}");
}

/// The estimator, forced on minima that have an exact edge too. The example `epoch_coverage` tries
/// many more.
#[test]
fn the_estimate_agrees_with_the_exact_edge() {
    let (mut covered, mut largest) = (0, 0.0_f64);
    for index in 0..12 {
        let minimum = random(5 + index % 4, 2 + index % 3, 100 + index as u64);
        let size = 1 + index % 2;
        let exact = edge(&minimum, size).estimate;
        let batch = Batch::new(size, Sampling::Reshuffling).unwrap();
        let options = EpochOptions { exact: ExactEdges::Never, ..EpochOptions::default() };
        let found = epoch_edge(&minimum, &Optimizer::sgd(), &batch, &options).unwrap();
        assert_eq!(found.confidence, Some(0.95));
        covered += usize::from(found.lower <= exact && exact <= found.upper);
        largest = largest.max((found.estimate / exact - 1.0).abs());
    }
    assert!(covered >= 10 && largest < 0.02, "{covered} of 12, largest error {largest}");
}
