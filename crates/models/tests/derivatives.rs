//! Derivatives of the models against their plain definitions and against finite differences, on
//! shrinking random instances.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use faer::Mat;
use flatmin_linalg::{RowMatrix, stream};
use flatmin_models::{
    Activation, Dataset, DiagonalLinear, MatrixSensing, Mlp, Model, TwoLayerRelu, UnivariateRelu,
};
use proptest::prelude::{Strategy, any, proptest};
use proptest::test_runner::TestCaseError;
use proptest::{collection, prop_assert, sample};
use rand::RngExt as _;

/// A perceptron of any shape: one to four layers, widths from 1, up to 3 outputs.
fn mlp(activations: &'static [Activation]) -> impl Strategy<Value = Mlp> {
    let widths = (collection::vec(1..=5_usize, 1..=4), 1..=3_usize);
    (widths, sample::select(activations), any::<bool>()).prop_map(
        |((mut widths, outputs), activation, has_biases)| {
            widths.push(outputs);
            Mlp::new(&widths, activation, has_biases).unwrap()
        },
    )
}

const ALL: &[Activation] =
    &[Activation::Tanh, Activation::Relu, Activation::Gelu, Activation::Identity];
const SMOOTH: &[Activation] = &[Activation::Tanh, Activation::Gelu, Activation::Identity];

/// Parameters, data of `samples` samples, and a direction, all fixed by `seed`.
fn instance(model: &impl Model, samples: usize, seed: u64) -> (Vec<f64>, Dataset, Vec<f64>) {
    let mut rng = stream(seed, "derivative instance", 0);
    let mut numbers =
        |count: usize| -> Vec<f64> { (0..count).map(|_| rng.random_range(-1.5..1.5)).collect() };
    let parameters = numbers(model.parameter_count());
    let inputs =
        RowMatrix::new(samples, model.input_dim(), numbers(samples * model.input_dim())).unwrap();
    let k = model.output_dim();
    let targets = RowMatrix::new(samples, k, numbers(samples * k)).unwrap();
    let direction = numbers(model.parameter_count());
    (parameters, Dataset::with_outputs(inputs, &targets).unwrap(), direction)
}

fn check_close(actual: &[f64], expected: &[f64], what: &str) -> Result<(), TestCaseError> {
    check_within(1e-12, actual, expected, what)
}

/// Asserts agreement to `tolerance` times the larger of 1 and the largest entry. The entries of the
/// instances are of order one.
fn check_within(
    tolerance: f64,
    actual: &[f64],
    expected: &[f64],
    what: &str,
) -> Result<(), TestCaseError> {
    prop_assert!(actual.len() == expected.len(), "{what}");
    let scale = expected.iter().fold(1.0_f64, |m, v| m.max(v.abs()));
    for (k, (a, e)) in actual.iter().zip(expected).enumerate() {
        prop_assert!((a - e).abs() <= tolerance * scale, "{what}[{k}]: {a}, expected {e}");
    }
    Ok(())
}

/// Compares every quantity on many samples with a loop over samples.
fn check_batched(model: &impl Model, samples: usize, seed: u64) -> Result<(), TestCaseError> {
    let (parameters, data, direction) = instance(model, samples, seed);
    let (p, k) = (model.parameter_count(), model.output_dim());
    let inputs = data.inputs();
    let mut outputs = vec![0.0; samples * k];
    let mut rows = vec![0.0; samples * k * p];
    for i in 0..samples {
        model.output(&parameters, inputs.row(i), &mut outputs[i * k..][..k]);
        model.gradient(&parameters, inputs.row(i), &mut rows[i * k * p..][..k * p]);
    }
    check_close(&model.outputs(&parameters, inputs), &outputs, "outputs")?;
    check_close(model.jacobian(&parameters, inputs).values(), &rows, "Jacobian")?;
    let row = |r: usize| &rows[r * p..][..p];
    let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let gram = model.gram(&parameters, inputs);
    let naive = |i: usize, j: usize| dot(row(i), row(j)) / samples as f64;
    let expected = Mat::from_fn(samples * k, samples * k, naive);
    for j in 0..samples * k {
        check_close(gram.col_as_slice(j), expected.col_as_slice(j), "Gram matrix")?;
    }

    // Only some of the samples; they begin after the first one if there are several.
    let part = samples / 3..samples;
    let linear = model.linearize(&parameters, &data, part.clone());
    let flat = part.start * k..part.end * k;
    let pairs = outputs[flat.clone()].iter().zip(data.targets_of(part.clone()));
    let residuals: Vec<f64> = pairs.map(|(f, y)| f - y).collect();
    check_close(linear.residuals(), &residuals, "residuals")?;
    let moved: Vec<f64> = flat.clone().map(|r| dot(row(r), &direction)).collect();
    let mut product = vec![f64::NAN; moved.len()];
    linear.jvp(&direction, &mut product);
    check_close(&product, &moved, "J v")?;

    let pulled = |weights: &[f64]| -> Vec<f64> {
        // Products are added to the values that are there.
        let mut sum = vec![0.5; p];
        for (weight, r) in weights.iter().zip(flat.clone()) {
            sum.iter_mut().zip(row(r)).for_each(|(sum, g)| *sum += weight * g);
        }
        sum
    };
    let added = |add: &dyn Fn(&mut [f64])| {
        let mut sum = vec![0.5; p];
        add(&mut sum);
        sum
    };
    let weights: Vec<f64> = moved.iter().map(|v| 1.0 - v).collect();
    check_close(&added(&|sum| linear.add_vjp(&weights, sum)), &pulled(&weights), "Jᵀ u")?;
    check_close(&added(&|sum| linear.add_gradient(sum)), &pulled(&residuals), "Jᵀ r")?;
    let product = added(&|sum| linear.add_gauss_newton_vector_product(&direction, sum));
    let mut expected = pulled(&moved);
    check_close(&product, &expected, "Jᵀ J v")?;
    for (sample, weights) in part.zip(residuals.chunks_exact(k)) {
        let input = inputs.row(sample);
        model.add_second_derivative(&parameters, input, weights, &direction, &mut expected);
    }
    let product = added(&|sum| linear.add_hessian_vector_product(&direction, sum));
    check_close(&product, &expected, "H v")
}

