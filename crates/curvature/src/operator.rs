//! Hessian and Gauss–Newton matrix of the mean loss, as operators that are never formed.

use std::fmt;
use std::ops::Range;

use faer::{MatMut, MatRef};
use flatmin_linalg::{Operator, Parallelism, columns, columns_mut, simd};
use flatmin_models::{Dataset, Linearization, Model};

/// The largest number of partial sums over the samples. One thread at a time works on each.
const MAX_PARTS: usize = 8;

/// The largest number of bytes of partial sums. Wide blocks of vectors are split to fit.
const MAX_PARTIAL_BYTES: usize = 64 << 20;

/// The reason why a model, its parameters and its data do not fit together.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CurvatureError {
    /// A length differs from the length that the model requires.
    #[error("{what}: {got} given, the model has {expected}")]
    Length {
        /// The quantity that has this length.
        what: &'static str,
        /// Its length.
        got: usize,
        /// The length that the model requires.
        expected: usize,
    },
    /// A parameter is NaN or infinite.
    #[error("parameter {index} is {value}, expected a finite number")]
    NotFinite {
        /// Index of the first such parameter, from 0.
        index: usize,
        /// Its value.
        value: f64,
    },
    /// The block size is zero.
    #[error("a block needs at least one sample")]
    EmptyBlock,
}

/// Settings of products over the samples. Only the block size has an influence on rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CurvatureOptions {
    /// The number of samples in a block. Memory grows with it; speed does too, up to a few hundred.
    pub block_size: usize,
    /// The largest number of bytes for stored forward and backward passes at θ. When all samples
    /// need more, every product computes the passes again, which costs about one more gradient.
    pub cache_bytes: usize,
    /// The threads that may work on blocks. The result has the same bits for any number of threads.
    pub parallelism: Parallelism,
}

impl Default for CurvatureOptions {
    /// Blocks of up to 256 samples, 128 MiB of stored passes, all threads of the current pool.
    fn default() -> Self {
        Self { block_size: 256, cache_bytes: 128 << 20, parallelism: Parallelism::Rayon }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    GaussNewton,
    Hessian,
}

/// The Gauss–Newton matrix `G = (1/n) Σ_i J_iᵀJ_i` or the Hessian
/// `H = G + (1/n) Σ_io r_io ∇²f_o(x_i; θ)` of the mean loss `R(θ) = (1/2n) Σ_i ‖f(x_i; θ) − y_i‖²`,
/// p × p, by exact products.
///
/// If the data have [another loss](Dataset::with_loss) `(1/n) Σ ℓ_i`, then
/// `G = (1/n) Σ_i J_iᵀS_iJ_i` with the Hessian `S_i = ∇²ℓ_i` in the outputs, and `r_i = ∇ℓ_i`.
///
/// [`gauss_newton`] and [`hessian`] return it. Samples are summed block by block in a fixed order,
/// so that the number of threads changes no bit. Memory: the stored passes, the work of one block
/// per thread, and up to eight partial sums of p numbers. When the passes are not stored, many
/// vectors share them, and the partial sums may take 64 MiB.
pub struct CurvatureOperator<'a> {
    kind: Kind,
    model: &'a dyn Model,
    parameters: &'a [f64],
    data: &'a Dataset,
    /// Groups of blocks of samples, as ranges of indices. Each group has its own partial sum.
    parts: Vec<Vec<Range<usize>>>,
    /// The passes of every block, in the same groups; empty when they are not stored.
    passes: Vec<Vec<Box<dyn Linearization + 'a>>>,
    parallelism: Parallelism,
}

impl fmt::Debug for CurvatureOperator<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CurvatureOperator")
            .field("kind", &self.kind)
            .field("model", &self.model)
            .field("samples", &self.data.sample_count())
            .field("is_cached", &self.is_cached())
            .finish_non_exhaustive()
    }
}

