//! U3: the least trace of the univariate ReLU networks that interpolate.

use flatmin_models::Model as _;
use flatmin_theory::dense_threshold;

use super::function_norms::UNIVARIATE;
use crate::families::univariate::{Neuron, UnivariateInstance, trace_of};
use crate::least_trace::{LEAST_TRACE_TOLERANCE, LeastTrace, LeastTraceError, least_trace};
use crate::prelude::*;

pub(super) static U3: Statement = Statement {
    id: "U3",
    title: "The least trace of an interpolating function",
    words: "The least trace of any network of any width that interpolates the data is 1 + 2 LP, LP \
            the linear program min Σ|c_j|h(τ_j) over knots and sides subject to interpolation. So \
            no interpolating minimum is stable for SGD beyond η_max = 2/(p(1 + 2 LP)).",
    latex: r"\min_{f(x_i) = y_i} \operatorname{tr} G = 1 + 2\min\left\{\sum_j |c_j|\,h_\pm(\tau_j) : c + \sum_j c_j\,(\pm(x_i - \tau_j))_+ = y_i\right\}",
    hypotheses: UNIVARIATE,
    source: FLATMIN,
    check_words: "The data are the outputs of a network. Its trace, that of the same function with \
                  other balances and with neurons that cancel, and their exact thresholds against \
                  the dual bound of the program; the trace of the network that the program \
                  constructs, which interpolates, against the same bound.",
    mutant_words: "1 + 4 LP instead of 1 + 2 LP, and 1 + LP",
    trial: &Trial { generate: UnivariateInstance::random, check },
};

fn check(form: Form, instance: &UnivariateInstance) -> Checked {
    let inputs = instance.inputs();
    let network = &instance.network;
    let targets = network.model.outputs(&network.parameters, &network.inputs);
    let solution = match least_trace(inputs, &targets) {
        Ok(solution) => solution,
        // What the solver cannot certify is no evidence against the statement.
        Err(LeastTraceError::NotCertified { .. } | LeastTraceError::LinearProgram) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error.into()),
    };
    let LeastTrace { lower, upper, .. } = solution;
    let constructed = construct(instance, &solution);
    let p = instance.batch.noise_coefficient(inputs.len());
    let mut comparisons = Vec::new();
    for other in [instance, &rescaled(instance), &with_cancelling(instance), &constructed] {
        let jacobian = other.jacobian();
        let trace = trace_of(&jacobian);
        let least = 1.0 + form.pick(2.0, 4.0) * proved(other, &solution);
        comparisons.push(Comparison::at_most("least trace and interpolators", least, trace));
        let minimum = Minimum::new(&jacobian)?;
        if let Ok(p) = p {
            let threshold = dense_threshold(&minimum, &instance.batch)?;
            let most = 2.0 / (p * least);
            let name = "threshold of interpolators and η_max";
            comparisons.push(Comparison::at_most(name, threshold, most));
        }
    }
    // The bound is attained up to the gap of the program.
    let attained = (1.0 + LEAST_TRACE_TOLERANCE) * (1.0 + form.pick(2.0, 1.0) * lower);
    let trace = trace_of(&constructed.jacobian());
    comparisons.push(Comparison::at_most("trace of the constructed network", trace, attained));
    if form == Form::Stated {
        let bound = (1.0 + LEAST_TRACE_TOLERANCE) * upper;
        comparisons.push(Comparison::at_most("dual and primal value", lower, bound));
        let (deviation, size) = deviation(&constructed, &targets);
        let allowed = (1.0 + 2.0 * LEAST_TRACE_TOLERANCE) * size;
        let name = "constructed network and data";
        comparisons.push(Comparison::at_most(name, size + deviation, allowed));
    }
    Ok(comparisons)
}

/// What ν proves about the trace of a network with the outputs `f(x_i)`: `Σ ν_i f(x_i)`.
///
/// These are the network's own outputs and not the data: the network that the program constructs
/// meets the data up to [`LEAST_TRACE_TOLERANCE`] only, and a trace may be lower by as much.
fn proved(instance: &UnivariateInstance, solution: &LeastTrace) -> f64 {
    let network = &instance.network;
    let outputs = network.model.outputs(&network.parameters, &network.inputs);
    let mean = outputs.iter().sum::<f64>() / outputs.len() as f64;
    // The sum of ν is zero up to rounding, so that the mean may be taken off.
    outputs.iter().zip(&solution.dual).map(|(f, nu)| (f - mean) * nu).sum()
}

/// The largest deviation of the outputs of a network from the targets, and the largest target.
fn deviation(instance: &UnivariateInstance, targets: &[f64]) -> (f64, f64) {
    let network = &instance.network;
    let outputs = network.model.outputs(&network.parameters, &network.inputs);
    let deviations = outputs.iter().zip(targets).map(|(f, y)| (f - y).abs());
    let size = targets.iter().fold(0.0_f64, |most, y| most.max(y.abs()));
    (deviations.fold(0.0, f64::max), size)
}

/// The network of the solution, with balanced neurons on the sides that it names.
fn construct(instance: &UnivariateInstance, solution: &LeastTrace) -> UnivariateInstance {
    let neurons: Vec<Neuron> = solution
        .knots
        .iter()
        .map(|k| Neuron::balanced(k.side, k.place, k.bend, instance.inputs()))
        .collect();
    instance.with_neurons(&neurons, solution.output_bias)
}

/// A network with the function of `instance` and other balances. The factors are powers of two, so
/// that the function is the same to the bit.
fn rescaled(instance: &UnivariateInstance) -> UnivariateInstance {
    let neurons: Vec<Neuron> = instance
        .neurons()
        .iter()
        .enumerate()
        .map(|(j, n)| {
            let factor = [2.0, 0.5, 1.0][j % 3];
            Neuron { w: factor * n.w, b: factor * n.b, a: n.a / factor }
        })
        .collect();
    instance.with_neurons(&neurons, output_bias(instance))
}

/// A network with the function of `instance` and two more neurons, which cancel.
fn with_cancelling(instance: &UnivariateInstance) -> UnivariateInstance {
    let mut neurons = instance.neurons();
    let place = instance.inputs()[0] - 0.375;
    neurons.extend([1.0, -1.0].map(|a| Neuron { w: 1.0, b: -place, a }));
    instance.with_neurons(&neurons, output_bias(instance))
}

fn output_bias(instance: &UnivariateInstance) -> f64 {
    instance.network.model.split(&instance.network.parameters).output_bias
}
