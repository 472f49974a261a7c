//! Products with Hessians compared with dense Hessians that another program computed by automatic
//! differentiation.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};

use faer::Mat;
use flatmin_arrays::ArrayFile;
use flatmin_curvature::{gauss_newton, hessian};
use flatmin_linalg::{Operator, RowMatrix, symmetric_eigenvalues};
use flatmin_models::{Activation, Dataset, DiagonalLinear, Mlp, Model, TwoLayerRelu};

/// An archive of a reference trajectory.
struct Reference(PathBuf);

impl Reference {
    /// The shape and the numbers of the array of this name; `None` when there is none.
    fn get(&self, name: &str) -> Option<(Vec<usize>, Vec<f64>)> {
        let mut array = ArrayFile::open(&self.0).unwrap().array(Some(name), &[]).ok()?;
        let values = array.values().unwrap();
        Some((array.shape().to_vec(), values))
    }

    fn numbers(&self, name: &str) -> Vec<f64> {
        self.get(name).unwrap_or_else(|| panic!("{} has {name}", self.0.display())).1
    }
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
    // The requirement is 1e-9; products and reference agree to rounding.
    assert!((actual - expected).abs() <= 1e-12 * scale, "{what}: {actual}, expected {expected}");
}

fn check(file: &str, names: &[&str], model: &dyn Model) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../optim/tests/data");
    let reference = Reference(folder.join(file));
    let number = |name: &str| reference.numbers(name)[0];
    let parameters: Vec<f64> =
        names.iter().flat_map(|name| reference.numbers(&format!("{name}_1000"))).collect();
    let (shape, values) = reference.get("x").unwrap();
    let inputs = RowMatrix::new(shape[0], shape[1], values).unwrap();
    let data = Dataset::new(inputs, reference.numbers("y")).unwrap();

    let operator = hessian(model, &parameters, &data).unwrap();
    assert_near(operator.loss(), reference.numbers("loss")[3], 1e-2, "loss");
    let matrix = dense(&operator);
    let p = parameters.len();
    let values = symmetric_eigenvalues(matrix.as_ref()).unwrap();
    let scale = values[p - 1];
    let trace = (0..p).map(|k| matrix[(k, k)]).sum();
    assert_near(trace, number("hessian_trace"), scale, "trace");
    assert_near(matrix.norm_l2(), number("hessian_frobenius_norm"), scale, "Frobenius norm");
    assert_near(values[0], number("hessian_smallest_eigenvalue"), scale, "smallest eigenvalue");
    let mut largest = reference.numbers("hessian_top_eigenvalues");
    largest.sort_by(f64::total_cmp);
    for (value, expected) in values[p - 5..].iter().zip(largest) {
        assert_near(*value, expected, scale, "one of the largest eigenvalues");
    }
    if let Some((_, expected)) = reference.get("hessian") {
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
    // This perceptron has the same parameters in the same order.
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
