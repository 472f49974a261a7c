//! Synthetic data sets, and the teachers that label them.

use flatmin_linalg::{RowMatrix, simd, stream};
use rand::{Rng, RngExt as _};
use rand_distr::{Distribution as _, StandardNormal};

use crate::dataset::{Dataset, DatasetError, Split};
use crate::model::Model as _;
use crate::relu::TwoLayerRelu;
use crate::size::SizeError;

/// Purposes of the random streams of this module.
const RELU_TEACHER: &str = "relu teacher";
const RELU_TRAINING_INPUTS: &str = "relu training inputs";
const RELU_TEST_INPUTS: &str = "relu test inputs";
const SPARSE_TRAINING_INPUTS: &str = "diagonal training inputs";
const SPARSE_TEST_INPUTS: &str = "diagonal test inputs";

/// Inputs on the sphere of radius √d with the outputs of a [`relu_teacher`] of `teacher_width`
/// neurons. The seed determines inputs and teacher.
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
    let mut rng = stream(seed, RELU_TEACHER, 0);
    let (teacher, truth) = relu_teacher(teacher_width, input_dim, &mut rng)?;
    let purpose = match split {
        Split::Training => RELU_TRAINING_INPUTS,
        Split::Test => RELU_TEST_INPUTS,
    };
    let inputs = sphere_inputs(sample_count, input_dim, &mut stream(seed, purpose, 0));
    let targets = teacher.outputs(&truth, &inputs);
    Dataset::new(inputs, targets)
}

/// Inputs in the cube [−1, 1]^d with the sum of their first `nonzero` coordinates as targets. The
/// seed determines the inputs.
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
    let mut blocks = sparse_linear_blocks(nonzero, input_dim, [sample_count], split, seed);
    blocks.next().unwrap_or(Err(DatasetError::Empty))
}

/// The samples of [`sparse_linear_dataset`], in the same order, in blocks of the given sizes. A
/// large data set that is read only once need not be held in memory.
///
/// ```
/// use flatmin_models::data::{Split, sparse_linear_blocks, sparse_linear_dataset};
/// let all = sparse_linear_dataset(3, 20, 50, Split::Test, 0)?;
/// let blocks = sparse_linear_blocks(3, 20, [16, 16, 16, 2], Split::Test, 0);
/// let blocks = blocks.collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(blocks.len(), 4);
/// assert_eq!(blocks[3].inputs().row(1), all.inputs().row(49));
/// # Ok::<(), flatmin_models::data::DatasetError>(())
/// ```
pub fn sparse_linear_blocks(
    nonzero: usize,
    input_dim: usize,
    sizes: impl IntoIterator<Item = usize>,
    split: Split,
    seed: u64,
) -> impl Iterator<Item = Result<Dataset, DatasetError>> {
    let purpose = match split {
        Split::Training => SPARSE_TRAINING_INPUTS,
        Split::Test => SPARSE_TEST_INPUTS,
    };
    let mut rng = stream(seed, purpose, 0);
    let coefficients = sparse_coefficients(input_dim, nonzero);
    sizes.into_iter().map(move |size| {
        let inputs = cube_inputs(size, input_dim, &mut rng);
        let targets = linear_targets(&inputs, &coefficients);
        Dataset::new(inputs, targets)
    })
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
/// [`SizeError`] when a size is zero.
pub fn relu_teacher(
    width: usize,
    input_dim: usize,
    rng: &mut impl Rng,
) -> Result<(TwoLayerRelu, Vec<f64>), SizeError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparse_targets_are_sums_of_the_first_coordinates() {
        assert_eq!(sparse_coefficients(5, 2), [1.0, 1.0, 0.0, 0.0, 0.0]);
        assert_eq!(sparse_coefficients(2, 3), [1.0, 1.0]);
        let data = sparse_linear_dataset(2, 5, 7, Split::Training, 3).unwrap();
        assert_eq!((data.inputs().rows(), data.inputs().columns()), (7, 5));
        for (i, target) in data.targets().iter().enumerate() {
            let row = data.inputs().row(i);
            assert!(row.iter().all(|x| x.abs() <= 1.0));
            // The sum of two numbers is rounded once, whatever zeros are added to it.
            assert_eq!(target.to_bits(), (row[0] + row[1]).to_bits());
        }
    }
}
