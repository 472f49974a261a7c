//! Fused steps of matrix sensing, `f(X) = ⟨X, UVᵀ⟩`.
//!
//! The gradient of f is `(XV, XᵀU)`, and `f = ⟨U, XV⟩`. A step of batch size 1 therefore needs two
//! products with X and nothing else. Larger batches: one pass over the inputs gives
//! `C = (1/B) Σ r_i X_i`, and the gradient of the loss is `(CV, CᵀU)`.

use flatmin_linalg::simd::{
    self, AlignedVec, Groups, GroupsMut, Lanes, Real, dot_lanes, padded_for,
};
use flatmin_models::{Dataset, MatrixSensing, Model as _};
use pulp::{Arch, Simd, WithSimd};

use super::correlation::Rows;
use super::step::{Kernel, Samples, Segment, Step, Update};

/// Rows of a product that are computed together: enough independent sums to hide the latency of a
/// fused multiply-add.
const TILE_ROWS: usize = 8;

/// The fused kernel of [`MatrixSensing`], in arithmetic of type `E`.
#[derive(Debug)]
pub struct MatrixSensingKernel<'a, E = f64> {
    arch: Arch,
    data: &'a Dataset,
    model: MatrixSensing,
    /// Length of a padded input, and of a padded row of a factor.
    input_stride: usize,
    factor_stride: usize,
    /// Inputs, each d₁ × d₂ row by row and padded with zeros at its end.
    inputs: AlignedVec<E>,
    /// The factors U and V, rows padded with zeros.
    factors: [AlignedVec<E>; 2],
    /// The products `XV` and `XᵀU`, or `CV` and `CᵀU`.
    products: [AlignedVec<E>; 2],
    /// W for batches, and C, both laid out like an input.
    matrix: AlignedVec<E>,
    correlation: AlignedVec<E>,
}

impl<'a, E: Real> MatrixSensingKernel<'a, E> {
    /// A kernel that starts from `parameters`.
    ///
    /// # Panics
    /// When the parameters or the inputs do not fit the model.
    pub fn new(model: MatrixSensing, data: &'a Dataset, parameters: &[f64]) -> Self {
        Self::with_arch(simd::arch(), model, data, parameters)
    }

    /// Like [`new`](Self::new), on a chosen instruction set.
    ///
    /// # Panics
    /// See [`new`](Self::new).
    pub fn with_arch(
        arch: Arch,
        model: MatrixSensing,
        data: &'a Dataset,
        parameters: &[f64],
    ) -> Self {
        let (input_dim, k) = (model.input_dim(), model.factor_count());
        assert_eq!(data.inputs().columns(), input_dim, "dimension of the inputs");
        assert_eq!(data.output_dim(), model.output_dim(), "number of outputs");
        let (input_stride, factor_stride) = (padded_for::<E>(input_dim), padded_for::<E>(k));
        let (u, v) = model.split(parameters);
        let rows = [model.rows(), model.columns()];
        Self {
            arch,
            data,
            model,
            input_stride,
            factor_stride,
            inputs: AlignedVec::from_rows(data.inputs().values(), input_dim, input_stride),
            factors: [u, v].map(|factor| AlignedVec::from_rows(factor, k, factor_stride)),
            products: rows.map(|rows| AlignedVec::zeros(rows * factor_stride)),
            matrix: AlignedVec::zeros(input_stride),
            correlation: AlignedVec::zeros(input_stride),
        }
    }
}

impl<E: Real> Kernel for MatrixSensingKernel<'_, E> {
    fn single_steps(&mut self, order: &[u32], learning_rates: &[f64], clip_norm: f64) -> Segment {
        assert_eq!(order.len(), learning_rates.len(), "one learning rate for each step");
        self.arch.dispatch(SensingSingleSteps { kernel: self, order, learning_rates, clip_norm })
    }

    fn step(&mut self, samples: Samples<'_>, update: Update) -> Step {
        if samples.len(self.data) == 0 {
            return Step::default();
        }
        self.arch.dispatch(SensingBatchStep { kernel: self, samples, update })
    }

    fn parameters(&self) -> Vec<f64> {
        let rows = self.factors.iter().flat_map(|factor| factor.chunks_exact(self.factor_stride));
        let values = rows.flat_map(|row| &row[..self.model.factor_count()]);
        values.map(|value| value.to_f64()).collect()
    }
}

