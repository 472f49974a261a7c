//! Checks of R1–R5 and R7: sharpness of the population, norms and a step of a two-layer ReLU
//! network.

use std::f64::consts::PI;

use faer::Mat;
use flatmin_linalg::{Sharpness, simd, symmetric_eigenvalues};
use flatmin_models::{Model as _, TwoLayerRelu};

use super::monte_carlo::mean_is;
use super::{Comparison, Form, ReluInstance, ReluStepInstance, Statement};
use crate::LedgerError;
use flatmin_theory::{lambda_max_bound, trace_bound};

/// The statements R1–R4 on a network whose population Gauss–Newton matrix has this sharpness.
///
/// Hypothesis: `w_j ≠ 0` wherever `a_j ≠ 0`; with dead neurons R1 and the lower bounds of R2 and R3
/// can fail. The rank in R4 is bounded by d per neuron with `a_j ≠ 0` and 1 per other neuron, which
/// makes the lower bound a little weaker and needs no eigenvalues. Costs O(md).
///
/// # Panics
/// When `parameters` has not m(d + 1) entries.
pub fn relu_norm_checks(
    model: &TwoLayerRelu,
    parameters: &[f64],
    population: &Sharpness,
) -> Vec<Comparison> {
    let network = Network::new(*model, parameters, *population);
    let statements = [Statement::R1, Statement::R2, Statement::R3, Statement::R4];
    statements.iter().flat_map(|statement| network.compare(*statement, Form::Stated)).collect()
}

pub(super) fn check(
    statement: Statement,
    form: Form,
    instance: &ReluInstance,
) -> Result<Vec<Comparison>, LedgerError> {
    let ReluInstance { model, parameters, .. } = instance;
    let network = Network::new(*model, parameters, dense_sharpness(*model, parameters)?);
    let mut comparisons = network.compare(statement, form);
    if statement == Statement::R1 {
        comparisons.push(network.sampled_trace(form, instance));
    }
    Ok(comparisons)
}

/// R7, for every neuron: the step is taken through the gradient of the model. The mutant adds
/// `a_j²‖x‖²` instead of subtracting it.
pub(super) fn check_step(form: Form, step: &ReluStepInstance) -> Vec<Comparison> {
    let ReluStepInstance { model, parameters, input, residual, learning_rate } = step;
    let mut gradient = vec![0.0; parameters.len()];
    model.gradient(parameters, input, &mut gradient);
    let mut after = parameters.clone();
    simd::axpy(-learning_rate * residual, &gradient, &mut after);
    let ((hidden, output), (hidden_after, output_after)) =
        (model.split(parameters), model.split(&after));
    let squared_norm = simd::norm_squared(input);
    let step = learning_rate * residual;
    (0..model.width())
        .map(|j| {
            let weights =
                |hidden: &'_ [f64]| hidden[j * model.input_dim()..][..model.input_dim()].to_vec();
            let (w, w_after) = (weights(hidden), weights(hidden_after));
            let (a, z) = (output[j], simd::dot(&w, input));
            let lhs = output_after[j].powi(2) - simd::norm_squared(&w_after);
            let sign = form.pick(1.0, -1.0);
            let change = if z > 0.0 { z * z - sign * a * a * squared_norm } else { 0.0 };
            let rhs = a * a - simd::norm_squared(&w) + step * step * change;
            // The largest that any partial sum on the way can be.
            let factor = 1.0 + step.abs() * squared_norm.sqrt();
            let scale = (factor * (a.abs() + simd::norm_squared(&w).sqrt())).powi(2);
            Comparison::equal(Statement::R7, "balance after a step", lhs, rhs, scale)
        })
        .collect()
}

/// The norms of a network and the sharpness of its population matrix.
struct Network {
    input_dim: f64,
    /// `‖W‖_F²` and `‖a‖²`.
    hidden: f64,
    output: f64,
    path_norm: f64,
    /// `Σ_j (‖w_j‖ − √d |a_j|)²`.
    imbalance: f64,
    rank_bound: f64,
    population: Sharpness,
}

