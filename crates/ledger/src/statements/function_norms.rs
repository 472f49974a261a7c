//! U1 and U2: sharpness and the second derivative of a univariate ReLU network.

use flatmin_models::{Knot, Side};
use flatmin_theory::{dense_threshold, lambda_max_bound};

use crate::families::univariate::{Neuron, UnivariateInstance, side_sums, trace_of};
use crate::prelude::*;

/// Hypothesis of the statements about networks on one input.
pub(super) const UNIVARIATE: &str = "f(x) = Σ a_j max(w_j x + b_j, 0) + c, all parameters trained, \
                                     the derivative of max(z, 0) at 0 taken as 0; X uniform on the \
                                     training inputs; for stability, a zero-loss minimum, \
                                     linearised";

pub(super) static U1: Statement = Statement {
    id: "U1",
    title: "The largest eigenvalue bounds the second derivative",
    words: "The largest eigenvalue is at least 1 + 2∫|f''|g with g = min(g₊, g₋), g₊(x) = P(X > x)² \
            E[X − x | X > x] √(1 + E[X | X > x]²). So gradient descent is stable only at functions \
            with ∫|f''|g ≤ 1/η − ½.",
    latex: r"\lambda_{\max}(G) \ge 1 + 2\int |f''|\, g, \qquad \text{GD stable} \implies \int |f''|\, g \le \frac1\eta - \frac12",
    hypotheses: UNIVARIATE,
    source: "Mulayoff, Michaeli and Soudry (2021)",
    check_words: "The largest eigenvalue of the Gram matrix of the Jacobian against the bound, and \
                  the integral at the largest stable learning rate.",
    mutant_words: "4∫|f''|g instead of 2∫|f''|g, and 1/(2η) − ¼ instead of 1/η − ½",
    trial: &Trial { generate: UnivariateInstance::random, check: check_lambda_max },
};

pub(super) static U2: Statement = Statement {
    id: "U2",
    title: "The trace bounds the second derivative, with a larger weight",
    words: "The trace is at least 1 + 2∫|f''|h with h = min(h₊, h₋), h₊(x)² = mean (X−x)₊² · mean \
            (1+X²)1(X > x), with equality for balanced neurons on the cheaper sides of knots that \
            no two of opposite sign share. Always h ≥ g, and h = n g in the outermost gaps. So SGD \
            is stable only at functions with ∫|f''|h ≤ 1/(pη) − ½.",
    latex: r"\operatorname{tr} G \ge 1 + 2\int |f''|\, h, \qquad \text{SGD stable} \implies \int |f''|\, h \le \frac{1}{p\eta} - \frac12",
    hypotheses: UNIVARIATE,
    source: FLATMIN,
    check_words: "The trace of the Jacobian against the bound and against the sum over neurons with \
                  their imbalance; the trace of balanced neurons on the cheaper sides; both weights; \
                  and the integral at the exact threshold by the dense operator.",
    mutant_words: "4∫|f''|h instead of 2∫|f''|h, and 1/(2pη) − ¼ instead of 1/(pη) − ½; h ≤ g, and \
                   h = ng/2",
    trial: &Trial { generate: UnivariateInstance::random, check: check_trace },
};

fn knots(instance: &UnivariateInstance) -> Vec<Knot> {
    instance.network.model.knots(&instance.network.parameters)
}

fn check_lambda_max(form: Form, instance: &UnivariateInstance) -> Checked {
    let jacobian = instance.jacobian();
    let product = jacobian.as_mat() * jacobian.as_mat().transpose();
    let gram: Mat<f64> = faer::Scale(1.0 / jacobian.rows() as f64) * product;
    let lambda_max = symmetric_eigenvalues(gram.as_ref())?.last().copied().unwrap_or(0.0);
    let norm = instance.prices().lambda_max_norm(&knots(instance));
    let most = form.pick(1.0, 0.5) * (1.0 / lambda_max_bound(lambda_max) - 0.5);
    let bound = 1.0 + form.pick(2.0, 4.0) * norm;
    Ok(vec![
        Comparison::at_most("second derivative and eigenvalue", bound, lambda_max),
        // Of 1/η − ½ rounding leaves an error of the size of its terms.
        Comparison::at_most("second derivative at stable minima", norm + 1.0, most + 1.0),
    ])
}

