//! Two-layer ReLU networks on one input, with the inputs that they are trained on.

use flatmin_models::{KnotPrices, Model as _, Side, UnivariateParameters, UnivariateRelu};

use super::network::NetworkInstance;
use crate::prelude::*;

/// A network on one input with its training inputs, and a sampling of batches of them.
#[derive(Debug, Clone, PartialEq)]
pub struct UnivariateInstance {
    /// The network and its training inputs.
    pub network: NetworkInstance<UnivariateRelu>,
    /// The batch size and the sampling.
    pub batch: Batch,
}

impl Instance for UnivariateInstance {
    fn sizes(&self) -> String {
        let NetworkInstance { model, inputs, .. } = &self.network;
        format!("m = {}, n = {}, {}", model.width(), inputs.rows(), batch_words(self.batch))
    }
}

/// A neuron `a max(wx + b, 0)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Neuron {
    pub(crate) w: f64,
    pub(crate) b: f64,
    pub(crate) a: f64,
}

impl Neuron {
    /// The side on which the neuron is active, its knot and its bend; none without a knot.
    pub(crate) fn bend(self) -> Option<(Side, f64, f64)> {
        let side = if self.w > 0.0 { Side::Right } else { Side::Left };
        (self.w.abs() > 0.0).then(|| (side, -self.b / self.w, self.a * self.w.abs()))
    }

    /// The neuron with this bend at `place`, active on `side`, whose share of the trace at `inputs`
    /// is the least: `|w| √mean (X−τ)₊² = |a| √mean (1+X²)1`.
    pub(crate) fn balanced(side: Side, place: f64, bend: f64, inputs: &[f64]) -> Self {
        let [distances, slopes] = side_sums(side, place, inputs);
        // A neuron that is silent on the inputs has any balance.
        let ratio = if distances > 0.0 { (slopes / distances).sqrt().sqrt() } else { 1.0 };
        let w = side.sign() * ratio * bend.abs().sqrt();
        Self { w, b: -w * place, a: (bend.abs().sqrt() / ratio).copysign(bend) }
    }
}

/// `mean (X − τ)₊²` and `mean (1 + X²)1(X > τ)` over the inputs on one side of τ.
pub(crate) fn side_sums(side: Side, place: f64, inputs: &[f64]) -> [f64; 2] {
    let beyond = inputs.iter().filter(|x| side.sign() * (**x - place) > 0.0);
    let sums = beyond.fold([0.0; 2], |[distances, slopes], x| {
        [distances + (x - place) * (x - place), slopes + 1.0 + x * x]
    });
    sums.map(|sum| sum / inputs.len() as f64)
}

/// A network of the neurons, with output bias `output_bias`.
pub(crate) fn network_of(neurons: &[Neuron], output_bias: f64) -> (UnivariateRelu, Vec<f64>) {
    // At least one neuron, which may be silent.
    let silent = [Neuron { w: 0.0, b: 0.0, a: 0.0 }];
    let neurons = if neurons.is_empty() { &silent[..] } else { neurons };
    let layer = |value: fn(&Neuron) -> f64| neurons.iter().map(value).collect::<Vec<f64>>();
    let parameters = [layer(|n| n.w), layer(|n| n.b), layer(|n| n.a), vec![output_bias]].concat();
    (UnivariateRelu::new(neurons.len()).expect("at least one neuron"), parameters)
}

impl UnivariateInstance {
    /// A network with at most 7 neurons on at most 6 inputs, from one of several deliberately hard
    /// families.
    pub(crate) fn random(rng: &mut dyn Rng) -> Self {
        let inputs = random_inputs(rng);
        let neurons = random_neurons(&inputs, rng);
        let (model, parameters) = network_of(&neurons, normal(rng));
        let count = inputs.len();
        let inputs = RowMatrix::from_fn(count, 1, |i, _| inputs[i]);
        let batch = random_batch(count, rng);
        Self { network: NetworkInstance { model, parameters, inputs }, batch }
    }

    pub(crate) fn neurons(&self) -> Vec<Neuron> {
        let UnivariateParameters { input_weights, biases, output_weights, .. } =
            self.network.model.split(&self.network.parameters);
        let weights = input_weights.iter().zip(biases).zip(output_weights);
        weights.map(|((&w, &b), &a)| Neuron { w, b, a }).collect()
    }

    pub(crate) fn inputs(&self) -> &[f64] {
        self.network.inputs.values()
    }

    pub(crate) fn prices(&self) -> KnotPrices {
        KnotPrices::new(self.inputs())
    }

