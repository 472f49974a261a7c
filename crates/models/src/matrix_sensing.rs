//! Matrix sensing, `f(X) = ⟨X, UVᵀ⟩`.

use faer::{ColRef, Mat};
use flatmin_linalg::{
    EigenError, RowMatrix, Sharpness, simd, symmetric_eigen, symmetric_eigenvalues,
};
use rand::Rng;
use rand_distr::{Distribution as _, StandardNormal};

use crate::model::Model;
use crate::size::SizeError;

/// A factorised matrix that is measured: `f(X; U, V) = ⟨X, W⟩ = Σ_ij X_ij W_ij`, linear in X with
/// the matrix `W = UVᵀ`.
///
/// An input is a matrix X, d₁ × d₂ row by row. Parameters: U (d₁ × k), then V (d₂ × k), both row by
/// row. For k = d₁ = d₂ the factors can make any W; diagonal U, V and X are the diagonal linear
/// network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatrixSensing {
    rows: usize,
    columns: usize,
    factor_count: usize,
}

impl MatrixSensing {
    /// A model of `rows` × `columns` = d₁ × d₂ matrices with `factor_count` = k columns in each
    /// factor.
    ///
    /// # Errors
    /// [`SizeError`] when one of them is zero.
    pub fn new(rows: usize, columns: usize, factor_count: usize) -> Result<Self, SizeError> {
        for (size, what) in [
            (rows, "the number of rows"),
            (columns, "the number of columns"),
            (factor_count, "the number of columns of a factor"),
        ] {
            if size == 0 {
                return Err(SizeError { what });
            }
        }
        Ok(Self { rows, columns, factor_count })
    }

    /// The number d₁ of rows of W.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number d₂ of columns of W.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The number k of columns of U and V.
    pub fn factor_count(&self) -> usize {
        self.factor_count
    }

    /// The factors U (d₁ × k) and V (d₂ × k), row by row.
    ///
    /// # Panics
    /// When `parameters` does not have k(d₁ + d₂) entries.
    pub fn split<'a>(&self, parameters: &'a [f64]) -> (&'a [f64], &'a [f64]) {
        assert_eq!(parameters.len(), self.parameter_count(), "number of parameters");
        parameters.split_at(self.rows * self.factor_count)
    }

    /// Random initial parameters: independent `N(0, 1)` entries.
    pub fn initial_parameters(&self, rng: &mut impl Rng) -> Vec<f64> {
        (0..self.parameter_count()).map(|_| StandardNormal.sample(rng)).collect()
    }

    /// The matrix `W = UVᵀ`, d₁ × d₂.
    pub fn matrix(&self, parameters: &[f64]) -> RowMatrix {
        let (u, v) = self.split(parameters);
        let k = self.factor_count;
        RowMatrix::from_fn(self.rows, self.columns, |i, j| {
            simd::dot(&u[i * k..][..k], &v[j * k..][..k])
        })
    }

    /// Parameters with `UVᵀ = matrix` up to rounding, whose trace is the least: from the singular
    /// value decomposition `PΣQᵀ`, `U = t P√Σ` and `V = Q√Σ/t` with `t = (d₁/d₂)^¼`, so that
    /// `d₂UᵀU = d₁VᵀV` (F2). Singular values beyond the k largest are left out.
    ///
    /// # Errors
    /// [`EigenError`] when an entry is not finite or the eigenproblem fails.
    ///
    /// # Panics
    /// When `matrix` is not d₁ × d₂.
    pub fn balanced_parameters(&self, matrix: &RowMatrix) -> Result<Vec<f64>, EigenError> {
        assert_eq!((matrix.rows(), matrix.columns()), (self.rows, self.columns), "shape of W");
        let scale = (self.rows as f64 / self.columns as f64).sqrt().sqrt();
        let eigen = symmetric_eigen(dilation(matrix).as_ref())?;
        let size = eigen.values.len();
        let mut parameters = vec![0.0; self.parameter_count()];
        let (u, v) = parameters.split_at_mut(self.rows * self.factor_count);
        let largest = eigen.values.last().copied().unwrap_or(0.0);
        for k in 0..self.factor_count.min(self.rows).min(self.columns) {
            let (column, value) = (size - 1 - k, eigen.values[size - 1 - k]);
            // Eigenvectors to smaller eigenvalues need not have two halves of one length.
            if !(value > 1e-12 * largest) {
                break;
            }
            // The halves of a unit eigenvector have the squared norm ½ each.
            let factor = (2.0 * value).sqrt();
            for i in 0..self.rows {
                u[i * self.factor_count + k] = scale * factor * eigen.vectors[(i, column)];
            }
            for j in 0..self.columns {
                let entry = eigen.vectors[(self.rows + j, column)];
                v[j * self.factor_count + k] = factor / scale * entry;
            }
        }
        Ok(parameters)
    }

    /// The sharpness of the population matrix `Ḡ = E[∇f(X)∇f(X)ᵀ]` for inputs with independent
    /// entries of mean zero and variance `input_variance` = s².
    ///
    /// `tr Ḡ = s²(d₂‖U‖_F² + d₁‖V‖_F²)` (F2), `‖Ḡ‖_F² = s⁴(d₂‖UᵀU‖_F² + d₁‖VᵀV‖_F² +
    /// 2‖U‖_F²‖V‖_F²)` (F3) and `λ_max(Ḡ) = s²(‖U‖₂² + ‖V‖₂²)` (F4).
    ///
    /// # Errors
    /// [`EigenError`] when an entry is not finite or an eigenproblem fails.
    pub fn population_sharpness(
        &self,
        parameters: &[f64],
        input_variance: f64,
    ) -> Result<Sharpness, EigenError> {
        let (u, v) = self.split(parameters);
        let (left, right) = (factor_gram(u, self.factor_count), factor_gram(v, self.factor_count));
        let (rows, columns) = (self.rows as f64, self.columns as f64);
        let (u_squares, v_squares) = (simd::norm_squared(u), simd::norm_squared(v));
        let squared = |gram: &Mat<f64>| gram.col_iter().flat_map(ColRef::iter).map(|g| g * g).sum();
        let (u_fourth, v_fourth): (f64, f64) = (squared(&left), squared(&right));
        let squares = columns * u_fourth + rows * v_fourth + 2.0 * u_squares * v_squares;
        let largest = |gram: &Mat<f64>| -> Result<f64, EigenError> {
            Ok(symmetric_eigenvalues(gram.as_ref())?.last().copied().unwrap_or(0.0))
        };
        Ok(Sharpness {
            trace: input_variance * (columns * u_squares + rows * v_squares),
            frobenius_norm: input_variance * squares.sqrt(),
            lambda_max: input_variance * (largest(&left)? + largest(&right)?),
        })
    }
}

