//! R1–R5: sharpness of the population and norms of a two-layer ReLU network.

use std::f64::consts::PI;

use flatmin_linalg::Sharpness;
use flatmin_models::data::sphere_inputs;
use flatmin_models::{Model as _, TwoLayerRelu};
use flatmin_theory::{lambda_max_bound, trace_bound};

use crate::families::monte_carlo::{SAMPLES, mean_is};
use crate::families::network::NetworkInstance;
use crate::families::relu::random_network;
use crate::prelude::*;

const RELU_INPUTS: &str =
    "inputs from the sphere of radius √d or N(0, I_d); w_j ≠ 0 wherever a_j ≠ 0";

/// A two-layer ReLU network with inputs drawn for it.
///
/// Hypothesis of every statement about such networks: `w_j ≠ 0` wherever `a_j ≠ 0`. A neuron with
/// `w_j = 0` is dead, since the derivative of the ReLU at zero is zero, but its `a_j` would count
/// in the norms.
pub type ReluInstance = NetworkInstance<TwoLayerRelu>;

impl Instance for ReluInstance {
    fn sizes(&self) -> String {
        format!("m = {}, d = {}", self.model.width(), self.model.input_dim())
    }
}

fn generate(mut rng: &mut dyn Rng) -> ReluInstance {
    let (model, parameters) = random_network(rng);
    let inputs = sphere_inputs(SAMPLES, model.input_dim(), &mut rng);
    NetworkInstance { model, parameters, inputs }
}

/// The comparisons of R1–R4 on a network whose population Gauss–Newton matrix has this sharpness,
/// except the sampled one of R1.
///
/// Hypothesis: `w_j ≠ 0` wherever `a_j ≠ 0`; with dead neurons R1 and the lower bounds of R2 and R3
/// can fail. The rank in R4 is bounded by d per neuron with `a_j ≠ 0` and 1 per other neuron, which
/// makes the lower bound a little weaker and needs no eigenvalues. Costs O(md).
///
/// # Panics
/// When `parameters` does not have m(d + 1) entries.
pub fn relu_norm_checks(
    model: &TwoLayerRelu,
    parameters: &[f64],
    population: &Sharpness,
) -> Vec<Comparison> {
    let network = ReluNorms::new(*model, parameters, *population);
    let form = Form::Stated;
    [
        network.trace(form),
        network.path_norm(form),
        network.lambda_max(form),
        network.frobenius(form),
    ]
    .concat()
}

pub(super) static R1: Statement = Statement {
    id: "R1",
    title: "The trace is a weighted norm",
    words: "The trace of the population Gauss–Newton matrix is half the squared norm of the hidden \
            weights plus d/2 times that of the output weights.",
    latex: r"\operatorname{tr}\bar G = \tfrac12\left(\|W\|_F^2 + d\|a\|^2\right)",
    hypotheses: RELU_INPUTS,
    source: PAPER,
    check_words: "The trace of the population operator; and the mean of ‖∇f(x)‖² over random \
                  inputs, with rigorous confidence.",
    mutant_words: "without the factor d",
    trial: &Trial { generate, check: check_trace },
};

fn check_trace(form: Form, instance: &ReluInstance) -> Checked {
    let network = ReluNorms::of(instance)?;
    let mut comparisons = network.trace(form);
    comparisons.push(network.sampled_trace(form, instance));
    Ok(comparisons)
}

pub(super) static R2: Statement = Statement {
    id: "R2",
    title: "The trace bounds the path norm",
    words: "The population trace is at least √d times the path norm. The difference is ½ Σ (‖w_j‖ \
            − √d|a_j|)², so the two are equal if and only if every neuron is balanced.",
    latex: r"\operatorname{tr}\bar G = \sqrt d\,\|\theta\|_{\mathcal P} + \tfrac12\sum_j\left(\|w_j\| - \sqrt d\,|a_j|\right)^2 \ge \sqrt d\,\|\theta\|_{\mathcal P}",
    hypotheses: RELU_INPUTS,
    source: PAPER,
    check_words: "The trace of the population operator against the norms.",
    mutant_words: "2√d instead of √d",
    trial: &Trial { generate, check: |form, relu| Ok(ReluNorms::of(relu)?.path_norm(form)) },
};

