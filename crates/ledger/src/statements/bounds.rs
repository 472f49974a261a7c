//! S2, S3, S5, S6, S7 and S11: bounds compared with the exact threshold from its plain definition.

use flatmin_theory::{Bounds, bounds, dense_threshold, spectral_root, sufficient_bound};

use crate::prelude::*;

/// Compares pairs of sides. The mutant halves the larger side.
fn compare<const N: usize>(
    form: Form,
    instance: &MinimumInstance,
    sides: fn(&Measured) -> [(&'static str, f64, f64); N],
) -> Checked {
    let factor = form.pick(1.0, 0.5);
    let sides = sides(&Measured::new(instance)?);
    Ok(Comparison::all_at_most(sides.map(|(name, lhs, rhs)| (name, lhs, factor * rhs))))
}

/// A minimum with its bounds and its exact threshold, by the dense operator.
struct Measured {
    minimum: Minimum,
    noise_coefficient: f64,
    bounds: Bounds,
    threshold: f64,
}

impl Measured {
    fn new(instance: &MinimumInstance) -> Result<Self, LedgerError> {
        let minimum = Minimum::new(&instance.jacobian)?;
        Ok(Self {
            bounds: bounds(&minimum, &instance.batch)?,
            noise_coefficient: instance.batch.noise_coefficient(minimum.sample_count())?,
            threshold: dense_threshold(&minimum, &instance.batch)?,
            minimum,
        })
    }
}

pub(super) static S2: Statement = Statement {
    id: "S2",
    title: "Trace bound",
    words: "Where SGD is mean-square stable, the trace of the Gauss–Newton matrix is at most \
            2/(pη); with batches of one, 2/η.",
    latex: r"\text{SGD stable} \implies \operatorname{tr} G \le \frac{2}{p\eta}",
    hypotheses: ZERO_LOSS,
    source: PAPER,
    check_words: "The exact threshold by the dense operator against the bound.",
    mutant_words: "1/(pη) instead of 2/(pη)",
    trial: &Trial { generate: MinimumInstance::random, check: check_trace },
};

fn check_trace(form: Form, instance: &MinimumInstance) -> Checked {
    compare(form, instance, |m| [("threshold and trace", m.threshold, m.bounds.trace)])
}

pub(super) static S3: Statement = Statement {
    id: "S3",
    title: "Frobenius bound",
    words: "Where SGD is mean-square stable, the Frobenius norm of the Gauss–Newton matrix is at \
            most 2/(√p η), and even at most 1/(η√(p(1−p))) for p ≤ ½ and 2/η for p ≥ ½, which \
            equal-norm tight frames of rank (1−p)/p attain.",
    latex: r"\text{SGD stable} \implies \|G\|_F \le \frac{1}{\eta\sqrt{q(1-q)}} \le \frac{2}{\eta\sqrt{p}},\quad q = \min(p, \tfrac12)",
    hypotheses: ZERO_LOSS,
    source: "flatmin, from S6",
    check_words: "The exact threshold by the dense operator against both bounds.",
    mutant_words: "both bounds halved",
    trial: &Trial { generate: MinimumInstance::random, check: check_frobenius_norm },
};

fn check_frobenius_norm(form: Form, instance: &MinimumInstance) -> Checked {
    compare(form, instance, |Measured { threshold, bounds, .. }| {
        [
            ("threshold and Frobenius norm", *threshold, bounds.frobenius_norm),
            ("threshold and Frobenius norm, sharp", *threshold, bounds.sharp_frobenius_norm),
        ]
    })
}

pub(super) static S5: Statement = Statement {
    id: "S5",
    title: "SGD is no more stable than GD",
    words: "Where SGD is mean-square stable, the largest eigenvalue of the Gauss–Newton matrix is \
            at most 2/η.",
    latex: r"\text{SGD stable} \implies \lambda_{\max}(G) \le 2/\eta",
    hypotheses: ZERO_LOSS,
    source: "standard: the mean must not diverge",
    check_words: "The exact threshold by the dense operator against the bound.",
    mutant_words: "1/η instead of 2/η",
    trial: &Trial { generate: MinimumInstance::random, check: check_lambda_max },
};

fn check_lambda_max(form: Form, instance: &MinimumInstance) -> Checked {
    compare(form, instance, |m| {
        [("threshold and largest eigenvalue", m.threshold, m.bounds.lambda_max)]
    })
}

pub(super) static S6: Statement = Statement {
    id: "S6",
    title: "Spectral bound",
    words: "Where SGD is mean-square stable, the eigenvalues λ_k of the Gauss–Newton matrix \
            satisfy (1−p)ηλ_max < 2 and p Σ ηλ_k/(2 − (1−p)ηλ_k) ≤ 1. This implies S2, S3 and S5.",
    latex: r"\text{SGD stable} \implies \sum_k \frac{\eta\lambda_k}{2-(1-p)\eta\lambda_k} \le \frac1p \ \text{ and } \ (1-p)\eta\lambda_{\max} < 2",
    hypotheses: ZERO_LOSS,
    source: FLATMIN,
    check_words: "The exact threshold by the dense operator against the bound, and the bound \
                  against those of S2, S3 and S5.",
    mutant_words: "2 − ηλ_k instead of 2 − (1−p)ηλ_k",
    trial: &Trial { generate: MinimumInstance::random, check: check_spectrum },
};

fn check_spectrum(form: Form, instance: &MinimumInstance) -> Checked {
    let Measured { minimum, noise_coefficient, bounds, threshold } = Measured::new(instance)?;
    let name = "threshold and spectrum";
    if form == Form::Mutant {
        let bound = spectral_root(minimum.eigenvalues(), noise_coefficient, 1.0);
        return Ok(vec![Comparison::at_most(name, threshold, bound)]);
    }
    Ok(Comparison::all_at_most([
        (name, threshold, bounds.spectral),
        ("implies S2", bounds.spectral, bounds.trace),
        ("implies S3, sharp", bounds.spectral, bounds.sharp_frobenius_norm),
        ("implies S5", bounds.spectral, bounds.lambda_max),
    ]))
}

pub(super) static S7: Statement = Statement {
    id: "S7",
    title: "Sufficient condition",
    words: "SGD is mean-square stable up to the learning rate 2/((1−p)λ_max + p max‖g_i‖²).",
    latex: r"\eta \le \frac{2}{(1-p)\lambda_{\max}(G) + p\max_i\|g_i\|^2} \implies \text{SGD stable}",
    hypotheses: ZERO_LOSS,
    source: FLATMIN,
    check_words: "The bound against the exact threshold by the dense operator.",
    mutant_words: "the mean of ‖g_i‖² instead of the largest",
    trial: &Trial { generate: MinimumInstance::random, check: check_sufficient },
};

fn check_sufficient(form: Form, instance: &MinimumInstance) -> Checked {
    let Measured { minimum, noise_coefficient, bounds, threshold } = Measured::new(instance)?;
    let sharpness = minimum.sharpness();
    let wrong = sufficient_bound(sharpness.lambda_max, sharpness.trace, noise_coefficient);
    let bound = form.pick(bounds.sufficient, wrong);
    Ok(vec![Comparison::at_most("row norms and threshold", bound, threshold)])
}

pub(super) static S11: Statement = Statement {
    id: "S11",
    title: "The order of the bounds",
    words: "For every minimum the largest learning rates that the conditions admit are ordered: S7 \
            ≤ η* ≤ S6 ≤ min(S2, S3 sharp, S5), S3 sharp ≤ S3, and η* ≤ S4.",
    latex: r"\text{S7} \le \eta^* \le \text{S6} \le \min(\text{S2}, \text{S3}^\sharp, \text{S5}),\quad \text{S3}^\sharp \le \text{S3},\quad \eta^* \le \text{S4}",
    hypotheses: ZERO_LOSS,
    source: FLATMIN,
    check_words: "All bounds and the threshold of the dense operator.",
    mutant_words: "the larger side of each comparison halved",
    trial: &Trial { generate: MinimumInstance::random, check: check_order },
};

fn check_order(form: Form, instance: &MinimumInstance) -> Checked {
    compare(form, instance, |&Measured { threshold, bounds, .. }| {
        [
            ("row norms and threshold", bounds.sufficient, threshold),
            ("threshold and spectrum", threshold, bounds.spectral),
            ("spectrum and trace", bounds.spectral, bounds.trace),
            ("spectrum and Frobenius norm, sharp", bounds.spectral, bounds.sharp_frobenius_norm),
            ("spectrum and largest eigenvalue", bounds.spectral, bounds.lambda_max),
            ("Frobenius norm, sharp or not", bounds.sharp_frobenius_norm, bounds.frobenius_norm),
            ("threshold and centred alignment", threshold, bounds.centered_alignment),
        ]
    })
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::RowMatrix;
    use flatmin_theory::{Batch, Sampling};

    use super::super::alignment::S4;
    use super::{S2, S3, S5, S6, S7};
    use crate::comparison::TOLERANCE;
    use crate::families::minimum::MinimumInstance;
    use crate::statement::{Form, Statement};

    /// The relative distance of the two sides of a statement on an instance.
    fn gap(statement: &Statement, name: &str, rows: &[Vec<f64>], batch_size: usize) -> f64 {
        let values: Vec<f64> = rows.concat();
        let jacobian = RowMatrix::new(rows.len(), rows[0].len(), values).unwrap();
        let batch = Batch::new(batch_size, Sampling::WithReplacement).unwrap();
        let instance = MinimumInstance { jacobian, batch };
        let comparisons = statement.check(Form::Stated, &instance).unwrap();
        comparisons.iter().find(|comparison| comparison.name == name).unwrap().slack
    }

    fn check_attained(statement: &Statement, name: &str, rows: &[Vec<f64>], batch_size: usize) {
        let gap = gap(statement, name, rows, batch_size);
        assert!(gap.abs() <= TOLERANCE, "{statement}, {name}: {gap}");
    }

    /// Three vectors at 120°: an equal-norm tight frame of rank 2.
    fn frame() -> Vec<Vec<f64>> {
        let height = 0.75_f64.sqrt();
        vec![vec![1.0, 0.0], vec![-0.5, height], vec![-0.5, -height]]
    }

    #[test]
    fn the_trace_is_the_threshold_for_equal_norms() {
        check_attained(&S2, "threshold and trace", &frame(), 1);
        check_attained(&S7, "row norms and threshold", &frame(), 1);
        let uneven = [vec![1.0, 0.0], vec![0.0, 2.0]];
        assert!(gap(&S2, "threshold and trace", &uneven, 1) > 0.1);
        assert!(gap(&S7, "row norms and threshold", &uneven, 1) <= TOLERANCE);
    }

    #[test]
    fn the_sharp_frobenius_bound_is_attained_at_its_rank() {
        // Rank (1 − p)/p = B − 1 = 2.
        let name = "threshold and Frobenius norm, sharp";
        check_attained(&S3, name, &frame(), 3);
        assert!(gap(&S3, name, &frame(), 2) > 0.01);
        assert!(gap(&S3, name, &frame(), 4) > 0.01);
    }

    #[test]
    fn two_orthonormal_rows_attain_the_centred_alignment() {
        let name = "threshold and centred alignment";
        check_attained(&S4, name, &[vec![1.0, 0.0], vec![0.0, 1.0]], 1);
        // Two equal rows make no noise. The uncentred formula would give less than their threshold.
        let rows = vec![vec![1.0, 0.0]; 2];
        assert!(gap(&S4, name, &rows, 1) >= 1.0);
        let jacobian = RowMatrix::new(2, 2, rows.concat()).unwrap();
        let batch = Batch::new(1, Sampling::WithReplacement).unwrap();
        let instance = MinimumInstance { jacobian, batch };
        let mutant = S4.check(Form::Mutant, &instance).unwrap();
        let comparison = mutant.iter().find(|comparison| comparison.name == name).unwrap();
        assert!((comparison.lhs - 2.0).abs() < 1e-14 && (comparison.rhs - 1.0).abs() < 1e-14);
    }

    #[test]
    fn equal_rows_attain_the_largest_eigenvalue() {
        let rows = vec![vec![1.0, 2.0]; 3];
        for batch_size in [1, 2, 7] {
            check_attained(&S5, "threshold and largest eigenvalue", &rows, batch_size);
            check_attained(&S6, "threshold and spectrum", &rows, batch_size);
            check_attained(&S7, "row norms and threshold", &rows, batch_size);
        }
        check_attained(&S3, "threshold and Frobenius norm", &rows, 1);
    }
}
