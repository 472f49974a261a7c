//! Every statement of the ledger on shrinking random instances, and every mutant refuted.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../../theory/tests/support/mod.rs"]
mod support;

use flatmin_ledger::{
    DiagonalInstance, DiagonalStepInstance, Domain, Form, Instance, InterpolationInstance,
    MinimumInstance, MomentumInstance, OutputsInstance, RecoveryInstance, ReluInstance,
    ReluStepInstance, SampleInstance, Statement, TOLERANCE, verify,
};
use flatmin_linalg::{RowMatrix, stream};
use flatmin_models::data::{cube_inputs, sphere_inputs};
use flatmin_models::{DiagonalLinear, TwoLayerRelu};
use flatmin_theory::{Batch, Sampling};
use proptest::prelude::{Just, Strategy, any, proptest};
use proptest::test_runner::TestCaseError;
use proptest::{collection, prop_assert, prop_oneof, sample};
use support::entry;

fn batch(sample_count: usize) -> impl Strategy<Value = Batch> {
    prop_oneof![
        (1..=sample_count).prop_map(|size| Batch::new(size, Sampling::WithoutReplacement)),
        (1..=2 * sample_count).prop_map(|size| Batch::new(size, Sampling::WithReplacement)),
    ]
    .prop_map(Result::unwrap)
}

/// A few distinct rows, each of which may be repeated.
fn minimum() -> impl Strategy<Value = Instance> {
    (1..=5_usize, 1..=6_usize, 1..=7_usize)
        .prop_flat_map(|(distinct, columns, rows)| {
            let values = collection::vec(entry(), distinct * columns);
            let order = collection::vec(0..distinct, rows);
            (Just(columns), values, order, batch(rows))
        })
        .prop_map(|(columns, values, order, batch)| {
            let jacobian =
                RowMatrix::from_fn(order.len(), columns, |i, j| values[order[i] * columns + j]);
            Instance::Minimum(MinimumInstance { jacobian, batch })
        })
}

/// A few distinct rows, dealt to samples of up to 3 outputs.
fn outputs() -> impl Strategy<Value = Instance> {
    (1..=5_usize, 1..=5_usize, 1..=3_usize, 1..=4_usize)
        .prop_flat_map(|(distinct, columns, outputs, samples)| {
            let values = collection::vec(entry(), distinct * columns);
            let order = collection::vec(0..distinct, samples * outputs);
            (Just((columns, outputs)), values, order, batch(samples))
        })
        .prop_map(|((columns, output_count), values, order, batch)| {
            let jacobian =
                RowMatrix::from_fn(order.len(), columns, |i, j| values[order[i] * columns + j]);
            Instance::Outputs(OutputsInstance { jacobian, output_count, batch })
        })
}

/// Hidden directions are repeated with factors, so that parallel and opposite neurons are common.
fn relu() -> impl Strategy<Value = Instance> {
    (1..=6_usize, 1..=5_usize, any::<u64>())
        .prop_flat_map(|(width, dim, seed)| {
            let directions = collection::vec(entry(), width * dim);
            let neurons = collection::vec((any::<sample::Index>(), entry(), entry()), width);
            (Just((width, dim, seed)), directions, neurons)
        })
        .prop_map(|((width, dim, seed), directions, neurons)| {
            let model = TwoLayerRelu::new(width, dim).unwrap();
            let mut parameters = Vec::new();
            let mut output = Vec::new();
            for (index, factor, a) in neurons {
                let start = index.index(width) * dim;
                let w: Vec<f64> =
                    directions[start..][..dim].iter().map(|value| factor * value).collect();
                // The hypothesis: a dead neuron is not read out.
                output.push(if w.iter().all(|value| value.abs() <= 0.0) { 0.0 } else { a });
                parameters.extend(w);
            }
            parameters.extend(output);
            let inputs = sphere_inputs(200, dim, &mut stream(seed, "inputs", 0));
            Instance::Relu(ReluInstance::new(model, parameters, inputs).unwrap())
        })
}

fn diagonal() -> impl Strategy<Value = Instance> {
    (1..=6_usize, any::<u64>(), 0.01..10.0_f64)
        .prop_flat_map(|(dim, seed, variance)| {
            (Just((dim, seed, variance)), collection::vec(entry(), 2 * dim))
        })
        .prop_map(|((dim, seed, variance), parameters)| {
            let model = DiagonalLinear::new(dim).unwrap();
            let unit = cube_inputs(200, dim, &mut stream(seed, "inputs", 0));
            let side = (3.0 * variance).sqrt();
            let inputs = RowMatrix::from_fn(200, dim, |i, j| side * unit.row(i)[j]);
            Instance::Diagonal(DiagonalInstance::new(model, parameters, variance, inputs).unwrap())
        })
}

fn step() -> impl Strategy<Value = Instance> {
    (1..=4_usize, 1..=4_usize, prop_oneof![Just(0.0), 1e-3..10.0_f64])
        .prop_flat_map(|(dim, size, rate)| {
            let parameters = collection::vec(entry(), 2 * dim);
            let inputs = collection::vec(entry(), size * dim);
            (Just((dim, rate)), parameters, inputs, collection::vec(entry(), size))
        })
        .prop_map(|((dim, rate), parameters, inputs, residuals)| {
            let model = DiagonalLinear::new(dim).unwrap();
            let inputs = RowMatrix::new(residuals.len(), dim, inputs).unwrap();
            let step = DiagonalStepInstance::new(model, parameters, inputs, residuals, rate);
            Instance::DiagonalStep(step.unwrap())
        })
}

