//! The recursion of second moments compared with dense operators on vectorised matrices.
//!
//! The operators are averages of Kronecker squares over every possible batch, in the coordinates of
//! the Jacobian: no eigenbasis, no noise coefficient, no code shared with the recursion.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use faer::Mat;
use flatmin_linalg::RowMatrix;
use flatmin_theory::{
    Batch, LinearisedSgd, Minimum, Optimizer, Sampling, SecondMoments, SimulationError,
    dense_threshold,
};
use proptest::prelude::{Just, Strategy, proptest};
use proptest::{collection, prop_assert, prop_oneof};

/// Every possible batch, all equally likely.
fn batches(n: usize, batch: Batch) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for _ in 0..batch.size() {
        all = all
            .iter()
            .flat_map(|head: &Vec<usize>| (0..n).map(move |i| [head.as_slice(), &[i]].concat()))
            .filter(|indices| {
                let distinct = (1..indices.len()).all(|k| !indices[..k].contains(&indices[k]));
                distinct || batch.sampling() == Sampling::WithReplacement
            })
            .collect();
    }
    all
}

/// The 2p × 2p map of (δ, v) in one step with this batch.
fn step(jacobian: &RowMatrix, batch: &[usize], learning_rate: f64, momentum: f64) -> Mat<f64> {
    let p = jacobian.columns();
    let curvature = Mat::from_fn(p, p, |k, l| {
        let sum: f64 = batch.iter().map(|i| jacobian.row(*i)[k] * jacobian.row(*i)[l]).sum();
        learning_rate * sum / batch.len() as f64
    });
    Mat::from_fn(2 * p, 2 * p, |row, column| {
        let (k, l) = (row % p, column % p);
        let same = if k == l { 1.0 } else { 0.0 };
        match (row < p, column < p) {
            (true, true) => same - curvature[(k, l)],
            (false, true) => -curvature[(k, l)],
            (_, false) => momentum * same,
        }
    })
}

/// `E[A ⊗ A]` for the step A: the map of the vectorised second moments of (δ, v).
fn dense_operator(jacobian: &RowMatrix, batch: Batch, rate: f64, momentum: f64) -> Mat<f64> {
    let size = 2 * jacobian.columns();
    let all = batches(jacobian.rows(), batch);
    let mut operator = Mat::zeros(size * size, size * size);
    for indices in &all {
        let a = step(jacobian, indices, rate, momentum);
        for row in 0..size * size {
            for column in 0..size * size {
                operator[(row, column)] += a[(row / size, column / size)]
                    * a[(row % size, column % size)]
                    / all.len() as f64;
            }
        }
    }
    operator
}

/// `E‖δ_t‖²` and `E[δ_tᵀGδ_t]` from `E[δ_0δ_0ᵀ]` = the projection onto range(G), for t = 0, 1, ….
fn dense_moments(
    jacobian: &RowMatrix,
    operator: &Mat<f64>,
    projection: &Mat<f64>,
    steps: usize,
) -> Vec<[f64; 2]> {
    let (n, p) = (jacobian.rows(), jacobian.columns());
    let size = 2 * p;
    let mut moment = Mat::from_fn(size * size, 1, |index, _| {
        let (k, l) = (index / size, index % size);
        if k < p && l < p { projection[(k, l)] } else { 0.0 }
    });
    let mut out = Vec::new();
    for _ in 0..=steps {
        let entry = |k: usize, l: usize| moment[(k * size + l, 0)];
        let norm = (0..p).map(|k| entry(k, k)).sum();
        let mut loss = 0.0;
        for g in (0..n).map(|i| jacobian.row(i)) {
            for k in 0..p {
                loss += (0..p).map(|l| g[k] * g[l] * entry(k, l)).sum::<f64>() / n as f64;
            }
        }
        out.push([norm, loss]);
        moment = operator * &moment;
    }
    out
}