/// `FᵀF` (k × k) of a factor with k columns.
fn factor_gram(factor: &[f64], columns: usize) -> Mat<f64> {
    let mut gram = Mat::zeros(columns, columns);
    for row in factor.chunks_exact(columns) {
        for (j, b) in row.iter().enumerate() {
            for (i, a) in row.iter().enumerate() {
                gram[(i, j)] += a * b;
            }
        }
    }
    gram
}

/// The symmetric matrix `[[0, W], [Wᵀ, 0]]`, whose eigenvalues are the singular values of W with
/// both signs, and zeros.
fn dilation(matrix: &RowMatrix) -> Mat<f64> {
    let (rows, columns) = (matrix.rows(), matrix.columns());
    Mat::from_fn(rows + columns, rows + columns, |i, j| match (i < rows, j < rows) {
        (true, false) => matrix.row(i)[j - rows],
        (false, true) => matrix.row(j)[i - rows],
        _ => 0.0,
    })
}

/// The singular values of a matrix, descending: min(rows, columns) of them.
///
/// Costs an eigenproblem of the size rows + columns. Small singular values have an error of
/// rounding size relative to the largest, not its square root.
///
/// ```
/// use flatmin_linalg::RowMatrix;
/// let matrix = RowMatrix::new(2, 2, vec![0.0, 2.0, -3.0, 0.0])?;
/// let values = flatmin_models::singular_values(&matrix)?;
/// assert!((values[0] - 3.0).abs() < 1e-14 && (values[1] - 2.0).abs() < 1e-14);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`EigenError`] when an entry is not finite or the eigenproblem fails.
pub fn singular_values(matrix: &RowMatrix) -> Result<Vec<f64>, EigenError> {
    let count = matrix.rows().min(matrix.columns());
    let values = symmetric_eigenvalues(dilation(matrix).as_ref())?;
    Ok(values.iter().rev().take(count).map(|value| value.max(0.0)).collect())
}

impl Model for MatrixSensing {
    fn input_dim(&self) -> usize {
        self.rows * self.columns
    }