/// Rank at most 3: the dense operator has dimension r(2r + 1).
fn momentum() -> impl Strategy<Value = Instance> {
    (1..=3_usize, 1..=5_usize, prop_oneof![Just(0.0), 0.0..0.99_f64])
        .prop_flat_map(|(columns, rows, momentum)| {
            let values = collection::vec(entry(), rows * columns);
            (Just((columns, rows, momentum)), values, batch(rows))
        })
        .prop_map(|((columns, rows, momentum), values, batch)| {
            let jacobian = RowMatrix::new(rows, columns, values).unwrap();
            let minimum = MinimumInstance { jacobian, batch };
            Instance::Momentum(MomentumInstance { minimum, momentum })
        })
}

fn relu_step() -> impl Strategy<Value = Instance> {
    (1..=4_usize, 1..=4_usize, prop_oneof![Just(0.0), 1e-3..10.0_f64])
        .prop_flat_map(|(width, dim, rate)| {
            let parameters = collection::vec(entry(), width * (dim + 1));
            (Just((width, dim, rate)), parameters, collection::vec(entry(), dim), entry())
        })
        .prop_map(|((width, dim, rate), parameters, input, residual)| {
            let model = TwoLayerRelu::new(width, dim).unwrap();
            let step = ReluStepInstance::new(model, parameters, input, residual, rate);
            Instance::ReluStep(step.unwrap())
        })
}

fn inputs_of_a_class() -> impl Strategy<Value = Instance> {
    (1..=8_usize, 1..=2_usize, 0.0..10.0_f64)
        .prop_flat_map(|(count, dim, path_norm)| {
            (Just((count, dim, path_norm)), collection::vec(entry(), count * dim))
        })
        .prop_map(|((count, dim, path_norm), values)| {
            let inputs = RowMatrix::new(count, dim, values).unwrap();
            Instance::Sample(SampleInstance::new(inputs, path_norm).unwrap())
        })
}

fn recovery() -> impl Strategy<Value = Instance> {
    (1..=5_usize, 1..=6_usize, 0.01..10.0_f64)
        .prop_flat_map(|(count, dim, variance)| {
            let inputs = collection::vec(entry(), count * dim);
            (Just((count, dim, variance)), inputs, collection::vec(entry(), dim))
        })
        .prop_map(|((count, dim, variance), inputs, coefficients)| {
            let inputs = RowMatrix::new(count, dim, inputs).unwrap();
            Instance::Recovery(RecoveryInstance::new(inputs, coefficients, variance).unwrap())
        })
}

fn interpolation() -> impl Strategy<Value = Instance> {
    (1..=5_usize, 0.01..10.0_f64, any::<u64>(), collection::vec(entry(), 1..=6))
        .prop_map(|(count, variance, seed, coefficients)| {
            let mut rng = stream(seed, "designs", 0);
            let side = (3.0 * variance).sqrt();
            let mut design = || {
                let unit = cube_inputs(count, coefficients.len(), &mut rng);
                RowMatrix::from_fn(count, coefficients.len(), |i, j| side * unit.row(i)[j])
            };
            let designs = (0..200).map(|_| design()).collect();
            InterpolationInstance::new(coefficients, designs, variance)
        })
        .prop_map(|instance| Instance::Interpolation(instance.unwrap()))
}

/// Every statement about the domain holds on the instance.
fn check(instance: &Instance) -> Result<(), TestCaseError> {
    for statement in Statement::ALL {
        if statement.entry().domain == instance.domain() {
            for comparison in statement.check(Form::Stated, instance).unwrap() {
                prop_assert!(comparison.holds(TOLERANCE), "{comparison:?}");
            }
        }
    }
    Ok(())
}

// The sampled comparisons raise a false alarm once in 10⁹.
proptest! {
    #[test]
    fn statements_about_minima_hold(instance in minimum()) {
        check(&instance)?;
    }

    #[test]
    fn statements_about_momentum_hold(instance in momentum()) {
        check(&instance)?;
    }

    #[test]
    fn statements_about_several_outputs_hold(instance in outputs()) {
        check(&instance)?;
    }

    #[test]
    fn statements_about_relu_networks_hold(instance in relu()) {
        check(&instance)?;
    }

    #[test]
    fn statements_about_diagonal_networks_hold(instance in diagonal()) {
        check(&instance)?;
    }

    #[test]
    fn statements_about_steps_hold(instance in prop_oneof![step(), relu_step()]) {
        check(&instance)?;
    }

    #[test]
    fn statements_about_samples_hold(instance in inputs_of_a_class()) {
        check(&instance)?;
    }

    #[test]
    fn statements_about_interpolators_hold(instance in prop_oneof![recovery(), interpolation()]) {
        check(&instance)?;
    }
}

#[test]
fn every_statement_survives_and_every_mutant_dies() {
    for statement in Statement::ALL {
        let verification = verify(statement, 1, 0..300).unwrap();
        assert!(verification.passed(), "{verification:#?}");
    }
}

#[test]
fn a_statement_refuses_instances_of_another_domain() {
    let instance = Instance::random(Domain::DiagonalStep, &mut stream(0, "wrong instance", 0));
    let error = Statement::S2.check(Form::Stated, &instance).unwrap_err();
    assert_eq!(error.to_string(), "S2 speaks about Minimum instances, got DiagonalStep");
}
