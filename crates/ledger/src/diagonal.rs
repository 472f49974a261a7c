//! Checks of D1, D2 and D5: diagonal linear networks.

use faer::Mat;
use flatmin_linalg::{RowMatrix, Sharpness, symmetric_eigenvalues};
use flatmin_models::{DiagonalLinear, Model as _};

use super::monte_carlo::mean_is;
use super::{Comparison, DiagonalInstance, DiagonalStepInstance, Form, Statement};
use crate::LedgerError;
use flatmin_theory::{lambda_max_bound, trace_bound};

/// The statement D1 on a network whose population Gauss–Newton matrix has this sharpness, for
/// inputs with independent coordinates of mean zero and variance `input_variance` = s².
///
/// # Panics
/// When `parameters` has not 2d entries.
pub fn diagonal_norm_checks(
    model: &DiagonalLinear,
    parameters: &[f64],
    input_variance: f64,
    population: &Sharpness,
) -> Vec<Comparison> {
    norm_checks(Form::Stated, *model, parameters, input_variance, population)
}

pub(super) fn check(
    statement: Statement,
    form: Form,
    instance: &DiagonalInstance,
) -> Result<Vec<Comparison>, LedgerError> {
    let DiagonalInstance { model, parameters, input_variance, .. } = instance;
    let population = dense_sharpness(*model, parameters, *input_variance)?;
    match statement {
        Statement::D1 => {
            let mut comparisons =
                norm_checks(form, *model, parameters, *input_variance, &population);
            comparisons.push(sampled_trace(form, instance));
            Ok(comparisons)
        }
        Statement::D2 => {
            let norms = Norms::new(*model, parameters);
            let numerator = form.pick(1.0, 0.5) / input_variance;
            let sgd = trace_bound(population.trace, 1.0);
            let gd = lambda_max_bound(population.lambda_max);
            let at_most = |name, lhs, rhs| Comparison::at_most(statement, name, lhs, rhs);
            Ok(vec![
                at_most("l1 norm of stable minima, SGD", norms.l1, numerator / sgd),
                at_most("largest coefficient of stable minima, GD", norms.largest, numerator / gd),
            ])
        }
        _ => Ok(Vec::new()),
    }
}

/// The norms of `β = a ⊙ b`, and how far from balance the layers are.
struct Norms {
    l1: f64,
    l2: f64,
    largest: f64,
    /// `Σ_j (|a_j| − |b_j|)²`.
    imbalance: f64,
}

impl Norms {
    fn new(model: DiagonalLinear, parameters: &[f64]) -> Self {
        let (a, b) = model.split(parameters);
        let coefficients = model.coefficients(parameters);
        Self {
            l1: model.l1_norm(parameters),
            l2: coefficients.iter().map(|c| c * c).sum::<f64>().sqrt(),
            largest: coefficients.iter().fold(0.0, |m, c| m.max(c.abs())),
            imbalance: a.iter().zip(b).map(|(a, b)| (a.abs() - b.abs()).powi(2)).sum(),
        }
    }
}

fn norm_checks(
    form: Form,
    model: DiagonalLinear,
    parameters: &[f64],
    input_variance: f64,
    population: &Sharpness,
) -> Vec<Comparison> {
    let Sharpness { trace, frobenius_norm, lambda_max } = *population;
    let norms = Norms::new(model, parameters);
    let factor = form.pick(2.0, 4.0) * input_variance;
    let at_most = |name, lhs, rhs| Comparison::at_most(Statement::D1, name, lhs, rhs);
    let equal = |name, rhs| Comparison::equal(Statement::D1, name, trace, rhs, trace);
    let mut comparisons = vec![
        at_most("l1 norm and trace", factor * norms.l1, trace),
        at_most("l2 norm and Frobenius norm", factor * norms.l2, frobenius_norm),
        at_most("largest coefficient and eigenvalue", factor * norms.largest, lambda_max),
        equal("trace and imbalance", factor * norms.l1 + input_variance * norms.imbalance),
    ];
    let ratio = model.balance_ratio(parameters);
    // β = 0 has no balance ratio.
    if ratio.is_finite() {
        comparisons.push(equal("trace and balance ratio", factor * ratio * norms.l1));
    }
    comparisons
}

/// D1 against samples of `‖∇f(x)‖² = Σ_j (a_j² + b_j²) x_j²`, between 0 and `3s²‖θ‖²`.
fn sampled_trace(form: Form, instance: &DiagonalInstance) -> Comparison {
    let DiagonalInstance { model, parameters, input_variance, inputs } = instance;
    let mut gradient = vec![0.0; model.parameter_count()];
    let samples: Vec<f64> = (0..inputs.rows())
        .map(|i| {
            model.gradient(parameters, inputs.row(i), &mut gradient);
            gradient.iter().map(|g| g * g).sum()
        })
        .collect();
    let squares: f64 = parameters.iter().map(|v| v * v).sum();
    let expected = form.pick(1.0, 2.0) * input_variance * squares;
    let range = 3.0 * input_variance * squares;
    mean_is(Statement::D1, "sampled trace and balance", expected, &samples, range)
}

