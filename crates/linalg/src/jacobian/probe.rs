//! Checks that three products describe one Jacobian.

use faer::{Mat, MatRef};
use rand::{Rng, RngExt as _};

use super::{JacobianError, JacobianProduct, JacobianProducts};
use crate::estimate::products::{first_not_finite, gaussian};
use crate::simd;

/// The largest relative defect that [`probe_jacobian`] accepts. Products in single precision stay
/// below it; a wrong factor or a missing term does not.
pub(super) const MAX_DEFECT: f64 = 1e-5;

/// The number of samples whose `J_i J_iᵀ` are compared with products, beside the heaviest one.
const COMPARED_SAMPLES: usize = 3;

/// The defects that [`probe_jacobian`] measured.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct JacobianProbe {
    /// The larger of the defects `‖J(2u − 3v) − 2Ju + 3Jv‖ / (‖Ju‖ + ‖Jv‖)` of J and of `Jᵀ`.
    pub nonlinearity: f64,
    /// The difference `|uᵀJv − (Jᵀu)ᵀv| / (‖Jv‖ + ‖Jᵀu‖)` for standard normal u and v.
    pub adjoint_defect: f64,
    /// The largest difference of an entry of a compared `J_i J_iᵀ`, relative to its trace.
    pub gram_defect: f64,
    /// The number of products with J or its transpose.
    pub products: usize,
}

/// Checks that products are finite, linear, the same on blocks as on single vectors, adjoint to
/// each other, and that they agree with the matrices `J_i J_iᵀ` of the heaviest sample and of three
/// others.
///
/// Costs four products with J, and 4 + 4k with its transpose. A defect that few vectors or samples
/// show may be missed. Relative defects up to 1e-5 pass.
///
/// # Errors
/// [`JacobianError`]: the first failure, in the order above, with its size.
pub fn probe_jacobian(
    jacobian: &(impl JacobianProducts + ?Sized),
    rng: &mut impl Rng,
) -> Result<JacobianProbe, JacobianError> {
    let samples = jacobian.sample_count();
    let (outputs, parameters) = (jacobian.output_count(), jacobian.parameter_count());
    if samples == 0 || outputs == 0 || parameters == 0 {
        return Err(JacobianError::Empty { samples, outputs, parameters });
    }
    let rows = jacobian.row_count();
    let forward = |vectors: MatRef<'_, f64>| {
        let mut images = Mat::zeros(rows, vectors.ncols());
        jacobian.finite_jvp(vectors, images.as_mut()).map(|()| images)
    };
    let backward = |vectors: MatRef<'_, f64>| {
        let mut images = Mat::zeros(parameters, vectors.ncols());
        jacobian.finite_vjp(vectors, images.as_mut()).map(|()| images)
    };
    let v = gaussian(parameters, 2, rng);
    let u = gaussian(rows, 2, rng);
    let (forward_images, forward_defect) = linear(JacobianProduct::Jvp, &v, forward)?;
    let (backward_images, backward_defect) = linear(JacobianProduct::Vjp, &u, backward)?;
    let (image_v, image_u) = (forward_images.col_as_slice(0), backward_images.col_as_slice(0));
    let size = norm(image_v) + norm(image_u);
    let (there, back) =
        (simd::dot(u.col_as_slice(0), image_v), simd::dot(image_u, v.col_as_slice(0)));
    let adjoint_defect = relative((there - back).abs(), size);
    if !(adjoint_defect <= MAX_DEFECT) {
        return Err(JacobianError::NotAdjoint {
            forward: there,
            backward: back,
            defect: adjoint_defect,
        });
    }
    let gram_defect = compare_grams(jacobian, backward, rng)?;
    let products = 8 + (1 + COMPARED_SAMPLES) * outputs;
    let nonlinearity = forward_defect.max(backward_defect);
    Ok(JacobianProbe { nonlinearity, adjoint_defect, gram_defect, products })
}

fn norm(vector: &[f64]) -> f64 {
    simd::norm_squared(vector).sqrt()
}

/// The quotient, or zero for a defect of zero.
fn relative(defect: f64, size: f64) -> f64 {
    if defect > 0.0 { defect / size } else { 0.0 }
}