pub(super) static R3: Statement = Statement {
    id: "R3",
    title: "The largest eigenvalue is equivalent to the unweighted norm",
    words: "The largest eigenvalue of the population matrix lies between max(‖W‖_F²/2π, ‖a‖²/4) \
            and ½(‖W‖_F² + ‖a‖²), hence is at least ‖θ‖_P/(2√(2π)).",
    latex: r"\max\left(\tfrac{1}{2\pi}\|W\|_F^2, \tfrac14\|a\|^2\right) \le \lambda_{\max}(\bar G) \le \tfrac12\left(\|W\|_F^2 + \|a\|^2\right)",
    hypotheses: RELU_INPUTS,
    source: "flatmin, sharpening Wu and Su (2023)",
    check_words: "The largest eigenvalue of the population matrix, formed dense, against the \
                  norms.",
    mutant_words: "lower bounds doubled (the one on the path norm times four), the upper halved",
    trial: &Trial { generate, check: |form, relu| Ok(ReluNorms::of(relu)?.lambda_max(form)) },
};

pub(super) static R4: Statement = Statement {
    id: "R4",
    title: "The Frobenius norm lies between",
    words: "The Frobenius norm of the population matrix is at least its largest eigenvalue and its \
            trace over the square root of its rank, and at most the geometric mean of largest \
            eigenvalue and trace.",
    latex: r"\max\left(\lambda_{\max}, \operatorname{tr}/\sqrt{\operatorname{rank}}\right) \le \|\bar G\|_F \le \sqrt{\lambda_{\max}\operatorname{tr}}",
    hypotheses: RELU_INPUTS,
    source: "linear algebra",
    check_words: "The sharpness of the population matrix, with its largest eigenvalue from the \
                  dense matrix.",
    mutant_words: "lower bounds doubled, the upper halved",
    trial: &Trial { generate, check: |form, relu| Ok(ReluNorms::of(relu)?.frobenius(form)) },
};

pub(super) static R5: Statement = Statement {
    id: "R5",
    title: "Stable networks have a small path norm",
    words: "Where the population condition of SGD with batches of one holds, tr Ḡ ≤ 2/η, the path \
            norm is at most 2/(√d η); where that of gradient descent holds, λ_max(Ḡ) ≤ 2/η, it is \
            at most 4√(2π)/η.",
    latex: r"\operatorname{tr}\bar G \le \tfrac2\eta \implies \|\theta\|_{\mathcal P} \le \frac{2}{\sqrt d\,\eta}, \qquad \lambda_{\max}(\bar G) \le \tfrac2\eta \implies \|\theta\|_{\mathcal P} \le \frac{4\sqrt{2\pi}}{\eta}",
    hypotheses: RELU_INPUTS,
    source: PAPER,
    check_words: "The path norm against both bounds at the largest learning rate that each \
                  condition admits.",
    mutant_words: "1/(√d η), and √(2π)/(2η)",
    trial: &Trial { generate, check: |form, relu| Ok(ReluNorms::of(relu)?.stable_norm(form)) },
};

/// The norms of a network and the sharpness of its population matrix.
struct ReluNorms {
    input_dim: f64,
    /// `‖W‖_F²` and `‖a‖²`.
    hidden: f64,
    output: f64,
    path: f64,
    /// `Σ_j (‖w_j‖ − √d |a_j|)²`.
    imbalance: f64,
    rank_bound: f64,
    population: Sharpness,
}

