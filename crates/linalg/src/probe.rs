//! A cheap check of an operator before it is used.

use faer::{Mat, MatRef};
use rand::Rng;

use crate::estimate::products::{first_not_finite, gaussian};
use crate::{Operator, columns, simd};

/// The largest relative defect that [`probe`] accepts. Products in single precision stay below it
/// for dimensions in the thousands; a wrong factor or a missing term does not.
const MAX_DEFECT: f64 = 1e-5;

/// The defects that [`probe`] measured.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Probe {
    /// The ratio `|uᵀAv − vᵀAu| / (‖Au‖ + ‖Av‖)` for standard normal u and v, about
    /// `‖A − Aᵀ‖_F/‖A‖_F`.
    pub asymmetry: f64,
    /// The ratio `‖A(αu + βv) − αAu − βAv‖ / (‖Au‖ + ‖Av‖)` for α = 2, β = −3.
    pub nonlinearity: f64,
    /// The relative difference between the images of a block and the images of its vectors one by
    /// one.
    pub block_difference: f64,
    /// The number of operator products used.
    pub products: usize,
}

/// The reason why an operator cannot be trusted.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OperatorError {
    /// The operator has dimension zero.
    #[error("the dimension of the operator is 0, expected at least 1")]
    Empty,
    /// A product is not finite.
    #[error("entry {row} of a product is {value}, expected a finite number")]
    NotFinite {
        /// Row of the first such entry.
        row: usize,
        /// Its value.
        value: f64,
    },
    /// Two calls with the same vector give different products.
    #[error("two products with the same vector differ: entry {row} was {first}, then {second}")]
    NotDeterministic {
        /// Row of the first entry that differs.
        row: usize,
        /// Its value at first.
        first: f64,
        /// Its value at the second call.
        second: f64,
    },
    /// `uᵀAv` and `vᵀAu` differ.
    #[error(
        "the operator is not symmetric: its relative asymmetry is {asymmetry:.1e}, expected at most \
         {MAX_DEFECT:e}"
    )]
    NotSymmetric {
        /// See [`Probe::asymmetry`].
        asymmetry: f64,
    },
    /// The image of a combination is not the combination of images.
    #[error(
        "the operator is not linear: its relative defect is {nonlinearity:.1e}, expected at most \
         {MAX_DEFECT:e}"
    )]
    NotLinear {
        /// See [`Probe::nonlinearity`].
        nonlinearity: f64,
    },
    /// A block of vectors does not have the images that its vectors have one by one.
    #[error(
        "the product with a block of vectors differs from the products with its vectors by a \
         relative {block_difference:.1e}, expected at most {MAX_DEFECT:e}"
    )]
    BlockDiffers {
        /// See [`Probe::block_difference`].
        block_difference: f64,
    },
}

