//! Data sets: synthetic ones with the teachers that label them, and labelled images.

pub mod digits;
mod labelled;

use std::ops::Range;

use flatmin_linalg::{RowMatrix, simd, stream};
use rand::{Rng, RngExt as _};
use rand_distr::{Distribution as _, StandardNormal};

pub use self::labelled::{ClassTargets, InputScaling, Labelled, LabelledError, SampleSplit};
use crate::{Model, TwoLayerRelu};

/// Inputs (n × d, a row per sample) with their targets (n × k, row by row; most often k = 1).
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    inputs: RowMatrix,
    targets: Vec<f64>,
    output_dim: usize,
}

/// Inputs and targets do not make a data set.
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
    Size(#[from] crate::SizeError),
}

/// Which of a problem's data sets. Those of a synthetic problem share the teacher and nothing else;
/// those of real data have no sample in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// The one to train on.
    Training,
    /// The one to test on.
    Test,
}

/// Inputs on the sphere of radius √d with the outputs of a [`relu_teacher`] of `teacher_width` neurons,
/// all of it fixed by `seed`.
///
/// # Errors
/// [`DatasetError`] when a size is zero.
pub fn relu_dataset(
    teacher_width: usize,
    input_dim: usize,
    sample_count: usize,
    split: Split,
    seed: u64,
) -> Result<Dataset, DatasetError> {
    let (teacher, truth) =
        relu_teacher(teacher_width, input_dim, &mut stream(seed, "relu teacher", 0))?;
    let purpose = match split {
        Split::Training => "relu training inputs",
        Split::Test => "relu test inputs",
    };
    let inputs = sphere_inputs(sample_count, input_dim, &mut stream(seed, purpose, 0));
    let targets = teacher.outputs(&truth, &inputs);
    Dataset::new(inputs, targets)
}

/// Inputs in the cube [−1, 1]^d with the sum of their first `nonzero` coordinates, fixed by `seed`.
///
/// # Errors
/// [`DatasetError`] when there is no sample.
pub fn sparse_linear_dataset(
    nonzero: usize,
    input_dim: usize,
    sample_count: usize,
    split: Split,
    seed: u64,
) -> Result<Dataset, DatasetError> {
    let mut blocks =
        sparse_linear_blocks(nonzero, input_dim, sample_count, sample_count.max(1), split, seed);
    blocks.next().unwrap_or(Err(DatasetError::Empty))
}

/// The samples of [`sparse_linear_dataset`] in the same order, so many at a time: for those that are looked at once, and
/// need not be held.
///
/// ```
/// use flatmin_models::data::{Split, sparse_linear_blocks, sparse_linear_dataset};
/// let all = sparse_linear_dataset(3, 20, 50, Split::Test, 0)?;
/// let blocks = sparse_linear_blocks(3, 20, 50, 16, Split::Test, 0);
/// let blocks = blocks.collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(blocks.iter().map(|block| block.sample_count()).collect::<Vec<_>>(), [16, 16, 16, 2]);
/// assert_eq!(blocks[3].inputs().row(1), all.inputs().row(49));
/// # Ok::<(), flatmin_models::data::DatasetError>(())
/// ```
///
/// # Panics
/// When `block_size` is zero.
pub fn sparse_linear_blocks(
    nonzero: usize,
    input_dim: usize,
    sample_count: usize,
    block_size: usize,
    split: Split,
    seed: u64,
) -> impl Iterator<Item = Result<Dataset, DatasetError>> {
    let purpose = match split {
        Split::Training => "diagonal training inputs",
        Split::Test => "diagonal test inputs",
    };
    let mut rng = stream(seed, purpose, 0);
    let coefficients = sparse_coefficients(input_dim, nonzero);
    (0..sample_count).step_by(block_size).map(move |start| {
        let inputs = cube_inputs(block_size.min(sample_count - start), input_dim, &mut rng);
        let targets = linear_targets(&inputs, &coefficients);
        Dataset::new(inputs, targets)
    })
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
    /// As [`Dataset::new`]; [`DatasetError::NoOutputs`] when k = 0.
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

    /// Residuals `r_i = f(x_i; θ) − y_i`, n × k row by row.
    ///
    /// # Panics
    /// When the model has another number of outputs than the samples have targets.
    pub fn residuals(&self, model: &(impl Model + ?Sized), parameters: &[f64]) -> Vec<f64> {
        assert_eq!(model.output_dim(), self.output_dim, "number of outputs");
        let mut residuals = model.outputs(parameters, &self.inputs);
        for (residual, target) in residuals.iter_mut().zip(&self.targets) {
            *residual -= target;
        }
        residuals
    }

    /// The loss `R(θ) = (1/2n) Σ_i ‖f(x_i; θ) − y_i‖²`.
    ///
    /// # Panics
    /// As [`Dataset::residuals`].
    pub fn loss(&self, model: &(impl Model + ?Sized), parameters: &[f64]) -> f64 {
        let residuals = self.residuals(model, parameters);
        simd::norm_squared(&residuals) / (2.0 * self.sample_count() as f64)
    }
}