impl ReluNorms {
    fn of(instance: &ReluInstance) -> Result<Self, LedgerError> {
        let ReluInstance { model, parameters, .. } = instance;
        Ok(Self::new(*model, parameters, dense_sharpness(*model, parameters)?))
    }

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
            path: model.path_norm(parameters),
            imbalance,
            rank_bound,
            population,
        }
    }

    /// `½(‖W‖_F² + d‖a‖²)`. The mutant leaves out d.
    fn weighted(&self, form: Form) -> f64 {
        f64::midpoint(self.hidden, form.pick(self.input_dim, 1.0) * self.output)
    }

    /// The comparisons of R1 on the trace.
    fn trace(&self, form: Form) -> Vec<Comparison> {
        let trace = self.population.trace;
        vec![Comparison::equal("trace and weighted norm", trace, self.weighted(form), trace)]
    }

    /// The comparisons of R2 on the path norm.
    fn path_norm(&self, form: Form) -> Vec<Comparison> {
        let trace = self.population.trace;
        let root = self.input_dim.sqrt();
        let bound = form.pick(root, 2.0 * root) * self.path;
        let balanced = bound + 0.5 * self.imbalance;
        vec![
            Comparison::at_most("path norm and trace", bound, trace),
            Comparison::equal("trace and imbalance", trace, balanced, trace),
        ]
    }

    /// The comparisons of R3 on the largest eigenvalue.
    fn lambda_max(&self, form: Form) -> Vec<Comparison> {
        let lambda_max = self.population.lambda_max;
        let (hidden, output, upper, path) =
            form.pick((2.0 * PI, 4.0, 0.5, 2.0), (PI, 2.0, 0.25, 0.5));
        let path_bound = self.path / (path * (2.0 * PI).sqrt());
        let upper_bound = upper * (self.hidden + self.output);
        let (hidden_bound, output_bound) = (self.hidden / hidden, self.output / output);
        Comparison::all_at_most([
            ("hidden norm and eigenvalue", hidden_bound, lambda_max),
            ("output norm and eigenvalue", output_bound, lambda_max),
            ("eigenvalue and norm", lambda_max, upper_bound),
            ("path norm and eigenvalue", path_bound, lambda_max),
        ])
    }

    /// The comparisons of R4 on the Frobenius norm.
    fn frobenius(&self, form: Form) -> Vec<Comparison> {
        let Sharpness { trace, frobenius_norm: norm, lambda_max } = self.population;
        let (lower, upper) = form.pick((1.0, 1.0), (2.0, 0.5));
        let flat = lower * trace / self.rank_bound.sqrt();
        let product = upper * (lambda_max * trace).sqrt();
        Comparison::all_at_most([
            ("eigenvalue and Frobenius norm", lower * lambda_max, norm),
            ("trace and Frobenius norm", flat, norm),
            ("Frobenius norm and product", norm, product),
        ])
    }

    /// The comparisons of R5 on the path norm of stable minima.
    fn stable_norm(&self, form: Form) -> Vec<Comparison> {
        let sgd = trace_bound(self.population.trace, 1.0);
        let gd = lambda_max_bound(self.population.lambda_max);
        let (trace_constant, gd_constant) = form.pick((2.0, 4.0), (1.0, 0.5));
        let sgd_bound = trace_constant / (self.input_dim.sqrt() * sgd);
        let gd_bound = gd_constant * (2.0 * PI).sqrt() / gd;
        Comparison::all_at_most([
            ("path norm of stable minima, SGD", self.path, sgd_bound),
            ("path norm of stable minima, GD", self.path, gd_bound),
        ])
    }

    /// The comparison of R1 with samples of `‖∇f(x)‖²`, on pairs x, −x: every neuron is active on
    /// just one of the two, so the mean of a pair varies by at most `½d‖W‖_F²`.
    fn sampled_trace(&self, form: Form, instance: &ReluInstance) -> Comparison {
        let inputs = &instance.inputs;
        let pair = |i: usize| {
            let opposite: Vec<f64> = inputs.row(i).iter().map(|x| -x).collect();
            let squared = |input| instance.squared_gradient(input);
            f64::midpoint(squared(inputs.row(i)), squared(&opposite))
        };
        let samples: Vec<f64> = (0..inputs.rows()).map(pair).collect();
        let range = 0.5 * self.input_dim * self.hidden;
        mean_is("sampled trace and weighted norm", self.weighted(form), &samples, range)
    }
}

/// The sharpness of the population matrix, with the largest eigenvalue of the dense matrix.
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
    use crate::comparison::{Comparison, TOLERANCE};

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
        // W hardly contributes: λ_max = ¼‖a‖² up to ‖W‖².
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
