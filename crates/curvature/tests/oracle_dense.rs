//! Sharpness compared with the dense Gauss–Newton matrix, and batch sharpness with its definition.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use faer::Mat;
use flatmin_curvature::{
    batch_sharpness, batch_sharpness_of_outputs, gauss_newton_sharpness, training_curvature,
};
use flatmin_linalg::{RowMatrix, stream, symmetric_eigenvalues};
use flatmin_models::{Activation, Dataset, DiagonalLinear, Mlp, Model, TwoLayerRelu, data};
use proptest::prelude::{Just, Strategy, proptest};
use proptest::test_runner::TestCaseError;
use proptest::{collection, prop_assert, prop_oneof};

fn entry() -> impl Strategy<Value = f64> {
    prop_oneof![1 => Just(0.0), 2 => (-3_i32..=3).prop_map(f64::from), 4 => -3.0..3.0_f64]
}

/// Parameters and a data set for a model.
fn problem<M: Model + Clone>(
    model: M,
    rows: usize,
) -> impl Strategy<Value = (M, Vec<f64>, Dataset)> {
    let dim = model.input_dim();
    let parameters = collection::vec(entry(), model.parameter_count());
    let outputs = model.output_dim();
    let data = (collection::vec(entry(), rows * dim), collection::vec(entry(), rows * outputs));
    (Just(model), parameters, data).prop_map(move |(model, parameters, (inputs, targets))| {
        let inputs = RowMatrix::new(rows, dim, inputs).unwrap();
        let targets = RowMatrix::new(rows, outputs, targets).unwrap();
        (model, parameters, Dataset::with_outputs(inputs, &targets).unwrap())
    })
}

fn relu() -> impl Strategy<Value = (TwoLayerRelu, Vec<f64>, Dataset)> {
    (1..=4_usize, 1..=4_usize, 1..=7_usize)
        .prop_flat_map(|(m, d, rows)| problem(TwoLayerRelu::new(m, d).unwrap(), rows))
}

fn diagonal() -> impl Strategy<Value = (DiagonalLinear, Vec<f64>, Dataset)> {
    (1..=6_usize, 1..=7_usize)
        .prop_flat_map(|(d, rows)| problem(DiagonalLinear::new(d).unwrap(), rows))
}

fn mlp() -> impl Strategy<Value = (Mlp, Vec<f64>, Dataset)> {
    (1..=3_usize, 1..=4_usize, 1..=3_usize, 1..=6_usize).prop_flat_map(|(d, m, k, rows)| {
        problem(Mlp::new(&[d, m, k], Activation::Tanh, true).unwrap(), rows)
    })
}

