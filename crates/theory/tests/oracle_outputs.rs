//! Several outputs per sample (S13): the certified interval and the bounds compared with dense
//! operators.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "oracles/momentum.rs"]
mod momentum;

use faer::Mat;
use flatmin_linalg::{Parallelism, RowMatrix, Stream, stream, symmetric_eigenvalues};
use flatmin_theory::{
    Batch, Gram, GramSum, LinearisedSgd, Minimum, Optimizer, Sampling, SimulationError,
    ThresholdOptions, ThresholdStatus, bounds, dense_threshold, threshold, threshold_with,
};
use rand::RngExt as _;
use rand_distr::{Distribution as _, StandardNormal};

use crate::momentum::momentum_radius;

/// A minimum with several outputs, given by its Jacobian (nk × p), and a batch.
struct Case {
    jacobian: RowMatrix,
    outputs: usize,
    batch: Batch,
    family: usize,
}

const FAMILIES: usize = 14;

impl Case {
    fn random(index: u64) -> Self {
        let mut rng = stream(index, "several outputs", 0);
        let family = usize::try_from(index).unwrap() % FAMILIES;
        let (mut n, mut k) = (rng.random_range(1..=6), rng.random_range(1..=4));
        let mut p = rng.random_range(1..=12);
        match family {
            1 => n = 1,
            2 => p = rng.random_range(1..=3),
            3 => k = 1,
            _ => {}
        }
        let source = RowMatrix::from_fn(n * k, p, |_, _| normal(&mut rng));
        let at = |row: usize, j: usize| source.row(row)[j];
        let make = |entry: &dyn Fn(usize, usize) -> f64| RowMatrix::from_fn(n * k, p, entry);
        let jacobian = match family {
            // Low rank.
            4 => make(&|row, j| at(row, 0) * at(0, j) + at(row, p - 1) * at(n * k - 1, j)),
            // Zero blocks.
            5 => {
                let keep: Vec<f64> =
                    (0..n).map(|_| if rng.random_bool(0.5) { 1.0 } else { 0.0 }).collect();
                make(&|row, j| keep[row / k] * at(row, j))
            }
            // Repeated samples.
            6 => make(&|row, j| at(row / k / 2 * k + row % k, j)),
            // One output identically zero.
            7 => make(&|row, j| if row % k == 0 { 0.0 } else { at(row, j) }),
            8 => make(&|row, j| 1e150 * at(row, j)),
            9 => make(&|row, j| 1e-150 * at(row, j)),
            // Columns and samples of very different sizes.
            10 => {
                let powers: Vec<f64> =
                    (0..p + n).map(|_| libm::exp10(rng.random_range(-3.0..3.0))).collect();
                make(&|row, j| powers[j] * powers[p + row / k] * at(row, j))
            }
            // Outputs of different strengths that share no parameter.
            11 => make(&|row, j| {
                let strength = libm::exp10(-((row % k) as f64));
                if j % k == row % k { strength * at(row, j) } else { 0.0 }
            }),
            // Outputs that are nearly equal.
            12 => make(&|row, j| at(row / k * k, j) + 1e-6 * at(row, j)),
            // Orthogonal gradients of equal length, some repeated: all modes count equally.
            13 => make(&|row, j| {
                let (group, sign) = (row % p, if row % 3 == 0 { -1.0 } else { 1.0 });
                // Reflected, so that the coordinates are not special.
                let reflected = if group == j { 1.0 } else { 0.0 } - 2.0 / p as f64;
                sign * reflected
            }),
            _ => source.clone(),
        };
        let batch = if rng.random_bool(0.5) {
            Batch::new(rng.random_range(1..=n), Sampling::WithoutReplacement)
        } else {
            Batch::new(rng.random_range(1..=2 * n), Sampling::WithReplacement)
        };
        Self { jacobian, outputs: k, batch: batch.unwrap(), family }
    }

    fn all(count: u64) -> impl Iterator<Item = (u64, Self)> {
        (0..count).map(|index| (index, Self::random(index)))
    }

    fn minimum(&self) -> Minimum {
        Minimum::with_outputs(&self.jacobian, self.outputs).unwrap()
    }

