//! The trait of all models, and the quantities that follow from it.

use std::fmt::Debug;
use std::ops::Range;

use faer::{Accum, Mat};
use flatmin_linalg::{RowMatrix, matmul, matmul_lower, simd};

use crate::dataset::Dataset;
use crate::linearization::Linearization;
use crate::loss::{Loss, OutputLoss, largest};

/// A function `f(x; θ) ∈ R^k` with parameters `θ ∈ R^p` in one flat slice.
///
/// The methods for one input are the plain definition. The methods for many inputs may be faster,
/// and default to the plain definition. Slices must have the lengths that
/// [`input_dim`](Model::input_dim), [`output_dim`](Model::output_dim) and
/// [`parameter_count`](Model::parameter_count) say; every method panics otherwise.
pub trait Model: Debug + Send + Sync {
    /// Dimension d of an input.
    fn input_dim(&self) -> usize;

    /// Number k of outputs.
    fn output_dim(&self) -> usize {
        1
    }

    /// Number p of parameters.
    fn parameter_count(&self) -> usize;

    /// Writes the outputs `f(x; θ)`, of length k, to `output`.
    fn output(&self, parameters: &[f64], input: &[f64], output: &mut [f64]);

    /// Writes the gradients `∇_θ f_o(x; θ)` of the outputs, k × p row by row, to `gradients`.
    fn gradient(&self, parameters: &[f64], input: &[f64], gradients: &mut [f64]);

    /// Adds `Σ_o weights_o ∇²_θ f_o(x; θ) v` to `product`; `weights` has length k, `v` and
    /// `product` have length p.
    #[expect(clippy::too_many_arguments, reason = "where, of what, along what, and into what")]
    fn add_second_derivative(
        &self,
        parameters: &[f64],
        input: &[f64],
        weights: &[f64],
        vector: &[f64],
        product: &mut [f64],
    );

    /// The outputs on every row of `inputs`, n × k row by row.
    fn outputs(&self, parameters: &[f64], inputs: &RowMatrix) -> Vec<f64> {
        let k = self.output_dim();
        let mut outputs = vec![0.0; inputs.rows() * k];
        for (i, output) in outputs.chunks_exact_mut(k).enumerate() {
            self.output(parameters, inputs.row(i), output);
        }
        outputs
    }

    /// The Jacobian `J`, nk × p: row `i·k + o` is `∇_θ f_o(x_i; θ)`.
    fn jacobian(&self, parameters: &[f64], inputs: &RowMatrix) -> RowMatrix {
        let (p, block) = (self.parameter_count(), self.output_dim() * self.parameter_count());
        let mut values = vec![0.0; inputs.rows() * block];
        for (i, gradients) in values.chunks_exact_mut(block).enumerate() {
            self.gradient(parameters, inputs.row(i), gradients);
        }
        RowMatrix::new(inputs.rows() * self.output_dim(), p, values)
            .expect("a row for every output of every input")
    }

    /// The Gram matrix `K = J Jᵀ / n`, nk × nk, both triangles filled.
    ///
    /// `K` has the nonzero spectrum of the Gauss–Newton matrix `G = JᵀJ/n`. The default forms the
    /// Jacobian, O(n²k²p); models with more structure override it with a cheaper method.
    fn gram(&self, parameters: &[f64], inputs: &RowMatrix) -> Mat<f64> {
        let jacobian = self.jacobian(parameters, inputs);
        scaled_gram(&jacobian, 1.0 / inputs.rows() as f64)
    }

    /// The block `J J'ᵀ` of the Gram matrix of two sets of inputs, nk × n'k, not divided by a
    /// number of samples: row `i·k + o` belongs to output o of the input i of `left`, and the
    /// columns to `right` in the same way.
    ///
    /// The default forms both Jacobians; models with more structure override it with a cheaper
    /// method.
    fn cross_gram(&self, parameters: &[f64], left: &RowMatrix, right: &RowMatrix) -> Mat<f64> {
        let [left, right] = [left, right].map(|inputs| self.jacobian(parameters, inputs));
        let mut gram = Mat::zeros(left.rows(), right.rows());
        matmul(gram.as_mut(), Accum::Replace, left.as_mat(), right.as_mat().transpose(), 1.0);
        gram
    }

    /// The model near `parameters` on some samples of `data`, for many products with its
    /// derivatives.
    ///
    /// The default holds the Jacobian of these samples.
    fn linearize<'a>(
        &'a self,
        parameters: &'a [f64],
        data: &'a Dataset,
        samples: Range<usize>,
    ) -> Box<dyn Linearization + 'a> {
        Box::new(DenseLinearization::new(self, parameters, data, samples))
    }

    /// Estimated number of bytes that a [linearization](Model::linearize) holds for each sample.
    fn linearization_bytes(&self) -> usize {
        self.output_dim() * (self.parameter_count() + 1) * size_of::<f64>()
    }
}

/// `scale · A Aᵀ` for a row-major `A`, both triangles filled.
pub(crate) fn scaled_gram(a: &RowMatrix, scale: f64) -> Mat<f64> {
    let n = a.rows();
    let mut gram = Mat::zeros(n, n);
    matmul_lower(gram.as_mut(), Accum::Replace, a.as_mat(), a.as_mat().transpose(), scale);
    fill_upper(&mut gram);
    gram
}

/// Copies the lower triangle to the upper one.
pub(crate) fn fill_upper(matrix: &mut Mat<f64>) {
    for column in 1..matrix.ncols() {
        for row in 0..column {
            matrix[(row, column)] = matrix[(column, row)];
        }
    }
}

