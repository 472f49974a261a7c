//! Thresholds, contraction bounds and noise floors of every optimizer, sampling and loss, compared
//! with dense second-moment operators.
//!
//! `oracles/optimizers.py` computes the values of `oracles/optimizers.json` from the recursions of
//! PyTorch's optimizers, by the spectral radius of the whole map of the second moments.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use faer::Mat;
use flatmin_linalg::{Parallelism, RowMatrix};
use flatmin_theory::{
    Batch, GramSum, Minimum, Optimizer, OutputHessians, Preconditioner, contraction_bound,
    noise_floor, threshold,
};
use serde_json::Value;

fn cases() -> Vec<Value> {
    serde_json::from_str(include_str!("oracles/optimizers.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        value => vec![value.as_f64().unwrap()],
    }
}

/// The minimum of a case, with its loss and preconditioner.
fn minimum(case: &Value) -> Minimum {
    let outputs = usize::try_from(case["outputs"].as_u64().unwrap()).unwrap();
    let rows = case["jacobian"].as_array().unwrap().len();
    let values = numbers(&case["jacobian"]);
    let columns = values.len() / rows;
    let mut jacobian = Mat::from_fn(rows, columns, |i, j| values[i * columns + j]);
    if case["preconditioner"].is_array() {
        let preconditioner = Preconditioner::new(numbers(&case["preconditioner"])).unwrap();
        jacobian = preconditioner.scale(jacobian.as_ref(), 0);
    }
    if case["logits"].is_array() {
        let logits = RowMatrix::new(rows / outputs, outputs, numbers(&case["logits"])).unwrap();
        let loss = OutputHessians::softmax(&logits).unwrap();
        jacobian = loss.weigh(jacobian.as_ref()).unwrap();
    }
    let mut sum = GramSum::with_outputs(rows / outputs, outputs, Parallelism::Sequential).unwrap();
    sum.add(jacobian.as_ref()).unwrap();
    sum.minimum().unwrap()
}

fn optimizer(settings: &Value) -> Optimizer {
    let setting = |name: &str| settings[name].as_f64().unwrap_or(0.0);
    let mut optimizer = Optimizer::sgd().momentum(setting("momentum")).unwrap();
    optimizer = optimizer.dampening(setting("dampening")).unwrap();
    if settings["nesterov"] == true {
        optimizer = optimizer.nesterov().unwrap();
    }
    optimizer = optimizer.weight_decay(setting("weight_decay")).unwrap();
    optimizer.decoupled_weight_decay(setting("decoupled_weight_decay")).unwrap()
}

fn batch(case: &Value) -> Batch {
    let sampling = case["sampling"].as_str().unwrap().replace('_', "-").parse().unwrap();
    Batch::new(usize::try_from(case["batch_size"].as_u64().unwrap()).unwrap(), sampling).unwrap()
}

#[test]
fn every_optimizer_sampling_and_loss_has_its_threshold() {
    let mut count = 0;
    for instance in cases() {
        let minimum = minimum(&instance);
        for case in instance["cases"].as_array().unwrap() {
            let optimizer = optimizer(&case["optimizer"]);
            let found = threshold(&minimum, &optimizer, &batch(case)).unwrap();
            let expected = case["threshold"].as_f64().unwrap();
            let error = (found.midpoint() / expected - 1.0).abs();
            // The reference bisects a spectral radius.
            assert!(error < 1e-8, "{case}: {} instead of {expected}", found.midpoint());
            assert!(found.relative_width() < 1e-9, "{case}: {found:?}");
            count += 1;
        }
    }
    assert_eq!(count, 96);
}

#[test]
fn contraction_turns_where_the_dense_operator_says() {
    let mut count = 0;
    for instance in cases() {
        let minimum = minimum(&instance);
        for case in instance["cases"].as_array().unwrap() {
            let Some(expected) = case["contraction_bound"].as_f64() else { continue };
            let noise = batch(case).noise(minimum.sample_count()).unwrap();
            let found = contraction_bound(&minimum, noise).unwrap();
            assert!((found / expected - 1.0).abs() < 1e-10, "{case}: {found}");
            count += 1;
        }
    }
    assert!(count >= 4, "{count}");
}

#[test]
fn noise_floors_are_those_of_the_stationary_law() {
    let mut count = 0;
    for instance in cases() {
        if !instance["residuals"].is_array() {
            continue;
        }
        let (minimum, residuals) = (minimum(&instance), numbers(&instance["residuals"]));
        for case in instance["cases"].as_array().unwrap() {
            let expected = &case["noise_floor"];
            let Some(rate) = expected["learning_rate"].as_f64() else { continue };
            let optimizer = optimizer(&case["optimizer"]);
            let floor = noise_floor(&minimum, &optimizer, &batch(case), rate, &residuals);
            let floor = floor.unwrap().unwrap();
            let still = expected["loss_at_minimum"].as_f64().unwrap();
            let total = expected["training_loss"].as_f64().unwrap();
            assert!((floor.training_loss / total - 1.0).abs() < 1e-10, "{case}: {floor:?}");
            assert!((floor.training_loss - floor.excess - still).abs() < 1e-14 * still);
            count += 1;
        }
    }
    assert!(count >= 20, "{count}");
}

/// Gradient descent: the closed limits of S15.
#[test]
fn full_batches_have_the_limits_of_gradient_descent() {
    let jacobian = RowMatrix::new(3, 2, vec![1.0, 0.5, -0.3, 2.0, 0.7, 0.1]).unwrap();
    let minimum = Minimum::new(&jacobian).unwrap();
    let largest = minimum.sharpness().lambda_max;
    let all = Batch::new(3, flatmin_theory::Sampling::WithoutReplacement).unwrap();
    let sgd = Optimizer::sgd();
    let (beta, w) = (0.9, 0.05);
    let heavy = sgd.momentum(beta).unwrap();
    let nesterov = heavy.nesterov().unwrap();
    let adam = heavy.dampening(beta).unwrap();
    let limits = [
        (sgd, 2.0 / largest),
        (sgd.weight_decay(w).unwrap(), 2.0 / (largest + w)),
        (sgd.decoupled_weight_decay(w).unwrap(), 2.0 / (largest + w)),
        (heavy, 2.0 * (1.0 + beta) / largest),
        (heavy.weight_decay(w).unwrap(), 2.0 * (1.0 + beta) / (largest + w)),
        (nesterov, 2.0 * (1.0 + beta) / ((1.0 + 2.0 * beta) * largest)),
        // 38/η of Cohen et al. (2022).
        (adam, 38.0 / largest),
        (
            adam.decoupled_weight_decay(w).unwrap(),
            // e + f = 2(1+Δ) with decay ηw: η(λ(1−β) + (1+β)w) = 2(1+β).
            2.0 * (1.0 + beta) / ((1.0 - beta) * largest + (1.0 + beta) * w),
        ),
    ];
    for (optimizer, expected) in limits {
        let found = threshold(&minimum, &optimizer, &all).unwrap().midpoint();
        assert!((found / expected - 1.0).abs() < 1e-12, "{optimizer}: {found} or {expected}");
    }
}
