//! Data that a trained model is tested on.

use std::cell::OnceCell;

use flatmin_linalg::simd;
use flatmin_models::data::{DatasetError, Split, sparse_linear_blocks};
use flatmin_models::{Dataset, Model};

use super::problem::DiagonalProblem;

/// Samples of a sparse linear problem that are drawn at a time.
const SAMPLES_AT_ONCE: usize = 128;

/// Test data of a problem.
pub(super) enum TestData {
    /// Samples in memory.
    Held(Dataset),
    /// A sparse linear problem, whose samples are drawn anew for every measurement. Without
    /// checkpoints there is one; 3000 samples of 1000 inputs would be most of the memory of a run.
    Drawn {
        /// The problem.
        problem: DiagonalProblem,
        /// Its seed.
        seed: u64,
        /// The loss of the zero function, once it is known.
        zero_loss: OnceCell<f64>,
    },
}

impl TestData {
    /// The test data of a diagonal problem.
    pub(super) fn drawn(problem: DiagonalProblem, seed: u64) -> Result<Self, DatasetError> {
        if problem.test_count == 0 {
            return Err(DatasetError::Empty);
        }
        Ok(Self::Drawn { problem, seed, zero_loss: OnceCell::new() })
    }

    /// The loss of a model, as [`Dataset::loss`].
    pub(super) fn loss(&self, model: &impl Model, parameters: &[f64]) -> Result<f64, DatasetError> {
        match self {
            Self::Held(data) => Ok(data.loss(model, parameters)),
            Self::Drawn { problem, seed, zero_loss } => {
                let (residuals, targets) =
                    pass(problem, *seed, |block| block.residuals(model, parameters))?;
                zero_loss.get_or_init(|| mean_loss(&targets));
                Ok(mean_loss(&residuals))
            }
        }
    }

    /// The loss of the zero function.
    pub(super) fn zero_loss(&self) -> Result<f64, DatasetError> {
        match self {
            Self::Held(data) => Ok(data.zero_loss()),
            Self::Drawn { problem, seed, zero_loss } => match zero_loss.get() {
                Some(loss) => Ok(*loss),
                None => Ok(mean_loss(&pass(problem, *seed, |_| Vec::new())?.1)),
            },
        }
    }
}

/// The values of `measure` for all samples, block by block, and their targets.
fn pass(
    problem: &DiagonalProblem,
    seed: u64,
    measure: impl Fn(&Dataset) -> Vec<f64>,
) -> Result<(Vec<f64>, Vec<f64>), DatasetError> {
    let DiagonalProblem { nonzero, input_dim, test_count, .. } = *problem;
    let (mut measured, mut targets) = (Vec::new(), Vec::new());
    let starts = (0..test_count).step_by(SAMPLES_AT_ONCE);
    let sizes = starts.map(|start| SAMPLES_AT_ONCE.min(test_count - start));
    for block in sparse_linear_blocks(nonzero, input_dim, sizes, Split::Test, seed) {
        let block = block?;
        measured.extend(measure(&block));
        targets.extend_from_slice(block.targets());
    }
    Ok((measured, targets))
}

/// `(1/2n) Σ r_i²`.
fn mean_loss(residuals: &[f64]) -> f64 {
    simd::norm_squared(residuals) / (2.0 * residuals.len() as f64)
}

#[cfg(test)]
mod tests {
    use flatmin_models::data::{Split, sparse_linear_dataset};
    use flatmin_models::{DiagonalLinear, Model as _};

    use super::super::problem::{DiagonalInitial, DiagonalProblem};
    use super::{SAMPLES_AT_ONCE, TestData};

    #[test]
    fn drawn_data_have_the_losses_of_held_ones() {
        let (test_count, input_dim) = (2 * SAMPLES_AT_ONCE + 3, 1000);
        let initial = DiagonalInitial::Gaussian;
        let problem =
            DiagonalProblem { input_dim, nonzero: 3, sample_count: 5, test_count, initial };
        let held = sparse_linear_dataset(3, input_dim, test_count, Split::Test, 4).unwrap();
        let model = DiagonalLinear::new(input_dim).unwrap();
        let parameters: Vec<f64> = (0..model.parameter_count()).map(|k| 0.1 * k as f64).collect();
        let drawn = TestData::drawn(problem, 4).unwrap();
        for _ in 0..2 {
            let zero_loss = drawn.zero_loss().unwrap();
            assert_eq!(zero_loss.to_bits(), held.zero_loss().to_bits());
            let loss = drawn.loss(&model, &parameters).unwrap();
            assert_eq!(loss.to_bits(), held.loss(&model, &parameters).to_bits());
        }
        let empty = TestData::drawn(DiagonalProblem { test_count: 0, ..problem }, 4);
        assert!(empty.is_err());
    }
}
