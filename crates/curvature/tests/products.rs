//! Products with the Hessian and the Gauss–Newton matrix: options change no result beyond their
//! effect on rounding, and sizes that do not fit are refused.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use faer::Mat;
use flatmin_curvature::{
    CurvatureError, CurvatureOptions, gauss_newton, gauss_newton_with, hessian, hessian_with,
};
use flatmin_linalg::{Operator as _, Parallelism, RowMatrix, stream};
use flatmin_models::{Activation, Dataset, DiagonalLinear, Mlp, Model};
use rand::RngExt as _;

fn numbers(rows: usize, columns: usize, index: u64) -> RowMatrix {
    let mut rng = stream(0, "test products", index);
    RowMatrix::from_fn(rows, columns, |_, _| rng.random_range(-1.0..1.0))
}

fn problem(model: &impl Model, samples: usize) -> (Vec<f64>, Dataset, Mat<f64>) {
    let p = model.parameter_count();
    let parameters = numbers(1, p, 0).values().to_vec();
    let inputs = numbers(samples, model.input_dim(), 1);
    let targets = numbers(samples, model.output_dim(), 2);
    let vectors = numbers(3, p, 3);
    let vectors = Mat::from_fn(p, 3, |i, j| vectors.row(j)[i]);
    (parameters, Dataset::with_outputs(inputs, &targets).unwrap(), vectors)
}

fn images(
    model: &dyn Model,
    (parameters, data, vectors): &(Vec<f64>, Dataset, Mat<f64>),
    options: &CurvatureOptions,
) -> [Mat<f64>; 2] {
    [hessian_with, gauss_newton_with].map(|make| {
        let operator = make(model, parameters, data, options).unwrap();
        let mut images = Mat::from_fn(vectors.nrows(), vectors.ncols(), |_, _| f64::NAN);
        operator.apply(vectors.as_ref(), images.as_mut());
        images
    })
}

/// The plain definition: `(1/n) Σ_i J_iᵀJ_i v`, plus `(1/n) Σ r ∇²f v` for the Hessian.
fn plain(
    model: &impl Model,
    (parameters, data, vectors): &(Vec<f64>, Dataset, Mat<f64>),
) -> [Mat<f64>; 2] {
    let (n, k) = (data.sample_count(), model.output_dim());
    let jacobian = model.jacobian(parameters, data.inputs());
    let jacobian = jacobian.as_mat();
    let gauss_newton = faer::Scale(1.0 / n as f64) * (jacobian.transpose() * (jacobian * vectors));
    let mut hessian = gauss_newton.clone();
    let residuals = data.residuals(model, parameters);
    for i in 0..n {
        let weights: Vec<f64> =
            residuals[i * k..][..k].iter().map(|residual| residual / n as f64).collect();
        for j in 0..vectors.ncols() {
            let vector = vectors.col_as_slice(j);
            let product = hessian.col_as_slice_mut(j);
            let input = data.inputs().row(i);
            model.add_second_derivative(parameters, input, &weights, vector, product);
        }
    }
    [hessian, gauss_newton]
}

#[test]
fn blocks_threads_and_memory_change_nothing_but_rounding() {
    let model = Mlp::new(&[4, 6, 5, 2], Activation::Gelu, true).unwrap();
    for samples in [1, 2, 37, 300] {
        let problem = problem(&model, samples);
        let expected = plain(&model, &problem);
        for block_size in [1, 7, 256, 10_000] {
            let options = CurvatureOptions {
                block_size,
                parallelism: Parallelism::Sequential,
                ..CurvatureOptions::default()
            };
            let kept = images(&model, &problem, &options);
            for (image, expected) in kept.iter().zip(&expected) {
                let error = (image - expected).norm_max();
                assert!(error <= 1e-13 * expected.norm_max(), "{samples} {block_size}: {error}");
            }
            // These agree to the bit.
            let threads = CurvatureOptions { parallelism: Parallelism::Rayon, ..options };
            assert_eq!(images(&model, &problem, &threads), kept);
            let anew = CurvatureOptions { cache_bytes: 0, ..options };
            assert_eq!(images(&model, &problem, &anew), kept);
            let (parameters, data, _) = &problem;
            assert!(hessian_with(&model, parameters, data, &options).unwrap().is_cached());
            assert!(!hessian_with(&model, parameters, data, &anew).unwrap().is_cached());
        }
    }
}

#[test]
fn a_block_of_vectors_is_its_vectors_one_by_one() {
    let model = Mlp::new(&[4, 6, 1], Activation::Relu, false).unwrap();
    let problem = problem(&model, 20);
    let operator = hessian(&model, &problem.0, &problem.1).unwrap();
    let vectors = &problem.2;
    let mut block = Mat::zeros(vectors.nrows(), 3);
    operator.apply(vectors.as_ref(), block.as_mut());
    for j in 0..3 {
        let mut single = Mat::zeros(vectors.nrows(), 1);
        operator.apply(vectors.subcols(j, 1), single.as_mut());
        assert_eq!(single.col_as_slice(0), block.col_as_slice(j));
    }
    operator.apply(vectors.subcols(0, 0), Mat::zeros(vectors.nrows(), 0).as_mut());
}

#[test]
fn gradient_and_loss_are_those_of_the_data() {
    let model = Mlp::new(&[3, 4, 2], Activation::Tanh, true).unwrap();
    let (parameters, data, _) = problem(&model, 11);
    let operator = gauss_newton(&model, &parameters, &data).unwrap();
    assert!((operator.loss() / data.loss(&model, &parameters) - 1.0).abs() < 1e-14);
    let gradient = operator.gradient();
    // A central difference with step h is off by h² times a third derivative of order one.
    for k in 0..parameters.len() {
        let at = |step: f64| {
            let mut moved = parameters.clone();
            moved[k] += step;
            data.loss(&model, &moved)
        };
        let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
        assert!((slope - gradient[k]).abs() < 1e-9, "{k}: {slope} {}", gradient[k]);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let model = DiagonalLinear::new(2).unwrap();
    let data = |d, k| Dataset::with_outputs(numbers(3, d, 0), &numbers(3, k, 1)).unwrap();
    let check = |parameters: &[f64], data: &Dataset, message: &str| {
        let error = hessian(&model, parameters, data).unwrap_err();
        assert_eq!(error.to_string(), message);
    };
    check(&[0.0; 3], &data(2, 1), "number of parameters: 3 given, the model has 4");
    check(&[0.0; 4], &data(5, 1), "dimension of the inputs: 5 given, the model has 2");
    check(&[0.0; 4], &data(2, 2), "number of targets of a sample: 2 given, the model has 1");
    let nan = [0.0, 0.0, f64::NAN, 0.0];
    check(&nan, &data(2, 1), "parameter 2 is NaN, expected a finite number");
    let options = CurvatureOptions { block_size: 0, ..CurvatureOptions::default() };
    let error = gauss_newton_with(&model, &[0.0; 4], &data(2, 1), &options).unwrap_err();
    assert_eq!(error, CurvatureError::EmptyBlock);
}
