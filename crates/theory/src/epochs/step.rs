//! The steps of an epoch.

use flatmin_linalg::{RowMatrix, simd};

use crate::{Batch, BatchError, Minimum, Optimizer, Sampling, ThresholdError};

/// The batches of an epoch at a minimum.
pub(super) struct Epoch<'a> {
    /// The rows of `J/2^e` in the eigenbasis of its G, k for each sample.
    pub(super) rows: &'a RowMatrix,
    pub(super) samples: usize,
    pub(super) outputs: usize,
    /// The sizes of the batches, in their order.
    pub(super) sizes: Vec<usize>,
    /// The eigenvalues of that G, ascending.
    pub(super) eigenvalues: &'a [f64],
}

/// A step `z' = A z − η b (H_I cᵀz)` of an optimizer without dampening. The state z has one or two
/// numbers for each mode: all positions, then all velocities.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    optimizer: Optimizer,
    /// 1 or 2.
    pub(super) parts: usize,
}

/// The numbers of a step at one learning rate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Coefficients {
    /// A, row by row; the identity for velocities that are not there.
    transition: [[f64; 2]; 2],
    /// η b.
    input: [f64; 2],
}

impl<'a> Epoch<'a> {
    pub(super) fn new(minimum: &'a Minimum, batch: &Batch) -> Result<Self, ThresholdError> {
        let samples = minimum.sample_count();
        if batch.sampling() != Sampling::Reshuffling {
            return Err(BatchError::NoEpochs { sampling: batch.sampling() }.into());
        }
        if batch.size() > samples {
            let error = BatchError::TooLarge { batch_size: batch.size(), sample_count: samples };
            return Err(error.into());
        }
        let (_, eigenvalues, rows) = minimum.scaled();
        let sizes = batch.epoch_sizes(samples).collect();
        Ok(Self { rows, samples, outputs: minimum.output_count(), sizes, eigenvalues })
    }

    /// As many batches, all of this size.
    pub(super) fn of_equal_batches(&self, size: usize) -> Self {
        let sizes = vec![size; self.sizes.len()];
        let Self { rows, samples, outputs, eigenvalues, .. } = *self;
        Self { rows, samples, outputs, sizes, eigenvalues }
    }

    pub(super) fn rank(&self) -> usize {
        self.rows.columns()
    }

    /// The rows of one sample.
    pub(super) fn rows_of(&self, sample: usize) -> impl Iterator<Item = &'a [f64]> {
        let rows = self.rows;
        (sample * self.outputs..(sample + 1) * self.outputs).map(move |row| rows.row(row))
    }

    /// A learning rate at which every step of plain SGD is a contraction: `2/λ_max` of the worst
    /// batch that can be drawn, or less. With momentum a guess, which a scan lowers if need be.
    pub(super) fn safe_rate(&self, step: &Step) -> f64 {
        let square = |sample| self.rows_of(sample).map(simd::norm_squared).sum::<f64>();
        let mut squares: Vec<f64> = (0..self.samples).map(square).collect();
        squares.sort_by(|a, b| b.total_cmp(a));
        let smallest = self.sizes.iter().copied().min().unwrap_or(1);
        let heaviest = squares[..smallest].iter().sum::<f64>() / smallest as f64;
        let lambda_max = self.eigenvalues.last().copied().unwrap_or(0.0);
        let worst = heaviest.min(self.samples as f64 / smallest as f64 * lambda_max);
        let decay = step.optimizer.coupled_decay() + step.optimizer.decoupled_decay();
        2.0 * (1.0 - step.optimizer.momentum_coefficient()) / (worst + decay)
    }
}

impl Step {
    pub(super) fn new(optimizer: Optimizer) -> Self {
        Self { optimizer, parts: optimizer.state_space(0.0).input.len() }
    }

    pub(super) fn coefficients(&self, learning_rate: f64) -> Coefficients {
        let system = self.optimizer.state_space(learning_rate);
        let mut coefficients =
            Coefficients { transition: [[1.0, 0.0], [0.0, 1.0]], input: [0.0; 2] };
        for i in 0..self.parts {
            coefficients.input[i] = learning_rate * system.input[i];
            coefficients.transition[i][..self.parts].copy_from_slice(system.transition.row(i));
        }
        coefficients
    }
}

impl Coefficients {
    /// Takes one step of a state with the batch of these rows, whose mean is over `size` samples.
    /// `force` is room for one number for each mode.
    pub(super) fn apply(&self, rows: &[&[f64]], size: usize, state: &mut [f64], force: &mut [f64]) {
        let rank = force.len();
        let (position, velocity) = state.split_at_mut(rank);
        if let ([row], true, [[1.0, _], _]) = (rows, velocity.is_empty(), self.transition) {
            let scale = -self.input[0] / size as f64 * simd::dot(row, position);
            simd::axpy(scale, row, position);
            return;
        }
        force.fill(0.0);
        for row in rows {
            simd::axpy(simd::dot(row, position) / size as f64, row, force);
        }
        let [[a, b], [c, d]] = self.transition;
        let [first, second] = self.input;
        if velocity.is_empty() {
            for (position, force) in position.iter_mut().zip(&*force) {
                *position = a * *position - first * force;
            }
        } else {
            for ((position, velocity), force) in position.iter_mut().zip(velocity).zip(&*force) {
                let (x, v) = (*position, *velocity);
                *position = a * x + b * v - first * force;
                *velocity = c * x + d * v - second * force;
            }
        }
    }
}
