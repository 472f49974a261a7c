//! Comparisons of an expectation with the mean of independent samples, with a rigorous confidence.

use crate::prelude::*;

/// The probability that a comparison with a sample mean fails although the statement is true.
const FALSE_ALARM_RATE: f64 = 1e-9;

/// Number of samples in a random instance.
pub(crate) const SAMPLES: usize = 1000;

/// Compares `expected` with the mean of independent samples of a variable that varies by at most
/// `range`: the deviation is at most the empirical Bernstein radius (Maurer and Pontil 2009,
/// theorem 4)
///
/// ```text
/// √(2 V ln(4/δ) / N) + 7 · range · ln(4/δ) / (3(N − 1)),
/// ```
///
/// V the sample variance, except with probability δ = 1e-9. No normal approximation is involved.
pub(crate) fn mean_is(
    name: &'static str,
    expected: f64,
    samples: &[f64],
    range: f64,
) -> Comparison {
    let count = samples.len() as f64;
    let mean = samples.iter().sum::<f64>() / count;
    let squares: f64 = samples.iter().map(|value| (value - mean).powi(2)).sum();
    let log = libm::log(4.0 / FALSE_ALARM_RATE);
    let variance = squares / (count - 1.0);
    let radius = (2.0 * variance * log / count).sqrt() + 7.0 * range * log / (3.0 * (count - 1.0));
    // Rounding of the mean matters for variables with almost no variance.
    let rounding = count * f64::EPSILON * mean.abs();
    Comparison::at_most(name, (mean - expected).abs(), radius + rounding)
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::stream;
    use rand::RngExt as _;

    use super::{SAMPLES, mean_is};

    #[test]
    fn the_mean_of_a_uniform_variable_is_a_half() {
        let mut rng = stream(0, "mean of a uniform variable", 0);
        let samples: Vec<f64> = (0..SAMPLES).map(|_| rng.random_range(0.0..1.0)).collect();
        assert!(mean_is("test", 0.5, &samples, 1.0).holds(0.0));
        assert!(!mean_is("test", 0.7, &samples, 1.0).holds(0.0));
        assert!(!mean_is("test", f64::NAN, &samples, 1.0).holds(0.0));
    }

    #[test]
    fn too_few_samples_prove_nothing() {
        assert!(!mean_is("test", 1.0, &[1.0], 1.0).holds(0.0));
    }
}
