//! The noise floor of SGD at a minimum whose residuals do not vanish (S18).

use flatmin_linalg::Parallelism;

use crate::threshold::PerronSystem;
use crate::{Batch, Minimum, Optimizer, ThresholdError};

/// The training loss around which SGD settles, see [`noise_floor`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NoiseFloor {
    /// The mean training loss `(1/2n) Σ ‖r_i + J_iδ‖²` of the stationary law.
    pub training_loss: f64,
    /// The part that the fluctuations add to the loss `(1/2n) Σ ‖r_i‖²` of the minimum.
    pub excess: f64,
}

/// The training loss around which SGD settles at a constant learning rate, where the residuals
/// `r_i = f(x_i) − y_i` do not vanish; `None` from the stability threshold on, where it diverges.
///
/// The fluctuations `q_i = E(g_iᵀδ)²` of the outputs solve `q = M(q + r²)`, with the M of
/// [`threshold`](crate::threshold()) at this learning rate; with several outputs
/// `Q = Φ(Q + rrᵀ)`. With weight decay the mean m of the `r_ig_i` does not vanish, and
/// `(1−α) mmᵀ` is taken off the noise. Exact for linear least squares at the stationary point.
/// Source: theory S18.
///
/// ```
/// use flatmin_linalg::RowMatrix;
/// use flatmin_theory::{Batch, Minimum, Optimizer, Sampling, noise_floor};
/// // One parameter and two samples with gradients 1 and targets ±1, one at a time:
/// // δ' = (1 − η)δ ± η, so that E δ² = η/(2 − η).
/// let minimum = Minimum::new(&RowMatrix::new(2, 1, vec![1.0, 1.0])?)?;
/// let batch = Batch::new(1, Sampling::WithReplacement)?;
/// let floor = noise_floor(&minimum, &Optimizer::sgd(), &batch, 0.5, &[1.0, -1.0])?.unwrap();
/// assert!((floor.excess - 0.5 * 0.5 / 1.5).abs() < 1e-12);
/// assert!(noise_floor(&minimum, &Optimizer::sgd(), &batch, 2.5, &[1.0, -1.0])?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`ThresholdError::Residuals`] unless there are nk finite residuals, sample by sample;
/// [`ThresholdError::Batch`] as [`Batch::noise`].
pub fn noise_floor(
    minimum: &Minimum,
    optimizer: &Optimizer,
    batch: &Batch,
    learning_rate: f64,
    residuals: &[f64],
) -> Result<Option<NoiseFloor>, ThresholdError> {
    let (n, k) = (minimum.sample_count(), minimum.output_count());
    let (got, expected) = (residuals.iter().filter(|r| r.is_finite()).count(), n * k);
    if got != expected || residuals.len() != expected {
        return Err(ThresholdError::Residuals { got, expected });
    }
    let noise = batch.noise(n)?;
    let still = residuals.iter().map(|r| r * r).sum::<f64>() / (2 * n) as f64;
    let fluctuation = if minimum.eigenvalues().is_empty() {
        Some(0.0)
    } else {
        let mut system = PerronSystem::new(minimum, optimizer, noise, Parallelism::Sequential);
        system.fluctuation(learning_rate, residuals)?
    };
    Ok(fluctuation.map(|sum| {
        let excess = sum / (2 * n) as f64;
        NoiseFloor { training_loss: still + excess, excess }
    }))
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::RowMatrix;

    use super::noise_floor;
    use crate::{Batch, Minimum, Optimizer, Sampling};

    #[test]
    fn noise_that_misses_what_grows_has_no_floor_either() {
        let jacobian = RowMatrix::new(2, 2, vec![1.0, 0.0, 0.0, 3.0]).unwrap();
        let minimum = Minimum::new(&jacobian).unwrap();
        let batch = Batch::new(1, Sampling::WithReplacement).unwrap();
        let floor = |rate: f64| {
            noise_floor(&minimum, &Optimizer::sgd(), &batch, rate, &[1.0, 0.0]).unwrap()
        };
        // η* = 2/9 by the second sample, whose residual is zero.
        assert!(floor(0.22).is_some() && floor(0.23).is_none());
    }
}
