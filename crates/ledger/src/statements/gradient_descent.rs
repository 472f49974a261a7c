//! S1: gradient descent, by its propagator.

use flatmin_theory::bounds;

use crate::prelude::*;

pub(super) static S1: Statement = Statement {
    id: "S1",
    title: "Stability of gradient descent",
    words: "Gradient descent is stable at a minimum if and only if the largest eigenvalue of the \
            Gauss–Newton matrix is at most 2/η.",
    latex: r"\text{GD stable} \iff \lambda_{\max}(G) \le 2/\eta",
    hypotheses: "a zero-loss minimum, linearised",
    source: PAPER,
    check_words: "The spectral radius of I − ηG, formed as a p × p matrix, at the bound and past \
                  it.",
    mutant_words: "4/η instead of 2/η",
    trial: &Trial { generate: MinimumInstance::random, check },
};

/// Checks that the propagator `I − ηG` of gradient descent, p × p, has spectral radius 1 on the
/// range of `G` at the bound, and `1 + 2δ` at `1 + δ` times the bound.
fn check(form: Form, instance: &MinimumInstance) -> Checked {
    const PAST: f64 = 1e-3;
    let MinimumInstance { jacobian, batch } = instance;
    let bound = bounds(&Minimum::new(jacobian)?, batch)?.lambda_max;
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
    let past = radius((1.0 + PAST) * rate)?;
    Ok(vec![
        Comparison::at_most("spectral radius at the bound", radius(rate)?, 1.0),
        Comparison::equal("spectral radius past the bound", past, 1.0 + 2.0 * PAST, 1.0),
    ])
}
