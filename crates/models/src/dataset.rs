//! Inputs with their targets.

use std::ops::Range;

use flatmin_linalg::{RowMatrix, simd};

use crate::loss::Loss;
use crate::size::SizeError;

/// The largest difference from 1 of the sum of the targets of a sample that is taken for rounding.
const SUM_TOLERANCE: f64 = 1e-5;

/// Inputs (n × d, a row per sample) with their targets (n × k, row by row; most often k = 1), and
/// the loss by which outputs are compared with the targets.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    inputs: RowMatrix,
    targets: Vec<f64>,
    output_dim: usize,
    loss: Loss,
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
    /// Cross-entropy needs two classes.
    #[error("cross-entropy needs a target for each of at least two classes, got {classes}")]
    OneClass {
        /// Number of classes.
        classes: usize,
    },
    /// The targets of a sample are not probabilities, as cross-entropy needs them.
    #[error(
        "the targets of sample {sample} have the least entry {least} and the sum {sum}, expected \
         probabilities of the classes, from 0 and with the sum 1"
    )]
    NotProbabilities {
        /// The first such sample.
        sample: usize,
        /// Its smallest target.
        least: f64,
        /// The sum of its targets.
        sum: f64,
    },
    /// A class is not below the number of classes.
    #[error("sample {sample} has class {class}, expected one of {class_count} classes, from 0")]
    Class {
        /// The first such sample.
        sample: usize,
        /// Its class.
        class: usize,
        /// Number of classes.
        class_count: usize,
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
        Ok(Self { inputs, targets, output_dim, loss: Loss::Squared })
    }

    /// Pairs inputs with their classes, counted from 0: the targets of a sample are a one for its
    /// class and a zero for each other one.
    ///
    /// ```
    /// use flatmin_linalg::RowMatrix;
    /// use flatmin_models::{Dataset, Loss};
    /// let inputs = RowMatrix::new(2, 1, vec![0.5, -0.5])?;
    /// let data = Dataset::with_classes(inputs, &[2, 0], 3)?.with_loss(Loss::cross_entropy(0.1)?)?;
    /// assert_eq!(data.targets(), [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The errors of [`Dataset::new`], and [`DatasetError::Class`].
    pub fn with_classes(
        inputs: RowMatrix,
        classes: &[usize],
        class_count: usize,
    ) -> Result<Self, DatasetError> {
        if let Some(sample) = classes.iter().position(|class| *class >= class_count) {
            return Err(DatasetError::Class { sample, class: classes[sample], class_count });
        }
        let target = |i: usize, class: usize| if classes[i] == class { 1.0 } else { 0.0 };
        Self::with_outputs(inputs, &RowMatrix::from_fn(classes.len(), class_count, target))
    }

    /// The same samples with another loss. Without a call of this method it is
    /// [`Loss::Squared`].
    ///
    /// For cross-entropy the targets of a sample are divided by their sum, which may differ from 1
    /// by rounding.
    ///
    /// # Errors
    /// For cross-entropy, [`DatasetError::OneClass`] if a sample has one target, and
    /// [`DatasetError::NotProbabilities`] unless the targets of every sample are probabilities.
    pub fn with_loss(mut self, loss: Loss) -> Result<Self, DatasetError> {
        if let Loss::CrossEntropy(_) = loss {
            if self.output_dim < 2 {
                return Err(DatasetError::OneClass { classes: self.output_dim });
            }
            for (sample, targets) in self.targets.chunks_exact_mut(self.output_dim).enumerate() {
                let sum: f64 = targets.iter().sum();
                let least = targets.iter().copied().fold(f64::INFINITY, f64::min);
                if least < 0.0 || (sum - 1.0).abs() > SUM_TOLERANCE {
                    return Err(DatasetError::NotProbabilities { sample, least, sum });
                }
                for target in targets {
                    *target /= sum;
                }
            }
        }
        self.loss = loss;
        Ok(self)
    }

    /// The loss by which outputs are compared with the targets.
    pub fn loss_function(&self) -> Loss {
        self.loss
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

    /// The loss of the zero function, by which relative errors are divided: the mean of `‖y‖²/2`
    /// for the squared loss, and log k for cross-entropy.
    pub fn zero_loss(&self) -> f64 {
        match self.loss {
            Loss::Squared => simd::norm_squared(&self.targets) / (2.0 * self.sample_count() as f64),
            Loss::CrossEntropy(_) => libm::log(self.output_dim as f64),
        }
    }
}
