//! Sharpness without an nk × nk matrix: from blocks of the Gram matrix, and by products.

use std::ops::Range;

use faer::{Mat, MatMut, MatRef};
use flatmin_linalg::{EigenError, Eigenpair, LanczosOptions, Operator as _, largest_eigenpair};
use flatmin_models::{Dataset, Model, OutputLoss};

use crate::operator::gauss_newton;
use crate::sharpness::{own_products, ratio, weigh_columns, weigh_gram};

/// The largest number of rows of a block on the diagonal. Its work is that of all pairs of its rows
/// while only the pairs of one sample count, so that few rows are best.
const DIAGONAL_ROWS: usize = 256;

/// The largest number of rows and columns of a block for the Frobenius norm: 2 MB for each layer's
/// products and their sum, which stay in cache.
const PAIR_ROWS: usize = 512;

/// The measurements that need the k × k blocks of each sample alone.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct DiagonalCurvature {
    /// The trace of the Gauss–Newton matrix, `(1/n) Σ ‖R_iᵀJ_i‖²`.
    pub trace: f64,
    /// The batch sharpness, as in [`TrainingCurvature`](crate::TrainingCurvature).
    pub batch_sharpness: Option<f64>,
    /// The mean loss.
    pub loss: f64,
}

/// Trace, batch sharpness and loss of `model` at `parameters` on `data`, from blocks on the
/// diagonal of the Gram matrix.
///
/// The values are those of [`training_curvature`](crate::training_curvature) up to rounding. Time
/// grows with n, and memory with n·k.
///
/// # Errors
/// [`EigenError::NotFinite`] when an entry of a block is not finite.
pub fn diagonal_curvature(
    model: &(impl Model + ?Sized),
    parameters: &[f64],
    data: &Dataset,
) -> Result<DiagonalCurvature, EigenError> {
    let (n, k) = (data.sample_count(), data.output_dim());
    let loss = data.output_loss(0..n, model.outputs(parameters, data.inputs()));
    // The residuals of all samples have one scale, so that the sums of blocks can be added.
    let (mut products, mut trace) = (Vec::with_capacity(n * k), 0.0);
    let largest = loss.residuals().iter().fold(0.0_f64, |m, r| m.max(r.abs()));
    for samples in ranges(n, DIAGONAL_ROWS / k) {
        let inputs = data.inputs_of(samples.clone());
        let gram = model.gram(parameters, &inputs);
        check_finite(&gram, [samples.start * k; 2])?;
        let residuals = &loss.residuals()[samples.start * k..samples.end * k];
        products.extend(own_products(residuals, gram.as_ref(), k, largest));
        let share = samples.len() as f64 / n as f64;
        let weighted = if loss.is_squared() {
            gram
        } else {
            weigh_gram(gram, &output_loss(model, parameters, data, samples))
        };
        trace += share * (0..weighted.nrows()).map(|i| weighted[(i, i)]).sum::<f64>();
    }
    let mut weighted = products.clone();
    if !loss.is_squared() {
        loss.weigh(&mut weighted);
    }
    let batch_sharpness = ratio(loss.residuals(), [&products, &weighted], largest);
    let mean = if loss.is_squared() {
        loss.residuals().iter().map(|r| r * r).sum::<f64>() / (2.0 * n as f64)
    } else {
        loss.loss() / n as f64
    };
    Ok(DiagonalCurvature { trace, batch_sharpness, loss: mean })
}

/// The Frobenius norm of the Gauss–Newton matrix, `‖G‖_F² = (1/n²) Σ_ij ‖R_iᵀJ_iJ_jᵀR_j‖_F²`, from
/// blocks of the Gram matrix one after the other.
///
/// It is exact up to rounding. Time grows with (nk)², and is about that of the whole Gram matrix;
/// memory is that of one block of 512 rows.
///
/// # Errors
/// [`EigenError::NotFinite`] when an entry of a block is not finite.
pub fn gauss_newton_frobenius_norm(
    model: &(impl Model + ?Sized),
    parameters: &[f64],
    data: &Dataset,
) -> Result<f64, EigenError> {
    frobenius_norm_in_blocks(model, parameters, data, PAIR_ROWS)
}

/// [`gauss_newton_frobenius_norm`] with blocks of at most this many rows.
fn frobenius_norm_in_blocks(
    model: &(impl Model + ?Sized),
    parameters: &[f64],
    data: &Dataset,
    rows: usize,
) -> Result<f64, EigenError> {
    let (n, k) = (data.sample_count(), data.output_dim());
    let ranges: Vec<Range<usize>> = ranges(n, rows / k).collect();
    let mut squares = 0.0;
    for (a, first) in ranges.iter().enumerate() {
        let loss = output_loss(model, parameters, data, first.clone());
        let gram = model.gram(parameters, &data.inputs_of(first.clone()));
        check_finite(&gram, [first.start * k; 2])?;
        let gram = if loss.is_squared() { gram } else { weigh_gram(gram, &loss) };
        let share = first.len() as f64 / n as f64;
        squares += share * share * sum_of_squares(&gram);
        let inputs = data.inputs_of(first.clone());
        for second in &ranges[a + 1..] {
            let block = model.cross_gram(parameters, &inputs, &data.inputs_of(second.clone()));
            check_finite(&block, [first.start * k, second.start * k])?;
            let block = if loss.is_squared() {
                block
            } else {
                let half = weigh_columns(block, &loss).transpose().to_owned();
                weigh_columns(half, &output_loss(model, parameters, data, second.clone()))
            };
            squares += 2.0 * sum_of_squares(&block) / (n as f64).powi(2);
        }
    }
    Ok(squares.sqrt())
}