/// Inputs drawn from `Unif(√d S^{d−1})`, the sphere of radius √d: n × d.
pub fn sphere_inputs(sample_count: usize, input_dim: usize, rng: &mut impl Rng) -> RowMatrix {
    let mut inputs = RowMatrix::zeros(sample_count, input_dim);
    for i in 0..sample_count {
        fill_on_sphere(inputs.row_mut(i), (input_dim as f64).sqrt(), rng);
    }
    inputs
}

/// Inputs with independent coordinates drawn from `Unif[−1, 1]`, whose variance is 1/3: n × d.
pub fn cube_inputs(sample_count: usize, input_dim: usize, rng: &mut impl Rng) -> RowMatrix {
    RowMatrix::from_fn(sample_count, input_dim, |_, _| rng.random_range(-1.0..1.0))
}

/// A teacher network: `width` neurons with directions uniform on the unit sphere and output weights
/// ±1 with equal probability. Returns the network and its parameters.
///
/// # Errors
/// [`SizeError`](crate::SizeError) when a size is zero.
pub fn relu_teacher(
    width: usize,
    input_dim: usize,
    rng: &mut impl Rng,
) -> Result<(TwoLayerRelu, Vec<f64>), crate::SizeError> {
    let model = TwoLayerRelu::new(width, input_dim)?;
    let mut parameters = vec![0.0; model.parameter_count()];
    let (hidden, output) = parameters.split_at_mut(width * input_dim);
    for w in hidden.chunks_exact_mut(input_dim) {
        fill_on_sphere(w, 1.0, rng);
    }
    for a in output {
        *a = if rng.random::<bool>() { 1.0 } else { -1.0 };
    }
    Ok((model, parameters))
}

/// The sparse coefficients `β* = (1, …, 1, 0, …, 0)` with `nonzero` ones.
pub fn sparse_coefficients(input_dim: usize, nonzero: usize) -> Vec<f64> {
    (0..input_dim).map(|j| if j < nonzero { 1.0 } else { 0.0 }).collect()
}

/// Targets `y_i = ⟨β, x_i⟩`.
pub fn linear_targets(inputs: &RowMatrix, coefficients: &[f64]) -> Vec<f64> {
    (0..inputs.rows()).map(|i| simd::dot(inputs.row(i), coefficients)).collect()
}

fn fill_on_sphere(point: &mut [f64], radius: f64, rng: &mut impl Rng) {
    loop {
        for value in point.iter_mut() {
            *value = StandardNormal.sample(rng);
        }
        let norm = simd::norm_squared(point).sqrt();
        if norm > 0.0 {
            for value in point {
                *value *= radius / norm;
            }
            return;
        }
    }
}