    fn noise(&self) -> f64 {
        self.batch.noise_coefficient(self.jacobian.rows() / self.outputs).unwrap()
    }

    fn describe(&self, index: u64) -> String {
        let (rows, p) = (self.jacobian.rows(), self.jacobian.columns());
        let (n, k) = (rows / self.outputs, self.outputs);
        format!("case {index}, family {}: n = {n}, k = {k}, p = {p}, {:?}", self.family, self.batch)
    }
}

fn normal(rng: &mut Stream) -> f64 {
    StandardNormal.sample(rng)
}

#[test]
fn intervals_contain_the_dense_threshold_and_are_narrow() {
    for (index, case) in Case::all(560) {
        let minimum = case.minimum();
        let exact = dense_threshold(&minimum, &case.batch).unwrap();
        let found = threshold(&minimum, &Optimizer::sgd(), &case.batch).unwrap();
        let what = case.describe(index);
        if exact.is_infinite() {
            assert!(found.lower.is_infinite(), "{what}: {found:?}");
            continue;
        }
        let contains = found.lower <= exact * (1.0 + 1e-12) && exact * (1.0 - 1e-12) <= found.upper;
        assert!(contains, "{what}: {found:?}, {exact:e}");
        assert!(found.relative_width() < 3e-10, "{what}: {:e} {found:?}", found.relative_width());
        assert_eq!(found.status, ThresholdStatus::Converged, "{what}: {found:?}");
    }
}

#[test]
fn what_rounding_leaves_is_narrow() {
    for (index, case) in Case::all(560) {
        let minimum = case.minimum();
        let options = ThresholdOptions { relative_width: 1e-14, ..ThresholdOptions::default() };
        let found = threshold_with(&minimum, &Optimizer::sgd(), &case.batch, &options).unwrap();
        let exact = dense_threshold(&minimum, &case.batch).unwrap();
        let what = case.describe(index);
        if exact.is_finite() {
            let contains =
                found.lower <= exact * (1.0 + 1e-12) && exact * (1.0 - 1e-12) <= found.upper;
            assert!(contains, "{what}: {found:?}, {exact:e}");
            assert!(found.relative_width() < 2e-11, "{what}: {:e}", found.relative_width());
        }
    }
}

/// The largest eigenvalue of `I − η(G⊗I + I⊗G) + η²[(1−p) G⊗G + (p/n) Σ H_i⊗H_i]` with
/// `H_i = J_iᵀJ_i`.
fn largest_growth(case: &Case, rate: f64) -> f64 {
    let (k, p) = (case.outputs, case.jacobian.columns());
    let n = case.jacobian.rows() / k;
    let hessians: Vec<Mat<f64>> = (0..n)
        .map(|i| {
            let block = case.jacobian.as_mat().get(i * k..(i + 1) * k, ..);
            block.transpose() * block
        })
        .collect();
    let mut gauss_newton = Mat::<f64>::zeros(p, p);
    for hessian in &hessians {
        gauss_newton += faer::Scale(1.0 / n as f64) * hessian;
    }
    let noise = case.noise();
    let operator = Mat::from_fn(p * p, p * p, |row, column| {
        let (i, j, k, l) = (row / p, row % p, column / p, column % p);
        let delta = |a: usize, b: usize| if a == b { 1.0 } else { 0.0 };
        let g = &gauss_newton;
        let sum: f64 = hessians.iter().map(|h| h[(i, k)] * h[(j, l)]).sum();
        let drift = g[(i, k)] * delta(j, l) + delta(i, k) * g[(j, l)];
        let second = (1.0 - noise) * g[(i, k)] * g[(j, l)] + noise / n as f64 * sum;
        delta(i, k) * delta(j, l) - rate * drift + rate * rate * second
    });
    symmetric_eigenvalues(operator.as_ref()).unwrap().last().copied().unwrap()
}

