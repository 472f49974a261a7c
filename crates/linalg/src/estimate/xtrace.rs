//! `XTrace` and `XNysTrace`, the exchangeable trace estimators (Epperly, Tropp & Webber 2024):
//! every vector serves the approximation of the operator and, left out of it, the estimate of the
//! residual.
//!
//! The estimate is the mean of k estimates `t_i` that are not independent: the approximation behind
//! `t_i` is made of the vectors behind the others. Given all vectors but i and j, let `t_i'` be the
//! estimate of vector i with both left out. It is unbiased and does not depend on `ω_j`, and
//! `t_i − t_i'` has mean zero over `ω_i` whatever `ω_j`. Hence
//!
//! `cov(t_i, t_j) = E (t_i − t_i')(t_j − t_j')`,
//!
//! and every pair gives an unbiased estimate of it, at a cost of O(1) from k × k matrices. The
//! spread of the `t_i` does not show this term. It is positive, and outweighs the rest at large
//! budgets.

use faer::{Accum, Mat, MatRef};
use rand::Rng;

use super::error::EstimateError;
use super::interval::Estimate;
use super::moments::{FormMoments, ROUNDING};
use super::products::{Products, gaussian, inner, norms_squared, scale};
use crate::householder::thin_r;
use crate::{
    Operator, PowerOfTwo, cholesky, columns, columns_mut, divide_by_lower,
    divide_by_transposed_lower, matmul, product, simd, symmetric_eigenvalues, thin_qr,
};

/// A symmetric 2 × 2 matrix as its entries (11, 12, 22).
type Symmetric2 = [f64; 3];

/// The residual operator for one or two vectors that are left out of the approximation.
struct LeftOut {
    /// The trace that the approximation loses without them.
    lost: f64,
    /// Inner products `μ_iᵀμ_j` of the residual vectors.
    vectors: Symmetric2,
    /// Forms `μ_iᵀBμ_j`.
    forms: Symmetric2,
    /// Inner products of images, `μ_iᵀB²μ_j`.
    images: Symmetric2,
}

/// Estimates the trace by `XTrace` with `count` vectors, which takes twice as many products.
pub(super) fn xtrace<O: Operator + ?Sized>(
    products: &mut Products<'_, O>,
    count: usize,
    rng: &mut impl Rng,
) -> Result<Estimate, EstimateError> {
    let dim = products.dim();
    let mut vectors = gaussian(dim, count, rng);
    let images = products.of(vectors.as_ref())?;
    let (basis, mut triangle) = thin_qr(images.as_ref());
    drop(images);
    let mut basis_images = products.of(basis.as_ref())?;
    // H = QᵀAQ, W = QᵀΩ, and F = QᵀA(I − QQᵀ)Ω = R − HW.
    let captured = inner(basis.as_ref(), basis_images.as_ref());
    let inside = inner(basis.as_ref(), vectors.as_ref());
    let mut coupling = triangle.clone();
    subtract(&mut coupling, &captured, &inside);
    // (I − QQᵀ)Ω and (I − QQᵀ)AQ.
    subtract(&mut vectors, &basis, &inside);
    subtract(&mut basis_images, &basis, &captured);
    // s_i: the unit direction of the basis that is lost without vector i.
    regularise(&mut triangle);
    let mut inverse = Mat::<f64>::identity(count, count);
    divide_by_transposed_lower(triangle.transpose(), inverse.as_mut());
    let mut lost = inverse.transpose().to_owned();
    for direction in columns_mut(lost.as_mut()) {
        scale(1.0 / simd::norm_squared(direction).sqrt(), direction);
    }

    let outer = inner(basis_images.as_ref(), basis_images.as_ref());
    let times = |a: &Mat<f64>, b: &Mat<f64>| product(a.as_ref(), b.as_ref());
    let against = |a: &Mat<f64>, b: &Mat<f64>| inner(a.as_ref(), b.as_ref());
    let tables = Tables {
        overlap: against(&lost, &lost),
        inside: against(&lost, &inside),
        coupling: against(&lost, &coupling),
        captured: against(&lost, &times(&captured, &lost)),
        outer: against(&lost, &times(&outer, &lost)),
        outer_inside: against(&lost, &times(&outer, &inside)),
        vectors: inner(vectors.as_ref(), vectors.as_ref()),
        coupling_inside: against(&coupling, &inside),
        inside_inside: against(&inside, &times(&outer, &inside)),
    };
    let total: f64 = (0..count).map(|i| captured[(i, i)]).sum();
    let size: f64 = (0..count).map(|i| captured[(i, i)].abs()).sum();
    let rounding = ROUNDING * size;
    let rest = dim - count + 1;
    let moments = combine(count, rest, |i, j| tables.left_out(i, j));
    moments.estimate(total, rounding, products.unit(), products.used)
}

