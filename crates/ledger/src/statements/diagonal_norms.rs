//! D1 and D2: sharpness of the population and norms of a diagonal linear network.

use flatmin_linalg::Sharpness;
use flatmin_models::data::cube_inputs;
use flatmin_models::{DiagonalLinear, Model as _};
use flatmin_theory::{lambda_max_bound, trace_bound};

use crate::families::diagonal::{DIAGONAL_INPUTS, Population, random_parameters};
use crate::families::monte_carlo::{SAMPLES, mean_is};
use crate::families::network::NetworkInstance;
use crate::prelude::*;

pub(super) static D1: Statement = Statement {
    id: "D1",
    title: "Sharpness of diagonal networks is a norm of the coefficients",
    words: "The population trace is 2s² r(θ)‖β‖₁, at least 2s²‖β‖₁; the Frobenius norm is at least \
            2s²‖β‖₂ and the largest eigenvalue at least 2s²‖β‖_∞. If |a_j| = |b_j| for all j all \
            three are equalities; for trace and Frobenius norm only then.",
    latex: r"\operatorname{tr}\bar G = 2s^2 r(\theta)\|\beta\|_1 \ge 2s^2\|\beta\|_1,\quad \|\bar G\|_F \ge 2s^2\|\beta\|_2,\quad \lambda_{\max}(\bar G) \ge 2s^2\|\beta\|_\infty",
    hypotheses: "inputs with independent coordinates of mean 0 and variance s²; β ≠ 0 where the \
                 balance ratio r(θ) enters",
    source: PAPER,
    check_words: "The sharpness of the dense population matrix against the norms; and the mean of \
                  ‖∇f(x)‖² over random inputs, with rigorous confidence.",
    mutant_words: "4s² instead of 2s²",
    trial: &Trial { generate: DiagonalInstance::random, check: check_norms },
};

pub(super) static D2: Statement = Statement {
    id: "D2",
    title: "Stable diagonal networks have small coefficients",
    words: "Where the population condition of SGD with batches of one holds, tr Ḡ ≤ 2/η, the l1 \
            norm of the coefficients is at most 1/(s²η); where that of gradient descent holds, \
            λ_max(Ḡ) ≤ 2/η, only the largest coefficient is.",
    latex: r"\operatorname{tr}\bar G \le \tfrac2\eta \implies \|\beta\|_1 \le \frac{1}{s^2\eta}, \qquad \lambda_{\max}(\bar G) \le \tfrac2\eta \implies \|\beta\|_\infty \le \frac{1}{s^2\eta}",
    hypotheses: DIAGONAL_INPUTS,
    source: PAPER,
    check_words: "The norms against both bounds at the largest learning rate that each condition \
                  admits.",
    mutant_words: "1/(2s²η) instead of 1/(s²η)",
    trial: &Trial { generate: DiagonalInstance::random, check: check_stable_norms },
};

/// A diagonal linear network with inputs drawn for it, whose coordinates are independent and
/// uniform on `[−√3 s, √3 s]`.
#[derive(Debug, Clone, PartialEq)]
pub struct DiagonalInstance {
    /// The network and its inputs.
    pub network: NetworkInstance<DiagonalLinear>,
    /// Variance s² of a coordinate of an input.
    pub input_variance: f64,
}

impl DiagonalInstance {
    fn random(mut rng: &mut dyn Rng) -> Self {
        let dim = size(rng);
        let input_variance = power_of_ten(rng, 2.0);
        let side = (3.0 * input_variance).sqrt();
        let unit = cube_inputs(SAMPLES, dim, &mut rng);
        let network = NetworkInstance {
            model: DiagonalLinear::new(dim).expect("sizes are drawn from 1 on"),
            parameters: random_parameters(dim, rng),
            inputs: RowMatrix::from_fn(SAMPLES, dim, |i, j| side * unit.row(i)[j]),
        };
        Self { network, input_variance }
    }

    fn population(&self) -> Population<'_> {
        let NetworkInstance { model, parameters, .. } = &self.network;
        Population { model: *model, parameters, input_variance: self.input_variance }
    }
}

impl Instance for DiagonalInstance {
    fn sizes(&self) -> String {
        format!("d = {}, s² = {}", self.network.model.input_dim(), self.input_variance)
    }
}