#[test]
fn second_moments_turn_at_the_interval() {
    let mut tried = 0;
    for (index, case) in Case::all(560) {
        // Formed in parameter space, without scaling.
        if matches!(case.family, 8..=10) || case.jacobian.columns() > 8 {
            continue;
        }
        let found = threshold(&case.minimum(), &Optimizer::sgd(), &case.batch).unwrap();
        if found.lower.is_finite() {
            let (at, past) =
                (largest_growth(&case, found.lower), largest_growth(&case, 1.01 * found.upper));
            let what = case.describe(index);
            assert!(at <= 1.0 + 1e-11, "{what}: {at} at {found:?}");
            assert!(past > 1.0 + 1e-7, "{what}: {past} past {found:?}");
            tried += 1;
        }
    }
    assert!(tried > 200, "{tried} cases");
}

#[test]
fn one_output_is_what_it_was_to_the_bit() {
    for (_, case) in Case::all(140).filter(|(_, case)| case.outputs == 1) {
        let minima = [Minimum::with_outputs(&case.jacobian, 1), Minimum::new(&case.jacobian)];
        let [a, b] = minima
            .map(|minimum| threshold(&minimum.unwrap(), &Optimizer::sgd(), &case.batch).unwrap());
        assert_eq!(a, b);
    }
}

#[test]
fn a_rotation_of_the_outputs_changes_nothing() {
    let case = Case::random(0);
    let (k, p) = (3, 8);
    let mut rng = stream(7, "rotations", 0);
    let jacobian = RowMatrix::from_fn(4 * k, p, |_, _| normal(&mut rng));
    let turned = RowMatrix::from_fn(4 * k, p, |row, j| {
        // Rotated by another angle for each sample, in the plane of the first two outputs.
        let (sine, cosine) = libm::sincos((row / k) as f64);
        let at = |output: usize| jacobian.row(row / k * k + output)[j];
        match row % k {
            0 => cosine * at(0) - sine * at(1),
            1 => sine * at(0) + cosine * at(1),
            output => at(output),
        }
    });
    let [a, b] = [jacobian, turned].map(|jacobian| {
        threshold(&Minimum::with_outputs(&jacobian, k).unwrap(), &Optimizer::sgd(), &case.batch)
            .unwrap()
    });
    assert!((a.midpoint() / b.midpoint() - 1.0).abs() < 1e-10, "{a:?} {b:?}");
}

#[test]
fn outputs_that_share_nothing_have_the_threshold_of_the_strongest() {
    // Every sample has the same block diag(1, 2): no noise, η* = 2/λ_max = 2/4.
    let jacobian =
        RowMatrix::from_fn(6, 2, |row, j| if row % 2 == j { (1 + j) as f64 } else { 0.0 });
    let minimum = Minimum::with_outputs(&jacobian, 2).unwrap();
    for size in [1, 2, 3] {
        let batch = Batch::new(size, Sampling::WithoutReplacement).unwrap();
        let found = threshold(&minimum, &Optimizer::sgd(), &batch).unwrap();
        assert!(found.lower <= 0.5 && 0.5 <= found.upper, "{found:?}");
        assert!(found.relative_width() < 2e-10, "{found:?}");
    }
}

#[test]
fn bounds_keep_their_order() {
    for (index, case) in Case::all(560) {
        let minimum = case.minimum();
        let exact = dense_threshold(&minimum, &case.batch).unwrap();
        let bounds = bounds(&minimum, &case.batch).unwrap();
        let least = [bounds.trace, bounds.sharp_frobenius_norm, bounds.lambda_max]
            .into_iter()
            .fold(f64::INFINITY, f64::min);
        for (name, low, high) in [
            ("S7 ≤ η*", bounds.sufficient, exact),
            ("η* ≤ S6", exact, bounds.spectral),
            ("S6 ≤ min(S2, S3 sharp, S5)", bounds.spectral, least),
            ("S3 sharp ≤ S3", bounds.sharp_frobenius_norm, bounds.frobenius_norm),
            ("η* ≤ S4", exact, bounds.centered_alignment),
            ("η* ≤ S4, uncentred", exact, bounds.uncentered_alignment),
        ] {
            let what = case.describe(index);
            assert!(low <= high * (1.0 + 1e-10), "{what}: {name}: {low:e}, {high:e}");
        }
    }
}