/// Inner products from which `XTrace` computes residuals, all count × count: S are the lost
/// directions, W the vectors in the basis, F the coupling, D = (AQ)ᵀ(I − QQᵀ)AQ.
struct Tables {
    /// `SᵀS`.
    overlap: Mat<f64>,
    /// `SᵀW`.
    inside: Mat<f64>,
    /// `SᵀF`.
    coupling: Mat<f64>,
    /// `SᵀHS`.
    captured: Mat<f64>,
    /// `SᵀDS`.
    outer: Mat<f64>,
    /// `SᵀDW`.
    outer_inside: Mat<f64>,
    /// Ωᵀ(I − QQᵀ)Ω.
    vectors: Mat<f64>,
    /// `FᵀW`.
    coupling_inside: Mat<f64>,
    /// `WᵀDW`.
    inside_inside: Mat<f64>,
}

impl Tables {
    /// The residual without vectors i and j, or without i when they are equal. `None` when the
    /// basis loses the same direction with either.
    fn left_out(&self, i: usize, j: usize) -> Option<LeftOut> {
        let index = [i, j];
        let inverse = if i == j {
            [1.0, 0.0, 0.0]
        } else {
            let cosine = self.overlap[(i, j)];
            let determinant = (1.0 - cosine) * (1.0 + cosine);
            if !(determinant > 1e-10) {
                return None;
            }
            [1.0 / determinant, -cosine / determinant, 1.0 / determinant]
        };
        let lost = inverse[0] * self.captured[(i, i)]
            + 2.0 * inverse[1] * self.captured[(i, j)]
            + inverse[2] * self.captured[(j, j)];
        // Coefficients z of the part of Qᵀω along the lost directions; g = Sᵀ(f + HSz).
        let (mut z, mut g) = ([[0.0; 2]; 2], [[0.0; 2]; 2]);
        for a in 0..2 {
            let w = [self.inside[(i, index[a])], self.inside[(j, index[a])]];
            z[a] = times_vector(inverse, w);
            for b in 0..2 {
                g[a][b] = self.coupling[(index[b], index[a])]
                    + self.captured[(index[b], i)] * z[a][0]
                    + self.captured[(index[b], j)] * z[a][1];
            }
        }
        let pair = |entry: &dyn Fn(usize, usize) -> f64| [entry(0, 0), entry(0, 1), entry(1, 1)];
        let vectors = pair(&|a, b| {
            let w = [self.inside[(i, index[b])], self.inside[(j, index[b])]];
            self.vectors[(index[a], index[b])] + z[a][0] * w[0] + z[a][1] * w[1]
        });
        let forms = pair(&|a, b| {
            let crossed =
                z[b][0] * self.coupling[(i, index[a])] + z[b][1] * self.coupling[(j, index[a])];
            crossed - self.coupling_inside[(index[a], index[b])]
                + z[a][0] * g[b][0]
                + z[a][1] * g[b][1]
        });
        let images = pair(&|a, b| {
            let inner = times_vector(inverse, g[b]);
            let (ia, ib) = (index[a], index[b]);
            let mut sum = self.inside_inside[(ia, ib)] + g[a][0] * inner[0] + g[a][1] * inner[1];
            for (c, &ic) in index.iter().enumerate() {
                sum -=
                    z[a][c] * self.outer_inside[(ic, ib)] + z[b][c] * self.outer_inside[(ic, ia)];
                for (d, &id) in index.iter().enumerate() {
                    sum += z[a][c] * self.outer[(ic, id)] * z[b][d];
                }
            }
            sum
        });
        Some(LeftOut { lost, vectors, forms, images })
    }
}

fn times_vector(matrix: Symmetric2, v: [f64; 2]) -> [f64; 2] {
    [matrix[0] * v[0] + matrix[1] * v[1], matrix[1] * v[0] + matrix[2] * v[1]]
}

