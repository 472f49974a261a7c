//! Two-layer ReLU networks on one input, `f(x) = Σ a_j max(w_j x + b_j, 0) + c`.

use rand::{Rng, RngExt as _};
use rand_distr::{Distribution as _, StandardNormal};

use crate::model::Model;
use crate::size::SizeError;

/// A two-layer ReLU network with biases on one input: `f(x) = Σ_j a_j max(w_j x + b_j, 0) + c`, a
/// piecewise linear function with the knots `τ_j = −b_j/w_j`.
///
/// Parameters: w (m), b (m), a (m), then c: the layout of [`Mlp`](crate::Mlp) with the widths
/// 1, m, 1 and biases, which is the same function. The derivative of the ReLU at zero is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnivariateRelu {
    width: usize,
}

/// A bend of a piecewise linear function.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Knot {
    /// The place τ.
    pub place: f64,
    /// The change of slope, the weight of δ(x − τ) in f''.
    pub bend: f64,
}

/// The parameters of a [`UnivariateRelu`] by kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UnivariateParameters<'a> {
    /// The input weights `w_j`.
    pub input_weights: &'a [f64],
    /// The biases `b_j`.
    pub biases: &'a [f64],
    /// The output weights `a_j`.
    pub output_weights: &'a [f64],
    /// The output bias c.
    pub output_bias: f64,
}

impl UnivariateRelu {
    /// A network of `width` = m neurons.
    ///
    /// # Errors
    /// [`SizeError`] when it is zero.
    pub fn new(width: usize) -> Result<Self, SizeError> {
        if width == 0 {
            return Err(SizeError { what: "the width" });
        }
        Ok(Self { width })
    }

    /// The number m of neurons.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The parameters by kind.
    ///
    /// # Panics
    /// When `parameters` does not have 3m + 1 entries.
    pub fn split<'a>(&self, parameters: &'a [f64]) -> UnivariateParameters<'a> {
        assert_eq!(parameters.len(), self.parameter_count(), "number of parameters");
        let (input_weights, rest) = parameters.split_at(self.width);
        let (biases, rest) = rest.split_at(self.width);
        let (output_weights, output_bias) = rest.split_at(self.width);
        UnivariateParameters { input_weights, biases, output_weights, output_bias: output_bias[0] }
    }

    /// Random initial parameters: `w_j, a_j ~ N(0, scale²)`, knots uniform on [−1, 1], and c = 0.
    pub fn spread_parameters(&self, scale: f64, rng: &mut impl Rng) -> Vec<f64> {
        let mut parameters = vec![0.0; self.parameter_count()];
        for j in 0..self.width {
            let weights: [f64; 2] = [(); 2].map(|()| StandardNormal.sample(rng));
            let knot: f64 = rng.random_range(-1.0..1.0);
            parameters[j] = scale * weights[0];
            parameters[self.width + j] = -parameters[j] * knot;
            parameters[2 * self.width + j] = scale * weights[1];
        }
        parameters
    }

    /// Random initial parameters as layers of PyTorch have them by default: every weight and bias
    /// is uniform on ±1/√(number of inputs of its layer).
    pub fn framework_parameters(&self, rng: &mut impl Rng) -> Vec<f64> {
        let side = 1.0 / (self.width as f64).sqrt();
        (0..self.parameter_count())
            .map(|k| if k < 2 * self.width { 1.0 } else { side })
            .map(|side| rng.random_range(-side..side))
            .collect()
    }

    /// The second derivative `f'' = Σ_j a_j |w_j| δ(x − τ_j)`: the knots in ascending order, equal
    /// ones joined. A neuron with `w_j = 0` has no knot.
    pub fn knots(&self, parameters: &[f64]) -> Vec<Knot> {
        let UnivariateParameters { input_weights, biases, output_weights, .. } =
            self.split(parameters);
        let neurons = input_weights.iter().zip(biases).zip(output_weights);
        let mut knots: Vec<Knot> = neurons
            .filter(|((w, _), _)| w.abs() > 0.0)
            // Adding zero turns −0 into 0, so that all knots at zero have one place.
            .map(|((w, b), a)| Knot { place: -b / w + 0.0, bend: a * w.abs() })
            .collect();
        knots.sort_by(|left, right| left.place.total_cmp(&right.place));
        knots.dedup_by(|next, first| {
            let is_same = next.place.total_cmp(&first.place).is_eq();
            if is_same {
                first.bend += next.bend;
            }
            is_same
        });
        knots
    }
}

impl Model for UnivariateRelu {
    fn input_dim(&self) -> usize {
        1
    }

    fn parameter_count(&self) -> usize {
        3 * self.width + 1
    }

