//! Products of a model's Jacobian compared with the dense Jacobian of its gradients.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use faer::Mat;
use flatmin_curvature::ModelJacobian;
use flatmin_linalg::{JacobianProducts as _, Parallelism, RowMatrix, probe_jacobian, stream};
use flatmin_models::{Activation, Dataset, DiagonalLinear, Loss, Mlp, Model, TwoLayerRelu};

fn number(i: usize, j: usize, salt: usize) -> f64 {
    ((i * 7919 + j * 104_729 + salt * 31) % 1009) as f64 / 504.5 - 1.0
}

fn numbers(rows: usize, columns: usize, salt: usize) -> RowMatrix {
    RowMatrix::from_fn(rows, columns, |i, j| number(i, j, salt))
}

/// The rows `R_iᵀJ_i` with R of its definition: `diag(√π) (I − 1πᵀ)` is its transpose.
fn dense(model: &dyn Model, parameters: &[f64], data: &Dataset) -> Mat<f64> {
    let k = data.output_dim();
    let jacobian = model.jacobian(parameters, data.inputs());
    let plain = Mat::from_fn(jacobian.rows(), jacobian.columns(), |i, j| jacobian.row(i)[j]);
    if data.loss_function() == Loss::Squared {
        return plain;
    }
    let outputs = model.outputs(parameters, data.inputs());
    Mat::from_fn(plain.nrows(), plain.ncols(), |row, j| {
        let (sample, a) = (row / k, row % k);
        let exponentials: Vec<f64> =
            outputs[sample * k..][..k].iter().map(|f| libm::exp(*f)).collect();
        let sum: f64 = exponentials.iter().sum();
        let mean: f64 = (0..k).map(|b| exponentials[b] / sum * plain[(sample * k + b, j)]).sum();
        (exponentials[a] / sum).sqrt() * (plain[(row, j)] - mean)
    })
}

fn check(model: &dyn Model, samples: usize, loss: Loss) {
    let parameters = numbers(1, model.parameter_count(), 1).row(0).to_vec();
    let k = model.output_dim();
    let targets = RowMatrix::from_fn(samples, k, |i, a| if i % k == a { 1.0 } else { 0.0 });
    let data = Dataset::with_outputs(numbers(samples, model.input_dim(), 2), &targets).unwrap();
    let data = data.with_loss(loss).unwrap();
    let expected = dense(model, &parameters, &data);
    let (rows, p) = (samples * k, model.parameter_count());
    let vectors = Mat::from_fn(p, 3, |i, j| number(i, j, 3));
    let weights = Mat::from_fn(rows, 3, |i, j| number(i, j, 4));
    let mut bits = Vec::new();
    for parallelism in [Parallelism::Sequential, Parallelism::Rayon] {
        let jacobian = ModelJacobian::new(model, &parameters, &data, parallelism).unwrap();
        let (mut image, mut back) = (Mat::zeros(rows, 3), Mat::zeros(p, 3));
        jacobian.jvp(vectors.as_ref(), image.as_mut()).unwrap();
        jacobian.vjp(weights.as_ref(), back.as_mut()).unwrap();
        let mut grams = vec![0.0; rows * k];
        jacobian.sample_grams(&mut grams).unwrap();
        let scale = expected.norm_l2();
        let close = |found: f64, expected: f64| (found - expected).abs() < 1e-12 * scale * scale;
        let (forward, backward) = (&expected * &vectors, expected.transpose() * &weights);
        for j in 0..3 {
            assert!((0..rows).all(|i| close(image[(i, j)], forward[(i, j)])), "{model:?}: J V");
            assert!((0..p).all(|i| close(back[(i, j)], backward[(i, j)])), "{model:?}: Jᵀ U");
        }
        for (place, found) in grams.iter().enumerate() {
            let (i, a, b) = (place / (k * k), place / k % k, place % k);
            let row = |output: usize| expected.row(i * k + output);
            let product: f64 = row(a).iter().zip(row(b).iter()).map(|(a, b)| a * b).sum();
            assert!(close(*found, product), "{model:?}: J_i J_iᵀ at {place}: {found} {product}");
        }
        probe_jacobian(&jacobian, &mut stream(0, "probe", 0)).unwrap();
        let all = image
            .col_iter()
            .chain(back.col_iter())
            .flat_map(|column| column.iter().map(|value| value.to_bits()).collect::<Vec<_>>());
        bits.push(all.collect::<Vec<_>>());
    }
    assert_eq!(bits[0], bits[1], "threads change no bit");
}

#[test]
fn products_are_those_of_the_dense_jacobian() {
    let deep = |outputs| Mlp::new(&[3, 5, 4, outputs], Activation::Tanh, true).unwrap();
    let smoothed = Loss::cross_entropy(0.1).unwrap();
    check(&TwoLayerRelu::new(4, 3).unwrap(), 9, Loss::Squared);
    check(&DiagonalLinear::new(5).unwrap(), 7, Loss::Squared);
    check(&deep(1), 8, Loss::Squared);
    check(&deep(3), 8, Loss::Squared);
    check(&deep(3), 8, smoothed);
    check(&Mlp::new(&[3, 6, 2], Activation::Relu, false).unwrap(), 5, smoothed);
}

#[test]
fn blocks_of_samples_are_joined() {
    // More samples than a block, than a group of blocks, and than a piece of the diagonal.
    let deep = Mlp::new(&[2, 3, 2], Activation::Tanh, true).unwrap();
    check(&deep, 4_301, Loss::cross_entropy(0.0).unwrap());
}

#[test]
fn wrong_lengths_are_refused() {
    let model = Mlp::new(&[2, 3, 1], Activation::Tanh, true).unwrap();
    let data = Dataset::new(numbers(4, 2, 1), vec![0.0; 4]).unwrap();
    let error = ModelJacobian::new(&model, &[0.0; 3], &data, Parallelism::Sequential).unwrap_err();
    assert!(error.to_string().contains("parameters"), "{error}");
}
