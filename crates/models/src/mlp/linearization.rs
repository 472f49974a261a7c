//! A perceptron near one point, on many samples: forward-over-reverse products as matrix products.
//!
//! With `Z_l = H_{l−1} W_lᵀ + b_l`, `H_l = σ(Z_l)` and `δ_L` the residuals, the backward pass is
//! `P_l = δ_{l+1} W_{l+1}`, `δ_l = σ'(Z_l) ∘ P_l`, and the gradient with respect to `W_l` is
//! `δ_lᵀ H_{l−1}`. Writing ˙ for the derivative along a direction (V, c) in parameter space
//! (Pearlmutter 1994),
//!
//! ```text
//! Ż_l = H_{l−1} V_lᵀ + Ḣ_{l−1} W_lᵀ + c_l,   Ḣ_l = σ'(Z_l) ∘ Ż_l,   δ̇_L = S Ż_L,
//! Ṗ_l = δ̇_{l+1} W_{l+1} + δ_{l+1} V_{l+1},   δ̇_l = σ'(Z_l) ∘ Ṗ_l + (σ''(Z_l) ∘ P_l) ∘ Ż_l,
//! ```
//!
//! where S, the Hessian of the losses in the outputs, is the identity for the squared loss,
//! and the product with the Hessian has the part `δ̇_lᵀ H_{l−1} + δ_lᵀ Ḣ_{l−1}` for `W_l`. Without
//! the terms that contain V in the backward pass, σ'' or δ, it is the product with the Gauss–Newton
//! matrix.

use std::fmt;
use std::ops::Range;

use faer::{Accum, Mat, MatMut, MatRef};
use flatmin_linalg::{RowMatrix, matmul};

use super::network::{Layer, Mlp};
use crate::dataset::Dataset;
use crate::linearization::Linearization;
use crate::loss::OutputLoss;
use crate::model::{fill_upper, scaled_gram};

/// A hidden layer on s samples, each matrix s × m.
struct Hidden {
    /// H.
    values: Mat<f64>,
    /// σ'(Z).
    slopes: Mat<f64>,
    /// σ''(Z), multiplied by P in the backward pass; 0 × 0 if σ'' vanishes.
    bends: Mat<f64>,
}

/// A perceptron at fixed parameters on some samples, after the forward and the backward pass.
pub(super) struct MlpLinearization<'a> {
    model: &'a Mlp,
    parameters: &'a [f64],
    /// The inputs, s × d.
    inputs: MatRef<'a, f64>,
    hidden: Vec<Hidden>,
    /// `δ_l` of every layer; the last one holds the residuals.
    deltas: Vec<Mat<f64>>,
    loss: OutputLoss,
}

/// The derivatives along a direction in the forward pass.
struct Tangent {
    /// `Ż_l` of the hidden layers; 0 × 0 if σ'' vanishes.
    moved: Vec<Mat<f64>>,
    /// `Ḣ_l` of the hidden layers.
    values: Vec<Mat<f64>>,
}

fn product(sum: MatMut<'_, f64>, left: MatRef<'_, f64>, right: MatRef<'_, f64>) {
    matmul(sum, Accum::Add, left, right, 1.0);
}

/// `input Wᵀ + b`.
fn affine(layer: &Layer, parameters: &[f64], input: MatRef<'_, f64>) -> Mat<f64> {
    let mut z = Mat::zeros(input.nrows(), layer.outputs);
    let biases = layer.biases(parameters);
    let accumulate = if biases.is_empty() { Accum::Replace } else { Accum::Add };
    for (mut column, bias) in z.as_mut().col_iter_mut().zip(biases) {
        column.fill(*bias);
    }
    matmul(z.as_mut(), accumulate, input, layer.weights(parameters), 1.0);
    z
}

/// `δ W`.
fn pull(layer: &Layer, parameters: &[f64], delta: MatRef<'_, f64>) -> Mat<f64> {
    let mut pulled = Mat::zeros(delta.nrows(), layer.inputs);
    let weights = layer.weights(parameters).transpose();
    matmul(pulled.as_mut(), Accum::Replace, delta, weights, 1.0);
    pulled
}