#[test]
fn momentum_agrees_with_the_dense_operator() {
    for index in 0..60 {
        let mut rng = stream(index, "several outputs with momentum", 0);
        let (n, k, p) = (rng.random_range(1..=4), rng.random_range(2..=3), rng.random_range(1..=3));
        let jacobian = RowMatrix::from_fn(n * k, p, |_, _| normal(&mut rng));
        let batch = Batch::new(rng.random_range(1..=3), Sampling::WithReplacement).unwrap();
        let momentum = [0.0, 0.3, 0.7, 0.9][usize::try_from(index).unwrap() % 4];
        let minimum = Minimum::with_outputs(&jacobian, k).unwrap();
        let optimizer = Optimizer::sgd().momentum(momentum).unwrap();
        let found = threshold(&minimum, &optimizer, &batch).unwrap();
        let noise = batch.noise_coefficient(n).unwrap();
        let radius = |rate| momentum_radius(&jacobian, k, noise, rate, momentum);
        assert!(found.relative_width() < 1e-8, "{found:?}");
        let below = radius(found.lower * (1.0 - 1e-5));
        let above = radius(found.upper * (1.0 + 1e-5));
        let what = format!("case {index}: n = {n}, k = {k}, p = {p}, β = {momentum}");
        assert!(below < 1.0, "{what}: {below} below {found:?}");
        assert!(above > 1.0, "{what}: {above} above {found:?}");
    }
}

#[test]
fn gram_matrices_and_sums_of_blocks_agree_with_the_jacobian() {
    let mut rng = stream(3, "several outputs in blocks", 0);
    let (n, k, p) = (5, 3, 30);
    let jacobian = RowMatrix::from_fn(n * k, p, |_, _| normal(&mut rng));
    let product = jacobian.as_mat() * jacobian.as_mat().transpose();
    let mut sum = GramSum::with_outputs(n, k, Parallelism::Sequential).unwrap();
    for start in (0..p).step_by(7) {
        sum.add(jacobian.as_mat().get(.., start..(start + 7).min(p))).unwrap();
    }
    let means = faer::Scale(1.0 / n as f64) * &product;
    let from = |gram: Gram| {
        let gram = gram.with_outputs(k).unwrap();
        assert_eq!(gram.sample_count(), n);
        Minimum::from_gram(gram, Parallelism::Rayon).unwrap()
    };
    let minima = [
        Minimum::with_outputs(&jacobian, k).unwrap(),
        sum.minimum().unwrap(),
        from(Gram::from_sums(product).unwrap()),
        from(Gram::from_means(means).unwrap()),
    ];
    let batch = Batch::new(2, Sampling::WithoutReplacement).unwrap();
    let exact = dense_threshold(&minima[0], &batch).unwrap();
    for minimum in &minima {
        assert_eq!((minimum.sample_count(), minimum.output_count()), (n, k));
        let found = threshold(minimum, &Optimizer::sgd(), &batch).unwrap();
        assert!(found.lower <= exact && exact <= found.upper, "{found:?}, {exact}");
    }
}

#[test]
fn what_is_not_known_for_several_outputs_is_refused() {
    let minimum = Minimum::with_outputs(&RowMatrix::zeros(4, 3), 2).unwrap();
    let batch = Batch::new(1, Sampling::WithReplacement).unwrap();
    let error = LinearisedSgd::new(&minimum, &Optimizer::sgd(), &batch, 0.1).unwrap_err();
    assert_eq!(error, SimulationError::SeveralOutputs { output_count: 2 });
    let gram = Gram::from_sums(Mat::identity(4, 4)).unwrap();
    let error = gram.with_outputs(3).unwrap_err();
    assert_eq!(error.to_string(), "4 rows are not 3 outputs for every sample");
    assert!(GramSum::with_outputs(2, 0, Parallelism::Sequential).is_err());
    // A batch consists of samples, not of rows.
    let batch = Batch::new(3, Sampling::WithoutReplacement).unwrap();
    assert!(threshold(&minimum, &Optimizer::sgd(), &batch).is_err());
}