    fn output(&self, parameters: &[f64], input: &[f64], output: &mut [f64]) {
        let UnivariateParameters { input_weights, biases, output_weights, output_bias } =
            self.split(parameters);
        assert_eq!((input.len(), output.len()), (1, 1), "dimensions");
        let neurons = input_weights.iter().zip(biases).zip(output_weights);
        let terms = neurons.map(|((w, b), a)| a * rectified(w * input[0] + b));
        output[0] = terms.sum::<f64>() + output_bias;
    }

    fn gradient(&self, parameters: &[f64], input: &[f64], gradient: &mut [f64]) {
        let m = self.width;
        let UnivariateParameters { input_weights, biases, output_weights, .. } =
            self.split(parameters);
        assert_eq!(input.len(), 1, "dimension of the input");
        assert_eq!(gradient.len(), self.parameter_count(), "entries of the gradient");
        for j in 0..m {
            let z = input_weights[j] * input[0] + biases[j];
            let slope = if z > 0.0 { output_weights[j] } else { 0.0 };
            gradient[j] = slope * input[0];
            gradient[m + j] = slope;
            gradient[2 * m + j] = rectified(z);
        }
        gradient[3 * m] = 1.0;
    }

    /// The only second derivatives are `∂²f/∂a_j∂w_j = 1(w_j x + b_j > 0) x` and
    /// `∂²f/∂a_j∂b_j = 1(w_j x + b_j > 0)`, away from the kinks.
    fn add_second_derivative(
        &self,
        parameters: &[f64],
        input: &[f64],
        weights: &[f64],
        vector: &[f64],
        product: &mut [f64],
    ) {
        let m = self.width;
        let UnivariateParameters { input_weights, biases, .. } = self.split(parameters);
        let along = self.split(vector);
        assert_eq!((input.len(), weights.len()), (1, 1), "dimensions");
        assert_eq!(product.len(), self.parameter_count(), "entries of the product");
        for j in 0..m {
            if input_weights[j] * input[0] + biases[j] > 0.0 {
                let d_a = weights[0] * along.output_weights[j];
                product[j] += d_a * input[0];
                product[m + j] += d_a;
                let moved = along.input_weights[j] * input[0] + along.biases[j];
                product[2 * m + j] += weights[0] * moved;
            }
        }
    }
}

/// `max(z, 0)`, or NaN.
fn rectified(z: f64) -> f64 {
    if z <= 0.0 { 0.0 } else { z }
}

/// The prices of a bend by its place: the weights h and g of `∫|f''|` in the bounds U2 and U1, for
/// inputs that are uniform on given numbers `x_i`.
///
/// Means run over the inputs, and inequalities are strict: an input on the knot belongs to neither
/// side.
#[derive(Debug, Clone, PartialEq)]
pub struct KnotPrices {
    inputs: Vec<f64>,
}

/// A side of a knot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The inputs below the knot.
    Left,
    /// The inputs above the knot.
    Right,
}

impl Side {
    /// Both sides.
    pub const BOTH: [Self; 2] = [Self::Left, Self::Right];

    /// 1 for the right side, −1 for the left one: the sign of the input weight of a neuron that is
    /// active on this side of its knot.
    pub fn sign(self) -> f64 {
        match self {
            Self::Left => -1.0,
            Self::Right => 1.0,
        }
    }
}

/// Sums over the inputs on one side of a knot, divided by the number of all inputs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SideMoments {
    /// The share of inputs on this side.
    pub share: f64,
    /// The mean of the distance from the knot.
    pub distance: f64,
    /// The mean of the squared distance.
    pub distance_squared: f64,
    /// The mean of the input.
    pub input: f64,
    /// The mean of 1 + the squared input.
    pub one_and_input_squared: f64,
}

impl KnotPrices {
    /// The prices for inputs that are uniform on `inputs`.
    pub fn new(inputs: &[f64]) -> Self {
        Self { inputs: inputs.to_vec() }
    }

    /// The moments of the inputs on one side of a knot.
    pub fn moments(&self, side: Side, place: f64) -> SideMoments {
        let mut sums = [0.0; 5];
        for x in &self.inputs {
            let distance = side.sign() * (x - place);
            if distance > 0.0 {
                let terms = [1.0, distance, distance * distance, *x, 1.0 + x * x];
                sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
            }
        }
        let count = self.inputs.len() as f64;
        let [share, distance, distance_squared, input, one_and_input_squared] =
            sums.map(|sum| sum / count);
        SideMoments { share, distance, distance_squared, input, one_and_input_squared }
    }

    /// The price of a bend that is made by neurons active on one side of it:
    /// `h₊(τ)² = mean (x_i − τ)₊² · mean (1 + x_i²) 1(x_i > τ)` for the right side. A neuron that
    /// makes the bend c there adds at least `2|c| h` to the trace.
    pub fn one_sided(&self, side: Side, place: f64) -> f64 {
        let moments = self.moments(side, place);
        (moments.distance_squared * moments.one_and_input_squared).sqrt()
    }