/// Adds `δᵀ h` to the weights.
fn add_outer(layer: &Layer, delta: MatRef<'_, f64>, input: MatRef<'_, f64>, gradient: &mut [f64]) {
    let weights = &mut gradient[layer.weights.clone()];
    let weights = MatMut::from_column_major_slice_mut(weights, layer.inputs, layer.outputs);
    product(weights, input.transpose(), delta);
}

/// Adds the sums of the columns of δ to the biases.
fn add_bias(layer: &Layer, delta: MatRef<'_, f64>, gradient: &mut [f64]) {
    for (bias, column) in gradient[layer.biases.clone()].iter_mut().zip(delta.col_iter()) {
        *bias += column.iter().sum::<f64>();
    }
}

/// Calls `combine` with the columns of `target` and the same columns of `others`, as slices.
fn each_column<const N: usize>(
    target: &mut Mat<f64>,
    others: [&Mat<f64>; N],
    combine: impl Fn(&mut [f64], [&[f64]; N]),
) {
    for j in 0..target.ncols() {
        combine(target.col_as_slice_mut(j), others.map(|other| other.col_as_slice(j)));
    }
}

/// `target ∘= factor`.
fn scale(target: &mut Mat<f64>, factor: &Mat<f64>) {
    each_column(target, [factor], |target, [factor]| {
        for (target, factor) in target.iter_mut().zip(factor) {
            *target *= factor;
        }
    });
}

impl<'a> MlpLinearization<'a> {
    pub(super) fn new(
        model: &'a Mlp,
        parameters: &'a [f64],
        data: &'a Dataset,
        samples: Range<usize>,
    ) -> Self {
        let inputs = data.inputs().as_mat().subrows(samples.start, samples.end - samples.start);
        let bends = !model.activation.is_piecewise_linear();
        let (mut hidden, outputs) = Hidden::forward(model, parameters, inputs);
        let loss = data.output_loss(samples, row_by_row(outputs.as_ref()));
        let (residuals, k) = (loss.residuals(), model.output_count());
        let delta = Mat::from_fn(outputs.nrows(), k, |i, o| residuals[i * k + o]);
        let mut pulled = Vec::with_capacity(hidden.len());
        let deltas = backward(model, parameters, &hidden, delta, |product| {
            pulled.push(if bends { product.clone() } else { Mat::new() });
        });
        // The layers are taken from the top down.
        for (hidden, pulled) in hidden.iter_mut().rev().zip(pulled) {
            if bends {
                scale(&mut hidden.bends, &pulled);
            }
        }
        Self { model, parameters, inputs, hidden, deltas, loss }
    }