/// Checks that an operator is finite, deterministic to the bit, linear, symmetric, and the same
/// on blocks as on single vectors.
///
/// Costs six products with random vectors. A defect that few vectors show may be missed. Relative
/// defects up to 1e-5 pass; [`Probe`] contains their sizes.
///
/// # Errors
/// [`OperatorError`]: the first failure, in the order of the properties above, with its size.
pub fn probe(
    operator: &(impl Operator + ?Sized),
    rng: &mut impl Rng,
) -> Result<Probe, OperatorError> {
    let dim = operator.dim();
    if dim == 0 {
        return Err(OperatorError::Empty);
    }
    let vectors = gaussian(dim, 2, rng);
    let multiply = |vectors: MatRef<'_, f64>| {
        let mut images = Mat::zeros(dim, vectors.ncols());
        operator.apply(vectors, images.as_mut());
        for column in columns(images.as_ref()) {
            if let Some((row, value)) = first_not_finite(column) {
                return Err(OperatorError::NotFinite { row, value });
            }
        }
        Ok(images)
    };
    let (u, v) = (vectors.subcols(0, 1), vectors.subcols(1, 1));
    let image_u = multiply(u)?;
    let again = multiply(u)?;
    for row in 0..dim {
        let (first, second) = (image_u[(row, 0)], again[(row, 0)]);
        if first.to_bits() != second.to_bits() {
            return Err(OperatorError::NotDeterministic { row, first, second });
        }
    }
    let image_v = multiply(v)?;
    let combination = Mat::from_fn(dim, 1, |i, _| 2.0 * u[(i, 0)] - 3.0 * v[(i, 0)]);
    let image = multiply(combination.as_ref())?;
    let block = multiply(vectors.as_ref())?;

    // Division by the largest entry keeps squares from overflowing or vanishing.
    let largest = [&image_u, &image_v, &image, &block]
        .iter()
        .flat_map(|m| m.col_iter().flat_map(faer::ColRef::iter))
        .fold(0.0_f64, |m, v| m.max(v.abs()));
    let unit = if largest > 0.0 { largest } else { 1.0 };
    let scaled = |m: &Mat<f64>, j: usize| Mat::from_fn(dim, 1, |i, _| m[(i, j)] / unit);
    let (image_u, image_v) = (scaled(&image_u, 0), scaled(&image_v, 0));
    let norm = |m: &Mat<f64>| simd::norm_squared(m.col_as_slice(0)).sqrt();
    let dot = |j: usize, m: &Mat<f64>| simd::dot(vectors.col_as_slice(j), m.col_as_slice(0));
    let size = norm(&image_u) + norm(&image_v);
    // The size is zero only when all images are.
    let relative = |defect: f64| if defect > 0.0 { defect / size } else { 0.0 };

    let expected = Mat::from_fn(dim, 1, |i, _| 2.0 * image_u[(i, 0)] - 3.0 * image_v[(i, 0)]);
    let nonlinearity = relative(norm(&(&scaled(&image, 0) - &expected)));
    let asymmetry = relative((dot(0, &image_v) - dot(1, &image_u)).abs());
    let in_block = [(0, &image_u), (1, &image_v)];
    let difference: f64 = in_block.iter().map(|(j, m)| norm(&(&scaled(&block, *j) - *m))).sum();
    let block_difference = relative(difference);
    if !(nonlinearity <= MAX_DEFECT) {
        return Err(OperatorError::NotLinear { nonlinearity });
    }
    if !(asymmetry <= MAX_DEFECT) {
        return Err(OperatorError::NotSymmetric { asymmetry });
    }
    if !(block_difference <= MAX_DEFECT) {
        return Err(OperatorError::BlockDiffers { block_difference });
    }
    Ok(Probe { asymmetry, nonlinearity, block_difference, products: 6 })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use faer::{MatMut, MatRef};

    use super::{OperatorError, probe};
    use crate::{FnOperator, Operator, stream};

    fn check(
        dim: usize,
        apply: impl Fn(&[f64], &mut [f64]) + Sync,
    ) -> Result<super::Probe, OperatorError> {
        probe(&FnOperator::new(dim, apply), &mut stream(0, "probe", 0))
    }

    #[test]
    fn sound_operators_pass_at_every_scale() {
        for scale in [0.0, 1e-300, 1e-150, 1.0, 1e150, 1e300] {
            for dim in [1, 7] {
                let probe = check(dim, |v, out| {
                    for (i, (out, v)) in out.iter_mut().zip(v).enumerate() {
                        *out = scale * v * (1.0 + i as f64);
                    }
                })
                .unwrap();
                assert!(probe.asymmetry.max(probe.nonlinearity) < 1e-14, "{scale} {probe:?}");
                assert_eq!(probe.products, 6);
            }
        }
    }

    #[test]
    fn every_defect_is_named() {
        assert!(matches!(check(0, |_, _| {}), Err(OperatorError::Empty)));
        assert!(matches!(
            check(2, |_, out| out[1] = f64::NAN),
            Err(OperatorError::NotFinite { row: 1, .. })
        ));
        let shear = check(2, |v, out| {
            out[0] = v[0] + 1e-3 * v[1];
            out[1] = v[1];
        });
        assert!(matches!(shear, Err(OperatorError::NotSymmetric { .. })), "{shear:?}");
        let offset = check(2, |v, out| {
            out[0] = v[0] + 1e-3;
            out[1] = v[1];
        });
        assert!(matches!(offset, Err(OperatorError::NotLinear { .. })), "{offset:?}");
        let calls = AtomicU64::new(0);
        let drifting = check(1, |v, out| {
            out[0] = v[0] * (1.0 + calls.fetch_add(1, Ordering::Relaxed) as f64 * 1e-15);
        });
        assert!(matches!(drifting, Err(OperatorError::NotDeterministic { row: 0, .. })));
    }

    struct FirstOnly;

    impl Operator for FirstOnly {
        fn dim(&self) -> usize {
            3
        }

        fn apply(&self, vectors: MatRef<'_, f64>, mut images: MatMut<'_, f64>) {
            images.as_mut().subcols_mut(0, 1).copy_from(vectors.subcols(0, 1));
        }
    }

    #[test]
    fn a_block_that_is_not_its_vectors_is_named() {
        let error = probe(&FirstOnly, &mut stream(0, "probe", 0)).unwrap_err();
        assert!(matches!(error, OperatorError::BlockDiffers { .. }), "{error}");
    }
}
