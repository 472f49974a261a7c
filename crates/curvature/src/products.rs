//! The Jacobian of a model by its products, for any number of samples and outputs.

use std::fmt;
use std::ops::Range;

use faer::{MatMut, MatRef};
use flatmin_linalg::{JacobianError, JacobianProducts, Parallelism, columns, columns_mut};
use flatmin_models::{Dataset, Model, OutputLoss};

use crate::CurvatureError;
use crate::operator::check;

/// Samples of a block, whose forward and backward pass is shared by all vectors.
const BLOCK_SAMPLES: usize = 512;

/// Blocks that threads linearize together, before threads share the vectors.
const GROUP_BLOCKS: usize = 8;

/// Rows of a Gram matrix of which only the k × k blocks on the diagonal are used.
const DIAGONAL_ROWS: usize = 256;

/// The Jacobian of a model at fixed parameters on a data set, nk × p, known by its products. It is
/// never formed.
///
/// If the data have [another loss](Dataset::with_loss) `(1/n) Σ ℓ_i` than the squared one, the rows
/// of sample i are `R_iᵀJ_i`, where `∇²ℓ_i = R_iR_iᵀ` at the outputs. `JᵀJ/n` is then the
/// Gauss–Newton matrix of that loss, as for [`gauss_newton`](crate::gauss_newton) (S17).
///
/// Memory: the passes of 4096 samples. The number of threads changes no bit.
///
/// ```
/// use faer::{Mat, mat};
/// use flatmin_curvature::ModelJacobian;
/// use flatmin_linalg::{JacobianProducts as _, Parallelism, RowMatrix};
/// use flatmin_models::{Dataset, DiagonalLinear};
/// // f(x) = a b x at a = 2, b = 1 with x = 1 and 3: ∇f = (x, 2x).
/// let model = DiagonalLinear::new(1)?;
/// let data = Dataset::new(RowMatrix::new(2, 1, vec![1.0, 3.0])?, vec![2.0, 6.0])?;
/// let jacobian = ModelJacobian::new(&model, &[2.0, 1.0], &data, Parallelism::Sequential)?;
/// let mut image = Mat::zeros(2, 1);
/// jacobian.jvp(mat![[1.0], [1.0]].as_ref(), image.as_mut())?;
/// assert_eq!(image, mat![[3.0], [9.0]]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ModelJacobian<'a> {
    model: &'a dyn Model,
    parameters: &'a [f64],
    data: &'a Dataset,
    parallelism: Parallelism,
}

impl<'a> ModelJacobian<'a> {
    /// The Jacobian of `model` at `parameters` on `data`. Products may use several cores.
    ///
    /// # Errors
    /// [`CurvatureError`] when lengths do not fit or a parameter is not finite.
    pub fn new(
        model: &'a dyn Model,
        parameters: &'a [f64],
        data: &'a Dataset,
        parallelism: Parallelism,
    ) -> Result<Self, CurvatureError> {
        check(model, parameters, data)?;
        Ok(Self { model, parameters, data, parallelism })
    }

    fn blocks(&self, samples: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let n = self.data.sample_count();
        (0..n).step_by(samples).map(move |first| first..(first + samples).min(n))
    }

    /// The k × k blocks of some samples, in the order of [`JacobianProducts::sample_grams`].
    fn own_grams(&self, samples: Range<usize>, grams: &mut [f64]) {
        let k = self.data.output_dim();
        let count = samples.len();
        let inputs = self.data.inputs_of(samples.clone());
        let gram = self.model.gram(self.parameters, &inputs);
        let outputs = self.model.outputs(self.parameters, &inputs);
        let loss = self.data.output_loss(samples, outputs);
        let scale = count as f64;
        for (i, own) in grams.chunks_exact_mut(k * k).enumerate() {
            for a in 0..k {
                for b in 0..k {
                    own[a * k + b] = scale * gram[(i * k + a, i * k + b)];
                }
            }
        }
        weigh_grams(&loss, grams, k);
    }
}

/// Replaces the symmetric matrices `A_i`, k × k, by `R_iᵀ A_i R_i`.
fn weigh_grams(loss: &OutputLoss, grams: &mut [f64], k: usize) {
    if loss.is_squared() {
        return;
    }
    let samples = grams.len() / (k * k);
    let mut rows = vec![0.0; samples * k];
    // Both sides in the same way: the weights act on the columns, and then on the rows.
    for is_row in [false, true] {
        for a in 0..k {
            let place = |i: usize, b: usize| i * k * k + if is_row { a * k + b } else { b * k + a };
            for (at, row) in rows.iter_mut().enumerate() {
                *row = grams[place(at / k, at % k)];
            }
            loss.weigh(&mut rows);
            for (at, row) in rows.iter().enumerate() {
                grams[place(at / k, at % k)] = *row;
            }
        }
    }
}

impl JacobianProducts for ModelJacobian<'_> {
    fn sample_count(&self) -> usize {
        self.data.sample_count()
    }

    fn output_count(&self) -> usize {
        self.data.output_dim()
    }

    fn parameter_count(&self) -> usize {
        self.parameters.len()
    }

    fn jvp(&self, vectors: MatRef<'_, f64>, images: MatMut<'_, f64>) -> Result<(), JacobianError> {
        let k = self.output_count();
        let (mut tasks, mut rest) = (Vec::new(), images);
        for samples in self.blocks(BLOCK_SAMPLES) {
            let (task, below) = rest.split_at_row_mut(k * samples.len());
            tasks.push((samples, task));
            rest = below;
        }
        self.parallelism.for_each(tasks, |(samples, images)| {
            let pass = self.model.linearize(self.parameters, self.data, samples);
            for (vector, image) in columns(vectors).into_iter().zip(columns_mut(images)) {
                pass.jvp(vector, image);
                pass.output_loss().weigh(image);
            }
        });
        Ok(())
    }

    fn vjp(
        &self,
        vectors: MatRef<'_, f64>,
        mut images: MatMut<'_, f64>,
    ) -> Result<(), JacobianError> {
        let k = self.output_count();
        images.fill(0.0);
        let blocks: Vec<Range<usize>> = self.blocks(BLOCK_SAMPLES).collect();
        for group in blocks.chunks(GROUP_BLOCKS) {
            let linearize = |samples: Range<usize>| {
                (samples.clone(), self.model.linearize(self.parameters, self.data, samples))
            };
            let passes = self.parallelism.map(group.to_vec(), linearize);
            let tasks = columns(vectors).into_iter().zip(columns_mut(images.as_mut())).collect();
            self.parallelism.for_each(tasks, |(vector, image)| {
                for (samples, pass) in &passes {
                    let mut rows = vector[samples.start * k..samples.end * k].to_vec();
                    pass.output_loss().weigh_transposed(&mut rows);
                    pass.add_vjp(&rows, image);
                }
            });
        }
        Ok(())
    }

    fn sample_grams(&self, grams: &mut [f64]) -> Result<(), JacobianError> {
        let k = self.output_count();
        let samples = (DIAGONAL_ROWS / k).max(1);
        self.parallelism.for_each_chunk(grams, samples * k * k, |chunk, grams| {
            let first = chunk * samples;
            self.own_grams(first..first + grams.len() / (k * k), grams);
        });
        Ok(())
    }
}

impl fmt::Debug for ModelJacobian<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelJacobian")
            .field("model", &self.model)
            .field("samples", &self.data.sample_count())
            .finish_non_exhaustive()
    }
}
