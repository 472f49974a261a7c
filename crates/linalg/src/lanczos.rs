//! Lanczos for the largest eigenvalue of an operator that is never formed.

use faer::Mat;

use crate::{Eigen, EigenError, simd, symmetric_eigen};

/// The relative residual at which eigenpairs are accepted by default: `‖Av − λv‖ ≤ 1e-9 |λ|`.
///
/// It bounds the relative error of λ, which is about its square, 1e-15 or so, where the next
/// eigenvalue is not close.
pub const DEFAULT_RELATIVE_RESIDUAL: f64 = 1e-9;

/// The accuracy that [`largest_eigenpair`] is to reach, and its limits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LanczosOptions {
    /// The residual `‖Av − λv‖` at which the pair is accepted, relative to |λ|.
    pub relative_residual: f64,
    /// The largest number of operator products. The Krylov basis is kept, so memory grows with it.
    pub max_products: usize,
}

impl Default for LanczosOptions {
    /// [`DEFAULT_RELATIVE_RESIDUAL`] and at most 300 products.
    fn default() -> Self {
        Self { relative_residual: DEFAULT_RELATIVE_RESIDUAL, max_products: 300 }
    }
}

/// The reason why a Lanczos iteration ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LanczosStatus {
    /// The residual reached its bound.
    Converged,
    /// The Krylov space is invariant: the pair is exact to rounding within the invariant space of
    /// the start.
    Invariant,
    /// The budget of products ran out first; the residual shows the accuracy reached.
    OutOfProducts,
}

/// An approximate eigenpair with its residual.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Eigenpair {
    /// The Ritz value. It exceeds the largest eigenvalue by rounding only.
    pub value: f64,
    /// The unit Ritz vector.
    pub vector: Vec<f64>,
    /// `‖Av − λv‖`: some eigenvalue lies within this distance of `value`.
    pub residual: f64,
    /// The number of operator products used.
    pub products: usize,
    /// The reason why the iteration ended.
    pub status: LanczosStatus,
}

/// An orthonormal basis of a Krylov space of a symmetric operator `A`, with the tridiagonal matrix
/// `T = QᵀAQ`, grown one product at a time with full re-orthogonalisation.
#[derive(Debug, Clone)]
pub struct Krylov {
    /// Orthonormal directions; the last one has not been multiplied yet unless the space is closed.
    basis: Vec<Vec<f64>>,
    diagonal: Vec<f64>,
    off_diagonal: Vec<f64>,
    start_norm: f64,
    closed: bool,
}

impl Krylov {
    /// The space spanned by `start`.
    ///
    /// # Errors
    /// [`EigenError::NotFinite`] when `start` is empty, zero or not finite.
    pub fn new(start: &[f64]) -> Result<Self, EigenError> {
        let start_norm = simd::norm_squared(start).sqrt();
        if !(start_norm.is_finite() && start_norm > 0.0) {
            return Err(EigenError::NotFinite { row: 0, column: 0, value: start_norm });
        }
        let basis = vec![start.iter().map(|v| v / start_norm).collect()];
        let (diagonal, off_diagonal) = (Vec::new(), Vec::new());
        Ok(Self { basis, diagonal, off_diagonal, start_norm, closed: false })
    }

    /// The number of operator products used, which is the dimension k of T.
    pub fn products(&self) -> usize {
        self.diagonal.len()
    }

    /// True if the space is invariant under A, to rounding, so that more products add nothing.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Adds a direction; `apply(v, out)` writes `A v` to `out`. Does nothing when closed.
    ///
    /// # Errors
    /// [`EigenError::NotFinite`] when the operator returns something that is not finite.
    pub fn extend(&mut self, apply: impl FnOnce(&[f64], &mut [f64])) -> Result<(), EigenError> {
        self.try_extend(&[], |vector, image| {
            apply(vector, image);
            Ok(())
        })
    }

