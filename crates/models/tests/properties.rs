//! Fast computations of the models compared with their plain definitions, on shrinking random
//! instances.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::f64::consts::PI;

use faer::Mat;
use flatmin_linalg::{RowMatrix, stream, symmetric_eigenvalues};
use flatmin_models::{DiagonalLinear, Model, PopulationGaussNewton, TwoLayerRelu};
use proptest::prelude::{Just, Strategy, proptest};
use proptest::test_runner::TestCaseError;
use proptest::{collection, prop_assert, prop_assume, prop_oneof};

/// Zeros, small integers (exact ties) and generic numbers.
fn entry() -> impl Strategy<Value = f64> {
    prop_oneof![1 => Just(0.0), 2 => integer(), 4 => -3.0..3.0_f64]
}

fn integer() -> impl Strategy<Value = f64> {
    (-3_i32..=3).prop_map(f64::from)
}

/// A ReLU network, its parameters and inputs.
fn relu<E: Strategy<Value = f64>>(
    entry: fn() -> E,
) -> impl Strategy<Value = (TwoLayerRelu, Vec<f64>, RowMatrix)> {
    (1..=5_usize, 1..=9_usize, 1..=6_usize).prop_flat_map(move |(width, dim, rows)| {
        let model = TwoLayerRelu::new(width, dim).unwrap();
        let parameters = collection::vec(entry(), model.parameter_count());
        let inputs = collection::vec(entry(), rows * dim)
            .prop_map(move |values| RowMatrix::new(rows, dim, values).unwrap());
        (Just(model), parameters, inputs)
    })
}

fn diagonal() -> impl Strategy<Value = (DiagonalLinear, Vec<f64>, RowMatrix)> {
    (1..=9_usize, 1..=6_usize).prop_flat_map(|(dim, rows)| {
        let inputs = collection::vec(entry(), rows * dim)
            .prop_map(move |values| RowMatrix::new(rows, dim, values).unwrap());
        let model = DiagonalLinear::new(dim).unwrap();
        (Just(model), collection::vec(entry(), 2 * dim), inputs)
    })
}

/// `(w_jᵀx, Σ_i |w_ji x_i|)` for every neuron.
fn preactivations(model: TwoLayerRelu, parameters: &[f64], input: &[f64]) -> Vec<(f64, f64)> {
    let (hidden, _) = model.split(parameters);
    hidden
        .chunks_exact(model.input_dim())
        .map(|w| {
            let products = w.iter().zip(input).map(|(w, x)| w * x);
            products.fold((0.0, 0.0), |(sum, sizes), term| (sum + term, sizes + term.abs()))
        })
        .collect()
}

fn output(model: &impl Model, parameters: &[f64], input: &[f64]) -> f64 {
    let mut output = [f64::NAN];
    model.output(parameters, input, &mut output);
    output[0]
}

/// Compares `K = JJᵀ/n` and `f(x_i)` with loops over gradients and outputs.
fn check_gram_and_outputs(
    model: &impl Model,
    parameters: &[f64],
    inputs: &RowMatrix,
) -> Result<(), TestCaseError> {
    let (n, p) = (inputs.rows(), model.parameter_count());
    let jacobian = model.jacobian(parameters, inputs);
    let gram = model.gram(parameters, inputs);
    let naive = Mat::from_fn(n, n, |i, j| {
        let products = jacobian.row(i).iter().zip(jacobian.row(j)).map(|(a, b)| a * b);
        products.sum::<f64>() / n as f64
    });
    let outputs = model.outputs(parameters, inputs);
    for i in 0..n {
        for j in 0..n {
            // The entries are rounded sums of at most p products, bounded by √(K_ii K_jj) by
            // Cauchy–Schwarz; pre-activations of d products enter squared.
            let size = (naive[(i, i)] * naive[(j, j)]).sqrt();
            let tolerance = 8.0 * p as f64 * f64::EPSILON * size.max(sum_of_sizes(parameters));
            let (fast, slow) = (gram[(i, j)], naive[(i, j)]);
            prop_assert!((fast - slow).abs() <= tolerance, "({i}, {j}): {fast}, {slow}");
        }
        let (fast, slow) = (outputs[i], output(model, parameters, inputs.row(i)));
        let tolerance = 8.0 * p as f64 * f64::EPSILON * sum_of_sizes(parameters);
        prop_assert!((fast - slow).abs() <= tolerance, "output {i}: {fast}, {slow}");
    }
    Ok(())
}

/// Bounds every product of weights and inputs (whose entries are at most 3) that can occur.
fn sum_of_sizes(parameters: &[f64]) -> f64 {
    9.0 * parameters.iter().map(|v| v * v).sum::<f64>()
}

const STEP: f64 = 1.0 / 1024.0;