fn check(model: &impl Model, parameters: &[f64], data: &Dataset) -> Result<(), TestCaseError> {
    let (n, p) = (data.sample_count(), model.parameter_count());
    let jacobian = model.jacobian(parameters, data.inputs());
    let gauss_newton = Mat::from_fn(p, p, |k, l| {
        let rows = (0..jacobian.rows()).map(|i| jacobian.row(i));
        rows.map(|row| row[k] * row[l]).sum::<f64>() / n as f64
    });
    let values = symmetric_eigenvalues(gauss_newton.as_ref()).unwrap();
    let trace: f64 = (0..p).map(|k| gauss_newton[(k, k)]).sum();
    // Backward errors of two symmetric problems of dimension at most p + nk, and of forming them.
    let size = jacobian.rows() + p;
    let tolerance = 32.0 * size as f64 * f64::EPSILON * trace;
    let sharpness = gauss_newton_sharpness(model, parameters, data.inputs()).unwrap();
    prop_assert!((sharpness.trace - trace).abs() <= tolerance);
    prop_assert!((sharpness.frobenius_norm - gauss_newton.norm_l2()).abs() <= tolerance);
    prop_assert!((sharpness.lambda_max - values[p - 1]).abs() <= tolerance);

    let curvature = training_curvature(model, parameters, data).unwrap();
    prop_assert!((curvature.sharpness.trace - trace).abs() <= tolerance);
    let residuals = data.residuals(model, parameters);
    let loss = residuals.iter().map(|r| r * r).sum::<f64>() / (2.0 * n as f64);
    prop_assert!((curvature.loss - loss).abs() <= 16.0 * size as f64 * f64::EPSILON * loss);

    // The definition for batches of one: gradients `J_iᵀ r_i` and curvature matrices `J_iᵀ J_i` of
    // the batch losses, averaged over the batches before the division.
    let (mut numerator, mut denominator) = (0.0, 0.0);
    let outputs = model.output_dim();
    for (i, residuals) in residuals.chunks(outputs).enumerate() {
        let rows = |o: usize| jacobian.row(i * outputs + o);
        let gradient: Vec<f64> =
            (0..p).map(|l| (0..outputs).map(|o| residuals[o] * rows(o)[l]).sum()).collect();
        for o in 0..outputs {
            let along: f64 = rows(o).iter().zip(&gradient).map(|(a, b)| a * b).sum();
            numerator += along * along / n as f64;
        }
        denominator += gradient.iter().map(|v| v * v).sum::<f64>() / n as f64;
    }
    match curvature.batch_sharpness {
        None => prop_assert!(denominator <= 0.0),
        Some(computed) => {
            let expected = numerator / denominator;
            prop_assert!((computed - expected).abs() <= tolerance.max(1e-13 * expected));
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn relu_curvature_is_that_of_the_dense_matrix((model, parameters, data) in relu()) {
        check(&model, &parameters, &data)?;
    }

    #[test]
    fn diagonal_curvature_is_that_of_the_dense_matrix((model, parameters, data) in diagonal()) {
        check(&model, &parameters, &data)?;
    }
}

proptest! {
    #[test]
    fn perceptron_curvature_is_that_of_the_dense_matrix((model, parameters, data) in mlp()) {
        check(&model, &parameters, &data)?;
    }
}

#[test]
fn batch_sharpness_of_one_output_has_the_bits_of_the_plain_one() {
    let gram = Mat::from_fn(3, 3, |i, j| 1.0 / (1.3 + (i + j) as f64));
    let residuals = [0.3, -0.7, 1.1];
    let norms: Vec<f64> = (0..3).map(|i| 3.0 * gram[(i, i)]).collect();
    let plain = batch_sharpness(&residuals, &norms).unwrap();
    let of_outputs = batch_sharpness_of_outputs(&residuals, gram.as_ref(), 1).unwrap();
    assert_eq!(plain.to_bits(), of_outputs.to_bits());
}

#[test]
fn batch_sharpness_of_outputs_goes_along_the_gradient_of_a_sample() {
    // One sample, J Jᵀ = diag(4, 1): along the first output 4, along both (16 + 1)/(4 + 1).
    let gram = Mat::from_fn(2, 2, |i, j| if i == j { 4.0 - 3.0 * i as f64 } else { 0.0 });
    let sharpness = |r: [f64; 2]| batch_sharpness_of_outputs(&r, gram.as_ref(), 2);
    assert!((sharpness([1e-200, 0.0]).unwrap() - 4.0).abs() < 1e-15);
    assert!((sharpness([1.0, -1.0]).unwrap() - 3.4).abs() < 1e-15);
    assert_eq!(sharpness([0.0, 0.0]), None);
    // Some residuals are nonzero, but every gradient is zero.
    let nothing = Mat::zeros(2, 2);
    assert_eq!(batch_sharpness_of_outputs(&[1.0, 1.0], nothing.as_ref(), 2), None);
}

#[test]
fn batch_sharpness_weighs_by_squared_residuals() {
    // (1·2² + 9·1²)/(1·2 + 9·1)
    let sharpness = batch_sharpness(&[1.0, -3.0], &[2.0, 1.0]).unwrap();
    assert!((sharpness - 13.0 / 11.0).abs() < 1e-15);
}

#[test]
fn batch_sharpness_survives_tiny_residuals_and_is_none_without_gradients() {
    let sharpness = batch_sharpness(&[1e-200, -3e-200], &[2.0, 1.0]).unwrap();
    assert!((sharpness - 13.0 / 11.0).abs() < 1e-15);
    assert_eq!(batch_sharpness(&[0.0, 0.0], &[2.0, 1.0]), None);
    assert_eq!(batch_sharpness(&[1.0, 2.0], &[0.0, 0.0]), None);
    assert_eq!(batch_sharpness(&[], &[]), None);
}

#[test]
fn the_largest_eigenvalue_of_a_large_gram_matrix_is_the_dense_one() {
    // Large enough for Lanczos; the Krylov space of the identity-like case is invariant at once.
    let mut rng = stream(3, "large gram", 0);
    let model = TwoLayerRelu::new(20, 10).unwrap();
    let parameters = model.initial_parameters(&mut rng);
    let inputs = data::sphere_inputs(150, 10, &mut rng);
    let gram = model.gram(&parameters, &inputs);
    let block = Mat::from_fn(150, 150, |i, j| if i == j { 1.0 + (i / 75) as f64 } else { 0.0 });
    for gram in [gram, Mat::identity(150, 150), block, Mat::zeros(150, 150)] {
        let dense = symmetric_eigenvalues(gram.as_ref()).unwrap()[149];
        let found = flatmin_linalg::gram_sharpness(gram.as_ref()).unwrap().lambda_max;
        assert!((found - dense).abs() <= 1e-10 * dense, "{found} against {dense}");
    }
}