/// Compares first and second derivatives of one sample with central differences of step h. Their
/// error is h² times a third derivative, plus the rounding error divided by h.
fn check_finite_differences(model: &impl Model, seed: u64) -> Result<(), TestCaseError> {
    const STEP: f64 = 1e-4;
    let (parameters, data, direction) = instance(model, 1, seed);
    let (input, targets) = (data.inputs().row(0), data.targets());
    let (p, k) = (model.parameter_count(), model.output_dim());
    let at = |sign: f64| -> Vec<f64> {
        parameters.iter().zip(&direction).map(|(t, v)| t + sign * STEP * v).collect()
    };
    let output = |parameters: &[f64]| {
        let mut output = vec![0.0; k];
        model.output(parameters, input, &mut output);
        output
    };
    let gradient = |parameters: &[f64]| {
        let mut gradients = vec![0.0; k * p];
        model.gradient(parameters, input, &mut gradients);
        gradients
    };
    let difference = |right: Vec<f64>, left: Vec<f64>| -> Vec<f64> {
        right.iter().zip(&left).map(|(r, l)| (r - l) / (2.0 * STEP)).collect()
    };
    let slope = difference(output(&at(1.0)), output(&at(-1.0)));
    let rows = gradient(&parameters);
    let expected: Vec<f64> = rows
        .chunks_exact(p)
        .map(|row| row.iter().zip(&direction).map(|(g, v)| g * v).sum())
        .collect();
    check_within(1e-4, &slope, &expected, "derivative of the outputs")?;

    let bend = difference(gradient(&at(1.0)), gradient(&at(-1.0)));
    let mut weighted = vec![0.0; p];
    for (weight, row) in targets.iter().zip(bend.chunks_exact(p)) {
        weighted.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * value);
    }
    let mut product = vec![0.0; p];
    model.add_second_derivative(&parameters, input, targets, &direction, &mut product);
    check_within(1e-4, &product, &weighted, "derivative of the gradients")
}