    /// `H_{l−1}`, the input of layer l (from 0).
    fn input(&self, l: usize) -> MatRef<'_, f64> {
        if l == 0 { self.inputs } else { self.hidden[l - 1].values.as_ref() }
    }

    /// The derivatives along `vector`, and `Ż_L = J v`, s × k.
    fn tangent(&self, vector: &[f64]) -> (Tangent, Mat<f64>) {
        self.model.check(vector);
        let bends = !self.model.activation.is_piecewise_linear();
        let last = self.model.depth() - 1;
        let (mut moved, mut values) = (Vec::with_capacity(last), Vec::<Mat<f64>>::new());
        let moved_layer = |l: usize, below: Option<&Mat<f64>>| {
            let layer = &self.model.layers[l];
            let mut z = affine(layer, vector, self.input(l));
            if let Some(below) = below {
                product(z.as_mut(), below.as_ref(), layer.weights(self.parameters));
            }
            z
        };
        for (l, hidden) in self.hidden.iter().enumerate() {
            let mut z = moved_layer(l, values.last());
            let mut value = if bends { z.clone() } else { std::mem::replace(&mut z, Mat::new()) };
            scale(&mut value, &hidden.slopes);
            moved.push(z);
            values.push(value);
        }
        let outputs = moved_layer(last, values.last());
        (Tangent { moved, values }, outputs)
    }

    /// `δ̇_L = S Ż_L`, s × k.
    fn weigh(&self, outputs: Mat<f64>) -> Mat<f64> {
        if self.loss.is_squared() {
            return outputs;
        }
        let (k, mut rows) = (outputs.ncols(), row_by_row(outputs.as_ref()));
        self.loss.multiply(&mut rows);
        Mat::from_fn(outputs.nrows(), k, |i, o| rows[i * k + o])
    }

    /// Adds `Jᵀ δ̇`. If a tangent is given with its direction, also adds the other terms of the
    /// product with the Hessian.
    fn add_backward(
        &self,
        mut delta: Mat<f64>,
        tangent: Option<(&Tangent, &[f64])>,
        sum: &mut [f64],
    ) {
        self.model.check(sum);
        for (l, layer) in self.model.layers.iter().enumerate().rev() {
            add_outer(layer, delta.as_ref(), self.input(l), sum);
            add_bias(layer, delta.as_ref(), sum);
            if l == 0 {
                return;
            }
            let hidden = &self.hidden[l - 1];
            let mut pulled = pull(layer, self.parameters, delta.as_ref());
            if let Some((tangent, vector)) = tangent {
                let fixed = self.deltas[l].as_ref();
                add_outer(layer, fixed, tangent.values[l - 1].as_ref(), sum);
                product(pulled.as_mut(), fixed, layer.weights(vector).transpose());
            }
            match tangent {
                Some((tangent, _)) if hidden.bends.nrows() > 0 => {
                    let others = [&hidden.slopes, &hidden.bends, &tangent.moved[l - 1]];
                    each_column(&mut pulled, others, |pulled, [slopes, bends, moved]| {
                        let others = slopes.iter().zip(bends).zip(moved);
                        for (pulled, ((slope, bend), moved)) in pulled.iter_mut().zip(others) {
                            *pulled = slope * *pulled + bend * moved;
                        }
                    });
                }
                _ => scale(&mut pulled, &hidden.slopes),
            }
            delta = pulled;
        }
    }
}

impl Hidden {
    /// The hidden layers and the outputs on every row of `inputs`.
    fn forward(model: &Mlp, parameters: &[f64], inputs: MatRef<'_, f64>) -> (Vec<Self>, Mat<f64>) {
        let mut hidden: Vec<Self> = Vec::with_capacity(model.depth() - 1);
        for layer in &model.layers[..model.depth() - 1] {
            let below = hidden.last().map_or(inputs, |hidden| hidden.values.as_ref());
            let mut values = affine(layer, parameters, below);
            let (slopes, bends) = model.activation.activate_layer(&mut values);
            hidden.push(Self { values, slopes, bends });
        }
        let last = &model.layers[model.depth() - 1];
        let below = hidden.last().map_or(inputs, |hidden| hidden.values.as_ref());
        let outputs = affine(last, parameters, below);
        (hidden, outputs)
    }
}

/// The outputs on every row of `inputs`, n × k row by row.
pub(super) fn outputs(model: &Mlp, parameters: &[f64], inputs: &RowMatrix) -> Vec<f64> {
    // Blocks of rows that fill a cache, so that memory does not grow with n.
    const BLOCK_ROWS: usize = 256;
    let (n, mut outputs) =
        (inputs.rows(), Vec::with_capacity(inputs.rows() * model.output_count()));
    for start in (0..n).step_by(BLOCK_ROWS) {
        let rows = inputs.as_mat().subrows(start, BLOCK_ROWS.min(n - start));
        outputs.extend(row_by_row(Hidden::forward(model, parameters, rows).1.as_ref()));
    }
    outputs
}

/// `δ_l` of every layer, computed from the deltas of the outputs. Passes `P_l` of every hidden
/// layer to `keep`.
fn backward(
    model: &Mlp,
    parameters: &[f64],
    hidden: &[Hidden],
    outputs: Mat<f64>,
    mut keep: impl FnMut(&Mat<f64>),
) -> Vec<Mat<f64>> {
    let mut deltas = vec![outputs];
    for l in (1..model.depth()).rev() {
        let above = &deltas[deltas.len() - 1];
        let mut pulled = pull(&model.layers[l], parameters, above.as_ref());
        keep(&pulled);
        scale(&mut pulled, &hidden[l - 1].slopes);
        deltas.push(pulled);
    }
    deltas.reverse();
    deltas
}

