//! Checks of S1–S7 and S11: every bound against the exact threshold, by the plain definition.

use faer::Mat;
use flatmin_linalg::{RowMatrix, simd, stream, symmetric_eigenvalues};
use rand_distr::{Distribution as _, StandardNormal};

use super::{Comparison, Form, MinimumInstance, Statement};
use crate::LedgerError;
use flatmin_theory::spectral_root;
use flatmin_theory::{
    Alignment, Bounds, Minimum, alignment, bounds, centered_alignment_bound, dense_threshold,
    sufficient_bound,
};

pub(super) fn check(
    statement: Statement,
    form: Form,
    instance: &MinimumInstance,
) -> Result<Vec<Comparison>, LedgerError> {
    let minimum = Minimum::new(&instance.jacobian)?;
    let bounds = bounds(&minimum, &instance.batch)?;
    if statement == Statement::S1 {
        return check_gradient_descent(form, &instance.jacobian, bounds.lambda_max);
    }
    let p = instance.batch.noise_coefficient(minimum.sample_count())?;
    let threshold = dense_threshold(&minimum, &instance.batch)?;
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
        Statement::S4 => {
            let alignment = alignment(&minimum)?;
            let frobenius_norm = minimum.sharpness().frobenius_norm;
            let wrong = centered_alignment_bound(frobenius_norm, alignment.chi_min, p);
            let centered = form.pick(bounds.centered_alignment, wrong);
            let uncentered = form.pick(bounds.uncentered_alignment, wrong);
            let mut comparisons = vec![
                at_most("threshold and centred alignment", threshold, centered),
                at_most("threshold and uncentred alignment", threshold, uncentered),
            ];
            comparisons.extend(check_alignment(form, &instance.jacobian, &alignment));
            comparisons
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
        Statement::S11 => order(form, threshold, &bounds),
        _ => Vec::new(),
    })
}

/// S4: at random states δ of the linearised model, with G and S formed as they are defined, the
/// alignment of the noise is at least its smallest value.
fn check_alignment(form: Form, jacobian: &RowMatrix, alignment: &Alignment) -> Vec<Comparison> {
    const STATES: u64 = 4;
    let (n, p) = (jacobian.rows() as f64, jacobian.columns());
    let gauss_newton = faer::Scale(1.0 / n) * (jacobian.as_mat().transpose() * jacobian.as_mat());
    // gᵀ G g for a vector g.
    let curvature = |g: &[f64]| -> f64 {
        (0..p).map(|i| g[i] * (0..p).map(|j| gauss_newton[(i, j)] * g[j]).sum::<f64>()).sum()
    };
    let smallest = form.pick(alignment.centered, alignment.chi_min);
    // What directions whose eigenvalue is rounding of zero, and which the alignment leaves out, can
    // hold of the residuals, relative.
    let left_out = (n * f64::EPSILON).sqrt();
    (0..STATES)
        .map(|index| {
            let mut rng = stream(0, "states of the linearised model", index);
            let state: Vec<f64> = (0..p).map(|_| StandardNormal.sample(&mut rng)).collect();
            let mut gradient = vec![0.0; p];
            let (mut noise, mut loss) = (0.0, 0.0);
            for i in 0..jacobian.rows() {
                let row = jacobian.row(i);
                let residual = simd::dot(row, &state);
                noise += residual * residual * curvature(row) / n;
                loss += residual * residual / (2.0 * n);
                simd::axpy(residual / n, row, &mut gradient);
            }
            // tr(S G) = noise − ∇Rᵀ G ∇R, without the cancellation.
            let unit = 2.0 * loss * gauss_newton.squared_norm_l2();
            let least = smallest * unit + curvature(&gradient);
            let most = noise + 2.0 * left_out * alignment.chi_max * unit;
            Comparison::at_most(Statement::S4, "alignment of a state", least, most)
        })
        .collect()
}

/// S11. The mutant halves the larger side of each comparison.
fn order(form: Form, threshold: f64, bounds: &Bounds) -> Vec<Comparison> {
    let factor = form.pick(1.0, 0.5);
    [
        ("row norms and threshold", bounds.sufficient, threshold),
        ("threshold and spectrum", threshold, bounds.spectral),
        ("spectrum and trace", bounds.spectral, bounds.trace),
        ("spectrum and Frobenius norm, sharp", bounds.spectral, bounds.sharp_frobenius_norm),
        ("spectrum and largest eigenvalue", bounds.spectral, bounds.lambda_max),
        ("Frobenius norm, sharp or not", bounds.sharp_frobenius_norm, bounds.frobenius_norm),
        ("threshold and centred alignment", threshold, bounds.centered_alignment),
    ]
    .map(|(name, lhs, rhs)| Comparison::at_most(Statement::S11, name, lhs, factor * rhs))
    .to_vec()
}

/// The propagator `I − ηG` of gradient descent, p × p, has spectral radius 1 on the range of `G` at
/// the bound, and `1 + 2δ` at `1 + δ` times the bound.
fn check_gradient_descent(
    form: Form,
    jacobian: &RowMatrix,
    bound: f64,
) -> Result<Vec<Comparison>, LedgerError> {
    const PAST: f64 = 1e-3;
    let (n, p) = (jacobian.rows() as f64, jacobian.columns());
    let rate = form.pick(1.0, 2.0) * bound;
    if rate.is_infinite() {
        return Ok(Vec::new());
    }
    let product = jacobian.as_mat().transpose() * jacobian.as_mat();
    let radius = |rate: f64| -> Result<f64, LedgerError> {
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
    use crate::TOLERANCE;
    use flatmin_theory::{Batch, Sampling};

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
    fn two_orthonormal_rows_attain_the_centred_alignment() {
        let name = "threshold and centred alignment";
        check_attained(Statement::S4, name, &[vec![1.0, 0.0], vec![0.0, 1.0]], 1);
        // Two equal rows make no noise, and the uncentred formula contradicts their threshold.
        let rows = vec![vec![1.0, 0.0]; 2];
        assert!(gap(Statement::S4, name, &rows, 1) >= 1.0);
        let jacobian = RowMatrix::new(2, 2, rows.concat()).unwrap();
        let batch = Batch::new(1, Sampling::WithReplacement).unwrap();
        let instance = MinimumInstance { jacobian, batch };
        let mutant = check(Statement::S4, Form::Mutant, &instance).unwrap();
        let comparison = mutant.iter().find(|comparison| comparison.name == name).unwrap();
        assert!((comparison.lhs - 2.0).abs() < 1e-14 && (comparison.rhs - 1.0).abs() < 1e-14);
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