/// The Gauss–Newton matrix of `model` at `parameters` on `data`.
///
/// ```
/// use flatmin_linalg::{Operator as _, RowMatrix};
/// use flatmin_models::{Dataset, DiagonalLinear};
/// // f(x) = a b x at a = 2, b = 1 with x = 3: ∇f = (3, 6).
/// let model = DiagonalLinear::new(1)?;
/// let data = Dataset::new(RowMatrix::new(1, 1, vec![3.0])?, vec![6.0])?;
/// let operator = flatmin_curvature::gauss_newton(&model, &[2.0, 1.0], &data)?;
/// let mut image = faer::Mat::zeros(2, 1);
/// operator.apply(faer::mat![[1.0], [0.0]].as_ref(), image.as_mut());
/// assert_eq!(image, faer::mat![[9.0], [18.0]]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`CurvatureError`] when lengths do not fit or a parameter is not finite.
pub fn gauss_newton<'a>(
    model: &'a dyn Model,
    parameters: &'a [f64],
    data: &'a Dataset,
) -> Result<CurvatureOperator<'a>, CurvatureError> {
    gauss_newton_with(model, parameters, data, &CurvatureOptions::default())
}

/// The Gauss–Newton matrix as from [`gauss_newton`], with options.
///
/// # Errors
/// The errors of [`gauss_newton`], and [`CurvatureError::EmptyBlock`] for a block size of zero.
pub fn gauss_newton_with<'a>(
    model: &'a dyn Model,
    parameters: &'a [f64],
    data: &'a Dataset,
    options: &CurvatureOptions,
) -> Result<CurvatureOperator<'a>, CurvatureError> {
    CurvatureOperator::new(Kind::GaussNewton, model, parameters, data, options)
}

/// The Hessian of the mean loss of `model` at `parameters` on `data`.
///
/// For piecewise linear activations it is the Hessian of the linear piece, with σ'(0) = σ''(0) = 0.
///
/// ```
/// use flatmin_linalg::{Operator as _, RowMatrix};
/// use flatmin_models::{Dataset, DiagonalLinear};
/// // R = ½ (3ab − 1)² at a = 2, b = 1: the residual is 5, ∂²R/∂a² = 9, ∂²R/∂a∂b = 18 + 5·3.
/// let model = DiagonalLinear::new(1)?;
/// let data = Dataset::new(RowMatrix::new(1, 1, vec![3.0])?, vec![1.0])?;
/// let operator = flatmin_curvature::hessian(&model, &[2.0, 1.0], &data)?;
/// let mut image = faer::Mat::zeros(2, 1);
/// operator.apply(faer::mat![[1.0], [0.0]].as_ref(), image.as_mut());
/// assert_eq!(image, faer::mat![[9.0], [33.0]]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// See [`gauss_newton`].
pub fn hessian<'a>(
    model: &'a dyn Model,
    parameters: &'a [f64],
    data: &'a Dataset,
) -> Result<CurvatureOperator<'a>, CurvatureError> {
    hessian_with(model, parameters, data, &CurvatureOptions::default())
}

/// The Hessian as from [`hessian`], with options.
///
/// # Errors
/// See [`gauss_newton_with`].
pub fn hessian_with<'a>(
    model: &'a dyn Model,
    parameters: &'a [f64],
    data: &'a Dataset,
    options: &CurvatureOptions,
) -> Result<CurvatureOperator<'a>, CurvatureError> {
    CurvatureOperator::new(Kind::Hessian, model, parameters, data, options)
}

/// Checks that model, parameters and data fit each other.
pub(crate) fn check(
    model: &dyn Model,
    parameters: &[f64],
    data: &Dataset,
) -> Result<(), CurvatureError> {
    for (what, got, expected) in [
        ("number of parameters", parameters.len(), model.parameter_count()),
        ("dimension of the inputs", data.inputs().columns(), model.input_dim()),
        ("number of targets of a sample", data.output_dim(), model.output_dim()),
    ] {
        if got != expected {
            return Err(CurvatureError::Length { what, got, expected });
        }
    }
    if let Some(index) = parameters.iter().position(|value| !value.is_finite()) {
        return Err(CurvatureError::NotFinite { index, value: parameters[index] });
    }
    Ok(())
}