    /// The Jacobian at the inputs.
    pub(crate) fn jacobian(&self) -> RowMatrix {
        let NetworkInstance { model, parameters, inputs } = &self.network;
        model.jacobian(parameters, inputs)
    }

    /// Replaces the neurons and the output bias; inputs and batches stay.
    pub(crate) fn with_neurons(&self, neurons: &[Neuron], output_bias: f64) -> Self {
        let (model, parameters) = network_of(neurons, output_bias);
        let inputs = self.network.inputs.clone();
        Self { network: NetworkInstance { model, parameters, inputs }, batch: self.batch }
    }
}

/// The trace of the Gauss–Newton matrix from the Jacobian.
pub(crate) fn trace_of(jacobian: &RowMatrix) -> f64 {
    jacobian.values().iter().map(|g| g * g).sum::<f64>() / jacobian.rows() as f64
}

/// Inputs of any scale; those on a grid make knots on the inputs exact.
fn random_inputs(rng: &mut dyn Rng) -> Vec<f64> {
    let count: usize = rng.random_range(1..=6);
    let mut inputs: Vec<f64> = (0..count).map(|_| normal(rng)).collect();
    match rng.random_range(0..5) {
        // Generic.
        0 => {}
        // On a grid, with repetitions.
        1 => inputs.iter_mut().for_each(|x| *x = (4.0 * *x).round() / 4.0),
        // Far from zero, or of another scale.
        2 => {
            let (shift, scale) = (2.0 * normal(rng), power_of_ten(rng, 1.0));
            for x in &mut inputs {
                *x = scale * (*x + shift);
            }
        }
        // Symmetric.
        3 => {
            let half = count.div_ceil(2);
            (0..half).for_each(|i| inputs[count - 1 - i] = -inputs[i]);
        }
        // Equally spaced.
        _ => inputs.iter_mut().enumerate().for_each(|(i, x)| *x = i as f64 - 1.5),
    }
    inputs
}

fn random_neurons(inputs: &[f64], rng: &mut dyn Rng) -> Vec<Neuron> {
    let width = size(rng);
    let low = inputs.iter().copied().fold(f64::INFINITY, f64::min);
    let high = inputs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // Equal inputs have a width too, so that no knot is on an input up to rounding.
    let width_of_inputs = if high > low { high - low } else { 1.0 };
    let mut neurons: Vec<Neuron> = (0..width)
        .map(|_| {
            // Most knots lie among the inputs.
            let place = low + width_of_inputs * rng.random_range(-0.2..1.2);
            let w = normal(rng);
            Neuron { w, b: -w * place, a: normal(rng) }
        })
        .collect();
    match rng.random_range(0..7) {
        // Generic.
        0 => {}
        // Unbalanced and heavy-tailed.
        1 => {
            for neuron in &mut neurons {
                let scale = power_of_ten(rng, 2.0);
                *neuron = Neuron { w: scale * neuron.w, b: scale * neuron.b, a: neuron.a };
            }
        }
        // Knots on inputs: the weights are powers of two, so that the products are exact.
        2 => {
            for neuron in &mut neurons {
                let x = inputs[rng.random_range(0..inputs.len())];
                let w = [0.5, -1.0, 2.0, -0.25][rng.random_range(0..4_usize)];
                *neuron = Neuron { w, b: -w * x, a: neuron.a };
            }
        }
        // Shared knots, with bends that add up or cancel.
        3 => {
            let first = neurons[0];
            for (j, neuron) in neurons.iter_mut().enumerate().skip(1) {
                let sign = if rng.random_bool(0.5) { 1.0 } else { -1.0 };
                let scale = sign * [1.0, 2.0][j % 2];
                *neuron = Neuron { w: scale * first.w, b: scale * first.b, a: neuron.a };
            }
        }
        // Some neurons without a knot, of which some are constant and some silent.
        4 => {
            for neuron in &mut neurons {
                if rng.random_bool(0.5) {
                    neuron.w = 0.0;
                }
            }
        }
        // Balanced neurons on any side.
        5 => {
            for neuron in &mut neurons {
                if let Some((side, place, bend)) = neuron.bend() {
                    *neuron = Neuron::balanced(side, place, bend, inputs);
                }
            }
        }
        // Balanced pairs that mirror each other, on inputs that may be symmetric.
        _ => {
            for j in 0..neurons.len() / 2 {
                if let Some((side, place, bend)) = neurons[2 * j].bend() {
                    let Neuron { w, b, a } = Neuron::balanced(side, place, bend, inputs);
                    (neurons[2 * j], neurons[2 * j + 1]) =
                        (Neuron { w, b, a }, Neuron { w: -w, b, a });
                }
            }
        }
    }
    neurons
}