/// The orthogonal projection onto the span of the rows, by Gram–Schmidt.
fn projection(jacobian: &RowMatrix) -> Mat<f64> {
    let p = jacobian.columns();
    let largest = jacobian.values().iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    let mut basis: Vec<Vec<f64>> = Vec::new();
    for i in 0..jacobian.rows() {
        let mut row = jacobian.row(i).to_vec();
        for _ in 0..2 {
            for q in &basis {
                let along: f64 = q.iter().zip(&row).map(|(q, r)| q * r).sum();
                row.iter_mut().zip(q).for_each(|(r, q)| *r -= along * q);
            }
        }
        let norm = row.iter().map(|r| r * r).sum::<f64>().sqrt();
        if norm > 1e-9 * largest {
            basis.push(row.iter().map(|r| r / norm).collect());
        }
    }
    Mat::from_fn(p, p, |k, l| basis.iter().map(|q| q[k] * q[l]).sum())
}

#[track_caller]
fn check(jacobian: &RowMatrix, batch: Batch, learning_rate: f64, momentum: f64) {
    let minimum = Minimum::new(jacobian).unwrap();
    let optimizer = Optimizer::sgd().momentum(momentum).unwrap();
    let sgd = LinearisedSgd::new(&minimum, &optimizer, &batch, learning_rate).unwrap();
    let mut moments = SecondMoments::new(&sgd).unwrap();
    let rank = moments.rank();
    let gauss_newton =
        RowMatrix::from_fn(rank, rank, |k, l| if k == l { minimum.eigenvalues()[k] } else { 0.0 });
    let operator = dense_operator(jacobian, batch, learning_rate, momentum);
    let expected = dense_moments(jacobian, &operator, &projection(jacobian), 5);
    for (t, [norm, loss]) in expected.into_iter().enumerate() {
        let got = [moments.norm_squared(), moments.quadratic_form(&gauss_newton).unwrap()];
        // Every step multiplies by at most (1 + β + η max‖g‖²)², with a relative rounding of a few
        // n·r·ε.
        let largest = minimum.largest_gradient_norm_squared();
        let growth = (1.0 + momentum + learning_rate * largest).powi(2 * i32::try_from(t).unwrap());
        let tolerance = 1e-13 * growth * rank as f64;
        assert!((got[0] - norm).abs() <= tolerance, "step {t}: {} instead of {norm}", got[0]);
        let tolerance = tolerance * largest;
        assert!((got[1] - loss).abs() <= tolerance, "step {t}: {} instead of {loss}", got[1]);
        moments.step();
    }
    assert_eq!(moments.steps(), 6);
}

fn entry() -> impl Strategy<Value = f64> {
    prop_oneof![1 => Just(0.0), 3 => (-2_i32..=2).prop_map(f64::from), 3 => -2.0..2.0_f64]
}

fn jacobian() -> impl Strategy<Value = RowMatrix> {
    (1..=3_usize, 1..=3_usize, 1..=4_usize).prop_flat_map(|(distinct, columns, rows)| {
        let values = collection::vec(entry(), distinct * columns);
        let order = collection::vec(0..distinct, rows);
        (values, order).prop_map(move |(values, order)| {
            RowMatrix::from_fn(order.len(), columns, |i, j| values[order[i] * columns + j])
        })
    })
}

fn instance() -> impl Strategy<Value = (RowMatrix, Batch)> {
    jacobian().prop_flat_map(|jacobian| {
        let rows = jacobian.rows();
        let batch = prop_oneof![
            (1..=rows).prop_map(|size| Batch::new(size, Sampling::WithoutReplacement)),
            (1..=3_usize).prop_map(|size| Batch::new(size, Sampling::WithReplacement)),
        ];
        (Just(jacobian), batch.prop_map(Result::unwrap))
    })
}

proptest! {
    #[test]
    fn the_recursion_is_the_average_over_all_batches(
        (jacobian, batch) in instance(),
        learning_rate in 0.0..1.0_f64,
        momentum in prop_oneof![Just(0.0), 0.0..0.99_f64],
    ) {
        check(&jacobian, batch, learning_rate, momentum);
    }

    /// Without momentum the dense operator on (δ, v) grows like T on δ: by 1 on range(G) exactly at
    /// the threshold, and by 1 on ker G, where nothing moves, at all rates.
    #[test]
    fn at_the_threshold_the_moments_neither_grow_nor_vanish((jacobian, batch) in instance()) {
        let minimum = Minimum::new(&jacobian).unwrap();
        let threshold = dense_threshold(&minimum, &batch).unwrap();
        if threshold.is_finite() {
            let radius = |rate: f64| {
                let operator = dense_operator(&jacobian, batch, rate, 0.0);
                let values = operator.eigenvalues().unwrap();
                values.iter().map(|z| libm::hypot(z.re, z.im)).fold(0.0, f64::max)
            };
            let at = radius(threshold);
            prop_assert!((at - 1.0).abs() < 1e-7, "radius {at}");
            let above = radius(1.01 * threshold);
            prop_assert!(above > 1.0 + 1e-5, "radius {above} above the threshold");
            let mut moments =
                SecondMoments::new(&LinearisedSgd::new(&minimum, &Optimizer::sgd(), &batch, threshold).unwrap()).unwrap();
            for _ in 0..50 {
                moments.step();
            }
            // T is self-adjoint with λ_max(T) = 1: tr T^t(I) stays between ‖X‖-multiples of the
            // fixed point X, and at most r.
            let norm = moments.norm_squared();
            prop_assert!(norm > 1e-9 && norm < moments.rank() as f64 * (1.0 + 1e-9), "{norm}");
        }
    }
}