/// The images of two vectors and the defect of a combination of them.
fn linear(
    product: JacobianProduct,
    pair: &Mat<f64>,
    multiply: impl Fn(MatRef<'_, f64>) -> Result<Mat<f64>, JacobianError>,
) -> Result<(Mat<f64>, f64), JacobianError> {
    let block = Mat::from_fn(pair.nrows(), 3, |i, j| {
        if j < 2 { pair[(i, j)] } else { 2.0 * pair[(i, 0)] - 3.0 * pair[(i, 1)] }
    });
    let images = multiply(block.as_ref())?;
    let single = multiply(block.subcols(0, 1))?;
    let distance = |other: &dyn Fn(usize) -> f64, j: usize| {
        let column = images.col_as_slice(j).iter().enumerate();
        norm(&column.map(|(i, value)| value - other(i)).collect::<Vec<_>>())
    };
    let size = norm(images.col_as_slice(0)) + norm(images.col_as_slice(1));
    let difference = relative(distance(&|i| single[(i, 0)], 0), size);
    if !(difference <= MAX_DEFECT) {
        return Err(JacobianError::BlockDiffers { product, defect: difference });
    }
    let expected = |i: usize| 2.0 * images[(i, 0)] - 3.0 * images[(i, 1)];
    let defect = relative(distance(&expected, 2), size);
    if !(defect <= MAX_DEFECT) {
        return Err(JacobianError::NotLinear { product, defect });
    }
    Ok((images, defect))
}

/// The largest relative difference between matrices of samples and products with unit vectors.
fn compare_grams(
    jacobian: &(impl JacobianProducts + ?Sized),
    backward: impl Fn(MatRef<'_, f64>) -> Result<Mat<f64>, JacobianError>,
    rng: &mut impl Rng,
) -> Result<f64, JacobianError> {
    let (n, k) = (jacobian.sample_count(), jacobian.output_count());
    let mut grams = vec![0.0; n * k * k];
    jacobian.sample_grams(&mut grams)?;
    let product = JacobianProduct::SampleGrams;
    if let Some((row, value)) = first_not_finite(&grams) {
        return Err(JacobianError::NotFinite { product, row, value });
    }
    let trace = |sample: usize| (0..k).map(|a| grams[(sample * k + a) * k + a]).sum::<f64>();
    let heaviest = (0..n).fold(0, |best, i| if trace(i) > trace(best) { i } else { best });
    let mut compared = vec![heaviest];
    compared.extend((0..COMPARED_SAMPLES).map(|_| rng.random_range(0..n)));
    let mut largest = 0.0_f64;
    for sample in compared {
        let units = Mat::from_fn(jacobian.row_count(), k, |row, a| {
            f64::from(u8::from(row == sample * k + a))
        });
        let gradients = backward(units.as_ref())?;
        let expected =
            |a: usize, b: usize| simd::dot(gradients.col_as_slice(a), gradients.col_as_slice(b));
        let size = trace(sample).abs().max((0..k).map(|a| expected(a, a)).sum());
        for (a, b) in (0..k).flat_map(|a| (0..k).map(move |b| (a, b))) {
            let (given, expected) = (grams[(sample * k + a) * k + b], expected(a, b));
            let defect = relative((given - expected).abs(), size);
            if !(defect <= MAX_DEFECT) {
                return Err(JacobianError::GramDiffers {
                    sample,
                    row: a,
                    column: b,
                    given,
                    expected,
                });
            }
            largest = largest.max(defect);
        }
    }
    Ok(largest)
}

#[cfg(test)]
mod tests {
    use faer::{Accum, MatMut, MatRef};

    use super::probe_jacobian;
    use crate::{
        DenseJacobian, FnJacobian, JacobianError, JacobianProducts as _, Parallelism, RowMatrix,
        matmul, stream,
    };

    fn matrix() -> RowMatrix {
        RowMatrix::from_fn(12, 7, |i, j| ((i * 7919 + j * 104_729) % 1009) as f64 / 504.5 - 1.0)
    }

    /// The defect of a Jacobian whose products are changed by `change(kind, entry, value)`.
    fn check(change: impl Fn(char, usize, f64) -> f64 + Sync) -> Result<(), JacobianError> {
        let matrix = matrix();
        let dense = DenseJacobian::new(&matrix, 3, Parallelism::Sequential)?;
        let apply = |a: MatRef<'_, f64>, v: MatRef<'_, f64>, mut out: MatMut<'_, f64>, kind| {
            matmul(out.as_mut(), Accum::Replace, a, v, 1.0);
            for j in 0..out.ncols() {
                for i in 0..out.nrows() {
                    out[(i, j)] = change(kind, i, out[(i, j)]);
                }
            }
            Ok(())
        };
        let jacobian = FnJacobian::new(
            [4, 3, 7],
            |v: MatRef<'_, f64>, out: MatMut<'_, f64>| apply(matrix.as_mat(), v, out, 'f'),
            |u: MatRef<'_, f64>, out: MatMut<'_, f64>| {
                apply(matrix.as_mat().transpose(), u, out, 'b')
            },
            |grams: &mut [f64]| {
                dense.sample_grams(grams)?;
                for (i, value) in grams.iter_mut().enumerate() {
                    *value = change('g', i, *value);
                }
                Ok(())
            },
        );
        probe_jacobian(&jacobian, &mut stream(0, "probe", 0)).map(|_| ())
    }

    #[test]
    fn sound_products_pass() {
        check(|_, _, value| value).unwrap();
        // Rounded as in single precision.
        check(|_, _, value| value + 1e8 - 1e8).unwrap();
        let matrix = matrix();
        for (outputs, parallelism) in [(1, Parallelism::Sequential), (4, Parallelism::Rayon)] {
            let dense = DenseJacobian::new(&matrix, outputs, parallelism).unwrap();
            let probe = probe_jacobian(&dense, &mut stream(1, "probe", 0)).unwrap();
            assert!(probe.nonlinearity.max(probe.adjoint_defect).max(probe.gram_defect) < 1e-14);
        }
    }

    #[test]
    fn every_defect_is_named() {
        let is = |kind: char, other: char| if kind == other { 1.0 } else { 0.0 };
        let error = check(|kind, _, value| value + is(kind, 'f')).unwrap_err();
        assert!(matches!(error, JacobianError::NotLinear { .. }), "{error}");
        let error = check(|kind, _, value| value * (1.0 + 0.01 * is(kind, 'b'))).unwrap_err();
        assert!(matches!(error, JacobianError::NotAdjoint { .. }), "{error}");
        let error = check(|kind, _, value| value * (1.0 + 0.01 * is(kind, 'g'))).unwrap_err();
        assert!(matches!(error, JacobianError::GramDiffers { .. }), "{error}");
        for kind in ['f', 'b', 'g'] {
            let not_finite = |k: char, i: usize, value| {
                if k == kind && i == 2 { f64::NAN } else { value }
            };
            let error = check(not_finite).unwrap_err();
            assert!(matches!(error, JacobianError::NotFinite { row: 2, .. }), "{error}");
        }
        assert!(DenseJacobian::new(&matrix(), 5, Parallelism::Sequential).is_err());
        let failing = FnJacobian::new(
            [1, 1, 1],
            |_: MatRef<'_, f64>, _: MatMut<'_, f64>| Err("no memory".into()),
            |_: MatRef<'_, f64>, _: MatMut<'_, f64>| Ok(()),
            |_: &mut [f64]| Ok(()),
        );
        let error = probe_jacobian(&failing, &mut stream(0, "probe", 0)).unwrap_err();
        assert_eq!(error.to_string(), "the product J v failed");
    }

    #[test]
    fn threads_change_no_bit_of_a_product() {
        let matrix = RowMatrix::from_fn(1500, 700, |i, j| ((i * 31 + j * 17) % 101) as f64 - 50.3);
        let vectors = faer::Mat::from_fn(700, 3, |i, j| ((i + 7 * j) % 13) as f64 - 6.1);
        let images = [Parallelism::Sequential, Parallelism::Rayon].map(|parallelism| {
            let dense = DenseJacobian::new(&matrix, 1, parallelism).unwrap();
            let mut out = faer::Mat::zeros(1500, 3);
            dense.jvp(vectors.as_ref(), out.as_mut()).unwrap();
            let mut back = faer::Mat::zeros(700, 3);
            dense.vjp(out.as_ref(), back.as_mut()).unwrap();
            (out, back)
        });
        assert_eq!(images[0], images[1]);
    }
}