    fn parameter_count(&self) -> usize {
        (self.rows + self.columns) * self.factor_count
    }

    fn output(&self, parameters: &[f64], input: &[f64], output: &mut [f64]) {
        assert_eq!((input.len(), output.len()), (self.input_dim(), 1), "dimensions");
        output[0] = simd::dot(self.matrix(parameters).values(), input);
    }

    /// `∂f/∂U = XV` and `∂f/∂V = XᵀU`.
    fn gradient(&self, parameters: &[f64], input: &[f64], gradient: &mut [f64]) {
        gradient.fill(0.0);
        self.add_exchanged(1.0, parameters, input, gradient);
    }

    /// The second derivative along (U', V') is the gradient at (U', V'): f is bilinear.
    fn add_second_derivative(
        &self,
        _parameters: &[f64],
        input: &[f64],
        weights: &[f64],
        vector: &[f64],
        product: &mut [f64],
    ) {
        assert_eq!(weights.len(), 1, "number of weights");
        self.add_exchanged(weights[0], vector, input, product);
    }

    fn outputs(&self, parameters: &[f64], inputs: &RowMatrix) -> Vec<f64> {
        let matrix = self.matrix(parameters);
        (0..inputs.rows()).map(|i| simd::dot(matrix.values(), inputs.row(i))).collect()
    }
}

impl MatrixSensing {
    /// Adds `weight · (XV, XᵀU)` to `sum`.
    fn add_exchanged(&self, weight: f64, factors: &[f64], input: &[f64], sum: &mut [f64]) {
        let k = self.factor_count;
        let (u, v) = self.split(factors);
        assert_eq!(input.len(), self.input_dim(), "dimension of the input");
        assert_eq!(sum.len(), self.parameter_count(), "entries of the sum");
        let (d_u, d_v) = sum.split_at_mut(self.rows * k);
        for (i, row) in input.chunks_exact(self.columns).enumerate() {
            for (j, x) in row.iter().enumerate() {
                let (at_u, at_v) = (i * k..(i + 1) * k, j * k..(j + 1) * k);
                simd::axpy(weight * x, &v[at_v.clone()], &mut d_u[at_u.clone()]);
                simd::axpy(weight * x, &u[at_u], &mut d_v[at_v]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::{RowMatrix, stream};

    use super::{MatrixSensing, singular_values};
    use crate::model::Model as _;

    #[test]
    fn the_balanced_factors_have_their_matrix_and_the_least_trace() {
        let mut rng = stream(0, "matrix sensing test", 0);
        for (rows, columns, factors) in [(3, 5, 3), (4, 2, 6), (1, 1, 1)] {
            let model = MatrixSensing::new(rows, columns, factors).unwrap();
            let matrix = model.matrix(&model.initial_parameters(&mut rng));
            let balanced = model.balanced_parameters(&matrix).unwrap();
            for (found, expected) in model.matrix(&balanced).values().iter().zip(matrix.values()) {
                assert!((found - expected).abs() < 1e-13, "{found} against {expected}");
            }
            let nuclear: f64 = singular_values(&matrix).unwrap().iter().sum();
            let bound = 2.0 * 0.5 * ((rows * columns) as f64).sqrt() * nuclear;
            let trace = model.population_sharpness(&balanced, 0.5).unwrap().trace;
            assert!((trace / bound - 1.0).abs() < 1e-13, "{trace} against {bound}");
        }
    }

    #[test]
    fn the_zero_matrix_has_zero_factors() {
        let model = MatrixSensing::new(2, 3, 2).unwrap();
        let balanced = model.balanced_parameters(&RowMatrix::zeros(2, 3)).unwrap();
        assert_eq!(balanced, [0.0; 10]);
        assert_eq!(model.population_sharpness(&balanced, 1.0).unwrap().trace.to_bits(), 0);
    }

    #[test]
    fn one_entry_is_a_product_of_two_numbers() {
        // W = (2, 1)(3, −1)ᵀ: f at the unit matrix of the entry (1, 2) is 2·(−1).
        let model = MatrixSensing::new(2, 2, 1).unwrap();
        let mut output = [0.0];
        model.output(&[2.0, 1.0, 3.0, -1.0], &[0.0, 1.0, 0.0, 0.0], &mut output);
        assert!((output[0] + 2.0).abs() < 1e-15);
        assert!(MatrixSensing::new(2, 0, 1).is_err());
    }
}
