//! The sharpness of a network on data of any size.

use flatmin_curvature::{
    diagonal_curvature, gauss_newton_frobenius_norm, gauss_newton_lambda_max, training_curvature,
};
use flatmin_linalg::{EigenError, LanczosStatus};
use flatmin_models::Dataset;

use crate::column::Column;
use crate::limits::{MAX_SAMPLES, MAX_SAMPLES_IN_BLOCKS};
use crate::network::Network;

/// The measurements of a Gauss–Newton matrix. A value that was not wanted, takes too long, or did
/// not converge is NaN.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Curvature {
    pub(crate) trace: f64,
    pub(crate) frobenius_norm: f64,
    pub(crate) lambda_max: f64,
    pub(crate) batch_sharpness: Option<f64>,
    pub(crate) loss: f64,
}

/// Measures `columns` of the Gauss–Newton matrix.
///
/// Up to 10 000 samples times targets, all come from one Gram matrix. Beyond, the trace and the
/// batch sharpness come from blocks on its diagonal, the Frobenius norm from all of its blocks one
/// after the other, and the largest eigenvalue from products, to a relative residual of 1e-10.
pub(crate) fn curvature(
    network: &(dyn Network + 'static),
    parameters: &[f64],
    data: &Dataset,
    columns: &[Column],
) -> Result<Curvature, EigenError> {
    let size = data.sample_count().saturating_mul(data.output_dim());
    if size <= MAX_SAMPLES {
        let curvature = training_curvature(network, parameters, data)?;
        return Ok(Curvature {
            trace: curvature.sharpness.trace,
            frobenius_norm: curvature.sharpness.frobenius_norm,
            lambda_max: curvature.sharpness.lambda_max,
            batch_sharpness: curvature.batch_sharpness,
            loss: curvature.loss,
        });
    }
    let diagonal = diagonal_curvature(network, parameters, data)?;
    let mut curvature = Curvature {
        trace: diagonal.trace,
        frobenius_norm: f64::NAN,
        lambda_max: f64::NAN,
        batch_sharpness: diagonal.batch_sharpness,
        loss: diagonal.loss,
    };
    if columns.contains(&Column::FrobeniusNorm) && size <= MAX_SAMPLES_IN_BLOCKS {
        curvature.frobenius_norm = gauss_newton_frobenius_norm(network, parameters, data)?;
    }
    if columns.contains(&Column::LambdaMax) {
        let pair = gauss_newton_lambda_max(network, parameters, data)?;
        if pair.status != LanczosStatus::OutOfProducts {
            curvature.lambda_max = pair.value.max(0.0);
        }
    }
    Ok(curvature)
}