/// The comparisons of D1, except the sampled one, on a network whose population Gauss–Newton matrix
/// has this sharpness, for inputs with independent coordinates of mean zero and variance
/// `input_variance` = s².
///
/// # Panics
/// When `parameters` does not have 2d entries.
pub fn diagonal_norm_checks(
    model: &DiagonalLinear,
    parameters: &[f64],
    input_variance: f64,
    population: &Sharpness,
) -> Vec<Comparison> {
    let network = Population { model: *model, parameters, input_variance };
    compare_norms(Form::Stated, network, population)
}

fn check_norms(form: Form, instance: &DiagonalInstance) -> Checked {
    let population = instance.population();
    let mut comparisons = compare_norms(form, population, &population.sharpness()?);
    comparisons.push(sampled_trace(form, instance));
    Ok(comparisons)
}

fn check_stable_norms(form: Form, instance: &DiagonalInstance) -> Checked {
    let population = instance.population();
    let sharpness = population.sharpness()?;
    let DiagonalNorms { l1, largest, .. } = DiagonalNorms::new(population);
    let numerator = form.pick(1.0, 0.5) / instance.input_variance;
    let sgd = numerator / trace_bound(sharpness.trace, 1.0);
    let gd = numerator / lambda_max_bound(sharpness.lambda_max);
    Ok(Comparison::all_at_most([
        ("l1 norm of stable minima, SGD", l1, sgd),
        ("largest coefficient of stable minima, GD", largest, gd),
    ]))
}

/// The norms of `β = a ⊙ b`, and the imbalance of the layers.
struct DiagonalNorms {
    l1: f64,
    l2: f64,
    largest: f64,
    /// `Σ_j (|a_j| − |b_j|)²`.
    imbalance: f64,
}

impl DiagonalNorms {
    fn new(Population { model, parameters, .. }: Population<'_>) -> Self {
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

fn compare_norms(form: Form, network: Population<'_>, sharpness: &Sharpness) -> Vec<Comparison> {
    let Population { model, parameters, input_variance } = network;
    let Sharpness { trace, frobenius_norm, lambda_max } = *sharpness;
    let norms = DiagonalNorms::new(network);
    let factor = form.pick(2.0, 4.0) * input_variance;
    let largest = factor * norms.largest;
    let equal = |name, rhs| Comparison::equal(name, trace, rhs, trace);
    let mut comparisons = vec![
        Comparison::at_most("l1 norm and trace", factor * norms.l1, trace),
        Comparison::at_most("l2 norm and Frobenius norm", factor * norms.l2, frobenius_norm),
        Comparison::at_most("largest coefficient and eigenvalue", largest, lambda_max),
        equal("trace and imbalance", factor * norms.l1 + input_variance * norms.imbalance),
    ];
    let ratio = model.balance_ratio(parameters);
    // β = 0 has no balance ratio.
    if ratio.is_finite() {
        comparisons.push(equal("trace and balance ratio", factor * ratio * norms.l1));
    }
    comparisons
}

/// Samples of `‖∇f(x)‖² = Σ_j (a_j² + b_j²) x_j²`, each between 0 and `3s²‖θ‖²`.
fn sampled_trace(form: Form, instance: &DiagonalInstance) -> Comparison {
    let DiagonalInstance { network, input_variance } = instance;
    let inputs = &network.inputs;
    let samples: Vec<f64> =
        (0..inputs.rows()).map(|i| network.squared_gradient(inputs.row(i))).collect();
    let squares: f64 = network.parameters.iter().map(|v| v * v).sum();
    let expected = form.pick(1.0, 2.0) * input_variance * squares;
    let range = 3.0 * input_variance * squares;
    mean_is("sampled trace and balance", expected, &samples, range)
}

#[cfg(test)]
mod tests {
    use flatmin_models::DiagonalLinear;

    use super::diagonal_norm_checks;
    use crate::comparison::{Comparison, TOLERANCE};
    use crate::families::diagonal::Population;

    fn checks(parameters: &[f64], input_variance: f64) -> Vec<Comparison> {
        let model = DiagonalLinear::new(parameters.len() / 2).unwrap();
        let sharpness = Population { model, parameters, input_variance }.sharpness().unwrap();
        diagonal_norm_checks(&model, parameters, input_variance, &sharpness)
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