impl Network {
    fn new(model: TwoLayerRelu, parameters: &[f64], population: Sharpness) -> Self {
        let d = model.input_dim() as f64;
        let (hidden, output) = model.split(parameters);
        let (mut imbalance, mut rank_bound) = (0.0, 0.0);
        for (w, a) in hidden.chunks_exact(model.input_dim()).zip(output) {
            let norm = simd::norm_squared(w).sqrt();
            imbalance += (norm - d.sqrt() * a.abs()).powi(2);
            rank_bound += if a.abs() > 0.0 { d } else { 1.0 };
        }
        Self {
            input_dim: d,
            hidden: model.hidden_norm_squared(parameters),
            output: model.output_norm_squared(parameters),
            path_norm: model.path_norm(parameters),
            imbalance,
            rank_bound,
            population,
        }
    }

    /// R1: `tr Ḡ = ½(‖W‖_F² + d‖a‖²)`. The mutant forgets d.
    fn weighted_norm(&self, form: Form) -> f64 {
        f64::midpoint(self.hidden, form.pick(self.input_dim, 1.0) * self.output)
    }

    fn compare(&self, statement: Statement, form: Form) -> Vec<Comparison> {
        let Sharpness { trace, frobenius_norm, lambda_max } = self.population;
        let (d, path_norm) = (self.input_dim, self.path_norm);
        let at_most = |name, lhs, rhs| Comparison::at_most(statement, name, lhs, rhs);
        match statement {
            Statement::R1 => {
                let rhs = self.weighted_norm(form);
                vec![Comparison::equal(statement, "trace and weighted norm", trace, rhs, trace)]
            }
            Statement::R2 => {
                let bound = form.pick(d.sqrt(), 2.0 * d.sqrt()) * path_norm;
                let balanced = bound + 0.5 * self.imbalance;
                vec![
                    at_most("path norm and trace", bound, trace),
                    Comparison::equal(statement, "trace and imbalance", trace, balanced, trace),
                ]
            }
            Statement::R3 => {
                let (hidden, output, upper, path) =
                    form.pick((2.0 * PI, 4.0, 0.5, 2.0), (PI, 2.0, 0.25, 0.5));
                let path_bound = path_norm / (path * (2.0 * PI).sqrt());
                let upper_bound = upper * (self.hidden + self.output);
                vec![
                    at_most("hidden norm and eigenvalue", self.hidden / hidden, lambda_max),
                    at_most("output norm and eigenvalue", self.output / output, lambda_max),
                    at_most("eigenvalue and norm", lambda_max, upper_bound),
                    at_most("path norm and eigenvalue", path_bound, lambda_max),
                ]
            }
            Statement::R4 => {
                let (lower, upper) = form.pick((1.0, 1.0), (2.0, 0.5));
                let flat = lower * trace / self.rank_bound.sqrt();
                let product = upper * (lambda_max * trace).sqrt();
                vec![
                    at_most("eigenvalue and Frobenius norm", lower * lambda_max, frobenius_norm),
                    at_most("trace and Frobenius norm", flat, frobenius_norm),
                    at_most("Frobenius norm and product", frobenius_norm, product),
                ]
            }
            Statement::R5 => {
                let (sgd, gd) = (trace_bound(trace, 1.0), lambda_max_bound(lambda_max));
                let (trace_constant, gd_constant) = form.pick((2.0, 4.0), (1.0, 0.5));
                let sgd_bound = trace_constant / (d.sqrt() * sgd);
                let gd_bound = gd_constant * (2.0 * PI).sqrt() / gd;
                vec![
                    at_most("path norm of stable minima, SGD", path_norm, sgd_bound),
                    at_most("path norm of stable minima, GD", path_norm, gd_bound),
                ]
            }
            _ => Vec::new(),
        }
    }