impl<'a> CurvatureOperator<'a> {
    fn new(
        kind: Kind,
        model: &'a dyn Model,
        parameters: &'a [f64],
        data: &'a Dataset,
        options: &CurvatureOptions,
    ) -> Result<Self, CurvatureError> {
        check(model, parameters, data)?;
        if options.block_size == 0 {
            return Err(CurvatureError::EmptyBlock);
        }
        let n = data.sample_count();
        let block_count = n.div_ceil(options.block_size);
        let part_count = block_count.min(MAX_PARTS);
        // Blocks have nearly equal sizes, and groups nearly equal numbers of blocks.
        let block = |b: usize| n * b / block_count..n * (b + 1) / block_count;
        let part = |g: usize| block_count * g / part_count..block_count * (g + 1) / part_count;
        let parts: Vec<Vec<Range<usize>>> =
            (0..part_count).map(|g| part(g).map(block).collect()).collect();
        let parallelism = options.parallelism;
        let passes = if model.linearization_bytes().saturating_mul(n) <= options.cache_bytes {
            parallelism.map(parts.iter().collect(), |blocks| {
                let passes = blocks.iter().cloned();
                passes.map(|samples| model.linearize(parameters, data, samples)).collect()
            })
        } else {
            Vec::new()
        };
        Ok(Self { kind, model, parameters, data, parts, passes, parallelism })
    }

    /// True if the passes at θ are stored.
    pub fn is_cached(&self) -> bool {
        !self.passes.is_empty()
    }

    /// The gradient of the mean loss, `(1/n) Jᵀ r`, of length p.
    pub fn gradient(&self) -> Vec<f64> {
        let mut gradient = vec![0.0; self.parameters.len()];
        self.sum(1, &mut [&mut gradient], |pass, _, sum| pass.add_gradient(sum));
        gradient
    }

    /// The mean loss `(1/2n) Σ_i ‖r_i‖²`, or the mean of another loss of the data.
    pub fn loss(&self) -> f64 {
        let mut loss = [0.0];
        self.sum(1, &mut [&mut loss], |pass, _, sum| {
            let loss = pass.output_loss();
            sum[0] += if loss.is_squared() {
                0.5 * simd::norm_squared(loss.residuals())
            } else {
                loss.loss()
            };
        });
        loss[0]
    }

    /// Calls `body` with the passes of every block of a group, in order.
    fn each_pass(&self, part: usize, mut body: impl FnMut(&dyn Linearization)) {
        if let Some(passes) = self.passes.get(part) {
            for pass in passes {
                body(pass.as_ref());
            }
        } else {
            for samples in &self.parts[part] {
                body(self.model.linearize(self.parameters, self.data, samples.clone()).as_ref());
            }
        }
    }

    /// Computes sums over all blocks for `count` vectors and writes `1/n` times the sums to
    /// `images`.
    ///
    /// `add(pass, j, sum)` adds the contribution of a block to the sum of vector j.
    fn sum(
        &self,
        count: usize,
        images: &mut [&mut [f64]],
        add: impl Fn(&dyn Linearization, usize, &mut [f64]) + Sync + Send,
    ) {
        let length = images.first().map_or(0, |image| image.len());
        let indices = (0..self.parts.len()).collect();
        let partial: Vec<Vec<f64>> = self.parallelism.map(indices, |part| {
            let mut sums = vec![0.0; count * length];
            self.each_pass(part, |pass| {
                for (j, sum) in sums.chunks_exact_mut(length).enumerate() {
                    add(pass, j, sum);
                }
            });
            sums
        });
        let scale = 1.0 / self.data.sample_count() as f64;
        for (j, image) in images.iter_mut().enumerate() {
            image.fill(0.0);
            for sums in &partial {
                simd::axpy(scale, &sums[j * length..][..length], image);
            }
        }
    }
}

impl Operator for CurvatureOperator<'_> {
    fn dim(&self) -> usize {
        self.parameters.len()
    }

    fn apply(&self, vectors: MatRef<'_, f64>, images: MatMut<'_, f64>) {
        let (p, count) = (self.dim(), vectors.ncols());
        assert_eq!((vectors.nrows(), images.nrows()), (p, p), "dimension");
        assert_eq!(count, images.ncols(), "number of vectors");
        let (vectors, mut images) = (columns(vectors), columns_mut(images));
        // One vector at a time keeps its sum in the cache, but passes that are not stored should be
        // shared by many vectors.
        let width = if self.is_cached() {
            1
        } else {
            (MAX_PARTIAL_BYTES / (size_of::<f64>() * p * self.parts.len())).max(1)
        };
        for (vectors, images) in vectors.chunks(width).zip(images.chunks_mut(width)) {
            self.sum(vectors.len(), images, |pass, j, sum| match self.kind {
                Kind::GaussNewton => pass.add_gauss_newton_vector_product(vectors[j], sum),
                Kind::Hessian => pass.add_hessian_vector_product(vectors[j], sum),
            });
        }
    }
}