/// The trace of the population matrix: the mean of `‖∇f(x)‖²` over the d points `s√d e_j`, which
/// have the covariance `s² I`.
pub(super) fn population_trace(
    model: DiagonalLinear,
    parameters: &[f64],
    input_variance: f64,
) -> f64 {
    let d = model.input_dim();
    let radius = (input_variance * d as f64).sqrt();
    let points = RowMatrix::from_fn(d, d, |i, j| if i == j { radius } else { 0.0 });
    let jacobian = model.jacobian(parameters, &points);
    jacobian.values().iter().map(|g| g * g).sum::<f64>() / d as f64
}

/// The sharpness of the dense population matrix. Its entries are second moments of the inputs, so
/// the mean of `∇f ∇fᵀ` over the d points `s√d e_j`, which have the covariance `s² I`, is exact.
pub(super) fn dense_sharpness(
    model: DiagonalLinear,
    parameters: &[f64],
    input_variance: f64,
) -> Result<Sharpness, LedgerError> {
    let d = model.input_dim();
    let radius = (input_variance * d as f64).sqrt();
    let points = RowMatrix::from_fn(d, d, |i, j| if i == j { radius } else { 0.0 });
    let jacobian = model.jacobian(parameters, &points);
    let product = jacobian.as_mat().transpose() * jacobian.as_mat();
    let matrix: Mat<f64> = faer::Scale(1.0 / d as f64) * product;
    let values = symmetric_eigenvalues(matrix.as_ref())?;
    Ok(Sharpness {
        trace: (0..matrix.nrows()).map(|k| matrix[(k, k)]).sum(),
        frobenius_norm: matrix.norm_l2(),
        lambda_max: values.last().copied().unwrap_or(0.0),
    })
}

/// D5, for every coordinate: the step is taken through the gradient of the model.
pub(super) fn check_step(form: Form, step: &DiagonalStepInstance) -> Vec<Comparison> {
    let DiagonalStepInstance { model, parameters, inputs, residuals, learning_rate } = step;
    let d = model.input_dim();
    let batch_size = inputs.rows() as f64;
    let mut after = parameters.clone();
    let mut gradient = vec![0.0; parameters.len()];
    for (i, residual) in residuals.iter().enumerate() {
        model.gradient(parameters, inputs.row(i), &mut gradient);
        for (value, derivative) in after.iter_mut().zip(&gradient) {
            *value -= learning_rate / batch_size * residual * derivative;
        }
    }
    let ((a, b), (a_after, b_after)) = (model.split(parameters), model.split(&after));
    (0..d)
        .map(|j| {
            let terms = residuals.iter().enumerate().map(|(i, r)| r * inputs.row(i)[j]);
            let (sum, sum_of_sizes) =
                terms.fold((0.0, 0.0), |(sum, sizes), term| (sum + term, sizes + term.abs()));
            let shrinkage = (learning_rate * sum / batch_size).powi(2);
            let lhs = a_after[j].powi(2) - b_after[j].powi(2);
            let rhs = (a[j].powi(2) - b[j].powi(2)) * (1.0 - form.pick(1.0, -1.0) * shrinkage);
            // The largest that any partial sum on the way can be.
            let factor = 1.0 + learning_rate.abs() * sum_of_sizes / batch_size;
            let scale = (factor * (a[j].abs() + b[j].abs())).powi(2);
            Comparison::equal(Statement::D5, "balance after a step", lhs, rhs, scale)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use flatmin_models::DiagonalLinear;

    use super::{dense_sharpness, diagonal_norm_checks};
    use crate::{Comparison, TOLERANCE};

    fn checks(parameters: &[f64], input_variance: f64) -> Vec<Comparison> {
        let model = DiagonalLinear::new(parameters.len() / 2).unwrap();
        let population = dense_sharpness(model, parameters, input_variance).unwrap();
        diagonal_norm_checks(&model, parameters, input_variance, &population)
    }

    #[test]
    fn balance_attains_all_three_norms() {
        for comparison in checks(&[1.0, -2.0, 0.0, -1.0, -2.0, 0.0], 0.3) {
            assert!(comparison.slack.abs() <= TOLERANCE, "{comparison:?}");
        }
    }

    #[test]
    fn the_eigenvalue_needs_balance_in_one_coordinate_only() {
        // a = (3, 1), b = (3, 0.1): unbalanced, but the largest eigenvalue is the balanced one.
        let checks = checks(&[3.0, 1.0, 3.0, 0.1], 1.0);
        let slack = |name| checks.iter().find(|c| c.name == name).unwrap().slack;
        assert!(slack("largest coefficient and eigenvalue").abs() <= TOLERANCE);
        assert!(slack("l1 norm and trace") > 1e-3);
        assert!(slack("l2 norm and Frobenius norm") > 1e-3);
    }

    #[test]
    fn zero_coefficients_have_no_balance_ratio() {
        let checks = checks(&[1.0, 0.0, 0.0, 2.0], 1.0);
        assert!(checks.iter().all(|c| c.holds(TOLERANCE) && c.name != "trace and balance ratio"));
    }
}