/// The factors of the Gram matrix of a perceptron on n inputs.
struct GramFactors<'a> {
    inputs: MatRef<'a, f64>,
    hidden: Vec<Hidden>,
    /// `Δ_l` of every layer, row i·k + o.
    deltas: Vec<RowMatrix>,
}

impl<'a> GramFactors<'a> {
    fn new(model: &Mlp, parameters: &[f64], inputs: &'a RowMatrix) -> Self {
        let (n, k) = (inputs.rows(), model.output_count());
        let (hidden, _) = Hidden::forward(model, parameters, inputs.as_mat());
        let mut deltas: Vec<RowMatrix> =
            model.layers.iter().map(|layer| RowMatrix::zeros(n * k, layer.outputs)).collect();
        for o in 0..k {
            let unit = Mat::from_fn(n, k, |_, column| if column == o { 1.0 } else { 0.0 });
            let of_output = backward(model, parameters, &hidden, unit, |_| ());
            for (all, delta) in deltas.iter_mut().zip(of_output) {
                for i in 0..n {
                    for (all, delta) in all.row_mut(i * k + o).iter_mut().zip(delta.row(i).iter()) {
                        *all = *delta;
                    }
                }
            }
        }
        Self { inputs: inputs.as_mat(), hidden, deltas }
    }

    /// What the weights of layer `l` are multiplied by, n × fan-in.
    fn input_of(&self, l: usize) -> MatRef<'_, f64> {
        if l == 0 { self.inputs } else { self.hidden[l - 1].values.as_ref() }
    }
}

/// See [`Mlp::gram`](crate::Model::gram).
pub(super) fn gram(model: &Mlp, parameters: &[f64], inputs: &RowMatrix) -> Mat<f64> {
    let (n, k) = (inputs.rows(), model.output_count());
    let factors = GramFactors::new(model, parameters, inputs);
    let bias = if model.has_biases() { 1.0 } else { 0.0 };
    let mut gram = Mat::<f64>::zeros(n * k, n * k);
    for (l, delta) in factors.deltas.iter().enumerate() {
        let input = factors.input_of(l);
        let mut products = Mat::<f64>::zeros(n, n);
        matmul(products.as_mut(), Accum::Replace, input, input.transpose(), 1.0);
        let slopes = scaled_gram(delta, 1.0 / n as f64);
        for column in 0..n * k {
            for row in column..n * k {
                let product = products[(row / k, column / k)] + bias;
                gram[(row, column)] += slopes[(row, column)] * product;
            }
        }
    }
    fill_upper(&mut gram);
    gram
}

/// See [`Mlp::cross_gram`](crate::Model::cross_gram).
pub(super) fn cross_gram(
    model: &Mlp,
    parameters: &[f64],
    left: &RowMatrix,
    right: &RowMatrix,
) -> Mat<f64> {
    let k = model.output_count();
    let [left, right] = [left, right].map(|inputs| GramFactors::new(model, parameters, inputs));
    let (rows, columns) = (left.inputs.nrows(), right.inputs.nrows());
    let bias = if model.has_biases() { 1.0 } else { 0.0 };
    let mut gram = Mat::<f64>::zeros(rows * k, columns * k);
    let mut products = Mat::<f64>::zeros(rows, columns);
    let mut slopes = Mat::<f64>::zeros(rows * k, columns * k);
    for (l, (delta, other)) in left.deltas.iter().zip(&right.deltas).enumerate() {
        let (input, of_right) = (left.input_of(l), right.input_of(l).transpose());
        matmul(products.as_mut(), Accum::Replace, input, of_right, 1.0);
        let (delta, other) = (delta.as_mat(), other.as_mat().transpose());
        matmul(slopes.as_mut(), Accum::Replace, delta, other, 1.0);
        for column in 0..columns * k {
            let products = products.col_as_slice(column / k);
            let slopes = slopes.col_as_slice(column).chunks_exact(k);
            let sums = gram.col_as_slice_mut(column).chunks_exact_mut(k);
            for ((sums, slopes), product) in sums.zip(slopes).zip(products) {
                for (sum, slope) in sums.iter_mut().zip(slopes) {
                    *sum += slope * (product + bias);
                }
            }
        }
    }
    gram
}

