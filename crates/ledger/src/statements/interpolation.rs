//! D4: the condition of gradient descent admits the interpolator of minimum ℓ2 norm.

use flatmin_linalg::Sharpness;
use flatmin_models::DiagonalLinear;
use flatmin_theory::{lambda_max_bound, trace_bound};

use crate::families::diagonal::Population;
use crate::families::interpolator::{l1_norm, layers, projection, random_coefficients};
use crate::families::monte_carlo::{SAMPLES, mean_is};
use crate::prelude::*;

pub(super) static D4: Statement = Statement {
    id: "D4",
    title: "The condition of gradient descent is too weak",
    words: "The interpolator of least ℓ2 norm, with balanced layers, is admitted by the population \
            condition of gradient descent wherever the balanced β* is, if its largest coefficient \
            is not larger than that of β*. Yet its expected squared error is exactly (1 − \
            n/d)‖β*‖², or (1 − E[rank X]/d)‖β*‖² for designs that can lose rank. SGD's condition \
            excludes it at 1/(s²‖β*‖₁) where its ℓ1 norm is larger.",
    latex: r"\mathbb E\|\hat\beta - \beta^*\|^2 = \left(1 - \frac{\mathbb E\operatorname{rank} X}{d}\right)\|\beta^*\|^2",
    hypotheses: "n × d designs with independent entries of one symmetric law of variance s²",
    source: "Wu and Su (2023), made exact",
    check_words: "The error over independent random designs, uniform or of signs, against its \
                  expectation with rigorous confidence; and on single designs both conditions, \
                  from the dense population matrix.",
    mutant_words: "n/d instead of 1 − n/d, SGD's condition for that of gradient descent, and half \
                   the learning rate for SGD",
    trial: &Trial { generate: InterpolationInstance::random, check },
};

/// Coefficients and random designs at which to interpolate them.
#[derive(Debug, Clone, PartialEq)]
pub struct InterpolationInstance {
    coefficients: Vec<f64>,
    designs: Vec<RowMatrix>,
    input_variance: f64,
}

impl InterpolationInstance {
    /// `coefficients` β* (d) and independent `designs` (each n × d), whose entries are independent
    /// with one symmetric law of variance `input_variance` = s².
    ///
    /// # Errors
    /// [`InstanceError::Length`] when the parts do not fit together.
    pub fn new(
        coefficients: Vec<f64>,
        designs: Vec<RowMatrix>,
        input_variance: f64,
    ) -> Result<Self, InstanceError> {
        for design in &designs {
            expect_length("an input", design.columns(), coefficients.len())?;
        }
        Ok(Self { coefficients, designs, input_variance })
    }

    /// Designs with uniform coordinates, or with signs, whose rows may depend on each other.
    fn random(rng: &mut dyn Rng) -> Self {
        let dim = rng.random_range(2..=6);
        let count = rng.random_range(1..=dim);
        let input_variance = power_of_ten(rng, 2.0);
        let is_uniform = rng.random_bool(0.5);
        let side = if is_uniform { (3.0 * input_variance).sqrt() } else { input_variance.sqrt() };
        let mut entry = || {
            let unit: f64 = rng.random_range(-1.0..1.0);
            side * if is_uniform { unit } else { 1.0_f64.copysign(unit) }
        };
        let designs =
            (0..SAMPLES).map(|_| RowMatrix::from_fn(count, dim, |_, _| entry())).collect();
        Self { coefficients: random_coefficients(dim, rng), designs, input_variance }
    }
}

impl Instance for InterpolationInstance {
    fn sizes(&self) -> String {
        let Self { coefficients, designs, .. } = self;
        let n = designs.first().map_or(0, RowMatrix::rows);
        format!("n = {n}, d = {}, {} designs", coefficients.len(), designs.len())
    }
}

/// Samples the error of the interpolator of minimum ℓ2 norm, and checks the stability of some of
/// them. The mutant has n/d instead of 1 − n/d, and claims that SGD admits every interpolator that
/// gradient descent admits.
fn check(form: Form, instance: &InterpolationInstance) -> Checked {
    const DESIGNS_LOOKED_AT: usize = 2;
    let InterpolationInstance { coefficients, designs, input_variance } = instance;
    let Ok(model) = DiagonalLinear::new(coefficients.len()) else { return Ok(Vec::new()) };
    let squared_norm = simd::norm_squared(coefficients);
    let mut comparisons = Vec::new();
    let mut samples = Vec::with_capacity(designs.len());
    for (number, design) in designs.iter().enumerate() {
        let (interpolator, rank) = projection(design, coefficients);
        let error: f64 =
            interpolator.iter().zip(coefficients).map(|(b, target)| (b - target).powi(2)).sum();
        let part = rank as f64 / coefficients.len() as f64;
        // The mean of this sum is ‖β*‖²: the expected error is smaller than ‖β*‖² by the part that
        // the design measures.
        samples.push(error + form.pick(part, 1.0 - part) * squared_norm);
        if number < DESIGNS_LOOKED_AT {
            comparisons.extend(check_stability(
                form,
                model,
                [&interpolator, coefficients],
                *input_variance,
            )?);
        }
    }
    comparisons.push(mean_is(
        "sampled error and rank",
        squared_norm,
        &samples,
        form.pick(1.0, 2.0) * squared_norm,
    ));
    Ok(comparisons)
}

/// Checks two claims for balanced layers. Gradient descent admits `interpolator` at every learning
/// rate at which it admits `target`, if the largest coefficient of `interpolator` is not larger.
/// SGD does not admit it at `1/(s²‖β*‖₁)`, if its ℓ1 norm is larger.
fn check_stability(
    form: Form,
    model: DiagonalLinear,
    [interpolator, target]: [&[f64]; 2],
    input_variance: f64,
) -> Checked {
    let largest = |values: &[f64]| values.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    let balanced = |coefficients: &[f64]| {
        let parameters = layers(coefficients, 1.0);
        Population { model, parameters: &parameters, input_variance }.sharpness()
    };
    let (of_interpolator, of_target) = (balanced(interpolator)?, balanced(target)?);
    let mut comparisons = Vec::new();
    if largest(interpolator) <= largest(target) {
        let measure = |sharpness: &Sharpness| match form {
            Form::Stated => lambda_max_bound(sharpness.lambda_max),
            Form::Mutant => trace_bound(sharpness.trace, 1.0),
        };
        let (lhs, rhs) = (measure(&of_target), measure(&of_interpolator));
        comparisons.push(Comparison::at_most("learning rates of gradient descent", lhs, rhs));
    }
    if l1_norm(interpolator) > l1_norm(target) {
        let rate = form.pick(1.0, 0.5) / (input_variance * l1_norm(target));
        let lhs = trace_bound(of_interpolator.trace, 1.0);
        comparisons.push(Comparison::at_most("learning rates of SGD", lhs, rate));
    }
    Ok(comparisons)
}