    /// The price in the trace, h = min(h₊, h₋) of U2.
    pub fn trace(&self, place: f64) -> f64 {
        let [left, right] = Side::BOTH.map(|side| self.one_sided(side, place));
        left.min(right)
    }

    /// The price in the largest eigenvalue, g = min(g₊, g₋) of U1, where
    /// `g₊(τ) = P(X > τ)² E[X − τ | X > τ] √(1 + E[X | X > τ]²)`.
    pub fn lambda_max(&self, place: f64) -> f64 {
        let [left, right] = Side::BOTH.map(|side| {
            let SideMoments { share, distance, input, .. } = self.moments(side, place);
            // P² E[X − τ | …] √(1 + E[X | …]²) from means over all inputs.
            distance * (share * share + input * input).sqrt()
        });
        left.min(right)
    }

    /// `∫|f''| h`.
    pub fn trace_norm(&self, knots: &[Knot]) -> f64 {
        knots.iter().map(|knot| knot.bend.abs() * self.trace(knot.place)).sum()
    }

    /// `∫|f''| g`.
    pub fn lambda_max_norm(&self, knots: &[Knot]) -> f64 {
        knots.iter().map(|knot| knot.bend.abs() * self.lambda_max(knot.place)).sum()
    }
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::stream;

    use super::{Knot, KnotPrices, Side, UnivariateRelu};
    use crate::model::Model as _;

    #[test]
    fn knots_are_the_bends_of_the_function() {
        // |x − 1| from two neurons that share a knot, and one with no knot.
        let model = UnivariateRelu::new(3).unwrap();
        let parameters = [1.0, -1.0, 0.0, -1.0, 1.0, 2.0, 1.0, 1.0, 5.0, 0.0];
        assert_eq!(model.knots(&parameters), [Knot { place: 1.0, bend: 2.0 }]);
        let mut output = [0.0];
        model.output(&parameters, &[-2.0], &mut output);
        assert!((output[0] - 13.0).abs() < 1e-15);
    }

    #[test]
    fn prices_are_those_of_a_hand_calculation() {
        // Inputs −1, 0, 1; right of ½ there is 1 alone: h₊ = ½√2/3 and g₊ = ½√2/9.
        let prices = KnotPrices::new(&[1.0, -1.0, 0.0]);
        let root = 2.0_f64.sqrt();
        assert!((prices.trace(0.5) - root / 6.0).abs() < 1e-15);
        assert!((prices.lambda_max(0.5) - root / 18.0).abs() < 1e-15);
        // An input on the knot belongs to neither side; outside of all inputs a bend is free.
        assert!((prices.trace(0.0) - root / 3.0).abs() < 1e-15);
        assert!(prices.trace(-1.0).abs() < 1e-15 && prices.trace(7.0).abs() < 1e-15);
        // Left of 1 there are −1 and 0 with distances 2 and 1, right of it 2 and 3 with distances 1
        // and 2: h₋² = 5/4 · 3/4, h₊² = 5/4 · 15/4, g₋ = 3/4 √(1/4 + 1/16).
        let prices = KnotPrices::new(&[3.0, -1.0, 2.0, 0.0]);
        let h = Side::BOTH.map(|side| prices.one_sided(side, 1.0));
        assert!((h[0] - 15.0_f64.sqrt() / 4.0).abs() < 1e-15, "{h:?}");
        assert!((h[1] - 75.0_f64.sqrt() / 4.0).abs() < 1e-15, "{h:?}");
        assert!((prices.trace(1.0) - 15.0_f64.sqrt() / 4.0).abs() < 1e-15);
        assert!((prices.lambda_max(1.0) - 3.0 * 5.0_f64.sqrt() / 16.0).abs() < 1e-15);
    }

    #[test]
    fn the_start_has_its_knots_among_the_inputs() {
        let model = UnivariateRelu::new(50).unwrap();
        let parameters = model.spread_parameters(2.0, &mut stream(0, "univariate test", 0));
        let knots = model.knots(&parameters);
        assert!(knots.len() == 50 && knots.iter().all(|knot| knot.place.abs() <= 1.0));
        // The parameters are proportional to the scale, and a factor of two does not round.
        let half = model.spread_parameters(1.0, &mut stream(0, "univariate test", 0));
        assert!(half.iter().zip(&parameters).all(|(h, p)| (2.0 * h).to_bits() == p.to_bits()));
        let default = model.framework_parameters(&mut stream(0, "univariate test", 0));
        assert!(default.iter().all(|value| value.abs() <= 1.0));
        assert!(default[100..].iter().all(|value| value.abs() <= 0.15));
    }
}
