//! A parameter that is NaN makes the outputs NaN.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use flatmin_linalg::{RowMatrix, stream};
use flatmin_models::{
    Activation, Dataset, DiagonalLinear, MatrixSensing, Mlp, Model, TwoLayerRelu, UnivariateRelu,
    data,
};
use rand::RngExt as _;

/// Replaces each parameter in turn by a NaN, and checks every quantity that depends on it.
fn check(model: &dyn Model, what: &str) {
    let mut rng = stream(0, "NaN test", 0);
    let (n, k) = (9, model.output_dim());
    let inputs = data::sphere_inputs(n, model.input_dim(), &mut rng);
    let targets = RowMatrix::zeros(n, k);
    let data = Dataset::with_outputs(inputs.clone(), &targets).unwrap();
    let count = model.parameter_count();
    let finite: Vec<f64> = (0..count).map(|_| rng.random_range(-1.0..1.0)).collect();
    for position in 0..count {
        let mut parameters = finite.clone();
        parameters[position] = f64::NAN;
        let what = format!("{what}, parameter {position}");
        let is_seen = |values: &[f64]| values.iter().any(|value| value.is_nan());
        for i in 0..n {
            let mut output = vec![0.0; k];
            model.output(&parameters, inputs.row(i), &mut output);
            assert!(is_seen(&output), "{what}: output on sample {i}");
        }
        let outputs = model.outputs(&parameters, &inputs);
        assert!(outputs.chunks(k).all(is_seen), "{what}: outputs");
        assert!(data.loss(model, &parameters).is_nan(), "{what}: loss");
        let linearization = model.linearize(&parameters, &data, 0..n);
        assert!(is_seen(linearization.residuals()), "{what}: residuals");
        let mut gradient = vec![0.0; count];
        linearization.add_gradient(&mut gradient);
        assert!(is_seen(&gradient), "{what}: gradient");
    }
}

#[test]
fn a_parameter_that_is_not_a_number_is_seen() {
    check(&TwoLayerRelu::new(5, 3).unwrap(), "two-layer ReLU");
    check(&DiagonalLinear::new(4).unwrap(), "diagonal");
    check(&MatrixSensing::new(2, 3, 2).unwrap(), "matrix sensing");
    check(&UnivariateRelu::new(4).unwrap(), "ReLU on one input");
    for activation in Activation::ALL {
        check(&Mlp::new(&[3, 5, 4, 2], activation, true).unwrap(), activation.name());
    }
}

#[test]
fn the_gram_matrix_of_a_network_that_is_not_a_number_is_none() {
    let model = TwoLayerRelu::new(4, 3).unwrap();
    let inputs = data::sphere_inputs(6, 3, &mut stream(1, "NaN test", 0));
    for position in 0..model.parameter_count() {
        let mut parameters = vec![0.5; model.parameter_count()];
        parameters[position] = f64::NAN;
        let is_output_weight = position >= 12;
        let gram = model.gram(&parameters, &inputs);
        // An output weight affects only the samples on which its neuron is active.
        let diagonal: Vec<bool> = (0..6).map(|i| gram[(i, i)].is_nan()).collect();
        assert!(diagonal.contains(&true), "parameter {position}");
        assert!(is_output_weight || !diagonal.contains(&false), "parameter {position}");
    }
}