/// Estimates the trace by `XNysTrace` with `count` vectors and as many products.
pub(super) fn xnystrace<O: Operator + ?Sized>(
    products: &mut Products<'_, O>,
    count: usize,
    rng: &mut impl Rng,
) -> Result<Estimate, EstimateError> {
    let dim = products.dim();
    let vectors = gaussian(dim, count, rng);
    let images = products.of(vectors.as_ref())?;
    let size = norms_squared(images.as_ref()).sum::<f64>().sqrt();
    if !(size > 0.0) {
        return Estimate::exact(0.0, PowerOfTwo::default(), products.used);
    }
    let (factor, shifted, shift) = factorise(vectors.as_ref(), images.as_ref(), size)
        .map_err(|form| EstimateError::NotPositive { form: products.unit().times(form) })?;
    drop(images);
    // With H = LLᵀ: Z = Y L⁻ᵀ.
    let mut root = shifted;
    divide_by_transposed_lower(factor.as_ref(), root.as_mut());
    let total: f64 = norms_squared(root.as_ref()).sum();
    // Y H⁻¹ = Z L⁻¹.
    divide_by_lower(factor.as_ref(), root.as_mut());
    let gram = inner(root.as_ref(), root.as_ref());
    let inverse = inverse_gram(factor.as_ref());
    let mut triangle = thin_r(vectors.as_ref());
    regularise(&mut triangle);
    let dual = inverse_gram(triangle.transpose());

    let left_out = |i: usize, j: usize| {
        let block = |m: &Mat<f64>| [m[(i, i)], m[(i, j)], m[(j, j)]];
        let invert = |m: Symmetric2| {
            if i == j {
                return Some([1.0 / m[0], 0.0, 0.0]);
            }
            let determinant = m[0] * m[2] - m[1] * m[1];
            (determinant > 1e-10 * m[0] * m[2])
                .then(|| [m[2] / determinant, -m[1] / determinant, m[0] / determinant])
        };
        // Schur complements: the inverse of a block of the inverse.
        let forms = invert(block(&inverse))?;
        let vectors = invert(block(&dual))?;
        let gram = block(&gram);
        let lost = forms[0] * gram[0] + 2.0 * forms[1] * gram[1] + forms[2] * gram[2];
        let columns = [[forms[0], forms[1]], [forms[1], forms[2]]];
        let product = |a: usize, b: usize| {
            let image = times_vector(gram, columns[b]);
            columns[a][0] * image[0] + columns[a][1] * image[1]
        };
        let images = [product(0, 0), product(0, 1), product(1, 1)];
        Some(LeftOut { lost, vectors, forms, images })
    };
    let rest = dim - count + 1;
    let moments = combine(count, rest, left_out);
    let rounding = shift * dim as f64;
    moments.estimate(total - rounding, rounding, products.unit(), products.used)
}

/// The Cholesky factor L of `Ωᵀ(A + shift)Ω`, the shifted images, and the shift.
///
/// The shift makes a singular operator definite and is as small as rounding allows. When no shift
/// is enough, the error is a negative value of the form.
fn factorise(
    vectors: MatRef<'_, f64>,
    images: MatRef<'_, f64>,
    size: f64,
) -> Result<(Mat<f64>, Mat<f64>, f64), f64> {
    let (dim, count) = (vectors.nrows(), vectors.ncols());
    let mut lowest = f64::NAN;
    // The larger shifts serve operators whose products are not accurate to the last digit.
    for digits in [4.0, 4e3, 4e6] {
        let shift = digits * f64::EPSILON * size / (dim as f64).sqrt();
        let mut shifted = images.to_owned();
        for (sum, vector) in columns_mut(shifted.as_mut()).into_iter().zip(columns(vectors)) {
            simd::axpy(shift, vector, sum);
        }
        let forms = inner(vectors, shifted.as_ref());
        let forms = Mat::from_fn(count, count, |i, j| 0.5 * (forms[(i, j)] + forms[(j, i)]));
        if let Some(factor) = cholesky(forms.as_ref()) {
            return Ok((factor, shifted, shift));
        }
        if let Ok(values) = symmetric_eigenvalues(forms.as_ref()) {
            lowest = values.first().copied().unwrap_or(f64::NAN);
        }
    }
    Err(lowest)
}

