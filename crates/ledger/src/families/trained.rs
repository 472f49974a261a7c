//! Minima found by training.

use flatmin_models::data::{cube_inputs, linear_targets, relu_teacher, sparse_coefficients};
use flatmin_models::{DiagonalLinear, Model, TwoLayerRelu};

use crate::prelude::*;

/// Steps of SGD with batches of one. Most of these tiny problems are fitted after this many.
const STEPS: usize = 300;

/// The Jacobian of a tiny network, two-layer ReLU or diagonal linear, that SGD has fitted to a
/// teacher, at most 5 × 16.
pub(crate) fn trained_jacobian(mut rng: &mut dyn Rng) -> RowMatrix {
    let (samples, dim) = (rng.random_range(1..=5), rng.random_range(1..=3));
    if rng.random_bool(0.5) {
        let inputs = cube_inputs(samples, dim, &mut rng);
        let targets = linear_targets(&inputs, &sparse_coefficients(dim, 1));
        let model = DiagonalLinear::new(dim).expect("sizes are drawn from 1 on");
        train(&model, &inputs, &targets, rng)
    } else {
        let inputs = RowMatrix::from_fn(samples, dim, |_, _| StandardNormal.sample(rng));
        let (teacher, parameters) =
            relu_teacher(1, dim, &mut rng).expect("sizes are drawn from 1 on");
        let targets = teacher.outputs(&parameters, &inputs);
        let width = rng.random_range(1..=4);
        let model = TwoLayerRelu::new(width, dim).expect("sizes are drawn from 1 on");
        train(&model, &inputs, &targets, rng)
    }
}

/// Plain SGD from standard normal parameters, with a learning rate that depends on the start.
fn train(model: &impl Model, inputs: &RowMatrix, targets: &[f64], rng: &mut dyn Rng) -> RowMatrix {
    let mut parameters: Vec<f64> =
        (0..model.parameter_count()).map(|_| StandardNormal.sample(rng)).collect();
    let initial = model.jacobian(&parameters, inputs);
    let largest =
        (0..inputs.rows()).map(|i| simd::norm_squared(initial.row(i))).fold(0.0, f64::max);
    if largest <= 0.0 {
        return initial;
    }
    let learning_rate = 0.5 / largest;
    let (mut gradient, mut output) = (vec![0.0; model.parameter_count()], [0.0]);
    for _ in 0..STEPS {
        let i = rng.random_range(0..inputs.rows());
        model.output(&parameters, inputs.row(i), &mut output);
        let residual = output[0] - targets[i];
        model.gradient(&parameters, inputs.row(i), &mut gradient);
        simd::axpy(-learning_rate * residual, &gradient, &mut parameters);
    }
    let found = model.jacobian(&parameters, inputs);
    // After divergence, the start serves as an instance instead.
    if found.values().iter().all(|value| value.abs() < 1e6) { found } else { initial }
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::stream;
    use flatmin_models::DiagonalLinear;
    use flatmin_models::data::{cube_inputs, linear_targets};

    use super::{train, trained_jacobian};

    #[test]
    fn training_ends_at_a_minimum() {
        let mut rng = stream(0, "a trained minimum", 0);
        let inputs = cube_inputs(2, 3, &mut rng);
        let targets = linear_targets(&inputs, &[1.0, 0.0, 0.0]);
        let jacobian = train(&DiagonalLinear::new(3).unwrap(), &inputs, &targets, &mut rng);
        // A row is (b ⊙ x, a ⊙ x), from which the output ⟨a ⊙ b, x⟩ can be read.
        for (i, target) in targets.iter().enumerate() {
            let row = jacobian.row(i);
            let x = inputs.row(i);
            let output: f64 = (0..3).map(|j| row[j] * row[3 + j] / x[j]).sum();
            assert!((output - target).abs() < 1e-2, "{output}, target {target}");
        }
    }

    #[test]
    fn trained_jacobians_are_small_and_finite() {
        for index in 0..100 {
            let jacobian = trained_jacobian(&mut stream(0, "trained minima", index));
            assert!((1..=5).contains(&jacobian.rows()) && (2..=16).contains(&jacobian.columns()));
            assert!(jacobian.values().iter().all(|value| value.is_finite()));
        }
    }
}
