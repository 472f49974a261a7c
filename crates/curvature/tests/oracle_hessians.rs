//! Products with Hessians against dense ones from automatic differentiation in another program.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use faer::Mat;
use flatmin_curvature::{gauss_newton, hessian};
use flatmin_linalg::{Operator, RowMatrix, symmetric_eigenvalues};
use flatmin_models::{Activation, Dataset, DiagonalLinear, Mlp, Model, TwoLayerRelu};

type Arrays = BTreeMap<String, (Vec<u64>, Vec<f64>)>;

/// The arrays of numbers in an archive of reference trajectories.
fn read(file: &str) -> Arrays {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../optim/tests/data").join(file);
    let mut archive = zip::ZipArchive::new(File::open(path).unwrap()).unwrap();
    let mut arrays = Arrays::new();
    for index in 0..archive.len() {
        let mut bytes = Vec::new();
        let mut file = archive.by_index(index).unwrap();
        file.read_to_end(&mut bytes).unwrap();
        let npy = npyz::NpyFile::new(bytes.as_slice()).unwrap();
        let shape = npy.shape().to_vec();
        if let Ok(values) = npy.into_vec::<f64>() {
            arrays.insert(file.name().trim_end_matches(".npy").to_owned(), (shape, values));
        }
    }
    arrays
}

/// The whole matrix of an operator.
fn dense(operator: &impl Operator) -> Mat<f64> {
    let p = operator.dim();
    let mut images = Mat::zeros(p, p);
    operator.apply(Mat::<f64>::identity(p, p).as_ref(), images.as_mut());
    images
}

#[track_caller]
fn assert_near(actual: f64, expected: f64, scale: f64, what: &str) {
    // What is asked is 1e-9; products and reference agree to rounding.
    assert!((actual - expected).abs() <= 1e-12 * scale, "{what}: {actual}, expected {expected}");
}

fn check(file: &str, names: &[&str], model: &dyn Model) {
    let arrays = read(file);
    let number = |name: &str| arrays[name].1[0];
    let parameters: Vec<f64> =
        names.iter().flat_map(|name| arrays[&format!("{name}_1000")].1.clone()).collect();
    let (shape, values) = &arrays["x"];
    let sizes: Vec<usize> = shape.iter().map(|n| usize::try_from(*n).unwrap()).collect();
    let inputs = RowMatrix::new(sizes[0], sizes[1], values.clone()).unwrap();
    let data = Dataset::new(inputs, arrays["y"].1.clone()).unwrap();

    let operator = hessian(model, &parameters, &data).unwrap();
    assert_near(operator.loss(), arrays["loss"].1[3], 1e-2, "loss");
    let matrix = dense(&operator);
    let p = parameters.len();
    let values = symmetric_eigenvalues(matrix.as_ref()).unwrap();
    let scale = values[p - 1];
    let trace = (0..p).map(|k| matrix[(k, k)]).sum();
    assert_near(trace, number("hessian_trace"), scale, "trace");
    assert_near(matrix.norm_l2(), number("hessian_frobenius_norm"), scale, "Frobenius norm");
    assert_near(values[0], number("hessian_smallest_eigenvalue"), scale, "smallest eigenvalue");
    let mut largest = arrays["hessian_top_eigenvalues"].1.clone();
    largest.sort_by(f64::total_cmp);
    for (value, expected) in values[p - 5..].iter().zip(largest) {
        assert_near(*value, expected, scale, "one of the largest eigenvalues");
    }
    if let Some((_, expected)) = arrays.get("hessian") {
        for (k, expected) in expected.iter().enumerate() {
            assert_near(matrix[(k / p, k % p)], *expected, scale, "an entry");
        }
    }

    let matrix = dense(&gauss_newton(model, &parameters, &data).unwrap());
    let values = symmetric_eigenvalues(matrix.as_ref()).unwrap();
    let trace = (0..p).map(|k| matrix[(k, k)]).sum();
    assert_near(trace, number("gauss_newton_trace"), scale, "trace of G");
    assert_near(matrix.norm_l2(), number("gauss_newton_frobenius_norm"), scale, "norm of G");
    assert_near(values[p - 1], number("gauss_newton_lambda_max"), scale, "λ_max of G");
}

#[test]
fn two_layer_relu_networks() {
    let model = TwoLayerRelu::new(16, 10).unwrap();
    for file in ["relu_gd_s0", "relu_sgd_b1_noclip_s0", "relu_sgd_b1_s0", "relu_sgd_b4_s0"] {
        check(&format!("{file}.npz"), &["w", "a"], &model);
    }
    // The same parameters in the same order.
    let model = Mlp::new(&[10, 16, 1], Activation::Relu, false).unwrap();
    check("relu_gd_s0.npz", &["w", "a"], &model);
}

#[test]
fn diagonal_linear_networks() {
    let model = DiagonalLinear::new(30).unwrap();
    for file in ["diagonal_gd_s0.npz", "diagonal_sgd_b1_s0.npz", "diagonal_sgd_b3_s0.npz"] {
        check(file, &["a", "b"], &model);
    }
}

#[test]
fn perceptrons() {
    let model = Mlp::new(&[10, 8, 8, 1], Activation::Tanh, true).unwrap();
    for file in ["mlp_gd_s0.npz", "mlp_sgd_b4_s0.npz"] {
        check(file, &["w1", "b1", "w2", "b2", "w3", "b3"], &model);
    }
}