impl Dataset {
    /// Residuals `r_i = f(x_i; θ) − y_i`, n × k row by row. With another loss than the squared one
    /// they are its gradients in the outputs.
    ///
    /// # Panics
    /// When the model has another number of outputs than the samples have targets.
    pub fn residuals(&self, model: &(impl Model + ?Sized), parameters: &[f64]) -> Vec<f64> {
        let mut outputs = self.outputs(model, parameters);
        self.differentiate(&mut outputs);
        outputs
    }

    /// The loss `R(θ) = (1/2n) Σ_i ‖f(x_i; θ) − y_i‖²`, or the mean of another loss of the data.
    ///
    /// # Panics
    /// See [`Dataset::residuals`].
    pub fn loss(&self, model: &(impl Model + ?Sized), parameters: &[f64]) -> f64 {
        let Loss::CrossEntropy(_) = self.loss_function() else {
            return self.excess_loss(model, parameters);
        };
        let outputs = self.outputs(model, parameters);
        let rows = outputs.chunks_exact(self.output_dim());
        let rows = rows.zip(self.targets().chunks_exact(self.output_dim()));
        let losses = rows.map(|(outputs, targets)| self.loss_function().value(outputs, targets));
        losses.sum::<f64>() / self.sample_count() as f64
    }

    /// The loss `R(θ)` above the [least](Loss::least) value that it has for any outputs. For the
    /// squared loss that is the loss itself; with smoothed labels it is zero at an interpolating
    /// minimum.
    ///
    /// # Panics
    /// See [`Dataset::residuals`].
    pub fn excess_loss(&self, model: &(impl Model + ?Sized), parameters: &[f64]) -> f64 {
        let mut outputs = self.outputs(model, parameters);
        let excess = self.differentiate(&mut outputs);
        match self.loss_function() {
            Loss::Squared => simd::norm_squared(&outputs) / (2.0 * self.sample_count() as f64),
            Loss::CrossEntropy(_) => excess / self.sample_count() as f64,
        }
    }

    /// The share of samples whose largest output is at the place of their largest target, in
    /// [0, 1]. Of several largest ones the first counts.
    ///
    /// # Panics
    /// See [`Dataset::residuals`].
    pub fn accuracy(&self, model: &(impl Model + ?Sized), parameters: &[f64]) -> f64 {
        let k = self.output_dim();
        let outputs = self.outputs(model, parameters);
        let rows = outputs.chunks_exact(k).zip(self.targets().chunks_exact(k));
        let right = rows.filter(|(outputs, targets)| largest(outputs) == largest(targets));
        right.count() as f64 / self.sample_count() as f64
    }

    fn outputs(&self, model: &(impl Model + ?Sized), parameters: &[f64]) -> Vec<f64> {
        assert_eq!(model.output_dim(), self.output_dim(), "number of outputs");
        model.outputs(parameters, self.inputs())
    }

    /// Turns the outputs of all samples into gradients of their losses; returns the sum of their
    /// losses above the least values.
    fn differentiate(&self, outputs: &mut [f64]) -> f64 {
        let (k, loss) = (self.output_dim(), self.loss_function());
        let mut excess = 0.0;
        for (outputs, targets) in outputs.chunks_exact_mut(k).zip(self.targets().chunks_exact(k)) {
            loss.differentiate(1.0, outputs, targets, &mut excess);
        }
        excess
    }
}

/// A linearization that holds its Jacobian: sk × p numbers.
struct DenseLinearization<'a, M: ?Sized> {
    model: &'a M,
    parameters: &'a [f64],
    data: &'a Dataset,
    samples: Range<usize>,
    jacobian: RowMatrix,
    loss: OutputLoss,
}

impl<'a, M: Model + ?Sized> DenseLinearization<'a, M> {
    fn new(model: &'a M, parameters: &'a [f64], data: &'a Dataset, samples: Range<usize>) -> Self {
        let inputs = data.inputs_of(samples.clone());
        let jacobian = model.jacobian(parameters, &inputs);
        let loss = data.output_loss(samples.clone(), model.outputs(parameters, &inputs));
        Self { model, parameters, data, samples, jacobian, loss }
    }
}

impl<M: Model + ?Sized> Debug for DenseLinearization<'_, M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DenseLinearization")
            .field("model", &self.model)
            .field("samples", &self.samples)
            .finish_non_exhaustive()
    }
}

impl<M: Model + ?Sized> Linearization for DenseLinearization<'_, M> {
    fn output_loss(&self) -> &OutputLoss {
        &self.loss
    }

    fn jvp(&self, vector: &[f64], product: &mut [f64]) {
        assert_eq!(product.len(), self.jacobian.rows(), "number of outputs");
        for (row, product) in product.iter_mut().enumerate() {
            *product = simd::dot(self.jacobian.row(row), vector);
        }
    }

    fn add_vjp(&self, weights: &[f64], product: &mut [f64]) {
        assert_eq!(weights.len(), self.jacobian.rows(), "number of outputs");
        for (row, weight) in weights.iter().enumerate() {
            simd::axpy(*weight, self.jacobian.row(row), product);
        }
    }

    fn add_hessian_vector_product(&self, vector: &[f64], product: &mut [f64]) {
        self.add_gauss_newton_vector_product(vector, product);
        let weights = self.residuals().chunks_exact(self.model.output_dim());
        for (sample, weights) in self.samples.clone().zip(weights) {
            let input = self.data.inputs().row(sample);
            self.model.add_second_derivative(self.parameters, input, weights, vector, product);
        }
    }
}