proptest! {
    #[test]
    fn perceptrons_on_many_samples_are_what_they_are_on_one(
        model in mlp(ALL), samples in 1..=7_usize, seed in any::<u64>(),
    ) {
        check_batched(&model, samples, seed)?;
    }

    #[test]
    fn two_layer_models_on_many_samples_are_what_they_are_on_one(
        width in 1..=4_usize, dim in 1..=5_usize, samples in 1..=7_usize, seed in any::<u64>(),
    ) {
        check_batched(&TwoLayerRelu::new(width, dim).unwrap(), samples, seed)?;
        check_batched(&DiagonalLinear::new(dim).unwrap(), samples, seed)?;
        check_batched(&UnivariateRelu::new(width).unwrap(), samples, seed)?;
    }

    #[test]
    fn matrix_sensing_on_many_samples_is_what_it_is_on_one(
        rows in 1..=4_usize, columns in 1..=4_usize, factors in 1..=5_usize,
        samples in 1..=7_usize, seed in any::<u64>(),
    ) {
        check_batched(&MatrixSensing::new(rows, columns, factors).unwrap(), samples, seed)?;
    }

    #[test]
    fn derivatives_are_those_of_the_outputs(model in mlp(SMOOTH), seed in any::<u64>()) {
        check_finite_differences(&model, seed)?;
    }

    #[test]
    fn second_derivatives_of_bilinear_models_are_exact(dim in 1..=5_usize, seed in any::<u64>()) {
        check_finite_differences(&DiagonalLinear::new(dim).unwrap(), seed)?;
        check_finite_differences(&MatrixSensing::new(dim, 3, 2).unwrap(), seed)?;
    }

    /// Diagonal inputs see the diagonals of diagonal factors only.
    #[test]
    fn matrix_sensing_of_diagonals_is_the_diagonal_network(
        dim in 1..=5_usize, seed in any::<u64>(),
    ) {
        let diagonal = DiagonalLinear::new(dim).unwrap();
        let model = MatrixSensing::new(dim, dim, dim).unwrap();
        let (parameters, data, _) = instance(&diagonal, 3, seed);
        let spread = |values: &[f64]| -> Vec<f64> {
            let matrix =
                RowMatrix::from_fn(dim, dim, |i, j| if i == j { values[i] } else { 0.0 });
            matrix.into_values()
        };
        let (a, b) = diagonal.split(&parameters);
        let factors = [spread(a), spread(b)].concat();
        let inputs: Vec<f64> = (0..3).flat_map(|i| spread(data.inputs().row(i))).collect();
        let inputs = RowMatrix::new(3, dim * dim, inputs).unwrap();
        let expected = diagonal.outputs(&parameters, data.inputs());
        check_close(&model.outputs(&factors, &inputs), &expected, "f")?;
        let gram = model.gram(&factors, &inputs);
        let expected = diagonal.gram(&parameters, data.inputs());
        for j in 0..3 {
            check_close(gram.col_as_slice(j), expected.col_as_slice(j), "K")?;
        }
    }

    /// The network on one input is a perceptron with the same parameters.
    #[test]
    fn the_network_on_one_input_is_a_perceptron(width in 1..=6_usize, seed in any::<u64>()) {
        let mlp = Mlp::new(&[1, width, 1], Activation::Relu, true).unwrap();
        let model = UnivariateRelu::new(width).unwrap();
        let (parameters, data, direction) = instance(&mlp, 4, seed);
        let inputs = data.inputs();
        check_close(&model.outputs(&parameters, inputs), &mlp.outputs(&parameters, inputs), "f")?;
        let jacobians = [model.jacobian(&parameters, inputs), mlp.jacobian(&parameters, inputs)];
        check_close(jacobians[0].values(), jacobians[1].values(), "J")?;
        let mut products = [vec![0.0; direction.len()], vec![0.0; direction.len()]];
        model.linearize(&parameters, &data, 0..4)
            .add_hessian_vector_product(&direction, &mut products[0]);
        mlp.linearize(&parameters, &data, 0..4)
            .add_hessian_vector_product(&direction, &mut products[1]);
        check_close(&products[0], &products[1], "H v")?;
    }

    /// A two-layer ReLU network is a perceptron with the same parameters.
    #[test]
    fn a_perceptron_with_one_hidden_layer_is_the_two_layer_network(
        width in 1..=4_usize, dim in 1..=5_usize, seed in any::<u64>(),
    ) {
        let mlp = Mlp::new(&[dim, width, 1], Activation::Relu, false).unwrap();
        let relu = TwoLayerRelu::new(width, dim).unwrap();
        let (parameters, data, direction) = instance(&mlp, 4, seed);
        let inputs = data.inputs();
        check_close(&mlp.outputs(&parameters, inputs), &relu.outputs(&parameters, inputs), "f")?;
        let jacobians = [mlp.jacobian(&parameters, inputs), relu.jacobian(&parameters, inputs)];
        check_close(jacobians[0].values(), jacobians[1].values(), "J")?;
        let mut products = [vec![0.0; direction.len()], vec![0.0; direction.len()]];
        mlp.linearize(&parameters, &data, 0..4)
            .add_hessian_vector_product(&direction, &mut products[0]);
        relu.linearize(&parameters, &data, 0..4)
            .add_hessian_vector_product(&direction, &mut products[1]);
        check_close(&products[0], &products[1], "H v")?;
    }
}

#[test]
fn more_samples_than_a_block_are_taken_block_by_block() {
    let model = Mlp::new(&[3, 4, 2], Activation::Tanh, true).unwrap();
    check_batched(&model, 600, 1).unwrap();
}

#[test]
fn impossible_shapes_are_refused() {
    for (widths, message) in [
        (&[][..], "the number of layers must be at least 1"),
        (&[3][..], "the number of layers must be at least 1"),
        (&[3, 0, 1][..], "every width of a network must be at least 1"),
        (
            &[usize::MAX / 2, 3][..],
            "the number of bytes left for a network's parameters must be at least 1",
        ),
    ] {
        let error = Mlp::new(widths, Activation::Tanh, true).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn parameters_are_laid_out_layer_by_layer() {
    let model = Mlp::new(&[2, 3, 1], Activation::Identity, true).unwrap();
    let ranges: Vec<_> = model.parameter_ranges().collect();
    assert_eq!(ranges, [(0..6, 6..9), (9..12, 12..13)]);
    assert_eq!((model.widths(), model.depth()), (vec![2, 3, 1], 2));
    // f(x) = 1·(x₁ + 2x₂ + 0.5) + 3; the values of the other neurons are zero.
    let parameters = [1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 1.0, 7.0, 7.0, 3.0];
    let mut output = [0.0];
    model.output(&parameters, &[10.0, 100.0], &mut output);
    assert!((output[0] - 213.5).abs() < 1e-12);
}
