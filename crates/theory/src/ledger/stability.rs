//! Checks of S1–S7: every bound against the exact threshold, by the plain definition.

use faer::Mat;
use flatmin_linalg::{RowMatrix, symmetric_eigenvalues};

use super::{Comparison, Form, MinimumInstance, Statement};
use crate::bounds::spectral_root;
use crate::{Minimum, TheoryError, bounds, dense_threshold, sufficient_bound};

pub(super) fn check(
    statement: Statement,
    form: Form,
    instance: &MinimumInstance,
) -> Result<Vec<Comparison>, TheoryError> {
    let minimum = Minimum::new(&instance.jacobian)?;
    let bounds = bounds(&minimum, instance.batch)?;
    if statement == Statement::S1 {
        return check_gradient_descent(form, &instance.jacobian, bounds.lambda_max);
    }
    let p = instance.batch.noise_coefficient(minimum.sample_count())?;
    let threshold = dense_threshold(&minimum, instance.batch)?;
    let at_most = |name, lhs, rhs| Comparison::at_most(statement, name, lhs, rhs);
    Ok(match statement {
        Statement::S2 => {
            let bound = form.pick(1.0, 0.5) * bounds.trace;
            vec![at_most("threshold and trace", threshold, bound)]
        }
        Statement::S3 => {
            let factor = form.pick(1.0, 0.5);
            vec![
                at_most("threshold and Frobenius norm", threshold, factor * bounds.frobenius_norm),
                at_most(
                    "threshold and Frobenius norm, sharp",
                    threshold,
                    factor * bounds.sharp_frobenius_norm,
                ),
            ]
        }
        Statement::S5 => {
            let bound = form.pick(1.0, 0.5) * bounds.lambda_max;
            vec![at_most("threshold and largest eigenvalue", threshold, bound)]
        }
        Statement::S6 if form == Form::Mutant => {
            let bound = spectral_root(minimum.eigenvalues(), p, 1.0);
            vec![at_most("threshold and spectrum", threshold, bound)]
        }
        Statement::S6 => vec![
            at_most("threshold and spectrum", threshold, bounds.spectral),
            at_most("implies S2", bounds.spectral, bounds.trace),
            at_most("implies S3, sharp", bounds.spectral, bounds.sharp_frobenius_norm),
            at_most("implies S5", bounds.spectral, bounds.lambda_max),
        ],
        Statement::S7 => {
            let sharpness = minimum.sharpness();
            let bound = form.pick(
                bounds.sufficient,
                sufficient_bound(sharpness.lambda_max, sharpness.trace, p),
            );
            vec![at_most("row norms and threshold", bound, threshold)]
        }
        _ => Vec::new(),
    })
}

/// The propagator `I − ηG` of gradient descent, p × p, has spectral radius 1 on the range of `G` at
/// the bound, and `1 + 2δ` at `1 + δ` times the bound.
fn check_gradient_descent(
    form: Form,
    jacobian: &RowMatrix,
    bound: f64,
) -> Result<Vec<Comparison>, TheoryError> {
    const PAST: f64 = 1e-3;
    let (n, p) = (jacobian.rows() as f64, jacobian.columns());
    let rate = form.pick(1.0, 2.0) * bound;
    if rate.is_infinite() {
        return Ok(Vec::new());
    }
    let product = jacobian.as_mat().transpose() * jacobian.as_mat();
    let radius = |rate: f64| -> Result<f64, TheoryError> {
        let propagator = Mat::from_fn(p, p, |i, j| {
            let identity = if i == j { 1.0 } else { 0.0 };
            identity - rate / n * product[(i, j)]
        });
        let values = symmetric_eigenvalues(propagator.as_ref())?;
        Ok(values.iter().fold(0.0, |m, v| m.max(v.abs())))
    };
    let statement = Statement::S1;
    Ok(vec![
        Comparison::at_most(statement, "spectral radius at the bound", radius(rate)?, 1.0),
        Comparison::equal(
            statement,
            "spectral radius past the bound",
            radius((1.0 + PAST) * rate)?,
            1.0 + 2.0 * PAST,
            1.0,
        ),
    ])
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::RowMatrix;

    use super::{Form, MinimumInstance, Statement, check};
    use crate::{Batch, Sampling, TOLERANCE};

    /// The relative distance of the two sides of a statement on an instance.
    fn gap(statement: Statement, name: &str, rows: &[Vec<f64>], batch_size: usize) -> f64 {
        let values: Vec<f64> = rows.concat();
        let jacobian = RowMatrix::new(rows.len(), rows[0].len(), values).unwrap();
        let batch = Batch::new(batch_size, Sampling::WithReplacement).unwrap();
        let instance = MinimumInstance { jacobian, batch };
        let comparisons = check(statement, Form::Stated, &instance).unwrap();
        comparisons.iter().find(|comparison| comparison.name == name).unwrap().slack
    }

    fn check_attained(statement: Statement, name: &str, rows: &[Vec<f64>], batch_size: usize) {
        let gap = gap(statement, name, rows, batch_size);
        assert!(gap.abs() <= TOLERANCE, "{statement:?}, {name}: {gap}");
    }

    /// Three vectors at 120°: an equal-norm tight frame of rank 2.
    fn frame() -> Vec<Vec<f64>> {
        let height = 0.75_f64.sqrt();
        vec![vec![1.0, 0.0], vec![-0.5, height], vec![-0.5, -height]]
    }

    #[test]
    fn the_trace_is_the_threshold_for_equal_norms() {
        check_attained(Statement::S2, "threshold and trace", &frame(), 1);
        check_attained(Statement::S7, "row norms and threshold", &frame(), 1);
        let uneven = [vec![1.0, 0.0], vec![0.0, 2.0]];
        assert!(gap(Statement::S2, "threshold and trace", &uneven, 1) > 0.1);
        assert!(gap(Statement::S7, "row norms and threshold", &uneven, 1) <= TOLERANCE);
    }

    #[test]
    fn the_sharp_frobenius_bound_is_attained_at_its_rank() {
        // Rank (1 − p)/p = B − 1 = 2.
        let name = "threshold and Frobenius norm, sharp";
        check_attained(Statement::S3, name, &frame(), 3);
        assert!(gap(Statement::S3, name, &frame(), 2) > 0.01);
        assert!(gap(Statement::S3, name, &frame(), 4) > 0.01);
    }

    #[test]
    fn equal_rows_attain_the_largest_eigenvalue() {
        let rows = vec![vec![1.0, 2.0]; 3];
        for batch_size in [1, 2, 7] {
            check_attained(Statement::S5, "threshold and largest eigenvalue", &rows, batch_size);
            check_attained(Statement::S6, "threshold and spectrum", &rows, batch_size);
            check_attained(Statement::S7, "row norms and threshold", &rows, batch_size);
        }
        check_attained(Statement::S3, "threshold and Frobenius norm", &rows, 1);
    }
}
