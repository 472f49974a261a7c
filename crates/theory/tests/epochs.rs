//! The stability edge of reshuffled epochs (S21).

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use faer::Mat;
use flatmin_linalg::{RowMatrix, stream};
use flatmin_theory::{
    Batch, EpochEdge, EpochOptions, ExactEdges, Minimum, Optimizer, Sampling, epoch_edge, threshold,
};
use rand::RngExt as _;
use rand::seq::SliceRandom as _;

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

/// With momentum modes oscillate, and the estimator takes another way to its eigenvectors.
#[test]
fn the_estimate_agrees_with_the_exact_edge_with_momentum() {
    let (mut covered, mut largest) = (0, 0.0_f64);
    let optimizer = Optimizer::sgd().momentum(0.9).unwrap();
    for index in 0..8 {
        let minimum = random(5 + index % 4, 2 + index % 3, 100 + index as u64);
        let batch = Batch::new(1 + index % 2, Sampling::Reshuffling).unwrap();
        let edge = |exact: ExactEdges| {
            let options = EpochOptions { exact, relative_width: 0.04, ..EpochOptions::default() };
            epoch_edge(&minimum, &optimizer, &batch, &options).unwrap()
        };
        let exact = edge(ExactEdges::WhereAffordable).estimate;
        let found = edge(ExactEdges::Never);
        covered += usize::from(found.lower <= exact && exact <= found.upper);
        largest = largest.max((found.estimate / exact - 1.0).abs());
    }
    assert!(covered >= 6 && largest < 0.06, "{covered} of 8, largest error {largest}");
}

/// Enough rows that an order acts on combinations of columns, and that small modes are left out.
#[test]
fn the_estimate_of_long_epochs_agrees_with_the_exact_edge() {
    for (index, (columns, momentum, size)) in [(60, 0.0, 3), (30, 0.9, 3)].into_iter().enumerate() {
        let mut rng = stream(9, "random minimum", index as u64);
        let entry = |_, column| rng.random_range(-1.0..1.0) / (1.0 + 0.1 * column as f64);
        let jacobian = RowMatrix::from_fn(60, columns, entry);
        let minimum = Minimum::with_outputs(&jacobian, 10).unwrap();
        let optimizer = Optimizer::sgd().momentum(momentum).unwrap();
        let batch = Batch::new(size, Sampling::Reshuffling).unwrap();
        let edge = |exact: ExactEdges| {
            let options = EpochOptions { exact, relative_width: 0.04, ..EpochOptions::default() };
            epoch_edge(&minimum, &optimizer, &batch, &options).unwrap()
        };
        let (exact, found) = (edge(ExactEdges::WhereAffordable), edge(ExactEdges::Never));
        assert!(exact.confidence.is_none() && found.confidence.is_some(), "{exact:?} {found:?}");
        let error = (found.estimate / exact.estimate - 1.0).abs();
        let width = found.upper / found.lower - 1.0;
        assert!(error < width && width < 0.1, "β = {momentum}, B = {size}: {found:?} {exact:?}");
    }
}

/// The largest modulus of an eigenvalue of the mean of `M ⊗ M` over random epochs, M the product of
/// the steps of an epoch of `torch.optim.SGD`.
fn spectral_radius(jacobian: &RowMatrix, size: usize, momentum: f64, rate: f64) -> f64 {
    let (n, p) = (jacobian.rows(), jacobian.columns());
    let side = 2 * p;
    let mut order: Vec<usize> = (0..n).collect();
    let mut mean = Mat::<f64>::zeros(side * side, side * side);
    let mut rng = stream(5, "epochs of a test", 0);
    for _ in 0..600 {
        order.shuffle(&mut rng);
        let mut epoch = Mat::<f64>::identity(side, side);
        for batch in order.chunks(size) {
            let step = Mat::from_fn(side, side, |row, column| {
                let (i, j) = (row % p, column % p);
                let pairs = batch.iter().map(|&s| jacobian.row(s)[i] * jacobian.row(s)[j]);
                let hessian = pairs.sum::<f64>() / batch.len() as f64;
                let identity = if i == j { 1.0 } else { 0.0 };
                match (row < p, column < p) {
                    (true, true) => identity - rate * hessian,
                    (true, false) => -rate * momentum * identity,
                    (false, true) => hessian,
                    (false, false) => momentum * identity,
                }
            });
            epoch = step * epoch;
        }
        mean += Mat::from_fn(side * side, side * side, |row, column| {
            epoch[(row / side, column / side)] * epoch[(row % side, column % side)]
        });
    }
    let values = mean.eigenvalues().unwrap();
    values.iter().fold(0.0_f64, |m, value| m.max(value.norm())) / 600.0
}

#[test]
fn many_samples_with_momentum_have_the_edge_of_dense_second_moments() {
    for (index, (n, size, momentum)) in
        [(40, 8, 0.9), (40, 8, 0.5), (33, 8, 0.9), (24, 2, 0.9)].into_iter().enumerate()
    {
        let mut rng = stream(7, "random minimum", index as u64);
        let jacobian = RowMatrix::from_fn(n, 2, |_, _| rng.random_range(-1.5..1.5));
        let optimizer = Optimizer::sgd().momentum(momentum).unwrap();
        let batch = Batch::new(size, Sampling::Reshuffling).unwrap();
        let options = EpochOptions { relative_width: 0.04, ..EpochOptions::default() };
        let minimum = Minimum::new(&jacobian).unwrap();
        let edge = epoch_edge(&minimum, &optimizer, &batch, &options).unwrap().estimate;
        let [below, above] =
            [0.85, 1.15].map(|c| spectral_radius(&jacobian, size, momentum, c * edge));
        assert!(below < 0.99 && above > 1.01, "n = {n}, B = {size}: {edge} {below} {above}");
    }
}