impl fmt::Debug for MlpLinearization<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MlpLinearization")
            .field("model", &self.model)
            .field("samples", &self.inputs.nrows())
            .finish_non_exhaustive()
    }
}

impl Linearization for MlpLinearization<'_> {
    fn output_loss(&self) -> &OutputLoss {
        &self.loss
    }

    fn jvp(&self, vector: &[f64], product: &mut [f64]) {
        product.copy_from_slice(&row_by_row(self.tangent(vector).1.as_ref()));
    }

    fn add_vjp(&self, weights: &[f64], product: &mut [f64]) {
        let k = self.model.output_count();
        assert_eq!(weights.len(), self.inputs.nrows() * k, "number of outputs");
        let delta = Mat::from_fn(self.inputs.nrows(), k, |i, o| weights[i * k + o]);
        self.add_backward(delta, None, product);
    }

    fn add_gradient(&self, gradient: &mut [f64]) {
        self.model.check(gradient);
        for (l, (layer, delta)) in self.model.layers.iter().zip(&self.deltas).enumerate() {
            add_outer(layer, delta.as_ref(), self.input(l), gradient);
            add_bias(layer, delta.as_ref(), gradient);
        }
    }

    fn add_gauss_newton_vector_product(&self, vector: &[f64], product: &mut [f64]) {
        self.add_backward(self.weigh(self.tangent(vector).1), None, product);
    }

    fn add_hessian_vector_product(&self, vector: &[f64], product: &mut [f64]) {
        let (tangent, outputs) = self.tangent(vector);
        self.add_backward(self.weigh(outputs), Some((&tangent, vector)), product);
    }
}

/// The entries of a matrix row by row.
fn row_by_row(matrix: MatRef<'_, f64>) -> Vec<f64> {
    let mut values = vec![0.0; matrix.nrows() * matrix.ncols()];
    for (j, column) in matrix.col_iter().enumerate() {
        for (i, value) in column.iter().enumerate() {
            values[i * matrix.ncols() + j] = *value;
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::{RowMatrix, stream};
    use rand::RngExt as _;

    use crate::{Activation, Mlp, Model as _};

    /// Products by layers against sums over the gradients of single samples.
    #[test]
    fn a_block_of_the_gram_matrix_has_the_products_of_gradients() {
        let mut rng = stream(5, "cross gram test", 0);
        for (widths, biases) in
            [(&[3, 1][..], true), (&[3, 5, 1], false), (&[3, 5, 2], true), (&[3, 6, 5, 4], true)]
        {
            let model = Mlp::new(widths, Activation::Tanh, biases).unwrap();
            let parameters = model.initial_parameters(&mut rng);
            let mut inputs =
                |n: usize| RowMatrix::from_fn(n, 3, |_, _| rng.random_range(-1.0..1.0));
            let (left, right) = (inputs(4), inputs(7));
            let block = model.cross_gram(&parameters, &left, &right);
            let (k, p) = (model.output_dim(), model.parameter_count());
            assert_eq!((block.nrows(), block.ncols()), (4 * k, 7 * k));
            let gradients = |inputs: &RowMatrix| -> Vec<f64> {
                let of = |i: usize| {
                    let mut gradients = vec![0.0; k * p];
                    model.gradient(&parameters, inputs.row(i), &mut gradients);
                    gradients
                };
                (0..inputs.rows()).flat_map(of).collect()
            };
            let (left, right) = (gradients(&left), gradients(&right));
            for (row, a) in left.chunks(p).enumerate() {
                for (column, b) in right.chunks(p).enumerate() {
                    let product: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
                    let size: f64 = a.iter().zip(b).map(|(a, b)| (a * b).abs()).sum();
                    let error = (block[(row, column)] - product).abs();
                    assert!(error <= 1e-13 * (1.0 + size), "{widths:?} ({row}, {column}): {error}");
                }
            }
        }
    }
}
