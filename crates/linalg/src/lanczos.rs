//! Lanczos for the largest eigenvalue of an operator that is never formed.

use faer::Mat;

use crate::{EigenError, simd, symmetric_eigen};

/// When [`largest_eigenpair`] stops.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LanczosOptions {
    /// Residual `‖Av − λv‖` at which the pair is accepted, relative to |λ|.
    pub relative_residual: f64,
    /// Most operator products; the Krylov basis is kept, so memory grows with it.
    pub max_products: usize,
}

impl Default for LanczosOptions {
    /// A residual of 1e-9 of λ, which bounds the error of λ by the same and makes it about 1e-15
    /// where the next eigenvalue is not close; at most 300 products.
    fn default() -> Self {
        Self { relative_residual: 1e-9, max_products: 300 }
    }
}

/// How the iteration ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LanczosStatus {
    /// The residual reached its bound.
    Converged,
    /// The Krylov space closed: the pair is exact to rounding, within the start's invariant space.
    Invariant,
    /// The budget of products ran out first; the residual says how far it got.
    OutOfProducts,
}

/// An approximate eigenpair with its residual.
#[derive(Debug, Clone, PartialEq)]
pub struct Eigenpair {
    /// The Ritz value: never above the true largest eigenvalue but for rounding.
    pub value: f64,
    /// The unit Ritz vector.
    pub vector: Vec<f64>,
    /// `‖Av − λv‖`: some eigenvalue lies within this distance of `value`.
    pub residual: f64,
    /// Operator products used.
    pub products: usize,
    /// How the iteration ended.
    pub status: LanczosStatus,
}

/// The largest eigenpair of a symmetric operator, by Lanczos with full re-orthogonalisation.
///
/// `apply(v, out)` writes `A v` to `out`. `start` fixes the Krylov space: a component along the
/// wanted eigenvector is needed, which a random start has almost surely.
///
/// # Errors
/// [`EigenError::NotFinite`] when `start` is empty, zero or not finite, or when the operator
/// returns something that is not finite.
pub fn largest_eigenpair(
    start: &[f64],
    mut apply: impl FnMut(&[f64], &mut [f64]),
    options: LanczosOptions,
) -> Result<Eigenpair, EigenError> {
    let dim = start.len();
    let norm = simd::norm_squared(start).sqrt();
    if !(norm.is_finite() && norm > 0.0) {
        return Err(EigenError::NotFinite { row: 0, column: 0, value: norm });
    }
    let mut basis = vec![start.iter().map(|v| v / norm).collect::<Vec<f64>>()];
    let (mut diagonal, mut off_diagonal) = (Vec::new(), Vec::new());
    let mut image = vec![0.0; dim];
    loop {
        let k = basis.len();
        apply(&basis[k - 1], &mut image);
        let alpha = simd::dot(&basis[k - 1], &image);
        if !alpha.is_finite() {
            return Err(EigenError::NotFinite { row: k - 1, column: k - 1, value: alpha });
        }
        diagonal.push(alpha);
        // Twice is enough: after the second pass the basis is orthogonal to rounding.
        for _ in 0..2 {
            for vector in &basis {
                let component = simd::dot(vector, &image);
                simd::axpy(-component, vector, &mut image);
            }
        }
        let beta = simd::norm_squared(&image).sqrt();
        let tridiagonal = Mat::from_fn(k, k, |i, j| {
            if i == j {
                diagonal[i]
            } else if i.abs_diff(j) == 1 {
                off_diagonal[i.min(j)]
            } else {
                0.0
            }
        });
        let scale = diagonal.iter().chain(&off_diagonal).fold(0.0_f64, |m, v| m.max(v.abs()));
        let closed = beta <= f64::EPSILON * scale * dim as f64 || k == dim;
        // The small eigenproblem is O(k³): look at it every fourth step only.
        if !(closed || k % 4 == 0 || k >= options.max_products) {
            off_diagonal.push(beta);
            basis.push(image.iter().map(|v| v / beta).collect());
            continue;
        }
        let eigen = symmetric_eigen(tridiagonal.as_ref())?;
        let value = eigen.values[k - 1];
        let residual = beta * eigen.vectors[(k - 1, k - 1)].abs();
        let status = if closed {
            LanczosStatus::Invariant
        } else if residual <= options.relative_residual * value.abs() {
            LanczosStatus::Converged
        } else if k >= options.max_products {
            LanczosStatus::OutOfProducts
        } else {
            off_diagonal.push(beta);
            basis.push(image.iter().map(|v| v / beta).collect());
            continue;
        };
        let mut vector = vec![0.0; dim];
        for (j, direction) in basis.iter().enumerate() {
            simd::axpy(eigen.vectors[(j, k - 1)], direction, &mut vector);
        }
        return Ok(Eigenpair { value, vector, residual, products: k, status });
    }
}

#[cfg(test)]
mod tests {
    use super::{LanczosOptions, LanczosStatus, largest_eigenpair};

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
}