/// Compares the derivatives along the parameters that `is_smooth` selects with central differences.
/// Both models are linear in each single parameter (the ReLU network while no neuron switches), so
/// only rounding separates the two.
fn check_gradient(
    model: &impl Model,
    parameters: &[f64],
    input: &[f64],
    is_smooth: impl Fn(usize) -> bool,
) -> Result<(), TestCaseError> {
    let p = model.parameter_count();
    let mut gradient = vec![f64::NAN; p];
    model.gradient(parameters, input, &mut gradient);
    let mut shifted = parameters.to_vec();
    for k in (0..p).filter(|k| is_smooth(*k)) {
        let mut at = |offset: f64| {
            shifted[k] = parameters[k] + offset;
            let output = output(model, &shifted, input);
            shifted[k] = parameters[k];
            output
        };
        let difference = (at(STEP) - at(-STEP)) / (2.0 * STEP);
        let size = 1.0 + sum_of_sizes(parameters);
        let tolerance = 4.0 * p as f64 * f64::EPSILON * size / STEP;
        prop_assert!(
            (gradient[k] - difference).abs() <= tolerance,
            "{k}: gradient {}, difference {difference}",
            gradient[k]
        );
    }
    Ok(())
}

fn dense(population: &PopulationGaussNewton, p: usize) -> Mat<f64> {
    let mut matrix = Mat::zeros(p, p);
    let (mut unit, mut image) = (vec![0.0; p], vec![0.0; p]);
    for j in 0..p {
        unit[j] = 1.0;
        population.apply(&unit, &mut image);
        unit[j] = 0.0;
        for (i, value) in image.iter().enumerate() {
            matrix[(i, j)] = *value;
        }
    }
    matrix
}

proptest! {
    #[test]
    fn relu_gradient_is_the_derivative((model, parameters, inputs) in relu(entry)) {
        let z = preactivations(model, &parameters, inputs.row(0));
        let (m, d) = (model.width(), model.input_dim());
        // Inputs are at most 3 in size: no neuron with |z| > 4 h switches. Output weights are
        // never at a kink.
        let is_smooth = |k: usize| k >= m * d || z[k / d].0.abs() > 4.0 * STEP;
        check_gradient(&model, &parameters, inputs.row(0), is_smooth)?;
    }

    #[test]
    fn diagonal_gradient_is_the_derivative((model, parameters, inputs) in diagonal()) {
        check_gradient(&model, &parameters, inputs.row(0), |_| true)?;
    }

    #[test]
    fn relu_gram_is_that_of_the_jacobian((model, parameters, inputs) in relu(entry)) {
        // A pre-activation that is zero up to rounding may switch with the order of the sum.
        for i in 0..inputs.rows() {
            for (z, size) in preactivations(model, &parameters, inputs.row(i)) {
                prop_assume!(z.abs() > 32.0 * f64::EPSILON * size || size <= 0.0);
            }
        }
        check_gram_and_outputs(&model, &parameters, &inputs)?;
    }

    /// Integers add exactly in every order: neurons at their kink are inactive in both.
    #[test]
    fn relu_gram_agrees_at_kinks((model, parameters, inputs) in relu(integer)) {
        check_gram_and_outputs(&model, &parameters, &inputs)?;
    }

    #[test]
    fn diagonal_gram_is_that_of_the_jacobian((model, parameters, inputs) in diagonal()) {
        check_gram_and_outputs(&model, &parameters, &inputs)?;
    }

    /// The model computes trace, Frobenius norm and largest eigenvalue by closed forms or Lanczos.
    /// The test computes them from the dense matrix, which must be symmetric and positive
    /// semidefinite.
    #[test]
    fn relu_population_is_consistent((model, parameters, _) in relu(entry)) {
        let p = model.parameter_count();
        let population = model.population(&parameters);
        let matrix = dense(&population, p);
        let norm = matrix.norm_l2();
        let tolerance = 16.0 * p as f64 * f64::EPSILON * norm;
        for i in 0..p {
            for j in 0..i {
                prop_assert!((matrix[(i, j)] - matrix[(j, i)]).abs() <= tolerance, "({i}, {j})");
            }
        }
        let values = symmetric_eigenvalues(matrix.as_ref()).unwrap();
        prop_assert!(values[0] >= -tolerance, "{values:?}");
        let trace: f64 = (0..p).map(|k| matrix[(k, k)]).sum();
        prop_assert!((population.trace() - trace).abs() <= (p as f64).sqrt() * tolerance);
        let frobenius_norm = population.frobenius_norm();
        prop_assert!((frobenius_norm - norm).abs() <= tolerance, "{frobenius_norm} {norm}");
        let mut rng = stream(0, "population is consistent", 0);
        let lambda_max = population.sharpness(&mut rng).unwrap().lambda_max;
        // Lanczos stops at a residual of 1e-9, which bounds the error where eigenvalues cluster.
        prop_assert!((lambda_max - values[p - 1]).abs() <= tolerance + 1e-9 * norm);
    }

    /// The mean of a quadratic form over the points `±s√d e_j` is its expectation.
    #[test]
    fn diagonal_population_is_that_of_a_design((model, parameters, _) in diagonal()) {
        const VARIANCE: f64 = 1.0 / 3.0;
        let d = model.input_dim();
        let radius = (VARIANCE * d as f64).sqrt();
        let points = RowMatrix::from_fn(d, d, |i, j| if i == j { radius } else { 0.0 });
        let jacobian = model.jacobian(&parameters, &points);
        let p = model.parameter_count();
        let matrix = Mat::from_fn(p, p, |k, l| {
            (0..d).map(|i| jacobian.row(i)[k] * jacobian.row(i)[l]).sum::<f64>() / d as f64
        });
        let sharpness = model.population_sharpness(&parameters, VARIANCE);
        let values = symmetric_eigenvalues(matrix.as_ref()).unwrap();
        let trace: f64 = (0..p).map(|k| matrix[(k, k)]).sum();
        let tolerance = 16.0 * p as f64 * f64::EPSILON * trace;
        prop_assert!((sharpness.trace - trace).abs() <= tolerance);
        prop_assert!((sharpness.frobenius_norm - matrix.norm_l2()).abs() <= tolerance);
        prop_assert!((sharpness.lambda_max - values[p - 1]).abs() <= tolerance);
    }
}

