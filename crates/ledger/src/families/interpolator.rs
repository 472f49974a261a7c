//! Interpolators of linear measurements.

use crate::prelude::*;

/// A system is singular if a pivot is below this fraction of the largest one.
pub(crate) const SINGULAR: f64 = 1e-4;

/// The coefficients that are measured: one or two are nonzero, or all.
pub(crate) fn random_coefficients(dim: usize, rng: &mut dyn Rng) -> Vec<f64> {
    let scale = power_of_ten(rng, 2.0);
    let nonzero = match rng.random_range(0..4) {
        0 => dim,
        1 => 2,
        _ => 1,
    };
    let values: Vec<f64> = (0..nonzero).map(|_| scale * normal(rng)).collect();
    let first = rng.random_range(0..dim);
    (0..dim).map(|j| values.get((j + first) % dim).copied().unwrap_or(0.0)).collect()
}

/// `‖β‖₁`.
pub(crate) fn l1_norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value.abs()).sum()
}

/// Parameters with the given coefficients and `|a_j| = ratio · |b_j|`.
pub(crate) fn layers(coefficients: &[f64], ratio: f64) -> Vec<f64> {
    let a = coefficients.iter().map(|value| (ratio * value.abs()).sqrt());
    let b = coefficients.iter().map(|value| (value.abs() / ratio).sqrt().copysign(*value));
    a.chain(b).collect()
}

/// An orthonormal basis of the span of the rows, by Gram–Schmidt with re-orthogonalisation.
pub(crate) fn row_basis(matrix: &RowMatrix) -> Vec<Vec<f64>> {
    let mut basis: Vec<Vec<f64>> = Vec::new();
    for i in 0..matrix.rows() {
        let mut vector = matrix.row(i).to_vec();
        let before = simd::norm_squared(&vector).sqrt();
        for _ in 0..2 {
            for direction in &basis {
                let component = simd::dot(direction, &vector);
                simd::axpy(-component, direction, &mut vector);
            }
        }
        let norm = simd::norm_squared(&vector).sqrt();
        if norm > SINGULAR * before {
            basis.push(vector.iter().map(|value| value / norm).collect());
        }
    }
    basis
}

/// The minimum-ℓ2-norm interpolator of `Xβ*`, the projection of β* on the span of the rows of X;
/// and the rank of X.
pub(crate) fn projection(inputs: &RowMatrix, coefficients: &[f64]) -> (Vec<f64>, usize) {
    let basis = row_basis(inputs);
    let mut projected = vec![0.0; coefficients.len()];
    for direction in &basis {
        simd::axpy(simd::dot(direction, coefficients), direction, &mut projected);
    }
    (projected, basis.len())
}

#[cfg(test)]
mod tests {
    use super::layers;

    #[test]
    fn layers_make_the_coefficients() {
        let parameters = layers(&[4.0, -9.0, 0.0], 4.0);
        assert_eq!(parameters, [4.0, 6.0, 0.0, 1.0, -1.5, 0.0]);
    }
}