#[test]
fn degenerate_minima_are_ordinary() {
    let batch = |size, sampling| Batch::new(size, sampling).unwrap();
    let zero = RowMatrix::zeros(3, 2);
    check(&zero, batch(2, Sampling::WithoutReplacement), 5.0, 0.5);
    check(&RowMatrix::zeros(2, 0), batch(1, Sampling::WithReplacement), 5.0, 0.5);
    let single = RowMatrix::new(1, 2, vec![1.0, 2.0]).unwrap();
    check(&single, batch(1, Sampling::WithoutReplacement), 0.3, 0.9);
    check(&single, batch(1, Sampling::WithReplacement), 0.3, 0.9);
    let with_zero_row = RowMatrix::new(3, 1, vec![0.0, 1.0, 3.0]).unwrap();
    check(&with_zero_row, batch(3, Sampling::WithoutReplacement), 0.2, 0.0);
    check(&with_zero_row, batch(1, Sampling::WithoutReplacement), 0.2, 0.0);
}

#[test]
fn scaling_the_gradients_scales_the_learning_rate() {
    let norm = |scale: f64| {
        let values = [1.0, 0.0, 1.0, 2.0].map(|v| v * scale).to_vec();
        let minimum = Minimum::new(&RowMatrix::new(2, 2, values).unwrap()).unwrap();
        let batch = Batch::new(1, Sampling::WithReplacement).unwrap();
        let sgd =
            LinearisedSgd::new(&minimum, &Optimizer::sgd(), &batch, 0.1 / scale / scale).unwrap();
        let mut moments = SecondMoments::new(&sgd).unwrap();
        moments.step();
        moments.norm_squared()
    };
    assert!((norm(1.0) / norm(1e150) - 1.0).abs() < 1e-13);
    assert!((norm(1.0) / norm(1e-150) - 1.0).abs() < 1e-13);
}

#[test]
fn matrices_of_the_wrong_shape_or_with_bad_entries_are_refused() {
    let jacobian = RowMatrix::new(2, 2, vec![1.0, 0.0, 1.0, 2.0]).unwrap();
    let minimum = Minimum::new(&jacobian).unwrap();
    let batch = Batch::new(1, Sampling::WithReplacement).unwrap();
    let sgd = LinearisedSgd::new(&minimum, &Optimizer::sgd(), &batch, 0.1).unwrap();
    let moments = SecondMoments::new(&sgd).unwrap();
    let what = "the quadratic form";
    let error = moments.quadratic_form(&RowMatrix::zeros(2, 3)).unwrap_err();
    assert_eq!(error, SimulationError::Shape { what, rows: 2, columns: 3, rank: 2 });
    let start = RowMatrix::new(2, 2, vec![1.0, 0.0, f64::INFINITY, 1.0]).unwrap();
    let error = SecondMoments::starting_from(&sgd, &start).unwrap_err();
    let value = f64::INFINITY;
    let what = "the second moment";
    assert_eq!(error, SimulationError::NotFinite { what, row: 1, column: 0, value });
    let start = RowMatrix::new(2, 2, vec![2.0, 1.0, 3.0, 0.5]).unwrap();
    let moments = SecondMoments::starting_from(&sgd, &start).unwrap();
    assert!((moments.quadratic_form(&start).unwrap() - (4.0 + 8.0 + 0.25)).abs() < 1e-15);
}