/// Compares the block of two unit neurons in the plane with its formula in the angle between them.
fn check_angle(angle: f64, second: [f64; 2]) {
    let model = TwoLayerRelu::new(2, 2).unwrap();
    let parameters = [1.0, 0.0, second[0], second[1], 1.0, 1.0];
    let matrix = dense(&model.population(&parameters), 6);
    let (alpha, tau) = ((PI - angle) / (2.0 * PI), libm::sin(angle) / (2.0 * PI));
    // A = α I + τ (b bᵀ − c cᵀ), where b lies at half the angle and c is orthogonal to b, so that b
    // bᵀ − c cᵀ is a reflection.
    let (cos, sin) = (libm::cos(angle), libm::sin(angle));
    let expected = [[alpha + tau * cos, tau * sin], [tau * sin, alpha - tau * cos]];
    for (i, row) in expected.iter().enumerate() {
        for (j, value) in row.iter().enumerate() {
            let computed = matrix[(i, 2 + j)];
            assert!((computed - value).abs() <= 1e-15, "angle {angle:e}, ({i}, {j}): {computed}");
        }
    }
    // The output block: E[σ(uᵀx) σ(vᵀx)] = α cos φ + τ.
    let computed = matrix[(4, 5)];
    assert!((computed - (alpha * cos + tau)).abs() <= 1e-15, "angle {angle:e}: {computed}");
}

#[test]
fn nearly_parallel_and_opposite_neurons_keep_their_digits() {
    for angle in [0.0, 1e-300, 1e-17, 1e-12, 1e-8, 1e-4, 0.1, 1.0, 2.0, 3.0] {
        let (cos, sin) = (libm::cos(angle), libm::sin(angle));
        check_angle(angle, [cos, sin]);
        check_angle(PI - angle, [-cos, sin]);
    }
}

#[test]
fn exactly_opposite_neurons_share_no_input() {
    let model = TwoLayerRelu::new(2, 3).unwrap();
    let parameters = [0.3, -0.7, 1.1, -0.3, 0.7, -1.1, 2.0, -5.0];
    let matrix = dense(&model.population(&parameters), 8);
    for i in [0, 1, 2, 6] {
        for j in [3, 4, 5, 7] {
            assert!(matrix[(i, j)].abs() <= 0.0, "({i}, {j}): {}", matrix[(i, j)]);
        }
    }
}

#[test]
fn dead_neurons_are_flat_directions() {
    let model = TwoLayerRelu::new(2, 2).unwrap();
    // The second neuron has w = 0: its output weight does not matter anywhere.
    let parameters = [3.0, 4.0, 0.0, 0.0, 2.0, 7.0];
    let population = model.population(&parameters);
    let matrix = dense(&population, 6);
    for k in 0..6 {
        for dead in [2, 3, 5] {
            assert!(matrix[(k, dead)].abs() <= 0.0 && matrix[(dead, k)].abs() <= 0.0);
        }
    }
    // ½(‖w‖² + d a²) of the first neuron.
    assert!((population.trace() - 16.5).abs() < 1e-14);
    let mut gradient = vec![f64::NAN; 6];
    model.gradient(&parameters, &[1.0, 1.0], &mut gradient);
    assert_eq!(gradient, [2.0, 2.0, 0.0, 0.0, 7.0, 0.0]);
}