/// The product that a tile computes rows of.
#[derive(Clone, Copy)]
enum Product {
    /// `XV`.
    Plain,
    /// `XᵀU`.
    Transposed,
}

/// Sets the rows of `product` to those of `XV` or `XᵀU`.
///
/// X is `columns` wide, row by row; a row of the factor and of the product has `groups` groups of
/// lanes.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "parts of one product, inlined into its step")]
fn multiply<S: Simd, E: Real>(
    simd: S,
    kind: Product,
    x: &[E],
    columns: usize,
    factor: Groups<'_, S, E>,
    product: &mut GroupsMut<'_, S, E>,
    groups: usize,
) {
    let rows = product.len() / groups;
    let mut row = 0;
    while row + TILE_ROWS <= rows {
        for k in 0..groups {
            let sums = match kind {
                Product::Plain => {
                    plain_tile::<S, E, TILE_ROWS>(simd, &x[row * columns..], columns, factor, k)
                }
                Product::Transposed => {
                    transposed_tile::<S, E, TILE_ROWS>(simd, &x[row..], columns, factor, k)
                }
            };
            for (r, sum) in sums.iter().enumerate() {
                product.set((row + r) * groups + k, *sum);
            }
        }
        row += TILE_ROWS;
    }
    while row < rows {
        for k in 0..groups {
            let sums = match kind {
                Product::Plain => {
                    plain_tile::<S, E, 1>(simd, &x[row * columns..], columns, factor, k)
                }
                Product::Transposed => {
                    transposed_tile::<S, E, 1>(simd, &x[row..], columns, factor, k)
                }
            };
            product.set(row * groups + k, sums[0]);
        }
        row += 1;
    }
}

/// Group `k` of the first `R` rows of the product of `x` with the factor, of `columns` rows.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "closures lose the instruction set")]
fn plain_tile<S: Simd, E: Real, const R: usize>(
    simd: S,
    x: &[E],
    columns: usize,
    factor: Groups<'_, S, E>,
    k: usize,
) -> [Lanes<S, E>; R] {
    let mut rows = [&x[..0]; R];
    for r in 0..R {
        rows[r] = &x[r * columns..][..columns];
    }
    let groups = factor.len() / columns;
    let mut sums = [Lanes::splat(simd, E::ZERO); R];
    for column in 0..columns {
        let other = factor.get(simd, column * groups + k);
        for r in 0..R {
            sums[r] = Lanes::splat(simd, rows[r][column]).mul_add(simd, other, sums[r]);
        }
    }
    sums
}

/// Group `k` of the first `R` rows of the product of `xᵀ` with the factor.
#[inline(always)]
fn transposed_tile<S: Simd, E: Real, const R: usize>(
    simd: S,
    x: &[E],
    columns: usize,
    factor: Groups<'_, S, E>,
    k: usize,
) -> [Lanes<S, E>; R] {
    let rows = x.len().div_ceil(columns);
    let groups = factor.len() / rows;
    let mut sums = [Lanes::splat(simd, E::ZERO); R];
    for row in 0..rows {
        let entries = &x[row * columns..][..R];
        let other = factor.get(simd, row * groups + k);
        for r in 0..R {
            sums[r] = Lanes::splat(simd, entries[r]).mul_add(simd, other, sums[r]);
        }
    }
    sums
}

struct SensingSingleSteps<'k, 'a, E> {
    kernel: &'k mut MatrixSensingKernel<'a, E>,
    order: &'k [u32],
    learning_rates: &'k [f64],
    clip_norm: f64,
}