fn check_trace(form: Form, instance: &UnivariateInstance) -> Checked {
    let (inputs, prices) = (instance.inputs(), instance.prices());
    let (knots, neurons) = (knots(instance), instance.neurons());
    let factor = form.pick(2.0, 4.0);
    let jacobian = instance.jacobian();
    let trace = trace_of(&jacobian);
    let norm = prices.trace_norm(&knots);
    let sum: f64 = neurons.iter().map(|neuron| share(factor, *neuron, inputs)).sum();
    let mut comparisons = vec![
        Comparison::at_most("second derivative and trace", 1.0 + factor * norm, trace),
        Comparison::equal("trace and imbalance", trace, 1.0 + sum, trace),
    ];

    let cheapest: Vec<Neuron> = knots
        .iter()
        .map(|knot| {
            let price = |side| prices.one_sided(side, knot.place);
            let is_left = price(Side::Left) < price(Side::Right);
            let side = if is_left { Side::Left } else { Side::Right };
            Neuron::balanced(side, knot.place, knot.bend, inputs)
        })
        // Rounding of b/w must not move a knot across an input.
        .filter(|neuron| inputs.iter().all(|x| (neuron.w * x + neuron.b).abs() > 1e-9))
        .collect();
    let balanced = instance.with_neurons(&cheapest, 0.0);
    let least = 1.0 + factor * prices.trace_norm(&self::knots(&balanced));
    let found = trace_of(&balanced.jacobian());
    comparisons.push(Comparison::equal("trace of balanced neurons", found, least, found));

    for knot in &knots {
        let [small, large] = [prices.lambda_max(knot.place), prices.trace(knot.place)];
        let (lhs, rhs) = form.pick((small, large), (large, small));
        comparisons.push(Comparison::at_most("weights of eigenvalue and trace", lhs, rhs));
    }
    comparisons.extend(outermost(form, instance));

    let minimum = Minimum::new(&jacobian)?;
    let p = instance.batch.noise_coefficient(minimum.sample_count())?;
    let threshold = dense_threshold(&minimum, &instance.batch)?;
    let most = form.pick(1.0, 0.5) * (1.0 / (p * threshold) - 0.5);
    let name = "second derivative at stable minima";
    comparisons.push(Comparison::at_most(name, norm + 1.0, most + 1.0));
    Ok(comparisons)
}

/// The part of the trace of one neuron, `(|w|√M − |a|√N)² + 2|aw|√(MN)` with
/// `M = mean (X−τ)₊²`, `N = mean (1+X²)1` on its side; `b² + a² mean (1+X²)` without a knot.
fn share(factor: f64, neuron: Neuron, inputs: &[f64]) -> f64 {
    match neuron.bend() {
        Some((side, place, bend)) => {
            let [distances, slopes] = side_sums(side, place, inputs).map(f64::sqrt);
            let imbalance = neuron.w.abs() * distances - neuron.a.abs() * slopes;
            imbalance * imbalance + factor * bend.abs() * distances * slopes
        }
        None if neuron.b > 0.0 => {
            let slopes = side_sums(Side::Right, f64::NEG_INFINITY, inputs)[1];
            neuron.b * neuron.b + neuron.a * neuron.a * slopes
        }
        None => 0.0,
    }
}

/// The weights in the two outermost gaps, where one input is alone on its side.
fn outermost(form: Form, instance: &UnivariateInstance) -> Vec<Comparison> {
    let prices = instance.prices();
    let mut inputs = instance.inputs().to_vec();
    inputs.sort_by(f64::total_cmp);
    let ends = |sorted: &[f64]| match sorted {
        [outer, inner, ..] if (outer - inner).abs() > 0.0 => {
            // So near the outermost input that its side is the cheaper one.
            Some(outer + 1e-4 * (inner - outer) / (1.0 + outer.abs()))
        }
        _ => None,
    };
    let low = ends(&inputs);
    inputs.reverse();
    let factor = form.pick(1.0, 0.5) * inputs.len() as f64;
    [low, ends(&inputs)]
        .into_iter()
        .flatten()
        .map(|place| {
            let (trace, lambda_max) = (prices.trace(place), prices.lambda_max(place));
            Comparison::equal("weights in the outermost gap", trace, factor * lambda_max, trace)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::RowMatrix;
    use flatmin_models::UnivariateRelu;
    use flatmin_theory::{Batch, Sampling};

    use super::{check_lambda_max, check_trace};
    use crate::comparison::TOLERANCE;
    use crate::families::network::NetworkInstance;
    use crate::families::univariate::UnivariateInstance;
    use crate::statement::Form;

    #[test]
    fn mirrored_neurons_attain_the_bound_on_the_eigenvalue() {
        // Inputs ±1, two neurons with their knot at 0 and √½ |w| = |a|.
        let root = 0.5_f64.sqrt();
        let network = NetworkInstance::new(
            UnivariateRelu::new(2).unwrap(),
            vec![1.0, -1.0, 0.0, 0.0, root, root, 0.0],
            RowMatrix::new(2, 1, vec![1.0, -1.0]).unwrap(),
        );
        let batch = Batch::new(1, Sampling::WithReplacement).unwrap();
        let instance = UnivariateInstance { network: network.unwrap(), batch };
        let comparisons = check_lambda_max(Form::Stated, &instance).unwrap();
        assert!(comparisons.iter().all(|c| c.slack.abs() < TOLERANCE), "{comparisons:?}");
        let comparisons = check_trace(Form::Stated, &instance).unwrap();
        assert!(comparisons.iter().all(|c| c.holds(TOLERANCE)), "{comparisons:?}");
    }
}
