//! Models of matrix sensing.

use flatmin_linalg::Sharpness;
use flatmin_models::{MatrixSensing, Model as _};

use crate::prelude::*;

/// Hypothesis of the statements about the population of measured matrices.
pub(crate) const SENSING_INPUTS: &str =
    "inputs with independent entries of mean 0 and variance s²; factors of any rank and any k";

/// A model with at most 4 × 4 matrices and 5 columns of the factors, so that factors with more
/// columns than rows are common.
pub(crate) fn random_sensing(rng: &mut dyn Rng) -> MatrixSensing {
    let [rows, columns] = [(); 2].map(|()| rng.random_range(1..=4));
    MatrixSensing::new(rows, columns, rng.random_range(1..=5)).expect("sizes are drawn from 1 on")
}

/// Factors from one of several deliberately hard families.
pub(crate) fn random_factors(model: MatrixSensing, rng: &mut dyn Rng) -> Vec<f64> {
    let k = model.factor_count();
    let mut u = normal_matrix(model.rows(), k, rng);
    let mut v = normal_matrix(model.columns(), k, rng);
    match rng.random_range(0..7) {
        // Generic.
        0 => {}
        // Low rank, in one factor or in both.
        1 => {
            make_low_rank(&mut u, rng);
            if rng.random_bool(0.5) {
                make_low_rank(&mut v, rng);
            }
        }
        // Heavy-tailed rows.
        2 => {
            scale_rows_heavily(&mut u, rng);
            scale_rows_heavily(&mut v, rng);
        }
        // One factor much larger than the other, or zero.
        3 => {
            let scale = if rng.random_bool(0.3) { 0.0 } else { power_of_ten(rng, 4.0) };
            for i in 0..u.rows() {
                scale_row(&mut u, i, scale);
            }
        }
        // Columns that are zero in one factor or in both.
        4 => {
            for factor in [&mut u, &mut v] {
                for column in 0..k {
                    if rng.random_bool(0.4) {
                        (0..factor.rows()).for_each(|i| factor.row_mut(i)[column] = 0.0);
                    }
                }
            }
        }
        // Nearly equal rows.
        5 => {
            make_nearly_equal(&mut u);
            make_nearly_equal(&mut v);
        }
        // Balanced in one of the three senses.
        _ => {
            let ratio = model.rows() as f64 / model.columns() as f64;
            let exponent = [0.25, 0.125, 0.0][rng.random_range(0..3_usize)];
            let matrix = RowMatrix::from_fn(model.rows(), model.columns(), |i, j| {
                simd::dot(u.row(i), v.row(j))
            });
            return balanced_factors(&matrix, k, libm::pow(ratio, exponent));
        }
    }
    [u.into_values(), v.into_values()].concat()
}

/// Replaces a matrix by a random one of rank 1 or 2.
fn make_low_rank(matrix: &mut RowMatrix, rng: &mut dyn Rng) {
    let rank = rng.random_range(1..=2);
    let left = normal_matrix(matrix.rows(), rank, rng);
    let right = normal_matrix(matrix.columns(), rank, rng);
    *matrix = RowMatrix::from_fn(matrix.rows(), matrix.columns(), |i, j| {
        simd::dot(left.row(i), right.row(j))
    });
}

/// The factors `U = t P√Σ` and `V = Q√Σ/t` of the first k singular values of a matrix `PΣQᵀ`, with
/// zeros for singular values that it does not have.
pub(crate) fn balanced_factors(matrix: &RowMatrix, k: usize, scale: f64) -> Vec<f64> {
    let (rows, columns) = (matrix.rows(), matrix.columns());
    let mut parameters = vec![0.0; (rows + columns) * k];
    let Ok(svd) = matrix.as_mat().thin_svd() else { return parameters };
    let (u, v) = parameters.split_at_mut(rows * k);
    for column in 0..k.min(rows).min(columns) {
        let root = svd.S()[column].sqrt();
        (0..rows).for_each(|i| u[i * k + column] = scale * root * svd.U()[(i, column)]);
        (0..columns).for_each(|j| v[j * k + column] = root / scale * svd.V()[(j, column)]);
    }
    parameters
}

/// The singular values of a matrix, by a decomposition that the models do not use.
pub(crate) fn singular(matrix: &Mat<f64>) -> Vec<f64> {
    // An iteration that does not converge leaves NaN, with which no comparison holds.
    matrix.singular_values().unwrap_or_else(|_| vec![f64::NAN])
}

/// The factors of parameters as matrices.
pub(crate) fn factor_matrices(model: MatrixSensing, parameters: &[f64]) -> (Mat<f64>, Mat<f64>) {
    let k = model.factor_count();
    let (u, v) = model.split(parameters);
    (
        Mat::from_fn(model.rows(), k, |i, l| u[i * k + l]),
        Mat::from_fn(model.columns(), k, |j, l| v[j * k + l]),
    )
}

/// The dense population matrix of a model, for inputs with variance s², as the Jacobian whose mean
/// of squares it is: at the d₁d₂ points `s√(d₁d₂) E_ij`. Second moments are all that enter.
pub(crate) fn population_jacobian(
    model: MatrixSensing,
    parameters: &[f64],
    input_variance: f64,
) -> RowMatrix {
    let count = model.input_dim();
    let radius = (input_variance * count as f64).sqrt();
    let points = RowMatrix::from_fn(count, count, |i, j| if i == j { radius } else { 0.0 });
    model.jacobian(parameters, &points)
}

/// The eigenvalues of the dense matrix `JᵀJ/rows`, ascending, and its sharpness.
pub(crate) fn dense_spectrum(jacobian: &RowMatrix) -> Result<(Vec<f64>, Sharpness), LedgerError> {
    let product = jacobian.as_mat().transpose() * jacobian.as_mat();
    let matrix: Mat<f64> = faer::Scale(1.0 / jacobian.rows() as f64) * product;
    let values = symmetric_eigenvalues(matrix.as_ref())?;
    let sharpness = Sharpness {
        trace: (0..matrix.nrows()).map(|k| matrix[(k, k)]).sum(),
        frobenius_norm: matrix.norm_l2(),
        lambda_max: values.last().copied().unwrap_or(0.0),
    };
    Ok((values, sharpness))
}