/// The inverse `(L Lᵀ)⁻¹` for a lower triangular L.
fn inverse_gram(lower: MatRef<'_, f64>) -> Mat<f64> {
    let mut inverse = Mat::<f64>::identity(lower.nrows(), lower.nrows());
    divide_by_transposed_lower(lower, inverse.as_mut());
    product(inverse.as_ref(), inverse.transpose())
}

/// The mean of the estimates with one vector left out, minus the trace of the whole approximation,
/// with its uncertainty. `rest` is the dimension of the space of a residual vector.
fn combine(
    count: usize,
    rest: usize,
    left_out: impl Fn(usize, usize) -> Option<LeftOut>,
) -> FormMoments {
    let m = count as f64;
    // Residual vectors are given the norm √rest, which removes the variance of their lengths.
    let form = |left: &LeftOut, rest: f64, k: usize| rest * left.forms[k] / left.vectors[k];
    let single: Vec<Option<LeftOut>> = (0..count).map(|i| left_out(i, i)).collect();
    let offset = |left: &LeftOut, rest: f64, k: usize| form(left, rest, k) - left.lost;
    let d = rest as f64;
    let residual = single.iter().flatten().map(|left| form(left, d, 0)).sum::<f64>() / m;
    let trace = single.iter().flatten().map(|left| offset(left, d, 0)).sum::<f64>() / m;
    let mean = residual / d;
    let centred = |left: &LeftOut, k: usize| {
        left.images[k] - 2.0 * mean * left.forms[k] + mean * mean * left.vectors[k]
    };
    let second = single
        .iter()
        .flatten()
        .map(|left| (d * centred(left, 0) / left.vectors[0]).max(0.0))
        .sum::<f64>()
        / m;
    let (mut pairs, mut powers) = (0.0, [0.0; 3]);
    let mut products = vec![0.0; count];
    let d = d + 1.0;
    for j in 0..count {
        for i in 0..j {
            let (Some(left), Some(of_i), Some(of_j)) = (left_out(i, j), &single[i], &single[j])
            else {
                continue;
            };
            pairs += 1.0;
            let change_i = offset(of_i, d - 1.0, 0) - offset(&left, d, 0);
            let change_j = offset(of_j, d - 1.0, 0) - offset(&left, d, 2);
            for k in [i, j] {
                products[k] += change_i * change_j;
            }
            let lengths = (left.vectors[0] * left.vectors[2]).sqrt();
            let mixed = d * (left.forms[1] - mean * left.vectors[1]) / lengths;
            let gram = d * centred(&left, 1) / lengths;
            powers[0] += 0.5
                * d
                * (centred(&left, 0) / left.vectors[0] + centred(&left, 2) / left.vectors[2]);
            powers[1] += mixed * gram;
            powers[2] += gram * gram;
        }
    }
    if pairs > 0.0 {
        powers = powers.map(|power| power / pairs);
    } else {
        powers[0] = second;
    }
    let variance = 2.0 * second * rest as f64 / (rest as f64 + 2.0) / m;
    let covariance = products.iter().sum::<f64>() / (m * m);
    let variance = variance + covariance.max(-0.5 * variance);
    // The contribution of a vector to the covariance varies from vector to vector.
    let spread = products.iter().map(|sum| (sum / m - covariance).powi(2)).sum::<f64>();
    let noise = spread / (m * (m - 1.0).max(1.0));
    let noise_degrees = if noise > 0.0 { 2.0 * variance * variance / noise } else { f64::INFINITY };
    FormMoments { trace, count, pairs, variance, noise_degrees, powers }
}

/// Subtracts `A B` from C.
fn subtract(c: &mut Mat<f64>, a: &Mat<f64>, b: &Mat<f64>) {
    matmul(c.as_mut(), Accum::Add, a.as_ref(), b.as_ref(), -1.0);
}

/// Keeps the diagonal of a triangular factor away from zero, relative to its largest entry.
fn regularise(triangle: &mut Mat<f64>) {
    let count = triangle.ncols();
    let largest = (0..count).fold(0.0_f64, |m, i| m.max(triangle[(i, i)].abs()));
    let floor = if largest > 0.0 { f64::EPSILON * largest } else { 1.0 };
    for i in 0..count {
        if triangle[(i, i)].abs() < floor {
            triangle[(i, i)] = floor;
        }
    }
}