    /// Like [`extend`](Self::extend), with products that may fail, and on the complement of
    /// orthonormal vectors to which the start is orthogonal.
    ///
    /// When the space is nearly closed, the next direction consists of rounding errors and would
    /// not be orthogonal to `others` by itself.
    pub(crate) fn try_extend<E: From<EigenError>>(
        &mut self,
        others: &[&[f64]],
        apply: impl FnOnce(&[f64], &mut [f64]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.closed {
            return Ok(());
        }
        let k = self.diagonal.len();
        let dim = self.basis[k].len();
        let mut image = vec![0.0; dim];
        apply(&self.basis[k], &mut image)?;
        let alpha = simd::dot(&self.basis[k], &image);
        if !alpha.is_finite() {
            return Err(EigenError::NotFinite { row: k, column: k, value: alpha }.into());
        }
        self.diagonal.push(alpha);
        // Two passes make the basis orthogonal to rounding.
        for _ in 0..2 {
            for vector in others.iter().copied().chain(self.basis.iter().map(Vec::as_slice)) {
                let component = simd::dot(vector, &image);
                simd::axpy(-component, vector, &mut image);
            }
        }
        let beta = simd::norm_squared(&image).sqrt();
        let entries = self.diagonal.iter().chain(&self.off_diagonal);
        let scale = entries.fold(0.0_f64, |m, v| m.max(v.abs()));
        self.closed = beta <= f64::EPSILON * scale * dim as f64 || k + 1 == dim;
        self.off_diagonal.push(beta);
        if !self.closed {
            self.basis.push(image.iter().map(|v| v / beta).collect());
        }
        Ok(())
    }

    /// The largest Ritz value θ, the coefficients of its unit Ritz vector in the basis, and the
    /// norm of its residual.
    ///
    /// # Errors
    /// See [`symmetric_eigen`](crate::symmetric_eigen).
    ///
    /// # Panics
    /// Before the first product.
    pub fn largest_ritz_pair(&self) -> Result<(f64, Vec<f64>, f64), EigenError> {
        let k = self.diagonal.len();
        assert!(k > 0, "a Ritz pair needs a product");
        let eigen = self.eigen()?;
        let coefficients: Vec<f64> = (0..k).map(|i| eigen.vectors[(i, k - 1)]).collect();
        let residual = self.off_diagonal[k - 1] * coefficients[k - 1].abs();
        Ok((eigen.values[k - 1], coefficients, residual))
    }

    /// All Ritz values, ascending, with the coefficients of their unit Ritz vectors in the basis as
    /// columns: the eigenpairs of T.
    ///
    /// The residual of pair j is [`residual`](Self::residual) of column j. Squares of the first
    /// coefficients are the weights of the Gauss quadrature of the spectral measure of the start.
    ///
    /// # Errors
    /// See [`symmetric_eigen`](crate::symmetric_eigen).
    pub fn eigen(&self) -> Result<Eigen, EigenError> {
        let k = self.diagonal.len();
        let tridiagonal = Mat::from_fn(k, k, |i, j| {
            if i == j {
                self.diagonal[i]
            } else if i.abs_diff(j) == 1 {
                self.off_diagonal[i.min(j)]
            } else {
                0.0
            }
        });
        symmetric_eigen(tridiagonal.as_ref())
    }

    /// The norm of the residual of the Ritz pair whose last coefficient this is.
    pub fn residual(&self, last_coefficient: f64) -> f64 {
        self.off_diagonal.last().map_or(0.0, |beta| beta * last_coefficient.abs())
    }

    /// The coefficients x of the Galerkin solution `Q x` of `(s − A) v = start`, for s above the
    /// largest Ritz value: `(s − T) x = ‖start‖ e_1`.
    ///
    /// `None` when s is not above it, and before the first product. The residual
    /// `start − (s − A) Q x` is `β_k x_k` times [`next_direction`](Self::next_direction).
    pub fn resolvent(&self, s: f64) -> Option<Vec<f64>> {
        let k = self.diagonal.len();
        if k == 0 {
            return None;
        }
        // s − T = L D Lᵀ, positive definite exactly when every pivot is positive.
        let mut pivots = Vec::with_capacity(k);
        for i in 0..k {
            let pivot = match i {
                0 => s - self.diagonal[0],
                _ => s - self.diagonal[i] - self.off_diagonal[i - 1].powi(2) / pivots[i - 1],
            };
            if !(pivot > 0.0) {
                return None;
            }
            pivots.push(pivot);
        }
        let mut x = vec![0.0; k];
        x[0] = self.start_norm;
        for i in 1..k {
            x[i] = self.off_diagonal[i - 1] / pivots[i - 1] * x[i - 1];
        }
        for i in (0..k).rev() {
            x[i] /= pivots[i];
            if i + 1 < k {
                x[i] += self.off_diagonal[i] / pivots[i] * x[i + 1];
            }
        }
        Some(x)
    }

    /// The direction of the next product, with the norm of the part of the last product outside the
    /// space; `None` when the space is closed.
    pub fn next_direction(&self) -> Option<(f64, &[f64])> {
        let k = self.diagonal.len();
        if self.closed || k == 0 { None } else { Some((self.off_diagonal[k - 1], &self.basis[k])) }
    }

    /// The vector with these coefficients in the basis.
    ///
    /// # Panics
    /// When there are more coefficients than directions.
    pub fn combine(&self, coefficients: &[f64]) -> Vec<f64> {
        let mut vector = vec![0.0; self.basis[0].len()];
        for (coefficient, direction) in coefficients.iter().zip(&self.basis) {
            simd::axpy(*coefficient, direction, &mut vector);
        }
        vector
    }
}

/// The largest eigenpair of a symmetric operator, by Lanczos with full re-orthogonalisation.
///
/// `apply(v, out)` writes `A v` to `out`. `start` determines the Krylov space and needs a component
/// along the wanted eigenvector, which a random start has almost surely.
///
/// ```
/// use flatmin_linalg::{LanczosOptions, largest_eigenpair};
/// // diag(1, 2, …, 100), from a start with a component along every eigenvector.
/// let product = |v: &[f64], image: &mut [f64]| {
///     (0..100).for_each(|i| image[i] = (i + 1) as f64 * v[i]);
/// };
/// let pair = largest_eigenpair(&[1.0; 100], product, LanczosOptions::default())?;
/// assert!((pair.value - 100.0).abs() < 1e-9 && pair.residual <= 1e-9 * pair.value);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`EigenError::NotFinite`] when `start` is empty, zero or not finite, or when the operator
/// returns something that is not finite.
pub fn largest_eigenpair(
    start: &[f64],
    mut apply: impl FnMut(&[f64], &mut [f64]),
    options: LanczosOptions,
) -> Result<Eigenpair, EigenError> {
    let mut krylov = Krylov::new(start)?;
    loop {
        krylov.extend(&mut apply)?;
        let products = krylov.products();
        // The small eigenproblem costs O(k³) and is solved at every fourth step only.
        if !(krylov.is_closed() || products % 4 == 0 || products >= options.max_products) {
            continue;
        }
        let (value, coefficients, residual) = krylov.largest_ritz_pair()?;
        let status = if krylov.is_closed() {
            LanczosStatus::Invariant
        } else if residual <= options.relative_residual * value.abs() {
            LanczosStatus::Converged
        } else if products >= options.max_products {
            LanczosStatus::OutOfProducts
        } else {
            continue;
        };
        let vector = krylov.combine(&coefficients);
        return Ok(Eigenpair { value, vector, residual, products, status });
    }
}

#[cfg(test)]
mod tests {
    use super::{Krylov, LanczosOptions, LanczosStatus, largest_eigenpair};

