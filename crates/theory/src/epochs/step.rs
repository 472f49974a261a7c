//! The steps of an epoch.

use faer::{Accum, Mat, MatRef};
use flatmin_linalg::{PowerOfTwo, RowMatrix, matmul, product, simd};

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

/// The rows of a batch.
#[derive(Debug, Default)]
pub(super) struct BatchRows {
    /// Row by row.
    values: Vec<f64>,
    rank: usize,
    /// The number of samples, over which the gradient is a mean.
    size: usize,
}

/// A step, or the transpose of its matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Forward,
    Backward,
}

/// The numbers of a step at one learning rate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Coefficients {
    /// A, row by row; the identity for velocities that are not there.
    transition: [[f64; 2]; 2],
    /// η b.
    input: [f64; 2],
    /// 1 or 2.
    parts: usize,
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

    pub(super) fn rank(&self) -> usize {
        self.rows.columns()
    }

    /// Collects the rows of a batch.
    pub(super) fn gather(&self, samples: &[usize], batch: &mut BatchRows) {
        (batch.rank, batch.size) = (self.rank(), samples.len());
        batch.values.clear();
        for &sample in samples {
            self.rows_of(sample).for_each(|row| batch.values.extend_from_slice(row));
        }
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

    /// The optimizer for the Jacobian whose rows are divided by 2^e, from the one for `J/2^e`.
    pub(super) fn for_unit(&self, exponent: i32) -> Optimizer {
        self.optimizer.for_power_of_two(PowerOfTwo::new(2 * exponent))
    }

    pub(super) fn coefficients(&self, learning_rate: f64) -> Coefficients {
        let system = self.optimizer.state_space(learning_rate);
        let mut coefficients = Coefficients {
            transition: [[1.0, 0.0], [0.0, 1.0]],
            input: [0.0; 2],
            parts: self.parts,
        };
        for i in 0..self.parts {
            coefficients.input[i] = learning_rate * system.input[i];
            coefficients.transition[i][..self.parts].copy_from_slice(system.transition.row(i));
        }
        coefficients
    }
}

impl Coefficients {
    /// The numbers of a state for each mode.
    pub(super) fn parts(&self) -> usize {
        self.parts
    }

    /// The matrix of a step of the whole gradient in a mode; zero for a velocity that is not there.
    pub(super) fn mean_step(&self, eigenvalue: f64) -> [[f64; 2]; 2] {
        let [[a, b], [c, d]] = self.transition;
        let [first, second] = self.input;
        match self.parts {
            1 => [[a - first * eigenvalue, 0.0], [0.0, 0.0]],
            _ => [[a - first * eigenvalue, b], [c - second * eigenvalue, d]],
        }
    }

    /// Takes one step of states, side by side, with a batch, or applies the transpose of that step.
    pub(super) fn apply(&self, direction: Direction, batch: &BatchRows, states: &mut Mat<f64>) {
        let BatchRows { values, rank, .. } = batch;
        let rank = *rank;
        let share = 1.0 / batch.size as f64;
        let parts = states.nrows() / rank;
        let [[a, b], [c, d]] = self.transition;
        let [first, second] = self.input;
        if let ([[1.0, _], _], 1, true) = (self.transition, parts, values.len() == rank) {
            // A plain step with one row, which is its own transpose.
            for column in 0..states.ncols() {
                let state = states.col_as_slice_mut(column);
                simd::axpy(-first * share * simd::dot(values, state), values, state);
            }
            return;
        }
        let rows = MatRef::from_row_major_slice(values, values.len() / rank, rank);
        let mut seen = product(rows, states.get(..rank, ..));
        let is_backward = direction == Direction::Backward && parts == 2;
        if is_backward {
            matmul(seen.as_mut(), Accum::Replace, rows, states.get(..rank, ..), first);
            matmul(seen.as_mut(), Accum::Add, rows, states.get(rank.., ..), second);
        }
        let (b, c) = if is_backward { (c, b) } else { (b, c) };
        for column in 0..states.ncols() {
            let (position, velocity) = states.col_as_slice_mut(column).split_at_mut(rank);
            if velocity.is_empty() && a < 1.0 {
                for x in &mut *position {
                    *x *= a;
                }
            }
            for (position, velocity) in position.iter_mut().zip(velocity) {
                (*position, *velocity) =
                    (a * *position + b * *velocity, c * *position + d * *velocity);
            }
        }
        let gains = if is_backward { [1.0, 0.0] } else { [first, second] };
        for (part, gain) in gains.into_iter().enumerate().take(parts) {
            if gain != 0.0 {
                let target = states.get_mut(part * rank..(part + 1) * rank, ..);
                matmul(target, Accum::Add, rows.transpose(), seen.as_ref(), -gain * share);
            }
        }
    }

    /// States, side by side, after a step without gradient.
    pub(super) fn without_gradient(&self, states: &Mat<f64>, rank: usize) -> Mat<f64> {
        Mat::from_fn(states.nrows(), states.ncols(), |row, column| {
            let part = row / rank;
            (0..states.nrows() / rank)
                .map(|k| self.transition[part][k] * states[(k * rank + row % rank, column)])
                .sum()
        })
    }

    /// `η bᵀz` for each mode of the states. The gradient of the transposed step depends on it.
    pub(super) fn moved_by(&self, states: &Mat<f64>, rank: usize) -> Mat<f64> {
        Mat::from_fn(rank, states.ncols(), |row, column| {
            (0..states.nrows() / rank)
                .map(|k| self.input[k] * states[(k * rank + row, column)])
                .sum()
        })
    }
}
