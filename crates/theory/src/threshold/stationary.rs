//! The stationary law of SGD inside its threshold (S18).

use flatmin_linalg::{Parallelism, PowerOfTwo, simd};

use super::perron::PerronOperator;
use super::response::Response;
use crate::{Minimum, Noise, Optimizer, ThresholdError};

/// The relative residual at which conjugate gradients stop.
const TOLERANCE: f64 = 1e-14;

/// The largest number of steps of conjugate gradients.
const MAX_STEPS: usize = 2000;

/// The system `q = M(μ) q + s` for an optimizer at a minimum with curvature.
pub(crate) struct PerronSystem<'a> {
    operator: PerronOperator<'a>,
    noise: Noise,
    /// `μ = unit · 2/(factor · η)` for learning rates of the given Jacobian.
    unit: PowerOfTwo,
    factor: f64,
}

impl<'a> PerronSystem<'a> {
    pub(crate) fn new(
        minimum: &'a Minimum,
        optimizer: &Optimizer,
        noise: Noise,
        parallelism: Parallelism,
    ) -> Self {
        let (exponent, eigenvalues, rows) = minimum.scaled();
        let unit = PowerOfTwo::new(-2 * exponent);
        let (optimizer, factor) = optimizer.undamped();
        let response = Response::new(eigenvalues, noise, &optimizer.for_power_of_two(unit));
        let operator = PerronOperator::new(response, rows, minimum.output_count(), parallelism);
        Self { operator, noise, unit, factor }
    }

    /// `Σ_i tr Q_i` of the Q that solves `Q = Φ(Q) + s`, where s is the covariance of the outputs
    /// due to the gradient noise of one step and its echoes; `None` from the threshold on.
    pub(crate) fn fluctuation(
        &mut self,
        learning_rate: f64,
        residuals: &[f64],
    ) -> Result<Option<f64>, ThresholdError> {
        let mu = self.unit.times(2.0 / learning_rate / self.factor);
        let nu = mu - self.operator.response.pole();
        let mean_is_stable = mu > self.operator.response.descent_limit();
        if !(mean_is_stable && nu > 0.0) {
            return Ok(None);
        }
        if self.noise.coefficient <= 0.0 {
            return Ok(Some(0.0));
        }
        // The noise of these residuals may miss the directions that grow: the unit misses none.
        let unit = self.operator.cone.unit();
        if self.solve(nu, &unit).is_none() {
            return Ok(None);
        }
        let source = self.source(nu, residuals);
        let Some(solution) = self.solve(nu, &source) else { return Ok(None) };
        let cone = self.operator.cone;
        let sum: f64 = solution.iter().zip(cone.unit()).map(|(value, one)| value * one).sum();
        if sum.is_finite() { Ok(Some(sum)) } else { Err(ThresholdError::NoCertificate) }
    }

    /// `Φ(rrᵀ)` less the part of the mean gradient.
    fn source(&mut self, nu: f64, residuals: &[f64]) -> Vec<f64> {
        let cone = self.operator.cone;
        let (modes, k) = (self.operator.response.modes(nu), cone.outputs);
        let mut squares = Vec::with_capacity(residuals.len() * (k + 1) / 2);
        for block in residuals.chunks(k) {
            for a in 0..k {
                squares.extend(block[..=a].iter().map(|b| block[a] * b));
            }
        }
        cone.to_coordinates(&mut squares);
        let mut source = vec![0.0; squares.len()];
        self.operator.apply(&modes, &squares, &mut source);
        let weight =
            self.noise.mean_deficit / self.noise.coefficient * self.operator.response.noise;
        if weight > 0.0 {
            let rows = self.operator.rows;
            let mut mean = vec![0.0; rows.columns()];
            for (row, residual) in residuals.iter().enumerate() {
                simd::axpy(residual / cone.samples as f64, rows.row(row), &mut mean);
            }
            let mut part = self.operator.forms_of_square(&modes, &mean);
            cone.to_coordinates(&mut part);
            simd::axpy(-weight, &part, &mut source);
        }
        source
    }

    /// `(I − M)⁻¹ s` by conjugate gradients: M is symmetric, and `I − M` is positive definite
    /// exactly inside the threshold. `None` where a direction shows that it is not.
    fn solve(&mut self, nu: f64, source: &[f64]) -> Option<Vec<f64>> {
        let modes = self.operator.response.modes(nu);
        let mut solution = vec![0.0; source.len()];
        let mut residual = source.to_vec();
        let mut direction = residual.clone();
        let mut square = simd::norm_squared(&residual);
        let goal = TOLERANCE * TOLERANCE * square;
        let mut image = vec![0.0; source.len()];
        for _ in 0..MAX_STEPS {
            if square <= goal {
                break;
            }
            self.operator.apply(&modes, &direction, &mut image);
            for (image, value) in image.iter_mut().zip(&direction) {
                *image = value - *image;
            }
            let curvature = simd::dot(&direction, &image);
            if !(curvature > 0.0) {
                return None;
            }
            let step = square / curvature;
            simd::axpy(step, &direction, &mut solution);
            simd::axpy(-step, &image, &mut residual);
            let next = simd::norm_squared(&residual);
            let ratio = next / square;
            for (direction, residual) in direction.iter_mut().zip(&residual) {
                *direction = residual + ratio * *direction;
            }
            square = next;
        }
        Some(solution)
    }
}