    fn diagonal(values: &[f64]) -> impl FnMut(&[f64], &mut [f64]) {
        move |v, out| {
            for ((o, x), d) in out.iter_mut().zip(v).zip(values) {
                *o = d * x;
            }
        }
    }

    #[test]
    fn the_top_of_a_power_law_is_found() {
        let spectrum: Vec<f64> = (1..=400).map(|k| 1.0 / f64::from(k)).collect();
        let start: Vec<f64> = (0..400).map(|k| 1.0 + f64::from(k % 7)).collect();
        let pair =
            largest_eigenpair(&start, diagonal(&spectrum), LanczosOptions::default()).unwrap();
        assert_eq!(pair.status, LanczosStatus::Converged);
        assert!((pair.value - 1.0).abs() < 1e-14, "{pair:?}");
        assert!((pair.vector[0].abs() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn zero_identity_and_dimension_one_are_ordinary() {
        for scale in [0.0, 1.0, 1e150] {
            for dim in [1, 2, 9] {
                let start: Vec<f64> = (0..dim).map(|k| k as f64 + 0.5).collect();
                let spectrum = vec![scale; dim];
                let pair =
                    largest_eigenpair(&start, diagonal(&spectrum), LanczosOptions::default())
                        .unwrap();
                assert_eq!(pair.status, LanczosStatus::Invariant);
                assert!((pair.value - scale).abs() <= 1e-15 * scale);
            }
        }
    }

    #[test]
    fn running_out_of_products_is_said() {
        let spectrum: Vec<f64> = (0..100).map(|k| 1.0 + f64::from(k) * 1e-6).collect();
        let options = LanczosOptions { max_products: 8, ..LanczosOptions::default() };
        let pair = largest_eigenpair(&[1.0; 100], diagonal(&spectrum), options).unwrap();
        assert_eq!((pair.status, pair.products), (LanczosStatus::OutOfProducts, 8));
        assert!(pair.residual > 0.0);
    }

    #[test]
    fn the_resolvent_solves_its_system_up_to_the_residual_it_names() {
        let spectrum: Vec<f64> = (0..50).map(|k| f64::from(k) / 50.0).collect();
        let start: Vec<f64> = (0..50).map(|k| 1.0 + f64::from(k % 3)).collect();
        let mut krylov = Krylov::new(&start).unwrap();
        for _ in 0..8 {
            krylov.extend(diagonal(&spectrum)).unwrap();
        }
        let shift = 1.1;
        let coefficients = krylov.resolvent(shift).unwrap();
        let solution = krylov.combine(&coefficients);
        let (beta, direction) = krylov.next_direction().unwrap();
        for i in 0..50 {
            let residual = start[i] - (shift - spectrum[i]) * solution[i];
            let named = beta * coefficients[7] * direction[i];
            assert!((residual - named).abs() < 1e-13, "{residual} {named}");
        }
        assert_eq!(krylov.resolvent(0.5), None);
    }
}
