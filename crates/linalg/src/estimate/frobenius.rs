//! The Frobenius norm of an operator.

use faer::Mat;
use rand::Rng;

use super::error::EstimateError;
use super::interval::{ErrorLaw, Estimate};
use super::moments::ROUNDING;
use super::products::{Products, inner, norms_squared, spherical};
use crate::{Operator, simd};

/// The method by which [`frobenius_norm_squared`] uses its products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum FrobeniusMethod {
    /// The mean of `‖Ag‖²` over random vectors g.
    Plain,
    /// A third of the products finds the directions Q in which A is large, a third gives `‖AQ‖_F²`
    /// without error, and the rest estimates the norm on the complement of Q, as Hutch++ (Meyer,
    /// Musco, Musco & Woodruff 2021) does for the trace. Below 12 products it is
    /// [`Plain`](Self::Plain).
    #[default]
    Deflated,
}

/// Settings of [`frobenius_norm_squared`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrobeniusOptions {
    /// The method.
    pub method: FrobeniusMethod,
    /// The largest number of operator products. The result is exact when it reaches the dimension.
    pub max_products: usize,
}

impl Default for FrobeniusOptions {
    /// Deflated, 60 products.
    fn default() -> Self {
        Self { method: FrobeniusMethod::default(), max_products: 60 }
    }
}

/// The smallest number of random vectors from which their own spread gives the standard error.
const MIN_VECTORS: usize = 4;

/// The squared Frobenius norm `‖A‖_F² = tr A²` of a symmetric operator.
///
/// Vectors g are uniform on spheres, so that the estimate is unbiased and its variance is
/// `2 tr((A²)̄²) d/(d + 2)/m`, with `(A²)̄ = A² − (tr A²/d) I` on the space of dimension d that the
/// directions Q leave. The variance is estimated without bias from the inner products of the m
/// images of different vectors. With fewer than four random vectors the standard error is the upper
/// bound `√(2/m)` of the value. Costs O(dim · k²) besides its k products and keeps two vectors per
/// product. Nominal 95 % intervals cover 93–97 % on the spectra of the example `coverage`.
///
/// ```
/// use flatmin_linalg::{FnOperator, FrobeniusOptions, frobenius_norm_squared, stream};
/// // diag(1, 2, …, 100), known by its products.
/// let operator = FnOperator::new(100, |v: &[f64], image: &mut [f64]| {
///     (0..100).for_each(|i| image[i] = (i + 1) as f64 * v[i]);
/// });
/// let options = FrobeniusOptions::default();
/// let estimate = frobenius_norm_squared(&operator, &options, &mut stream(0, "norm", 0))?;
/// let interval = estimate.interval(0.95);
/// assert!(interval.lower < 338_350.0 && 338_350.0 < interval.upper);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`EstimateError`]: dimension or budget zero, a product that is not finite, or a result beyond
/// the range of `f64` (the entries are squared).
pub fn frobenius_norm_squared(
    operator: &(impl Operator + ?Sized),
    options: &FrobeniusOptions,
    rng: &mut impl Rng,
) -> Result<Estimate, EstimateError> {
    let budget = options.max_products;
    let mut products = Products::new(operator, budget)?;
    let dim = products.dim();
    if budget >= dim {
        let sum = products.sum_over_axes(|_, image| simd::norm_squared(image))?;
        return Estimate::exact(sum, products.unit().squared(), products.used);
    }
    let sketch = match options.method {
        FrobeniusMethod::Deflated if budget >= 3 * MIN_VECTORS => budget / 3,
        _ => 0,
    };
    let basis = products.random_range(sketch, rng)?;
    let known: f64 = norms_squared(products.of(basis.as_ref())?.as_ref()).sum();
    let vectors = spherical(basis.as_ref(), budget - 2 * sketch, rng);
    let images = products.of(vectors.as_ref())?;
    let forms = inner(images.as_ref(), images.as_ref());
    let overlaps = inner(vectors.as_ref(), vectors.as_ref());
    let (trace, standard_error, law) = spread(&forms, &overlaps, dim - sketch);
    let value = known + trace;
    let standard_error = libm::hypot(standard_error, ROUNDING * value);
    Estimate::scaled(value, standard_error, law, products.unit().squared(), products.used)
}

/// The mean of the forms `M_ii = g_iᵀBg_i` for positive semidefinite B on a space of dimension
/// `rest`, its standard error, and their law.
fn spread(forms: &Mat<f64>, overlaps: &Mat<f64>, rest: usize) -> (f64, f64, ErrorLaw) {
    let count = forms.ncols();
    let (m, d) = (count as f64, rest as f64);
    let trace = (0..count).map(|i| forms[(i, i)]).sum::<f64>() / m;
    let law = |degrees: f64, noise_degrees: f64| ErrorLaw {
        degrees,
        skew: 1.0,
        coupling: 1.0,
        noise_degrees,
    };
    if count < MIN_VECTORS {
        // tr B̄² ≤ (tr B)²: a single eigenvalue has the widest law.
        return (trace, (2.0 / m).sqrt() * trace, law(m, f64::INFINITY));
    }
    let mixed = Mat::from_fn(count, count, |i, j| {
        if i == j { 0.0 } else { forms[(i, j)] - trace / d * overlaps[(i, j)] }
    });
    let square = inner(mixed.as_ref(), mixed.as_ref());
    let second = (0..count).map(|i| square[(i, i)]).sum::<f64>() / (m * (m - 1.0));
    // Cycles of three different vectors estimate tr B̄³.
    let mut third = 0.0;
    for j in 0..count {
        for i in 0..count {
            third += square[(i, j)] * mixed[(i, j)];
        }
    }
    third /= m * (m - 1.0) * (m - 2.0);
    let standard_error = (2.0 * second * d / (d + 2.0) / m).sqrt();
    // For a single eigenvalue, whose forms are χ² with one degree of freedom, the ratio is on
    // average smaller than 1 by this factor.
    let bias = (m * (m + 2.0)).sqrt() / (m + 4.0);
    let share = if second > 0.0 { third / second / second.sqrt() / bias } else { 0.0 };
    let share = share.clamp(0.0, 1.0);
    // As in the trace estimator, one more triple, for which one eigenvalue dominates, keeps the
    // interval from being too short.
    let triples = m * (m - 1.0) * (m - 2.0) / 6.0;
    let share = (triples * share + 1.0) / (triples + 1.0);
    // The squares of mixed forms vary with variance 4/m² relative to their mean. The skewness is
    // estimated too, which widens the law by about twice as much (measured).
    let noise_degrees = 2.0 / (4.0 / (m * (m - 1.0)) + 8.0 / (m * m));
    (trace, standard_error, law(m / (share * share), noise_degrees))
}
