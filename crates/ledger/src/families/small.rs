//! Minima so small that a check can list all batches, drawn in any way.

use flatmin_theory::{OptimizerError, Sampling};

use crate::prelude::*;

/// Hypotheses of the statements about any optimizer and any independent batches.
pub(crate) const INDEPENDENT: &str = "a zero-loss minimum, linearised; batches drawn independently, \
                                      with or without replacement or with Poisson sampling";

/// A hard Jacobian of at most `rows` rows and `columns` columns, whose largest entry is 1.
pub(crate) fn small_jacobian(rows: usize, columns: usize, rng: &mut dyn Rng) -> RowMatrix {
    let jacobian = MinimumInstance::random(rng).jacobian;
    let rows = jacobian.rows().min(rows);
    let columns = jacobian.columns().min(columns);
    normalised(&RowMatrix::from_fn(rows, columns, |i, j| jacobian.row(i)[j]))
}

/// A matrix divided by its largest entry.
pub(crate) fn normalised(matrix: &RowMatrix) -> RowMatrix {
    let largest = matrix.values().iter().fold(0.0_f64, |most, value| most.max(value.abs()));
    let scale = if largest > 0.0 { 1.0 / largest } else { 1.0 };
    RowMatrix::from_fn(matrix.rows(), matrix.columns(), |i, j| scale * matrix.row(i)[j])
}

/// A batch of at most `sample_count` samples, a third of the time with Poisson sampling.
pub(crate) fn independent_batch(sample_count: usize, rng: &mut dyn Rng) -> Batch {
    let size = rng.random_range(1..=sample_count);
    let sampling = if rng.random_bool(0.35) {
        Sampling::Poisson
    } else {
        let batch = random_batch(sample_count, rng);
        if batch.size() <= sample_count {
            return batch;
        }
        batch.sampling()
    };
    Batch::new(size, sampling).expect("sizes are drawn from 1 on")
}

/// An optimizer with any of its settings, for curvatures of order one.
pub(crate) fn random_optimizer(rng: &mut dyn Rng) -> Optimizer {
    let draw = |rng: &mut dyn Rng| -> Result<Optimizer, OptimizerError> {
        let mut optimizer = Optimizer::sgd();
        if rng.random_bool(0.75) {
            optimizer = optimizer.momentum(rng.random_range(0.05..0.95))?;
            optimizer = match rng.random_range(0..3) {
                0 => optimizer.nesterov()?,
                1 => optimizer.dampening(optimizer.momentum_coefficient())?,
                _ => optimizer.dampening(rng.random_range(0.0..0.95))?,
            };
        }
        match rng.random_range(0..4) {
            0 => optimizer.weight_decay(power_of_ten(rng, 1.5) / 30.0),
            1 => optimizer.decoupled_weight_decay(power_of_ten(rng, 1.5) / 30.0),
            _ => Ok(optimizer),
        }
    };
    draw(rng).expect("all settings are drawn from their ranges")
}