impl<E: Real> WithSimd for SensingSingleSteps<'_, '_, E> {
    type Output = Segment;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Segment {
        let Self { kernel, order, learning_rates, clip_norm } = self;
        let mut segment = Segment::default();
        let (stride, groups) = (kernel.input_stride, kernel.factor_stride / E::LANES);
        for (&sample, &learning_rate) in order.iter().zip(learning_rates) {
            let input = &kernel.inputs[sample as usize * stride..][..kernel.model.input_dim()];
            let [u, v] = &kernel.factors;
            let [d_u, d_v] = &mut kernel.products;
            let squares = exchange(simd, input, kernel.model.columns(), [u, v], [d_u, d_v], groups);
            let (u, d_u) = (Groups::<S, E>::new(u), Groups::<S, E>::new(d_u));
            let output = dot_lanes(simd, u, d_u).sum(simd).to_f64();
            let residual = output - kernel.data.targets()[sample as usize];
            let gradient_norm = residual.abs() * squares.sqrt();
            let (factor, clipped) = Update { learning_rate, clip_norm }.factor(gradient_norm);
            segment.add(Step { loss: 0.5 * residual * residual, gradient_norm, clipped });
            descend(simd, &mut kernel.factors, &kernel.products, -(factor * residual));
        }
        segment
    }
}

/// Sets the products to `XV` and `XᵀU`; returns the sum of their squares.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "parts of one product, inlined into its step")]
fn exchange<S: Simd, E: Real>(
    simd: S,
    x: &[E],
    columns: usize,
    [u, v]: [&[E]; 2],
    [d_u, d_v]: [&mut [E]; 2],
    groups: usize,
) -> f64 {
    let mut products = [GroupsMut::<S, E>::new(d_u), GroupsMut::<S, E>::new(d_v)];
    let (u, v) = (Groups::<S, E>::new(u), Groups::<S, E>::new(v));
    multiply(simd, Product::Plain, x, columns, v, &mut products[0], groups);
    multiply(simd, Product::Transposed, x, columns, u, &mut products[1], groups);
    let mut squares = Lanes::splat(simd, E::ZERO);
    for product in &products {
        for k in 0..product.len() {
            let value = product.get(simd, k);
            squares = value.mul_add(simd, value, squares);
        }
    }
    squares.sum(simd).to_f64()
}

/// Adds `multiple` times the products to the factors.
#[inline(always)]
fn descend<S: Simd, E: Real>(
    simd: S,
    factors: &mut [AlignedVec<E>; 2],
    products: &[AlignedVec<E>; 2],
    multiple: f64,
) {
    let multiple = Lanes::splat(simd, E::from_f64(multiple));
    for (factor, product) in factors.iter_mut().zip(products) {
        let mut factor = GroupsMut::<S, E>::new(factor);
        let product = Groups::<S, E>::new(product);
        for k in 0..product.len() {
            let moved = product.get(simd, k).mul_add(simd, multiple, factor.get(simd, k));
            factor.set(k, moved);
        }
    }
}

struct SensingBatchStep<'k, 'a, E> {
    kernel: &'k mut MatrixSensingKernel<'a, E>,
    samples: Samples<'k>,
    update: Update,
}

impl<E: Real> WithSimd for SensingBatchStep<'_, '_, E> {
    type Output = Step;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Step {
        let Self { kernel, samples, update } = self;
        let (model, stride) = (kernel.model, kernel.factor_stride);
        let [u, v] = &kernel.factors;
        for i in 0..model.rows() {
            let u = Groups::<S, E>::new(&u[i * stride..][..stride]);
            for j in 0..model.columns() {
                let v = Groups::<S, E>::new(&v[j * stride..][..stride]);
                kernel.matrix[i * model.columns() + j] = dot_lanes(simd, u, v).sum(simd);
            }
        }
        let MatrixSensingKernel { data, inputs, input_stride, .. } = kernel;
        let rows = Rows { data, inputs, stride: *input_stride, samples };
        let mut correlation = GroupsMut::<S, E>::new(&mut kernel.correlation);
        let loss = rows.correlate(simd, Groups::<S, E>::new(&kernel.matrix), &mut correlation);
        let correlation = &kernel.correlation[..model.input_dim()];
        let [d_u, d_v] = &mut kernel.products;
        let (columns, groups) = (model.columns(), stride / E::LANES);
        let squares = exchange(simd, correlation, columns, [u, v], [d_u, d_v], groups);
        let gradient_norm = squares.sqrt();
        let (factor, clipped) = update.factor(gradient_norm);
        descend(simd, &mut kernel.factors, &kernel.products, -factor);
        Step { loss, gradient_norm, clipped }
    }
}
