//! S4: the alignment of the noise.

use flatmin_theory::{Alignment, alignment, bounds, centered_alignment_bound, dense_threshold};

use crate::prelude::*;

pub(super) static S4: Statement = Statement {
    id: "S4",
    title: "Bound by the alignment of the noise",
    words: "Where SGD is stable, the Frobenius norm of the Gauss–Newton matrix is at most \
            1/(η√(pμ)), where μ is the least alignment of the centred noise. With the uncentred \
            alignment χ = min χ_i in its place, at most 1/(η√(p(1−p)χ)) for p ≤ ½ and 2/(η√χ) for \
            p ≥ ½.",
    latex: r"\text{SGD stable} \implies \|G\|_F \le \frac{1}{\eta\sqrt{p\mu}},\quad \mu = \inf_\delta \frac{\operatorname{tr}(S G)}{2R\,\|G\|_F^2} = \frac{\lambda_{\min}\left(U^\top\operatorname{diag}(g_i^\top G g_i)\,U - \Lambda^2\right)}{\|G\|_F^2}",
    hypotheses: ZERO_LOSS,
    source: "Wu and Su (2023), after Wu, Wang and Su (2022); closed form: flatmin",
    check_words: "The exact threshold by the dense operator against both bounds; and the alignment \
                  at random states, with G and S formed as they are defined, against its \
                  closed-form infimum.",
    mutant_words: "the uncentred alignment in place of the centred one, which is false for two \
                   equal rows",
    trial: &Trial { generate: MinimumInstance::random, check },
};

fn check(form: Form, instance: &MinimumInstance) -> Checked {
    let MinimumInstance { jacobian, batch } = instance;
    let minimum = Minimum::new(jacobian)?;
    let bounds = bounds(&minimum, batch)?;
    let p = batch.noise_coefficient(minimum.sample_count())?;
    let threshold = dense_threshold(&minimum, batch)?;
    let alignment = alignment(&minimum)?;
    let frobenius_norm = minimum.sharpness().frobenius_norm;
    let wrong = centered_alignment_bound(frobenius_norm, alignment.chi_min, p);
    let centered = form.pick(bounds.centered_alignment, wrong);
    let uncentered = form.pick(bounds.uncentered_alignment, wrong);
    let mut comparisons = Comparison::all_at_most([
        ("threshold and centred alignment", threshold, centered),
        ("threshold and uncentred alignment", threshold, uncentered),
    ]);
    comparisons.extend(check_states(form, jacobian, &alignment));
    Ok(comparisons)
}

/// Checks at random states δ of the linearised model that the alignment of the noise is at least
/// its smallest value. G and S are computed from their definitions.
fn check_states(form: Form, jacobian: &RowMatrix, alignment: &Alignment) -> Vec<Comparison> {
    const STATES: u64 = 4;
    let (n, p) = (jacobian.rows() as f64, jacobian.columns());
    let gauss_newton = faer::Scale(1.0 / n) * (jacobian.as_mat().transpose() * jacobian.as_mat());
    // gᵀ G g for a vector g.
    let curvature = |g: &[f64]| -> f64 {
        (0..p).map(|i| g[i] * (0..p).map(|j| gauss_newton[(i, j)] * g[j]).sum::<f64>()).sum()
    };
    let smallest = form.pick(alignment.centered, alignment.chi_min);
    // The alignment leaves out directions whose eigenvalue is zero up to rounding. They contain at
    // most this fraction of the residuals.
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
            Comparison::at_most("alignment of a state", least, most)
        })
        .collect()
}