/// The largest eigenvalue of the Gauss–Newton matrix by Lanczos, p numbers for each product.
///
/// The residual of the result bounds its distance to an eigenvalue; the value itself is at most the
/// largest one, up to rounding. `Converged` means a relative residual of 1e-10, and `OutOfProducts`
/// that 1000 products did not reach it.
///
/// # Errors
/// [`EigenError::NotFinite`] when a parameter or a product is not finite.
///
/// # Panics
/// When the parameters or the data do not fit the model.
pub fn gauss_newton_lambda_max(
    model: &dyn Model,
    parameters: &[f64],
    data: &Dataset,
) -> Result<Eigenpair, EigenError> {
    if let Some(row) = parameters.iter().position(|value| !value.is_finite()) {
        return Err(EigenError::NotFinite { row, column: 0, value: parameters[row] });
    }
    let operator = gauss_newton(model, parameters, data)
        .expect("the parameters and data fit the model, which `# Panics` asks for");
    // Numbers without structure, so that no eigenvector is orthogonal to them: the fractional parts
    // of multiples of the golden ratio.
    let start: Vec<f64> =
        (0..parameters.len()).map(|i| (i as f64 * 0.618_033_988_749_894_9).fract() - 0.5).collect();
    let options = LanczosOptions { relative_residual: 1e-10, max_products: 1000 };
    let apply = |v: &[f64], image: &mut [f64]| {
        let size = v.len();
        operator.apply(
            MatRef::from_column_major_slice(v, size, 1),
            MatMut::from_column_major_slice_mut(image, size, 1),
        );
    };
    largest_eigenpair(&start, apply, options)
}

/// Ranges of at most this many samples, and at least one.
fn ranges(n: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    let size = size.max(1);
    (0..n).step_by(size).map(move |start| start..(start + size).min(n))
}

/// The loss of some samples at the outputs of the model.
fn output_loss(
    model: &(impl Model + ?Sized),
    parameters: &[f64],
    data: &Dataset,
    samples: Range<usize>,
) -> OutputLoss {
    let outputs = model.outputs(parameters, &data.inputs_of(samples.clone()));
    data.output_loss(samples, outputs)
}

fn sum_of_squares(matrix: &Mat<f64>) -> f64 {
    matrix.col_iter().map(|column| column.iter().map(|value| value * value).sum::<f64>()).sum()
}

/// Checks the entries of a block whose first row and column are these.
fn check_finite(
    matrix: &Mat<f64>,
    [first_row, first_column]: [usize; 2],
) -> Result<(), EigenError> {
    for column in 0..matrix.ncols() {
        for row in 0..matrix.nrows() {
            let value = matrix[(row, column)];
            if !value.is_finite() {
                return Err(EigenError::NotFinite {
                    row: first_row + row,
                    column: first_column + column,
                    value,
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::{LanczosStatus, RowMatrix, stream};
    use flatmin_models::{Activation, Dataset, Loss, Mlp};
    use rand::RngExt as _;

    use super::{diagonal_curvature, frobenius_norm_in_blocks, gauss_newton_lambda_max};
    use crate::training_curvature;

    #[track_caller]
    fn close(actual: f64, expected: f64, tolerance: f64) {
        let allowed = tolerance * expected.abs();
        assert!((actual - expected).abs() <= allowed, "{actual} against {expected}");
    }

    /// Blocks and products against the nk × nk Gram matrix, for both losses and sizes that blocks
    /// do not divide.
    #[test]
    fn blocks_give_the_sharpness_of_the_whole_matrix() {
        for (k, loss) in [
            (1, Loss::Squared),
            (3, Loss::Squared),
            (3, Loss::cross_entropy(0.0).unwrap()),
            (3, Loss::cross_entropy(0.1).unwrap()),
        ] {
            let model = Mlp::new(&[4, 6, k], Activation::Tanh, true).unwrap();
            let mut rng = stream(3, "blocks test", 0);
            let inputs = RowMatrix::from_fn(101, 4, |_, _| rng.random_range(-1.0..1.0));
            let targets = RowMatrix::from_fn(101, k, |i, o| f64::from(u8::from(i % k == o)));
            let data = Dataset::with_outputs(inputs, &targets).unwrap().with_loss(loss).unwrap();
            let parameters = model.initial_parameters(&mut rng);
            let whole = training_curvature(&model, &parameters, &data).unwrap();
            let diagonal = diagonal_curvature(&model, &parameters, &data).unwrap();
            close(diagonal.trace, whole.sharpness.trace, 1e-13);
            close(diagonal.loss, whole.loss, 1e-14);
            close(diagonal.batch_sharpness.unwrap(), whole.batch_sharpness.unwrap(), 1e-12);
            for rows in [1, 40, 100, 1000] {
                let norm = frobenius_norm_in_blocks(&model, &parameters, &data, rows).unwrap();
                close(norm, whole.sharpness.frobenius_norm, 1e-12);
            }
            let pair = gauss_newton_lambda_max(&model, &parameters, &data).unwrap();
            assert_ne!(pair.status, LanczosStatus::OutOfProducts);
            close(pair.value, whole.sharpness.lambda_max, 1e-10);
        }
    }

    #[test]
    fn numbers_that_overflow_are_errors() {
        let model = Mlp::new(&[1, 1], Activation::Identity, true).unwrap();
        let inputs = RowMatrix::new(1, 1, vec![1e200]).unwrap();
        let data = Dataset::new(inputs, vec![0.0]).unwrap();
        assert!(diagonal_curvature(&model, &[1.0, 0.0], &data).is_err());
        assert!(frobenius_norm_in_blocks(&model, &[1.0, 0.0], &data, 10).is_err());
        assert!(gauss_newton_lambda_max(&model, &[1.0, 0.0], &data).is_err());
        assert!(gauss_newton_lambda_max(&model, &[f64::NAN, 0.0], &data).is_err());
    }
}