    /// R1 against samples of `‖∇f(x)‖²`, on pairs x, −x: every neuron is active on just one of the
    /// two, so the mean of a pair varies by at most `½d‖W‖_F²`.
    fn sampled_trace(&self, form: Form, instance: &ReluInstance) -> Comparison {
        let ReluInstance { model, parameters, inputs } = instance;
        let mut gradient = vec![0.0; model.parameter_count()];
        let mut squared_norm = |input: &[f64]| {
            model.gradient(parameters, input, &mut gradient);
            gradient.iter().map(|g| g * g).sum::<f64>()
        };
        let samples: Vec<f64> = (0..inputs.rows())
            .map(|i| {
                let opposite: Vec<f64> = inputs.row(i).iter().map(|x| -x).collect();
                f64::midpoint(squared_norm(inputs.row(i)), squared_norm(&opposite))
            })
            .collect();
        let range = 0.5 * self.input_dim * self.hidden;
        let expected = self.weighted_norm(form);
        mean_is(Statement::R1, "sampled trace and weighted norm", expected, &samples, range)
    }
}

/// The sharpness of the population matrix with its largest eigenvalue from the dense matrix.
fn dense_sharpness(model: TwoLayerRelu, parameters: &[f64]) -> Result<Sharpness, LedgerError> {
    let population = model.population(parameters);
    let p = model.parameter_count();
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
    let values = symmetric_eigenvalues(matrix.as_ref())?;
    Ok(Sharpness {
        trace: population.trace(),
        frobenius_norm: population.frobenius_norm(),
        lambda_max: values.last().copied().unwrap_or(0.0),
    })
}

#[cfg(test)]
mod tests {
    use flatmin_models::TwoLayerRelu;

    use super::{dense_sharpness, relu_norm_checks};
    use crate::{Comparison, TOLERANCE};

    fn checks(input_dim: usize, hidden: &[f64], output: &[f64]) -> Vec<Comparison> {
        let model = TwoLayerRelu::new(output.len(), input_dim).unwrap();
        let parameters = [hidden, output].concat();
        let population = dense_sharpness(model, &parameters).unwrap();
        relu_norm_checks(&model, &parameters, &population)
    }

    #[track_caller]
    fn assert_attained(comparisons: &[Comparison], name: &str) {
        let comparison = comparisons.iter().find(|c| c.name == name).unwrap();
        assert!(comparison.slack.abs() <= TOLERANCE, "{comparison:?}");
    }

    #[test]
    fn balance_attains_the_path_norm() {
        let balanced = checks(4, &[2.0, 0.0, 0.0, 0.0, 0.0, 0.0, -4.0, 0.0], &[1.0, -2.0]);
        assert_attained(&balanced, "path norm and trace");
        let unbalanced = checks(4, &[2.0, 0.0, 0.0, 0.0], &[1.1]);
        assert!(unbalanced.iter().all(|c| c.holds(TOLERANCE)));
        assert!(unbalanced.iter().any(|c| c.name == "path norm and trace" && c.slack > 1e-3));
    }

    #[test]
    fn one_neuron_attains_the_upper_bounds() {
        let single = checks(1, &[-3.0], &[2.0]);
        assert_attained(&single, "eigenvalue and norm");
        assert_attained(&single, "trace and Frobenius norm");
        assert_attained(&single, "Frobenius norm and product");
    }

    #[test]
    fn opposite_neurons_attain_the_output_bound() {
        // The directions are all but free of W: λ_max = ¼‖a‖² up to ‖W‖².
        let opposite = checks(1, &[1e-9, -1e-9], &[2.0, -2.0]);
        assert_attained(&opposite, "output norm and eigenvalue");
    }

    #[test]
    fn a_dead_neuron_needs_the_hypothesis() {
        let dead = checks(2, &[0.0, 0.0, 1.0, 1.0], &[5.0, 1.0]);
        assert!(dead.iter().any(|c| c.name == "trace and weighted norm" && !c.holds(0.1)));
        let without = checks(2, &[0.0, 0.0, 1.0, 1.0], &[0.0, 1.0]);
        assert!(without.iter().all(|c| c.holds(TOLERANCE)));
    }
}
