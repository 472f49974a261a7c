//! Inputs with their targets.

use std::ops::Range;

use flatmin_linalg::{RowMatrix, simd};

use crate::size::SizeError;

/// Inputs (n × d, a row per sample) with their targets (n × k, row by row; most often k = 1).
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    inputs: RowMatrix,
    targets: Vec<f64>,
    output_dim: usize,
}

/// The reason why inputs and targets do not make a data set.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// The numbers of inputs and targets differ.
    #[error("{inputs} inputs but {targets} targets")]
    LengthMismatch {
        /// Rows of the inputs.
        inputs: usize,
        /// Number of targets.
        targets: usize,
    },
    /// The targets have no columns.
    #[error("the targets have no columns: a sample needs at least one target")]
    NoOutputs,
    /// There is no sample.
    #[error("a data set needs at least one sample")]
    Empty,
    /// A value is NaN or infinite.
    #[error("sample {sample} holds {value}, expected finite numbers")]
    NotFinite {
        /// The first such sample.
        sample: usize,
        /// The value.
        value: f64,
    },
    /// The teacher has a size of zero.
    #[error(transparent)]
    Size(#[from] SizeError),
}

/// The training part or the test part of a problem's data. Both parts of a synthetic problem have
/// the same teacher and nothing else in common; both parts of real data have no sample in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// The samples to train on.
    Training,
    /// The samples to test on.
    Test,
}

impl Dataset {
    /// Pairs inputs with targets, one for each.
    ///
    /// # Errors
    /// [`DatasetError`] when the lengths differ, there is no sample, or a value is not finite.
    pub fn new(inputs: RowMatrix, targets: Vec<f64>) -> Result<Self, DatasetError> {
        Self::checked(inputs, targets, 1)
    }

    /// Pairs inputs with the rows of `targets`, n × k.
    ///
    /// # Errors
    /// The errors of [`Dataset::new`], and [`DatasetError::NoOutputs`] when k = 0.
    pub fn with_outputs(inputs: RowMatrix, targets: &RowMatrix) -> Result<Self, DatasetError> {
        if targets.columns() == 0 && targets.rows() > 0 {
            return Err(DatasetError::NoOutputs);
        }
        if inputs.rows() != targets.rows() {
            let (inputs, targets) = (inputs.rows(), targets.rows());
            return Err(DatasetError::LengthMismatch { inputs, targets });
        }
        Self::checked(inputs, targets.values().to_vec(), targets.columns().max(1))
    }

    fn checked(
        inputs: RowMatrix,
        targets: Vec<f64>,
        output_dim: usize,
    ) -> Result<Self, DatasetError> {
        let count = targets.len() / output_dim;
        if inputs.rows() != count {
            return Err(DatasetError::LengthMismatch { inputs: inputs.rows(), targets: count });
        }
        if targets.is_empty() {
            return Err(DatasetError::Empty);
        }
        for (sample, targets) in targets.chunks_exact(output_dim).enumerate() {
            let mut values = inputs.row(sample).iter().chain(targets);
            if let Some(&value) = values.find(|v| !v.is_finite()) {
                return Err(DatasetError::NotFinite { sample, value });
            }
        }
        Ok(Self { inputs, targets, output_dim })
    }

    /// The inputs, n × d.
    pub fn inputs(&self) -> &RowMatrix {
        &self.inputs
    }

    /// A copy of the inputs of some samples.
    ///
    /// # Panics
    /// When they are not samples of this data set.
    pub fn inputs_of(&self, samples: Range<usize>) -> RowMatrix {
        let (start, d) = (samples.start, self.inputs.columns());
        RowMatrix::from_fn(samples.len(), d, |i, j| self.inputs.row(start + i)[j])
    }

    /// The targets, n × k row by row.
    pub fn targets(&self) -> &[f64] {
        &self.targets
    }

    /// The targets of some samples, row by row.
    ///
    /// # Panics
    /// When they are not samples of this data set.
    pub fn targets_of(&self, samples: Range<usize>) -> &[f64] {
        &self.targets[samples.start * self.output_dim..samples.end * self.output_dim]
    }

    /// Number n of samples.
    pub fn sample_count(&self) -> usize {
        self.inputs.rows()
    }

    /// Number k of targets of a sample.
    pub fn output_dim(&self) -> usize {
        self.output_dim
    }

    /// The mean of `‖y‖²/2`: the loss of the zero function, by which relative errors are divided.
    pub fn zero_loss(&self) -> f64 {
        simd::norm_squared(&self.targets) / (2.0 * self.sample_count() as f64)
    }
}

/// Subtracts targets from outputs, which makes residuals of them.
pub(crate) fn subtract(outputs: &mut [f64], targets: &[f64]) {
    assert_eq!(outputs.len(), targets.len(), "number of outputs");
    for (output, target) in outputs.iter_mut().zip(targets) {
        *output -= target;
    }
}
